//! Unmounting what hides the image's own files, in the container's mount namespace.
//!
//! Mounts are taken off with everything below them detached (`MNT_DETACH`), the deepest first. A mount that another one
//! hides can only be reached when that one is gone, so this goes on in rounds for as long as a round gets anywhere.
//!
//! An unmount is propagated to the peers of the mount that it is in, which may be the host's. So propagation is turned
//! off first; where that is not allowed and a mount is in a shared one, all are left alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What this thread sees mounted. The file stays readable after `/proc` itself has been unmounted.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";
/// More rounds than anyone stacks mounts; the end of the loop does not depend on the kernel's answers.
const ROUNDS: usize = 64;

/// A place below the root where something was mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmounted {
    /// As a path in the tree.
    pub(super) path: Vec<u8>,
    /// Why something still is.
    pub(super) failure: Option<String>,
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    point: Vec<u8>,
    is_shared: bool,
}

/// Unmounts everything below `root`, and tells what it was, sorted by path.
pub(super) fn unmount_below(root: &Path) -> io::Result<Vec<Unmounted>> {
    let mut mountinfo = File::open(MOUNTINFO)?;
    // Where this is not allowed, `reaches_peers` sees it.
    let _ = mount(None::<&Path>, root, None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>);
    let prefix = root.as_os_str().as_bytes();
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let all = present(&mut mountinfo)?;
    let mut points = below(prefix, &all);
    let paths: BTreeSet<Vec<u8>> = points.iter().map(|point| point[prefix.len()..].to_vec()).collect();
    let mut failures = HashMap::new();
    if reaches_peers(prefix, &all) {
        failures.extend(points.iter().map(|point| (point.clone(), "unmounting it here would unmount it on the host")));
    } else {
        for _ in 0..ROUNDS {
            failures.clear();
            for point in &points {
                if let Err(error) = umount2(&point[..], MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                    failures.insert(point.clone(), error.desc());
                }
            }
            let before = points.len();
            points = below(prefix, &present(&mut mountinfo)?);
            if points.is_empty() || points.len() >= before {
                break;
            }
        }
    }
    let still: HashSet<Vec<u8>> = points.into_iter().collect();
    let outcome = |path: Vec<u8>| {
        let point = [prefix, &path].concat();
        let reason = failures.get(&point).copied().unwrap_or("the system does not say why");
        let failure = still.contains(&point).then(|| format!("hidden by a mount that cannot be taken off: {reason}"));
        Unmounted { path, failure }
    };
    Ok(paths.into_iter().map(outcome).collect())
}

fn present(mountinfo: &mut File) -> io::Result<Vec<Mount>> {
    let mut text = vec![];
    mountinfo.rewind()?;
    mountinfo.read_to_end(&mut text)?;
    Ok(parse(&text))
}

fn is_below(prefix: &[u8], mount: &Mount) -> bool {
    mount.point.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

/// The points of the mounts below a directory, the deepest first.
fn below(prefix: &[u8], mounts: &[Mount]) -> Vec<Vec<u8>> {
    let mut points: Vec<Vec<u8>> =
        mounts.iter().filter(|mount| is_below(prefix, mount)).map(|mount| mount.point.clone()).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.iter().filter(|&&byte| byte == b'/').count()));
    points
}

/// Whether unmounting what is below a directory would be felt in other mount namespaces.
fn reaches_peers(prefix: &[u8], mounts: &[Mount]) -> bool {
    let shared: HashSet<u64> = mounts.iter().filter(|mount| mount.is_shared).map(|mount| mount.id).collect();
    mounts.iter().any(|mount| is_below(prefix, mount) && shared.contains(&mount.parent))
}

#[cfg(fuzzing)]
pub(super) fn fuzz(mountinfo: &[u8]) {
    drop(parse(mountinfo));
}

/// Reads `mountinfo` (see proc(5)): `36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 - ext3 /dev/root rw`.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let point = unescape(fields.nth(2)?);
    let is_shared = fields.skip(1).take_while(|field| *field != b"-").any(|field| field.starts_with(b"shared:"));
    Some(Mount { id, parent, point, is_shared })
}

/// The kernel writes space, tab, newline, `#` and backslash as a backslash with three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = b"78 53 0:39 / / rw,relatime master:2 - overlay overlay rw,lowerdir=a:b\n\
            95 78 254:0 /x/hosts /etc/hosts rw - ext4 /dev/vda rw\n\
            99 78 254:0 /v /a\\040b\\011\\012\\134040\\777 rw,relatime shared:5 master:1 - ext4 shared:9 rw\n\
            97 78 254:0 /v /plain rw - shared:7 shared:8 rw\n\
            \n\
            damaged line\n\
            1 2 3";
        let mounts = parse(text);
        let points: Vec<&[u8]> = mounts.iter().map(|mount| &mount.point[..]).collect();
        assert_eq!(points, [&b"/"[..], b"/etc/hosts", b"/a b\t\n\\040\\777", b"/plain"]);
        assert_eq!((mounts[0].id, mounts[0].parent), (78, 53));
        let shared: Vec<bool> = mounts.iter().map(|mount| mount.is_shared).collect();
        assert_eq!(shared, [false, false, true, false], "only the optional fields tell");
    }

    fn mounts() -> Vec<Mount> {
        let mount = |id, parent, point: &str| Mount { id, parent, point: point.into(), is_shared: false };
        vec![
            mount(1, 0, "/"),
            mount(2, 1, "/proc"),
            mount(3, 2, "/proc/acpi"),
            mount(4, 1, "/dev"),
            mount(5, 4, "/dev/shm"),
            mount(6, 1, "/device"),
            mount(7, 4, "/dev/shm"),
        ]
    }

    #[test]
    fn deepest_first_and_never_the_root() {
        let points = |prefix: &[u8]| -> Vec<String> {
            below(prefix, &mounts()).into_iter().map(|point| String::from_utf8(point).expect("point")).collect()
        };
        assert_eq!(points(b""), ["/proc/acpi", "/dev/shm", "/dev/shm", "/proc", "/dev", "/device"]);
        assert_eq!(points(b"/dev"), ["/dev/shm", "/dev/shm"]);
        assert_eq!(points(b"/nothing"), [""; 0]);
    }

    #[test]
    fn the_host_is_not_touched() {
        assert!(!reaches_peers(b"", &mounts()));
        for (shared, prefix, reaches) in
            [(0, "", true), (1, "", true), (4, "", false), (1, "/dev", false), (3, "/dev", true), (0, "/proc", false)]
        {
            let mut mounts = mounts();
            mounts[shared].is_shared = true;
            assert_eq!(reaches_peers(prefix.as_bytes(), &mounts), reaches, "{shared} {prefix}");
        }
    }
}
