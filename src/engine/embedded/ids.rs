//! The ids of a user namespace: which ranges this user may map, and their writing.
//!
//! Root of this namespace maps everything that it has onto itself. Anybody else is root inside and has, from 1 on, the
//! ranges that /etc/subuid and /etc/subgid grant; newuidmap(1) and newgidmap(1), which are privileged, check and write that.

use std::fs;
use std::io::Read;
use std::process::Command;

use nix::unistd::{Gid, Uid};

/// Most bytes that are read of a file in /etc.
const LIMIT: u64 = 4 << 20;
/// Most ranges of a map: the kernel's limit.
const MAX_RANGES: usize = 340;

/// Why ids cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// Nothing is granted.
    #[error(
        "there are no subordinate ids for `{user}` in `{file}`; add them: `usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 {user}`"
    )]
    NoRange {
        /// Name, or number where it has none.
        user: String,
        /// Where they would be.
        file: &'static str,
    },
    /// The program is missing.
    #[error("cannot run `{program}`: {error}; install the package `uidmap`")]
    Program {
        /// newuidmap or newgidmap.
        program: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The program refuses.
    #[error("`{program}` refuses to map ids: {reason}")]
    Refused {
        /// newuidmap or newgidmap.
        program: &'static str,
        /// What it says.
        reason: String,
    },
    /// The kernel refuses.
    #[error("cannot write `{file}`: {error}; root needs CAP_SETUID and CAP_SETGID for it")]
    Write {
        /// The map.
        file: String,
        /// Why.
        error: std::io::Error,
    },
}

/// A part of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Writes the id maps of a process that is in a new user namespace.
pub(super) fn map(pid: u32) -> Result<(), IdsError> {
    if Uid::effective().is_root() {
        for kind in ["uid_map", "gid_map"] {
            let own = all_of(&read(&format!("/proc/self/{kind}")));
            let file = format!("/proc/{pid}/{kind}");
            fs::write(&file, lines(&own)).map_err(|error| IdsError::Write { file, error })?;
        }
        return Ok(());
    }
    let uid = Uid::effective().as_raw();
    let gid = Gid::effective().as_raw();
    let name = name_of(uid, &read("/etc/passwd"));
    let user = name.clone().unwrap_or_else(|| uid.to_string());
    for (program, file, own) in [("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", gid)] {
        let granted = granted(&read(file), name.as_deref(), uid);
        if granted.is_empty() {
            return Err(IdsError::NoRange { user, file });
        }
        let mut command = Command::new(program);
        command.arg(pid.to_string());
        for Range { inside, outside, count } in with_self(own, granted) {
            command.args([inside.to_string(), outside.to_string(), count.to_string()]);
        }
        let output = command.output().map_err(|error| IdsError::Program { program, error })?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(IdsError::Refused { program, reason });
        }
    }
    Ok(())
}

/// A file's beginning; what cannot be read grants nothing.
fn read(path: &str) -> String {
    let mut bytes = vec![];
    let file = fs::File::open(path);
    let _ = file.and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines(ranges: &[Range]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

/// Every id of a namespace onto itself, by its own map.
fn all_of(map: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::parse);
        let inside = words.next()?.ok()?;
        Some(Range { inside, outside: inside, count: words.nth(1)?.ok()? })
    };
    map.lines().filter_map(range).collect()
}

/// The name of a user, by a passwd file.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// What /etc/subuid or /etc/subgid grants a user: first id and count. Users are named or numbered there.
fn granted(file: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let grant = |line: &str| {
        let mut fields = line.split(':');
        let user = fields.next()?;
        if Some(user) != name && user.parse() != Ok(uid) {
            return None;
        }
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    file.lines().filter_map(grant).take(MAX_RANGES - 1).collect()
}

/// The user as 0, what is granted from 1 on.
fn with_self(own: u32, granted: Vec<(u32, u32)>) -> Vec<Range> {
    let mut ranges = vec![Range { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for (outside, count) in granted {
        ranges.push(Range { inside: next, outside, count });
        next = next.saturating_add(count);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_found_by_name_and_by_number() {
        let file = "root:100000:65536\nme:200000:10\n1000:300000:5\nother:1:1\nme:x:y\nme:4294967295:2\nme:5:0\nme\n";
        assert_eq!(granted(file, Some("me"), 1000), [(200_000, 10), (300_000, 5)]);
        assert_eq!(granted(file, None, 1000), [(300_000, 5)]);
        assert_eq!(granted(file, None, 7), []);
        let map = with_self(1000, vec![(200_000, 10), (300_000, 5)]);
        assert_eq!(lines(&map), "0 1000 1\n1 200000 10\n11 300000 5\n");
    }

    #[test]
    fn names_come_from_the_passwd_file() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nme:x:1000:1000::/:\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("me"));
        assert_eq!(name_of(20001, passwd), None);
    }

    #[test]
    fn root_keeps_what_it_has() {
        assert_eq!(lines(&all_of("         0          0 4294967295\n")), "0 0 4294967295\n");
        assert_eq!(lines(&all_of("0 1000 1\n1 100000 65536\ndamage\n")), "0 0 1\n1 1 65536\n");
    }
}
