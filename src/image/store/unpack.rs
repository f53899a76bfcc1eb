//! From a layer's archive to its files and its index.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;

use super::Flavour;
use super::disk::Disk;
use super::draft::{Draft, MAX_ENTRIES, PathError};
use super::index::{Index, blank};
use crate::escape::escape;
use crate::image::layer::compression::{Budget, LayerError};
use crate::image::layer::tar::{Content, Forward, Member, Skip, TarError, TarReader, Type};
use crate::image::tree::{Entry, Kind};

/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// Its archive, or the blob that it is in.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A path in it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] LayerError),
    /// The disk.
    #[error("`{path}` cannot be unpacked: {}", .reason.desc())]
    Disk {
        /// In the layer.
        path: String,
        /// The system's reason.
        reason: Errno,
    },
}

impl UnpackError {
    pub(super) fn disk(path: &[u8]) -> impl FnOnce(Errno) -> UnpackError {
        let path = escape(path);
        move |reason| UnpackError::Disk { path, reason }
    }
}

/// Unpacks the archive in `stream` to the empty directory `fs`.
pub(super) fn unpack(stream: impl Read, fs: &Path, flavour: Flavour, budget: &Budget) -> Result<Index, UnpackError> {
    let disk = Disk::open(fs, flavour).map_err(TarError::Io)?;
    let mut unpacker =
        Unpacker { reader: TarReader::new(Forward(stream)), draft: Draft::new(), disk, budget, buffer: vec![0; CHUNK] };
    let mut members = 0;
    while let Some(member) = unpacker.reader.next_member()? {
        members += 1;
        // Some take the place of others.
        if members > 2 * MAX_ENTRIES {
            return Err(PathError::TooMany.into());
        }
        unpacker.take(member)?;
    }
    let Unpacker { reader, draft, mut disk, .. } = unpacker;
    let index = draft.finish();
    disk.describe(&index).map_err(|(path, reason)| UnpackError::disk(&path)(reason))?;
    // Behind the end of the archive, its digest is verified.
    std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map_err(TarError::Io)?;
    Ok(index)
}

struct Unpacker<'b, S> {
    reader: TarReader<S>,
    draft: Draft,
    disk: Disk,
    budget: &'b Budget,
    buffer: Vec<u8>,
}

impl<S: Skip> Unpacker<'_, S> {
    fn take(&mut self, member: Member) -> Result<(), UnpackError> {
        let mut made = vec![];
        let place = self.draft.parent(&member.path, &mut made)?;
        for id in made {
            let path = self.draft.path(id);
            self.disk.directory(&path).map_err(UnpackError::disk(&path))?;
        }
        // Of the root an archive says what the directory was like that it was made from; engines don't listen.
        let Some((parent, name)) = place else { return Ok(()) };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return match hidden {
                b".wh..opq" => {
                    self.draft.make_opaque(parent);
                    Ok(())
                }
                // Book-keeping of aufs.
                hidden if hidden.starts_with(b".wh.") => Ok(()),
                b"" | b"." | b".." => Err(PathError::Path(escape(&member.path)).into()),
                hidden => Ok(self.draft.white_out(parent, hidden)?),
            };
        }
        let path = [&self.draft.path(parent), &b"/"[..], name].concat();
        let failed = UnpackError::disk(&path);
        let Member { kind, link, mode, uid, gid, mtime: (mtime, mtime_nanoseconds), size, device, xattrs, .. } = member;
        let what = if let Type::Entry(kind) = kind { kind } else { Kind::File };
        let target = if what == Kind::Symlink { link.clone() } else { vec![] };
        let entry = Entry { mode, uid, gid, mtime, mtime_nanoseconds, size, device, target, xattrs, ..blank(0, b"", what, 0) };
        match kind {
            Type::HardLink => {
                let (other, removed) = self.draft.link((parent, name), &link, entry)?;
                self.remove(removed)?;
                other.map_or(Ok(()), |other| self.disk.hard_link(&other, &path)).map_err(failed)
            }
            // What the kernel takes for a whiteout is one.
            Type::Entry(Kind::CharacterDevice) if device == (0, 0) => Ok(self.draft.white_out(parent, name)?),
            Type::Entry(kind) => {
                let is_new = kind != Kind::Directory || !self.draft.has_directory(parent, name);
                let (_, removed) = self.draft.put(parent, name, entry)?;
                self.remove(removed)?;
                match kind {
                    Kind::File => {
                        let file = self.disk.file(&path).map_err(failed)?;
                        self.write(&file, size, &path)
                    }
                    Kind::Directory if is_new => self.disk.directory(&path).map_err(failed),
                    Kind::Directory => Ok(()),
                    Kind::Symlink => self.disk.symlink(&path, &link).map_err(failed),
                    Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice => {
                        self.disk.special(&path, kind, device).map_err(failed)
                    }
                }
            }
        }
    }

    fn remove(&mut self, removed: Vec<super::draft::Removed>) -> Result<(), UnpackError> {
        for removed in removed {
            self.disk.remove(&removed.path, removed.is_directory).map_err(UnpackError::disk(&removed.path))?;
        }
        Ok(())
    }

    /// Writes the content of the present member; holes stay holes.
    fn write(&mut self, file: &File, size: u64, path: &[u8]) -> Result<(), UnpackError> {
        let failed = |error: std::io::Error| UnpackError::disk(path)(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        let mut at = 0;
        let mut has_holes = false;
        loop {
            match self.reader.read_content(&mut self.buffer)? {
                Content::Data(length) => {
                    file.write_all_at(&self.buffer[..length], at).map_err(failed)?;
                    at += length as u64;
                }
                Content::Hole(length) => {
                    self.budget.take(length)?;
                    at += length;
                    has_holes = true;
                }
                Content::End if has_holes => return file.set_len(size).map_err(failed),
                Content::End => return Ok(()),
            }
        }
    }
}
