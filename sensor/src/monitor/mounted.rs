//! Where an opened file lies in the image, when a program with the right to mount shows itself the image's files at
//! another place.
//!
//! The kernel names an open file as it is seen through the mount by which it was opened. Through the container's own
//! mounts that is its path in the image. Through a bind mount that the program made, in a mount namespace of its own or
//! under another root, it is not: there the line of that mount in mountinfo says which directory of which file system it
//! shows, and the container's own mounts where in the image that is. A mount that is gone again has no line: then the path stays
//! as it is.

use super::{place, process};
use crate::mountinfo::{self, Mount};

/// A table of mounts is longer than any program makes it; what is beyond is not read.
const MAX_TABLE: u64 = 4 << 20;

/// The mounts that the container began with.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// As they are now.
    pub(super) fn now() -> Mounts {
        Mounts(of(place::inhabitant()))
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The path in the image of what `process` opened through a mount; `path` is what the kernel calls it.
    pub(super) fn in_image(&self, mount: u64, process: i32, path: Vec<u8>) -> Vec<u8> {
        if self.0.iter().any(|own| own.id == mount) {
            return path;
        }
        let root = process::link(process, "root").unwrap_or_default();
        // Its namespace may be gone with it; a mount in ours is there still.
        let places = [(process, root), (place::inhabitant(), vec![])];
        let translated = places.iter().find_map(|(process, root)| {
            let mounts = of(*process);
            let shown = mounts.iter().find(|other| other.id == mount)?;
            self.translated(shown, root, &path)
        });
        translated.unwrap_or(path)
    }

    /// The path in the image of a file whose path through the mount `shown`, of a process with this root, is `path`.
    fn translated(&self, shown: &Mount, root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
        let point = joined(root, &shown.point);
        let inside = joined(&shown.root, below(&point, path)?);
        let shows = |own: &&Mount| own.device == shown.device && below(&own.root, &inside).is_some();
        let own = self.0.iter().filter(shows).max_by_key(|own| own.root.len())?;
        Some(joined(&own.point, below(&own.root, &inside)?))
    }
}

/// The mounts that a process sees.
fn of(process: i32) -> Vec<Mount> {
    mountinfo::parse(&process::contents(&format!("/proc/{process}/mountinfo"), MAX_TABLE).unwrap_or_default())
}

/// What is left of a path below a directory, empty or with a slash in front.
fn below<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory).filter(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A directory and what follows, empty or with a slash in front.
fn joined(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    let rest = if rest == b"/" { b"" } else { rest };
    match [directory.strip_suffix(b"/").unwrap_or(directory), rest].concat() {
        root if root.is_empty() => b"/".to_vec(),
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, device: &str, root: &str, point: &str) -> Mount {
        Mount { id, device: device.into(), root: root.into(), point: point.into(), ..Mount::default() }
    }

    #[test]
    fn a_file_has_one_place_in_the_image() {
        let own = Mounts(vec![
            mount(1, "0:39", "/", "/"),
            mount(2, "254:0", "/volumes/v", "/data"),
            mount(3, "254:0", "/containers/hosts", "/etc/hosts"),
        ]);
        for (shown, root, path, wanted) in [
            // The whole root again, in another namespace.
            (mount(9, "0:39", "/", "/"), "/", "/w/file", Some("/w/file")),
            // A directory at another place, and as the root.
            (mount(9, "0:39", "/w/there", "/w/here"), "/", "/w/here/a/b", Some("/w/there/a/b")),
            (mount(9, "0:39", "/w/there", "/w/here"), "/", "/w/here", Some("/w/there")),
            (mount(9, "0:39", "/w/there", "/"), "/", "/a", Some("/w/there/a")),
            (mount(9, "0:39", "/w/there", "/"), "/", "/", Some("/w/there")),
            (mount(9, "0:39", "/", "/all"), "/", "/all", Some("/")),
            // The mount point of who has another root, which the path is not seen from.
            (mount(9, "0:39", "/w/there", "/here"), "/jail", "/jail/here/a", Some("/w/there/a")),
            // Of a volume.
            (mount(9, "254:0", "/volumes/v/sub", "/w/here"), "/", "/w/here/a", Some("/data/sub/a")),
            (mount(9, "254:0", "/containers/hosts", "/w/names"), "/", "/w/names", Some("/etc/hosts")),
            // What the container doesn't show, and what is not below the mount.
            (mount(9, "254:0", "/volumes/very-other", "/w/here"), "/", "/w/here/a", None),
            (mount(9, "0:50", "/", "/w/here"), "/", "/w/here/a", None),
            (mount(9, "0:39", "/w/there", "/w/here"), "/", "/w/hereafter", None),
        ] {
            let translated = own.translated(&shown, root.as_bytes(), path.as_bytes());
            assert_eq!(translated.as_deref(), wanted.map(str::as_bytes), "{shown:?} {path}");
        }
        assert_eq!(own.in_image(2, -1, b"/data/file".to_vec()), b"/data/file");
        assert_eq!(own.in_image(u64::MAX, -1, b"/gone/file".to_vec()), b"/gone/file");
    }
}
