//! The engines of a command: each is found, or made ready, when it is first needed; what they have of the command is removed
//! in the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::build::Leftover;
use super::failure::Failure;
use super::progress::Progress;
use crate::engine::docker::Engine;
use crate::engine::embedded::Embedded;
use crate::engine::error::EngineError;
use crate::engine::owner::Owner;
use crate::workspace::Workspace;

/// How long an engine that went away may take to come back.
const RETURN_PATIENCE: Duration = Duration::from_secs(10);

/// How long the containers of an image that a killed run left may take to be removed, by us or by another run.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// Which engine runs the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EngineChoice {
    /// The daemon for its own images, slim itself for all others.
    #[value(help = None)]
    #[default]
    Auto,
    /// The daemon.
    #[value(help = None)]
    Docker,
    /// slim itself; an image of the daemon is saved to a file first.
    #[value(help = None)]
    Embedded,
}

/// See the module.
#[derive(Debug)]
pub struct Engines {
    host: Option<String>,
    executable: PathBuf,
    progress: Arc<Progress>,
    docker: OnceCell<Engine>,
    embedded: OnceCell<Embedded>,
    /// What runs is watched.
    to_watch: bool,
    /// Images that the daemon may have of us.
    pub leftover: Leftover,
}

impl Engines {
    /// None of them is looked for yet. `host`: where the daemon is, if that was said.
    #[must_use]
    pub fn new(host: Option<String>, executable: PathBuf, progress: Arc<Progress>) -> Engines {
        let (docker, embedded, leftover) = (OnceCell::new(), OnceCell::new(), Leftover::default());
        Engines { host, executable, progress, docker, embedded, to_watch: true, leftover }
    }

    /// For a command that watches nothing.
    #[must_use]
    pub fn unwatched(self) -> Engines {
        Engines { to_watch: false, ..self }
    }

    /// The file of this program.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The daemon.
    ///
    /// # Errors
    /// [`Failure`]: such as that none answers.
    pub async fn docker(&self) -> Result<&Engine, Failure> {
        self.docker.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Engine, Failure> {
        let owner = Owner::this_process().map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
        let engine = Engine::connect(self.host.as_deref(), owner).await?;
        self.progress.messages.detail(format!("engine: {} {} at {}", engine.kind, engine.version, engine.host()));
        sweep(Some(&engine), &self.progress).await;
        Ok(engine)
    }

    /// Somebody said where the daemon is.
    #[must_use]
    pub fn daemon_is_named(&self) -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.host.is_some() || is_set("DOCKER_HOST") || is_set("DOCKER_CONTEXT")
    }

    /// The daemon, if it was needed so far.
    #[must_use]
    pub fn connected(&self) -> Option<&Engine> {
        self.docker.get()
    }

    /// slim's own engine, for images that are unpacked to at most so many bytes.
    ///
    /// # Errors
    /// [`Failure`]: such as that this machine does not allow it.
    pub async fn embedded(&self, max_unpacked_size: u64) -> Result<&Embedded, Failure> {
        let start = || async {
            sweep(None, &self.progress).await;
            let engine = Embedded::start(self.executable.clone(), max_unpacked_size, self.to_watch).await?;
            self.progress.messages.detail(format!("engine: slim itself, {}", engine.tier()));
            Ok(engine)
        };
        self.embedded.get_or_try_init(start).await
    }

    /// slim's own engine, if it was needed so far.
    #[must_use]
    pub fn started(&self) -> Option<&Embedded> {
        self.embedded.get()
    }

    /// Removes what this command left in the engines. A daemon that went away is given time to come back.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn clean_up(&self) -> Result<(), EngineError> {
        if let Some(embedded) = self.embedded.get() {
            // Whoever held a container is gone.
            embedded.runner().all_ended().await;
        }
        let Some(engine) = self.docker.get() else { return Ok(()) };
        let deadline = Instant::now() + RETURN_PATIENCE;
        let mut cleaned = engine.clean_up().await;
        if matches!(cleaned, Err(EngineError::Lost { .. })) {
            self.progress.step("waiting for the engine to come back");
        }
        while matches!(cleaned, Err(EngineError::Lost { .. })) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cleaned = engine.clean_up().await;
        }
        cleaned?;
        for image in self.leftover.images() {
            engine.remove_unnamed(&image).await;
        }
        Ok(())
    }
}

/// Removes what killed runs left: in the daemon, where there is one at hand, and here.
async fn sweep(engine: Option<&Engine>, progress: &Progress) {
    let Some(engine) = engine else {
        // Nothing could be done about images that are noted.
        let directories = Workspace::sweep_without_engine(&std::env::temp_dir());
        return tell_swept(Ok(0), directories, progress);
    };
    // An image cannot be removed while there is a container of it.
    let containers = engine.sweep().await;
    let left = Workspace::sweep(&std::env::temp_dir());
    for image in &left.images {
        // Another run's sweep may be removing its container right now; after this one nobody knows of the image.
        engine.discard(image, SWEEP_PATIENCE).await;
    }
    tell_swept(containers, left.directories, progress);
}

fn tell_swept(containers: Result<usize, EngineError>, directories: usize, progress: &Progress) {
    match containers {
        Ok(0) if directories == 0 => {}
        Ok(containers) => progress.messages.info(format!(
            "removed what killed runs left: containers: {containers}, directories for temporary files: {directories}"
        )),
        Err(error) => progress.messages.warn(format!("what a killed run left could not be removed: {error}")),
    }
}
