//! From what the user named to an image, and to the engine that runs it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;

use super::engines::{EngineChoice, Engines};
use super::failure::Failure;
use super::meaning;
use super::progress::Progress;
use super::request::Credentials;
use crate::engine::docker::{Engine, PullProgress};
use crate::engine::embedded::refuse_what_is_not_known;
use crate::engine::error::EngineError;
use crate::engine::options::RunOptions;
use crate::exit::Exit;
use crate::image::local;
use crate::image::location::{FileSource, ImageSource};
use crate::image::reference::{ImageName, Reference};
use crate::image::source::SourceImage;
use crate::image::transport::platform::Platform;
use crate::image::transport::registry::Access;

/// How images are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// Which engine is to run them.
    pub engine: EngineChoice,
    /// What they must be for.
    pub platform: &'a Platform,
    /// Bytes that are unpacked of one at most.
    pub max_unpacked_size: u64,
    /// Fetch what the daemon hasn't got.
    pub pull: bool,
    /// With these, rather than what `docker login` stored.
    pub credentials: Option<&'a Credentials>,
    /// Ports that are published are reached: not where all there is are probes.
    pub publishes: bool,
    /// How registries may be spoken to.
    pub access: &'a Access,
    /// How they are run: all that is known of how a directory runs.
    pub run: &'a RunOptions,
}

/// Which engine runs an image, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// slim itself; else the daemon.
    pub is_embedded: bool,
    /// In words.
    pub why: String,
}

impl Chosen {
    fn docker(why: &str) -> Chosen {
        Chosen { is_embedded: false, why: why.to_owned() }
    }

    fn embedded(why: &str) -> Chosen {
        Chosen { is_embedded: true, why: why.to_owned() }
    }
}

/// Finds an image.
///
/// # Errors
/// [`Failure`]
pub(super) async fn find(
    engines: &Engines,
    source: &ImageSource,
    search: Search<'_>,
    progress: &Arc<Progress>,
) -> Result<(SourceImage, Chosen), Failure> {
    let found = match source {
        ImageSource::Named(name) => somewhere(engines, name, search, progress).await?,
        ImageSource::Daemon(name) => in_daemon(engines, engines.docker().await?, name, search, progress).await?,
        _ if search.engine == EngineChoice::Docker => {
            return Err(Failure::usage(format!(
                "`{source}` is in no daemon, so `--engine docker` cannot run it: load it into the daemon, or leave the choice to slim"
            )));
        }
        ImageSource::File(file) => (open(file, search).await?, Chosen::embedded("the image is in no daemon")),
        ImageSource::Registry(reference) => {
            (in_registry(reference, search, progress).await?, Chosen::embedded("the image is in a registry, not in a daemon"))
        }
        ImageSource::Rootfs(path) => {
            let image = local::open_directory(path, meaning::directory_config(search.run));
            (image, Chosen::embedded("a directory is in no daemon"))
        }
    };
    if found.1.is_embedded {
        refuse_what_is_not_known(search.run, search.publishes)?;
    }
    Ok(found)
}

async fn open(file: &FileSource, search: Search<'_>) -> Result<SourceImage, Failure> {
    let (file, platform, limit) = (file.clone(), search.platform.clone(), search.max_unpacked_size);
    let opened = tokio::task::spawn_blocking(move || local::open_file(&file, &platform, limit)).await;
    Ok(opened.map_err(|error| Failure::internal(error.to_string()))??)
}

/// A bare name means the daemon's image; where nobody said that there is a daemon, and none answers, that of its registry.
async fn somewhere(
    engines: &Engines,
    name: &ImageName,
    search: Search<'_>,
    progress: &Arc<Progress>,
) -> Result<(SourceImage, Chosen), Failure> {
    let failure = match engines.docker().await {
        Ok(engine) => return in_daemon(engines, engine, name, search, progress).await,
        Err(failure) => failure,
    };
    let may_be_elsewhere = search.engine != EngineChoice::Docker && !engines.daemon_is_named() && failure.exit == Exit::Engine;
    let ImageName::Named(reference) = name else { return Err(failure) };
    if !may_be_elsewhere {
        return Err(failure);
    }
    match in_registry(reference, search, progress).await {
        Ok(image) => Ok((image, Chosen::embedded("no daemon answers, and its registry has the image"))),
        Err(error) => {
            let message = format!("{}\nits registry was asked in place of a daemon: {}", failure.message, error.message);
            Err(Failure { message, ..failure })
        }
    }
}

/// Looks up an image in its registry, without any daemon; its layers are fetched when they are unpacked.
async fn in_registry(reference: &Reference, search: Search<'_>, progress: &Arc<Progress>) -> Result<SourceImage, Failure> {
    progress.step(format!("looking up `{reference}` in its registry"));
    let Search { platform, access, max_unpacked_size, .. } = search;
    Ok(local::open_registry(reference, platform, access, max_unpacked_size, progress.downloads()).await?)
}

/// Asks the daemon for an image; one that it hasn't got is pulled.
async fn in_daemon(
    engines: &Engines,
    engine: &Engine,
    name: &ImageName,
    search: Search<'_>,
    progress: &Arc<Progress>,
) -> Result<(SourceImage, Chosen), Failure> {
    let text = name.to_string();
    let inspected = match engine.image(&text).await {
        Err(EngineError::NoImage { .. }) if search.pull => {
            progress.step(format!("pulling `{text}`"));
            let credentials = meaning::credentials(search.credentials, name);
            let shown = Arc::clone(progress);
            let tell = move |now: PullProgress| {
                let done = now.bytes.map(|(done, all)| format!(" {} of {} MB", done / 1_000_000, all / 1_000_000));
                shown.tick(format!("{} {}{}", now.layer, now.status, done.unwrap_or_default()));
            };
            engine.pull(&name.to_pull(), credentials, tell).await?;
            engine.image(&text).await?
        }
        other => other?,
    };
    let mut image = SourceImage::new(&text, inspected)?;
    if search.engine == EngineChoice::Embedded {
        progress.step(format!("saving `{text}` from the daemon"));
        let saved = save(engine, &image, engines.embedded(search.max_unpacked_size).await?.directory()).await?;
        let saved = SourceImage { name: image.name, tags: image.tags, ..open(&saved, search).await? };
        return Ok((saved, Chosen::embedded("`--engine embedded`")));
    }
    image.complete(engine).await?;
    let why = if search.engine == EngineChoice::Docker { "`--engine docker`" } else { "the daemon has the image" };
    Ok((image, Chosen::docker(why)))
}

/// Saves an image of the daemon to a file.
async fn save(engine: &Engine, image: &SourceImage, directory: &Path) -> Result<FileSource, Failure> {
    let failed = |error: std::io::Error| Failure {
        exit: Exit::Engine,
        message: format!("the image cannot be saved to `{}`: {error}", directory.display()),
    };
    let path = directory.join(format!("saved-{}.tar", image.id.trim_start_matches("sha256:")));
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path).map_err(failed)?);
    let mut parts = std::pin::pin!(engine.save(&image.id));
    while let Some(part) = parts.next().await {
        file.write_all(&part?).map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok(FileSource::DockerArchive { path, reference: None })
}
