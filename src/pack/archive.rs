//! The archive that `docker load` takes: an uncompressed docker-archive, streamed.
//!
//! The layer comes first, so that it is written while it is read from the source image; configuration and manifest
//! follow when its digest is known. For the same reason the layer's member has a fixed name, while the configuration's
//! is its digest, which is the image's id.

use std::io::{self, Read, Write};

use oci_spec::image::Digest;

use super::PackError;
use super::header::{self, BLOCK, Body, Member};
use super::layer::{Layer, LayerWriter};
use super::layout::{DOCKER_MANIFEST, docker_manifest};
use crate::image::config::ImageConfig;

const LAYER: &str = "layer.tar";

/// Writes an image of one layer.
#[derive(Debug)]
pub struct ArchiveWriter<'l, W> {
    layer: LayerWriter<'l, W>,
    layer_size: u64,
    content_size: u64,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Digest of the configuration.
    pub id: Digest,
    /// Digest of the layer.
    pub diff_id: Digest,
    /// Bytes of the layer.
    pub layer_size: u64,
    /// Bytes of the contents of its files: what Docker calls the size of an image.
    pub content_size: u64,
}

impl<'l, W: Write> ArchiveWriter<'l, W> {
    /// Begins to write an image with `layer` to `out`.
    ///
    /// # Errors
    /// [`PackError::Write`].
    pub fn new(layer: &'l Layer<'l>, mut out: W) -> Result<Self, PackError> {
        out.write_all(&member(LAYER, layer.size())?)?;
        Ok(ArchiveWriter { layer: LayerWriter::new(layer, out)?, layer_size: layer.size(), content_size: layer.content_size() })
    }

    /// Where the contents of the layer's files go.
    pub fn layer(&mut self) -> &mut LayerWriter<'l, W> {
        &mut self.layer
    }

    /// Ends the archive with the configuration that `config` makes for the layer's digest. Without `tags` the image is
    /// loaded without a name.
    ///
    /// # Errors
    /// [`PackError::Content`] where a file is missing, [`PackError::Write`].
    pub fn finish(self, tags: &[String], config: impl FnOnce(&Digest) -> ImageConfig) -> Result<(W, Packed), PackError> {
        let (mut out, diff_id) = self.layer.finish()?;
        write_zeros(&mut out, header::padding(self.layer_size))?;
        let config = config(&diff_id).to_json();
        let id = super::digest_of(&config);
        let name = format!("{}.json", id.digest());
        write_member(&mut out, &name, config.len() as u64, &config[..])?;
        let manifest = docker_manifest(&name, tags, LAYER).map_err(io::Error::from)?;
        write_member(&mut out, DOCKER_MANIFEST, manifest.len() as u64, &manifest[..])?;
        write_end(&mut out)?;
        out.flush()?;
        Ok((out, Packed { id, diff_id, layer_size: self.layer_size, content_size: self.content_size }))
    }
}

/// The header of a file in the archive.
fn member(name: &str, size: u64) -> Result<Vec<u8>, PackError> {
    let member = Member { path: name.as_bytes(), body: Body::File(size), mode: 0o644, owner: (0, 0), mtime: (0, 0), xattrs: &[] };
    let mut header = vec![];
    header::append(&mut header, &member).map_err(|reason| PackError::not_representable(name.as_bytes(), reason))?;
    Ok(header)
}

/// Writes a file of an archive, without a time and an owner.
pub(super) fn write_member(out: &mut impl Write, name: &str, size: u64, mut content: impl Read) -> io::Result<()> {
    out.write_all(&member(name, size).map_err(io::Error::other)?)?;
    let written = io::copy(&mut content, out)?;
    if written != size {
        return Err(io::Error::other(format!("`{name}` has {written} bytes, not {size}")));
    }
    write_zeros(out, header::padding(size))
}

/// Ends an archive.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    write_zeros(out, 2 * BLOCK)
}

fn write_zeros(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK][..length])
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::image::config::{self, slim_config};
    use crate::image::tree::fixture;
    use crate::pack::layer::tests::plan;

    fn written(tags: &[String]) -> (Vec<u8>, Packed) {
        let tree = fixture::tree(&["/app size=700", "/empty/"]);
        let layer = Layer::new(&tree, &plan(&["/", "/app", "/empty"])).expect("layer");
        let mut archive = ArchiveWriter::new(&layer, vec![]).expect("archive");
        archive.layer().data(&[b'x'; 700]).expect("data");
        archive.layer().file_end().expect("end");
        let source = config::tests::source();
        archive.finish(tags, |diff_id| slim_config(&source, diff_id, None)).expect("finish")
    }

    #[test]
    fn members_in_the_order_they_become_known() {
        let (bytes, packed) = written(&["app.slim:latest".into()]);
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut members = vec![];
        for entry in archive.entries().expect("archive") {
            let mut entry = entry.expect("entry");
            let header = entry.header();
            assert_eq!((header.mtime().ok(), header.uid().ok(), header.gid().ok()), (Some(0), Some(0), Some(0)));
            let mut content = vec![];
            let name = String::from_utf8(entry.path_bytes().into_owned()).expect("name");
            entry.read_to_end(&mut content).expect("content");
            members.push((name, content));
        }
        let name = format!("{}.json", packed.id.digest());
        let names: Vec<&str> = members.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["layer.tar", &name, "manifest.json"]);
        let sha256 = super::super::digest_of;
        assert_eq!(sha256(&members[0].1), packed.diff_id);
        assert_eq!((members[0].1.len() as u64, 700), (packed.layer_size, packed.content_size));
        assert_eq!(sha256(&members[1].1), packed.id);
        let config: ImageConfig = serde_json::from_slice(&members[1].1).expect("config");
        assert_eq!(config.rootfs.diff_ids(), &[packed.diff_id.to_string()]);
        let expected = format!(r#"[{{"Config":"{name}","RepoTags":["app.slim:latest"],"Layers":["layer.tar"]}}]"#);
        assert_eq!(str::from_utf8(&members[2].1), Ok(&expected[..]));
    }

    #[test]
    fn without_a_name_and_the_same_each_time() {
        let (bytes, packed) = written(&[]);
        assert!(String::from_utf8_lossy(&bytes).contains(r#""RepoTags":null"#));
        assert_eq!(written(&[]), (bytes, packed));
    }
}
