//! The commands of a run, and the image's health check: beside the target while it runs, else in containers of their own.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slim_probes::{ExecCommand, ExecRecord, OutputCollector};

use super::end::{died, hear_of_end};
use super::{ObserveError, Run};
use crate::observe::observation::PhaseKind;
use crate::observe::scene::Scene;
use crate::observe::target::{Target, TargetError, TargetSpec};

/// Docker's patience with a health check.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
/// How often Docker lets one fail before the container is unhealthy.
const DEFAULT_HEALTH_RETRIES: usize = 3;
/// Some images let it fail for minutes while they start; ours is ready.
const MAX_HEALTH_RETRIES: u64 = 10;
/// Docker waits half a minute between two; nobody waits for that.
const MAX_HEALTH_PAUSE: Duration = Duration::from_secs(1);
/// The exit codes of a stub that could not start a program: see [`slim_sensor::stub::StubError::status`].
const STUB_STATUSES: RangeInclusive<i64> = 125..=127;
/// The exit code of a shell for a command that isn't there.
const NOT_STARTED: i64 = 127;

/// The image's health check, ready to be run.
struct HealthCheck {
    words: Vec<String>,
    timeout: Duration,
    attempts: usize,
    /// Between two attempts.
    pause: Duration,
}

impl Run<'_> {
    pub(super) async fn run_commands(&mut self, target: &Arc<Target>, spec: &TargetSpec) -> Result<(), ObserveError> {
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
                let running = self.run_beside(target, &session, &words, input, command.clone(), begun);
                match tokio::time::timeout(probes.exec_timeout, running).await {
                    Ok(record) => record?,
                    // What is left of it ends with the container.
                    Err(_) => return Err(too_slow(&command, probes.exec_timeout)),
                }
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
        let may_be_the_stubs = finished.exit_code.is_none_or(|code| STUB_STATUSES.contains(&code));
        if may_be_the_stubs && target.monitor.session_end(session).await.is_some_and(|end| end.start_failed) {
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
        let target = spec.start(request.runtime, request.volumes, role, self.recorder.feed(phase)).await?;
        let exit_code = match tokio::time::timeout(request.probes.exec_timeout, target.container.wait()).await {
            Ok(exit_code) => exit_code.map_err(TargetError::from)?,
            Err(_) => {
                target.container.clone().remove().await;
                return Err(too_slow(&command, request.probes.exec_timeout));
            }
        };
        target.settle(&self.recorder, exit_code).await;
        let milliseconds = begun.elapsed().as_millis() as u64;
        let start_failed = target.session_end().is_some_and(|end| end.start_failed);
        let container = target.container.clone();
        let (stdout, stderr) = target.output().await;
        container.remove().await;
        if start_failed {
            return Err(cannot_run(&command, &stderr.text));
        }
        Ok(ExecRecord { command, exit_code: Some(exit_code), milliseconds, stdout, stderr })
    }

    /// Runs the image's health check; where it fails, again as often as the engine would, before that counts.
    pub(super) async fn check_health(&mut self, target: &Arc<Target>) -> Result<(), ObserveError> {
        let Some(check) = self.health_check() else { return Ok(()) };
        if target.monitor.status().is_over() {
            return Ok(());
        }
        (self.request.progress)("running the health check".to_owned());
        self.next_phase(target, PhaseKind::HealthCheck).await;
        let mut record = self.check_once(target, &check, 0).await?;
        for attempt in 1..check.attempts {
            if record.as_ref().is_none_or(|record| record.exit_code == Some(0)) {
                break;
            }
            tokio::time::sleep(check.pause).await;
            record = self.check_once(target, &check, attempt).await?;
        }
        let Some(record) = record else { return Ok(()) };
        let problem = match record.exit_code {
            Some(0) => None,
            Some(code) => Some(format!("failed with exit code {code}")),
            None => Some(format!("did not end in {} s", check.timeout.as_secs())),
        };
        let said = [&record.stderr.text, &record.stdout.text].map(|text| text.trim()).join(" ").trim().to_owned();
        self.recorder.answer(serde_json::json!({ "health_check": record }));
        self.health = Some(record);
        match problem {
            Some(problem) if self.request.probes.must_work => {
                Err(ObserveError::Unhealthy { problem, said, scene: Scene::of(target).await })
            }
            Some(problem) => {
                self.warnings.push(format!("the image's health check {problem}"));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// One attempt; `None` where it could not be made as the target ends.
    async fn check_once(
        &mut self,
        target: &Arc<Target>,
        check: &HealthCheck,
        attempt: usize,
    ) -> Result<Option<ExecRecord>, ObserveError> {
        let session = format!("health-check-{attempt}");
        let command = ExecCommand::Direct(check.words.clone());
        let begun = Instant::now();
        let run = self.run_beside(target, &session, &check.words, b"", command.clone(), begun);
        let nothing = || OutputCollector::default().finish();
        let failed = |exit_code, stderr| {
            let milliseconds = begun.elapsed().as_millis() as u64;
            ExecRecord { command: command.clone(), exit_code, milliseconds, stdout: nothing(), stderr }
        };
        match tokio::time::timeout(check.timeout, run).await {
            Ok(Ok(record)) => Ok(Some(record)),
            Ok(Err(ObserveError::Command { reason, .. })) => {
                let mut said = OutputCollector::default();
                said.push(reason.as_bytes());
                Ok(Some(failed(Some(NOT_STARTED), said.finish())))
            }
            // It may end before it is asked how it is.
            Ok(Err(ObserveError::Died { .. })) => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Some(failed(None, nothing()))),
        }
    }

    /// The image's health check; `None` where it has none.
    fn health_check(&self) -> Option<HealthCheck> {
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
        let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0);
        let attempts = positive(check.retries).map_or(DEFAULT_HEALTH_RETRIES, |retries| retries.min(MAX_HEALTH_RETRIES) as usize);
        let pause = positive(check.interval).map_or(MAX_HEALTH_PAUSE, |time| Duration::from_nanos(time).min(MAX_HEALTH_PAUSE));
        let timeout = positive(check.timeout).map_or(DEFAULT_HEALTH_TIMEOUT, Duration::from_nanos);
        (!words.is_empty()).then_some(HealthCheck { words, timeout, attempts, pause })
    }
}

fn in_words(command: &ExecCommand) -> String {
    match command {
        ExecCommand::Direct(words) => words.join(" "),
        ExecCommand::Shell(text) => text.clone(),
        ExecCommand::Script(name) => format!("sh -s < {name}"),
    }
}

fn too_slow(command: &ExecCommand, limit: Duration) -> ObserveError {
    let reason = format!("it did not end in {} s; allow more with `--exec-timeout`", limit.as_secs());
    ObserveError::Command { command: in_words(command), reason }
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
