//! An image into a registry, without a daemon.
//!
//! First the configuration and the layer, each only where the registry lacks it: one that is in another repository of the
//! registry is mounted from there, if the registry likes to. Then the manifest, which is the same to the last byte as in files, so that
//! a registry calls the image by the digest that the report says. The name is there last: nobody sees the image in part.
//!
//! A blob is sent in one piece, which every registry takes; where that fails on the way, all of it is sent again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{Stream, try_unfold};
use oci_spec::image::Digest;
use reqwest::{Body, Response, StatusCode, Url, header};

use super::digest_of;
use super::layout::MANIFEST_TYPE;
use super::store::Stored;
use crate::image::reference::Reference;
use crate::image::transport::registry::place::Place;
use crate::image::transport::registry::session::{ATTEMPTS, Action, Session, is_busy, pause_before};
use crate::image::transport::registry::{Access, RegistryError, Tell};

/// Bytes of a layer that are read at once.
const CHUNK: usize = 1 << 20;

/// Why an image is not in a registry.
#[derive(Debug, thiserror::Error)]
#[error("cannot push `docker://{name}`: {reason}")]
pub struct PushError {
    name: String,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Layer(#[from] io::Error),
}

/// Whether an image could be pushed so: to be asked before any work is done. An upload is begun, and given up.
///
/// # Errors
/// [`PushError`]
pub async fn check(name: &Reference, access: &Access) -> Result<(), PushError> {
    let asking = async {
        let session = Session::open(Place::of(name), access, Action::Push).await?;
        if let Begun::At(url) = begin(&session, None).await? {
            // Who does not know how to give up, forgets it some day.
            let _ = session.send(&url, |client| client.delete(url.clone())).await;
        }
        Ok(())
    };
    asking.await.map_err(|reason| PushError { name: name.to_string(), reason })
}

/// Pushes `image` by its name; `known` are images some of which the registry may have. The digest of the manifest.
///
/// # Errors
/// [`PushError`]
pub async fn push(
    image: &Stored,
    name: &Reference,
    known: &[Reference],
    access: &Access,
    tell: Arc<Tell>,
) -> Result<Digest, PushError> {
    let pushing = async {
        let place = Place::of(name);
        let elsewhere = known.iter().map(Place::of);
        let elsewhere = elsewhere.filter(|other| other.registry == place.registry && other.repository != place.repository);
        let elsewhere: Vec<String> = elsewhere.map(|other| other.repository).collect();
        let session = Session::open(place, access, Action::Push).await?.also_reading(elsewhere.clone());
        let push = Push { session, elsewhere, tell };
        let config = image.config.to_json();
        push.blob(&image.packed.id, &Content::Bytes(config.into())).await?;
        let layer = Content::File(Arc::new(image.file.try_clone()?), image.blob.size);
        push.blob(&image.blob.digest, &layer).await?;
        push.manifest(image.manifest()?, name.tag.as_deref().unwrap_or("latest")).await
    };
    pushing.await.map_err(|reason| PushError { name: name.to_string(), reason })
}

struct Push {
    session: Session,
    /// Other repositories of the registry.
    elsewhere: Vec<String>,
    tell: Arc<Tell>,
}

/// What a blob holds.
enum Content {
    Bytes(Bytes),
    File(Arc<File>, u64),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, size) => *size,
        }
    }

    fn body(&self, sent: &Arc<AtomicU64>, tell: &Arc<Tell>) -> Body {
        match self {
            Content::Bytes(bytes) => bytes.clone().into(),
            Content::File(file, size) => Body::wrap_stream(pieces(file, *size, sent, tell)),
        }
    }
}

/// The bytes of a file from its beginning, wherever it is read otherwise.
fn pieces(file: &Arc<File>, size: u64, sent: &Arc<AtomicU64>, tell: &Arc<Tell>) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let (file, sent, tell) = (Arc::clone(file), Arc::clone(sent), Arc::clone(tell));
    try_unfold(0, move |position: u64| {
        let (file, sent, tell) = (Arc::clone(&file), Arc::clone(&sent), Arc::clone(&tell));
        async move {
            sent.store(position, Ordering::Relaxed);
            tell(position, size);
            let length = usize::try_from(size - position).map_or(CHUNK, |left| left.min(CHUNK));
            if length == 0 {
                return Ok(None);
            }
            let read = move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, position).map(|()| piece)
            };
            let piece = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
            Ok(Some((Bytes::from(piece), position + length as u64)))
        }
    })
}

/// What came of beginning an upload.
enum Begun {
    /// The blob is to be sent there.
    At(Url),
    /// It was mounted from another repository.
    Mounted,
}

/// Begins an upload; or mounts a blob from a repository, where that is asked for and the registry likes to.
async fn begin(session: &Session, mount: Option<(&Digest, &str)>) -> Result<Begun, Reason> {
    let mut url = session.url("blobs/uploads/");
    if let Some((digest, from)) = mount {
        url.query_pairs_mut().append_pair("mount", digest.as_ref()).append_pair("from", from);
    }
    let response = session.send(&url, |client| client.post(url.clone()).header(header::CONTENT_LENGTH, 0)).await?;
    let response = session.accept(response, "an upload").await?;
    if response.status() == StatusCode::CREATED {
        return Ok(Begun::Mounted);
    }
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| session.refused("does not say where to upload to", ""))?;
    Ok(Begun::At(session.follow(location)?))
}

impl Push {
    /// Sees to it that the registry has a blob.
    async fn blob(&self, digest: &Digest, content: &Content) -> Result<(), Reason> {
        let session = &self.session;
        let url = session.url(&format!("blobs/{digest}"));
        let response = session.send(&url, |client| client.head(url.clone())).await?;
        if response.status() != StatusCode::NOT_FOUND {
            session.accept(response, &format!("`{digest}`")).await?;
            return Ok(());
        }
        // Where it can't be mounted, an upload is begun all the same, which is not to be left.
        for from in &self.elsewhere {
            match begin(session, Some((digest, from))).await {
                Ok(Begun::Mounted) => return Ok(()),
                Ok(Begun::At(url)) => drop(session.send(&url, |client| client.delete(url.clone())).await),
                // It need not know of mounting.
                Err(error) => tracing::debug!("`{digest}` is not mounted from `{from}`: {error}"),
            }
        }
        let mut attempt = 1;
        loop {
            let answered = self.upload(digest, content).await;
            let may_work = match &answered {
                Ok(None) => return Ok(()),
                // The right to do it, or the upload, ended meanwhile.
                Ok(Some(response)) => {
                    is_busy(response.status()) || matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND)
                }
                Err(Reason::Registry(RegistryError::Unreachable { .. })) => true,
                Err(_) => false,
            };
            if attempt == ATTEMPTS || !may_work {
                if let Some(response) = answered? {
                    session.accept(response, &format!("the blob `{digest}`")).await?;
                }
                return Ok(());
            }
            tracing::debug!("the upload of `{digest}` failed; trying again");
            tokio::time::sleep(pause_before(attempt)).await;
            attempt += 1;
        }
    }

    /// Sends a blob; an answer that is not that it is there.
    async fn upload(&self, digest: &Digest, content: &Content) -> Result<Option<Response>, Reason> {
        let session = &self.session;
        let Begun::At(mut url) = begin(session, None).await? else { return Ok(None) };
        url.query_pairs_mut().append_pair("digest", digest.as_ref());
        let sent = Arc::new(AtomicU64::new(0));
        let request = |client: &reqwest::Client| {
            let request = client.put(url.clone()).header(header::CONTENT_LENGTH, content.size());
            request.header(header::CONTENT_TYPE, "application/octet-stream").body(content.body(&sent, &self.tell))
        };
        let response = session.send_once(&url, request, &sent).await?;
        Ok((!response.status().is_success()).then_some(response))
    }

    /// Gives the image its name.
    async fn manifest(&self, bytes: Vec<u8>, tag: &str) -> Result<Digest, Reason> {
        let digest = digest_of(&bytes);
        let (session, bytes) = (&self.session, Bytes::from(bytes));
        let url = session.url(&format!("manifests/{tag}"));
        let put =
            |client: &reqwest::Client| client.put(url.clone()).header(header::CONTENT_TYPE, MANIFEST_TYPE).body(bytes.clone());
        let response = session.accept(session.send(&url, put).await?, "the manifest").await?;
        let told = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match told.filter(|told| told.starts_with("sha256:") && *told != digest.as_ref()) {
            Some(told) => Err(session.refused("has made another image of it", told).into()),
            None => Ok(digest),
        }
    }
}
