//! The observation of one image, from start to stop.
//!
//! The order is fixed: start, ready, HTTP, commands, health check once, whatever else was to be waited for, stop. Each
//! part is a phase, so that a reason can say "opened by nginx during GET /docs". Whatever goes wrong, what was seen until
//! then is returned beside the error: a report is written of failures too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slim_probes::{ExecCommand, ExecRecord, HttpCommand, HttpOptions, HttpResult, OutputCollector, Speaks, probe_http};

use super::continue_after::ContinueAfter;
use super::monitor::Status;
use super::observation::{Header, Mount, Observation, PhaseKind};
use super::probing::{ProbePhases, Reach};
use super::recorder::Recorder;
use super::scene::{LOG_LINES, Scene};
use super::target::{How, Target, TargetError, TargetSpec, mounts_of};
use crate::engine::docker::Engine;
use crate::engine::inject::Program;
use crate::engine::options::RunOptions;
use crate::image::source::SourceImage;

/// A target without a new path for so long has started, where nothing tells otherwise.
const QUIET: Duration = Duration::from_secs(1);
/// The same where a port is still awaited that may never come: a runtime can think for a while.
const LONG_QUIET: Duration = Duration::from_secs(10);
/// The same once it listens, where nobody said on how many ports it will.
const SETTLED: Duration = Duration::from_millis(200);
/// How long a program without any probe is watched, from its start.
const UNPROBED: Duration = Duration::from_secs(10);
/// Docker's patience after the stop signal.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Docker's patience with a health check.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
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
    /// Keep the whole log.
    pub keep_log: bool,
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
    /// The target's log, where it was asked for.
    pub log: Vec<String>,
    /// Seconds that the parts took, in order.
    pub seconds: Vec<(&'static str, f64)>,
}

/// What a run needs.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct ObserveRequest<'a> {
    /// Where it runs.
    pub engine: &'a Engine,
    /// Our program.
    pub program: &'a Program,
    /// Of which image.
    pub image: &'a SourceImage,
    /// How its container is run.
    pub options: &'a RunOptions,
    /// How it is exercised.
    pub probes: &'a Probes,
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
        seconds: vec![],
        started: Instant::now(),
    };
    let result = run.all().await;
    let image = request.image;
    let observation = run.recorder.finish(|fanotify| Header {
        tool: format!("slim {}", env!("CARGO_PKG_VERSION")),
        image: image.id.clone(),
        name: image.name.clone(),
        architecture: image.config.architecture.clone(),
        options: request.options.described.clone(),
        fanotify,
    });
    let result = match result {
        Ok(()) if !observation.end.complete => Err(ObserveError::Incomplete(losses(&observation))),
        other => other,
    };
    let Run { http, commands, health, warnings, log, seconds, .. } = run;
    (Observed { observation, http, commands, health, warnings, log, seconds }, result)
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
    seconds: Vec<(&'static str, f64)>,
    /// When the target had been started.
    started: Instant,
}

/// How the wait for readiness ended.
#[derive(Debug, PartialEq, Eq)]
enum Ready {
    /// It listens on these ports.
    Listening(Vec<u16>),
    /// It has ended.
    Ended,
    /// It does nothing new.
    Quiet,
    /// The time is up.
    TimedOut,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), ObserveError> {
        let request = self.request;
        let spec = TargetSpec::new(request.image, request.options, &self.published_ports(), true)?;
        let start = self.recorder.phase(PhaseKind::Start, "");
        let begun = Instant::now();
        (request.progress)(format!("starting `{}`", spec.command.join(" ")));
        let feed = self.recorder.feed(start);
        let target = Arc::new(spec.start(request.engine, request.program, "target", feed).await?);
        self.recorder.mounts(self.mounts(&target).await?);
        self.took("start", begun);
        self.started = Instant::now();

        let result = self.exercise(&target, &spec).await;
        let stopped = self.stop(&target).await;
        if request.probes.keep_log {
            self.log = target.container.log(MAX_LOG_LINES).await;
        }
        // A failed removal is told by the final clean-up, which tries again.
        let container = target.container.clone();
        tokio::spawn(async move { container.remove().await });
        result.and(stopped)
    }

    fn took(&mut self, part: &'static str, since: Instant) {
        self.seconds.push((part, since.elapsed().as_secs_f64()));
    }

    /// Ports of the container that should be reachable.
    fn published_ports(&self) -> Vec<u16> {
        let mut ports = self.wanted_ports();
        ports.extend(self.request.probes.requests.iter().filter_map(|command| command.port));
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

    /// There is nothing to be done with the target but what its ports may offer.
    fn depends_on_ports(&self) -> bool {
        let probes = self.request.probes;
        probes.commands.is_empty() && probes.script.is_none() && probes.continue_after.timeout.is_none()
    }

    async fn mounts(&self, target: &Target) -> Result<Vec<Mount>, ObserveError> {
        let inspected = target.container.inspect().await.map_err(TargetError::from)?;
        Ok(mounts_of(&inspected, &self.request.program.inside))
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

    async fn ready(&self, target: &Target) -> Ready {
        let probes = self.request.probes;
        let wanted = self.wanted_ports();
        let (awaits, patience) = match probes.http {
            HttpProbe::On => (Awaits::Ports, probes.start_timeout),
            HttpProbe::Auto if !wanted.is_empty() => (Awaits::PortsForAWhile, probes.start_timeout),
            // Where it offers nothing, it would only be watched for so long.
            HttpProbe::Auto if self.depends_on_ports() => (Awaits::PortsForAWhile, probes.start_timeout.min(UNPROBED)),
            HttpProbe::Auto | HttpProbe::Off => (Awaits::Nothing, probes.start_timeout),
        };
        let deadline = self.started + patience;
        let (mut uses, mut since) = (0, Instant::now());
        loop {
            let status = target.monitor.status();
            if status.uses != uses {
                (uses, since) = (status.uses, Instant::now());
            }
            if let Some(ready) = judge(&status, &wanted, awaits, since.elapsed()) {
                return ready;
            }
            if Instant::now() > deadline {
                return Ready::TimedOut;
            }
            let changed = target.monitor.wait_for(|now| *now != status);
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
        }
    }

    async fn probe_http(&mut self, target: &Arc<Target>, ready: &Ready) -> Result<(), ObserveError> {
        let probes = self.request.probes;
        if probes.http == HttpProbe::Off {
            return Ok(());
        }
        let listening = match ready {
            Ready::Listening(ports) => ports.clone(),
            Ready::Ended if probes.http == HttpProbe::On => {
                let exit_code = self.exit_code(target).await?.unwrap_or_default();
                return Err(died(target, exit_code, "before it could be probed").await);
            }
            Ready::TimedOut if probes.http == HttpProbe::On => {
                let wanted = self.wanted_ports();
                let ports = if wanted.is_empty() { "any port".to_owned() } else { ports_in_words(&wanted) };
                let scene = Scene::of(target).await;
                return Err(ObserveError::NotReady { ports, seconds: probes.start_timeout.as_secs(), scene });
            }
            Ready::Ended | Ready::Quiet | Ready::TimedOut => vec![],
        };
        let ports = self.ports_to_probe(&listening);
        if ports.is_empty() && !probes.requests.iter().any(|command| command.port.is_some()) {
            let wanted = self.wanted_ports();
            if *ready != Ready::Ended && !wanted.is_empty() {
                let ports = ports_in_words(&wanted);
                self.warnings.push(format!("the program does not listen on {ports}: nothing was probed over HTTP"));
            }
            return Ok(());
        }
        (self.request.progress)(format!("probing HTTP on {}", ports_in_words(&ports)));
        let reach = Reach::new(Arc::clone(target));
        let phases = ProbePhases::new(Arc::clone(target), self.recorder.clone());
        let result = probe_http(&probes.http_options, &probes.requests, &ports, &reach, &phases).await;
        for record in &result.records {
            self.recorder.answer(serde_json::json!({ "http": record }));
        }
        self.warnings.extend(result.warnings());
        let outcome = self.judge_http(target, &result).await;
        self.http = Some(result);
        outcome
    }

    async fn judge_http(&mut self, target: &Target, result: &HttpResult) -> Result<(), ObserveError> {
        let was_asked_for = self.request.probes.http == HttpProbe::On;
        let is_served = result.answered() > 0;
        if result.failed() > 0 {
            hear_of_end(target).await;
        }
        match self.exit_code(target).await? {
            // One that has answered everything may end.
            Some(0) if result.failed() == 0 || (!is_served && !was_asked_for) => {}
            Some(exit_code) => return Err(died(target, exit_code, "while it was probed over HTTP").await),
            None => {}
        }
        if is_served {
            return Ok(());
        }
        if was_asked_for {
            let details = result.ports.iter().map(|port| match &port.speaks {
                Speaks::Http => String::new(),
                Speaks::Other(said) => format!("\nport {} does not speak HTTP: it said {said:?}", port.port),
                Speaks::Nothing(reason) => format!("\nport {}: {reason}", port.port),
            });
            let details = details.collect();
            return Err(ObserveError::NoAnswer { details, scene: Scene::of(target).await });
        }
        self.warnings.push("no port speaks HTTP: the program was not exercised over HTTP".to_owned());
        Ok(())
    }

    /// The ports that the user named; else the exposed ones that are listened on; else all that are listened on.
    fn ports_to_probe(&self, listening: &[u16]) -> Vec<u16> {
        if !self.request.probes.ports.is_empty() {
            return self.request.probes.ports.clone();
        }
        let wanted = self.wanted_ports();
        let exposed: Vec<u16> = listening.iter().copied().filter(|port| wanted.contains(port)).collect();
        if exposed.is_empty() { listening.to_vec() } else { exposed }
    }

    async fn run_commands(&mut self, target: &Arc<Target>, spec: &TargetSpec) -> Result<(), ObserveError> {
        let probes = self.request.probes;
        let mut commands: Vec<(ExecCommand, &[u8])> = probes.commands.iter().map(|command| (command.clone(), &[][..])).collect();
        if let Some((name, script)) = &probes.script {
            commands.push((ExecCommand::Script(name.clone()), script));
        }
        let ran_at_first = !target.monitor.status().is_over();
        for (number, (command, input)) in commands.into_iter().enumerate() {
            let exit_code = self.exit_code(target).await?;
            if let Some(exit_code) = exit_code.filter(|&code| ran_at_first && code != 0) {
                return Err(died(target, exit_code, "before all commands were run").await);
            }
            let name = in_words(&command);
            (self.request.progress)(format!("running `{name}`"));
            let phase = self.recorder.phase(PhaseKind::Exec, &name);
            let words = match &command {
                ExecCommand::Direct(words) => words.clone(),
                ExecCommand::Shell(text) => vec!["sh".to_owned(), "-c".to_owned(), text.clone()],
                ExecCommand::Script(_) => vec!["sh".to_owned(), "-s".to_owned()],
            };
            let session = format!("exec-{number}");
            let begun = Instant::now();
            let record = if exit_code.is_some() {
                self.run_alone(spec.with_command(words, input), &session, phase, command.clone(), begun).await?
            } else {
                target.monitor.phase(phase).await;
                self.run_beside(target, &session, &words, input, command.clone(), begun).await?
            };
            self.recorder.answer(serde_json::json!({ "exec": record }));
            self.commands.push(record);
        }
        Ok(())
    }

    /// Runs a command in the target's container.
    async fn run_beside(
        &self,
        target: &Target,
        session: &str,
        words: &[String],
        input: &[u8],
        command: ExecCommand,
        begun: Instant,
    ) -> Result<ExecRecord, ObserveError> {
        let finished = match target.run(session, words, input).await {
            Ok(finished) => finished,
            // It can end at any moment, and take the command with it.
            Err(error) => match self.exit_code(target).await? {
                Some(exit_code) => return Err(died(target, exit_code, "while a command was run in its container").await),
                None => return Err(error.into()),
            },
        };
        let sessions = target.monitor.status().sessions;
        let end = sessions.values().find(|known| known.name == session).and_then(|known| known.end);
        if end.is_some_and(|end| end.start_failed) {
            return Err(cannot_run(&command, &finished.stderr.text));
        }
        let milliseconds = begun.elapsed().as_millis() as u64;
        let (exit_code, stdout, stderr) = (finished.exit_code, finished.stdout, finished.stderr);
        if exit_code.is_none_or(|code| code > 128) {
            hear_of_end(target).await;
        }
        Ok(ExecRecord { command, exit_code, milliseconds, stdout, stderr })
    }

    /// Runs a command as the first process of a container of its own, as the target's has ended.
    async fn run_alone(
        &self,
        spec: TargetSpec,
        role: &str,
        phase: u32,
        command: ExecCommand,
        begun: Instant,
    ) -> Result<ExecRecord, ObserveError> {
        let request = self.request;
        let target = spec.start(request.engine, request.program, role, self.recorder.feed(phase)).await?;
        let exit_code = target.container.wait().await.map_err(TargetError::from)?;
        target.settle(&self.recorder, exit_code).await;
        let milliseconds = begun.elapsed().as_millis() as u64;
        let start_failed = target.session_end().is_some_and(|end| end.start_failed);
        let container = target.container.clone();
        let (stdout, stderr) = target.output().await;
        tokio::spawn(async move { container.remove().await });
        if start_failed {
            return Err(cannot_run(&command, &stderr.text));
        }
        Ok(ExecRecord { command, exit_code: Some(exit_code), milliseconds, stdout, stderr })
    }

    /// Runs the image's health check once.
    async fn check_health(&mut self, target: &Arc<Target>) -> Result<(), ObserveError> {
        let Some((words, timeout)) = self.health_check() else { return Ok(()) };
        if target.monitor.status().is_over() {
            return Ok(());
        }
        (self.request.progress)("running the health check".to_owned());
        self.next_phase(target, PhaseKind::HealthCheck).await;
        let command = ExecCommand::Direct(words.clone());
        let begun = Instant::now();
        let run = self.run_beside(target, "health-check", &words, b"", command.clone(), begun);
        let record = match tokio::time::timeout(timeout, run).await {
            Ok(Ok(record)) => record,
            Ok(Err(ObserveError::Command { reason, .. })) => {
                self.warnings.push(format!("the image's health check cannot be run: {reason}"));
                return Ok(());
            }
            // It may end before it is asked how it is.
            Ok(Err(ObserveError::Died { .. })) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let nothing = || OutputCollector::default().finish();
                let milliseconds = timeout.as_millis() as u64;
                ExecRecord { command, exit_code: None, milliseconds, stdout: nothing(), stderr: nothing() }
            }
        };
        match record.exit_code {
            Some(0) => {}
            Some(code) => self.warnings.push(format!("the image's health check failed with exit code {code}")),
            None => self.warnings.push(format!("the image's health check did not end in {} s", timeout.as_secs())),
        }
        self.recorder.answer(serde_json::json!({ "health_check": record }));
        self.health = Some(record);
        Ok(())
    }

    /// The health check's command line and patience; `None` where the image has none.
    fn health_check(&self) -> Option<(Vec<String>, Duration)> {
        let config = self.request.image.config.config.as_ref()?;
        let check = config.healthcheck.as_ref()?;
        let (kind, rest) = check.test.as_ref()?.split_first()?;
        let words = match kind.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                [shell, rest.to_vec()].concat()
            }
            _ => return None,
        };
        let timeout = check.timeout.and_then(|time| u64::try_from(time).ok()).filter(|&time| time > 0);
        (!words.is_empty()).then(|| (words, timeout.map_or(DEFAULT_HEALTH_TIMEOUT, Duration::from_nanos)))
    }

    /// Waits for what `--continue-after` names, or for a while where nothing at all was probed.
    async fn wait_on(&mut self, target: &Target) {
        let after = self.request.probes.continue_after;
        let is_over = target.monitor.wait_for(Status::is_over);
        if after.app_exit {
            (self.request.progress)("waiting until the program ends".to_owned());
            is_over.await;
        } else if let Some(time) = after.timeout {
            (self.request.progress)(format!("watching it for {} s more", time.as_secs_f64()));
            let _ = tokio::time::timeout(time, is_over).await;
        } else if !self.was_exercised() {
            (self.request.progress)("no probe: watching until the program ends, for 10 s at most".to_owned());
            if tokio::time::timeout_at((self.started + UNPROBED).into(), is_over).await.is_err() {
                self.warnings.push(
                    "nothing was exercised: what the program uses only when it is asked to work is missing; \
                     probe it with `--http-probe`, `--exec`, or watch it longer with `--continue-after`"
                        .to_owned(),
                );
            }
        }
    }

    /// Stops the target, and judges whether everything was seen.
    async fn stop(&mut self, target: &Target) -> Result<(), ObserveError> {
        let begun = Instant::now();
        let exit_code = if target.monitor.status().is_over() {
            target.ended().await?
        } else {
            (self.request.progress)("stopping it".to_owned());
            self.next_phase(target, PhaseKind::Stop).await;
            let config = self.request.image.config.config.as_ref();
            let signal = config.and_then(|config| config.stop_signal.clone()).unwrap_or_else(|| "SIGTERM".to_owned());
            let grace = config.and_then(|config| config.stop_timeout).and_then(|grace| u64::try_from(grace).ok());
            let grace = grace.map_or(DEFAULT_GRACE, Duration::from_secs);
            let stopped = target.stop(&signal, grace).await?;
            match stopped.how {
                How::Ended => {}
                How::Killed => {
                    self.warnings
                        .push(format!("the program did not stop within {} s of {signal}: it was killed", grace.as_secs()));
                }
                How::Deaf => self.warnings.push(format!(
                    "the program does not handle {signal}, as PID 1 must to be stopped by it: it was killed at once \
                     (`docker stop` waits {} s before it does)",
                    grace.as_secs()
                )),
            }
            stopped.exit_code
        };
        self.recorder.exit_code(exit_code);
        target.settle(&self.recorder, exit_code).await;
        self.took("stop", begun);
        Ok(())
    }

    /// The target's exit code, where it has ended by itself.
    async fn exit_code(&self, target: &Target) -> Result<Option<i64>, ObserveError> {
        if !target.monitor.status().is_over() {
            return Ok(None);
        }
        match tokio::time::timeout(DEFAULT_GRACE, target.container.wait()).await {
            Ok(exit_code) => Ok(Some(exit_code.map_err(TargetError::from)?)),
            // Only the monitor has: a loss, which the end of the observation tells.
            Err(_) => Ok(None),
        }
    }

    /// Some probe came to something.
    fn was_exercised(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.answered() > 0) || !self.commands.is_empty()
    }

    /// A program may end by itself, but one that failed before it was exercised has shown nothing to build from.
    async fn judge_end(&mut self, target: &Target) -> Result<(), ObserveError> {
        match self.exit_code(target).await? {
            None | Some(0) => {}
            Some(exit_code) if self.was_exercised() => {
                self.warnings.push(format!("the program ended by itself, with exit code {exit_code}"));
            }
            Some(exit_code) => {
                return Err(died(target, exit_code, "by itself; if it is to end so, exercise it with `--exec`").await);
            }
        }
        Ok(())
    }
}

/// Where something broke off, the target may have ended; that is told by another way, and can come a little later.
async fn hear_of_end(target: &Target) {
    const LATE: Duration = Duration::from_secs(1);
    let _ = tokio::time::timeout(LATE, target.monitor.wait_for(Status::is_over)).await;
}

async fn died(target: &Target, exit_code: i64, when: &'static str) -> ObserveError {
    ObserveError::Died { exit_code, when, scene: Scene::of(target).await }
}

/// How much readiness depends on ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// There is no going on without.
    Ports,
    /// They should come, but some are exposed and never used.
    PortsForAWhile,
    /// They are a sign among others.
    Nothing,
}

/// Whether the target is ready, by what is known now; `quiet`: how long it has used no new path.
fn judge(status: &Status, wanted: &[u16], awaits: Awaits, quiet: Duration) -> Option<Ready> {
    if status.is_over() {
        return Some(Ready::Ended);
    }
    let mut ports: Vec<u16> = status.listening.iter().map(|listener| listener.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let all_there = match wanted {
        [] => !ports.is_empty() && awaits != Awaits::Nothing && quiet >= SETTLED,
        wanted => wanted.iter().all(|port| ports.contains(port)),
    };
    if all_there || (!ports.is_empty() && quiet >= QUIET) {
        return Some(Ready::Listening(ports));
    }
    let patience = match awaits {
        Awaits::Ports => return None,
        Awaits::PortsForAWhile => LONG_QUIET,
        Awaits::Nothing => QUIET,
    };
    (quiet >= patience).then_some(Ready::Quiet)
}

/// The port of `80/tcp` or `80`.
fn tcp_port(name: &str) -> Option<u16> {
    name.strip_suffix("/tcp").unwrap_or(name).parse().ok()
}

fn ports_in_words(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "))
}

fn in_words(command: &ExecCommand) -> String {
    match command {
        ExecCommand::Direct(words) => words.join(" "),
        ExecCommand::Shell(text) => text.clone(),
        ExecCommand::Script(name) => format!("sh -s < {name}"),
    }
}

fn cannot_run(command: &ExecCommand, said: &str) -> ObserveError {
    let hint = match command {
        ExecCommand::Direct(_) => "",
        ExecCommand::Shell(_) => {
            "; the command has shell syntax, so it needs the image's `sh`: quote it, or name a program directly"
        }
        ExecCommand::Script(_) => "; a script needs the image's `sh`",
    };
    ObserveError::Command { command: in_words(command), reason: format!("{}{hint}", said.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::monitor::{Session, SessionEnd};
    use slim_sensor::wire::Listener;

    #[test]
    fn only_tcp_can_speak_http() {
        assert_eq!(["80", "443/tcp", "53/udp", "9/sctp", ""].map(tcp_port), [Some(80), Some(443), None, None, None]);
    }

    #[test]
    fn readiness() {
        let listening = |ports: &[u16]| Status {
            listening: ports
                .iter()
                .map(|&port| Listener { port, address: std::net::Ipv4Addr::UNSPECIFIED.into(), pid: 1 })
                .collect(),
            ..Status::default()
        };
        let end = Some(SessionEnd { status: Some(0), start_failed: false });
        let ended = Status { sessions: [(1, Session { name: "target".into(), end })].into(), ..Status::default() };
        let (now, second, long) = (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10));
        let ports = |ports: &[u16]| Some(Ready::Listening(ports.to_vec()));
        for (status, wanted, awaits, quiet, expected) in [
            (&ended, &[80][..], Awaits::Ports, now, Some(Ready::Ended)),
            (&listening(&[81, 80]), &[80], Awaits::Ports, now, ports(&[80, 81])),
            (&listening(&[80]), &[80, 443], Awaits::Ports, now, None),
            (&listening(&[80]), &[80, 443], Awaits::Ports, second, ports(&[80])),
            (&listening(&[8080]), &[], Awaits::Ports, now, None),
            (&listening(&[8080]), &[], Awaits::Ports, SETTLED, ports(&[8080])),
            (&listening(&[8080]), &[], Awaits::Nothing, now, None),
            (&listening(&[8080]), &[], Awaits::Nothing, second, ports(&[8080])),
            (&listening(&[]), &[], Awaits::Nothing, second, Some(Ready::Quiet)),
            (&listening(&[]), &[80], Awaits::PortsForAWhile, second, None),
            (&listening(&[]), &[80], Awaits::PortsForAWhile, long, Some(Ready::Quiet)),
            (&listening(&[]), &[80], Awaits::Ports, long, None),
        ] {
            assert_eq!(judge(status, wanted, awaits, quiet), expected, "{wanted:?} {awaits:?} {quiet:?}");
        }
    }
}
