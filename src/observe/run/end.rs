//! The end of a run: what is waited for, the stop, and whether the target ended as it should.

use std::time::{Duration, Instant};

use super::{ObserveError, Run, RunEnd};
use crate::observe::monitor::Status;
use crate::observe::observation::PhaseKind;
use crate::observe::scene::Scene;
use crate::observe::target::{How, Target, TargetError};

/// How long a program without any probe is watched, from its start.
pub(super) const UNPROBED: Duration = Duration::from_secs(10);
/// Docker's patience after the stop signal.
pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Waits for what `--continue-after` names, or for a while where nothing at all was probed.
    pub(super) async fn wait_on(&mut self, target: &Target) {
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
    pub(super) async fn stop(&mut self, target: &Target) -> Result<(), ObserveError> {
        let begun = Instant::now();
        let exit_code = if target.monitor.status().is_over() {
            let exit_code = target.ended(&self.recorder).await?;
            self.course.end = RunEnd::ByItself { exit_code };
            exit_code
        } else {
            (self.request.progress)("stopping it".to_owned());
            self.next_phase(target, PhaseKind::Stop).await;
            let config = self.request.image.config.config.as_ref();
            let signal = config.and_then(|config| config.stop_signal.clone()).unwrap_or_else(|| "SIGTERM".to_owned());
            let grace = target.facts.stop_timeout.and_then(|grace| u64::try_from(grace).ok());
            let grace = grace.map_or(DEFAULT_GRACE, Duration::from_secs);
            let signalled = Instant::now();
            let stopped = target.stop(&signal, grace).await?;
            let milliseconds = signalled.elapsed().as_millis() as u64;
            self.course.end = RunEnd::Stopped { how: stopped.how, exit_code: stopped.exit_code, milliseconds };
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
    pub(super) async fn exit_code(&self, target: &Target) -> Result<Option<i64>, ObserveError> {
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
    pub(super) fn was_exercised(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.answered() > 0) || !self.commands.is_empty()
    }

    /// A program may end by itself, but one that failed before it was exercised has shown nothing to build from.
    pub(super) async fn judge_end(&mut self, target: &Target) -> Result<(), ObserveError> {
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
pub(super) async fn hear_of_end(target: &Target) {
    const LATE: Duration = Duration::from_secs(1);
    let _ = tokio::time::timeout(LATE, target.monitor.wait_for(Status::is_over)).await;
}

/// The error that tells of an end too early.
pub(super) async fn died(target: &Target, exit_code: i64, when: &'static str) -> ObserveError {
    ObserveError::Died { exit_code, when, scene: Scene::of(target).await }
}
