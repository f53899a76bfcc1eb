//! The files of a layer on the disk: made, removed and described one name at a time, below one open directory.
//!
//! Every path that comes here is made of names of the draft, which are directories all the way; each is opened by itself
//! and without following links all the same, so that not even a fault in the draft could reach anything else.
//!
//! What a flavour cannot say on the disk (owners without privileges, devices) is in the index only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::Flavour;
use super::index::{Effect, Index, Record};
use crate::image::tree::{Kind, Xattr};

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How overlayfs is told that something below is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whiteouts {
    /// Character devices 0:0, which everybody may make since Linux 5.8.
    Devices,
    /// Attributes, since Linux 6.7: where a sandbox forbids all devices.
    Attributes,
}

/// The directory that holds a layer's files.
#[derive(Debug)]
pub(super) struct Disk {
    root: OwnedFd,
    flavour: Flavour,
    whiteouts: Whiteouts,
    /// The directory that was used last: entries of a directory follow each other.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// Opens the directory `path` below `root`, by one name at a time.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<OwnedFd> {
    let mut at = openat(root, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if name == b".." {
            return Err(Errno::EINVAL);
        }
        at = openat(&at, name, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// The directory of an absolute path, and the last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    (&path[..slash], path.get(slash + 1..).unwrap_or_default())
}

impl Disk {
    pub(super) fn open(path: &Path, flavour: Flavour) -> io::Result<Disk> {
        let root = open(path, DIRECTORY, Mode::empty())?;
        Ok(Disk { root, flavour, whiteouts: Whiteouts::Devices, last: None })
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> nix::Result<(BorrowedFd<'_>, &'p [u8])> {
        let (directory, name) = split(path);
        if self.last.as_ref().is_none_or(|(last, _)| last != directory) {
            self.last = None;
            self.last = Some((directory.to_vec(), open_below(self.root.as_fd(), directory)?));
        }
        self.last.as_ref().map(|(_, fd)| (fd.as_fd(), name)).ok_or(Errno::EBADF)
    }

    /// A new directory, only for us until its metadata are set.
    pub(super) fn directory(&mut self, path: &[u8]) -> nix::Result<()> {
        let (parent, name) = self.parent(path)?;
        mkdirat(parent, name, Mode::S_IRWXU)
    }

    /// A new file.
    pub(super) fn file(&mut self, path: &[u8]) -> nix::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(parent, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
    }

    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8]) -> nix::Result<()> {
        let (parent, name) = self.parent(path)?;
        symlinkat(target, parent, name)
    }

    pub(super) fn hard_link(&mut self, old: &[u8], new: &[u8]) -> nix::Result<()> {
        let (directory, old_name) = split(old);
        let old_parent = open_below(self.root.as_fd(), directory)?;
        let (parent, name) = self.parent(new)?;
        linkat(old_parent, old_name, parent, name, LinkatFlags::empty())
    }

    /// A FIFO or a device; an empty file stands for a device where only the system's own root may make one.
    pub(super) fn special(&mut self, path: &[u8], kind: Kind, (major, minor): (u32, u32)) -> nix::Result<()> {
        let flavour = self.flavour;
        let (parent, name) = self.parent(path)?;
        let kind = match (kind, flavour) {
            (Kind::Fifo, _) => SFlag::S_IFIFO,
            (Kind::CharacterDevice, Flavour::Root) => SFlag::S_IFCHR,
            (Kind::BlockDevice, Flavour::Root) => SFlag::S_IFBLK,
            _ => SFlag::S_IFREG,
        };
        let device = if kind == SFlag::S_IFREG { 0 } else { makedev(u64::from(major), u64::from(minor)) };
        mknodat(parent, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)
    }

    pub(super) fn remove(&mut self, path: &[u8], is_directory: bool) -> nix::Result<()> {
        let (parent, name) = self.parent(path)?;
        let removed = unlinkat(parent, name, if is_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir });
        // What comes in its place may be a directory of the same path.
        self.last = None;
        removed
    }

    /// Sets what the index says: whiteouts and opaque directories, owners, modes, attributes and times. Directories come
    /// after what they hold, as each change in them would change their time. An error comes with its path.
    pub(super) fn describe(&mut self, index: &Index) -> Result<(), (Vec<u8>, Errno)> {
        // One path at a time: all of them at once could be more than there is memory for.
        for (number, record) in index.records.iter().enumerate().rev() {
            let path = index.path(number as u32);
            self.describe_one(record, &path).map_err(|error| (path, error))?;
        }
        Ok(())
    }

    fn describe_one(&mut self, record: &Record, path: &[u8]) -> nix::Result<()> {
        let entry = &record.entry;
        match &record.effect {
            Effect::Whiteout => return self.white_out(path),
            Effect::LinkBelow => return Ok(()),
            Effect::PutOpaque | Effect::ImpliedOpaque => self.make_opaque(path, b"y")?,
            Effect::Put | Effect::Implied => {}
        }
        let flavour = self.flavour;
        if path.is_empty() {
            return fchmodat(&self.root, c".", Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink);
        }
        let (parent, name) = self.parent(path)?;
        if flavour == Flavour::Root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(flavour.permissions(entry.kind, entry.mode).into());
            fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        set_xattrs(parent, name, entry.kind, flavour, &entry.xattrs)?;
        let time = TimeSpec::new(entry.mtime, i64::from(entry.mtime_nanoseconds));
        utimensat(parent, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)
    }

    fn white_out(&mut self, path: &[u8]) -> nix::Result<()> {
        if self.whiteouts == Whiteouts::Devices {
            let (parent, name) = self.parent(path)?;
            match mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
                Err(Errno::EPERM) => self.whiteouts = Whiteouts::Attributes,
                other => return other,
            }
        }
        let file = self.file(path)?;
        set_xattr(file.as_fd(), &self.book_keeping("whiteout"), b"y")?;
        let (directory, _) = split(path);
        self.make_opaque(directory, b"x")
    }

    /// `y` hides all that is below a directory; `x` says that whiteouts in it are attributes.
    fn make_opaque(&self, path: &[u8], value: &[u8]) -> nix::Result<()> {
        set_xattr(open_below(self.root.as_fd(), path)?.as_fd(), &self.book_keeping("opaque"), value)
    }

    /// The name of an attribute of overlayfs: a mount by a user reads its own.
    fn book_keeping(&self, name: &str) -> Vec<u8> {
        let space = if self.flavour == Flavour::Root { "trusted" } else { "user" };
        format!("{space}.overlay.{name}").into_bytes()
    }
}

/// Sets attributes of a file or a directory; those of other kinds are in the index only. What a file system cannot
/// hold, it does not, as in Docker.
fn set_xattrs(parent: BorrowedFd<'_>, name: &[u8], kind: Kind, flavour: Flavour, xattrs: &[Xattr]) -> nix::Result<()> {
    let can_be_set = |xattr: &&Xattr| flavour == Flavour::Root || xattr.name.starts_with(b"user.");
    let mut xattrs = xattrs.iter().filter(can_be_set).peekable();
    if xattrs.peek().is_none() || !matches!(kind, Kind::File | Kind::Directory) {
        return Ok(());
    }
    let file = openat(parent, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    for xattr in xattrs {
        match set_xattr(file.as_fd(), &xattr.name, &xattr.value) {
            Err(Errno::ENOTSUP) => {}
            other => other?,
        }
    }
    Ok(())
}

#[allow(unsafe_code, reason = "neither std nor nix has extended attributes")]
fn set_xattr(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> nix::Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the name ends in NUL, and the kernel reads `value.len()` bytes of the value.
    let set = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(set).map(drop)
}
