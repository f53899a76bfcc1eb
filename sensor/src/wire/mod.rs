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

mod monitor;
mod packer;

use serde::{Serialize, de::DeserializeOwned};

pub use self::monitor::{Access, Control, Counters, EndReason, Fanotify, Listener, Record, Sense, Senses};
pub use self::packer::{Entry, Kind, PackerReply, PackerRequest, PackerSetup, Xattr};

/// The version of this format; the first field of each hello.
pub const VERSION: u16 = 4;
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
