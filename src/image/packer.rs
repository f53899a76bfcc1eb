//! The controller's end of the packer: an image's tree, and the bytes of its files.
//!
//! One container of the image serves both.

use std::io::{self, Read, Write};

use slim_sensor::wire::{Frame, FrameReader, PackerReply, PackerRequest, PackerSetup, VERSION, WireError, put_message};

use super::read_files::{Piece, ReadError, ReadFiles, Sink};
use super::tree::{Tree, TreeBuilder, TreeError};

/// A stream to a packer.
pub trait Channel: Read + Write + Send {}

impl<T: Read + Write + Send> Channel for T {}

/// What goes wrong with a packer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackerError {
    /// The stream broke.
    #[error("the connection to the packer broke: {0}")]
    Io(#[from] io::Error),
    /// The stream ended too early.
    #[error("the packer ended before it was done")]
    Ended,
    /// It is not our packer, or the stream was damaged.
    #[error("the packer cannot be understood: {0}")]
    Wire(#[from] WireError),
    /// It says something else than what was asked for.
    #[error("the packer answered something else than what it was asked: {0}")]
    Unexpected(String),
    /// The tree makes no sense.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Something in the tree that cannot be in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path.
    pub path: Vec<u8>,
    /// Why, in words.
    pub reason: String,
}

/// See the module.
pub struct Packer {
    channel: Box<dyn Channel>,
    frames: FrameReader,
    chunk: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// Greets a packer.
    ///
    /// # Errors
    /// [`PackerError`]
    pub fn connect(channel: Box<dyn Channel>, setup: &PackerSetup) -> Result<Packer, PackerError> {
        let mut packer = Packer { channel, frames: FrameReader::default(), chunk: vec![0; 256 << 10] };
        packer.send(setup)?;
        packer.greeted()
    }

    /// Greets a packer that knows what it has to know.
    ///
    /// # Errors
    /// [`PackerError`]
    pub fn attach(channel: Box<dyn Channel>) -> Result<Packer, PackerError> {
        Packer { channel, frames: FrameReader::default(), chunk: vec![0; 256 << 10] }.greeted()
    }

    fn greeted(mut self) -> Result<Packer, PackerError> {
        match self.reply()? {
            PackerReply::Hello { version: VERSION } => Ok(self),
            other => Err(PackerError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Lists the tree.
    ///
    /// # Errors
    /// [`PackerError`]
    pub fn list(&mut self) -> Result<(Tree, Vec<Skipped>), PackerError> {
        self.send(&PackerRequest::List)?;
        let (mut tree, mut skipped) = (TreeBuilder::default(), vec![]);
        loop {
            match self.reply()? {
                PackerReply::Entry(entry) => drop(tree.push(entry)?),
                PackerReply::Skipped { path, reason } => skipped.push(Skipped { path, reason }),
                PackerReply::Listed { entries } => {
                    let tree = tree.finish()?;
                    if tree.len() != entries as usize {
                        return Err(PackerError::Unexpected(format!("{entries} entries, but {} came", tree.len())));
                    }
                    return Ok((tree, skipped));
                }
                other => return Err(PackerError::Unexpected(format!("{other:?}"))),
            }
        }
    }

    fn read_one(&mut self, path: &[u8], sink: Sink<'_>) -> Result<(), ReadError> {
        loop {
            let piece = match self.frame()? {
                Frame::Data(bytes) => Piece::Data(bytes),
                Frame::Message(bytes) => match slim_sensor::wire::decode(bytes).map_err(PackerError::from)? {
                    PackerReply::Hole { length } => Piece::Hole(length),
                    PackerReply::FileEnd { error: None } => Piece::End,
                    PackerReply::FileEnd { error: Some(reason) } => {
                        return Err(ReadError::File { path: crate::escape::escape(path), reason });
                    }
                    other => return Err(PackerError::Unexpected(format!("{other:?}")).into()),
                },
            };
            let is_end = piece == Piece::End;
            sink(piece).map_err(ReadError::Sink)?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn send<T: serde::Serialize>(&mut self, message: &T) -> Result<(), PackerError> {
        let mut bytes = vec![];
        put_message(&mut bytes, message);
        self.channel.write_all(&bytes)?;
        Ok(self.channel.flush()?)
    }

    fn reply(&mut self) -> Result<PackerReply, PackerError> {
        Ok(self.frame()?.message()?)
    }

    fn frame(&mut self) -> Result<Frame<'_>, PackerError> {
        while !self.frames.has_frame()? {
            match self.channel.read(&mut self.chunk) {
                Ok(0) => return Err(PackerError::Ended),
                Ok(length) => self.frames.feed(&self.chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.frames.next_frame()?.ok_or(PackerError::Ended)
    }
}

impl ReadFiles for Packer {
    fn read(&mut self, paths: &[Vec<u8>], limit: u64, sink: Sink<'_>) -> Result<(), ReadError> {
        // A request has to fit into a frame, and the packer should have the next one before it is done with this.
        const MANY: usize = 64;
        let mut batches = paths.chunks(MANY);
        let mut ahead = batches.next();
        if let Some(batch) = ahead {
            self.send(&PackerRequest::Read { paths: batch.to_vec(), limit })?;
        }
        while let Some(batch) = ahead {
            ahead = batches.next();
            if let Some(next) = ahead {
                self.send(&PackerRequest::Read { paths: next.to_vec(), limit })?;
            }
            for path in batch {
                self.read_one(path, sink)?;
            }
        }
        Ok(())
    }
}
