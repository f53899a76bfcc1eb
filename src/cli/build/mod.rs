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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use self::leftover::Leftover;
use self::outputs::default_outputs;
use self::running::Watched;
use super::engines::Engines;
use super::failure::Failure;
use super::meaning;
use super::output_flags::OutputFlags;
use super::progress::Progress;
use super::request::BuildRequest;
use super::sources::{Chosen, Search, find};
use super::summary::Summary;
use crate::engine::inject::{Program, ProgramError, own_architecture};
use crate::engine::kind::{ImageStore, Kind};
use crate::engine::runtime::Runtime;
use crate::engine::volumes::Copies;
use crate::exit::Exit;
use crate::files::write_file_atomically;
use crate::image::config::{ImageConfig, created_at};
use crate::image::local;
use crate::image::read_files::ReadFiles;
use crate::image::reference::Reference;
use crate::image::source::SourceImage;
use crate::image::tree::Tree;
use crate::pack::archive::Packed;
use crate::pack::store::Stored;
use crate::plan::Plan;
use crate::report::{EngineFacts, Entries, ImageFacts, OutputFacts, Report, ResultFacts};
use crate::verify::Level;

/// Builds until `interruption` comes, and writes the report whatever comes of it; what to tell the user.
///
/// # Errors
/// [`Failure`]
pub async fn build(
    engines: &Engines,
    request: BuildRequest,
    progress: Arc<Progress>,
    interruption: impl Future<Output = Exit>,
) -> Result<Summary, Failure> {
    let output = request.output.clone();
    let mut build = Build { engines, request: &request, output, progress: &progress, report: Report::new() };
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
    let client = engines.connected().map_or(Kind::Docker, |engine| engine.kind).command();
    result.map(|()| Summary::new(&report, request.output.report.as_deref(), client))
}

struct Build<'a> {
    engines: &'a Engines,
    request: &'a BuildRequest,
    /// What was asked for, with where the result goes when nothing was said.
    output: OutputFlags,
    progress: &'a Arc<Progress>,
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
    /// Which engine runs it.
    chosen: Chosen,
    /// For the daemon's containers.
    program: Option<Program>,
    /// For the configuration of the result.
    created: Option<String>,
    /// Names of the result.
    tags: Vec<Reference>,
    /// Where the compressed layer can lie, if there are files to be written.
    temporary: Option<PathBuf>,
}

impl Source {
    /// What runs the image.
    fn runtime<'a>(&'a self, engines: &'a Engines) -> Result<Runtime<'a>, Failure> {
        let missing = || Failure::internal("the engine was not made ready".to_owned());
        if self.chosen.is_embedded {
            return engines.started().map(Runtime::Embedded).ok_or_else(missing);
        }
        let docker = engines.connected().zip(self.program.as_ref());
        docker.map(|(engine, program)| Runtime::Docker(engine, program)).ok_or_else(missing)
    }
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
        if must_run && source.chosen.is_embedded {
            self.engines.embedded(self.request.max_unpacked_size).await?;
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
        if self.engines.connected().is_some_and(|engine| engine.store == ImageStore::Containerd) {
            // That store counts what is compressed.
            source.image.size = local::content_size(&opened.tree);
            self.report.image.iter_mut().for_each(|image| image.size = source.image.size);
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
        let mut temporary = self.check_outputs().await?;
        let (image, chosen) = self.resolve().await?;
        let tags = self.tags(&image)?;
        if self.output.outputs.is_empty() {
            // What slim itself saved of the daemon goes back there.
            let is_in_daemon = self.engines.connected().is_some();
            self.output.outputs = default_outputs(&self.request.image, &tags, is_in_daemon)?;
            temporary = self.check_outputs().await?;
        }
        let mut program = None;
        if !chosen.is_embedded || self.output.is_for_daemon() {
            let engine = self.engines.docker().await?;
            let prepared = Program::prepare(self.engines.executable(), engine.run(), &image.config.architecture)?;
            self.engines.leftover.note_in(prepared.images());
            program = Some(prepared);
        } else if image.config.architecture != own_architecture() {
            return Err(ProgramError::Architecture { image: image.config.architecture, own: own_architecture() }.into());
        }
        self.report.engine = Some(EngineFacts { name: self.engine_name(&chosen), reason: chosen.why.clone() });
        Ok(Source { image, chosen, program, created, tags, temporary })
    }

    fn engine_name(&self, chosen: &Chosen) -> String {
        match self.engines.connected().filter(|_| !chosen.is_embedded) {
            Some(engine) => format!("{} {}", engine.kind, engine.version),
            None => EngineFacts::EMBEDDED.to_owned(),
        }
    }

    /// Finds the image, and refuses what cannot be used before anything is started.
    async fn resolve(&mut self) -> Result<(SourceImage, Chosen), Failure> {
        let access = self.access();
        let search = Search {
            engine: self.request.engine,
            platform: &self.request.platform,
            max_unpacked_size: self.request.max_unpacked_size,
            pull: self.request.pull,
            credentials: self.request.registries.credentials.as_ref(),
            access: &access,
            publishes: false,
            run: &self.request.run,
        };
        let (image, chosen) = find(self.engines, &self.request.image, search, self.progress).await?;
        self.report.image = Some(ImageFacts {
            name: image.name.clone(),
            id: image.id.clone(),
            architecture: image.config.architecture.clone(),
            size: image.size,
            entries: None,
        });
        let refused = |message| Failure { exit: Exit::Image, message };
        let ImageConfig { os, architecture, variant, .. } = &image.config;
        if os.is_empty() {
            let name = &image.name;
            return Err(refused(format!(
                "the engine has `{name}`, but can't describe it: Docker doesn't fetch a layer that another image has brought, and \
                 lacks its blob then; build it from its registry (`docker://{name}`)"
            )));
        }
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
        Ok((image, chosen))
    }

    fn tags(&self, image: &SourceImage) -> Result<Vec<Reference>, Failure> {
        if !self.output.tags.is_empty() {
            return Ok(self.output.tags.clone());
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
        if let (Some(plan), Some(path)) = (&plan, &self.output.plan) {
            let saved = write_file_atomically(path, |file| file.write_all(&plan.to_json()));
            saved.map_err(|error| Failure::usage(format!("the plan cannot be written to `{}`: {error}", path.display())))?;
        }
        let entries = plan.as_ref().map_or(0, |plan| plan.entries.len());
        if let (Some(tree), Some(plan)) = (tree, plan) {
            self.report.entries = Some(Entries::new(tree, plan)?);
        }
        if let Some(Product { packed, stored, id }) = product {
            let outputs = match stored {
                Some(stored) => self.write(stored, &source.tags).await?,
                None => vec![],
            };
            let begun = Instant::now();
            self.name(&packed, id, &source.tags, entries, outputs).await?;
            self.report.took("tag", begun.elapsed().as_secs_f64());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Names the image in the engine, where it is to be there.
    async fn name(
        &mut self,
        packed: &Packed,
        id_in_engine: Option<String>,
        names: &[Reference],
        entries: usize,
        mut outputs: Vec<OutputFacts>,
    ) -> Result<(), Failure> {
        let id = packed.id.to_string();
        let loaded = id_in_engine.as_deref().unwrap_or(&id);
        let names = self.daemon_names(names);
        for name in &names {
            self.engines.docker().await?.tag(loaded, &name.name, name.tag.as_deref().unwrap_or("latest")).await?;
        }
        let tags: Vec<String> = names.iter().map(ToString::to_string).collect();
        if !tags.is_empty() {
            self.engines.leftover.remove(loaded);
            let transport = "docker-daemon";
            let names = tags.clone();
            outputs.insert(0, OutputFacts { transport, path: None, names, manifest: None, compression: None, size: None });
        }
        let size = packed.content_size;
        let id_in_engine = id_in_engine.filter(|in_engine| *in_engine != id);
        let layer = packed.diff_id.to_string();
        self.report.result = Some(ResultFacts { id, id_in_engine, tags, layer, size, entries, outputs });
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
    /// What the engine that has it calls it.
    id: Option<String>,
}
