//! Paths inside a root that is not ours yet: links in it are followed as a process inside would follow them.
//!
//! Before the root is changed, what is mounted goes to places that the image names, and the image may have a link
//! anywhere: `/etc/resolv.conf -> ../../../home/x`. So nothing is ever mounted on, or made at, a path: a place is opened by the
//! kernel with the root as its bound (`RESOLVE_IN_ROOT`), and used through /proc/self/fd, which is this machine's.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// Most dangling links that are followed to where something is to be made.
const MAX_LINKS: usize = 40;

/// What is made where there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// The root of a container, seen from outside.
#[derive(Debug)]
pub(super) struct Inside {
    root: OwnedFd,
}

/// Where something can be mounted.
#[derive(Debug)]
pub(super) struct Place(OwnedFd);

impl Place {
    /// A path of this machine that leads there, as long as this machine's /proc is there and the place is held.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    pub(super) fn is_directory(&self) -> bool {
        self.is(SFlag::S_IFDIR)
    }

    pub(super) fn is_link(&self) -> bool {
        self.is(SFlag::S_IFLNK)
    }

    fn is(&self, kind: SFlag) -> bool {
        fstat(&self.0).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == kind.bits())
    }

    /// Permissions of what is there.
    pub(super) fn mode(&self) -> u32 {
        fstat(&self.0).map_or(0o755, |stat| stat.st_mode & 0o7777)
    }

    pub(super) fn as_fd(&self) -> &OwnedFd {
        &self.0
    }
}

impl Inside {
    pub(super) fn open(root: &Path) -> nix::Result<Inside> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Inside { root: nix::fcntl::open(root, flags, Mode::empty())? })
    }

    /// What is at a path, links followed.
    pub(super) fn find(&self, path: &Path) -> nix::Result<Place> {
        self.open_with(path, OFlag::empty())
    }

    /// What is at a path that has no link in it, itself though it may be one.
    pub(super) fn find_plain(&self, path: &Path) -> nix::Result<Place> {
        // (`O_NOFOLLOW` makes the last link the place itself, which is no step over a link.)
        self.open_resolving(path, OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn open_with(&self, path: &Path, flags: OFlag) -> nix::Result<Place> {
        self.open_resolving(path, flags, ResolveFlag::RESOLVE_NO_MAGICLINKS)
    }

    fn open_resolving(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<Place> {
        // Relative, so that an empty path is the root too.
        let relative = Path::new(".").join(path.strip_prefix("/").unwrap_or(path));
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | resolve);
        // The kernel asks for another try when something is renamed meanwhile.
        let again = |errno| matches!(errno, Errno::EAGAIN | Errno::EINTR);
        let mut tries = 0..16;
        loop {
            match openat2(&self.root, &relative, how) {
                Err(errno) if again(errno) && tries.next().is_some() => {}
                other => return other.map(Place),
            }
        }
    }

    /// What is at a path; made, with the directories on the way, where there is nothing. A link that leads nowhere leads
    /// to where it is made.
    pub(super) fn make(&self, path: &Path, kind: Kind) -> nix::Result<Place> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.find(&path) {
                Err(Errno::ENOENT) => {}
                other => return other,
            }
            match self.make_once(&path, kind)? {
                None => {}
                Some(elsewhere) => path = elsewhere,
            }
        }
        Err(Errno::ELOOP)
    }

    /// Makes what is missing of a path, up to a link that leads nowhere: then the path that is meant.
    fn make_once(&self, path: &Path, kind: Kind) -> nix::Result<Option<PathBuf>> {
        let names: Vec<Component<'_>> = path.components().filter(|part| *part != Component::RootDir).collect();
        let mut parent = PathBuf::from("/");
        for (index, name) in names.iter().enumerate() {
            let here = parent.join(name);
            match self.open_with(&here, OFlag::O_NOFOLLOW) {
                Ok(place) if place.is(SFlag::S_IFLNK) && matches!(self.find(&here), Err(Errno::ENOENT)) => {
                    let target = readlinkat(place.as_fd(), "")?;
                    let rest: PathBuf = names[index + 1..].iter().collect();
                    return Ok(Some(parent.join(target).join(rest)));
                }
                Ok(_) => {}
                Err(Errno::ENOENT) => {
                    let is_last = index + 1 == names.len();
                    let kind = if is_last { kind } else { Kind::Directory };
                    make_at(&self.find(&parent)?, name.as_os_str(), kind)?;
                }
                Err(errno) => return Err(errno),
            }
            parent = here;
        }
        Ok(None)
    }
}

fn make_at(parent: &Place, name: &OsStr, kind: Kind) -> nix::Result<()> {
    let made = match kind {
        Kind::Directory => mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(0o755)),
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            openat(parent.as_fd(), name, flags, Mode::from_bits_truncate(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside_and_what_is_missing_is_made() {
        let outer = tempfile::tempdir().expect("directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("directory");
        fs::create_dir_all(root.join("data/deep")).expect("directory");
        for (target, link) in [
            ("/data", "absolute"),
            ("../../../../data", "up"),
            ("../run/resolve/stub.conf", "etc/resolv.conf"),
            ("/../../outside", "escape"),
            ("loop", "loop"),
            ("chain2", "chain1"),
            ("/new/end", "chain2"),
        ] {
            symlink(target, root.join(link)).expect("link");
        }
        let inside = Inside::open(&root).expect("root");
        for (path, kind, wanted) in [
            ("/", Kind::Directory, ""),
            ("", Kind::Directory, ""),
            ("/data", Kind::Directory, "data"),
            ("/absolute/deep", Kind::Directory, "data/deep"),
            ("/up/more/still", Kind::Directory, "data/more/still"),
            ("/etc/resolv.conf", Kind::File, "run/resolve/stub.conf"),
            ("/etc/hosts", Kind::File, "etc/hosts"),
            ("/escape/file", Kind::File, "outside/file"),
            ("/../../../top", Kind::Directory, "top"),
            ("/chain1/x", Kind::Directory, "new/end/x"),
            ("/data/../made/../other", Kind::Directory, "other"),
        ] {
            let place = inside.make(Path::new(path), kind).unwrap_or_else(|errno| panic!("{path}: {errno}"));
            assert_eq!(
                fs::read_link(place.path()).expect("place"),
                root.join(wanted).components().collect::<PathBuf>(),
                "{path}"
            );
            assert_eq!(place.is_directory(), kind == Kind::Directory, "{path}");
        }
        assert_eq!(inside.make(Path::new("/loop/x"), Kind::File).err(), Some(Errno::ELOOP));
        assert_eq!(inside.make(Path::new("/etc/hosts/x"), Kind::File).err(), Some(Errno::ENOTDIR));
        let names: Vec<_> = fs::read_dir(outer.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names, ["root"], "nothing was made outside");
    }
}
