//! Sending the contents of files: data and holes, as the file system tells them apart.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::below::{self, Root};
use super::{CHUNK, PackerError, Replies};
use crate::wire::PackerReply;

/// Sends files one after the other; holds the buffer, and the directory of the last one (paths come sorted).
pub(super) struct Files<'r> {
    root: &'r Root,
    directory: Option<(Vec<u8>, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'r> Files<'r> {
    pub(super) fn new(root: &'r Root) -> Files<'r> {
        Files { root, directory: None, buffer: vec![0; CHUNK] }
    }

    /// Sends the first `limit` bytes of a file. What is wrong with the file is returned in words.
    pub(super) fn send<W: Write>(
        &mut self,
        path: &[u8],
        limit: u64,
        replies: &mut Replies<W>,
    ) -> Result<Option<String>, PackerError> {
        let (file, size, is_sparse) = match self.open(path) {
            Ok(opened) => opened,
            Err(reason) => return Ok(Some(reason.into())),
        };
        let end = size.min(limit);
        let mut at = 0;
        while at < end {
            let data = if is_sparse { next_data(&file, at, end) } else { at..end };
            if data.start > at {
                replies.send(&PackerReply::Hole { length: data.start - at })?;
            }
            at = data.start;
            while at < data.end {
                let want = usize::try_from(data.end - at).map_or(CHUNK, |left| left.min(CHUNK));
                match file.read_at(&mut self.buffer[..want], at) {
                    Ok(0) => return Ok(Some(format!("the file ends after {at} of {size} bytes"))),
                    Ok(length) => {
                        replies.data(&self.buffer[..length])?;
                        at += length as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Ok(Some(error.to_string())),
                }
            }
        }
        Ok(None)
    }

    /// The file, its size, and whether it takes less room than its size, so that it is worth looking for holes.
    fn open(&mut self, path: &[u8]) -> Result<(File, u64, bool), &'static str> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path.split_at(slash + 1),
            None => return Err("its path is not absolute"),
        };
        let directory = match &self.directory {
            Some((known, directory)) if known == parent && !matches!(name, b"" | b"." | b"..") => directory,
            _ => {
                let (directory, _) = self.root.parent(path).map_err(Errno::desc)?;
                &self.directory.insert((parent.to_vec(), directory)).1
            }
        };
        let opened = below::regular_file(directory.as_fd(), name).map_err(Errno::desc)?;
        let (file, status) = opened.ok_or("it is not a regular file")?;
        let size = u64::try_from(status.st_size).map_err(|_| "its size is negative")?;
        Ok((file, size, status.st_blocks.saturating_mul(512) < status.st_size))
    }
}

/// The first stretch of data at or after `at`, up to `end`; empty at `end` where only holes are left. A file system
/// that cannot tell has data everywhere.
fn next_data(file: &File, at: u64, end: u64) -> Range<u64> {
    let seek = |offset: u64, whence| {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, offset, whence).map(|found| found.unsigned_abs().clamp(at, end))
    };
    match seek(at, Whence::SeekData) {
        Ok(start) => match seek(start, Whence::SeekHole) {
            Ok(stop) if stop > start => start..stop,
            _ => start..end,
        },
        Err(Errno::ENXIO) => end..end,
        Err(_) => at..end,
    }
}
