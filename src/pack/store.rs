//! A packed image on its way into files: its layer, compressed, in a temporary file; all else in memory.
//!
//! The layer is read and compressed once, however many files are written from it: packer, layer, compressor, file, with a
//! digest of both sides of the compressor. The temporary file has no name, so nothing of it stays, however we end.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use super::archive::Packed;
use super::compression::{Compression, Compressor};
use super::layer::{Layer, LayerWriter};
use super::layout::{self, Descriptor};
use super::load::{LoadError, fill};
use super::{PackError, digest, digest_of};
use crate::image::config::ImageConfig;
use crate::image::read_files::ReadFiles;
use crate::image::tree::Tree;
use crate::plan::Plan;

/// See the module.
#[derive(Debug)]
pub struct Stored {
    /// The image.
    pub packed: Packed,
    /// Its compressed layer.
    pub blob: Blob,
    /// Its configuration.
    pub(super) config: ImageConfig,
    /// The content of the blob.
    pub(super) file: File,
}

/// A compressed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// How it is compressed.
    pub compression: Compression,
    /// Digest of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
}

/// What makes writing end early, when its owner goes.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// Cancels when it is dropped.
#[derive(Debug)]
pub struct CancelGuard(Cancel);

impl Cancel {
    /// Who holds this lets the work go on.
    #[must_use]
    pub fn guard(&self) -> CancelGuard {
        CancelGuard(self.clone())
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A writer that fails when it is cancelled.
pub(super) struct Cancellable<'a, W> {
    pub(super) out: W,
    pub(super) cancel: &'a Cancel,
}

impl<W: Write> Write for Cancellable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cancel.check()?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Stored {
    /// Packs what `plan` keeps of `tree` into a temporary file in `folder`, with bytes from `files`.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn make(
        tree: &Tree,
        plan: &Plan,
        files: &mut dyn ReadFiles,
        compression: Compression,
        folder: &Path,
        cancel: &Cancel,
        config: impl FnOnce(&Digest) -> ImageConfig,
    ) -> Result<Stored, LoadError> {
        let file = tempfile::tempfile_in(folder).map_err(PackError::from)?;
        let out = Cancellable { out: io::BufWriter::with_capacity(1 << 20, &file), cancel };
        let (packed, blob, config) = write(tree, plan, files, compression, out, config)?;
        Ok(Stored { packed, blob, config, file })
    }

    /// The digest of OCI's manifest.
    ///
    /// # Errors
    /// None that can happen: it is written in memory.
    pub fn manifest_digest(&self) -> io::Result<Digest> {
        Ok(digest_of(&self.manifest()?))
    }

    /// OCI's manifest.
    pub(super) fn manifest(&self) -> io::Result<Vec<u8>> {
        Ok(layout::manifest(&self.config.to_json(), self.blob.descriptor())?)
    }
}

impl Blob {
    fn descriptor(&self) -> Descriptor {
        layout::descriptor(self.compression.media_type(), self.digest.clone(), self.size)
    }
}

/// Packs what `plan` keeps of `tree`, and writes the compressed layer.
///
/// # Errors
/// [`LoadError`]
pub fn write(
    tree: &Tree,
    plan: &Plan,
    files: &mut dyn ReadFiles,
    compression: Compression,
    out: impl Write,
    config: impl FnOnce(&Digest) -> ImageConfig,
) -> Result<(Packed, Blob, ImageConfig), LoadError> {
    let layer = Layer::new(tree, plan)?;
    let hashing = Hashing { out, hasher: Sha256::new(), size: 0 };
    let compressor = Compressor::new(compression, hashing).map_err(PackError::from)?;
    let mut writer = LayerWriter::new(&layer, compressor)?;
    fill(tree, &layer, files, &mut writer)?;
    let (compressor, diff_id) = writer.finish()?;
    let mut hashing = compressor.finish().map_err(PackError::from)?;
    hashing.flush().map_err(PackError::from)?;
    let config = config(&diff_id);
    let id = digest_of(&config.to_json());
    let blob = Blob { compression, digest: digest(hashing.hasher), size: hashing.size };
    Ok((Packed { id, diff_id, layer_size: layer.size(), content_size: layer.content_size() }, blob, config))
}

/// Hashes and counts what goes through.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
