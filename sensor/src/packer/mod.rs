//! The packer: lists an image's tree and sends its files, from inside a fresh container of the image.
//!
//! Headers and bytes of a slim image come from the image itself, never from a container that ran. A fresh container is
//! the one view of it that every engine offers, with two differences, which are taken off here:
//!
//! * Mounts hide what the image has below them (the contents of a VOLUME, `/etc/hosts`, `/proc`). They are unmounted,
//!   in this container's own mount namespace ([`mounts`]). The packer's own executable lies on one of them: it stays
//!   mapped. From then on there is no `/proc`, so everything is done relative to open directories.
//! * The engine adds files and directories, and stamps the directories they are in ([`engine_marks`]).
//!
//! One thing cannot be seen from here: Docker replaces an image's own `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`,
//! `/etc/mtab`, `/dev/console` and `/.dockerenv` by empty files before any container of it exists. They are taken for the
//! engine's, and left to the engine: it makes them again in each container of the slim image.
//!
//! It runs as root with `CAP_SYS_ADMIN`, in one thread (it changes its working directory), and answers
//! [`PackerRequest`]s until its input ends.

mod below;
mod engine_marks;
mod list;
mod mounts;
mod read;
mod xattrs;

use std::collections::HashSet;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use crate::wire::{FrameReader, MAX_FRAME, PackerReply, PackerRequest, VERSION, WireError, data_header, put_message};
use below::Root;
use engine_marks::Time;
pub use engine_marks::{REPLACED, STAMPED};
use mounts::Unmounted;

/// What the packer has to know of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directory that holds the tree, `/` in a container.
    pub root: PathBuf,
    /// Absolute paths that are ours, not the image's: left out with everything below them.
    pub own: Vec<Vec<u8>>,
    /// When the container was created, by its engine's clock: seconds since 1970 and nanoseconds.
    pub container_created: (i64, u32),
    /// When the image was created, in seconds since 1970: the time of directories that the engine stamped.
    pub image_created: i64,
    /// Directories that the engine makes where the image has none: the configuration's VOLUMEs and working directory.
    pub volumes: Vec<Vec<u8>>,
    /// Whether to unmount everything that is mounted below the root.
    pub unmount: bool,
}

/// Why the packer gave up. What is wrong with a single file is a reply, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackerError {
    /// The requests cannot be read.
    #[error("cannot read requests: {0}")]
    Input(io::Error),
    /// The replies cannot be written.
    #[error("cannot write replies: {0}")]
    Output(io::Error),
    /// The root cannot be opened.
    #[error("cannot open the tree at `{}`: {reason}", path.display())]
    Root {
        /// Where it should be.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The kernel does not tell what is mounted.
    #[error("cannot read what is mounted: {0}")]
    Mounts(io::Error),
    /// What came is not a request.
    #[error(transparent)]
    Request(#[from] WireError),
    /// The input ended in the middle of a request.
    #[error("the requests were cut off")]
    Cut,
    /// A directory that was being listed cannot be used any more: the tree changed, which no image does.
    #[error("`{path}` was lost while it was listed: {reason}")]
    Lost {
        /// The directory.
        path: String,
        /// The system's reason.
        reason: io::Error,
    },
    /// More entries than can be numbered.
    #[error("the image has more than {} entries", u32::MAX)]
    TooManyEntries,
}

/// Serves requests from `input` on `output` until `input` ends.
///
/// # Errors
/// [`PackerError`].
pub fn run(options: Options, mut input: impl Read, output: impl Write) -> Result<(), PackerError> {
    let root =
        Root::open(&options.root).map_err(|error| PackerError::Root { path: options.root.clone(), reason: error.into() })?;
    let mounted = if options.unmount { mounts::unmount_below(&options.root).map_err(PackerError::Mounts)? } else { vec![] };
    let mut packer = Packer { root, options, mounted, replies: Replies::new(output) };
    packer.replies.send(&PackerReply::Hello { version: VERSION })?;
    packer.replies.flush()?;
    let mut requests = FrameReader::default();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let length = match input.read(&mut chunk) {
            Ok(0) if requests.is_cut() => return Err(PackerError::Cut),
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PackerError::Input(error)),
        };
        requests.feed(&chunk[..length]);
        while let Some(frame) = requests.next_frame()? {
            packer.serve(frame.message()?)?;
        }
    }
}

struct Packer<W: Write> {
    root: Root,
    options: Options,
    /// What was mounted below the root, and whether it still is.
    mounted: Vec<Unmounted>,
    replies: Replies<W>,
}

impl<W: Write> Packer<W> {
    fn serve(&mut self, request: PackerRequest) -> Result<(), PackerError> {
        match request {
            PackerRequest::List => self.list()?,
            PackerRequest::Read { paths, limit } => {
                let mut files = read::Files::new(&self.root);
                for path in paths {
                    let error = files.send(&path, limit, &mut self.replies)?;
                    self.replies.send(&PackerReply::FileEnd { error })?;
                }
            }
        }
        self.replies.flush()
    }

    fn list(&mut self) -> Result<(), PackerError> {
        let options = &self.options;
        let mut left_out: HashSet<Vec<u8>> = options.own.iter().cloned().collect();
        let marks = engine_marks::find(
            options.volumes.iter().cloned().chain(self.mounted.iter().map(|mount| mount.path.clone())),
            &left_out,
            Time { seconds: options.container_created.0, nanoseconds: options.container_created.1 },
            |path| below::facts(&self.root, path),
        );
        left_out.extend(marks.added);
        for mount in &self.mounted {
            if let Some(reason) = &mount.failure {
                self.replies.send(&PackerReply::Skipped { path: mount.path.clone(), reason: reason.clone() })?;
                left_out.insert(mount.path.clone());
            }
        }
        let view = list::View { left_out, stamped: marks.stamped, stamp: options.image_created };
        let entries = list::list(&self.root, &view, &mut self.replies)?;
        self.replies.send(&PackerReply::Listed { entries })
    }
}

/// Bytes of one data frame: large enough for the speed of the socket, small enough to stay in the processor's cache.
const CHUNK: usize = 256 << 10;
const _: () = assert!(CHUNK < MAX_FRAME);

/// The way out: frames, buffered until [`Replies::flush`].
struct Replies<W: Write> {
    out: BufWriter<W>,
    message: Vec<u8>,
}

impl<W: Write> Replies<W> {
    fn new(output: W) -> Self {
        Replies { out: BufWriter::with_capacity(64 << 10, output), message: vec![] }
    }

    fn send(&mut self, reply: &PackerReply) -> Result<(), PackerError> {
        self.message.clear();
        put_message(&mut self.message, reply);
        self.out.write_all(&self.message).map_err(PackerError::Output)
    }

    /// Sends up to [`CHUNK`] bytes of a file.
    fn data(&mut self, bytes: &[u8]) -> Result<(), PackerError> {
        let header = data_header(bytes.len());
        self.out.write_all(&header).and_then(|()| self.out.write_all(bytes)).map_err(PackerError::Output)
    }

    fn flush(&mut self) -> Result<(), PackerError> {
        self.out.flush().map_err(PackerError::Output)
    }
}

#[cfg(test)]
mod tests;
