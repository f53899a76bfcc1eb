//! What /proc tells of a process. Parsers are on bytes; a process may vanish at any moment, which is never an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

/// A thread's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its process (thread group).
    pub process: i32,
    /// The process's parent.
    pub parent: i32,
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
    let mut heeded_signals = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let Some(at) = line.iter().position(|&byte| byte == b':') else { continue };
        let Ok(value) = std::str::from_utf8(&line[at + 1..]) else { continue };
        let mut words = value.split_ascii_whitespace();
        match &line[..at] {
            b"Tgid" => process = words.next().and_then(|word| word.parse().ok()),
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
    let mut bytes = vec![];
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
    fn threads_that_ended_do_not_count() {
        let own = std::process::id() as i32;
        assert!(threads(own).any(|thread| thread == own) && !has_ended(own));
        assert!(threads(-1).next().is_none() && has_ended(-1));
        assert!(!is_zombie(b"7 (a) Z 1) S 1 7"));
        assert!(is_zombie(b"7 (a) S 1) Z 1 7"));
        assert!(is_zombie(b"7 (a)") && is_zombie(b""));
    }

    #[test]
    fn a_hostile_status_is_none() {
        let good = b"Name:\ta:b\\n\nTgid:\t7\nPPid:\t1\nNSsid:\t5\t1\nUid:\t1\t2\t3\t4\nSigBlk:\t01\nSigIgn:\t02\nSigCgt:\t04\nCapEff:\t00000000a80425fb\n";
        assert_eq!(
            parse_status(good),
            Some(Status { process: 7, parent: 1, session: 5, users: [1, 2, 3], capabilities: 0xa804_25fb, heeded_signals: 5 })
        );
        for bad in [&b""[..], b"Tgid:\n", b"Tgid:\t7\nPPid:\tx\n", b"Tgid:\xff\nUid:\t1\t2\n\n:::\n"] {
            assert_eq!(parse_status(bad), None);
        }
    }
}
