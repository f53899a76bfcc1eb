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

use crate::mountinfo::{self, Mount};

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

/// Unmounts everything below `root`, and tells what it was, sorted by path.
pub(super) fn unmount_below(root: &Path) -> io::Result<Vec<Unmounted>> {
    let mut file = File::open(MOUNTINFO)?;
    // Where this is not allowed, `reaches_peers` sees it.
    let _ = mount(None::<&Path>, root, None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>);
    let prefix = root.as_os_str().as_bytes();
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let all = present(&mut file)?;
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
            points = below(prefix, &present(&mut file)?);
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

fn present(file: &mut File) -> io::Result<Vec<Mount>> {
    let mut text = vec![];
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(mountinfo::parse(&text))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Vec<Mount> {
        let mount = |id, parent, point: &str| Mount { id, parent, point: point.into(), ..Mount::default() };
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
