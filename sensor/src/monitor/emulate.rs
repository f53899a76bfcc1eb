//! kill(-1), done by the monitor.
//!
//! "To every process that I may signal" would include the monitor, which a plain run doesn't have. So the call is not
//! executed; the monitor sends the signal with the caller's rights to everybody else.

use nix::errno::Errno;

use super::process::{self, Status};
use crate::kernel;

const CAP_KILL: u64 = 1 << 5;

/// Whether kill(2) lets `caller` signal `target` (apart from SIGCONT within a session).
fn may_signal(caller: &Status, target: &Status) -> bool {
    let [real, effective, _] = caller.users;
    let [target_real, _, target_saved] = target.users;
    caller.capabilities & CAP_KILL != 0 || [real, effective].iter().any(|user| [target_real, target_saved].contains(user))
}

/// Sends `signal` to all processes that the thread `caller` may signal, but for init, itself and `spared`. The result
/// of the call: 0 or a negated error number.
pub(super) fn kill_all(caller: i32, signal: i32, spared: &[i32]) -> i64 {
    let negated = |errno: Errno| -i64::from(errno as i32);
    if !(0..=64).contains(&signal) {
        return negated(Errno::EINVAL);
    }
    let Some(caller) = process::status(caller) else { return negated(Errno::ESRCH) };
    let others = process::all().into_iter().filter(|id| *id > 1 && *id != caller.process && !spared.contains(id));
    let (mut found, mut sent) = (false, false);
    for (id, status) in others.filter_map(|id| Some((id, process::status(id)?))) {
        found = true;
        if may_signal(&caller, &status) {
            sent |= kernel::send_signal(id, signal).is_ok();
        }
    }
    match (found, sent) {
        (_, true) => 0,
        (true, false) => negated(Errno::EPERM),
        (false, false) => negated(Errno::ESRCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_kill() {
        let status = |users, capabilities| Status { process: 2, parent: 1, users, capabilities, heeded_signals: 0 };
        let root = status([0, 0, 0], CAP_KILL);
        let weak_root = status([0, 0, 0], 0);
        let user = status([1000, 1000, 1000], 0);
        let other = status([1001, 1001, 1001], 0);
        let set_user_id = status([1000, 0, 0], 0);
        assert!(may_signal(&root, &user));
        assert!(!may_signal(&weak_root, &user));
        assert!(!may_signal(&user, &root));
        assert!(!may_signal(&user, &other));
        assert!(may_signal(&user, &set_user_id), "the real user id counts");
        assert_eq!(kill_all(std::process::id() as i32, 99, &[]), -i64::from(libc::EINVAL));
    }
}
