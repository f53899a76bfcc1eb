//! Reading files of an image, wherever they lie: in a container of it, in unpacked layers, in a directory.
//!
//! The conversation is blocking: the plan and the layer writer are plain code that asks for files in the order it needs
//! them.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::packer::PackerError;
use super::tree::{EntryId, Tree};

/// Reads contents of the image where they are asked for. A plan does no I/O itself: it is given this.
pub trait Contents {
    /// The first `limit` bytes of a regular file (all of it where it is shorter).
    ///
    /// # Errors
    /// Whatever stood in the way, for the user.
    fn read(&self, file: EntryId, limit: u64) -> std::io::Result<Vec<u8>>;

    /// The first `limit` bytes of each of `files`, in their order; better than [`Contents::read`] in a loop where a
    /// request costs a round trip. Callers bound the number of files.
    fn read_each(&self, files: &[EntryId], limit: u64) -> Vec<std::io::Result<Vec<u8>>> {
        files.iter().map(|&file| self.read(file, limit)).collect()
    }
}

/// A part of a file's content.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros.
    Hole(u64),
    /// The file is complete.
    End,
}

/// Takes pieces; what it says ends it all.
pub type Sink<'s> = &'s mut dyn FnMut(Piece<'_>) -> Result<(), String>;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file could not be read.
    #[error("`{path}` cannot be read from the image: {reason}")]
    File {
        /// Which.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// Who takes the bytes failed.
    #[error("{0}")]
    Sink(String),
    /// The packer.
    #[error(transparent)]
    Packer(#[from] PackerError),
}

/// Gives the contents of files by the paths of the image's tree.
pub trait ReadFiles: Send + std::fmt::Debug {
    /// Reads regular files one after the other, at most `limit` bytes of each. What goes wrong with one file ends it
    /// all.
    ///
    /// # Errors
    /// [`ReadError`]; what `sink` says is [`ReadError::Sink`].
    fn read(&mut self, paths: &[Vec<u8>], limit: u64, sink: Sink<'_>) -> Result<(), ReadError>;
}

/// The files of a tree, for the plan's closures.
#[derive(Debug)]
pub struct TreeContents<'a> {
    tree: &'a Tree,
    reader: Mutex<&'a mut dyn ReadFiles>,
}

impl<'a> TreeContents<'a> {
    /// Reads through `reader`, which has the files of `tree`.
    pub fn new(tree: &'a Tree, reader: &'a mut dyn ReadFiles) -> TreeContents<'a> {
        TreeContents { tree, reader: Mutex::new(reader) }
    }
}

impl Contents for TreeContents<'_> {
    fn read(&self, file: EntryId, limit: u64) -> io::Result<Vec<u8>> {
        self.read_each(&[file], limit).pop().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }

    fn read_each(&self, files: &[EntryId], limit: u64) -> Vec<io::Result<Vec<u8>>> {
        let paths: Vec<Vec<u8>> = files.iter().map(|&file| self.tree.path(file)).collect();
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut contents, mut current) = (Vec::with_capacity(paths.len()), vec![]);
        let result = reader.read(&paths, limit, &mut |piece| {
            match piece {
                Piece::Data(bytes) => current.extend_from_slice(bytes),
                Piece::Hole(length) => {
                    let length = usize::try_from(length.min(limit)).unwrap_or(usize::MAX);
                    current.resize(current.len().saturating_add(length), 0);
                }
                Piece::End => contents.push(Ok(std::mem::take(&mut current))),
            }
            // A packer was told the limit; one that ignores it is not ours.
            if current.len() as u64 > limit { Err("more bytes than asked for".to_owned()) } else { Ok(()) }
        });
        if let Err(error) = result {
            let text = error.to_string();
            while contents.len() < files.len() {
                contents.push(Err(io::Error::other(text.clone())));
            }
        }
        contents
    }
}
