//! `slim build`: all the steps, one after the other.
//!
//! The packer's container is started beside the target's, and lists the tree while the target is exercised. Whatever
//! ends the build, the report says how far it came.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use oci_spec::image::Digest;

use super::failure::Failure;
use super::meaning;
use super::progress::Progress;
use super::request::BuildRequest;
use super::summary::Summary;
use crate::engine::container::Container;
use crate::engine::docker::{Engine, EngineError};
use crate::engine::inject::Program;
use crate::exit::Exit;
use crate::files::write_file_atomically;
use crate::image::config::{created_at, slim_config};
use crate::image::packer::{Packer, Skipped, TreeContents};
use crate::image::reference::Reference;
use crate::image::source::{self, SourceError, SourceImage};
use crate::image::tree::Tree;
use crate::observe::run::{ObserveRequest, Observed, Probes, observe};
use crate::pack::archive::Packed;
use crate::pack::digest_of;
use crate::pack::load::load;
use crate::plan::{Plan, PlanInput, make};
use crate::report::{Entries, Evidence, ImageFacts, Report, ResultFacts};

/// What a build leaves when it is cut off, for who cleans up: an image without a name.
#[derive(Debug, Clone, Default)]
pub struct Leftover(Arc<Mutex<Option<String>>>);

impl Leftover {
    fn set(&self, image: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = image;
    }

    /// The image's id.
    #[must_use]
    pub fn image(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
    report.outcome.exit_code = result.as_ref().map_or_else(|failure| failure.exit, |_| Exit::Done).code();
    report.outcome.meaning = result.as_ref().map_or_else(|failure| failure.exit, |_| Exit::Done).describe().to_owned();
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

/// The image's tree, and who reads its files.
struct Opened {
    container: Container,
    packer: Packer,
    tree: Tree,
    skipped: Vec<Skipped>,
    stop_timeout: Option<i64>,
    seconds: f64,
}

impl Build<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let probes = meaning::probes(&self.request.probes)?;
        let created = meaning::source_date_epoch()?.map(created_at).transpose();
        let created = created.map_err(|error| Failure::usage(error.to_string()))?;
        let mut image = self.resolve().await?;
        let tags = self.tags(&image)?;
        let program = Program::prepare(self.executable, self.engine.run(), &image.config.architecture)?;
        self.report.took("resolve", begun.elapsed().as_secs_f64());

        let (opened, observed) = self.watch(&image, &program, &probes).await?;
        if let Some(run) = &mut image.config.config {
            run.stop_timeout = opened.stop_timeout;
        }
        let begun = Instant::now();
        self.progress.step("planning what is kept");
        let (packer, tree, plan) = self.plan(&image, &program, observed, opened.packer, opened.tree).await?;
        self.report.entries = Some(Entries::new(Arc::clone(&tree), Arc::clone(&plan))?);
        self.report.took("plan", begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        self.progress.step("packing");
        let entries = plan.entries.len();
        let packed = self.pack(image, created, packer, tree, plan).await?;
        self.report.took("pack", begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let removal = tokio::spawn(async move { opened.container.remove().await });
        self.name(&packed, &tags, entries).await?;
        removal.await.map_err(|error| Failure::internal(error.to_string()))??;
        self.report.took("tag", begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Finds the image, and refuses what cannot be used before anything is started.
    async fn resolve(&mut self) -> Result<SourceImage, Failure> {
        let name = self.request.image.to_string();
        let inspected = match self.engine.image(&name).await {
            Err(EngineError::NoImage(_)) if self.request.pull => {
                self.progress.step(format!("pulling `{name}`"));
                let credentials = meaning::credentials(self.request);
                let progress = Arc::clone(self.progress);
                let tell = move |now: crate::engine::docker::PullProgress| {
                    let done = now.bytes.map(|(done, all)| format!(" {} of {} MB", done / 1_000_000, all / 1_000_000));
                    progress.tick(format!("{} {}{}", now.layer, now.status, done.unwrap_or_default()));
                };
                self.engine.pull(&self.request.image.to_pull(), credentials, tell).await?;
                self.engine.image(&name).await?
            }
            other => other?,
        };
        let mut image = SourceImage::new(&name, inspected)?;
        self.report.image = Some(ImageFacts {
            name,
            id: image.id.clone(),
            architecture: image.config.architecture.clone(),
            size: image.size,
            entries: None,
        });
        if image.config.os != "linux" {
            let message = format!("the image is for `{}`, and slim minifies images for `linux` only", image.config.os);
            return Err(Failure { exit: Exit::Image, message });
        }
        match self.engine.stored_config(&image.id).await? {
            Some(config) => image.take_stored(&config)?,
            None => image.config.history = self.engine.history(&image.id).await?,
        }
        if !self.request.force && image.config.is_slim() {
            let message = format!("`{}` was made by slim already: build from its original, or say `--force`", image.name);
            return Err(Failure { exit: Exit::Image, message });
        }
        Ok(image)
    }

    fn tags(&self, image: &SourceImage) -> Result<Vec<Reference>, Failure> {
        if !self.request.output.tags.is_empty() {
            return Ok(self.request.output.tags.clone());
        }
        let tag = self.request.image.default_tag(&image.id, &image.tags);
        Ok(vec![tag.map_err(|error| Failure::usage(format!("{error}; name the result with `--tag`")))?])
    }

    /// Watches the image's container, and lists the image's tree meanwhile.
    async fn watch(&mut self, image: &SourceImage, program: &Program, probes: &Probes) -> Result<(Opened, Observed), Failure> {
        let begun = Instant::now();
        let progress = Arc::clone(self.progress);
        let tell = move |text: String| progress.step(text);
        let options = &self.request.run;
        let request = ObserveRequest { engine: self.engine, program, image, options, probes, progress: &tell };
        let mut opening = std::pin::pin!(open(self.engine, program, image));
        let mut observing = std::pin::pin!(observe(&request));
        let (opened, (observed, outcome)) = tokio::select! {
            // An image that cannot be listed need not be watched to its end.
            opened = &mut opening => (Ok(opened?), observing.await),
            observed = &mut observing => (opening.await, observed),
        };
        self.note(&observed);
        // What was seen of a failure helps to find its reason.
        let saved = self.save_observation(&observed);
        outcome?;
        saved?;
        let opened = opened?;
        self.report.took("observe", begun.elapsed().as_secs_f64());
        self.report.took("list (beside observe)", opened.seconds);
        self.report.skipped(&opened.skipped);
        if let Some(facts) = &mut self.report.image {
            facts.entries = Some(opened.tree.len());
        }
        Ok((opened, observed))
    }

    /// Takes what came of the observation, good or not.
    fn note(&mut self, observed: &Observed) {
        self.report.observed(&observed.observation);
        self.report.probes.http = observed.http.clone();
        self.report.probes.exec = observed.commands.clone();
        self.report.probes.health_check = observed.health.clone();
        for (part, seconds) in &observed.seconds {
            self.report.took(&format!("observe: {part}"), *seconds);
        }
        if let Some(degraded) = self.report.evidence.as_ref().and_then(Evidence::degraded) {
            self.warn(format!("the observation is degraded: {degraded}"));
        }
        for warning in &observed.warnings {
            self.warn(warning.clone());
        }
        for line in &observed.log {
            self.progress.messages.info(format!("| {line}"));
        }
        if observed.observation.end.tail_unknown {
            self.warn(
                "the program was killed by a signal: what only the kernel opened in its last moment may be missing".to_owned(),
            );
        }
    }

    fn warn(&mut self, text: String) {
        self.progress.messages.warn(&text);
        self.report.warnings.push(text);
    }

    fn save_observation(&self, observed: &Observed) -> Result<(), Failure> {
        let Some(path) = &self.request.output.observation else { return Ok(()) };
        crate::observe::file::save(&observed.observation, path).map_err(|error| Failure::usage(error.to_string()))
    }

    async fn plan(
        &mut self,
        image: &SourceImage,
        program: &Program,
        observed: Observed,
        mut packer: Packer,
        tree: Tree,
    ) -> Result<(Packer, Arc<Tree>, Arc<Plan>), Failure> {
        let config = meaning::config_view(&image.config);
        let (extras, keep_looked_at) = meaning::extras(&self.request.keep);
        let (id, own) = (image.id.clone(), program.inside.clone());
        let planned = tokio::task::spawn_blocking(move || {
            let contents = TreeContents::new(&tree, &mut packer);
            let plan = make(&PlanInput {
                image: &id,
                tree: &tree,
                config: &config,
                observations: &[observed.observation],
                extras: &extras,
                keep_looked_at,
                contents: &contents,
                own_prefix: own.as_bytes(),
            });
            plan.map(|plan| (packer, Arc::new(tree), Arc::new(plan)))
        });
        let (packer, tree, plan) = planned.await.map_err(|error| Failure::internal(error.to_string()))??;
        for note in &plan.notes {
            self.warn(note.clone());
        }
        if let Some(path) = &self.request.output.plan {
            let saved = write_file_atomically(path, |file| file.write_all(&plan.to_json()));
            saved.map_err(|error| Failure::usage(format!("the plan cannot be written to `{}`: {error}", path.display())))?;
        }
        Ok((packer, tree, plan))
    }

    async fn pack(
        &self,
        image: SourceImage,
        created: Option<String>,
        packer: Packer,
        tree: Arc<Tree>,
        plan: Arc<Plan>,
    ) -> Result<Packed, Failure> {
        let leftover = self.leftover.clone();
        let config = move |layer: &Digest| {
            let config = slim_config(&image.config, &image.id, layer, created);
            // From here on the daemon may have the image, also if we are cut off.
            leftover.set(Some(digest_of(&config.to_json()).to_string()));
            config
        };
        Ok(load(self.engine, tree, plan, packer, config).await?)
    }

    async fn name(&mut self, packed: &Packed, tags: &[Reference], entries: usize) -> Result<(), Failure> {
        let id = packed.id.to_string();
        for tag in tags {
            self.engine.tag(&id, &tag.name, tag.tag.as_deref().unwrap_or("latest")).await?;
        }
        self.leftover.set(None);
        let size = self.engine.image(&id).await?.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        let tags = tags.iter().map(ToString::to_string).collect();
        self.report.result = Some(ResultFacts { id, tags, layer: packed.diff_id.to_string(), size, entries });
        Ok(())
    }
}

/// Lists the image's tree.
async fn open(engine: &Engine, program: &Program, image: &SourceImage) -> Result<Opened, SourceError> {
    let begun = Instant::now();
    let (container, mut packer, stop_timeout) = source::open(engine, program, image).await?;
    let listed = tokio::task::spawn_blocking(move || packer.list().map(|(tree, skipped)| (packer, tree, skipped))).await;
    let (packer, tree, skipped) = listed.map_err(|error| SourceError::Container(error.to_string()))??;
    Ok(Opened { container, packer, tree, skipped, stop_timeout, seconds: begun.elapsed().as_secs_f64() })
}
