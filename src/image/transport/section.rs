//! A part of a file, such as a blob in an archive: read at its own position, so that many can be read at a time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::image::layer::tar::Skip;

/// What can be read at any position.
pub trait ReadAt: Send + Sync {
    /// Reads at `position`.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Gets ready, where that takes time: it will be read.
    fn begin(&self) {}
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let rest = usize::try_from(position).ok().and_then(|position| self.get(position..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// See the module. A clone begins where the original is.
#[derive(Clone)]
pub struct Section {
    source: Arc<dyn ReadAt>,
    position: u64,
    end: u64,
}

impl std::fmt::Debug for Section {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Section").field("position", &self.position).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Section {
    /// The first `size` bytes of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn ReadAt>, size: u64) -> Section {
        Section { source, position: 0, end: size }
    }

    /// All of a file, whose position does not matter.
    ///
    /// # Errors
    /// The system's.
    pub fn of_file(mut file: File) -> io::Result<Section> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Section::new(Arc::new(file), size))
    }

    /// A part of it; `None` where it has no such part.
    #[must_use]
    pub fn part(&self, position: u64, size: u64) -> Option<Section> {
        let position = self.position.checked_add(position)?;
        let end = position.checked_add(size).filter(|&end| end <= self.end)?;
        Some(Section { source: Arc::clone(&self.source), position, end })
    }

    /// Says that it will be read.
    pub fn begin(&self) {
        self.source.begin();
    }

    /// How many bytes are left.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end - self.position
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.size()).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.source.read_at(&mut buffer[..length], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Skip for Section {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let position = self.position.checked_add(bytes).filter(|&position| position <= self.end);
        self.position = position.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}
