//! Images that no daemon has: archives, layouts, directories and registries, by skopeo's names.
//!
//! A transport finds one image in what it is given: its configuration, whose digest is the image's id, and its layers,
//! as blobs that can be opened. What an image claims of itself (digests, sizes, numbers of layers) is checked as soon as
//! the bytes that prove it are there: documents here, layers while they are unpacked.
//!
//! | name | module |
//! | --- | --- |
//! | `docker-archive:PATH[:REF]` | [`docker_archive`] |
//! | `oci:DIRECTORY[:TAG]`, `oci-archive:PATH[:TAG]` | [`oci`] |
//! | `docker://REF` | [`registry`] |
//! | `rootfs:DIRECTORY` | [`rootfs`], which has no layers: it is read in place |

pub mod docker_archive;
pub mod files;
pub mod oci;
pub mod platform;
pub mod registry;
pub mod rootfs;
pub mod section;

use std::io;

use self::platform::Platform;
use self::section::Section;
use super::config::ImageConfig;
use super::digest::digest_of;
use super::layer::compression::Expected;
use super::layer::tar::TarError;
use super::location::FileSource;

/// The most bytes of a manifest, an index or a configuration.
const MAX_DOCUMENT: u64 = 16 << 20;
/// The most layers of an image; overlayfs can stack 500.
const MAX_LAYERS: usize = 500;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A file.
    #[error("`{name}` cannot be read: {reason}")]
    Read {
        /// Which.
        name: String,
        /// The system's reason, or the decompressor's.
        reason: io::Error,
    },
    /// The archive around the image.
    #[error("`{name}` cannot be read: {reason}")]
    Archive {
        /// Its path.
        name: String,
        /// What is wrong with it.
        reason: TarError,
    },
    /// It is something else.
    #[error("`{name}` {problem}")]
    Form {
        /// The archive or the layout.
        name: String,
        /// What it lacks, and what to do.
        problem: String,
    },
    /// Something that an image needs is not there.
    #[error("the image lacks `{0}`: it is incomplete, copy or save it again")]
    Missing(String),
    /// A document that is no such thing.
    #[error("`{name}` makes no sense: {reason}")]
    Document {
        /// Its name in the archive or layout.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A digest or a size.
    #[error("`{name}` has the {what} `{found}`, but should have `{expected}`: the image is damaged, copy or save it again")]
    Damaged {
        /// The document.
        name: String,
        /// Digest or size.
        what: &'static str,
        /// As the image says.
        expected: String,
        /// Of what is there.
        found: String,
    },
    /// Nothing of that name.
    #[error("there is no image `{wanted}`{}", those_there(.there))]
    NoImage {
        /// What was asked for.
        wanted: String,
        /// What could have been.
        there: Vec<String>,
    },
    /// More than one image.
    #[error("there are {} images: say which one{}", .0.len(), those_there(.0))]
    Ambiguous(Vec<String>),
    /// Not of Linux.
    #[error("the image is for `{0}`, and slim minifies images for `linux` only")]
    System(String),
    /// Layers that are elsewhere.
    #[error("the layer `{0}` is foreign: its bytes are to be had from its maker only, and slim does not fetch them")]
    Foreign(String),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] registry::RegistryError),
}

/// So many names are told.
const TOLD: usize = 20;

fn those_there(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(TOLD).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => String::new(),
        count if count > TOLD => format!("; there are {} and {} more", shown.join(", "), count - TOLD),
        _ => format!("; there is {}", shown.join(", ")),
    }
}

impl TransportError {
    fn document(name: &str, reason: impl std::fmt::Display) -> TransportError {
        TransportError::Document { name: name.to_owned(), reason: reason.to_string() }
    }
}

/// An image as a configuration and layers.
#[derive(Debug, Clone)]
pub struct LayeredImage {
    /// Digest of the configuration, `sha256:...`.
    pub id: String,
    /// The configuration, exactly as it is in the image.
    pub config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The names that it is given where it lies.
    pub tags: Vec<String>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerBlob>,
}

/// A layer as it is stored.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// Digest of the archive in it, `sha256:...`.
    pub diff_id: String,
    /// Digest of the blob, where that is told.
    pub digest: Option<String>,
    /// What it is said to be; empty where nothing is said.
    pub media_type: String,
    blob: Section,
}

impl LayerBlob {
    /// A layer whose bytes are in `blob`.
    #[must_use]
    pub fn new(diff_id: String, digest: Option<String>, media_type: String, blob: Section) -> LayerBlob {
        LayerBlob { diff_id, digest, media_type, blob }
    }

    /// The blob's bytes.
    #[must_use]
    pub fn open(&self) -> Section {
        self.blob.clone()
    }

    /// Says that the blob will be opened, so that one that is elsewhere can begin to come.
    pub fn begin(&self) {
        self.blob.begin();
    }

    /// Bytes of the blob.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size()
    }

    /// What its bytes must be.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected { digest: self.digest.clone(), diff_id: Some(self.diff_id.clone()) }
    }
}

/// Finds the image in an archive or a layout. A compressed archive is unpacked into a file without a name of at most
/// `max_unpacked_size` bytes.
///
/// # Errors
/// [`TransportError`]
pub fn open(source: &FileSource, platform: &Platform, max_unpacked_size: u64) -> Result<LayeredImage, TransportError> {
    match source {
        FileSource::DockerArchive { path, reference } => {
            let files = files::Archive::open(path, max_unpacked_size)?;
            docker_archive::read(&files, &path.display().to_string(), reference.as_deref(), platform)
        }
        FileSource::OciArchive { path, tag } => {
            let files = files::Archive::open(path, max_unpacked_size)?;
            oci::read(&files, &path.display().to_string(), tag.as_deref(), platform)
        }
        FileSource::Oci { path, tag } => {
            oci::read(&files::Directory(path.clone()), &path.display().to_string(), tag.as_deref(), platform)
        }
    }
}

/// What an image is made of, as it was found: all that is left is to understand the configuration.
struct Parts {
    /// Under which name the configuration was found.
    config_name: String,
    config_bytes: Vec<u8>,
    tags: Vec<String>,
    layers: Vec<FoundLayer>,
}

/// A layer of which only the configuration tells the diffID.
struct FoundLayer {
    digest: Option<String>,
    media_type: String,
    blob: Section,
}

impl Parts {
    fn into_image(self, platform: &Platform) -> Result<LayeredImage, TransportError> {
        let Parts { config_name, config_bytes, tags, layers } = self;
        let config: ImageConfig =
            serde_json::from_slice(&config_bytes).map_err(|error| TransportError::document(&config_name, error))?;
        if config.os != "linux" {
            return Err(TransportError::System(config.os));
        }
        if platform.is_demanded && !platform.is_met_by(&config.os, &config.architecture, config.variant.as_deref()) {
            let there = vec![format!("{}/{}", config.os, config.architecture)];
            return Err(TransportError::NoImage { wanted: platform.to_string(), there });
        }
        let diff_ids = config.rootfs.diff_ids();
        if diff_ids.len() != layers.len() || layers.len() > MAX_LAYERS {
            let reason = format!("it names {} layers, but the image has {}", diff_ids.len(), layers.len());
            return Err(TransportError::document(&config_name, reason));
        }
        let layer = |(found, diff_id): (FoundLayer, &String)| {
            let FoundLayer { digest, media_type, blob } = found;
            check_digest_form(&config_name, diff_id)?;
            Ok::<_, TransportError>(LayerBlob::new(diff_id.clone(), digest, media_type, blob))
        };
        let layers = layers.into_iter().zip(diff_ids).map(layer).collect::<Result<_, _>>()?;
        Ok(LayeredImage { id: digest_of(&config_bytes), config_bytes, config, tags, layers })
    }
}

/// The digits of a `sha256:` digest, which can be part of a path.
fn digits(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    let are_digits = digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    are_digits.then_some(digits)
}

/// The digest in the last name of a path, such as `blobs/sha256/DIGITS` or `DIGITS.json`.
fn digest_in_path(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let digest = format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name));
    digits(&digest).is_some().then_some(digest)
}

fn check_digest_form<'d>(name: &str, digest: &'d str) -> Result<&'d str, TransportError> {
    let reason = || format!("`{}` is not `sha256:` and 64 hexadecimal digits", crate::escape::escape(digest.as_bytes()));
    digits(digest).ok_or_else(|| TransportError::document(name, reason()))
}

fn check_digest(name: &str, bytes: &[u8], expected: &str) -> Result<(), TransportError> {
    let found = digest_of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(TransportError::Damaged { name: name.to_owned(), what: "digest", expected: expected.to_owned(), found })
}
