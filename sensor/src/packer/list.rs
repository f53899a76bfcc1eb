//! Listing the tree: depth first, names sorted, parents before what they hold, in one stream.
//!
//! Only the directories on the way to the present one are in memory, with the names that are left to visit in each. The
//! depth of a tree is its maker's choice, so the way is an explicit stack, and only the [`OPEN`] deepest directories of
//! it are held open; coming back to a higher one opens it anew from the root, by names.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::fchdir;

use super::below::{self, Root};
use super::engine_marks::Time;
use super::{PackerError, Replies, xattrs};
use crate::wire::{Entry, Kind, PackerReply};

/// How many directories are held open.
const OPEN: usize = 128;

/// What is seen differently from what the file system says.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Paths that are not listed, nor what is below them.
    pub(super) left_out: HashSet<Vec<u8>>,
    /// Directories whose modification time is not theirs.
    pub(super) stamped: HashSet<Vec<u8>>,
    /// The modification time that they get instead, in seconds.
    pub(super) stamp: i64,
}

/// Lists the tree as a sequence of [`PackerReply::Entry`] and [`PackerReply::Skipped`]; returns how many entries it has.
/// Changes the working directory.
pub(super) fn list<W: Write>(root: &Root, view: &View, replies: &mut Replies<W>) -> Result<u32, PackerError> {
    let device = fstat(root).map_err(lost(b"/"))?.st_dev;
    let xattrs = xattrs::Reader::new();
    let mut lister = Lister { root, device, view, replies, entries: 0, links: HashMap::new(), xattrs };
    lister.list()?;
    Ok(lister.entries)
}

struct Lister<'l, W: Write> {
    root: &'l Root,
    /// The file system that the root is on.
    device: u64,
    view: &'l View,
    replies: &'l mut Replies<W>,
    entries: u32,
    /// The numbers of files with several names, by device and inode.
    links: HashMap<(u64, u64), u64>,
    xattrs: xattrs::Reader,
}

/// A directory on the way to the present one.
struct Level {
    /// Its number as an entry.
    number: u32,
    /// Where its path ends in the present one; 0 for the root.
    path_end: usize,
    /// The names that are still to be visited.
    names: std::vec::IntoIter<CString>,
    /// Closed while it is far above the present directory.
    directory: Option<OwnedFd>,
}

impl<W: Write> Lister<'_, W> {
    fn list(&mut self) -> Result<(), PackerError> {
        fchdir(self.root).map_err(lost(b"/"))?;
        let mut path = vec![];
        let mut way: Vec<Level> = self.visit(self.root.as_fd(), c".", b"/", 0)?.into_iter().collect();
        let mut is_left = false;
        while let Some(level) = way.last_mut() {
            path.truncate(level.path_end);
            let Some(name) = level.names.next() else {
                way.pop();
                is_left = true;
                continue;
            };
            if is_left {
                self.come_back(&mut way, &path).map_err(lost(&path))?;
                is_left = false;
            }
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            if self.view.left_out.contains(&path) {
                continue;
            }
            let Some(Level { number, directory: Some(directory), .. }) = way.last() else {
                return Err(lost(&path)(Errno::EBADF));
            };
            if let Some(deeper) = self.visit(directory.as_fd(), &name, &path, *number)? {
                way.push(deeper);
                close_far(&mut way);
            }
        }
        Ok(())
    }

    /// Makes the last directory of the way, whose path is `path`, the working directory again.
    fn come_back(&self, way: &mut [Level], path: &[u8]) -> Result<(), Errno> {
        if way.last().is_some_and(|level| level.directory.is_none()) {
            for depth in 0..way.len() {
                let opened = match &way[..depth] {
                    [] => below::directory(self.root.as_fd(), c".")?,
                    [.., above] => {
                        let name = &path[above.path_end + 1..way[depth].path_end];
                        below::directory(above.directory.as_ref().ok_or(Errno::EBADF)?.as_fd(), name)?
                    }
                };
                way[depth].directory = Some(opened);
                close_far(&mut way[..=depth]);
            }
        }
        way.last().and_then(|level| level.directory.as_ref()).map_or(Ok(()), fchdir)
    }

    /// Tells of `name` in the working directory, which is `directory`. Where it is a directory it becomes the working
    /// directory, and is returned.
    fn visit(&mut self, directory: BorrowedFd<'_>, name: &CStr, path: &[u8], parent: u32) -> Result<Option<Level>, PackerError> {
        let status = match below::status(directory, name) {
            Ok(status) => status,
            Err(error) => return self.skip(path, error.desc()),
        };
        let kind = match kind(&status) {
            Some(kind) => kind,
            None => return self.skip(path, "a socket cannot be in an image"),
        };
        let target = match kind {
            Kind::Symlink => readlinkat(directory, name).map(OsStringExt::into_vec),
            _ => Ok(vec![]),
        };
        let target = match target {
            Ok(target) => target,
            Err(error) => return self.skip(path, error.desc()),
        };
        let xattrs = match self.xattrs.read(name) {
            Ok(xattrs) => xattrs,
            Err(error) => {
                self.skip(path, &format!("listed without its extended attributes: {}", error.desc()))?;
                vec![]
            }
        };
        let number = self.entries;
        let link_group = self.link_group(kind, &status);
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let modified = match self.view.stamped.contains(path) {
            true => Time { seconds: self.view.stamp, nanoseconds: 0 },
            false => below::modified(&status),
        };
        self.replies.send(&PackerReply::Entry(Entry {
            parent,
            name: if path == b"/" { vec![] } else { name.to_bytes().to_vec() },
            kind,
            mode: (status.st_mode & 0o7777) as u16,
            uid: status.st_uid,
            gid: status.st_gid,
            mtime: modified.seconds,
            mtime_nanoseconds: modified.nanoseconds,
            size: if kind == Kind::File { status.st_size.unsigned_abs() } else { 0 },
            device: if is_device { (libc::major(status.st_rdev), libc::minor(status.st_rdev)) } else { (0, 0) },
            link_group,
            target,
            xattrs,
        }))?;
        self.entries = number.checked_add(1).ok_or(PackerError::TooManyEntries)?;
        if kind != Kind::Directory {
            return Ok(None);
        }
        // Of an overlay, all directories are on one device, though files are not.
        if status.st_dev != self.device {
            return self.skip(path, "listed without what is in it: another file system is mounted here");
        }
        let path_end = if path == b"/" { 0 } else { path.len() };
        let opened = below::directory(directory, name).and_then(|opened| {
            let names = below::names(opened.as_fd())?.into_iter();
            fchdir(&opened)?;
            Ok(Level { number, path_end, names, directory: Some(opened) })
        });
        match opened {
            Ok(level) => Ok(Some(level)),
            Err(error) => self.skip(path, &format!("listed without what is in it: {}", error.desc())),
        }
    }

    /// The number that all names of a file share.
    fn link_group(&mut self, kind: Kind, status: &FileStat) -> Option<u64> {
        if kind == Kind::Directory || status.st_nlink < 2 {
            return None;
        }
        let next = self.links.len() as u64;
        Some(*self.links.entry((status.st_dev, status.st_ino)).or_insert(next))
    }

    fn skip(&mut self, path: &[u8], reason: &str) -> Result<Option<Level>, PackerError> {
        self.replies.send(&PackerReply::Skipped { path: path.to_vec(), reason: reason.into() })?;
        Ok(None)
    }
}

/// Closes the directory that has just become too far above the last one.
fn close_far(way: &mut [Level]) {
    if let Some(far) = way.len().checked_sub(OPEN + 1) {
        way[far].directory = None;
    }
}

fn kind(status: &FileStat) -> Option<Kind> {
    match status.st_mode & libc::S_IFMT {
        libc::S_IFREG => Some(Kind::File),
        libc::S_IFDIR => Some(Kind::Directory),
        libc::S_IFLNK => Some(Kind::Symlink),
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFCHR => Some(Kind::CharacterDevice),
        libc::S_IFBLK => Some(Kind::BlockDevice),
        _ => None,
    }
}

fn lost(path: &[u8]) -> impl FnOnce(Errno) -> PackerError {
    let path = path.to_vec();
    move |error| PackerError::Lost { path: String::from_utf8_lossy(&path).into_owned(), reason: error.into() }
}
