//! The configuration of an image, field by field as Docker writes it, and the one of a slim image.
//!
//! The configuration itself is not `oci-spec`'s type: that one lacks what Docker adds (health check, shell, ONBUILD,
//! stop timeout, ArgsEscaped), turns ports and volumes into lists, and would drop what it does not know. The parts that
//! are the same everywhere (layers, history) are `oci-spec`'s.
//!
//! Fields that are absent or null stay absent, an empty list stays an empty list (`"Entrypoint": []` means something
//! else than none). Maps are sorted, so that equal configurations are equal bytes.

use std::collections::BTreeMap;

use oci_spec::image::{Digest, History, RootFs};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::digest::digest_of;

/// What the last step in the history of an image that slim made begins with.
pub const CREATED_BY: &str = "slim build";

/// An image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// Of the architecture, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Version of the operating system.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must have.
    #[serde(default, rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How containers of it run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// How containers of an image run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports, such as `80/tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Environment, `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that become volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks the program to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to find out whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// What runs commands that are given as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Steps for images that are built from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// The command is already escaped (Windows).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// What else there is.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl RunConfig {
    /// Old engines write fields that say nothing, newer ones leave them out, and what reads their answers may put them in.
    #[must_use]
    pub fn without_what_says_nothing(mut self) -> RunConfig {
        for text in [&mut self.user, &mut self.working_dir, &mut self.stop_signal] {
            text.take_if(|text| text.is_empty());
        }
        for names in [&mut self.volumes, &mut self.exposed_ports] {
            names.take_if(|names| names.is_empty());
        }
        self
    }
}

/// The `{}` that follows a port or a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A health check; times are in nanoseconds, and what is absent is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, `CMD` with a command, or `CMD-SHELL` with a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// For one check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// During which failures do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between checks during that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// How many failures in a row count as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

/// A time that RFC 3339 cannot write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} seconds since 1970 is not a time between the years 0 and 9999: set `SOURCE_DATE_EPOCH` to one that is")]
pub struct TimeError(i64);

/// The text for a `SOURCE_DATE_EPOCH`.
///
/// # Errors
/// [`TimeError`].
pub fn created_at(epoch: i64) -> Result<String, TimeError> {
    let time = OffsetDateTime::from_unix_timestamp(epoch).map_err(|_| TimeError(epoch))?;
    time.format(&Rfc3339).map_err(|_| TimeError(epoch))
}

/// The configuration of the slim image of `source`: the same but for its layer, its history, and, where it is given, the time
/// of its creation. The history names the original by its layers, as ids differ from one image store to another.
#[must_use]
pub fn slim_config(source: &ImageConfig, diff_id: &Digest, created: Option<String>) -> ImageConfig {
    let created = created.or_else(|| source.created.clone());
    let mut history = History::default();
    history.set_created(created.clone());
    history.set_created_by(Some(CREATED_BY.into()));
    let from = chain_id(source.rootfs.diff_ids()).map(|id| format!(" from layers {id}")).unwrap_or_default();
    history.set_comment(Some(format!("slim {}{from}", env!("CARGO_PKG_VERSION"))));
    let mut rootfs = RootFs::default();
    rootfs.set_diff_ids(vec![diff_id.to_string()]);
    ImageConfig { created, rootfs, history: vec![history], ..source.clone() }
}

/// The `ChainID` of layers, as the OCI image specification defines it: one digest for all of them. `None` without layers.
#[must_use]
pub fn chain_id(diff_ids: &[String]) -> Option<String> {
    let (first, rest) = diff_ids.split_first()?;
    let chained = |chain: String, diff_id: &String| digest_of(format!("{chain} {diff_id}").as_bytes());
    Some(rest.iter().fold(first.clone(), chained))
}

impl ImageConfig {
    /// Whether slim made the image (one that was built on a slim image is not meant).
    #[must_use]
    pub fn is_slim(&self) -> bool {
        let last = self.history.last().and_then(|step| step.created_by().as_ref());
        last.is_some_and(|by| by.starts_with(CREATED_BY))
    }

    /// The bytes whose digest is the image's id.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps have text as keys, and nothing else can fail in memory")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Everything that Docker can write.
    fn full() -> Value {
        json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1", "os.features": ["x"],
            "author": "someone", "created": "2024-05-06T07:08:09.123456789Z",
            "config": {
                "User": "1000:1000",
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Env": ["PATH=/bin", "EMPTY="],
                "Entrypoint": [],
                "Cmd": ["a b", ""],
                "Volumes": {"/data": {}},
                "WorkingDir": "/srv",
                "Labels": {"z": "1", "a": ""},
                "StopSignal": "SIGQUIT",
                "StopTimeout": 30,
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000_i64, "Timeout": 2, "StartPeriod": 3,
                    "StartInterval": 4, "Retries": 5
                },
                "Shell": ["/bin/bash", "-c"],
                "OnBuild": ["RUN true"],
                "ArgsEscaped": true,
                "Image": "sha256:0", "Tty": false
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
            "history": [{"created": "2024-05-06T07:08:09Z", "created_by": "COPY", "empty_layer": true}]
        })
    }

    pub(crate) fn source() -> ImageConfig {
        serde_json::from_value(full()).expect("configuration")
    }

    fn diff_id() -> Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().expect("digest")
    }

    #[test]
    fn every_field_comes_back() {
        let written: Value = serde_json::from_slice(&source().to_json()).expect("JSON");
        assert_eq!(written, full());
    }

    #[test]
    fn absent_and_null_are_left_out_and_empty_is_not() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":[],"User":"","Healthcheck":{}},
            "rootfs":{"type":"layers","diff_ids":[]},"docker_version":"20.10"}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("configuration");
        assert_eq!(
            String::from_utf8(config.to_json()).expect("text"),
            r#"{"architecture":"amd64","os":"linux","config":{"User":"","Cmd":[],"Healthcheck":{}},"rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn a_slim_image_differs_in_layer_and_history_only() {
        let slim = slim_config(&source(), &diff_id(), None);
        let layers = chain_id(source().rootfs.diff_ids()).expect("it has layers");
        let mut expected = full();
        expected["rootfs"]["diff_ids"] = json!([diff_id().to_string()]);
        expected["history"] = json!([{
            "created": "2024-05-06T07:08:09.123456789Z",
            "created_by": "slim build",
            "comment": format!("slim {} from layers {layers}", env!("CARGO_PKG_VERSION")),
        }]);
        assert_eq!(serde_json::from_slice::<Value>(&slim.to_json()).expect("JSON"), expected);
        assert!(slim.is_slim());
        assert!(!source().is_slim());
        let mut built_on = slim.clone();
        built_on.history.extend(source().history);
        assert!(!built_on.is_slim());
        let dated = slim_config(&source(), &diff_id(), created_at(1_700_000_000).ok());
        assert_eq!(dated.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(dated.history[0].created(), &dated.created);
    }

    /// As `printf '%s %s' CHAIN DIFF_ID | sha256sum` has it.
    #[test]
    fn layers_have_one_digest() {
        let ids: Vec<String> = (1..=3).map(|number| format!("sha256:{number:064}")).collect();
        assert_eq!(chain_id(&[]), None);
        assert_eq!(chain_id(&ids[..1]).as_ref(), Some(&ids[0]));
        let all = "sha256:af4149e65a6923bb39782a876ce40a7c3b08fc85ec732e9efcc661d9399016d0";
        assert_eq!(chain_id(&ids).as_deref(), Some(all));
    }

    #[test]
    fn times_out_of_range() {
        assert_eq!(created_at(0).as_deref(), Ok("1970-01-01T00:00:00Z"));
        for epoch in [i64::MIN, i64::MAX, 253_402_300_800] {
            assert_eq!(created_at(epoch), Err(TimeError(epoch)));
        }
    }
}
