//! Images that no daemon has, as the steps take them: what is known of the image, its tree, and who reads its files.
//!
//! What a daemon tells of an image went through its own types: unknown fields are gone, what was absent is empty. An image
//! must be the same from wherever it comes, so the same is done to a configuration that is read directly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::config::{ImageConfig, RunConfig};
use super::digest::digest_of;
use super::location::{FileSource, ImageSource};
use super::packer::{PackerError, Skipped};
use super::read_files::ReadFiles;
use super::reference::{ImageName, Reference, ReferenceError};
use super::source::SourceImage;
use super::store::merge::{MergeError, merge};
use super::store::read::LayerFiles;
use super::store::{Flavour, Store, StoreError};
use super::transport::platform::Platform;
use super::transport::registry::{self, Access, Tell};
use super::transport::{self, LayeredImage, TransportError, rootfs};
use super::tree::{EntryId, Tree};
use crate::workspace::Workspace;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The archive or layout.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The layers.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The layers together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// The directory.
    #[error("the directory `{}` cannot be read: {reason}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: PackerError,
    },
    /// The directory itself.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// It has no files here.
    #[error("the image is in a daemon")]
    Daemon,
}

/// Where the files of an image are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a daemon, whose packer lists and reads them.
    Daemon,
    /// In layers.
    Layers(Arc<LayeredImage>),
    /// In a directory.
    Directory(PathBuf),
}

/// The image's files, once they can be read.
#[derive(Debug)]
pub struct Listed {
    /// All entries.
    pub tree: Tree,
    /// What cannot be in a layer.
    pub skipped: Vec<Skipped>,
    /// Reads the files of the tree.
    pub reader: Box<dyn ReadFiles>,
}

/// Finds an image in an archive or a layout.
///
/// # Errors
/// [`LocalError`]
pub fn open_file(source: &FileSource, platform: &Platform, max_unpacked_size: u64) -> Result<SourceImage, LocalError> {
    let image = transport::open(source, platform, max_unpacked_size)?;
    Ok(described(&ImageSource::File(source.clone()), image))
}

/// Finds an image in its registry. Its layers are fetched when they are unpacked, as long as this runtime goes on; `tell` hears
/// how many bytes of how many are here.
///
/// # Errors
/// [`LocalError`]
pub async fn open_registry(
    reference: &Reference,
    platform: &Platform,
    access: &Access,
    max_unpacked_size: u64,
    tell: Arc<Tell>,
) -> Result<SourceImage, LocalError> {
    let image = registry::open(reference, platform, access, max_unpacked_size, tell).await?;
    Ok(described(&ImageSource::Registry(reference.clone()), image))
}

fn described(source: &ImageSource, image: LayeredImage) -> SourceImage {
    SourceImage {
        id: image.id.clone(),
        name: source.to_string(),
        tags: image.tags.clone(),
        config: as_told_by_a_daemon(image.config.clone()),
        size: image.layers.iter().map(transport::LayerBlob::size).sum(),
        root_mode: None,
        place: Place::Layers(Arc::new(image)),
    }
}

/// Takes a directory for an image that runs as `run` says.
#[must_use]
pub fn open_directory(path: &Path, run: RunConfig) -> SourceImage {
    let Platform { os, architecture, .. } = Platform::of_host();
    let config = ImageConfig { os, architecture, config: Some(run), ..ImageConfig::default() };
    SourceImage {
        id: digest_of(&config.to_json()),
        name: ImageSource::Rootfs(path.to_owned()).to_string(),
        tags: vec![],
        config,
        size: 0,
        root_mode: None,
        place: Place::Directory(path.to_owned()),
    }
}

impl Place {
    /// Whether it is the root of this machine.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        matches!(self, Place::Directory(path) if path.canonicalize().is_ok_and(|path| path == Path::new("/")))
    }

    /// Lists the files of `image`, and gets ready to read them; layers that are not in the store are unpacked there as `flavour`.
    /// `tell` hears how many of them are done.
    ///
    /// # Errors
    /// [`LocalError`]
    pub fn list(
        &self,
        image: &SourceImage,
        flavour: Flavour,
        max_unpacked_size: u64,
        tell: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Listed, LocalError> {
        let store = Store::default_path();
        match self {
            Place::Daemon => Err(LocalError::Daemon),
            Place::Layers(layers) => {
                let store = Store::open(&store?)?;
                let layers = store.unpack(layers, flavour, max_unpacked_size, tell)?;
                let merged = merge(layers.iter().map(|layer| &*layer.index), image.created(), &image.made_by_engine())?;
                let (tree, merged) = (merged.tree.clone(), Arc::new(merged));
                Ok(Listed { tree, skipped: vec![], reader: Box::new(LayerFiles::new(layers, merged)) })
            }
            Place::Directory(path) => {
                // Our own files are of no image.
                let workspaces = Workspace::present(&std::env::temp_dir());
                let own: Vec<PathBuf> = store.into_iter().chain(workspaces).collect();
                let listed = rootfs::open(path, &own).and_then(|mut packer| {
                    let (tree, skipped) = packer.list()?;
                    Ok(Listed { tree, skipped, reader: Box::new(packer) })
                });
                listed.map_err(|reason| LocalError::Directory { path: path.clone(), reason })
            }
        }
    }
}

/// Bytes of all files; what has several names counts once.
#[must_use]
pub fn content_size(tree: &Tree) -> u64 {
    let is_first = |id: &EntryId| tree.hard_links(*id).first().is_none_or(|first| first == id);
    tree.ids().filter(is_first).map(|id| tree.size(id)).sum()
}

/// What the result is called when nothing is said: after the image's own name, else after its file.
///
/// # Errors
/// As [`ImageName::default_tag`].
pub fn default_tag(source: &ImageSource, image: &SourceImage) -> Result<Reference, ReferenceError> {
    let path = match source {
        ImageSource::Daemon(name) | ImageSource::Named(name) => return name.default_tag(&image.id, &image.tags),
        // No registry knows images by short ids.
        ImageSource::Registry(reference) => return ImageName::Named(reference.clone()).default_tag("", &[]),
        ImageSource::Rootfs(path) => path,
        ImageSource::File(
            FileSource::DockerArchive { path, .. } | FileSource::Oci { path, .. } | FileSource::OciArchive { path, .. },
        ) => path,
    };
    // A tag of a layout is often only a version.
    let is_name = |name: &&String| name.contains([':', '/']);
    let name = image.tags.iter().filter(is_name).find_map(|name| Reference::parse(name).ok());
    let of_file = || Reference::parse(&path.file_stem()?.to_str()?.to_lowercase()).ok();
    let name = name.or_else(of_file).map_or_else(|| ImageName::Id(image.id.clone()), ImageName::Named);
    name.default_tag(&image.id, &image.tags)
}

fn as_told_by_a_daemon(config: ImageConfig) -> ImageConfig {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let created = filled(config.created);
    let created = created.map(|text| in_daemons_form(&text).unwrap_or(text));
    ImageConfig {
        variant: filled(config.variant),
        os_version: filled(config.os_version),
        os_features: None,
        author: filled(config.author),
        created,
        config: config
            .config
            .map(|run| RunConfig { other: std::collections::BTreeMap::new(), ..run.without_what_says_nothing() }),
        ..config
    }
}

/// A time without the zeros at the end of its fraction.
fn in_daemons_form(text: &str) -> Option<String> {
    OffsetDateTime::parse(text, &Rfc3339).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_results() {
        let image = |tags: &[&str]| SourceImage {
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            name: String::new(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            config: ImageConfig::default(),
            size: 0,
            root_mode: None,
            place: Place::Daemon,
        };
        for (source, tags, tag) in [
            ("docker-archive:/tmp/x.tar", &["reg:5000/app:1"][..], "reg:5000/app.slim:1"),
            ("docker-archive:/tmp/My_App.tar", &[], "my_app.slim:latest"),
            ("oci:/tmp/layout", &["1.2"], "layout.slim:latest"),
            ("oci-archive:/tmp/ä.tar", &[], "slim-0123456789ab:latest"),
            ("rootfs:/", &[], "slim-0123456789ab:latest"),
            ("app:1", &[], "app.slim:1"),
            ("docker://reg:5000/app:1", &["reg:5000/app:1"], "reg:5000/app.slim:1"),
            ("docker://0123", &[], "0123.slim:latest"),
        ] {
            let source = ImageSource::parse(source).unwrap();
            assert_eq!(default_tag(&source, &image(tags)).unwrap().to_string(), tag, "{source}");
        }
    }

    #[test]
    fn a_configuration_is_what_a_daemon_would_say() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.500000000Z","author":"","variant":"",
            "config":{"Hostname":"","User":"","WorkingDir":"","Env":null,"Cmd":[],"Image":"sha256:1","Volumes":{}},
            "docker_version":"20.10","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = as_told_by_a_daemon(serde_json::from_str(text).unwrap());
        let expected = r#"{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.5Z","config":{"Cmd":[]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(String::from_utf8(config.to_json()).unwrap(), expected);
    }
}
