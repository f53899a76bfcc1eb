//! Running the original: watched once or several times, its tree listed meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Build, Source};
use crate::cli::engines::Engines;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::engine::container::Container;
use crate::engine::daemon_image::{self, SourceError};
use crate::engine::docker::Engine;
use crate::engine::embedded::Embedded;
use crate::engine::inject::Program;
use crate::engine::runtime::Runtime;
use crate::engine::volumes::Copies;
use crate::image::local::{Listed, Place, content_size};
use crate::image::packer::Skipped;
use crate::image::read_files::ReadFiles;
use crate::image::source::SourceImage;
use crate::image::store::Flavour;
use crate::image::tree::Tree;
use crate::observe::merge::merge;
use crate::observe::run::{ObserveRequest, Observed, Probes, observe};
use crate::report::Evidence;
use crate::verify::Level;

/// The image's tree, and who reads its files.
pub(super) struct Opened {
    /// In which it is read, where it is one of a daemon.
    pub(super) container: Option<Container>,
    pub(super) reader: Box<dyn ReadFiles>,
    pub(super) tree: Tree,
    pub(super) stop_timeout: Option<i64>,
    skipped: Vec<Skipped>,
    seconds: f64,
}

/// What came of the runs.
pub(super) struct Watched {
    /// What was in the user's volumes before the first.
    pub(super) volumes: Copies,
    pub(super) runs: Vec<Observed>,
    pub(super) opened: Opened,
}

impl Build<'_> {
    /// Watches the image's container as often as was asked for, and lists the image's tree meanwhile.
    pub(super) async fn watch(&mut self, source: &Source, probes: &Probes) -> Result<Watched, Failure> {
        let (image, runtime) = (&source.image, source.runtime(self.engines)?);
        let verification = self.request.verification;
        let volumes = if verification.level == Level::Off && verification.runs == 1 {
            Copies::default()
        } else {
            Copies::take(runtime, &image.id, &self.request.run).await?
        };
        let begun = Instant::now();
        let progress = Arc::clone(self.progress);
        let tell = move |text: String| progress.step(text);
        let request = ObserveRequest {
            runtime,
            image,
            options: &self.request.run,
            sensor: self.request.sensor,
            probes,
            volumes: None,
            progress: &tell,
        };
        if let Runtime::Embedded(engine) = runtime {
            self.unpack(engine, image).await?;
        }
        let mut opening = std::pin::pin!(open(source, self.engines, self.request.max_unpacked_size, self.progress));
        let mut observing = std::pin::pin!(observe(&request));
        let (opened, (observed, outcome)) = tokio::select! {
            // An image that cannot be listed need not be watched to its end.
            opened = &mut opening => (Ok(opened?), observing.await),
            observed = &mut observing => (opening.await, observed),
        };
        self.note(&observed);
        let mut runs = vec![observed];
        let mut outcome = outcome.map_err(Failure::from);
        let later_options = volumes.in_place(&self.request.run);
        for number in 2..=verification.runs {
            if outcome.is_err() {
                break;
            }
            self.progress.step(format!("watching it again, run {number} of {}", verification.runs));
            let request = ObserveRequest { options: &later_options, volumes: Some(&volumes), ..request };
            let (observed, result) = observe(&request).await;
            outcome = result.map_err(|error| in_run(number, error.into()));
            runs.push(observed);
        }
        // What was seen of a failure helps to find its reason.
        let saved = self.save_observation(&runs);
        outcome?;
        saved?;
        let opened = opened?;
        self.report.took("observe", begun.elapsed().as_secs_f64());
        self.report.took("list (beside observe)", opened.seconds);
        self.note_tree(&opened);
        Ok(Watched { volumes, runs, opened })
    }

    /// Lists the image's tree, where nothing is run.
    pub(super) async fn list(&mut self, source: &Source) -> Result<Opened, Failure> {
        self.progress.step("listing the image");
        let opened = open(source, self.engines, self.request.max_unpacked_size, self.progress).await?;
        self.report.took("list", opened.seconds);
        self.note_tree(&opened);
        Ok(opened)
    }

    /// Unpacks the layers for slim's own containers, which takes as long as the image is large.
    async fn unpack(&self, engine: &Embedded, image: &SourceImage) -> Result<(), Failure> {
        let shown = Arc::clone(self.progress);
        engine.root(image, move |done, all| shown.tick(format!("unpacked {done} of {all} layers"))).await?;
        Ok(())
    }

    fn note_tree(&mut self, opened: &Opened) {
        self.report.skipped(&opened.skipped);
        if let Some(facts) = &mut self.report.image {
            // A daemon knows; an archive may be compressed.
            if opened.container.is_none() {
                facts.size = content_size(&opened.tree);
            }
            facts.entries = Some(opened.tree.len());
        }
    }

    /// Takes what came of the first observation, good or not.
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
        if self.request.probes.show_log {
            for line in &observed.log {
                self.progress.messages.info(format!("| {line}"));
            }
        }
        if observed.observation.end.tail_unknown {
            self.warn(
                "the program was killed by a signal: what only the kernel opened in its last moment may be missing".to_owned(),
            );
        }
    }

    fn save_observation(&self, runs: &[Observed]) -> Result<(), Failure> {
        let Some(path) = &self.output.observation else { return Ok(()) };
        let all = runs.iter().map(|run| run.observation.clone()).collect();
        let merged = merge(all).map_err(|error| Failure::internal(error.to_string()))?;
        crate::observe::file::save(&merged, path).map_err(|error| Failure::usage(error.to_string()))
    }
}

fn in_run(number: u32, failure: Failure) -> Failure {
    Failure { message: format!("in run {number}: {}", failure.message), ..failure }
}

/// How long a run took to be ready.
pub(super) fn ready_in(observed: &Observed) -> Option<Duration> {
    let ready = observed.seconds.iter().find(|(part, _)| *part == "ready");
    ready.map(|(_, seconds)| Duration::from_secs_f64(*seconds))
}

/// Lists the image's tree.
async fn open(source: &Source, engines: &Engines, max_unpacked_size: u64, progress: &Arc<Progress>) -> Result<Opened, Failure> {
    match (&source.image.place, engines.connected(), &source.program) {
        (Place::Daemon, Some(engine), Some(program)) => Ok(open_in_daemon(engine, program, &source.image).await?),
        _ => {
            let flavour = engines.started().map_or(Flavour::User, Embedded::flavour);
            open_here(&source.image, flavour, max_unpacked_size, Arc::clone(progress)).await
        }
    }
}

/// Lists the tree of an image that no daemon has.
async fn open_here(
    image: &SourceImage,
    flavour: Flavour,
    max_unpacked_size: u64,
    progress: Arc<Progress>,
) -> Result<Opened, Failure> {
    let begun = Instant::now();
    let image = image.clone();
    let stop_timeout = image.config.config.as_ref().and_then(|run| run.stop_timeout);
    let listed = tokio::task::spawn_blocking(move || {
        let tell = |done, all| progress.tick(format!("unpacked {done} of {all} layers"));
        image.place.list(&image, flavour, max_unpacked_size, &tell)
    });
    let Listed { tree, skipped, reader } = listed.await.map_err(|error| Failure::internal(error.to_string()))??;
    Ok(Opened { container: None, reader, tree, skipped, stop_timeout, seconds: begun.elapsed().as_secs_f64() })
}

async fn open_in_daemon(engine: &Engine, program: &Program, image: &SourceImage) -> Result<Opened, SourceError> {
    let begun = Instant::now();
    let (container, mut packer, stop_timeout) = daemon_image::open(engine, program, image).await?;
    let listed = tokio::task::spawn_blocking(move || packer.list().map(|(tree, skipped)| (packer, tree, skipped))).await;
    let (packer, mut tree, skipped) = listed.map_err(|error| SourceError::Container(error.to_string()))??;
    if let Some(mode) = image.root_mode {
        tree.set_root_mode(mode);
    }
    Ok(Opened {
        container: Some(container),
        reader: Box::new(packer),
        tree,
        skipped,
        stop_timeout,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
