//! What the slim image holds: entries exactly as in its original, the same configuration, and what is told of it.

mod configuration;
mod entries;

mod names;
mod report;

pub(crate) use entries::oddities;
use serde_json::Value;

use crate::support::{Image, docker, unique};

/// The paths of a list in the report, in bytes.
pub(super) fn rows(rows: &Value) -> Vec<Vec<u8>> {
    let path = |row: &Value| slim::escape::unescape(row["path"].as_str().unwrap()).unwrap();
    rows.as_array().unwrap().iter().map(path).collect()
}

/// As Docker names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A name in the daemon, removed with what it stands for.
pub(crate) fn name(kind: &str) -> Image {
    Image::named(format!("{}:t", unique(kind)))
}

/// A field of an image in the daemon.
pub(crate) fn inspect(image: &str, field: &str) -> String {
    docker(&["image", "inspect", "-f", &format!("{{{{{field}}}}}"), image])
}
