//! What /proc tells of a process. Parsers are on bytes; a process may vanish at any moment, which is never an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use crate::kernel;

use crate::calls::HERE;
use crate::kernel::read_memory;

/// A thread's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its process (thread group).
    pub process: i32,
    /// The process's parent.
    pub parent: i32,
    /// What it is called in its own pid namespace.
    pub innermost: i32,
    /// The session it is in.
    pub session: i32,
    /// Real, effective and saved user id.
    pub users: [u32; 3],
    /// Effective capabilities.
    pub capabilities: u64,
    /// Signals that it catches or has blocked; bit 0 is signal 1.
    pub heeded_signals: u64,
}

/// Reads the fields of /proc/PID/status that matter here; `None` where one is missing.
#[must_use]
pub fn parse_status(text: &[u8]) -> Option<Status> {
    let (mut process, mut parent, mut session, mut users, mut capabilities) = (None, None, None, None, None);
    let mut innermost = None;
    let mut heeded_signals = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let Some(at) = line.iter().position(|&byte| byte == b':') else { continue };
        let Ok(value) = std::str::from_utf8(&line[at + 1..]) else { continue };
        let mut words = value.split_ascii_whitespace();
        match &line[..at] {
            b"Tgid" => process = words.next().and_then(|word| word.parse().ok()),
            b"NStgid" => innermost = words.next_back().and_then(|word| word.parse().ok()),
            b"NSsid" => session = words.next().and_then(|word| word.parse().ok()),
            b"PPid" => parent = words.next().and_then(|word| word.parse().ok()),
            b"Uid" => {
                let mut next = || words.next()?.parse().ok();
                users = next().zip(next()).zip(next()).map(|((real, effective), saved)| [real, effective, saved]);
            }
            b"CapEff" => capabilities = words.next().and_then(|word| u64::from_str_radix(word, 16).ok()),
            b"SigBlk" | b"SigCgt" => {
                heeded_signals |= words.next().and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(Status {
        process: process?,
        parent: parent?,
        innermost: innermost.or(process)?,
        session: session?,
        users: users?,
        capabilities: capabilities?,
        heeded_signals,
    })
}

/// The status of a thread or process.
pub(super) fn status(id: i32) -> Option<Status> {
    parse_status(&contents(&format!("/proc/{id}/status"), 8192)?)
}

/// Signals that a process catches, has blocked, or waits for; bit 0 is signal 1. What it does with them at this moment can
/// change between one look and the other.
pub(super) fn heeded_signals(id: i32) -> u64 {
    const LOOKS: usize = 3;
    (0..LOOKS).fold(0, |heeded, _| heeded | awaited_signals(id) | status(id).map_or(0, |status| status.heeded_signals))
}

/// Signals that a thread waits for with sigtimedwait(2), as every init does. They count as blocked, but while it waits the
/// kernel doesn't show them so.
fn awaited_signals(thread: i32) -> u64 {
    let address = match read(&format!("/proc/{thread}/syscall"), 256) {
        Ok(text) => parse_signal_wait(&text),
        // Where we may not look, it is not said to heed nothing.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return u64::MAX,
        Err(_) => None,
    };
    let mut set = [0; size_of::<u64>()];
    match address.map(|address| read_memory(thread, address, &mut set)) {
        Some(Ok(length)) if length == set.len() => u64::from_ne_bytes(set),
        _ => 0,
    }
}

/// Where the set of signals is that a thread waits for, from its /proc/ID/syscall; `None` where it waits for something else.
fn parse_signal_wait(text: &[u8]) -> Option<u64> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let first = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    // It isn't told whose number it is; none of the other ABI's calls with these numbers waits.
    let name = [HERE.native, HERE.compat].map(|abi| abi.name(number));
    name.iter().flatten().any(|name| name.starts_with("rt_sigtimedwait")).then_some(first)
}

/// The process that a thread belongs to. Most threads are their process's only one, which is known without the status:
/// the kernel takes longer to write that than for all else that is done about a call.
pub(super) fn process_of(thread: i32) -> Option<i32> {
    if kernel::leads_process(thread) { Some(thread) } else { status(thread).map(|status| status.process) }
}

/// Where a link below /proc/ID points (`exe`, `cwd`, `root`, `fd/3`).
pub(super) fn link(id: i32, name: &str) -> Option<Vec<u8>> {
    std::fs::read_link(format!("/proc/{id}/{name}")).ok().map(|target| target.into_os_string().into_vec())
}

/// The command line, words ended by NUL, cut.
pub(super) fn command_line(id: i32) -> Vec<u8> {
    contents(&format!("/proc/{id}/cmdline"), 4096).unwrap_or_default()
}

/// The threads of a process. (A first thread that has ended stays while there are others.)
pub(super) fn threads(id: i32) -> impl Iterator<Item = i32> {
    numbers_in(&format!("/proc/{id}/task"))
}

/// Whether a thread has ended.
pub(super) fn has_ended(thread: i32) -> bool {
    contents(&format!("/proc/{thread}/stat"), 4096).is_none_or(|stat| is_zombie(&stat))
}

/// Whether the state in a /proc/PID/stat is that of a zombie. It follows the name, which may be anything, in parentheses.
fn is_zombie(stat: &[u8]) -> bool {
    let name_end = stat.iter().rposition(|&byte| byte == b')');
    name_end.is_none_or(|end| matches!(stat.get(end + 2), None | Some(b'Z' | b'X' | b'x')))
}

/// The processes that there are.
pub(super) fn all() -> Vec<i32> {
    numbers_in("/proc").collect()
}

/// The entries of a directory that are numbers.
fn numbers_in(directory: &str) -> impl Iterator<Item = i32> + use<> {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A file's beginning.
pub(super) fn contents(path: &str, limit: u64) -> Option<Vec<u8>> {
    read(path, limit).ok()
}

fn read(path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_our_own_status() {
        let own = status(std::process::id() as i32).expect("status");
        assert_eq!(own.process, std::process::id() as i32);
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        assert_eq!(own.users[1], nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn each_thread_is_of_our_process() {
        let own = std::process::id() as i32;
        assert!(threads(own).all(|thread| process_of(thread) == Some(own)));
        std::thread::spawn(move || {
            let other = nix::unistd::gettid().as_raw();
            assert!(other != own && process_of(other) == Some(own));
        })
        .join()
        .expect("no failure in the other thread");
        assert_eq!(process_of(i32::MAX), None);
    }

    #[test]
    fn threads_that_ended_do_not_count() {
        let own = std::process::id() as i32;
        assert!(threads(own).any(|thread| thread == own) && !has_ended(own));
        assert!(threads(-1).next().is_none() && has_ended(-1));
        assert!(!is_zombie(b"7 (a) Z 1) S 1 7"));
        assert!(is_zombie(b"7 (a) S 1) Z 1 7"));
        assert!(is_zombie(b"7 (a)") && is_zombie(b""));
    }

    #[test]
    fn a_thread_that_waits_for_signals_heeds_them() {
        use std::os::unix::thread::JoinHandleExt;

        use nix::sys::signal::{SigSet, Signal};
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let set: SigSet = [Signal::SIGUSR1, Signal::SIGWINCH].into_iter().collect();
            set.thread_block().expect("block");
            sender.send(nix::unistd::gettid().as_raw()).expect("send");
            set.wait()
        });
        let thread = receiver.recv().expect("thread");
        let awaited = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGWINCH - 1);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while awaited_signals(thread) != awaited {
            assert!(std::time::Instant::now() < deadline, "it never waits");
            std::thread::yield_now();
        }
        assert_eq!(heeded_signals(thread) & awaited, awaited);
        nix::sys::pthread::pthread_kill(waiting.as_pthread_t(), Signal::SIGUSR1).expect("signal");
        assert_eq!(waiting.join().expect("thread").expect("wait"), Signal::SIGUSR1);
        for other in ["running", "-1 0x7ffc 0x1", "0 0x1 0x2", "128", "128 5", ""] {
            assert_eq!(parse_signal_wait(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_hostile_status_is_none() {
        assert_eq!(
            parse_status(b"Tgid:\t7\nNStgid:\t7\t3\nPPid:\t1\nNSsid:\t5\nUid:\t1\t2\t3\t4\nCapEff:\t0\n").map(|it| it.innermost),
            Some(3)
        );
        let good = b"Name:\ta:b\\n\nTgid:\t7\nPPid:\t1\nNSsid:\t5\t1\nUid:\t1\t2\t3\t4\nSigBlk:\t01\nSigIgn:\t02\nSigCgt:\t04\nCapEff:\t00000000a80425fb\n";
        assert_eq!(
            parse_status(good),
            Some(Status {
                process: 7,
                parent: 1,
                innermost: 7,
                session: 5,
                users: [1, 2, 3],
                capabilities: 0xa804_25fb,
                heeded_signals: 5
            })
        );
        for bad in [&b""[..], b"Tgid:\n", b"Tgid:\t7\nPPid:\tx\n", b"Tgid:\xff\nUid:\t1\t2\n\n:::\n"] {
            assert_eq!(parse_status(bad), None);
        }
    }
}
