//! Telling what the engine added to a container from what is the image's.
//!
//! Before a container runs, its engine makes what it is going to mount over, where the image has nothing there: files
//! and directories with known names, VOLUME directories and other mount points, and the directories that lead to them.
//! Each change gives the directory it is made in the time of the container's creation. So
//!
//! * what looks exactly as the engine makes it (an empty file, a plain directory that holds nothing of the image's, the
//!   link `/etc/mtab`), is at a place where the engine makes something, and is not older than the container, was added;
//! * a directory on the way to such a place that is not older than the container was stamped.
//!
//! Docker replaces some files, whatever the image has there, and Podman mounts over them. No container shows the image's own, so they
//! count as added everywhere, and their directories as stamped: one plan makes one image.
//!
//! The rest is the image's. An image cannot hold anything newer than its containers but by lying about times, and such a
//! lie costs it nothing but an empty file that the engine makes again.

use std::collections::{BTreeSet, HashSet};

/// What engines make in every container: Docker's init layer (moby, `daemon/initlayer`), and Podman's mark.
const ALWAYS: [&[u8]; 11] = [
    b"/.dockerenv",
    b"/dev/console",
    b"/dev/pts",
    b"/dev/shm",
    b"/etc/hostname",
    b"/etc/hosts",
    b"/etc/mtab",
    b"/etc/resolv.conf",
    b"/proc",
    b"/run/.containerenv",
    b"/sys",
];

/// The modes that runc and crun give the directories that they mount over.
const MADE_MODES: [u32; 2] = [0o755, 0o1755];

/// What some stores replace, unless it is a directory.
pub const REPLACED: [&[u8]; 6] =
    [b"/.dockerenv", b"/dev/console", b"/etc/hostname", b"/etc/hosts", b"/etc/mtab", b"/etc/resolv.conf"];

/// The directories of what is replaced.
pub const STAMPED: [&[u8]; 2] = [b"/dev", b"/etc"];

/// Seconds since 1970, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) what: What,
    pub(super) mode: u32,
    /// Owner and group are root's, or the engine's outside of the container's user namespace.
    pub(super) by_root: bool,
    pub(super) modified: Time,
}

/// Its kind, with what distinguishes the engine's from the image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// With the names in it.
    Directory(Vec<Vec<u8>>),
    File {
        empty: bool,
    },
    /// With its target.
    Link(Vec<u8>),
    Other,
}

/// The engine's traces in a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Not in the image.
    pub(super) added: HashSet<Vec<u8>>,
    /// Directories of the image whose modification time is the engine's.
    pub(super) stamped: HashSet<Vec<u8>>,
}

/// Finds the engine's traces at the usual places and at `mount_points`. `own` are paths that slim made; `facts` tells
/// what is at a path.
pub(super) fn find(
    mount_points: impl Iterator<Item = Vec<u8>>,
    own: &HashSet<Vec<u8>>,
    created: Time,
    mut facts: impl FnMut(&[u8]) -> Option<Facts>,
) -> Marks {
    let mut places: BTreeSet<Vec<u8>> =
        ALWAYS.iter().map(|path| path.to_vec()).chain(mount_points.map(|path| normal(&path))).collect();
    let ways: BTreeSet<Vec<u8>> = places.iter().chain(own).flat_map(|path| parents(path)).map(<[u8]>::to_vec).collect();
    places.extend(ways.iter().cloned());
    let mut marks = Marks::default();
    // Backwards: what a directory holds is judged before the directory.
    for path in places.into_iter().rev() {
        let Some(facts) = facts(&path) else { continue };
        let is_replaced = REPLACED.contains(&&*path) && !matches!(facts.what, What::Directory(_));
        if is_older(facts.modified, created) && !is_replaced && !STAMPED.contains(&&*path) {
            continue;
        }
        let made = is_replaced
            || facts.by_root
                && match &facts.what {
                    What::File { empty } => *empty,
                    What::Link(target) => path == b"/etc/mtab" && target == b"/proc/mounts",
                    What::Directory(names) => {
                        let is_ours = |name: &Vec<u8>| {
                            let child = join(&path, name);
                            marks.added.contains(&child) || own.contains(&child)
                        };
                        path != b"/" && MADE_MODES.contains(&facts.mode) && names.iter().all(is_ours)
                    }
                    What::Other => false,
                };
        if made {
            marks.added.insert(path);
        } else if ways.contains(&path) && matches!(facts.what, What::Directory(_)) {
            marks.stamped.insert(path);
        }
    }
    marks
}

/// Whether something was last changed before the container was created.
///
/// The kernel stamps files with the time of its last tick, up to 10 ms ago, and some file systems keep whole seconds:
/// what the engine made right after the creation can look a little older than it.
fn is_older(modified: Time, created: Time) -> bool {
    const TICK: i128 = 10_000_000;
    if modified.nanoseconds == 0 {
        return modified.seconds < created.seconds;
    }
    let nanoseconds = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    nanoseconds(modified) + TICK < nanoseconds(created)
}

/// The path as the listing writes it: one slash before each name (a configuration can say `/data/`).
fn normal(path: &[u8]) -> Vec<u8> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let normal = names.fold(vec![], |path, name| join(&path, name));
    if normal.is_empty() { b"/".to_vec() } else { normal }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let directory = if directory == b"/" { b"" } else { directory };
    [directory, b"/", name].concat()
}

/// The directories on the way to an absolute path, the root included.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
    slashes.map(move |(at, _)| if at == 0 { &path[..1] } else { &path[..at] }).filter(move |way| *way != path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const CREATED: Time = Time { seconds: 1_000, nanoseconds: 500_000_000 };
    const AFTER: Time = Time { seconds: 1_000, nanoseconds: 600_000_000 };
    const BEFORE: Time = Time { seconds: 900, nanoseconds: 0 };

    /// A line is a path, then words: `new`, `user` (another owner), `mode=`, `full` (a file with content), `-> target`.
    /// A path that ends in `/` is a directory and holds the listed paths below it.
    fn marks(tree: &[&str], mount_points: &[&str], own: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut all = HashMap::new();
        for line in tree {
            let mut words = line.split(' ');
            let path = words.next().expect("path");
            let words: Vec<&str> = words.collect();
            let bare = if path == "/" { "/" } else { path.trim_end_matches('/') };
            let what = if let Some(at) = words.iter().position(|&word| word == "->") {
                What::Link(words[at + 1].into())
            } else if path.ends_with('/') {
                let names = tree.iter().filter_map(|other| {
                    let other = other.split(' ').next()?.trim_end_matches('/');
                    other.strip_prefix(path).filter(|name| !name.is_empty() && !name.contains('/')).map(|name| name.into())
                });
                What::Directory(names.collect())
            } else {
                What::File { empty: !words.contains(&"full") }
            };
            let mode = words.iter().find_map(|word| word.strip_prefix("mode=")).unwrap_or("755");
            let facts = Facts {
                what,
                mode: u32::from_str_radix(mode, 8).expect("mode"),
                by_root: !words.contains(&"user"),
                modified: if words.contains(&"new") { AFTER } else { BEFORE },
            };
            all.insert(bare.as_bytes().to_vec(), facts);
        }
        let own = own.iter().map(|path| path.as_bytes().to_vec()).collect();
        let points = mount_points.iter().map(|path| path.as_bytes().to_vec());
        let marks = find(points, &own, CREATED, |path| all.get(path).cloned());
        let sorted = |set: HashSet<Vec<u8>>| {
            let mut paths: Vec<String> = set.into_iter().map(|path| String::from_utf8(path).expect("path")).collect();
            paths.sort();
            paths
        };
        (sorted(marks.added), sorted(marks.stamped))
    }

    #[test]
    fn docker_marks() {
        // an image with only a binary: everything else is Docker's
        let scratch = [
            "/ new",
            "/app full",
            "/.dockerenv new",
            "/dev/ new",
            "/dev/console new",
            "/dev/pts/ new",
            "/dev/shm/ new",
            "/etc/ new",
            "/etc/hosts new",
            "/etc/mtab new -> /proc/mounts",
            "/proc/ new",
            "/sys/ new",
        ];
        let (added, stamped) = marks(&scratch, &[], &[]);
        assert_eq!(added.len(), scratch.len() - 2);
        assert_eq!(stamped, ["/"]);
        // a distribution: its own directories stay
        let (added, stamped) = marks(
            &[
                "/ new",
                "/.dockerenv new",
                "/dev/ new",
                "/dev/console new",
                "/dev/pts/",
                "/etc/ new",
                "/etc/hosts new",
                "/etc/passwd full",
                "/proc/",
            ],
            &[],
            &[],
        );
        assert_eq!(added, ["/.dockerenv", "/dev/console", "/etc/hosts"]);
        assert_eq!(stamped, ["/", "/dev", "/etc"]);
    }

    #[test]
    fn what_an_image_has_stays() {
        for line in [
            "/etc/passwd new",             // not one of the engine's names
            "/etc/hosts/ new mode=700",    // a directory where a file is made
            "/proc/ new mode=700",         // other permissions
            "/data/ new user",             // a VOLUME with an owner
            "/data/",                      // a VOLUME that is empty in the image
            "/data/ new mode=1777",        // a VOLUME with permissions
            "/run/.containerenv new full", // Podman's, but filled
        ] {
            assert_eq!(marks(&[line], &["/data"], &[]).0, [""; 0], "{line}");
        }
    }

    /// Regression: Podman leaves these as the image has them, below its mounts, and Docker replaces them, so that one plan made two
    /// images.
    #[test]
    fn what_some_stores_replace_is_never_the_images() {
        for line in [
            "/etc/hosts",
            "/etc/hosts new full",
            "/etc/hosts user",
            "/etc/mtab -> ../mounts",
            "/etc/hosts -> /etc/mtab",
            "/.dockerenv full",
            "/dev/console",
        ] {
            let path = line.split(' ').next().unwrap();
            assert_eq!(marks(&[line], &[], &[]).0, [path], "{line}");
        }
        let (added, stamped) = marks(&["/ new", "/dev/", "/dev/console", "/etc/", "/etc/hosts", "/etc/passwd"], &[], &[]);
        assert_eq!(added, ["/dev", "/dev/console", "/etc/hosts"]);
        assert_eq!(stamped, ["/", "/etc"]);
    }

    #[test]
    fn volumes_and_the_way_to_them() {
        let (added, stamped) = marks(
            &["/ new", "/srv/ new", "/srv/a/ new", "/srv/a/b/ new", "/srv/kept full", "/v/ new", "/v/file full"],
            &["/srv//a/./b/", "/v", "/absent/x"],
            &[],
        );
        assert_eq!(added, ["/srv/a", "/srv/a/b"]);
        assert_eq!(stamped, ["/", "/srv"], "a filled VOLUME is not on the way to anything");
        // ours are neither the image's nor the engine's, but they stamp
        let (added, stamped) = marks(&["/ new", "/opt/ new", "/opt/.slim-1/ new", "/opt/x"], &[], &["/opt/.slim-1"]);
        assert_eq!((added, stamped), (vec![], vec!["/".to_string(), "/opt".into()]));
        let (added, _) = marks(&["/ new", "/opt/ new", "/opt/.slim-1/ new"], &[], &["/opt/.slim-1"]);
        assert_eq!(added, ["/opt"]);
    }

    /// Regression: with Podman of a user all that crun had made was taken for the image's.
    #[test]
    fn what_crun_makes_is_sticky() {
        let tree = ["/ new", "/data/ new mode=1755", "/var/ new mode=1755", "/var/tmp/ new mode=1755", "/own/ mode=1755"];
        let (added, stamped) = marks(&tree, &["/data", "/var/tmp", "/own"], &[]);
        assert_eq!((added, stamped), (["/data", "/var", "/var/tmp"].map(str::to_owned).to_vec(), vec!["/".to_owned()]));
    }

    #[test]
    fn clocks_are_coarse() {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (modified, older) in [
            (time(1_000, 500_000_001), false),
            (time(1_000, 496_000_000), false), // the last tick
            (time(1_000, 480_000_000), true),
            (time(1_000, 0), false), // whole seconds
            (time(999, 0), true),
            (time(999, 999_999_999), true),
            (time(i64::MIN, 1), true),
            (time(i64::MAX, 1), false),
        ] {
            assert_eq!(is_older(modified, CREATED), older, "{modified:?}");
        }
    }
}
