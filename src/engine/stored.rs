//! The configuration of an image as it is stored, byte for byte.
//!
//! Docker's daemon tells all of it in its own words. Podman's answer to the same question lacks the health check, `SHELL`
//! and `ONBUILD`; nothing in its API gives them but the image as an archive (`podman save`). So that archive is read, as
//! it comes, until the configuration was there. It costs as much as reading the image once, and is done for Podman only.

use std::io::{self, Read};

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::docker::{Engine, EngineError, Kind, reason};

/// Larger than any configuration.
const LARGEST: u64 = 16 << 20;

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
    /// The configuration of the image with this id, where the engine's own words on it ([`Engine::image`]) leave
    /// something out; else `None`.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn stored_config(&self, id: &str) -> Result<Option<Vec<u8>>, EngineError> {
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

/// Finds the configuration with the digest `id` in a docker-archive.
fn find(archive: impl Read, id: &str) -> Result<Vec<u8>, StoredError> {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    let name = format!("{digits}.json");
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        if *entry.path_bytes() != *name.as_bytes() {
            continue;
        }
        let mut config = vec![];
        entry.take(LARGEST).read_to_end(&mut config)?;
        let digest: String = Sha256::digest(&config).iter().map(|byte| format!("{byte:02x}")).collect();
        return if digest == digits { Ok(config) } else { Err(StoredError::Digest) };
    }
    Err(StoredError::Missing(name))
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
        let digits: String = Sha256::digest(b"{}").iter().map(|byte| format!("{byte:02x}")).collect();
        let (id, name) = (format!("sha256:{digits}"), format!("{digits}.json"));
        let layer: (&str, &[u8]) = ("layer.tar", &[7; 9000]);
        let good = archive(&[layer, (&name, b"{}"), ("manifest.json", b"[]")]);
        assert_eq!(find(&good[..], &id).unwrap(), b"{}");
        let said = |archive: &[u8]| find(archive, &id).unwrap_err().to_string();
        assert!(said(&archive(&[layer, (&name, b"[]")])).contains("another digest"));
        assert_eq!(said(&archive(&[layer])), format!("the archive of the image has no configuration `{name}`"));
        assert!(matches!(find(&good[..5000], &id), Err(StoredError::Read(_))), "cut off");
    }
}
