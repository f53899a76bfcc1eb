//! gzip on all processors, with bytes that do not depend on how many there are.
//!
//! The input is cut into blocks of 1 MiB. Each is compressed by itself, knowing nothing of the one before, and ends at a
//! byte (a sync flush), so that the results one after the other are one stream: one member, which every reader takes. It
//! is larger than a single stream by well under one percent, as each block begins without a window.
//!
//! Block N goes to worker N modulo their number, and comes back from there in order. The queues are short: a slow output
//! holds up the input, and memory stays at a few blocks for each worker.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flate2::{Compress, Compression, Crc, FlushCompress};

/// What is compressed at once. The bytes of every archive depend on it.
const BLOCK: usize = 1 << 20;

/// Blocks that a worker may be behind.
const AHEAD: usize = 2;

/// A deflate block that is empty, and the last one.
const END: [u8; 2] = [3, 0];

/// Compresses what is written to it; [`GzipWriter::finish`] ends the stream.
#[derive(Debug)]
pub(super) struct GzipWriter<W> {
    out: W,
    workers: Vec<Worker>,
    block: Vec<u8>,
    checksum: Crc,
    /// Blocks that went to the workers, and those that came back.
    sent: usize,
    received: usize,
}

/// A thread, which ends when it is dropped.
#[derive(Debug)]
struct Worker {
    blocks: SyncSender<Vec<u8>>,
    compressed: Receiver<io::Result<Vec<u8>>>,
}

impl<W: Write> GzipWriter<W> {
    /// Begins a stream; `level` is from 1 to 9.
    pub(super) fn new(mut out: W, level: u32, threads: NonZeroUsize) -> io::Result<Self> {
        // Deflate, no name, no time, and no operating system: what is not there can't differ.
        let speed = match level {
            1 => 4,
            9 => 2,
            _ => 0,
        };
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, speed, 255])?;
        let workers = (0..threads.get()).map(|_| Worker::start(level)).collect::<io::Result<_>>()?;
        Ok(GzipWriter { out, workers, block: Vec::with_capacity(BLOCK), checksum: Crc::new(), sent: 0, received: 0 })
    }

    /// Ends the stream, and gives back the output.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.send()?;
        }
        while self.received < self.sent {
            self.receive()?;
        }
        self.out.write_all(&END)?;
        self.out.write_all(&self.checksum.sum().to_le_bytes())?;
        self.out.write_all(&self.checksum.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent - self.received >= AHEAD * self.workers.len() {
            self.receive()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let worker = self.sent % self.workers.len();
        self.workers[worker].blocks.send(block).map_err(|_| died())?;
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let worker = self.received % self.workers.len();
        let compressed = self.workers[worker].compressed.recv().map_err(|_| died())??;
        self.received += 1;
        self.out.write_all(&compressed)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(BLOCK - self.block.len())];
        self.checksum.update(bytes);
        self.block.extend_from_slice(bytes);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Nothing: a block that is not full yet has to wait, or the bytes would depend on how they came.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn died() -> io::Error {
    io::Error::other("a thread that compresses died")
}

impl Worker {
    fn start(level: u32) -> io::Result<Worker> {
        let (blocks, to_compress) = sync_channel::<Vec<u8>>(AHEAD);
        let (results, compressed) = sync_channel(AHEAD);
        let work = move || {
            let mut stream = Compress::new(Compression::new(level), false);
            for block in to_compress {
                stream.reset();
                if results.send(compress(&mut stream, &block)).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("gzip".to_owned()).spawn(work)?;
        Ok(Worker { blocks, compressed })
    }
}

fn compress(stream: &mut Compress, block: &[u8]) -> io::Result<Vec<u8>> {
    // A flush that finds too little room has to be repeated, and may then leave a second mark.
    const ROOM: usize = 64;
    let mut out = Vec::with_capacity(block.len() / 2 + (64 << 10));
    loop {
        if out.capacity() - out.len() < ROOM {
            out.reserve(BLOCK / 4);
        }
        let done = usize::try_from(stream.total_in()).map_err(io::Error::other)?;
        stream.compress_vec(&block[done..], &mut out, FlushCompress::Sync)?;
        if stream.total_in() == block.len() as u64 && out.len() < out.capacity() {
            return Ok(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compressed(content: &[u8], pieces: usize, level: u32, threads: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(vec![], level, NonZeroUsize::new(threads).unwrap()).unwrap();
        content.chunks(pieces).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    /// Text, numbers and noise: compressible and not.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|at| if at / 5_000 % 3 == 0 { noise() } else { (at / 7 % 50) as u8 }).collect()
    }

    #[test]
    fn it_reads_back_whole_in_one_member() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12_345] {
            for level in [1, 6, 9] {
                let content = content(length);
                let bytes = compressed(&content, 100_000, level, 3);
                let mut read = vec![];
                let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
                decoder.read_to_end(&mut read).unwrap();
                assert!(read == content, "{length} bytes at level {level}");
                assert!(decoder.into_inner().is_empty(), "one member is all there is");
            }
        }
        let noise: Vec<u8> = content(3 * BLOCK).chunks(5_000).step_by(3).flatten().copied().collect();
        assert!(compressed(&noise, 1 << 16, 6, 1).len() < noise.len() + noise.len() / 100);
    }

    #[test]
    fn neither_threads_nor_pieces_change_the_bytes() {
        let content = content(5 * BLOCK + 777);
        let expected = compressed(&content, content.len(), 6, 1);
        for (threads, pieces) in [(1, 1_000), (2, 65_536), (4, 999_999), (7, BLOCK)] {
            assert!(compressed(&content, pieces, 6, threads) == expected, "{threads} threads, pieces of {pieces}");
        }
        assert!(compressed(&content, BLOCK, 9, 2) != expected, "the level does");
    }

    /// A change here gives every file that slim writes another digest: it must be meant.
    #[test]
    fn the_bytes_are_fixed() {
        let digest = |level| super::super::digest_of(&compressed(&content(2 * BLOCK + 5), 1 << 16, level, 2)).to_string();
        assert_eq!(
            [1, 6, 9].map(digest),
            [
                "sha256:34abbcc85b9caf34e3478d27422a55517a0ac5d17a18d20da261a03bdfcd3f89",
                "sha256:1543d136415241a3f5875bc5ba803a59d910164c72b5014016c7897842670639",
                "sha256:ddccd54d048802d48d01344aa77a789e759c60a826d4a7040164946ca275feee",
            ]
        );
    }

    #[test]
    fn an_output_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() == 10 { Ok(10) } else { Err(io::ErrorKind::StorageFull.into()) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = GzipWriter::new(Full, 6, NonZeroUsize::new(2).unwrap()).unwrap();
        let error = writer.write_all(&content(20 * BLOCK)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
