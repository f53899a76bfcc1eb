//! slim as an engine: images from the layer store, each of their containers with a helper of its own.
//!
//! An image's layers are unpacked once and stay where they are as long as the engine lives. The images that are tried, but
//! may never get a name, go to a store of this run alone, which goes with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use slim_sensor::container::spec::{ContainerSpec, Owner};

use super::root::ImageRoot;
use super::runner::{Runner, RunnerError};
use super::specify::specify;
use super::tiers::Tier;
use crate::engine::options::RunOptions;
use crate::image::local::{LocalError, Place};
use crate::image::source::SourceImage;
use crate::image::store::{Flavour, Store};
use crate::workspace::Workspace;

/// What goes wrong with a container of slim's own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// It cannot be made.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The image's files.
    #[error(transparent)]
    Image(#[from] LocalError),
    /// An option of another engine.
    #[error("slim's own containers have no `{option}`: {hint}")]
    Option {
        /// The flag.
        option: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A volume of another engine.
    #[error("slim's own containers have no volumes with names, such as `{0}`: mount a directory of this machine")]
    NamedVolume(String),
    /// There is no such user.
    #[error("{0}")]
    User(String),
    /// It has no files here.
    #[error("the image `{0}` is in a daemon: slim's own containers are of images in files, registries and directories")]
    InDaemon(String),
    /// The directory for temporary files.
    #[error("slim's directory for temporary files cannot be used: {0}")]
    Workspace(std::io::Error),
    /// A fault.
    #[error("a task of slim failed: {0}")]
    Task(String),
}

/// See the module.
#[derive(Debug)]
pub struct Embedded {
    runner: Runner,
    workspace: Workspace,
    max_unpacked_size: u64,
    /// By id.
    roots: Mutex<HashMap<String, Arc<ImageRoot>>>,
    containers: AtomicU32,
}

impl Embedded {
    /// An engine in the first tier that works here. `executable`: slim itself; `to_watch`: what its containers do is to be
    /// watched.
    ///
    /// # Errors
    /// [`EmbeddedError`]: also where no tier works, with the reasons.
    pub async fn start(executable: PathBuf, max_unpacked_size: u64, to_watch: bool) -> Result<Embedded, EmbeddedError> {
        let workspace = Workspace::create(&std::env::temp_dir()).map_err(EmbeddedError::Workspace)?;
        let runner = Runner::choose(executable, workspace.path(), to_watch).await?;
        Ok(Embedded { runner, workspace, max_unpacked_size, roots: Mutex::default(), containers: AtomicU32::new(0) })
    }

    /// Starts its containers.
    #[must_use]
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// How it makes containers.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.runner.tier()
    }

    /// What the layers of its images are like in the store.
    #[must_use]
    pub fn flavour(&self) -> Flavour {
        if self.tier() == Tier::Root { Flavour::Root } else { Flavour::User }
    }

    /// A place for files of this run.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.workspace.path()
    }

    /// The files of an image as a root; unpacked where they are not yet. `tell` hears how many layers are done.
    ///
    /// # Errors
    /// [`EmbeddedError`]
    pub async fn root(
        &self,
        image: &SourceImage,
        tell: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Result<Arc<ImageRoot>, EmbeddedError> {
        if let Some(root) = self.known(&image.id) {
            return Ok(root);
        }
        if matches!(image.place, Place::Daemon) {
            return Err(EmbeddedError::InDaemon(image.name.clone()));
        }
        let store = Store::default_path().and_then(|path| Store::open(&path)).map_err(LocalError::from)?;
        self.unpack(image, store, tell).await
    }

    /// Takes in an image that is only tried.
    ///
    /// # Errors
    /// [`EmbeddedError`]
    pub async fn admit(&self, image: &SourceImage) -> Result<(), EmbeddedError> {
        let store = Store::open(&self.workspace.path().join("tried")).map_err(LocalError::from)?;
        self.unpack(image, store, |_, _| {}).await.map(drop)
    }

    /// Forgets an image that was tried, whose layers are removed.
    pub fn forget(&self, id: &str) {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        // What can't be removed now goes with the run.
        let _ = Store::open(&self.workspace.path().join("tried")).and_then(|store| store.prune(0));
    }

    fn known(&self, id: &str) -> Option<Arc<ImageRoot>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn unpack(
        &self,
        image: &SourceImage,
        store: Store,
        tell: impl Fn(usize, usize) + Send + Sync + 'static,
    ) -> Result<Arc<ImageRoot>, EmbeddedError> {
        let (image, tier, flavour, limit) = (image.clone(), self.tier(), self.flavour(), self.max_unpacked_size);
        let patch = self.new_directory("patch")?;
        let unpacked = tokio::task::spawn_blocking(move || {
            let root = ImageRoot::unpack(&image, &store, flavour, tier == Tier::SubordinateIds, limit, patch, &tell)?;
            Ok::<_, EmbeddedError>((image.id, Arc::new(root)))
        });
        let (id, root) = unpacked.await.map_err(|error| EmbeddedError::Task(error.to_string()))??;
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&root));
        Ok(root)
    }

    /// What a container of the image is, with these options; its state directory is made.
    ///
    /// # Errors
    /// [`EmbeddedError`]
    pub fn specify(&self, image: &SourceImage, root: &ImageRoot, options: &RunOptions) -> Result<ContainerSpec, EmbeddedError> {
        let config = image.config.config.clone().unwrap_or_default();
        let owners: Vec<Owner> = root.owners.clone();
        specify(options, &config, &root.directories, owners, self.new_directory("container")?)
    }

    fn new_directory(&self, name: &str) -> Result<PathBuf, EmbeddedError> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed);
        let path = self.workspace.path().join(format!("{name}-{number}"));
        std::fs::create_dir(&path).map_err(EmbeddedError::Workspace)?;
        Ok(path)
    }
}
