//! What `docker save` writes: `manifest.json` lists images, each with the names of its configuration and its layers in the
//! archive.
//!
//! It has had three shapes: `ID/layer.tar` with links between equal layers, `LAYER.tar` beside `CONFIG.json` (skopeo, podman),
//! and an OCI layout with a `manifest.json` beside it (Docker 25 and later, which also tells each layer's digest in
//! `LayerSources`, and may have compressed layers). What is common to all of them is read, the rest is ignored.

use std::collections::HashMap;

use serde::Deserialize;

use super::files::Files;
use super::platform::Platform;
use super::{FoundLayer, LayeredImage, MAX_LAYERS, Parts, TransportError, check_digest, digest_in_path};
use crate::image::reference::Reference;

const MANIFEST: &str = "manifest.json";

/// One image of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// By diffID.
    #[serde(default)]
    layer_sources: Option<HashMap<String, LayerSource>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct LayerSource {
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(default)]
    digest: Option<String>,
}

impl Item {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

/// Finds the image `wanted` (a name, or `@` and its number in the manifest; the only one where nothing is said) in the
/// archive, which is called `archive`.
///
/// # Errors
/// [`TransportError`]
pub fn read(files: &dyn Files, archive: &str, wanted: Option<&str>, platform: &Platform) -> Result<LayeredImage, TransportError> {
    if files.find(MANIFEST)?.is_none() {
        let problem = if files.find("index.json")?.is_some() {
            "is an OCI archive: name it `oci-archive:...`"
        } else if files.find("repositories")?.is_some() {
            "was saved by a Docker older than 1.10: load and save it again with a newer one"
        } else {
            "is not an archive of `docker save`: it has no `manifest.json`"
        };
        return Err(TransportError::Form { name: archive.to_owned(), problem: problem.to_owned() });
    }
    let items: Vec<Item> =
        serde_json::from_slice(&files.document(MANIFEST)?).map_err(|error| TransportError::document(MANIFEST, error))?;
    let item = choose(items, wanted)?;
    let config_bytes = files.document(&item.config)?;
    if let Some(digest) = digest_in_path(&item.config) {
        check_digest(&item.config, &config_bytes, &digest)?;
    }
    let tags = item.tags().to_vec();
    let names = item.layers.unwrap_or_default();
    if names.len() > MAX_LAYERS {
        return Err(TransportError::document(MANIFEST, format!("an image has {} layers", names.len())));
    }
    let sources = item.layer_sources.unwrap_or_default();
    // The configuration says which source is of which layer, but it is not understood yet.
    let diff_ids = diff_ids(&config_bytes);
    let layer = |(at, name): (usize, String)| {
        let source = diff_ids.get(at).and_then(|diff_id| sources.get(diff_id));
        let media_type = source.map(|source| source.media_type.clone()).unwrap_or_default();
        if media_type.contains("foreign") {
            return Err(TransportError::Foreign(name));
        }
        let told = source.and_then(|source| source.digest.clone());
        let in_layout = || digest_in_path(&name).filter(|_| name.starts_with("blobs/"));
        Ok(FoundLayer { digest: told.or_else(in_layout), media_type, blob: files.open(&name)? })
    };
    let layers = names.into_iter().enumerate().map(layer).collect::<Result<_, _>>()?;
    Parts { config_name: item.config, config_bytes, tags, layers }.into_image(platform)
}

fn diff_ids(config: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Vec<String>,
    }
    // Who understands all of it complains.
    serde_json::from_slice::<Config>(config).map(|config| config.rootfs.diff_ids).unwrap_or_default()
}

fn choose(mut items: Vec<Item>, wanted: Option<&str>) -> Result<Item, TransportError> {
    let names = |items: &[Item]| {
        let name = |(at, item): (usize, &Item)| item.tags().first().cloned().unwrap_or_else(|| format!("@{at}"));
        items.iter().enumerate().map(name).collect::<Vec<_>>()
    };
    let found = match wanted {
        None if items.len() > 1 => return Err(TransportError::Ambiguous(names(&items))),
        None => Some(0),
        Some(wanted) => match wanted.strip_prefix('@') {
            Some(number) => number.parse().ok(),
            None => items.iter().position(|item| item.tags().iter().any(|tag| is_same_name(tag, wanted))),
        },
    };
    match found.filter(|&at| at < items.len()) {
        Some(at) => Ok(items.swap_remove(at)),
        None => Err(TransportError::NoImage { wanted: wanted.unwrap_or("@0").to_owned(), there: names(&items) }),
    }
}

/// Whether two names mean the same: `docker.io/library/` in front and `:latest` behind may be left out.
pub(super) fn is_same_name(one: &str, other: &str) -> bool {
    let normal = |text: &str| {
        let mut reference = Reference::parse(text).ok()?;
        reference.tag.get_or_insert_with(|| "latest".to_owned());
        let name = reference.name;
        let name = name.strip_prefix("docker.io/").unwrap_or(&name);
        Some((name.strip_prefix("library/").unwrap_or(name).to_owned(), reference.tag, reference.digest))
    };
    one == other || normal(one).is_some_and(|one| normal(other) == Some(one))
}

#[cfg(test)]
mod tests;
