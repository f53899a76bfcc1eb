//! OCI images: an index leads, over any number of further indexes, to a manifest, and that to a configuration and layers,
//! all of them known by digest. In a layout the first index is `index.json`, and all else are blobs; registries hold the same
//! documents (see [`registry`](super::registry)), so what follows from them is in one place: here.
//!
//! Docker's own media types mean the same documents. Which image is meant is said by a tag (an annotation of the top
//! index), the platform, or by there being only one; attestations that build tools put beside images are none.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use super::files::Files;
use super::platform::Platform;
use super::section::Section;
use super::{
    FoundLayer, LayeredImage, MAX_LAYERS, Parts, TransportError, check_digest, check_digest_form, digits, docker_archive,
};

/// The most indexes that lead to an image, and that are read in all: more is an attack.
const MAX_DEPTH: usize = 8;
const MAX_INDEXES: usize = 1000;

const TAG: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Finds an image in the layout, which is called `layout`.
///
/// # Errors
/// [`TransportError`]
pub fn read(files: &dyn Files, layout: &str, tag: Option<&str>, platform: &Platform) -> Result<LayeredImage, TransportError> {
    if files.find("index.json")?.is_none() {
        let problem = match files.find("manifest.json")? {
            Some(_) => "is an archive of `docker save`: name it `docker-archive:...`",
            None => "is not an OCI layout: it has no `index.json`",
        };
        return Err(TransportError::Form { name: layout.to_owned(), problem: problem.to_owned() });
    }
    let index: ImageIndex = parse("index.json", &files.document("index.json")?)?;
    image(&Layout(files), &tagged(&index, tag)?, platform)
}

/// Gives what descriptors refer to. Nobody needs to verify it: that is done here, with layers while they are unpacked.
pub(super) trait Blobs {
    /// All bytes of an index, a manifest or a configuration.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransportError>;

    /// The bytes of a layer.
    fn layer(&self, descriptor: &Descriptor) -> Result<Section, TransportError>;
}

/// Blobs in files.
struct Layout<'f>(&'f dyn Files);

impl Blobs for Layout<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransportError> {
        self.0.document(&blob_name(descriptor)?)
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<Section, TransportError> {
        let name = blob_name(descriptor)?;
        let blob = self.0.open(&name)?;
        check_size(&name, blob.size(), descriptor)?;
        Ok(blob)
    }
}

/// Finds the image for `platform` at or below `top`.
pub(super) fn image(blobs: &dyn Blobs, top: &[&Descriptor], platform: &Platform) -> Result<LayeredImage, TransportError> {
    let mut search = Search { blobs, seen: HashSet::new(), found: vec![] };
    for descriptor in top {
        search.descend(descriptor, 0)?;
    }
    let descriptor = choose(search.found, platform)?;
    let manifest: ImageManifest = document(blobs, &descriptor)?;
    let config = manifest.config();
    let config_name = blob_name(config)?;
    let config_bytes = verified(blobs, config)?;
    if manifest.layers().len() > MAX_LAYERS {
        return Err(TransportError::document(&blob_name(&descriptor)?, format!("it has {} layers", manifest.layers().len())));
    }
    let layers = manifest.layers().iter().map(|layer| found_layer(blobs, layer)).collect::<Result<_, _>>()?;
    let tags = names(&descriptor).map(str::to_owned).collect();
    Parts { config_name, config_bytes, tags, layers }.into_image(platform)
}

/// The entries of the top index that a tag means; all of them where there is none.
fn tagged<'i>(index: &'i ImageIndex, tag: Option<&str>) -> Result<Vec<&'i Descriptor>, TransportError> {
    let images = || index.manifests().iter().filter(|descriptor| !is_attestation(descriptor));
    let Some(tag) = tag else { return Ok(images().collect()) };
    let is_meant = |descriptor: &&Descriptor| {
        names(descriptor).any(|name| docker_archive::is_same_name(name, tag)) || descriptor.digest().to_string() == tag
    };
    let found: Vec<_> = images().filter(is_meant).collect();
    if found.is_empty() {
        let there = images().filter_map(|descriptor| names(descriptor).next()).map(str::to_owned).collect();
        return Err(TransportError::NoImage { wanted: tag.to_owned(), there });
    }
    Ok(found)
}

/// The names that an entry has.
fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let named = |name: &str| descriptor.annotations().as_ref().and_then(|annotations| annotations.get(name));
    [CONTAINERD_NAME, TAG].map(named).into_iter().flatten().map(String::as_str)
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    let is_unknown = descriptor
        .platform()
        .as_ref()
        .is_some_and(|platform| platform.os().to_string() == "unknown" && platform.architecture().to_string() == "unknown");
    let annotations = descriptor.annotations().as_ref();
    is_unknown || annotations.is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"))
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().to_string();
    media_type.ends_with("image.index.v1+json") || media_type.ends_with("manifest.list.v2+json")
}

pub(super) fn is_manifest(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().to_string();
    media_type.ends_with("image.manifest.v1+json") || media_type.ends_with("distribution.manifest.v2+json")
}

/// Looks for manifests below indexes.
struct Search<'b> {
    blobs: &'b dyn Blobs,
    /// Digests of what was seen: nothing is read twice, circles end.
    seen: HashSet<String>,
    found: Vec<Descriptor>,
}

impl Search<'_> {
    fn descend(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), TransportError> {
        if is_attestation(descriptor) || !self.seen.insert(descriptor.digest().to_string()) {
            return Ok(());
        }
        if is_manifest(descriptor) {
            self.found.push(descriptor.clone());
            return Ok(());
        }
        // Signatures and other artifacts lie beside images.
        if !is_index(descriptor) {
            return Ok(());
        }
        if depth == MAX_DEPTH || self.seen.len() > MAX_INDEXES {
            let reason = format!("more than {MAX_DEPTH} indexes lead to an image, or there are more than {MAX_INDEXES}");
            return Err(TransportError::document(&blob_name(descriptor)?, reason));
        }
        let index: ImageIndex = document(self.blobs, descriptor)?;
        index.manifests().iter().try_for_each(|below| {
            let mut below = below.clone();
            // What is said of an index is said of what it holds.
            if below.annotations().is_none() {
                below.set_annotations(descriptor.annotations().clone());
            }
            if below.platform().is_none() {
                below.set_platform(descriptor.platform().clone());
            }
            self.descend(&below, depth + 1)
        })
    }
}

/// The one for the platform; where there is only one, that, if no platform was asked for.
fn choose(mut found: Vec<Descriptor>, platform: &Platform) -> Result<Descriptor, TransportError> {
    let describe = |descriptor: &Descriptor| {
        let name = names(descriptor).next().map_or_else(|| descriptor.digest().to_string(), str::to_owned);
        let platform = descriptor.platform().as_ref();
        platform.map_or(name.clone(), |platform| format!("{name} ({}/{})", platform.os(), platform.architecture()))
    };
    if found.len() > 1 || platform.is_demanded {
        let all: Vec<String> = found.iter().map(describe).collect();
        found.retain(|descriptor| platform.may_be(descriptor));
        if found.is_empty() {
            return Err(TransportError::NoImage { wanted: platform.to_string(), there: all });
        }
    }
    match found.len() {
        0 => Err(TransportError::Missing("a manifest".to_owned())),
        1 => Ok(found.swap_remove(0)),
        _ => Err(TransportError::Ambiguous(found.iter().map(describe).collect())),
    }
}

fn found_layer(blobs: &dyn Blobs, layer: &Descriptor) -> Result<FoundLayer, TransportError> {
    let media_type = layer.media_type().to_string();
    let digest = layer.digest().to_string();
    let has_urls = layer.urls().as_ref().is_some_and(|urls| !urls.is_empty());
    if media_type.contains("foreign") || (has_urls && media_type.contains("nondistributable")) {
        return Err(TransportError::Foreign(digest));
    }
    // Also that its digest is one that we can verify.
    blob_name(layer)?;
    Ok(FoundLayer { digest: Some(digest), media_type, blob: blobs.layer(layer)? })
}

fn blob_name(descriptor: &Descriptor) -> Result<String, TransportError> {
    let digest = descriptor.digest().to_string();
    check_digest_form("the image", &digest)?;
    Ok(format!("blobs/sha256/{}", digits(&digest).unwrap_or_default()))
}

fn check_size(name: &str, found: u64, descriptor: &Descriptor) -> Result<(), TransportError> {
    if found == descriptor.size() {
        return Ok(());
    }
    let (expected, found) = (descriptor.size().to_string(), found.to_string());
    Err(TransportError::Damaged { name: name.to_owned(), what: "size", expected, found })
}

fn verified(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<Vec<u8>, TransportError> {
    let name = blob_name(descriptor)?;
    let bytes = blobs.document(descriptor)?;
    check_size(&name, bytes.len() as u64, descriptor)?;
    check_digest(&name, &bytes, descriptor.digest().as_ref())?;
    Ok(bytes)
}

fn document<T: DeserializeOwned>(blobs: &dyn Blobs, descriptor: &Descriptor) -> Result<T, TransportError> {
    parse(&blob_name(descriptor)?, &verified(blobs, descriptor)?)
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, TransportError> {
    serde_json::from_slice(bytes).map_err(|error| TransportError::document(name, error))
}

#[cfg(test)]
mod tests;
