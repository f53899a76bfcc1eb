//! `slim verify`: whether an image, made by whatever tool, does what its original does.
//!
//! The original is run and probed, or an observation of it is read; then the image is run and probed in the same way. Nothing
//! is built. Where they differ and the original is at hand, both trees are listed, for what the image may lack.

mod request;
mod suspects;

use std::sync::Arc;

pub use request::{Against, VerifyRequest};
use serde::Serialize;

use super::engines::{EngineChoice, Engines};
use super::failure::Failure;
use super::progress::Progress;
use super::sources::{Search, find};
use super::told::Told;
use crate::engine::inject::Program;
use crate::engine::runtime::Runtime;
use crate::engine::volumes::Copies;
use crate::exit::Exit;
use crate::files::write_file_atomically;
use crate::image::location::ImageSource;
use crate::image::source::SourceImage;
use crate::image::transport::platform::Platform;
use crate::observe::run::{ObserveRequest, observe};
use crate::observe::sensor::Sensor;
use crate::report::Verification;
use crate::report::verification::Verdict;
use crate::verify::{Setting, Shown, Verifier};

/// So many differences are told on a terminal.
const TOLD: usize = 20;

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    /// What was checked.
    image: String,
    /// With what it was compared.
    against: String,
    /// Requests and commands that were compared.
    requests: usize,
    commands: usize,
    #[serde(flatten)]
    verification: Verification,
    warnings: Vec<String>,
}

/// Verifies until `interruption` comes.
///
/// # Errors
/// [`Failure`]; that the image differs is no failure, but told.
pub async fn verify(
    engines: &Engines,
    request: VerifyRequest,
    progress: Arc<Progress>,
    interruption: impl Future<Output = Exit>,
) -> Result<Told, Failure> {
    let outcome = tokio::select! {
        outcome = compare(engines, &request, &progress) => outcome?,
        exit = interruption => return Err(Failure { exit, message: exit.describe().to_owned() }),
    };
    if let Some(path) = &request.report {
        let written = write_file_atomically(path, |file| serde_json::to_writer(file, &outcome).map_err(std::io::Error::from));
        written.map_err(|error| Failure::usage(format!("the report cannot be written to `{}`: {error}", path.display())))?;
    }
    let exit = if outcome.verification.verdict == Verdict::Same { Exit::Done } else { Exit::Differs };
    let json = serde_json::to_string(&outcome).map_err(|error| Failure::internal(error.to_string()))? + "\n";
    let text = outcome.to_string();
    Ok(Told { quiet: if exit == Exit::Done { String::new() } else { text.clone() }, text, json, exit })
}

async fn compare(engines: &Engines, request: &VerifyRequest, progress: &Arc<Progress>) -> Result<Outcome, Failure> {
    let tell = |text: String| progress.step(text);
    let (image, fat, is_embedded) = find_both(engines, request, progress).await?;
    let against = match &request.against {
        Against::Image(source) => source.to_string(),
        Against::Observation(path) => path.display().to_string(),
    };
    let program;
    let runtime = if is_embedded {
        Runtime::Embedded(engines.embedded(request.max_unpacked_size).await?)
    } else {
        let engine = engines.docker().await?;
        program = Program::prepare(engines.executable(), engine.run(), &image.config.architecture)?;
        Runtime::Docker(engine, &program)
    };
    let mut warnings = vec![];
    let mut volumes = Copies::default();
    let mut probes = request.probes.clone();
    probes.must_work = true;
    let expected = match (&fat, &request.against) {
        (Some(fat), _) => {
            volumes = Copies::take(runtime, &fat.id, &request.run).await?;
            let tell = |text: String| tell(format!("original: {text}"));
            let observation = ObserveRequest {
                runtime,
                image: fat,
                options: &request.run,
                sensor: Sensor::Notify,
                probes: &probes,
                volumes: None,
                progress: &tell,
            };
            let (observed, outcome) = observe(&observation).await;
            outcome?;
            warnings.extend(observed.warnings.iter().cloned());
            Shown::of(&observed, None)
        }
        (None, Against::Observation(path)) => {
            let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("`--against {}`: {error}", path.display()));
            let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
            let observation = crate::observe::file::read(std::io::BufReader::new(file)).map_err(|error| wrong(&error))?;
            Shown::read(&observation).map_err(|error| wrong(&error))?
        }
        (None, Against::Image(_)) => return Err(Failure::internal("an image was not looked up".to_owned())),
    };
    let setting = Setting {
        runtime,
        fat: fat.as_ref(),
        level: request.level,
        options: &request.run,
        volumes: &volumes,
        probes: &probes,
        ready: None,
        progress: &tell,
    };
    let (requests, commands) = (expected.http.len(), expected.commands.len());
    let mut verifier = Verifier::new(setting, expected);
    let mut trial = verifier.try_image(&image).await?;
    while !trial.findings.is_empty() && trial.restless.is_none() && verifier.learn_more(&mut trial).await? {}
    if trial.restless.is_none() {
        verifier.try_again(&image, &mut trial).await?;
    }
    let mut verification = Verification::new(request.level);
    verification.noise = trial.noise;
    if let Some(change) = &trial.restless {
        verification.reason = Some(format!("the original itself does something else when it is run again: {change}"));
    } else if trial.findings.is_empty() {
        verification.verdict = Verdict::Same;
    } else {
        verification.verdict = Verdict::Differs;
        if let Some(fat) = &fat {
            progress.step("looking for what it may lack");
            (verification.suspects, verification.diagnosis) = suspects::find(runtime, fat, &image, &trial).await?;
        }
    }
    verification.differences = trial.findings;
    Ok(Outcome { image: request.image.to_string(), against, requests, commands, verification, warnings })
}

/// Both images, for one engine: where only one of them is in the daemon, slim itself runs both.
async fn find_both(
    engines: &Engines,
    request: &VerifyRequest,
    progress: &Arc<Progress>,
) -> Result<(SourceImage, Option<SourceImage>, bool), Failure> {
    let fat = match &request.against {
        Against::Image(source) => Some(source),
        Against::Observation(_) => None,
    };
    let is_elsewhere = |source: &ImageSource| !matches!(source, ImageSource::Daemon(_) | ImageSource::Named(_));
    let engine = match request.engine {
        EngineChoice::Auto if is_elsewhere(&request.image) || fat.is_some_and(is_elsewhere) => EngineChoice::Embedded,
        chosen => chosen,
    };
    let platform = Platform::of_host();
    let max_unpacked_size = request.max_unpacked_size;
    let run = &request.run;
    let (platform, publishes, access) = (&platform, false, &request.access);
    let search = Search { engine, platform, max_unpacked_size, pull: false, credentials: None, publishes, access, run };
    let (image, chosen) = find(engines, &request.image, search, progress).await?;
    let fat = match fat {
        Some(source) => Some(find(engines, source, search, progress).await?.0),
        None => None,
    };
    Ok((image, fat, chosen.is_embedded))
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verification = &self.verification;
        let verdict = match verification.verdict {
            Verdict::Same => "does what the original does",
            Verdict::Differs => "does not do what the original does",
            Verdict::Unverified => "cannot be verified",
        };
        writeln!(f, "{}: {verdict}", self.image)?;
        writeln!(f, "  against   {}", self.against)?;
        writeln!(f, "  probes    {} HTTP requests, {} commands", self.requests, self.commands)?;
        if verification.noise > 0 {
            writeln!(f, "  noise     {} things in which the original differs from itself", verification.noise)?;
        }
        if let Some(reason) = &verification.reason {
            writeln!(f, "{reason}")?;
        }
        for difference in verification.differences.iter().take(TOLD) {
            writeln!(f, "{difference}")?;
        }
        if let Some(more) = verification.differences.len().checked_sub(TOLD).filter(|&more| more > 0) {
            writeln!(f, "and {more} more differences (`--report` has them)")?;
        }
        for suspect in verification.suspects.iter().take(TOLD) {
            writeln!(f, "it may lack `{}`: {}", crate::escape::escape(&suspect.path.0), suspect.reason)?;
        }
        verification.diagnosis.iter().try_for_each(|diagnosis| writeln!(f, "{diagnosis}"))
    }
}
