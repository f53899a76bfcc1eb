//! From a name to an image whose layers are still in the registry.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use oci_spec::image::{Descriptor, Digest, MediaType};
use reqwest::header;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::blob::{Downloads, RemoteBlob, Tell};
use super::place::Place;
use super::session::{Action, Session};
use super::{Access, RegistryError};
use crate::image::digest::digest_of;
use crate::image::layer::compression::LayerError;
use crate::image::reference::Reference;
use crate::image::store::Store;
use crate::image::transport::oci::{self, Blobs, is_index, is_manifest};
use crate::image::transport::platform::Platform;
use crate::image::transport::section::Section;
use crate::image::transport::{LayeredImage, MAX_DOCUMENT, TransportError, check_digest, check_digest_form};

/// Layers that are fetched at a time.
const AT_A_TIME: usize = 4;

/// What is asked for, in this order.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Finds an image in its registry. Its layers are fetched when they are read, as long as this runtime goes on; `tell` hears of it.
///
/// # Errors
/// [`TransportError`]
pub async fn open(
    reference: &Reference,
    platform: &Platform,
    access: &Access,
    max_size: u64,
    tell: Arc<Tell>,
) -> Result<LayeredImage, TransportError> {
    let session = Session::open(Place::of(reference), access, Action::Pull).await?;
    let (top, bytes) = top(&session, reference).await?;
    let downloads = Arc::new(Downloads {
        session,
        runtime: Handle::current(),
        permits: Semaphore::new(AT_A_TIME),
        folder: folder(),
        done: AtomicU64::new(0),
        all: AtomicU64::new(0),
        tell,
    });
    let platform = platform.clone();
    let finding = move || oci::image(&Remote { downloads, top: (top.digest().to_string(), bytes) }, &[&top], &platform);
    let found = tokio::task::spawn_blocking(finding).await;
    let mut image = found.map_err(|error| RegistryError::Fault(error.to_string()))??;
    // Also sizes that cannot be added.
    let size = image.layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size()));
    if size.is_none_or(|size| size > max_size) {
        return Err(RegistryError::Layers(LayerError::TooLarge(max_size)).into());
    }
    image.tags = vec![reference.to_string()];
    Ok(image)
}

/// Where layers that were fetched lie until they are unpacked: beside the store, as `/tmp` may be in memory.
fn folder() -> PathBuf {
    let store = Store::default_path().and_then(|path| Store::open(&path));
    store.map_or_else(|_| std::env::temp_dir(), |store| store.root().to_owned())
}

/// What the name itself leads to.
async fn top(session: &Session, reference: &Reference) -> Result<(Descriptor, Vec<u8>), TransportError> {
    let digest = reference.digest.as_deref().map(|digest| check_digest_form("the name", digest).map(|_| digest)).transpose()?;
    let which = digest.or(reference.tag.as_deref()).unwrap_or("latest");
    let url = session.url(&format!("manifests/{which}"));
    let what = format!("the image `{which}`");
    let response = session.get(&url, |request| request.header(header::ACCEPT, MANIFESTS)).await?;
    let response = session.accept(response, &what).await?;
    let told = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let bytes = session.body(response, MAX_DOCUMENT, &what).await?;
    if let Some(digest) = digest {
        check_digest(which, &bytes, digest)?;
    }
    let digest: Digest = digest_of(&bytes).parse().map_err(|error| TransportError::document(which, error))?;
    let media_type = media_type(&bytes, told.as_deref());
    let top = Descriptor::new(MediaType::from(media_type.as_str()), bytes.len() as u64, digest);
    if !is_index(&top) && !is_manifest(&top) {
        let media_type = crate::escape::escape(media_type.as_bytes());
        let hint = "slim reads manifests of OCI and of Docker (version 2)";
        return Err(TransportError::document(which, format!("it is no image, but `{media_type}`: {hint}")));
    }
    Ok((top, bytes))
}

/// What a document says that it is; where it does not, what the registry says of it.
fn media_type(document: &[u8], told: Option<&str>) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let own = serde_json::from_slice::<Typed>(document).ok().and_then(|typed| typed.media_type);
    let told = told.map(|told| told.split(';').next().unwrap_or_default().trim().to_owned());
    own.or(told).unwrap_or_default()
}

/// Documents and layers by their descriptors. The documents are waited for: not to be used in a task.
struct Remote {
    downloads: Arc<Downloads>,
    /// What the name itself leads to is here already: digest and bytes.
    top: (String, Vec<u8>),
}

impl Blobs for Remote {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransportError> {
        let digest = descriptor.digest().to_string();
        if digest == self.top.0 {
            return Ok(self.top.1.clone());
        }
        if descriptor.size() > MAX_DOCUMENT {
            return Err(TransportError::document(&digest, format!("it has {} bytes", descriptor.size())));
        }
        let is_blob = !is_index(descriptor) && !is_manifest(descriptor);
        let (kind, accepted) = if is_blob { ("blobs", "*/*") } else { ("manifests", MANIFESTS) };
        let (session, what) = (&self.downloads.session, format!("`{digest}`"));
        let fetching = async {
            let url = session.url(&format!("{kind}/{digest}"));
            let response = session.get(&url, |request| request.header(header::ACCEPT, accepted)).await?;
            session.body(session.accept(response, &what).await?, descriptor.size(), &what).await
        };
        Ok(self.downloads.runtime.block_on(fetching)?)
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<Section, TransportError> {
        let (digest, size) = (descriptor.digest().to_string(), descriptor.size());
        let blob = RemoteBlob::new(Arc::clone(&self.downloads), digest, size);
        Ok(Section::new(Arc::new(blob), size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_is() {
        let (own, bare) = (br#"{"mediaType":"a"}"#, br#"{"schemaVersion":2}"#);
        assert_eq!(media_type(own, Some("b")), "a");
        assert_eq!(media_type(bare, Some("b; charset=utf-8")), "b");
        assert_eq!(media_type(bare, None), "");
        assert_eq!(media_type(b"<html>", Some("text/html")), "text/html");
    }
}
