//! Opening what lies below the root: by one name at a time, so that no symbolic link is ever followed and a path may be
//! longer than the kernel takes in one call.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use super::engine_marks::{Facts, Time, What};

/// The directory that holds the tree.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// Owner and group that a user namespace shows of a file whose own are not in it (proc(5), `overflowuid`): an engine's root,
/// where the container's root is somebody else.
const UNKNOWN_OWNER: (u32, u32) = (65534, 65534);

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Root, Errno> {
        open(path, DIRECTORY.difference(OFlag::O_NOFOLLOW), Mode::empty()).map(Root)
    }

    /// The directory in which the last name of `path` is, and that name.
    pub(super) fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
        let end = path.iter().rposition(|&byte| byte == b'/').ok_or(Errno::EINVAL)?;
        let mut at = directory(self.as_fd(), c".")?;
        for name in path[..end].split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            at = directory(at.as_fd(), component(name)?)?;
        }
        Ok((at, component(&path[end + 1..])?))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A name that stays below the directory it is looked up in.
fn component(name: &[u8]) -> Result<&[u8], Errno> {
    if name.is_empty() || name == b"." || name == b".." { Err(Errno::EINVAL) } else { Ok(name) }
}

/// Opens the directory `name` of `parent`.
pub(super) fn directory<Name: NixPath + ?Sized>(parent: BorrowedFd<'_>, name: &Name) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// The status of `name` itself, be it a symbolic link.
pub(super) fn status<Name: NixPath + ?Sized>(parent: BorrowedFd<'_>, name: &Name) -> Result<FileStat, Errno> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The names in a directory, sorted bytewise.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut listing = Dir::openat(directory, c".", DIRECTORY, Mode::empty())?;
    let mut names = vec![];
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The modification time in a status.
pub(super) fn modified(status: &FileStat) -> Time {
    Time { seconds: status.st_mtime, nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or(0) }
}

/// What is at `path`; `None` where nothing is, or nothing that can be told.
pub(super) fn facts(root: &Root, path: &[u8]) -> Option<Facts> {
    let (parent, name) = if path == b"/" { (directory(root.as_fd(), c".").ok()?, &b"."[..]) } else { root.parent(path).ok()? };
    let status = status(parent.as_fd(), name).ok()?;
    let what = match status.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            let names = names(directory(parent.as_fd(), name).ok()?.as_fd()).ok()?;
            What::Directory(names.into_iter().map(CString::into_bytes).collect())
        }
        libc::S_IFREG => What::File { empty: status.st_size == 0 },
        libc::S_IFLNK => What::Link(OsStringExt::into_vec(readlinkat(&parent, name).ok()?)),
        _ => What::Other,
    };
    Some(Facts {
        what,
        mode: status.st_mode & 0o7777,
        by_root: matches!((status.st_uid, status.st_gid), (0, 0) | UNKNOWN_OWNER),
        modified: modified(&status),
    })
}

/// Opens the regular file `name` of `parent` for reading. Anything else gives `None`, without being opened: opening a
/// device or a FIFO does things.
pub(super) fn regular_file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<(File, FileStat)>, Errno> {
    let is_regular = |status: &FileStat| status.st_mode & libc::S_IFMT == libc::S_IFREG;
    if !is_regular(&status(parent, name)?) {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty())?;
    let status = fstat(&file)?;
    Ok(is_regular(&status).then(|| (file.into(), status)))
}
