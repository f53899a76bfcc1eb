//! What an engine says of images and containers, as far as slim reads it.
//!
//! `bollard` has a type for each answer of one version of Docker's daemon, and refuses an answer that has a word more or a
//! field less. Other engines do have: Podman's containers can be `stopped`, an image in containerd can lack its history, and
//! newer daemons leave out what is empty. So the types here have only what is read, every field may be missing or `null`, and
//! words that are not read can be any. `bollard` cannot be handed a type; where its own doesn't fit, its error has the text of
//! the answer.

use std::collections::HashMap;

use bollard::errors::Error as Api;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Reads an answer, also one that isn't as `bollard` expects it.
pub(super) trait Answered {
    /// As a type of this module.
    ///
    /// # Errors
    /// The daemon's refusal, or an answer that doesn't fit the type either.
    fn lenient<T: DeserializeOwned>(self) -> Result<T, Api>;
}

impl<A: Serialize> Answered for Result<A, Api> {
    fn lenient<T: DeserializeOwned>(self) -> Result<T, Api> {
        match self {
            Ok(answer) => Ok(serde_json::from_value(serde_json::to_value(answer)?)?),
            Err(Api::JsonDataError { contents, .. }) => Ok(serde_json::from_str(&contents)?),
            Err(other) => Err(other),
        }
    }
}

/// `GET /info`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) driver_status: Option<Vec<Vec<String>>>,
}

/// `GET /version`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) components: Option<Vec<Component>>,
}

/// A part of an engine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Component {
    pub(super) name: Option<String>,
}

/// `GET /images/NAME/json`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageAnswer {
    /// `sha256:...`: of its configuration, or in containerd of its manifest or index.
    pub id: Option<String>,
    /// Its names.
    pub repo_tags: Option<Vec<String>>,
    /// RFC 3339.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// In Go's words: `amd64`.
    pub architecture: Option<String>,
    /// Such as `v8`.
    pub variant: Option<String>,
    /// In Go's words: `linux`.
    pub os: Option<String>,
    /// Windows has one.
    pub os_version: Option<String>,
    /// What a container of it does.
    pub config: Option<Value>,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: Option<RootFs>,
    /// Bytes: of the unpacked layers, or in containerd of the packed ones.
    pub size: Option<u64>,
}

impl ImageAnswer {
    pub(super) fn is_named(&self) -> bool {
        self.repo_tags.as_ref().is_some_and(|tags| !tags.is_empty())
    }
}

/// The layers of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// The digests of their archives.
    pub layers: Option<Vec<String>>,
}

/// An item of `GET /images/NAME/history`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HistoryItem {
    pub(super) created_by: Option<String>,
}

/// An item of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerItem {
    pub(super) id: Option<String>,
    pub(super) labels: Option<HashMap<String, String>>,
}

/// `GET /containers/ID/json`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerAnswer {
    /// RFC 3339.
    pub created: Option<String>,
    /// How its first process is.
    pub state: Option<StateAnswer>,
    /// What it does.
    pub config: Option<ContainerConfig>,
    /// By what rules.
    pub host_config: Option<HostConfig>,
    /// Its networks.
    pub network_settings: Option<NetworkSettings>,
    /// What is mounted in it.
    pub mounts: Option<Vec<MountPoint>>,
}

/// How a container's first process is. The word for its state isn't read, as each engine has its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StateAnswer {
    pub(super) running: Option<bool>,
    pub(super) exit_code: Option<i64>,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: Option<bool>,
    pub(super) error: Option<String>,
}

/// What a container does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Seconds until it is killed when it is to stop.
    pub stop_timeout: Option<i64>,
    /// Its host's name.
    pub hostname: Option<String>,
}

/// By what rules a container goes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// Temporary file systems: options by target.
    pub tmpfs: Option<HashMap<String, String>>,
}

/// The networks of a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Where its ports are published, by names such as `80/tcp`.
    pub ports: Option<HashMap<String, Option<Vec<PortBinding>>>>,
    /// By name.
    pub networks: Option<HashMap<String, Network>>,
}

/// Where a port is published.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// An address of the daemon's machine.
    pub host_ip: Option<String>,
    /// A number.
    pub host_port: Option<String>,
}

/// A container's place in a network.
#[derive(Debug, Deserialize)]
pub struct Network {
    /// Of version 4, or empty.
    #[serde(rename = "IPAddress")]
    pub ip_address: Option<String>,
    /// Of version 6, or empty.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: Option<String>,
}

/// What is mounted in a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, ...
    pub r#type: Option<String>,
    /// A volume's.
    pub name: Option<String>,
    /// Where.
    pub destination: Option<String>,
}

/// `GET /exec/ID/json`
#[derive(Debug, Deserialize)]
pub(super) struct ExecAnswer {
    #[serde(rename = "Running")]
    pub(super) running: Option<bool>,
    #[serde(rename = "ExitCode")]
    pub(super) exit_code: Option<i64>,
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerInspectResponse, ContainerSummary, ImageHistoryResponseItem};

    use super::*;

    /// As `bollard` reads it.
    fn strict<T: DeserializeOwned>(text: &str) -> Result<T, Api> {
        serde_json::from_str(text).map_err(|error| Api::JsonDataError {
            message: error.to_string(),
            contents: text.to_owned(),
            column: error.column(),
        })
    }

    /// Regression: Podman 5 says `stopped` of a container between its end and its clean-up, and slim's own clean-up failed.
    #[test]
    fn states_that_nobody_knows_are_taken() {
        for state in ["exited", "stopped", "stopping", "of a later version"] {
            let list = format!(r#"[{{"Id": "1", "State": "{state}", "Labels": {{"a": "b"}}}}, {{"Id": "2", "Labels": null}}]"#);
            let list: Vec<ContainerItem> = strict::<Vec<ContainerSummary>>(&list).lenient().unwrap();
            assert_eq!(list[0].labels.as_ref().unwrap()["a"], "b");
            assert!(list[1].id.as_deref() == Some("2") && list[1].labels.is_none());
            let text = format!(r#"{{"State": {{"Status": "{state}", "ExitCode": 3, "OOMKilled": true}}, "Mounts": null}}"#);
            let state = strict::<ContainerInspectResponse>(&text).lenient::<ContainerAnswer>().unwrap().state.unwrap();
            assert_eq!((state.running, state.exit_code, state.oom_killed), (None, Some(3), Some(true)));
        }
    }

    /// Regression: the containerd store says `null` of an image without a history, and `{}` of layers that it hasn't got.
    #[test]
    fn what_is_missing_is_nothing() {
        assert!(strict::<Vec<ImageHistoryResponseItem>>("null").lenient::<Option<Vec<HistoryItem>>>().unwrap().is_none());
        let image = strict::<bollard::models::ImageInspect>(r#"{"Id": "sha256:1", "RootFS": {}, "Config": null}"#);
        let image: ImageAnswer = image.lenient().unwrap();
        assert!(image.id.is_some() && image.root_fs.unwrap().layers.is_none());
    }

    #[test]
    fn a_refusal_stays_one_and_nonsense_too() {
        let refusal = Err::<ContainerSummary, _>(Api::DockerResponseServerError { status_code: 404, message: "no".into() });
        assert!(matches!(refusal.lenient::<ContainerItem>(), Err(Api::DockerResponseServerError { .. })));
        assert!(strict::<Vec<ContainerSummary>>("{").lenient::<Vec<ContainerItem>>().is_err());
    }
}
