//! Packs a plan and loads the result into an engine, all streamed: files, layer, archive, daemon.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use oci_spec::image::Digest;
use tokio::sync::mpsc;

use super::PackError;
use super::archive::{ArchiveWriter, Packed};
use super::files::write_for_containerd;
use super::layer::{Layer, LayerWriter};
use super::store::Stored;
use crate::engine::docker::Engine;
use crate::engine::error::EngineError;
use crate::engine::kind::Kind;
use crate::image::config::ImageConfig;
use crate::image::read_files::{Piece, ReadError, ReadFiles};
use crate::image::tree::Tree;
use crate::plan::Plan;

/// Why there is no slim image in the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The layer.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The image's bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The engine.
    #[error(transparent)]
    Engine(EngineError),
    /// The engine has no room.
    #[error(
        "the engine has no disk space left for the slim image, which needs {} MB: free some (`{} system prune`), then try again",
        needed.div_ceil(1_000_000),
        kind.command()
    )]
    NoSpace {
        /// Bytes of the layer; the daemon needs that twice while it loads.
        needed: u64,
        /// Which daemon.
        kind: Kind,
    },
    /// A thread panicked.
    #[error("packing was aborted: {0}")]
    Aborted(String),
}

/// Bytes that go to the daemon at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for it.
const AHEAD: usize = 8;

/// Writes into a channel, in chunks.
struct ToEngine {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for ToEngine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.buffer.reserve(CHUNK);
        if chunk.is_empty() {
            return Ok(());
        }
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Packs what `plan` keeps of `tree`, with bytes from `files`, and loads it without a name. `config` makes the
/// configuration when the layer's digest is known. The id that the engine gives it; the files come back for the next image.
///
/// # Errors
/// [`LoadError`]
pub async fn load(
    engine: &Engine,
    tree: Arc<Tree>,
    plan: Arc<Plan>,
    mut files: Box<dyn ReadFiles>,
    config: impl FnOnce(&Digest) -> ImageConfig + Send + 'static,
) -> Result<(Packed, String, Box<dyn ReadFiles>), LoadError> {
    let write = move |out: ToEngine| {
        let packed = write(&tree, &plan, &mut *files, out, config)?;
        Ok((packed.layer_size, (packed, files)))
    };
    let ((packed, files), id) = stream(engine, write).await?;
    let id = id.unwrap_or_else(|| packed.id.to_string());
    Ok((packed, id, files))
}

/// Loads a compressed image without a name into an engine whose images are in containerd, where it stays compressed. The id
/// that the engine gives it: the digest of its manifest.
///
/// # Errors
/// [`LoadError`]
pub async fn load_compressed(engine: &Engine, image: Arc<Stored>) -> Result<String, LoadError> {
    let manifest = image.manifest_digest().map_err(PackError::from)?;
    let write = move |out: ToEngine| {
        write_for_containerd(&image, out).map_err(PackError::from)?;
        Ok((image.packed.layer_size, ()))
    };
    let ((), id) = stream(engine, write).await?;
    Ok(id.unwrap_or_else(|| manifest.to_string()))
}

/// Streams to the engine what `write` writes; with what that gives, beside the bytes that the engine needs, comes the id that
/// the engine tells.
async fn stream<T: Send + 'static>(
    engine: &Engine,
    write: impl FnOnce(ToEngine) -> Result<(u64, T), LoadError> + Send + 'static,
) -> Result<(T, Option<String>), LoadError> {
    let (chunks, mut received) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let abort = chunks.clone();
        let result = write(ToEngine { chunks, buffer: BytesMut::with_capacity(CHUNK) });
        if result.is_err() {
            // Without an error the daemon would take what came as all there is.
            let _ = abort.blocking_send(Err(io::Error::other("packing failed")));
        }
        result
    });
    let archive = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    let (loaded, written) = tokio::join!(engine.load(archive), writing);
    match (written.map_err(|error| LoadError::Aborted(error.to_string()))?, loaded) {
        (Ok((_, made)), Ok(id)) => Ok((made, id)),
        (Ok((needed, _)), Err(EngineError::NoSpace { kind, .. })) => Err(LoadError::NoSpace { needed, kind }),
        // The daemon stopped listening: its own words say why.
        (Err(LoadError::Pack(PackError::Write(_))), Err(error)) | (Ok(_), Err(error)) => Err(LoadError::Engine(error)),
        (Err(error), _) => Err(error),
    }
}

/// Packs what `plan` keeps of `tree`, with bytes from `files`, into an archive without names.
///
/// # Errors
/// [`LoadError`]
pub fn write(
    tree: &Tree,
    plan: &Plan,
    files: &mut dyn ReadFiles,
    out: impl Write,
    config: impl FnOnce(&Digest) -> ImageConfig,
) -> Result<Packed, LoadError> {
    let layer = Layer::new(tree, plan)?;
    let mut archive = ArchiveWriter::new(&layer, out)?;
    fill(tree, &layer, files, archive.layer())?;
    let (_, packed) = archive.finish(&[], config)?;
    Ok(packed)
}

/// Writes the contents of all files of `layer`, with bytes from `files`.
pub(super) fn fill<W: Write>(
    tree: &Tree,
    layer: &Layer<'_>,
    files: &mut dyn ReadFiles,
    writer: &mut LayerWriter<'_, W>,
) -> Result<(), LoadError> {
    let paths: Vec<Vec<u8>> = layer.files().map(|file| tree.path(file)).collect();
    let mut failed = None;
    let read = files.read(&paths, u64::MAX, &mut |piece| {
        let result = match piece {
            Piece::Data(bytes) => writer.data(bytes),
            Piece::Hole(length) => writer.hole(length),
            Piece::End => writer.file_end(),
        };
        result.map_err(|error| {
            let text = error.to_string();
            failed = Some(error);
            text
        })
    });
    match (failed, read) {
        (Some(error), _) => Err(error.into()),
        (None, read) => Ok(read?),
    }
}
