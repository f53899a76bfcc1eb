//! A Docker daemon (or what speaks its API) as an engine: images, and the connection.
//!
//! Containers are in [`super::container`]. Everything goes through `bollard`; here its calls get names of ours, the
//! errors that a user can do something about, and the bounds that the API lacks.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use bollard::errors::Error as Api;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci_spec::image::History;

use super::answer::{Answered, HistoryItem, ImageAnswer, Version};
use super::endpoint::{self, Endpoint};
use super::error::{EngineError, reason, status};
use super::kind::{ImageStore, Kind};
use super::owner::Owner;
use crate::image::transport::registry::Credentials;

/// How long the daemon may take to answer a request. Loading an image is one request.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a daemon begins to say the id of an image that was loaded without a name.
const LOADED: &str = "Loaded image ID: ";

/// How long the daemon may go on with a load that was cut off.
const LOAD_PATIENCE: Duration = Duration::from_secs(3);

/// Where a pull is: a line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer, or empty.
    pub layer: String,
    /// `Downloading`, `Extracting`, ...
    pub status: String,
    /// Bytes done and in all, where known.
    pub bytes: Option<(u64, u64)>,
}

/// A client for a daemon; nothing is sent yet.
fn client(endpoint: &Endpoint) -> Result<bollard::Docker, Api> {
    let Some(folder) = &endpoint.tls else { return bollard::Docker::connect_with_host(&endpoint.host) };
    let file = |name| folder.join(name);
    let (key, certificate, authority) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
    let seconds = PATIENCE.as_secs();
    let version = bollard::API_DEFAULT_VERSION;
    bollard::Docker::connect_with_ssl(&endpoint.host, &key, &certificate, &authority, seconds, version)
}

/// A connected daemon.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) docker: bollard::Docker,
    pub(super) owner: Arc<Owner>,
    /// Containers that were created so far.
    pub(super) created: Arc<AtomicU32>,
    /// What it is.
    pub kind: Kind,
    /// Where its images are.
    pub store: ImageStore,
    /// The daemon's own version, for the report.
    pub version: String,
    /// The architecture that it runs, in the words of images: `amd64`.
    pub architecture: String,
    host: String,
}

impl Engine {
    /// Connects to the daemon that is meant (see [`endpoint`]), and agrees on a version of the API.
    ///
    /// # Errors
    /// [`EngineError::Unreachable`].
    pub async fn connect(host: Option<&str>, owner: Owner) -> Result<Engine, EngineError> {
        let endpoint = endpoint::find(host, &endpoint::System)?;
        let host = endpoint.host.clone();
        let unreachable = |error: &Api| EngineError::Unreachable { host: host.clone(), reason: reason(error) };
        let docker = client(&endpoint).map_err(|error| unreachable(&error))?.with_timeout(PATIENCE);
        let answer = tokio::time::timeout(Duration::from_secs(30), docker.negotiate_version()).await;
        let silent = EngineError::Unreachable { host: host.clone(), reason: "no answer in 30 seconds".into() };
        let docker = answer.map_err(|_| silent)?.map_err(|error| unreachable(&error))?;
        let (version, store) = tokio::join!(docker.version(), ImageStore::of(&docker));
        let version: Version = version.lenient().map_err(|error| unreachable(&error))?;
        Ok(Engine {
            docker,
            owner: Arc::new(owner),
            created: Arc::default(),
            kind: Kind::of(&version),
            store,
            version: version.version.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
            host,
        })
    }

    /// The name of this run, as its containers are labelled.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.owner.run
    }

    /// The address that was connected to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// By whose rules its containers go.
    #[must_use]
    pub fn rules(&self) -> slim_sensor::stub::Engine {
        match self.kind {
            Kind::Docker => slim_sensor::stub::Engine::Docker(self.version.clone()),
            Kind::Podman => slim_sensor::stub::Engine::Podman(self.version.clone()),
        }
    }

    /// What the daemon says of an image.
    ///
    /// # Errors
    /// [`EngineError::NoImage`], [`EngineError::Refused`].
    pub async fn image(&self, name: &str) -> Result<ImageAnswer, EngineError> {
        self.inspect_image(name).await.map_err(|error| match status(&error) {
            Some(404) => EngineError::NoImage { name: name.to_owned(), kind: self.kind },
            _ => self.kind.refused(format!("look at image `{name}`"))(error),
        })
    }

    async fn inspect_image(&self, name: &str) -> Result<ImageAnswer, Api> {
        self.docker.inspect_image(name).await.lenient()
    }

    /// What made an image, step by step, the newest last as in its configuration; of each step the command alone.
    ///
    /// # Errors
    /// [`EngineError::Refused`].
    pub async fn history(&self, image: &str) -> Result<Vec<History>, EngineError> {
        let steps: Option<Vec<HistoryItem>> = self
            .docker
            .image_history(image)
            .await
            .lenient()
            .map_err(self.kind.refused(format!("tell the history of image `{image}`")))?;
        let step = |item: HistoryItem| {
            let mut step = History::default();
            step.set_created_by(Some(item.created_by.unwrap_or_default()));
            step
        };
        Ok(steps.unwrap_or_default().into_iter().rev().map(step).collect())
    }

    /// Fetches an image from its registry.
    ///
    /// # Errors
    /// [`EngineError::Pull`].
    pub async fn pull(
        &self,
        name: &str,
        credentials: Option<Credentials>,
        progress: impl Fn(PullProgress),
    ) -> Result<(), EngineError> {
        let credentials = credentials.map(|credentials| bollard::auth::DockerCredentials {
            username: Some(credentials.account),
            password: Some(credentials.secret),
            ..Default::default()
        });
        let options = CreateImageOptionsBuilder::default().from_image(name).build();
        let mut steps = std::pin::pin!(self.docker.create_image(Some(options), None, credentials));
        while let Some(step) = steps.next().await {
            let failed = |reason| EngineError::Pull { image: name.to_owned(), reason };
            let step = step.map_err(|error| match self.kind.refused(format!("pull `{name}`"))(error) {
                EngineError::Refused { reason, .. } => failed(reason),
                other => other,
            })?;
            if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                return Err(failed(error));
            }
            let bytes = step
                .progress_detail
                .and_then(|detail| Some((u64::try_from(detail.current?).ok()?, u64::try_from(detail.total?).ok()?)));
            progress(PullProgress { layer: step.id.unwrap_or_default(), status: step.status.unwrap_or_default(), bytes });
        }
        Ok(())
    }

    /// An image as a docker-archive.
    pub fn save(&self, id: &str) -> impl Stream<Item = Result<Bytes, EngineError>> + use<> {
        let (kind, action) = (self.kind, format!("save image `{id}`"));
        self.docker.export_image(id).map(move |part| part.map_err(kind.refused(action.clone())))
    }

    /// Loads an image without a name from the stream of a docker-archive; the id that the daemon gives it, where it says so.
    ///
    /// # Errors
    /// [`EngineError::Refused`], [`EngineError::NoSpace`].
    pub async fn load<S>(&self, archive: S) -> Result<Option<String>, EngineError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let mut steps = std::pin::pin!(self.docker.import_image(options, bollard::body_try_stream(archive), None));
        let mut id = None;
        while let Some(step) = steps.next().await {
            let said = step.map_err(self.kind.refused("load the slim image"))?.stream.unwrap_or_default();
            id = said.lines().find_map(|line| line.strip_prefix(LOADED)).map(str::to_owned).or(id);
        }
        Ok(id)
    }

    /// Names an image.
    ///
    /// # Errors
    /// [`EngineError::Refused`].
    pub async fn tag(&self, id: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.docker
            .tag_image(id, Some(options))
            .await
            .map_err(self.kind.refused(format!("tag the image as `{repository}:{tag}`")))
    }

    /// Removes an image without a name that was only tried; whether it is gone: it is not while a container of it is, which is
    /// waited for so long.
    pub async fn discard(&self, id: &str, patience: Duration) -> bool {
        if self.inspect_image(id).await.is_ok_and(|image| image.is_named()) {
            return true;
        }
        let deadline = Instant::now() + patience;
        loop {
            let options = RemoveImageOptionsBuilder::default().build();
            match self.docker.remove_image(id, Some(options), None).await {
                Ok(_) => return true,
                Err(error) if status(&error) == Some(409) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(_) => return false,
            }
        }
    }

    /// Removes an image that was being loaded, and has no name; one that got a name meanwhile stays. The daemon goes on
    /// with what it has got of a load that is cut off, so the image can appear after that.
    pub async fn remove_unnamed(&self, id: &str) {
        let deadline = Instant::now() + LOAD_PATIENCE;
        let mut inspected = self.inspect_image(id).await;
        while inspected.as_ref().is_err_and(|error| status(error) == Some(404)) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            inspected = self.inspect_image(id).await;
        }
        if inspected.is_ok_and(|image| !image.is_named()) {
            let options = RemoveImageOptionsBuilder::default().build();
            // What cannot be removed is in use by somebody.
            let _ = self.docker.remove_image(id, Some(options), None).await;
        }
    }
}
