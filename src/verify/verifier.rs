//! Runs images as the fat one was run, and judges what they show.
//!
//! Noise is learnt by running the fat image again, only where something differs, and once more where an answer may be a
//! matter of few chances (a shuffled list of two). A run that is only made to be compared is watched by the filter alone: it
//! tells which look-ups failed, and what the kernel opens by itself was opened by the fat image, too.

use std::time::Duration;

use slim_probes::ExecCommand;

use super::Level;
use super::judge::{Finding, MAX_FINDINGS, judge};
use super::noise::Noise;
use super::shown::Shown;
use crate::engine::options::RunOptions;
use crate::engine::runtime::Runtime;
use crate::engine::volumes::Copies;
use crate::image::source::SourceImage;
use crate::observe::run::{HttpProbe, ObserveError, ObserveRequest, Observed, Probes, observe};
use crate::observe::sensor::Sensor;
use crate::observe::target::TargetError;

/// The fat image is run so often again at most.
const MAX_AGAIN: usize = 4;
/// What is another one each second is not the same by chance where so much lies between.
const TICK: Duration = Duration::from_millis(1100);
/// A slim image may take so many times longer to start than the fat one did, and so long on top.
const START_FACTOR: u32 = 3;
/// See [`START_FACTOR`].
const START_SLACK: Duration = Duration::from_secs(5);

/// What all runs have in common.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where they run.
    pub runtime: Runtime<'a>,
    /// The image that is expected, for learning what is noise; `None` where there is only an observation of it.
    pub fat: Option<&'a SourceImage>,
    /// How much must be the same.
    pub level: Level,
    /// How the fat image was run.
    pub options: &'a RunOptions,
    /// What was in the user's volumes before that.
    pub volumes: &'a Copies,
    /// How it was exercised.
    pub probes: &'a Probes,
    /// How long it took to be ready, where that is known.
    pub ready: Option<Duration>,
    /// Told what is going on, for the user.
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Runs images, and compares what they show with what is expected.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Verifier<'a> {
    setting: Setting<'a>,
    /// Of the later runs.
    options: RunOptions,
    probes: Probes,
    expected: Shown,
    noise: Noise,
    /// Further runs of the fat image.
    again: Vec<Shown>,
    /// The last of them changed nothing.
    is_settled: bool,
}

/// A run of an image, judged.
#[derive(Debug)]
pub struct Trial {
    /// In what it differs; empty: it does the same.
    pub findings: Vec<Finding>,
    /// In how many things the fat image differs from itself.
    pub noise: usize,
    /// Everything that came of the run.
    pub observed: Observed,
    /// The fat image does something else from its second run on, for good: what. Then nothing is verified.
    pub restless: Option<Finding>,
    shown: Shown,
}

impl<'a> Verifier<'a> {
    /// Will compare with `expected`, which a run in this setting showed.
    #[must_use]
    pub fn new(setting: Setting<'a>, expected: Shown) -> Verifier<'a> {
        let mut options = setting.volumes.in_place(setting.options);
        let has_own_name = !options.network.as_deref().is_some_and(|mode| mode == "host" || mode.starts_with("container:"));
        if let Some(course) = expected.course.as_ref().filter(|_| has_own_name && options.hostname.is_none()) {
            options.hostname = Some(course.hostname.clone()).filter(|name| !name.is_empty());
        }
        let probes = replay(&expected, setting.probes, setting.ready);
        Verifier { setting, options, probes, expected, noise: Noise::default(), again: vec![], is_settled: false }
    }

    /// Learns from a run of the fat image that was made anyway.
    pub fn learn(&mut self, again: Shown) {
        if same_requests(&self.expected, &again) {
            self.noise.learn(&self.expected, &again);
            self.again.push(again);
        }
    }

    /// Runs an image and compares.
    ///
    /// # Errors
    /// [`ObserveError`] of the engine; what is wrong with the image is a finding.
    pub async fn try_image(&mut self, image: &SourceImage) -> Result<Trial, ObserveError> {
        let (observed, shown) = self.run(image, "slim image").await?;
        let mut trial = Trial { findings: vec![], noise: 0, observed, restless: None, shown };
        self.reconsider(&mut trial);
        if !trial.findings.is_empty() && self.again.is_empty() {
            self.learn_more(&mut trial).await?;
        }
        if trial.findings.is_empty() {
            trial.restless = self.restlessness(&trial).await?;
        }
        Ok(trial)
    }

    /// Runs the fat image once more, and judges anew; whether that was done: it is not where nothing is to be learnt any more.
    ///
    /// # Errors
    /// [`ObserveError`] of the engine.
    pub async fn learn_more(&mut self, trial: &mut Trial) -> Result<bool, ObserveError> {
        // A program that does not run at all is no noise.
        if trial.shown.failure.is_some() || self.is_settled || self.again.len() == MAX_AGAIN {
            return Ok(false);
        }
        let Some(fat) = self.setting.fat else { return Ok(false) };
        let (_, again) = self.run(fat, "original again").await?;
        if let Some(failure) = &again.failure {
            let expected = "the same as in the first".to_owned();
            trial.restless = Some(Finding::happened("original".to_owned(), "second run", expected, failure.clone()));
            return Ok(false);
        }
        self.noise.learn(&self.expected, &again);
        self.again.push(again);
        let before = trial.findings.len();
        self.reconsider(trial);
        self.is_settled = self.again.len() > 1 && trial.findings.len() == before;
        Ok(true)
    }

    /// Runs an image that differs once more, where all that differs is texts: what a program says while it waits for something
    /// depends on the moment, in the fat image and in the slim one. Only what differs both times is a difference.
    ///
    /// # Errors
    /// [`ObserveError`] of the engine.
    pub async fn try_again(&mut self, image: &SourceImage, trial: &mut Trial) -> Result<(), ObserveError> {
        if trial.findings.is_empty() || !trial.findings.iter().all(Finding::is_text) {
            return Ok(());
        }
        let (_, shown) = self.run(image, "slim image again").await?;
        let again: Vec<Finding> = judge(&self.expected, &shown, &self.noise, self.setting.level);
        let before = trial.findings.len();
        trial.findings.retain(|finding| again.iter().any(|other| !other.noise && finding.is_of_the_same(other)));
        trial.findings.extend(again.into_iter().filter(|finding| !finding.noise && !finding.is_text()));
        trial.noise += before.saturating_sub(trial.findings.len());
        Ok(())
    }

    fn reconsider(&self, trial: &mut Trial) {
        let findings = judge(&self.expected, &trial.shown, &self.noise, self.setting.level);
        let (noise, findings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.noise);
        (trial.noise, trial.findings) = (noise.len(), findings);
    }

    /// What was taken for noise may be a lasting change: what really is noise hardly ever comes twice. So what the slim image
    /// shows just as the fat one did in a later run, but other than in the first, is looked at once more.
    async fn restlessness(&mut self, trial: &Trial) -> Result<Option<Finding>, ObserveError> {
        if self.setting.level != Level::Strict || trial.noise == 0 || self.again.is_empty() {
            return Ok(None);
        }
        let Some(fat) = self.setting.fat else { return Ok(None) };
        let differences = |one: &Shown| judge(one, &trial.shown, &Noise::default(), Level::Strict);
        let mut lasting = differences(&self.expected);
        lasting.retain(|finding| !finding.is_of_time());
        let mut looked_at = 0;
        loop {
            for later in &self.again[looked_at..] {
                let by_chance = differences(later);
                // Those that are not told may be of anything.
                if by_chance.len() >= MAX_FINDINGS {
                    return Ok(None);
                }
                lasting.retain(|finding| !by_chance.iter().any(|other| finding.is_of_the_same(other)));
            }
            looked_at = self.again.len();
            if lasting.is_empty() || looked_at >= MAX_AGAIN {
                return Ok(lasting.into_iter().next());
            }
            tokio::time::sleep(TICK).await;
            let (_, again) = self.run(fat, "original again").await?;
            self.again.push(again);
        }
    }

    /// Runs an image; the error is only of what the image can't be blamed for.
    async fn run(&self, image: &SourceImage, which: &str) -> Result<(Observed, Shown), ObserveError> {
        let tell = |text: String| (self.setting.progress)(format!("verifying, {which}: {text}"));
        let request = ObserveRequest {
            runtime: self.setting.runtime,
            image,
            options: &self.options,
            sensor: Sensor::Notify,
            probes: &self.probes,
            volumes: Some(self.setting.volumes),
            progress: &tell,
        };
        let (observed, outcome) = observe(&request).await;
        let failure = match outcome {
            // The answers are what counts here, not the evidence.
            Ok(()) | Err(ObserveError::Incomplete(_)) => None,
            Err(error @ ObserveError::Target(TargetError::Engine(_) | TargetError::Monitor(_))) => return Err(error),
            Err(error) => Some(error.to_string()),
        };
        let shown = Shown::of(&observed, failure);
        Ok((observed, shown))
    }
}

/// The probes that make `expected` again.
fn replay(expected: &Shown, probes: &Probes, ready: Option<Duration>) -> Probes {
    let (commands, script) = commands(expected, probes);
    Probes {
        http: match probes.http {
            _ if expected.serves_http() => HttpProbe::On,
            HttpProbe::Off => HttpProbe::Off,
            HttpProbe::On | HttpProbe::Auto => HttpProbe::Auto,
        },
        ports: if expected.serves_http() { expected.ports() } else { probes.ports.clone() },
        requests: vec![],
        replay: Some(expected.requests(&probes.requests)),
        commands,
        script,
        start_timeout: ready.map_or(probes.start_timeout, |ready| probes.start_timeout.min(ready * START_FACTOR + START_SLACK)),
        must_work: false,
        ..probes.clone()
    }
}

/// The commands that were run; a script has its content only where it was given.
fn commands(expected: &Shown, probes: &Probes) -> (Vec<ExecCommand>, Option<(String, Vec<u8>)>) {
    let ran = expected.commands.iter().map(|record| record.command.clone());
    (ran.filter(|command| !matches!(command, ExecCommand::Script(_))).collect(), probes.script.clone())
}

/// Whether two runs were asked the same in the same order.
fn same_requests(one: &Shown, other: &Shown) -> bool {
    let names = |shown: &Shown| -> Vec<(String, String, u16)> {
        shown.http.iter().map(|record| (record.method.clone(), record.resource.clone(), record.port)).collect()
    };
    names(one) == names(other)
}
