//! Pristine bytes of an image from its unpacked layers, as the tree's origins lead to them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Whence, lseek};

use super::StoredLayer;
use super::disk::{open_below, split};
use super::merge::Merged;
use crate::escape::escape;
use crate::image::read_files::{Piece, ReadError, ReadFiles, Sink};
use crate::image::tree::{EntryId, Kind};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub struct LayerFiles {
    layers: Vec<StoredLayer>,
    merged: Arc<Merged>,
    /// The directory that was used last: its layer, its path there.
    last: Option<(u32, Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl LayerFiles {
    /// Reads from the layers that make `merged`.
    #[must_use]
    pub fn new(layers: Vec<StoredLayer>, merged: Arc<Merged>) -> LayerFiles {
        LayerFiles { layers, merged, last: None, buffer: vec![0; CHUNK] }
    }

    pub(super) fn merged(&self) -> Arc<Merged> {
        Arc::clone(&self.merged)
    }

    fn open(&mut self, id: EntryId) -> Result<File, String> {
        let origin = self.merged.origin(id);
        let layer = self.layers.get(origin.layer as usize).ok_or("its layer is not there")?;
        let path = layer.index.path(origin.record);
        let (directory, name) = split(&path);
        let is_last = self.last.as_ref().is_some_and(|(number, last, _)| (*number, &last[..]) == (origin.layer, directory));
        if !is_last {
            let root = File::open(&layer.files).map_err(|error| error.to_string())?;
            let opened = open_below(root.as_fd(), directory).map_err(Errno::desc)?;
            self.last = Some((origin.layer, directory.to_vec(), opened));
        }
        let Some((_, _, directory)) = &self.last else { return Err(Errno::EBADF.desc().to_owned()) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(Errno::desc)?;
        let status = fstat(&file).map_err(Errno::desc)?;
        let size = self.merged.tree.size(id);
        if status.st_mode & libc::S_IFMT != libc::S_IFREG || status.st_size.unsigned_abs() != size {
            return Err("the layer store is damaged: remove it".to_owned());
        }
        Ok(file.into())
    }

    fn read_one(&mut self, path: &[u8], limit: u64, sink: Sink<'_>) -> Result<(), ReadError> {
        let wrong = |reason: String| ReadError::File { path: escape(path), reason };
        let tree = &self.merged.tree;
        let id = tree.get(path).filter(|&id| tree.kind(id) == Kind::File);
        let id = id.ok_or_else(|| wrong("it is not a regular file".to_owned()))?;
        let end = tree.size(id).min(limit);
        let file = self.open(id).map_err(wrong)?;
        let mut at = 0;
        while at < end {
            let (start, stop) = next_data(&file, at, end);
            if start > at {
                sink(Piece::Hole(start - at)).map_err(ReadError::Sink)?;
            }
            at = start;
            while at < stop {
                let want = usize::try_from(stop - at).map_or(CHUNK, |left| left.min(CHUNK));
                match file.read_at(&mut self.buffer[..want], at) {
                    Ok(0) => return Err(wrong("it ends too early".to_owned())),
                    Ok(length) => {
                        sink(Piece::Data(&self.buffer[..length])).map_err(ReadError::Sink)?;
                        at += length as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(wrong(error.to_string())),
                }
            }
        }
        sink(Piece::End).map_err(ReadError::Sink)
    }
}

impl ReadFiles for LayerFiles {
    fn read(&mut self, paths: &[Vec<u8>], limit: u64, sink: Sink<'_>) -> Result<(), ReadError> {
        paths.iter().try_for_each(|path| self.read_one(path, limit, sink))
    }
}

/// Where the next data begin and end, at or after `at`; a file system that cannot tell has data everywhere.
fn next_data(file: &File, at: u64, end: u64) -> (u64, u64) {
    let seek = |offset: u64, whence| {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, offset, whence).map(|found| found.unsigned_abs().clamp(at, end))
    };
    match seek(at, Whence::SeekData) {
        Ok(start) => match seek(start, Whence::SeekHole) {
            Ok(stop) if stop > start => (start, stop),
            _ => (start, end),
        },
        Err(Errno::ENXIO) => (end, end),
        Err(_) => (at, end),
    }
}
