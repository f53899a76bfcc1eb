//! The observed container: how it differs from a plain one, its start, and its end.
//!
//! The program must not be able to tell: so its container is created from the user's options, and what the sensor needs
//! on top (root, capabilities, the stub in front of the command) is given up again by the stub before the program runs.
//! What each engine does for that is in the modules below.

mod docker;
mod embedded;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use slim_probes::{Output, OutputCollector};
use slim_sensor::Meeting;
use slim_sensor::stub::StubSpec;
use slim_sensor::wire::Fanotify;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::monitor::{Monitor, SessionEnd};
use super::observation::Mount;
use super::recorder::{Feed, Recorder};
use super::sensor::Sensor;
use crate::engine::container::{Attached, Input, Parts};
use crate::engine::embedded::EmbeddedError;
use crate::engine::error::EngineError;
use crate::engine::options::RunOptions;
use crate::engine::options::environment::Variable;
use crate::engine::options::security::Seccomp;
use crate::engine::runtime::{Contained, Ending, Runtime};
use crate::engine::signal::signal_number;
use crate::engine::volumes::Copies;
use crate::image::source::SourceImage;

/// How long the end of a target that was killed may take to be told.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long after the end of its monitor a container may go on before that is a loss.
const UNTOLD_END_PATIENCE: Duration = Duration::from_secs(5);

/// What goes wrong with a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// slim's own engine.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// Neither image nor options say what to run.
    #[error("the image has neither ENTRYPOINT nor CMD: say what to run with `--entrypoint` or `--cmd`")]
    NoCommand,
    /// The engine refuses to start the program, or the stub could not.
    #[error("the program could not be started: {0}")]
    Start(String),
    /// What was asked for can't be had.
    #[error(
        "the kernel refuses fanotify in this container ({reason}), and `--sensor {sensor}` needs it: use `--sensor auto`, which \
         does without it where it must"
    )]
    NoFanotify {
        /// The kernel's.
        reason: String,
        /// As it was given.
        sensor: &'static str,
    },
    /// It can't see anything.
    #[error("programs cannot be watched: {0}")]
    Blind(String),
    /// The monitor did not come up.
    #[error("the sensor did not start in the container: {0}")]
    Monitor(String),
}

/// What to run and how; the same for each container of a run.
#[derive(Debug, Clone)]
pub struct TargetSpec {
    /// Of which image.
    image: SourceImage,
    /// As the user said.
    options: RunOptions,
    /// Ports that are to be reached.
    ports: Vec<u16>,
    /// The program's command line.
    pub command: Vec<String>,
    stub: StubSpec,
    sensor: Sensor,
    /// What it reads from its standard input, where it is a command whose output is wanted.
    input: Option<Vec<u8>>,
}

impl TargetSpec {
    /// It has something to read.
    fn has_input(&self) -> bool {
        self.input.as_ref().is_some_and(|input| !input.is_empty())
    }
}

/// A running (or ended) observed container.
#[derive(Debug)]
pub struct Target {
    /// The container.
    pub container: Contained,
    /// Its monitor.
    pub monitor: Monitor,
    /// What is known of it.
    pub facts: Facts,
    stub: StubSpec,
    /// Gathers its output, where that is wanted.
    output: Option<JoinHandle<(Output, Output)>>,
}

/// What an engine says of a container.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Published ports: where the container's port is to be reached from here.
    pub published: BTreeMap<u16, SocketAddr>,
    /// What is mounted in the container.
    pub mounts: Vec<Mount>,
    /// Seconds between its stop signal and SIGKILL, where the image says so: a daemon tells it of containers only.
    pub stop_timeout: Option<i64>,
    /// The container's host name and addresses.
    pub hostname: String,
    /// See [`Facts::hostname`].
    pub addresses: Vec<String>,
    /// What the engine did otherwise than intended.
    pub notes: Vec<String>,
}

/// What an engine has started.
struct Started {
    container: Contained,
    stub: StubSpec,
    monitor: Attached,
    monitor_end: Ending,
    /// The program's streams, where they are wanted.
    attached: Option<(Parts, Input)>,
}

/// How a program was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Its exit code.
    pub exit_code: i64,
    /// By what.
    pub how: How,
}

/// See [`Stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By itself, after the stop signal.
    Ended,
    /// By SIGKILL, when its time was up.
    Killed,
    /// By SIGKILL, at once: it neither catches, blocks nor awaits the stop signal, and the kernel drops such a signal before the first
    /// process of a container. `docker stop` would have waited for nothing.
    Deaf,
}

/// A command that was run in a target's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; `None` where the engine never told.
    pub exit_code: Option<i64>,
    /// What it wrote to standard output.
    pub stdout: Output,
    /// What it wrote to standard error.
    pub stderr: Output,
}

impl TargetSpec {
    /// Works out the container of `image` with the user's options, in which `ports` can be reached.
    ///
    /// # Errors
    /// [`TargetError::NoCommand`]
    pub fn new(
        runtime: Runtime<'_>,
        image: &SourceImage,
        options: &RunOptions,
        ports: &[u16],
        sensor: Sensor,
    ) -> Result<TargetSpec, TargetError> {
        let config = image.config.config.clone().unwrap_or_default();
        let or_empty = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
        let command = options.command_line(&or_empty(&config.entrypoint), &or_empty(&config.cmd));
        if command.is_empty() {
            return Err(TargetError::NoCommand);
        }
        let environment = options.environment.iter().map(Variable::to_api);
        let environment: Vec<String> = config.env.clone().unwrap_or_default().into_iter().chain(environment).collect();
        let home = environment.iter().rev().find_map(|variable| variable.strip_prefix("HOME="));
        let stub = StubSpec {
            meeting: Meeting::Named(String::new()),
            session: "target".to_owned(),
            user: options.user.clone().or_else(|| config.user.clone()).unwrap_or_default(),
            capabilities: options.capabilities.plain().mask(),
            deny: options.security.seccomp == Seccomp::EngineDefault,
            senses: sensor.senses(),
            engine: runtime.rules(),
            // slim's own engine has set it for the user already.
            home_is_set: matches!(runtime, Runtime::Embedded(_)) || home.is_some_and(|home| !home.is_empty()),
        };
        let (image, options, ports) = (image.clone(), options.clone(), ports.to_vec());
        Ok(TargetSpec { image, options, ports, command, stub, sensor, input: None })
    }

    /// The same container with a command that reads `input`, and whose output is wanted.
    #[must_use]
    pub fn with_command(&self, command: Vec<String>, input: &[u8]) -> TargetSpec {
        TargetSpec { command, input: Some(input.to_owned()), ..self.clone() }
    }

    /// Creates the container and starts the program in it, observed.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn start(
        &self,
        runtime: Runtime<'_>,
        volumes: Option<&Copies>,
        role: &str,
        feed: Feed,
    ) -> Result<Target, TargetError> {
        let (started, facts) = match runtime {
            Runtime::Docker(engine, program) => docker::start(self, engine, program, volumes, role).await?,
            Runtime::Embedded(engine) => embedded::start(self, engine, volumes).await?,
        };
        let Started { container, stub, monitor, monitor_end, attached } = started;
        let output = self.input.clone().zip(attached);
        let output = output.map(|(input, (parts, to_command))| tokio::spawn(converse(parts, to_command, input)));
        let monitor = Monitor::follow(monitor, monitor_end, feed);
        let status = monitor.wait_for(|status| status.greeted && status.target().is_some()).await;
        if status.target().is_none() {
            let (complaints, code) = monitor.post_mortem().await;
            let reason = format!("{complaints} (exit code {})", code.map_or("unknown".to_owned(), |code| code.to_string()));
            return Err(start_failure(&container, &reason).await);
        }
        if let Some(reason) = status.blind {
            return Err(TargetError::Blind(reason));
        }
        if let Some(Fanotify::Refused(reason)) = status.fanotify.filter(|_| self.sensor.insists_on_fanotify()) {
            return Err(TargetError::NoFanotify { reason, sensor: self.sensor.word() });
        }
        Ok(Target { container, monitor, facts, stub, output })
    }
}

/// The stub's own words where it ended, else what went wrong with the monitor.
async fn start_failure(container: &Contained, reason: &str) -> TargetError {
    // The kernel kills the monitor with the container, a moment before the engine knows of its end.
    match tokio::time::timeout(END_PATIENCE, container.wait()).await {
        Ok(Ok(exit_code)) => {
            let said = container.log(20).await.join("; ");
            TargetError::Start(if said.is_empty() { format!("exit code {exit_code}") } else { said })
        }
        _ => TargetError::Monitor(reason.to_owned()),
    }
}

impl Target {
    /// Runs a command beside the program, as its user, in its environment, observed. Its exit code, standard output and
    /// standard error.
    ///
    /// # Errors
    /// [`TargetError::Engine`]
    pub async fn run(&self, session: &str, command: &[String], input: &[u8]) -> Result<Finished, TargetError> {
        let stub = StubSpec { session: session.to_owned(), ..self.stub.clone() };
        let (parts, to_command, ending) = self.container.exec(&stub, command, !input.is_empty()).await?;
        let (stdout, stderr) = converse(parts, to_command, input).await;
        // The stream can end a moment before the engine knows of the end.
        let mut exit_code = ending.exit_code().await?;
        for _ in 0..20 {
            if exit_code.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            exit_code = ending.exit_code().await?;
        }
        Ok(Finished { exit_code, stdout, stderr })
    }

    /// What it has put out by its end: standard output and standard error. Empty where that was not wanted.
    pub async fn output(self) -> (Output, Output) {
        let gathered = match self.output {
            Some(output) => output.await.ok(),
            None => None,
        };
        gathered.unwrap_or_else(|| (OutputCollector::default().finish(), OutputCollector::default().finish()))
    }

    /// Stops the program as `docker stop` does: its stop signal, then patience, then SIGKILL; but everything is told
    /// before the kill.
    ///
    /// # Errors
    /// [`TargetError::Engine`]
    pub async fn stop(&self, signal: &str, grace: Duration) -> Result<Stopped, TargetError> {
        let heeded = self.monitor.heeded_signals().await;
        let is_heeded = signal_number(signal)
            .zip(heeded)
            .is_none_or(|(number, heeded)| number == libc::SIGKILL || number == libc::SIGSTOP || heeded >> (number - 1) & 1 == 1);
        if is_heeded {
            self.container.kill(signal).await?;
            if let Ok(exit_code) = tokio::time::timeout(grace, self.container.wait()).await {
                return Ok(Stopped { exit_code: exit_code?, how: How::Ended });
            }
        }
        let _ = tokio::time::timeout(END_PATIENCE, self.monitor.end()).await;
        self.container.kill("SIGKILL").await?;
        let how = if is_heeded { How::Killed } else { How::Deaf };
        Ok(Stopped { exit_code: self.container.wait().await?, how })
    }

    /// The exit code of a program that has ended, or is not watched any more: then it is killed, so that this ends.
    ///
    /// # Errors
    /// [`TargetError::Engine`]
    pub async fn ended(&self, recorder: &Recorder) -> Result<i64, TargetError> {
        // Without a word of an end the monitor died, of the container's end or alone.
        let patience = if self.monitor.status().ended.is_some() { END_PATIENCE } else { UNTOLD_END_PATIENCE };
        match tokio::time::timeout(patience, self.container.wait()).await {
            Ok(exit_code) => Ok(exit_code?),
            Err(_) => {
                recorder.lose("the sensor ended while the program ran, which was killed then".to_owned());
                self.container.kill("SIGKILL").await?;
                Ok(self.container.wait().await?)
            }
        }
    }

    /// Judges whether everything that was done has been told, once the container has ended with `exit_code`.
    pub async fn settle(&self, recorder: &Recorder, exit_code: i64) {
        let status = tokio::time::timeout(END_PATIENCE, self.monitor.wait_for(|status| status.closed)).await;
        let status = status.unwrap_or_else(|_| self.monitor.status());
        if let Some(damage) = status.damage.filter(|_| status.ended.is_none()) {
            return recorder.lose(format!("the sensor's records are damaged: {damage}"));
        }
        if status.ended.is_some() {
            return;
        }
        let (complaints, code) = self.monitor.post_mortem().await;
        match code {
            // The program was killed, and the kernel killed the monitor with its pid namespace.
            Some(137) | None if exit_code > 128 => recorder.tail_unknown(),
            _ => recorder.lose(format!(
                "the sensor ended before the program did (exit code {}) {complaints}",
                code.map_or("unknown".to_owned(), |code| code.to_string())
            )),
        }
    }

    /// How the target's session ended, where it has.
    #[must_use]
    pub fn session_end(&self) -> Option<SessionEnd> {
        self.monitor.status().target().and_then(|session| session.end)
    }
}

/// Gives a command its whole input, and takes all that it puts out: standard output and standard error.
async fn converse(mut parts: Parts, mut to_command: Input, input: impl AsRef<[u8]>) -> (Output, Output) {
    // The way is dropped here, not with this function: only then does a reader of a pipe see its end.
    let write = async move {
        // A command that does not read its input is not a failure.
        let _ = to_command.write_all(input.as_ref()).await;
        let _ = to_command.shutdown().await;
    };
    let read = async {
        let (mut output, mut error) = (OutputCollector::default(), OutputCollector::default());
        while let Some(Ok(part)) = parts.next().await {
            match part {
                LogOutput::StdErr { message } => error.push(&message),
                part => output.push(&part.into_bytes()),
            }
        }
        (output.finish(), error.finish())
    };
    tokio::join!(write, read).1
}
