//! From a layer's blob to the bytes of its archive: told by its first bytes, decompressed ahead in a thread of its own,
//! verified as the bytes pass.
//!
//! A media type is only a claim, the first bytes are what a decompressor sees. Gzip may have many members (estargz has one for
//! each file). A [`LayerStream`] that was read to its end without an error had the digests that were expected, and
//! stayed within its [`Budget`].

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::image::digest::digest;

/// Bytes that are decompressed at once.
const CHUNK: usize = 512 << 10;
/// Chunks that may wait for the reader.
const AHEAD: usize = 8;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Gzip, of one or more members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What is wrong with a layer's blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A way of compression that no layer has.
    #[error("it is compressed with {0}, which is not a way to compress layers: use gzip or zstd")]
    Compression(&'static str),
    /// The digest.
    #[error("the {what} is `{found}`, but should be `{expected}`: the image is damaged, copy or save it again")]
    Digest {
        /// Which digest.
        what: &'static str,
        /// As the image says.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// Too much.
    #[error("the image has more than {} MB unpacked: allow more with `--max-unpacked-size`", .0 / 1_000_000)]
    TooLarge(u64),
}

impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> io::Error {
        io::Error::other(error)
    }
}

impl Compression {
    /// Told by the first bytes of a stream.
    ///
    /// # Errors
    /// [`LayerError::Compression`], where it is one that we know but do not read.
    pub fn of(first: &[u8]) -> Result<Compression, LayerError> {
        match first {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            // A frame, or one of the skippable frames that may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', ..] => Err(LayerError::Compression("bzip2")),
            [0xfd, b'7', b'z', b'X', ..] => Err(LayerError::Compression("xz")),
            _ => Ok(Compression::None),
        }
    }
}

/// The bytes of a stream, decompressed if it is compressed.
///
/// # Errors
/// Those of the stream, and [`LayerError::Compression`].
pub fn decompressed(stream: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let (compression, stream) = begin(stream)?;
    decoder(compression, stream)
}

/// How a stream is compressed, and all of it.
fn begin<R: Read>(mut stream: R) -> io::Result<(Compression, impl Read + use<R>)> {
    let mut first = vec![];
    stream.by_ref().take(4).read_to_end(&mut first)?;
    let compression = Compression::of(&first)?;
    Ok((compression, io::Cursor::new(first).chain(stream)))
}

fn decoder(compression: Compression, stream: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    // Who reads more at a time than this holds reads past it.
    let stream = BufReader::with_capacity(CHUNK / 2, stream);
    Ok(match compression {
        Compression::None => Box::new(stream),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
    })
}

/// How many bytes may still be unpacked; shared by the layers of an image.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    left: AtomicU64,
}

impl Budget {
    /// So many bytes in all.
    #[must_use]
    pub fn new(limit: u64) -> Budget {
        Budget { limit, left: AtomicU64::new(limit) }
    }

    /// Takes bytes off.
    ///
    /// # Errors
    /// [`LayerError::TooLarge`], where there are not so many left.
    pub fn take(&self, bytes: u64) -> Result<(), LayerError> {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(drop).map_err(|_| LayerError::TooLarge(self.limit))
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    told: SyncSender<String>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        if read == 0 && !buffer.is_empty() {
            // Nobody waits for it where the stream was not expected to have a digest.
            let _ = self.told.try_send(digest(self.hasher.clone()));
        }
        Ok(read)
    }
}

/// What a layer should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Digest of the blob as it is stored, where that is known.
    pub digest: Option<String>,
    /// Digest of the archive in it, where that is known.
    pub diff_id: Option<String>,
}

/// The archive in a layer's blob; see the module.
#[derive(Debug)]
pub struct LayerStream {
    chunks: Receiver<io::Result<Chunk>>,
    chunk: Chunk,
    position: usize,
    /// What was read goes back, to be filled again.
    spent: Sender<Vec<u8>>,
}

/// Room for [`CHUNK`] bytes, of which some are there.
#[derive(Debug, Default)]
struct Chunk {
    room: Vec<u8>,
    length: usize,
}

impl LayerStream {
    /// Begins to read `blob`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn open(blob: impl Read + Send + 'static, expected: Expected, budget: Arc<Budget>) -> io::Result<LayerStream> {
        let (sender, chunks) = sync_channel(AHEAD);
        let (spent, room) = channel();
        let read = move || {
            if let Err(error) = pump(blob, &expected, &budget, &sender, &room) {
                // Who stopped reading does not want to know.
                let _ = sender.send(Err(error));
            }
        };
        std::thread::Builder::new().name("decompress".to_owned()).spawn(read)?;
        Ok(LayerStream { chunks, chunk: Chunk::default(), position: 0, spent })
    }

    /// Reads the rest, so that the digests are verified.
    ///
    /// # Errors
    /// Those of the stream, [`LayerError`].
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

fn pump(
    blob: impl Read + Send + 'static,
    expected: &Expected,
    budget: &Budget,
    sender: &SyncSender<io::Result<Chunk>>,
    spent: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let (told, digests) = sync_channel(1);
    let (compression, blob) = begin(blob)?;
    // Hashing is half of all work here: a blob that is not compressed has the digest of its archive, and one of which no
    // digest is told need have none.
    let is_hashed = compression != Compression::None && expected.digest.is_some();
    let mut stream = match is_hashed {
        true => decoder(compression, Hashing { inner: blob, hasher: Sha256::new(), told })?,
        false => decoder(compression, blob)?,
    };
    let mut hasher = Sha256::new();
    loop {
        let mut room = spent.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let length = fill(&mut stream, &mut room)?;
        if length == 0 {
            break;
        }
        budget.take(length as u64)?;
        hasher.update(&room[..length]);
        if sender.send(Ok(Chunk { room, length })).is_err() {
            return Ok(());
        }
    }
    let of_archive = digest(hasher);
    verify("digest of a layer's archive (its diffID)", expected.diff_id.as_deref(), || of_archive.clone())?;
    // A decompressor is done before the end of the file was seen; nothing may follow.
    let found = || if is_hashed { digests.recv().unwrap_or_else(|_| "cut off".to_owned()) } else { of_archive.clone() };
    verify("digest of a layer", expected.digest.as_deref(), found)
}

/// Reads until the room is full or the stream ends.
fn fill(stream: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < room.len() {
        match stream.read(&mut room[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn verify(what: &'static str, expected: Option<&str>, found: impl FnOnce() -> String) -> io::Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let found = found();
    if found == expected { Ok(()) } else { Err(LayerError::Digest { what, expected: expected.to_owned(), found }.into()) }
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.length {
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            let Chunk { room, .. } = std::mem::replace(&mut self.chunk, chunk?);
            self.position = 0;
            if !room.is_empty() {
                // Nobody wants it back at the end.
                let _ = self.spent.send(room);
            }
        }
        let rest = &self.chunk.room[self.position..self.chunk.length];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::image::digest::digest_of;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn digest(bytes: &[u8]) -> String {
        digest_of(bytes)
    }

    fn read(blob: Vec<u8>, expected: Expected, limit: u64) -> Result<Vec<u8>, String> {
        let mut stream = LayerStream::open(io::Cursor::new(blob), expected, Arc::new(Budget::new(limit))).unwrap();
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    #[test]
    fn told_by_the_first_bytes_and_verified() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let members = [gzip(&content[..1000]), gzip(&content[1000..])].concat();
        let zstd = zstd::encode_all(&content[..], 1).unwrap();
        for blob in [content.clone(), gzip(&content), members, zstd] {
            let expected = Expected { digest: Some(digest(&blob)), diff_id: Some(digest(&content)) };
            assert!(read(blob.clone(), expected.clone(), 1 << 30).unwrap() == content);
            let wrong = Expected { digest: Some(digest(b"")), ..expected.clone() };
            let said = read(blob.clone(), wrong, 1 << 30).unwrap_err();
            assert_eq!(
                said,
                format!(
                    "the digest of a layer is `{}`, but should be `{}`: the image is damaged, copy or save it again",
                    digest(&blob),
                    digest(b"")
                )
            );
            let wrong = Expected { diff_id: Some(digest(b"")), ..expected };
            assert!(read(blob.clone(), wrong, 1 << 30).unwrap_err().contains("diffID"));
            assert!(read(blob, Expected::default(), 1000).unwrap_err().contains("--max-unpacked-size"));
        }
    }

    #[test]
    fn what_is_cut_damaged_or_foreign() {
        let whole = gzip(&[7; 100_000]);
        assert!(read(whole[..whole.len() - 9].to_vec(), Expected::default(), 1 << 30).is_err());
        assert!(read([&whole[..], b"garbage"].concat(), Expected::default(), 1 << 30).is_err());
        let zstd = zstd::encode_all(&[7; 100_000][..], 1).unwrap();
        assert!(read(zstd[..zstd.len() - 3].to_vec(), Expected::default(), 1 << 30).is_err());
        for (first, name) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0", "xz")] {
            assert!(read(first.to_vec(), Expected::default(), 1 << 30).unwrap_err().contains(name));
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        // 1 GiB of zeros in 1 MiB, and nobody who reads it to the end.
        let bomb: Vec<u8> = std::iter::repeat_n(gzip(&vec![0; 32 << 20]), 32).flatten().collect();
        let said = read(bomb, Expected::default(), 10 << 20).unwrap_err();
        assert_eq!(said, "the image has more than 10 MB unpacked: allow more with `--max-unpacked-size`");
    }
}
