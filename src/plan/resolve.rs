//! Where a path leads in the image's tree, for the process that used it.
//!
//! The kernel's walk is repeated on the tree: from the process's root or the base of a relative path, component by
//! component, through symbolic links, with `..` stopping at the root. Every symbolic link passed has to be kept for the
//! same path to work again, and so has every directory that was entered and left through `..`.
//!
//! Two things are not in the tree. What is *covered* by a mount (the user's files, `/proc`) is never the image's content:
//! the walk goes on by name only, as it may come out again through `..` or a nested volume that shows the image. What is
//! *unseen* (not in the image) may have been made at run time: the walk goes on by name there as well, and ends as missing.

use std::collections::HashMap;

use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;
use crate::observe::observation::{Mount, Shows};

/// As in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// As in the kernel (`PATH_MAX`, the NUL included).
const MAX_PATH: usize = 4096;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Symbolic links followed, and directories entered and left again through `..`, in this order.
    pub passed: Vec<EntryId>,
    /// Where it ends.
    pub end: End,
}

impl Resolution {
    /// The entry that it leads to.
    #[must_use]
    pub fn found(&self) -> Option<EntryId> {
        match self.end {
            End::Found(id) => Some(id),
            End::Covered(_) | End::Missing { .. } => None,
        }
    }
}

/// See [`Resolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An entry of the image.
    Found(EntryId),
    /// At or below this entry, over which something is mounted that does not show the image.
    Covered(EntryId),
    /// Nothing in the image.
    Missing {
        /// The directory that would hold it, where only the last name is missing.
        directory: Option<EntryId>,
    },
}

/// A tree as the processes of one container saw it.
#[derive(Debug)]
pub struct View<'a> {
    tree: &'a Tree,
    mounts: HashMap<EntryId, Shows>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Entry(EntryId),
    /// Below the mount point `point`; `hidden` is what the image has at this path.
    Covered {
        point: EntryId,
        hidden: Option<EntryId>,
    },
    Unseen,
}

impl<'a> View<'a> {
    /// The image by itself, with nothing mounted.
    #[must_use]
    pub fn of(tree: &'a Tree) -> View<'a> {
        View { tree, mounts: HashMap::new() }
    }

    /// The image with what a container mounts over it. `/proc`, `/sys` and `/dev` are the kernel's in every container.
    #[must_use]
    pub fn with_mounts(tree: &'a Tree, mounts: &[Mount]) -> View<'a> {
        let plain = View::of(tree);
        let kernel = [&b"/proc"[..], b"/sys", b"/dev"].map(|path| (path, Shows::Engine));
        let mounts = kernel
            .into_iter()
            .chain(mounts.iter().map(|mount| (&mount.target[..], mount.shows)))
            .filter_map(|(path, shows)| Some((plain.resolve(Spelling::absolute(path), true).found()?, shows)))
            .filter(|&(id, _)| id != EntryId::ROOT)
            .collect();
        View { tree, mounts }
    }

    /// Walks a path. Where its last component is a symbolic link, `follow` says whether that is followed, too.
    #[must_use]
    pub fn resolve(&self, spelling: Spelling, follow: bool) -> Resolution {
        let mut passed = vec![];
        let end = self.walk(spelling, follow, &mut passed).unwrap_or(End::Missing { directory: None });
        Resolution { passed, end }
    }

    /// `None` where the kernel would give up on the way.
    fn walk(&self, spelling: Spelling, follow: bool, passed: &mut Vec<EntryId>) -> Option<End> {
        if spelling.path.len() >= MAX_PATH || spelling.base.len() >= MAX_PATH || spelling.root.len() >= MAX_PATH {
            return None;
        }
        let mut steps = vec![Step::Entry(EntryId::ROOT)];
        for name in spelling.root.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            steps.push(self.child(*steps.last()?, name)?);
        }
        let floor = steps.len();
        let mut pending = vec![spelling.path];
        if !spelling.path.starts_with(b"/") {
            // a base that is no absolute path is outside of the process's root (`(unreachable)/...`)
            spelling.base.first().filter(|&&byte| byte == b'/')?;
            pending.push(spelling.base);
        }
        let mut links = 0;
        while let Some(rest) = pending.pop() {
            let Some((name, after)) = first_name(rest) else { continue };
            if !after.is_empty() {
                pending.push(after);
            }
            let here = *steps.last()?;
            match name {
                b"." => self.must_be_searchable(here)?,
                b".." => {
                    self.must_be_searchable(here)?;
                    if steps.len() > floor {
                        steps.pop();
                        if let Step::Entry(id) = here {
                            passed.push(id);
                        }
                    }
                }
                _ => match self.child(here, name)? {
                    Step::Entry(id) if self.tree.kind(id) == Kind::Symlink && (follow || !pending.is_empty()) => {
                        links += 1;
                        let target = self.tree.target(id);
                        if links > MAX_LINKS || target.is_empty() || target.len() >= MAX_PATH {
                            return None;
                        }
                        passed.push(id);
                        if target.starts_with(b"/") {
                            steps.truncate(floor);
                        }
                        pending.push(target);
                    }
                    step => steps.push(step),
                },
            }
        }
        Some(match *steps.last()? {
            Step::Entry(id) => End::Found(id),
            Step::Covered { point, .. } => End::Covered(point),
            Step::Unseen => End::Missing {
                directory: match steps.len().checked_sub(2).map(|above| steps[above]) {
                    Some(Step::Entry(id)) => Some(id),
                    _ => None,
                },
            },
        })
    }

    /// What `name` is in `here`; `None` where that cannot have entries.
    fn child(&self, here: Step, name: &[u8]) -> Option<Step> {
        self.must_be_searchable(here)?;
        Some(match here {
            Step::Unseen => Step::Unseen,
            Step::Entry(id) => match self.tree.child(id, name) {
                None => Step::Unseen,
                Some(child) if matches!(self.mounts.get(&child), None | Some(Shows::Image)) => Step::Entry(child),
                Some(child) => Step::Covered { point: child, hidden: Some(child) },
            },
            Step::Covered { point, hidden } => {
                let hidden = hidden.and_then(|id| self.tree.child(id, name));
                match hidden.and_then(|id| Some((id, self.mounts.get(&id)?))) {
                    Some((id, Shows::Image)) => Step::Entry(id),
                    Some((id, _)) => Step::Covered { point: id, hidden },
                    None => Step::Covered { point, hidden },
                }
            }
        })
    }

    fn must_be_searchable(&self, here: Step) -> Option<()> {
        match here {
            Step::Entry(id) if self.tree.kind(id) != Kind::Directory => None,
            _ => Some(()),
        }
    }
}

/// The first component of a path and what follows. A slash at the end is a `.`: what is before it must be a directory.
fn first_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|&byte| byte != b'/')?;
    let path = &path[start..];
    let (name, after) = path.split_at(path.iter().position(|&byte| byte == b'/').unwrap_or(path.len()));
    let only_slashes = !after.is_empty() && after.iter().all(|&byte| byte == b'/');
    Some((name, if only_slashes { b"." } else { after }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;

    fn say(tree: &Tree, resolution: &Resolution) -> String {
        let path = |id| escape(&tree.path(id));
        let passed: Vec<_> = resolution.passed.iter().map(|&id| path(id)).collect();
        let end = match resolution.end {
            End::Found(id) => path(id),
            End::Covered(id) => format!("covered by {}", path(id)),
            End::Missing { directory: Some(id) } => format!("missing in {}", path(id)),
            End::Missing { directory: None } => "missing".into(),
        };
        format!("{}{end}", passed.iter().map(|path| format!("{path} > ")).collect::<String>())
    }

    #[test]
    fn paths_lead_where_the_kernel_leads_them() {
        let tree = fixture::tree(&[
            "/bin -> usr/bin",
            "/usr/bin/sh -> dash",
            "/usr/bin/dash",
            "/usr/share/x/data",
            "/etc/alternatives/awk -> /usr/bin/gawk",
            "/usr/bin/awk -> /etc/alternatives/awk",
            "/usr/bin/gawk",
            "/loop/a -> b",
            "/loop/b -> a",
            "/self -> self/x",
            "/dangling -> /nowhere/x",
            "/up -> ../../../usr",
            "/here -> .",
            "/top -> /",
            "/slashed -> usr/",
        ]);
        let view = View::of(&tree);
        for (base, path, follow, expected) in [
            ("", "/", true, "/"),
            ("", "//usr///bin/./dash", true, "/usr/bin/dash"),
            ("", "/bin/sh", true, "/bin > /usr/bin/sh > /usr/bin/dash"),
            ("", "/bin/sh", false, "/bin > /usr/bin/sh"),
            ("", "/bin", false, "/bin"),
            ("", "/bin/", false, "/bin > /usr/bin"),
            ("", "/bin/.", false, "/bin > /usr/bin"),
            ("", "/usr/bin/awk", true, "/usr/bin/awk > /etc/alternatives/awk > /usr/bin/gawk"),
            ("", "/loop/a", false, "/loop/a"),
            ("", "/dangling", true, "/dangling > missing"),
            ("", "/dangling", false, "/dangling"),
            ("", "/up/bin/dash", true, "/up > /usr/bin/dash"),
            ("", "/here/here/top/bin", false, "/here > /here > /top > /bin"),
            ("", "/slashed", true, "/slashed > /usr"),
            ("", "/usr/share/x/../../bin/dash", true, "/usr/share/x > /usr/share > /usr/bin/dash"),
            ("", "/../../usr", true, "/usr"),
            ("/usr/bin", "dash", true, "/usr/bin/dash"),
            ("/usr/bin", "../share/x/data", true, "/usr/bin > /usr/share/x/data"),
            ("/usr/bin", "", true, "/usr/bin"),
            ("/usr/bin", "/usr", true, "/usr"),
            ("(unreachable)/x", "dash", true, "missing"),
            ("", "relative-without-base", true, "missing"),
            ("", "/usr/bin/dash/", true, "missing"),
            ("", "/usr/bin/dash/..", true, "missing"),
            ("", "/usr/bin/dash/x", true, "missing"),
            ("", "/usr/new", true, "missing in /usr"),
            ("", "/usr/new/", true, "missing in /usr"),
            ("", "/usr/new/newer", true, "missing"),
            // made at run time, and left again
            ("/usr/new", "../bin/dash", true, "/usr/bin/dash"),
        ] {
            let spelling = Spelling { root: b"", base: base.as_bytes(), path: path.as_bytes() };
            assert_eq!(say(&tree, &view.resolve(spelling, follow)), expected, "{base} {path} {follow}");
        }
        // a loop ends as missing after as many links as the kernel follows
        for path in ["/loop/a", "/self", "/loop/a/x"] {
            let resolution = view.resolve(Spelling::absolute(path.as_bytes()), true);
            assert_eq!((resolution.passed.len(), resolution.found()), (MAX_LINKS, None), "{path}");
        }
    }

    #[test]
    fn a_changed_root_cannot_be_left() {
        let tree = fixture::tree(&["/jail/etc/passwd", "/jail/abs -> /etc/passwd", "/jail/up -> ../../etc", "/etc/passwd"]);
        let view = View::of(&tree);
        for (root, base, path, expected) in [
            ("/jail", "", "/etc/passwd", "/jail/etc/passwd"),
            ("/jail/", "", "/abs", "/jail/abs > /jail/etc/passwd"),
            ("/jail", "/etc", "../../../abs", "/jail/etc > /jail/abs > /jail/etc/passwd"),
            ("/jail", "", "/up/passwd", "/jail/up > /jail/etc/passwd"),
            ("/jail", "", "/../etc/passwd", "/jail/etc/passwd"),
            ("/made-later", "", "/../etc/passwd", "missing"),
            ("/etc/passwd/x", "", "/", "missing"),
        ] {
            let spelling = Spelling { root: root.as_bytes(), base: base.as_bytes(), path: path.as_bytes() };
            assert_eq!(say(&tree, &view.resolve(spelling, true)), expected, "{root} {base} {path}");
        }
    }

    #[test]
    fn mounts_cover_what_is_below_them() {
        let tree = fixture::tree(&[
            "/proc/",
            "/data/file",
            "/data/deep/volume/inside",
            "/data/link -> /etc/passwd",
            "/etc/hosts",
            "/etc/passwd",
            "/var/lib/db/seed",
            "/var/run -> /run",
            "/run/",
        ]);
        let mount = |target: &str, shows| Mount { target: target.as_bytes().to_vec(), shows };
        let view = View::with_mounts(
            &tree,
            &[
                mount("/data", Shows::User),
                mount("/data/deep/volume", Shows::Image),
                mount("/etc/hosts", Shows::Engine),
                mount("/var/lib/db", Shows::Image),
                mount("/var/run", Shows::Engine),
                mount("/not/in/the/image", Shows::User),
                mount("/", Shows::Engine),
            ],
        );
        for (path, expected) in [
            ("/proc", "covered by /proc"),
            ("/proc/self/../mounts", "covered by /proc"),
            ("/proc/self/../../etc/passwd", "/etc/passwd"),
            ("/data", "covered by /data"),
            ("/data/file", "covered by /data"),
            ("/data/link", "covered by /data"),
            ("/data/new/../../etc/passwd", "/etc/passwd"),
            ("/data/deep/volume/inside", "/data/deep/volume/inside"),
            ("/data/deep/volume/new", "missing in /data/deep/volume"),
            ("/etc/hosts", "covered by /etc/hosts"),
            ("/var/lib/db/seed", "/var/lib/db/seed"),
            ("/var/run/pid", "/var/run > covered by /run"),
            ("/not/in/the/image/x", "missing"),
        ] {
            assert_eq!(say(&tree, &view.resolve(Spelling::absolute(path.as_bytes()), true)), expected, "{path}");
        }
    }

    #[test]
    fn hostile_spellings_end() {
        let tree = fixture::tree(&["/a/b/c", "/l -> a/b/../../l2", "/l2 -> a/./b"]);
        let view = View::of(&tree);
        let long = [b"/a/..".repeat(1000), b"/a/b/c".to_vec()].concat();
        assert_eq!(view.resolve(Spelling::absolute(&long), true).found(), None, "over the kernel's limit");
        assert!(view.resolve(Spelling::absolute(&long[..4095]), true).passed.len() > 800);
        let deep = [b"/x".repeat(2000), b"/..".repeat(30)].concat();
        assert_eq!(view.resolve(Spelling::absolute(&deep), true).end, End::Missing { directory: None });
        assert_eq!(view.resolve(Spelling::absolute(b"/\xff\xfe\n"), true).end, End::Missing { directory: Some(EntryId::ROOT) });
        assert_eq!(view.resolve(Spelling::absolute(&[b"/".to_vec(), vec![b'n'; 300]].concat()), true).found(), None);
        // every string of a small alphabet: no panic, no endless walk, and the result is in the tree
        let alphabet: [&[u8]; 8] = [b"/", b"a", b"b", b"..", b".", b"l", b"l2", b"\xff"];
        for number in 0..alphabet.len().pow(6) {
            let path: Vec<u8> =
                (0..6).flat_map(|digit| alphabet[number / alphabet.len().pow(digit) % alphabet.len()]).copied().collect();
            let resolution = view.resolve(Spelling { root: b"", base: b"/a", path: &path }, number % 2 == 0);
            assert!(resolution.passed.len() <= MAX_LINKS + 6 * 3);
        }
    }

    #[test]
    fn a_spelling_is_told_in_one_text() {
        let joined = |root: &str, base: &str, path: &str| {
            let spelling = Spelling { root: root.as_bytes(), base: base.as_bytes(), path: path.as_bytes() };
            escape(&spelling.joined())
        };
        assert_eq!(joined("", "", "/a/../b"), "/a/../b");
        assert_eq!(joined("", "/", "a"), "/a");
        assert_eq!(joined("/jail", "/srv", "../a"), "/jail/srv/../a");
        assert_eq!(joined("/", "/srv", ""), "/srv");
    }
}
