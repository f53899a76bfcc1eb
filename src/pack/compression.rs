//! How the layer of a file is compressed: what can be asked for, and the writer that does it.
//!
//! Of all ways the bytes depend on the content, the way and its level alone, not on the number of processors: gzip is cut
//! into blocks (see the module `gzip`), and zstd always uses its own workers, of which one makes the same bytes as many, but
//! none others.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread::available_parallelism;

use super::gzip::GzipWriter;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Of this level, from 1 to 9. Everything takes it.
    Gzip(u32),
    /// Of this level, from 1 to 22. Smaller and faster; Docker takes it from version 23 on.
    Zstd(i32),
    /// Not at all.
    None,
}

/// What is wrong with a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a compression is `gzip`, `zstd` or `none`; a level follows after a colon, from 1 to 9 for gzip, to 22 for zstd")]
pub struct CompressionError;

impl Default for Compression {
    fn default() -> Self {
        Compression::Gzip(6)
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| CompressionError)?)),
            None => (text, None),
        };
        match (name, level) {
            ("gzip", None) => Ok(Compression::default()),
            ("gzip", Some(level @ 1..=9)) => Ok(Compression::Gzip(level.into())),
            ("zstd", None) => Ok(Compression::Zstd(3)),
            ("zstd", Some(level @ 1..=22)) => Ok(Compression::Zstd(level.into())),
            ("none", None) => Ok(Compression::None),
            _ => Err(CompressionError),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Gzip(level) => write!(f, "gzip:{level}"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
            Compression::None => f.write_str("none"),
        }
    }
}

impl Compression {
    /// The media type of a layer in OCI's manifests.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// Compresses what is written to it; [`Compressor::finish`] ends the stream.
pub(super) enum Compressor<W: Write> {
    Gzip(GzipWriter<W>),
    Zstd(zstd::Encoder<'static, W>),
    None(W),
}

impl<W: Write> Compressor<W> {
    /// On all processors.
    pub(super) fn new(compression: Compression, out: W) -> io::Result<Self> {
        Compressor::with_threads(compression, out, available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    fn with_threads(compression: Compression, out: W, threads: NonZeroUsize) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip(level) => Compressor::Gzip(GzipWriter::new(out, level, threads)?),
            Compression::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(out, level)?;
                encoder.multithread(u32::try_from(threads.get()).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                Compressor::Zstd(encoder)
            }
            Compression::None => Compressor::None(out),
        })
    }

    /// Ends the stream, and gives back the output.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Compressor::Gzip(writer) => writer.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
            Compressor::None(out) => Ok(out),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::Gzip(writer) => writer.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
            Compressor::None(out) => out.write(bytes),
        }
    }

    /// Nothing: a flush in the middle would change what comes of the rest.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        for (text, compression) in [
            ("gzip", Compression::Gzip(6)),
            ("gzip:9", Compression::Gzip(9)),
            ("zstd", Compression::Zstd(3)),
            ("zstd:22", Compression::Zstd(22)),
            ("none", Compression::None),
        ] {
            assert_eq!(text.parse(), Ok(compression));
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
        for text in ["", "gzip:", "gzip:0", "gzip:10", "gzip:-1", "zstd:23", "none:1", "xz", "GZIP", "gzip:6:6"] {
            assert_eq!(text.parse::<Compression>(), Err(CompressionError), "{text}");
        }
    }

    #[test]
    fn threads_do_not_change_the_bytes() {
        // More than zstd gives to one of its workers.
        let content: Vec<u8> =
            (0..3_000_000_u32).flat_map(|number| (number / 3).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compression in [Compression::Gzip(6), Compression::Zstd(3), Compression::Zstd(1), Compression::None] {
            let bytes = |threads| {
                let threads = NonZeroUsize::new(threads).unwrap();
                let mut compressor = Compressor::with_threads(compression, vec![], threads).unwrap();
                content.chunks(threads.get() * 10_000).for_each(|piece| compressor.write_all(piece).unwrap());
                compressor.finish().unwrap()
            };
            let expected = bytes(1);
            assert!([2, 4].into_iter().all(|threads| bytes(threads) == expected), "{compression}");
            assert_eq!(expected == content, compression == Compression::None);
            if let Compression::Zstd(_) = compression {
                assert!(zstd::decode_all(&expected[..]).unwrap() == content);
            }
        }
    }
}
