//! kill(2) where it could hit the sensor.
//!
//! "To every process that I may signal" would include the monitor, which a plain run doesn't have. So the call is not
//! executed; the monitor sends the signal with the caller's rights to everybody else. And who goes through /proc to end
//! every process one by one, as shutdown scripts do, finds that ours have just ended.

use nix::errno::Errno;

use super::opens::is_own;
use super::process::{self, Status};
use crate::kernel;

const CAP_KILL: u64 = 1 << 5;

/// What to answer to kill(2) with these arguments instead of executing it; `None`: it is executed.
pub(super) fn kill(caller: i32, target: i32, signal: i32) -> Option<i64> {
    match target {
        -1 => Some(kill_all(caller, signal)),
        target if target > 0 && is_sensor(target) => Some(negated(Errno::ESRCH)),
        _ => None,
    }
}

fn is_sensor(process: i32) -> bool {
    process::link(process, "exe").is_some_and(|executable| is_own(&executable))
}

fn negated(errno: Errno) -> i64 {
    -i64::from(errno as i32)
}

/// Whether kill(2) lets `caller` send `signal` to `target`.
fn may_signal(caller: &Status, target: &Status, signal: i32) -> bool {
    let [real, effective, _] = caller.users;
    let [target_real, _, target_saved] = target.users;
    caller.capabilities & CAP_KILL != 0
        || [real, effective].iter().any(|user| [target_real, target_saved].contains(user))
        || signal == libc::SIGCONT && caller.session == target.session
}

/// Sends `signal` to all processes that the thread `caller` may signal, but for init, itself and the sensor. The result
/// of the call: as the kernel's, which is success also where no process may be signalled.
fn kill_all(caller: i32, signal: i32) -> i64 {
    let Some(caller) = process::status(caller) else { return negated(Errno::ESRCH) };
    let others = process::all().into_iter().filter(|id| *id > 1 && *id != caller.process && !is_sensor(*id));
    let mut result = negated(Errno::ESRCH);
    for (id, status) in others.filter_map(|id| Some((id, process::status(id)?))) {
        if !(0..=64).contains(&signal) {
            return negated(Errno::EINVAL);
        }
        result = 0;
        if may_signal(&caller, &status, signal) {
            // It may have ended meanwhile.
            let _ = kernel::send_signal(id, signal);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_kill() {
        let status = |users, capabilities| Status {
            process: 2,
            parent: 1,
            innermost: 2,
            session: 1,
            users,
            capabilities,
            heeded_signals: 0,
        };
        let root = status([0, 0, 0], CAP_KILL);
        let weak_root = status([0, 0, 0], 0);
        let user = status([1000, 1000, 1000], 0);
        let other = status([1001, 1001, 1001], 0);
        let set_user_id = status([1000, 0, 0], 0);
        let may_end = |caller, target| may_signal(caller, target, libc::SIGTERM);
        assert!(may_end(&root, &user));
        assert!(!may_end(&weak_root, &user));
        assert!(!may_end(&user, &root));
        assert!(!may_end(&user, &other));
        assert!(may_end(&user, &set_user_id), "the real user id counts");
        assert!(may_signal(&user, &other, libc::SIGCONT), "within a session");
        let elsewhere = Status { session: 9, ..other };
        assert!(!may_signal(&user, &elsewhere, libc::SIGCONT));
    }

    #[test]
    fn ours_cannot_be_found() {
        let own = std::process::id() as i32;
        assert_eq!(kill(own, own, 0), Some(-i64::from(libc::ESRCH)));
        assert_eq!(kill(own, 0, 0), None);
        assert_eq!(kill(own, -own, 0), None);
        assert_eq!(kill(own, 1, 0), None);
    }
}
