//! An image of a daemon: what the daemon says of it, and the packer that gives its tree and bytes.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig};
use futures_util::StreamExt;
use oci_spec::image::RootFs;
use slim_sensor::wire::PackerSetup;
use tokio::net::UnixListener;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::answer::{ContainerAnswer, ImageAnswer};
use super::container::{Attached, Container};
use super::docker::Engine;
use super::error::EngineError;
use super::inject::Program;
use super::kind::Kind;
use crate::hidden;
use crate::image::config::{ImageConfig, RunConfig};
use crate::image::local::Place;
use crate::image::packer::{Channel, Packer, PackerError};
use crate::image::source::{SourceImage, moment};

/// How long a packer may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The packer.
    #[error(transparent)]
    Packer(#[from] PackerError),
    /// The packer's container did not do its work.
    #[error("the image's files cannot be listed: {0}")]
    Container(String),
    /// The engine's words on the image make no sense.
    #[error("the engine describes the image in a way that slim does not understand: {0}")]
    Description(String),
}

impl SourceImage {
    /// Understands what the engine says.
    ///
    /// # Errors
    /// [`SourceError::Description`]
    pub fn new(name: &str, inspected: ImageAnswer) -> Result<SourceImage, SourceError> {
        let run: Option<RunConfig> = inspected.config.map(serde_json::from_value).transpose().map_err(description)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut rootfs = RootFs::default();
        rootfs.set_diff_ids(inspected.root_fs.and_then(|root| root.layers).unwrap_or_default());
        Ok(SourceImage {
            id: filled(inspected.id).ok_or_else(|| SourceError::Description("it has no id".to_owned()))?,
            name: name.to_owned(),
            tags: inspected.repo_tags.unwrap_or_default(),
            config: ImageConfig {
                architecture: inspected.architecture.unwrap_or_default(),
                os: inspected.os.unwrap_or_default(),
                variant: filled(inspected.variant),
                os_version: filled(inspected.os_version),
                os_features: None,
                author: filled(inspected.author),
                created: filled(inspected.created),
                config: run.map(RunConfig::without_what_says_nothing),
                rootfs,
                history: vec![],
            },
            size: inspected.size.unwrap_or_default(),
            root_mode: None,
            place: Place::Daemon,
        })
    }

    /// Adds what the engine tells only where it is asked for it: the history, or the whole configuration as it is stored,
    /// where the engine's words on the image leave something out.
    ///
    /// # Errors
    /// [`SourceError`]
    pub async fn complete(&mut self, engine: &Engine) -> Result<(), SourceError> {
        match engine.stored(&self.id).await? {
            Some(stored) => {
                self.config = serde_json::from_slice(&stored.config).map_err(description)?;
                self.root_mode = Some(stored.root_mode);
            }
            None => self.config.history = engine.history(&self.id).await?,
        }
        Ok(())
    }

    /// Seconds that a program of it has to stop, by what the engine says of a container of it; `None` where nobody says.
    #[must_use]
    pub fn stop_timeout(&self, engine: Kind, container: &ContainerAnswer) -> Option<i64> {
        match engine {
            Kind::Docker => container.config.as_ref().and_then(|config| config.stop_timeout),
            // It says 0 of whatever was created by this API.
            Kind::Podman => self.config.config.as_ref().and_then(|config| config.stop_timeout),
        }
    }
}

/// Starts the packer in a fresh container of the image, and greets it. The stop timeout of the image, which the engine
/// tells of containers only, comes along.
///
/// # Errors
/// [`SourceError`]
pub async fn open(
    engine: &Engine,
    program: &Program,
    image: &SourceImage,
) -> Result<(Container, Packer, Option<i64>), SourceError> {
    let (directory, inside) = program.socket_directory();
    let socket = directory.join("packer");
    // Of an earlier image, whose packer has called back long since.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(PackerError::from(error).into()),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(PackerError::from)?;
    let none = HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec![program.path()]),
        cmd: Some(vec![hidden::PACKER.to_owned(), format!("{inside}/packer")]),
        user: Some("0".to_owned()),
        working_dir: Some("/".to_owned()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            cap_add: Some(vec!["SYS_ADMIN".to_owned()]),
            network_mode: Some("none".to_owned()),
            log_config: Some(none),
            // Podman writes users into a container's files, unless it can't: then it mounts what it wrote.
            readonly_rootfs: (engine.kind == Kind::Podman).then_some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let (container, _) = program.create(engine, "packer", &body, true).await?;
    let attached = container.attach().await?;
    let (inspected, started) = tokio::join!(container.inspect(), container.start());
    let inspected = inspected?;
    started?;
    let setup = PackerSetup {
        own: vec![program.inside.clone().into_bytes()],
        container_created: inspected.created.as_deref().and_then(moment).unwrap_or_default(),
        image_created: image.created(),
        made_by_engine: image.made_by_engine(),
    };
    let stop_timeout = image.stop_timeout(engine.kind, &inspected);
    let complaints = attached.complaints.clone();
    let greeted = match channel(listener, &container, attached).await {
        Ok(channel) => greet(channel, setup).await,
        Err(error) => Err(error),
    };
    let packer = greeted.map_err(|error| match complaints.text() {
        said if said.is_empty() => error,
        said => SourceError::Container(said),
    })?;
    Ok((container, packer, stop_timeout))
}

/// The way to the packer: it calls back, or says that it serves on its standard streams.
async fn channel(listener: UnixListener, container: &Container, mut attached: Attached) -> Result<Box<dyn Channel>, SourceError> {
    let failed = |reason: String| SourceError::Container(reason);
    tokio::select! {
        accepted = listener.accept() => {
            let (stream, _) = accepted.map_err(PackerError::from)?;
            let stream = stream.into_std().map_err(PackerError::from)?;
            stream.set_nonblocking(false).map_err(PackerError::from)?;
            Ok(Box::new(stream))
        }
        said = attached.output.next() => match said {
            Some(Ok(said)) if *said == [hidden::ON_STREAMS] => {
                let stream = tokio::io::join(StreamReader::new(attached.output), attached.input);
                Ok(Box::new(SyncIoBridge::new(stream)))
            }
            Some(Ok(said)) => Err(failed(format!("the packer says {:?}", said.escape_ascii().to_string()))),
            Some(Err(error)) => Err(PackerError::from(error).into()),
            None => Err(failed(format!("the packer ended with exit code {}", container.wait().await?))),
        },
        () = tokio::time::sleep(PATIENCE) => Err(failed("the packer does not call back".to_owned())),
    }
}

async fn greet(channel: Box<dyn Channel>, setup: PackerSetup) -> Result<Packer, SourceError> {
    let greeted = tokio::task::spawn_blocking(move || Packer::connect(channel, &setup)).await;
    Ok(greeted.map_err(|error| SourceError::Container(error.to_string()))??)
}

fn description(error: serde_json::Error) -> SourceError {
    SourceError::Description(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_become_the_configuration() {
        let inspected: ImageAnswer = serde_json::from_value(serde_json::json!({
            "Id": "sha256:1", "RepoTags": ["a:1"], "Created": "2024-05-06T07:08:09.5Z", "Author": "", "Architecture": "amd64",
            "Os": "linux", "Size": 7, "RootFS": {"Type": "layers", "Layers": ["sha256:2"]},
            "Config": {
                "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Cmd": null, "Entrypoint": ["x"],
                "Volumes": {"/v": {}}, "WorkingDir": "/w", "OnBuild": null, "Labels": null, "StopSignal": "SIGQUIT",
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1}, "Shell": ["/bin/sh", "-c"]
            }
        }))
        .unwrap();
        let image = SourceImage::new("a", inspected).unwrap();
        assert_eq!(image.created(), 1_714_979_289);
        assert_eq!(image.made_by_engine(), [b"/v".to_vec(), b"/w".to_vec()]);
        let config = serde_json::to_value(&image.config).unwrap();
        assert_eq!(
            config,
            serde_json::json!({
                "architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09.5Z",
                "rootfs": {"type": "layers", "diff_ids": ["sha256:2"]},
                "config": {
                    "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["x"], "Volumes": {"/v": {}},
                    "WorkingDir": "/w", "StopSignal": "SIGQUIT", "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1},
                    "Shell": ["/bin/sh", "-c"]
                }
            })
        );
    }
}
