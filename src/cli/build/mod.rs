//! `slim build`: all the steps, one after the other.
//!
//! The packer's container is started beside the target's, and lists the tree while the target is exercised. Whatever
//! ends the build, the report says how far it came. The steps are in the modules below: what is run, what is kept, what is packed,
//! and the rounds of trying the result and repairing it.

mod giving_up;
mod left_out;
mod leftover;
mod outputs;
mod packing;
mod planning;
mod rounds;
mod running;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub use self::leftover::Leftover;
use self::running::Watched;
use super::failure::Failure;
use super::meaning;
use super::progress::Progress;
use super::request::BuildRequest;
use super::summary::Summary;
use crate::engine::docker::{Engine, EngineError};
use crate::engine::inject::Program;
use crate::engine::volumes::Copies;
use crate::exit::Exit;
use crate::files::write_file_atomically;
use crate::image::config::{ImageConfig, created_at};
use crate::image::local::{self, Place};
use crate::image::read_files::ReadFiles;
use crate::image::reference::{ImageName, ImageSource, Reference};
use crate::image::source::SourceImage;
use crate::image::tree::Tree;
use crate::pack::archive::Packed;
use crate::pack::store::Stored;
use crate::plan::Plan;
use crate::report::{Entries, ImageFacts, OutputFacts, Report, ResultFacts};
use crate::verify::Level;

/// Builds until `interruption` comes, and writes the report whatever comes of it; what to tell the user.
///
/// # Errors
/// [`Failure`]
pub async fn build(
    engine: &Engine,
    request: BuildRequest,
    executable: &Path,
    progress: Arc<Progress>,
    leftover: &Leftover,
    interruption: impl Future<Output = Exit>,
) -> Result<Summary, Failure> {
    let mut build = Build { engine, request: &request, executable, progress: &progress, leftover, report: Report::new() };
    let result = tokio::select! {
        result = build.all() => result,
        exit = interruption => Err(Failure { exit, message: exit.describe().to_owned() }),
    };
    let mut report = build.report;
    report.options = request.run.described.clone();
    report.outcome.exit_code = result.as_ref().map_or_else(|failure| failure.exit, |()| Exit::Done).code();
    report.outcome.meaning = result.as_ref().map_or_else(|failure| failure.exit, |()| Exit::Done).describe().to_owned();
    report.outcome.error = result.as_ref().err().map(|failure| failure.message.clone());
    if let Some(path) = &request.output.report {
        let written = write_file_atomically(path, |file| serde_json::to_writer(file, &report).map_err(std::io::Error::from));
        if let Err(error) = written {
            progress.messages.warn(format!("the report cannot be written to `{}`: {error}", path.display()));
        }
    }
    result.map(|()| Summary::new(&report, request.output.report.as_deref()))
}

struct Build<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    executable: &'a Path,
    progress: &'a Arc<Progress>,
    leftover: &'a Leftover,
    report: Report,
}

/// The image's files: the tree, and who reads them.
struct Files {
    reader: Box<dyn ReadFiles>,
    tree: Arc<Tree>,
}

/// What all steps after the first know.
struct Source {
    image: SourceImage,
    /// Where it is, if no daemon has it.
    place: Option<Place>,
    program: Program,
    /// For the configuration of the result.
    created: Option<String>,
    /// Names of the result.
    tags: Vec<Reference>,
    /// Where the compressed layer can lie, if there are files to be written.
    temporary: Option<PathBuf>,
}

impl Build<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut probes = meaning::probes(&self.request.probes)?;
        probes.must_work = self.request.verification.level != Level::Off;
        let given = self.read_plan()?;
        let mut source = self.source().await?;
        self.report.took("resolve", begun.elapsed().as_secs_f64());

        let must_run = given.is_none() || self.request.verification.level != Level::Off;
        if must_run && source.place.is_some() {
            let message = format!(
                "`{}` is in no daemon, and cannot be run: load it into the daemon, or give a plan (`--plan`) without `--verify`",
                source.image.name
            );
            return Err(Failure::usage(message));
        }
        let (volumes, runs, opened) = if must_run {
            let Watched { volumes, runs, opened } = self.watch(&source, &probes).await?;
            (volumes, runs, opened)
        } else {
            (Copies::default(), vec![], self.list(&source).await?)
        };
        if let Some(run) = &mut source.image.config.config {
            run.stop_timeout = opened.stop_timeout;
        }
        let container = opened.container;
        let files = Files { reader: opened.reader, tree: Arc::new(opened.tree) };

        let begun = Instant::now();
        self.progress.step("planning what is kept");
        let (files, plan) = match given {
            Some(plan) => self.check_plan(&source, files, plan)?,
            None => self.make_plan(&source, files, &runs).await?,
        };
        self.report.took("plan", begun.elapsed().as_secs_f64());

        let made = match runs.first() {
            Some(_) if self.request.verification.level != Level::Off => {
                self.verified(&source, &probes, &volumes, runs, files, plan).await
            }
            _ => self.packed(&source, files, plan).await,
        };
        let removal = container.map(|container| tokio::spawn(async move { container.remove().await }));
        let named = self.finish(&source, made).await;
        if let Some(removal) = removal {
            removal.await.map_err(|error| Failure::internal(error.to_string()))??;
        }
        named
    }

    /// Finds out all that there is to know before anything is run.
    async fn source(&mut self) -> Result<Source, Failure> {
        let created = meaning::source_date_epoch()?.map(created_at).transpose();
        let created = created.map_err(|error| Failure::usage(error.to_string()))?;
        let temporary = self.check_outputs().await?;
        let (image, place) = self.resolve().await?;
        let tags = self.tags(&image)?;
        let program = Program::prepare(self.executable, self.engine.run(), &image.config.architecture)?;
        self.leftover.note_in(program.images());
        Ok(Source { image, place, program, created, tags, temporary })
    }

    /// Finds the image, and refuses what cannot be used before anything is started.
    async fn resolve(&mut self) -> Result<(SourceImage, Option<Place>), Failure> {
        let (image, place) = match &self.request.image {
            ImageSource::Daemon(name) => (self.resolve_in_daemon(name).await?, None),
            ImageSource::File(source) => {
                let (source, platform) = (source.clone(), self.request.platform.clone());
                let limit = self.request.max_unpacked_size;
                let opened = tokio::task::spawn_blocking(move || local::open_file(&source, &platform, limit)).await;
                let (image, place) = opened.map_err(|error| Failure::internal(error.to_string()))??;
                (image, Some(place))
            }
            ImageSource::Registry(reference) => {
                let (image, place) = self.resolve_in_registry(reference).await?;
                (image, Some(place))
            }
            ImageSource::Rootfs(path) => {
                let (image, place) = local::open_directory(path, meaning::directory_config(&self.request.run));
                (image, Some(place))
            }
        };
        self.report.image = Some(ImageFacts {
            name: image.name.clone(),
            id: image.id.clone(),
            architecture: image.config.architecture.clone(),
            size: image.size,
            entries: None,
        });
        let refused = |message| Failure { exit: Exit::Image, message };
        let ImageConfig { os, architecture, variant, .. } = &image.config;
        if os != "linux" {
            return Err(refused(format!("the image is for `{os}`, and slim minifies images for `linux` only")));
        }
        let platform = &self.request.platform;
        if platform.is_demanded && !platform.is_met_by(os, architecture, variant.as_deref()) {
            return Err(refused(format!("`{}` is for `{os}/{architecture}`, not for `{platform}`", image.name)));
        }
        if !self.request.force && image.config.is_slim() {
            let message = format!("`{}` was made by slim already: build from its original, or say `--force`", image.name);
            return Err(refused(message));
        }
        Ok((image, place))
    }

    /// Asks the daemon for an image; one that it hasn't got is pulled.
    async fn resolve_in_daemon(&mut self, image: &ImageName) -> Result<SourceImage, Failure> {
        let name = image.to_string();
        let inspected = match self.engine.image(&name).await {
            Err(EngineError::NoImage(_)) if self.request.pull => {
                self.progress.step(format!("pulling `{name}`"));
                let credentials = meaning::credentials(self.request, image);
                let progress = Arc::clone(self.progress);
                let tell = move |now: crate::engine::docker::PullProgress| {
                    let done = now.bytes.map(|(done, all)| format!(" {} of {} MB", done / 1_000_000, all / 1_000_000));
                    progress.tick(format!("{} {}{}", now.layer, now.status, done.unwrap_or_default()));
                };
                self.engine.pull(&image.to_pull(), credentials, tell).await?;
                self.engine.image(&name).await?
            }
            other => other?,
        };
        let mut image = SourceImage::new(&name, inspected)?;
        image.complete(self.engine).await?;
        Ok(image)
    }

    /// Finds an image in its registry, without any daemon; its layers are fetched when they are unpacked.
    async fn resolve_in_registry(&mut self, reference: &Reference) -> Result<(SourceImage, Place), Failure> {
        let request = self.request;
        self.progress.step(format!("looking up `{reference}` in its registry"));
        let access = self.access();
        let tell = self.progress.downloads();
        Ok(local::open_registry(reference, &request.platform, &access, request.max_unpacked_size, tell).await?)
    }

    fn tags(&self, image: &SourceImage) -> Result<Vec<Reference>, Failure> {
        if !self.request.output.tags.is_empty() {
            return Ok(self.request.output.tags.clone());
        }
        let tag = local::default_tag(&self.request.image, image);
        Ok(vec![tag.map_err(|error| Failure::usage(format!("{error}; name the result with `--tag`")))?])
    }

    fn warn(&mut self, text: String) {
        self.progress.messages.warn(&text);
        self.report.warnings.push(text);
    }

    /// What was decided is told, whatever came of it; what is good gets its names.
    async fn finish(&mut self, source: &Source, made: Made) -> Result<(), Failure> {
        let Made { tree, plan, product, failure } = made;
        if let (Some(plan), Some(path)) = (&plan, &self.request.output.plan) {
            let saved = write_file_atomically(path, |file| file.write_all(&plan.to_json()));
            saved.map_err(|error| Failure::usage(format!("the plan cannot be written to `{}`: {error}", path.display())))?;
        }
        let entries = plan.as_ref().map_or(0, |plan| plan.entries.len());
        if let (Some(tree), Some(plan)) = (tree, plan) {
            self.report.entries = Some(Entries::new(tree, plan)?);
        }
        if let Some(Product { packed, stored }) = product {
            let outputs = match stored {
                Some(stored) => self.write(stored, &source.tags).await?,
                None => vec![],
            };
            let begun = Instant::now();
            self.name(&packed, &source.tags, entries, outputs).await?;
            self.report.took("tag", begun.elapsed().as_secs_f64());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Names the image in the engine, where it is to be there.
    async fn name(
        &mut self,
        packed: &Packed,
        names: &[Reference],
        entries: usize,
        mut outputs: Vec<OutputFacts>,
    ) -> Result<(), Failure> {
        let id = packed.id.to_string();
        let names = self.daemon_names(names);
        for name in &names {
            self.engine.tag(&id, &name.name, name.tag.as_deref().unwrap_or("latest")).await?;
        }
        let tags: Vec<String> = names.iter().map(ToString::to_string).collect();
        if !tags.is_empty() {
            self.leftover.remove(&id);
            let transport = "docker-daemon";
            let names = tags.clone();
            outputs.insert(0, OutputFacts { transport, path: None, names, manifest: None, compression: None, size: None });
        }
        let in_engine = match self.engine.image(&id).await {
            Err(EngineError::NoImage(_)) => None,
            image => image?.size.and_then(|size| u64::try_from(size).ok()),
        };
        let size = in_engine.unwrap_or(packed.content_size);
        self.report.result = Some(ResultFacts { id, tags, layer: packed.diff_id.to_string(), size, entries, outputs });
        Ok(())
    }
}

/// What came of packing and verifying.
#[derive(Default)]
struct Made {
    tree: Option<Arc<Tree>>,
    /// The last one.
    plan: Option<Arc<Plan>>,
    /// What is to get a name.
    product: Option<Product>,
    failure: Option<Failure>,
}

/// The image, wherever it has to be, but without a name.
struct Product {
    packed: Packed,
    /// On its way into files.
    stored: Option<Stored>,
}
