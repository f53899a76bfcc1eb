//! The observation of one image, from start to stop.
//!
//! The order is fixed: start, ready, HTTP, commands, health check once, whatever else was to be waited for, stop. Each
//! part is a phase, so that a reason can say "opened by nginx during GET /docs". Whatever goes wrong, what was seen until
//! then is returned beside the error: a report is written of failures too.

mod commands;
mod course;
mod end;
mod http;
mod ready;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slim_probes::{ExecCommand, ExecRecord, HttpCommand, HttpOptions, HttpResult};

pub use self::course::{Course, Listening, RunEnd};
use self::end::DEFAULT_GRACE;
use super::continue_after::ContinueAfter;
use super::observation::{Header, Observation, PhaseKind};
use super::recorder::Recorder;
use super::scene::{LOG_LINES, Scene};
use super::sensor::Sensor;
use super::target::{Target, TargetError, TargetSpec};
use crate::engine::options::RunOptions;
use crate::engine::runtime::Runtime;
use crate::engine::volumes::Copies;
use crate::image::source::SourceImage;

/// Lines of the target's log that are kept for who asks for it.
const MAX_LOG_LINES: usize = 10_000;

/// When HTTP is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpProbe {
    /// When a port answers HTTP.
    Auto,
    /// Always: no answer is an error.
    On,
    /// Never.
    Off,
}

/// How the target is exercised.
#[derive(Debug, Clone)]
pub struct Probes {
    /// When HTTP is probed.
    pub http: HttpProbe,
    /// Ports in this order; empty: found out.
    pub ports: Vec<u16>,
    /// Requests; empty: the front page and what it links to.
    pub requests: Vec<HttpCommand>,
    /// How requests are made.
    pub http_options: HttpOptions,
    /// Commands in order.
    pub commands: Vec<ExecCommand>,
    /// A script for the container's shell: the file's name and content.
    pub script: Option<(String, Vec<u8>)>,
    /// What else is waited for.
    pub continue_after: ContinueAfter,
    /// For readiness.
    pub start_timeout: Duration,
    /// How long a command may take.
    pub exec_timeout: Duration,
    /// Keep the whole log.
    pub keep_log: bool,
    /// A program that answers with server errors alone, or whose health check fails, is an error and no warning.
    pub must_work: bool,
    /// Requests that were recorded in an earlier run, to be made again in place of `requests`: nothing is looked for.
    pub replay: Option<Vec<HttpCommand>>,
}

/// Why an observation is not good enough to build from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The container.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// It ended while it was needed.
    #[error("the program ended with exit code {exit_code} {when}{scene}")]
    Died {
        /// Of the program.
        exit_code: i64,
        /// In words.
        when: &'static str,
        /// How it was found.
        scene: Scene,
    },
    /// It isn't ready for its probes in time.
    #[error(
        "the program does not listen on {ports} after {seconds} s{scene}\nname the right ports with `--http-probe-ports`, allow more time with `--start-timeout`, or say `--http-probe=false`"
    )]
    NotReady {
        /// Which ports, in words.
        ports: String,
        /// How long.
        seconds: u64,
        /// How it was found.
        scene: Scene,
    },
    /// `--http-probe` was asked for, and nobody answered.
    #[error("no HTTP probe was answered{details}{scene}")]
    NoAnswer {
        /// Each port, in words.
        details: String,
        /// How the program was found.
        scene: Scene,
    },
    /// It answers, but with nothing that could be compared or trusted.
    #[error(
        "each of the {answered} HTTP probes was answered with a server error, such as {example}: the program does not work here{scene}\nwith `--verify=off` this is a warning"
    )]
    OnlyErrors {
        /// How many.
        answered: usize,
        /// One of them, in words.
        example: String,
        /// How the program was found.
        scene: Scene,
    },
    /// The image's own health check.
    #[error("the image's health check {problem}: {said}{scene}\nwith `--verify=off` this is a warning")]
    Unhealthy {
        /// How it failed, in words.
        problem: String,
        /// The end of what it said.
        said: String,
        /// How the program was found.
        scene: Scene,
    },
    /// A command could not be started.
    #[error("the command `{command}` could not be run: {reason}")]
    Command {
        /// As it was given.
        command: String,
        /// Why.
        reason: String,
    },
    /// Events were lost.
    #[error("the observation is incomplete, an image made of it could lack files: {0}")]
    Incomplete(String),
}

/// Everything that came of it.
#[derive(Debug)]
pub struct Observed {
    /// The evidence.
    pub observation: Observation,
    /// The HTTP probes, where there were any.
    pub http: Option<HttpResult>,
    /// The commands.
    pub commands: Vec<ExecRecord>,
    /// The health check, where the image has one.
    pub health: Option<ExecRecord>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// How the program went.
    pub course: Course,
    /// The target's log: all where it was asked for, else its end.
    pub log: Vec<String>,
    /// How often each program was executed, by the path as it was written.
    pub executed: BTreeMap<Vec<u8>, u64>,
    /// How the engine or the stub refused to start the program, where they did.
    pub start_failure: Option<String>,
    /// Seconds that the parts took, in order.
    pub seconds: Vec<(&'static str, f64)>,
}

/// What a run needs.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct ObserveRequest<'a> {
    /// Where it runs.
    pub runtime: Runtime<'a>,
    /// Of which image.
    pub image: &'a SourceImage,
    /// How its container is run.
    pub options: &'a RunOptions,
    /// How it is watched.
    pub sensor: Sensor,
    /// How it is exercised.
    pub probes: &'a Probes,
    /// Fills its volumes, where it is a later run of several.
    pub volumes: Option<&'a Copies>,
    /// Told what is going on, for the user.
    pub progress: &'a (dyn Fn(String) + Send + Sync),
}

/// Runs the image, exercises it, and gathers what was seen.
pub async fn observe(request: &ObserveRequest<'_>) -> (Observed, Result<(), ObserveError>) {
    let mut run = Run {
        request,
        recorder: Recorder::default(),
        http: None,
        commands: vec![],
        health: None,
        warnings: vec![],
        log: vec![],
        course: Course::default(),
        seconds: vec![],
        started: Instant::now(),
    };
    let result = run.all().await;
    run.recorder.answer(serde_json::json!({ "course": run.course }));
    let executed = run.recorder.executed();
    let image = request.image;
    let observation = run.recorder.finish(|fanotify| Header {
        tool: format!("slim {}", env!("CARGO_PKG_VERSION")),
        image: image.id.clone(),
        name: image.name.clone(),
        architecture: image.config.architecture.clone(),
        options: request.options.described.clone(),
        notify: request.sensor.senses().notify,
        fanotify,
    });
    let result = match result {
        Ok(()) if !observation.end.complete => Err(ObserveError::Incomplete(losses(&observation))),
        other => other,
    };
    let start_failure = match &result {
        Err(ObserveError::Target(TargetError::Start(reason))) => Some(reason.clone()),
        _ => None,
    };
    let Run { http, commands, health, warnings, course, log, seconds, .. } = run;
    (Observed { observation, http, commands, health, warnings, course, log, executed, start_failure, seconds }, result)
}

fn losses(observation: &Observation) -> String {
    let end = &observation.end;
    match end.losses.as_slice() {
        [] => format!("{} events were lost", end.counters.lost),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

struct Run<'a> {
    request: &'a ObserveRequest<'a>,
    recorder: Recorder,
    http: Option<HttpResult>,
    commands: Vec<ExecRecord>,
    health: Option<ExecRecord>,
    warnings: Vec<String>,
    log: Vec<String>,
    course: Course,
    seconds: Vec<(&'static str, f64)>,
    /// When the target had been started.
    started: Instant,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), ObserveError> {
        let request = self.request;
        let spec = TargetSpec::new(request.runtime, request.image, request.options, &self.published_ports(), request.sensor)?;
        let start = self.recorder.phase(PhaseKind::Start, "");
        let begun = Instant::now();
        (request.progress)(format!("starting `{}`", spec.command.join(" ")));
        let feed = self.recorder.feed(start);
        let target = Arc::new(spec.start(request.runtime, request.volumes, "target", feed).await?);
        self.recorder.mounts(target.facts.mounts.clone());
        self.warnings.extend(target.facts.notes.iter().cloned());
        self.took("start", begun);
        self.started = Instant::now();

        self.course.hostname.clone_from(&target.facts.hostname);
        self.course.addresses.clone_from(&target.facts.addresses);
        let result = self.exercise(&target, &spec).await;
        let status = target.monitor.status();
        // What has ended listens no more, and whether it was seen to just before is chance.
        if !status.is_over() {
            self.course.listening_on(&status.listening);
        }
        let stopped = self.stop(&target).await;
        self.log = target.container.log(if request.probes.keep_log { MAX_LOG_LINES } else { LOG_LINES }).await;
        target.container.clone().remove().await;
        result.and(stopped)
    }

    fn took(&mut self, part: &'static str, since: Instant) {
        self.seconds.push((part, since.elapsed().as_secs_f64()));
    }

    /// Ports of the container that should be reachable.
    fn published_ports(&self) -> Vec<u16> {
        let mut ports = self.wanted_ports();
        let probes = self.request.probes;
        ports.extend(probes.requests.iter().chain(probes.replay.iter().flatten()).filter_map(|command| command.port));
        ports
    }

    /// Ports that the user named, else those that the image or the user exposes.
    fn wanted_ports(&self) -> Vec<u16> {
        if !self.request.probes.ports.is_empty() {
            return self.request.probes.ports.clone();
        }
        let config = self.request.image.config.config.as_ref();
        let of_image = config.and_then(|config| config.exposed_ports.as_ref()).into_iter().flat_map(BTreeMap::keys);
        let names = of_image.chain(&self.request.options.exposed_ports);
        let mut ports: Vec<u16> = names.filter_map(|name| tcp_port(name)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    async fn exercise(&mut self, target: &Arc<Target>, spec: &TargetSpec) -> Result<(), ObserveError> {
        let begun = Instant::now();
        (self.request.progress)("waiting until it is ready".to_owned());
        let ready = self.ready(target).await;
        self.took("ready", begun);
        if target.session_end().is_some_and(|end| end.start_failed) {
            // The stub's words are complete in the log once the engine knows of its end.
            let _ = tokio::time::timeout(DEFAULT_GRACE, target.container.wait()).await;
            let said = target.container.log(LOG_LINES).await.join("\n");
            return Err(TargetError::Start(said).into());
        }
        self.next_phase(target, PhaseKind::Ready).await;

        let begun = Instant::now();
        self.probe_http(target, &ready).await?;
        self.took("http", begun);

        let begun = Instant::now();
        self.run_commands(target, spec).await?;
        self.took("exec", begun);

        self.check_health(target).await?;
        let begun = Instant::now();
        self.wait_on(target).await;
        self.took("wait", begun);
        self.judge_end(target).await
    }

    async fn next_phase(&self, target: &Target, kind: PhaseKind) {
        let phase = self.recorder.phase(kind, "");
        target.monitor.phase(phase).await;
    }
}

/// The port of `80/tcp` or `80`.
fn tcp_port(name: &str) -> Option<u16> {
    name.strip_suffix("/tcp").unwrap_or(name).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tcp_can_speak_http() {
        assert_eq!(["80", "443/tcp", "53/udp", "9/sctp", ""].map(tcp_port), [Some(80), Some(443), None, None, None]);
    }
}
