//! What every image keeps, used or not: who the users are, what system this is, and places to write to.
//!
//! Directories cost nothing, but not every one of them may stay: emptied, a package directory is a namespace package
//! to Python, and a plug-in directory is a lie. Those that were empty already are what they were, and a sticky one (1777)
//! is a place for files of the run. Directories that were written into in the run are kept where uses are.
//!
//! The root of a machine is no image that somebody made for a program: it has thousands of empty directories, some of them with names
//! that are nobody's business. There only those stay that every machine has.

use super::draft::Draft;
use super::format::Reason;
use crate::image::tree::Kind;

/// Files that the C library and tools take for granted.
const FILES: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release"];
/// Directories that programs expect to be able to write to.
const PLACES: [&str; 2] = ["/tmp", "/run"];

/// Directories that a machine has, whatever it is for: most of those of the Filesystem Hierarchy Standard 3.0.
const HIERARCHY: [&str; 22] = [
    "/boot",
    "/dev",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run/lock",
    "/srv",
    "/sys",
    "/usr/local",
    "/usr/share",
    "/var/cache",
    "/var/lib",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/opt",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Keeps them. `is_machine`: the tree is the root of a machine.
pub(super) fn keep(draft: &mut Draft, is_machine: bool) {
    let rule = |rule: &str| Reason::Rule { rule: rule.into() };
    for path in FILES {
        draft.keep_path(path.as_bytes(), rule("every image has it"));
    }
    for path in PLACES {
        draft.keep_path(path.as_bytes(), rule("a place for files of the run"));
    }
    if is_machine {
        for path in HIERARCHY {
            draft.keep_path(path.as_bytes(), rule("a directory that every machine has"));
        }
        return;
    }
    for id in draft.tree.ids().filter(|&id| draft.tree.kind(id) == Kind::Directory) {
        if draft.tree.mode(id) & 0o1000 != 0 {
            draft.keep(id, rule("a sticky directory"));
        }
        if draft.tree.children(id).is_empty() {
            draft.keep(id, rule("a directory that is empty in the image"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::image::tree::fixture;
    use crate::plan::testing::Case;

    #[test]
    fn identity_and_places_stay() {
        let tree = fixture::tree(&[
            "/etc/passwd",
            "/etc/group",
            "/etc/shadow",
            "/etc/os-release -> ../usr/lib/os-release",
            "/usr/lib/os-release",
            "/usr/lib/package/module",
            "/usr/lib/plugins/",
            "/var/spool/drop/ mode=1777",
            "/var/spool/drop/left-behind",
            "/tmp/ mode=1777",
            "/tmp/left-behind",
            "/run/lock",
        ]);
        let expected = [
            "/etc",
            "/etc/group",
            "/etc/os-release",
            "/etc/passwd",
            "/run",
            "/tmp",
            "/usr",
            "/usr/lib",
            "/usr/lib/os-release",
            "/usr/lib/plugins",
            "/var",
            "/var/spool",
            "/var/spool/drop",
        ];
        assert_eq!(Case::new(&tree).kept(), expected);
    }

    #[test]
    fn of_a_machine_few_directories_stay() {
        let tree = fixture::tree(&[
            "/etc/passwd",
            "/home/somebody/.cache/of-something/",
            "/tmp/ mode=1777",
            "/tmp/left-behind/",
            "/tmp/.X11-unix/ mode=1777",
            "/run/lock/ mode=1777",
            "/srv/",
            "/var/lock -> /run/lock",
            "/var/lib/somebody/",
            "/var/tmp/ mode=1777",
            "/work/",
        ]);
        let mut case = Case::new(&tree);
        case.is_machine = true;
        let expected =
            ["/etc", "/etc/passwd", "/home", "/run", "/run/lock", "/srv", "/tmp", "/var", "/var/lib", "/var/lock", "/var/tmp"];
        assert_eq!(case.kept(), expected);
    }
}
