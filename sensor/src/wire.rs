//! What the injected program and the controller say to each other.
//!
//! Both ends are the same executable, so there is no negotiation: [`VERSION`] is sent first and a difference is an
//! error (an old `slim` talking to a new one through a stale mount, never a supported combination).
//!
//! A stream is a sequence of frames: a length (`u32`, little endian, of what follows), one tag byte, the payload. A
//! [`MESSAGE`] frame holds one [postcard](https://postcard.jamesmunns.com/wire-format) encoded value; a [`DATA`] frame
//! holds raw bytes of a file. Frames are bounded by [`MAX_FRAME`]: whoever controls a container could write anything
//! here, so a reader never allocates what a length merely claims beyond that.
//!
//! [`FrameReader`] is a pure function over bytes (feed it chunks of any size, take frames out); the I/O is elsewhere.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of this format; the first field of each hello.
pub const VERSION: u16 = 1;
/// Largest payload of a frame. A path is at most 4,096 bytes, an extended attribute 64 KiB: 1 MiB is plenty.
pub const MAX_FRAME: usize = 1 << 20;
/// Tag of a frame that holds an encoded message.
pub const MESSAGE: u8 = 0;
/// Tag of a frame that holds raw bytes.
pub const DATA: u8 = 1;

/// What can be wrong with a stream of frames.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A length over [`MAX_FRAME`] or of zero.
    #[error("a frame claims {0} bytes")]
    Length(usize),
    /// A tag that is neither [`MESSAGE`] nor [`DATA`].
    #[error("a frame has the unknown tag {0}")]
    Tag(u8),
    /// The payload is not the expected message.
    #[error("a message cannot be decoded: {0}")]
    Decode(postcard::Error),
    /// The other kind of frame was expected.
    #[error("expected a {0} frame")]
    Kind(&'static str),
}

/// One frame, borrowed from the reader's buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An encoded message.
    Message(&'a [u8]),
    /// Raw bytes.
    Data(&'a [u8]),
}

impl Frame<'_> {
    /// Decodes a message frame.
    ///
    /// # Errors
    /// [`WireError::Kind`] for a data frame, [`WireError::Decode`] where the bytes are no such message.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        match self {
            Frame::Message(bytes) => decode(bytes),
            Frame::Data(_) => Err(WireError::Kind("message")),
        }
    }
}

/// Decodes one message; all bytes must be used.
///
/// # Errors
/// [`WireError::Decode`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(WireError::Decode(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(WireError::Decode(error)),
    }
}

/// Appends a message frame to `out`.
///
/// # Panics
/// Never in practice: our messages hold only what postcard can encode.
pub fn put_message<T: Serialize>(out: &mut Vec<u8>, message: &T) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, MESSAGE]);
    let buffer = postcard::to_extend(message, std::mem::take(out)).unwrap_or_default();
    *out = buffer;
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The header of a data frame of `length` bytes; the bytes follow it on the wire.
#[must_use]
pub fn data_header(length: usize) -> [u8; 5] {
    debug_assert!(length < MAX_FRAME);
    let [a, b, c, d] = (u32::try_from(length).unwrap_or(u32::MAX) + 1).to_le_bytes();
    [a, b, c, d, DATA]
}

/// Takes frames out of a stream that arrives in chunks.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameReader {
    /// Adds the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start > MAX_FRAME) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a complete frame is there.
    ///
    /// # Errors
    /// As [`FrameReader::next_frame`].
    pub fn has_frame(&self) -> Result<bool, WireError> {
        Ok(self.frame_length()?.is_some())
    }

    /// The length of the next frame, from its tag on, once all of it is there.
    fn frame_length(&self) -> Result<Option<usize>, WireError> {
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.first_chunk::<5>() else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(WireError::Length(length));
        }
        if head[4] > DATA {
            return Err(WireError::Tag(head[4]));
        }
        Ok((rest.len() >= 4 + length).then_some(length))
    }

    /// The next complete frame, `None` until more bytes are fed.
    ///
    /// # Errors
    /// [`WireError::Length`] or [`WireError::Tag`]: the stream is not ours, or was damaged; nothing after it can be trusted.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let Some(length) = self.frame_length()? else { return Ok(None) };
        let tag = self.start + 4;
        self.start = tag + length;
        let payload = &self.buffer[tag + 1..self.start];
        Ok(Some(if self.buffer[tag] == MESSAGE { Frame::Message(payload) } else { Frame::Data(payload) }))
    }

    /// Whether bytes of an unfinished frame are left: at the end of a stream that means it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.start < self.buffer.len()
    }
}

// ---- packer ------------------------------------------------------------------------------------------------------

/// What kind of file a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// Controller → packer, first of all: what it has to know of its container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackerSetup {
    /// Absolute paths that slim put in, with everything below them: not the image's.
    #[serde(with = "paths")]
    pub own: Vec<Vec<u8>>,
    /// When the container was created, by the engine's clock: seconds since 1970 and nanoseconds.
    pub container_created: (i64, u32),
    /// When the image was created, in seconds since 1970.
    pub image_created: i64,
    /// Directories that the engine makes where the image has none: VOLUMEs and the working directory.
    #[serde(with = "paths")]
    pub made_by_engine: Vec<Vec<u8>>,
}

/// Controller → packer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackerRequest {
    /// List the whole tree; answered by [`PackerReply::Entry`] for each, parents first, then [`PackerReply::Listed`].
    List,
    /// Send the content of files, one after the other, each as data frames and [`PackerReply::Hole`]s, closed by
    /// [`PackerReply::FileEnd`].
    Read {
        /// Absolute paths; no component may be a symbolic link (paths come from the listing).
        #[serde(with = "paths")]
        paths: Vec<Vec<u8>>,
        /// At most so many bytes of each, from the beginning.
        limit: u64,
    },
}

/// Packer → controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackerReply {
    /// The first message: the packer runs, and speaks our version.
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// One entry of the tree.
    Entry(Entry),
    /// What cannot be in a layer (a socket) or could not be read; told to the user.
    Skipped {
        /// Absolute path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Why, in words.
        reason: String,
    },
    /// The listing is complete.
    Listed {
        /// How many [`PackerReply::Entry`] were sent.
        entries: u32,
    },
    /// So many zero bytes come here.
    Hole {
        /// In bytes.
        length: u64,
    },
    /// The file that was being sent is complete; `error` says that it could not be read (to its end).
    FileEnd {
        /// In words, with the system's reason.
        error: Option<String>,
    },
}

/// One entry of an image's tree, as the packer lists it. Entries are numbered in the order they are sent, from 0, the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the directory it is in; the root is its own parent.
    pub parent: u32,
    /// The last component of its path; empty for the root.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky (`07777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970, negative before.
    pub mtime: i64,
    /// The rest of the modification time, in nanoseconds.
    pub mtime_nanoseconds: u32,
    /// Bytes, for regular files; 0 otherwise.
    pub size: u64,
    /// Major and minor number of a device; zeros otherwise.
    pub device: (u32, u32),
    /// The same number for all names of one file, where it has more than one.
    pub link_group: Option<u64>,
    /// Where a symbolic link points.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// With its name space, such as `security.capability`.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Any bytes.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// Lists of byte strings, each as one run of bytes rather than a sequence of numbers.
mod paths {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| serde_bytes::Bytes::new(path)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<serde_bytes::ByteBuf>::deserialize(deserializer)?.into_iter().map(serde_bytes::ByteBuf::into_vec).collect())
    }
}

// ---- monitor -----------------------------------------------------------------------------------------------------

/// How a path was used. The order is from the weakest use to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Looked up by name: the stat and access families, extended attributes, `O_PATH`, watches.
    Lookup,
    /// `readlink` and `readlinkat`.
    ReadLink,
    /// Made the working directory or the root.
    Enter,
    /// Opened as a directory (`O_DIRECTORY`), to be listed.
    List,
    /// Created, removed, renamed, or its metadata changed.
    Change,
    /// Opened for writing.
    Write,
    /// Opened for reading.
    Open,
    /// Executed.
    Exec,
}

/// Which of the two senses saw a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// The system call's arguments: the path as the process wrote it, existing or not.
    Notify,
    /// The kernel's open: the path as resolved, also where the kernel opened it by itself.
    Fanotify,
}

/// What fanotify can see in this container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fanotify {
    /// The whole file system of the root, in any mount namespace.
    Filesystem,
    /// Only the root's mount (its file system is shared with the host).
    Mount,
    /// Nothing, for this reason.
    Refused(String),
    /// Nothing, because it was not asked for.
    Off,
}

/// Monitor → controller, in the order in which things happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The first record.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// What the second sense sees.
        fanotify: Fanotify,
    },
    /// A program in a process that later records name by `id`.
    Process {
        /// Numbered from 1.
        id: u32,
        /// In the container's pid namespace.
        pid: i32,
        /// Parent process.
        parent: i32,
        /// The session (the stub) that it belongs to; 0 where unknown.
        session: u32,
        /// The executable, as the kernel names it.
        #[serde(with = "serde_bytes")]
        executable: Vec<u8>,
        /// The command line, cut to 4,096 bytes, words ended by NUL.
        #[serde(with = "serde_bytes")]
        command: Vec<u8>,
    },
    /// The first use of a path in this way by a program (uses are told once for each program, way and path).
    Path {
        /// The process that was seen first.
        process: u32,
        /// How.
        access: Access,
        /// By which sense.
        sense: Sense,
        /// The process's root directory where that is not `/`.
        #[serde(with = "serde_bytes")]
        root: Vec<u8>,
        /// The directory that `path` starts from where it is relative.
        #[serde(with = "serde_bytes")]
        base: Vec<u8>,
        /// As the process wrote it.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// The controller's phase with this number begins here.
    Phase(u32),
    /// The sockets on which processes of the container listen have changed; all of them.
    Listening(Vec<Listener>),
    /// A stub has connected and is now observed.
    Session {
        /// Numbered from 1.
        session: u32,
        /// The name that the controller gave it.
        name: String,
        /// In the container's pid namespace.
        pid: i32,
    },
    /// The first process of a session ends; all that it did has been told.
    SessionEnd {
        /// Which.
        session: u32,
        /// Its exit status, where it ended by itself; `None`: its listener was closed (a signal, or the last thread's exit).
        status: Option<i32>,
        /// The stub itself ended: it could not start the program.
        start_failed: bool,
    },
    /// Something about this kernel or container that is no loss; in words.
    Note(String),
    /// Signals that would have an effect on the container's first process now: those that it catches or has blocked.
    /// The kernel drops all others (but SIGKILL and SIGSTOP from outside) before a pid namespace's first process. Bit 0 is
    /// signal 1.
    Signals(u64),
    /// Evidence was lost; in words.
    Lost(String),
    /// The last record. What comes later than this was not asked for.
    End {
        /// Why it ends.
        reason: EndReason,
        /// What went through.
        counters: Counters,
        /// Numbers of the system calls that were trapped, ascending; the hot set is not among them.
        syscalls: Vec<u32>,
    },
}

/// Why the observation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The target ended by itself.
    TargetExit,
    /// The controller asked for it.
    Asked,
}

/// What the monitor counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// System calls that were trapped.
    pub received: u64,
    /// Those whose arguments were read (also where the process passed a bad pointer).
    pub resolved: u64,
    /// Events of fanotify.
    pub opens: u64,
    /// Events of either sense that could not be told.
    pub lost: u64,
}

/// A socket on which a process of the container listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// TCP port.
    pub port: u16,
    /// The address it is bound to.
    pub address: std::net::IpAddr,
    /// Process that holds it, in the container's pid namespace.
    pub pid: i32,
}

/// Controller → monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// A new phase begins; answered by [`Record::Phase`] in the stream.
    Phase(u32),
    /// Drain, say [`Record::End`], go on watching until killed.
    End,
    /// Answer [`Record::Signals`].
    Signals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_chunking() {
        let record = Record::Path {
            process: 7,
            access: Access::Open,
            sense: Sense::Notify,
            root: vec![],
            base: b"/srv".to_vec(),
            path: b"a\xff\n".to_vec(),
        };
        let mut stream = Vec::new();
        put_message(&mut stream, &record);
        stream.extend_from_slice(&data_header(3));
        stream.extend_from_slice(b"xyz");
        put_message(&mut stream, &Record::Phase(2));
        for size in 1..stream.len() {
            let mut reader = FrameReader::default();
            let (mut records, mut data) = (vec![], vec![]);
            for chunk in stream.chunks(size) {
                reader.feed(chunk);
                while let Some(frame) = reader.next_frame().expect("frame") {
                    match frame {
                        Frame::Message(bytes) => records.push(decode::<Record>(bytes).expect("record")),
                        Frame::Data(bytes) => data.extend_from_slice(bytes),
                    }
                }
            }
            assert_eq!(records, [record.clone(), Record::Phase(2)]);
            assert_eq!(data, b"xyz");
            assert!(!reader.is_cut());
        }
    }

    #[test]
    fn damage_is_an_error() {
        let mut reader = FrameReader::default();
        reader.feed(&[0xff, 0xff, 0xff, 0xff, 0]);
        assert_eq!(reader.next_frame(), Err(WireError::Length(0xffff_ffff)));
        let mut reader = FrameReader::default();
        reader.feed(&[2, 0, 0, 0, 9, 0]);
        assert_eq!(reader.next_frame(), Err(WireError::Tag(9)));
        assert!(decode::<Record>(&[0xff, 1, 2]).is_err());
        let mut stream = Vec::new();
        put_message(&mut stream, &Record::Phase(2));
        let mut reader = FrameReader::default();
        reader.feed(&stream[..stream.len() - 1]);
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.is_cut());
    }
}
