//! What Podman does not tell of an image: its configuration as it is stored, byte for byte, and the mode of its root directory.
//!
//! Docker's daemon tells all of the configuration in its own words. Podman's answer to the same question lacks the health
//! check, `SHELL` and `ONBUILD`, and its containers have a root directory of mode 555, whatever the layers say. Nothing in its API
//! gives them but the image as an archive (`podman save`). So that archive is read, as it comes, until the configuration
//! was there, which is behind the layers. It costs as much as reading the image once, and is done for Podman only.

use std::io::{self, Read};

use futures_util::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::docker::Engine;
use super::error::{EngineError, reason};
use super::kind::Kind;
use crate::image::digest::digits_of;

/// Larger than any configuration.
const LARGEST: u64 = 16 << 20;

/// The mode of a root directory that no layer describes.
const USUAL_ROOT: u16 = 0o755;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// JSON.
    pub config: Vec<u8>,
    /// Permissions of `/`.
    pub root_mode: u16,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum StoredError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("the archive of the image has no configuration `{0}`")]
    Missing(String),
    #[error("the configuration in the archive of the image has another digest than the image's id")]
    Digest,
}

impl Engine {
    /// What is stored of the image with this id, where the engine's own words on it ([`Engine::image`]) leave
    /// something out; else `None`.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn stored(&self, id: &str) -> Result<Option<Stored>, EngineError> {
        if self.kind != Kind::Podman {
            return Ok(None);
        }
        let refused = |reason| EngineError::Refused { action: "tell the configuration of the image".to_owned(), reason };
        let archive = self.docker.export_image(id).map_err(|error| io::Error::other(reason(&error)));
        let archive = SyncIoBridge::new(StreamReader::new(Box::pin(archive)));
        let id = id.to_owned();
        let found = tokio::task::spawn_blocking(move || find(archive, &id)).await;
        let found = found.map_err(|error| refused(error.to_string()))?;
        found.map(Some).map_err(|error| refused(error.to_string()))
    }
}

/// Finds the configuration with the digest `id` in a docker-archive, and the root directory in the layers before it, of which the
/// highest comes last.
fn find(archive: impl Read, id: &str) -> Result<Stored, StoredError> {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    let name = format!("{digits}.json");
    let mut root_mode = USUAL_ROOT;
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        if *entry.path_bytes() != *name.as_bytes() {
            if entry.header().entry_type().is_file() && entry.path_bytes().ends_with(b".tar") {
                root_mode = root_mode_in(entry)?.unwrap_or(root_mode);
            }
            continue;
        }
        let mut config = vec![];
        entry.take(LARGEST).read_to_end(&mut config)?;
        return if digits_of(&config) == digits { Ok(Stored { config, root_mode }) } else { Err(StoredError::Digest) };
    }
    Err(StoredError::Missing(name))
}

/// The mode that a layer gives the root directory. What makes no sense as a layer is not ours to judge.
fn root_mode_in(layer: impl Read) -> io::Result<Option<u16>> {
    let mut found = None;
    for entry in tar::Archive::new(layer).entries()? {
        let Ok(entry) = entry else { break };
        let is_root = matches!(&*entry.path_bytes(), b"./" | b"." | b"/") && entry.header().entry_type().is_dir();
        if is_root && let Ok(mode) = entry.header().mode() {
            found = Some((mode & 0o7777) as u16);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(vec![]);
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn only_what_has_the_digest_of_the_id_is_the_configuration() {
        let digits = digits_of(b"{}");
        let (id, name) = (format!("sha256:{digits}"), format!("{digits}.json"));
        let layer: (&str, &[u8]) = ("layer.tar", &[7; 9000]);
        let good = archive(&[layer, (&name, b"{}"), ("manifest.json", b"[]")]);
        assert_eq!(find(&good[..], &id).unwrap(), Stored { config: b"{}".to_vec(), root_mode: USUAL_ROOT });
        let said = |archive: &[u8]| find(archive, &id).unwrap_err().to_string();
        assert!(said(&archive(&[layer, (&name, b"[]")])).contains("another digest"));
        assert_eq!(said(&archive(&[layer])), format!("the archive of the image has no configuration `{name}`"));
        assert!(matches!(find(&good[..5000], &id), Err(StoredError::Read(_))), "cut off");
    }

    /// Regression: Podman's containers have a root directory of mode 555, and so had the slim image.
    #[test]
    fn the_highest_layer_that_describes_the_root_directory_counts() {
        let layer = |root: Option<(&str, u32)>| {
            let mut layer = tar::Builder::new(vec![]);
            for (path, mode) in [("a/", 0o700)].into_iter().chain(root) {
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(mode);
                header.set_size(0);
                layer.append_data(&mut header, path, &[][..]).unwrap();
            }
            layer.into_inner().unwrap()
        };
        let digits = digits_of(b"{}");
        let name = format!("{digits}.json");
        for (layers, expected) in [
            (&[layer(None)][..], 0o755),
            (&[layer(Some(("./", 0o555)))], 0o555),
            (&[layer(Some(("./", 0o555))), layer(Some((".", 0o711))), layer(None)], 0o711),
        ] {
            let files = layers.iter().map(|layer| ("x.tar", &layer[..])).chain([(&*name, &b"{}"[..])]);
            let found = find(&archive(&files.collect::<Vec<_>>())[..], &digits).unwrap();
            assert_eq!(found.root_mode, expected);
        }
    }
}
