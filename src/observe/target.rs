//! The observed container: how it differs from a plain one, its start, and its end.
//!
//! The program must not be able to tell: so its container is created from the user's options, and what the sensor needs
//! on top (root, capabilities, the stub in front of the command) is given up again by the stub before the program runs.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfigLogConfig, PortBinding};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use slim_probes::{Output, OutputCollector};
use slim_sensor::monitor;
use slim_sensor::stub::StubSpec;
use slim_sensor::wire::Fanotify;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::inspected::{addresses, mounts_of, of_user, published};
use super::monitor::{Monitor, SessionEnd};
use super::observation::Mount;
use super::recorder::{Feed, Recorder};
use super::sensor::Sensor;
use super::signal::signal_number;
use crate::engine::container::{Attached, Container, Input, Parts};
use crate::engine::docker::{Engine, EngineError};
use crate::engine::inject::Program;
use crate::engine::options::RunOptions;
use crate::engine::options::environment::Variable;
use crate::engine::options::security::Seccomp;
use crate::engine::volumes::Copies;
use crate::hidden;
use crate::image::source::SourceImage;

/// How long the end of a target that was killed may take to be told.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// The C library's restartable sequences (since glibc 2.35) cost each of the monitor's task switches, of which every observed call takes
/// two, and it has no use for them.
const MONITOR_VARIABLE: &str = "GLIBC_TUNABLES=glibc.pthread.rseq=0";

/// What goes wrong with a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    /// The monitor did not come up.
    #[error("the sensor did not start in the container: {0}")]
    Monitor(String),
}

/// What to run and how; the same for each container of a run.
#[derive(Debug, Clone)]
pub struct TargetSpec {
    /// Container configuration without entrypoint and command.
    body: ContainerCreateBody,
    /// The program's command line.
    pub command: Vec<String>,
    stub: StubSpec,
    sensor: Sensor,
    /// What it reads from its standard input, where it is a command whose output is wanted.
    input: Option<Vec<u8>>,
}

/// A running (or ended) observed container.
#[derive(Debug)]
pub struct Target {
    /// The container.
    pub container: Container,
    /// Its monitor.
    pub monitor: Monitor,
    /// Published ports: where the container's port is to be reached from here.
    pub published: BTreeMap<u16, SocketAddr>,
    /// What is mounted in the container.
    pub mounts: Vec<Mount>,
    /// Seconds between its stop signal and SIGKILL, where the image says so: the engine tells it of containers only.
    pub stop_timeout: Option<i64>,
    /// The container's host name and addresses.
    pub hostname: String,
    /// See [`Target::hostname`].
    pub addresses: Vec<String>,
    program: String,
    stub: StubSpec,
    /// Gathers its output, where that is wanted.
    output: Option<JoinHandle<(Output, Output)>>,
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
    /// Works out the container of `image` in `engine` with the user's options, in which `ports` can be reached.
    ///
    /// # Errors
    /// [`TargetError::NoCommand`]
    pub fn new(
        engine: &Engine,
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
        let plain = options.capabilities.plain();
        let environment = options.environment.iter().map(Variable::to_api);
        let environment: Vec<String> = config.env.clone().unwrap_or_default().into_iter().chain(environment).collect();
        let home = environment.iter().rev().find_map(|variable| variable.strip_prefix("HOME="));

        let mut body = ContainerCreateBody::default();
        options.apply(&mut body);
        body.image = Some(image.id.clone());
        body.user = Some("0".to_owned());
        body.healthcheck = Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() });
        let host = body.host_config.get_or_insert_default();
        let (add, drop) = options.capabilities.observed();
        (host.cap_add, host.cap_drop) = (Some(add), Some(drop));
        // The log is shown when the program fails; it must be readable, and not fill the host's disk.
        let bounds = HashMap::from([("max-size".to_owned(), "16m".to_owned()), ("max-file".to_owned(), "2".to_owned())]);
        host.log_config = Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(bounds) });
        if has_own_network(host.network_mode.as_deref()) {
            let published = host.port_bindings.get_or_insert_default();
            let any = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None };
            for port in ports {
                published.entry(format!("{port}/tcp")).or_insert_with(|| Some(vec![any.clone()]));
            }
            let exposed = body.exposed_ports.get_or_insert_default();
            for port in ports.iter().map(|port| format!("{port}/tcp")) {
                if !exposed.contains(&port) {
                    exposed.push(port);
                }
            }
        }
        let stub = StubSpec {
            socket: String::new(),
            session: "target".to_owned(),
            user: options.user.clone().or_else(|| config.user.clone()).unwrap_or_default(),
            capabilities: plain.mask(),
            deny: options.security.seccomp == Seccomp::EngineDefault,
            senses: sensor.senses(),
            engine: engine.rules(),
            home_is_set: home.is_some_and(|home| !home.is_empty()),
        };
        Ok(TargetSpec { body, command, stub, sensor, input: None })
    }

    /// The same container with a command that reads `input`, and whose output is wanted.
    #[must_use]
    pub fn with_command(&self, command: Vec<String>, input: &[u8]) -> TargetSpec {
        let mut spec = TargetSpec { command, input: Some(input.to_owned()), ..self.clone() };
        if !input.is_empty() {
            let body = &mut spec.body;
            (body.open_stdin, body.stdin_once, body.attach_stdin) = (Some(true), Some(true), Some(true));
            // On a terminal, the input would have no end.
            body.tty = Some(false);
        }
        spec
    }

    /// Creates the container and starts the program in it, observed.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn start(
        &self,
        engine: &Engine,
        program: &Program,
        volumes: Option<&Copies>,
        role: &str,
        feed: Feed,
    ) -> Result<Target, TargetError> {
        let stub = StubSpec { socket: secret(), ..self.stub.clone() };
        let mut body = self.body.clone();
        let mut words = vec![hidden::STUB.to_owned(), to_json(&stub)];
        words.extend(self.command.iter().cloned());
        (body.entrypoint, body.cmd) = (Some(vec![program.path()]), Some(words));
        let (container, sees_our_files) = program.create(engine, role, &body, false).await?;
        if let Some(volumes) = volumes {
            volumes.fill(&container).await?;
        }
        let output = match self.input.clone() {
            Some(input) => {
                let (parts, to_command) = container.attach_parts().await?;
                Some(tokio::spawn(converse(parts, to_command, input)))
            }
            None => None,
        };
        if let Err(error) = container.start().await {
            let state = container.state().await.map(|state| state.error).unwrap_or_default();
            let reason = if state.is_empty() { error.to_string() } else { state };
            return Err(TargetError::Start(reason));
        }
        let options = monitor::Options { socket: stub.socket.clone(), senses: stub.senses };
        let order = vec![program.path(), hidden::MONITOR.to_owned(), to_json(&options)];
        let (monitor, inspected) = tokio::join!(container.exec_with_variable(order, MONITOR_VARIABLE), container.inspect());
        let (attached, exec) = match monitor {
            Ok(started) => started,
            Err(error) => return Err(start_failure(&container, &error.to_string()).await),
        };
        let monitor = Monitor::follow(attached, exec, feed);
        let status = monitor.wait_for(|status| status.greeted && status.target().is_some()).await;
        if status.target().is_none() {
            let (complaints, code) = monitor.post_mortem().await;
            let reason = format!("{complaints} (exit code {})", code.map_or("unknown".to_owned(), |code| code.to_string()));
            return Err(start_failure(&container, &reason).await);
        }
        if let Some(Fanotify::Refused(reason)) = status.fanotify.filter(|_| self.sensor.insists_on_fanotify()) {
            return Err(TargetError::NoFanotify { reason, sensor: self.sensor.word() });
        }
        // A port that a daemon elsewhere publishes on its loopback is not to be reached from here.
        let inspected = inspected?;
        let published = if sees_our_files { published(&inspected) } else { BTreeMap::new() };
        let mounts = mounts_of(&inspected, &program.inside);
        let mounts = mounts.into_iter().map(|mount| of_user(mount, volumes)).collect();
        let addresses = addresses(&inspected);
        let config = inspected.config.unwrap_or_default();
        let (hostname, stop_timeout) = (config.hostname.unwrap_or_default(), config.stop_timeout);
        Ok(Target {
            container,
            monitor,
            published,
            mounts,
            stop_timeout,
            hostname,
            addresses,
            program: program.path(),
            stub,
            output,
        })
    }
}

/// The stub's own words where it ended, else what went wrong with the monitor.
async fn start_failure(container: &Container, reason: &str) -> TargetError {
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
        let mut words = vec![self.program.clone(), hidden::STUB.to_owned(), to_json(&stub)];
        words.extend(command.iter().cloned());
        let (parts, to_command, exec) = self.container.exec_parts(words, !input.is_empty()).await?;
        let (stdout, stderr) = converse(parts, to_command, input).await;
        // The stream can end a moment before the engine knows of the end.
        let mut exit_code = exec.exit_code().await?;
        for _ in 0..20 {
            if exit_code.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            exit_code = exec.exit_code().await?;
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

    /// Starts a relay inside the container's network namespace to the first of `addresses` that accepts.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn relay(&self, addresses: &[SocketAddr]) -> Result<Attached, EngineError> {
        let mut words = vec![self.program.clone(), hidden::RELAY.to_owned()];
        words.extend(addresses.iter().map(ToString::to_string));
        Ok(self.container.exec(words, true).await?.0)
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
        match tokio::time::timeout(END_PATIENCE, self.container.wait()).await {
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
    let write = async {
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

fn to_json(spec: &impl serde::Serialize) -> String {
    serde_json::to_string(spec).expect("a spec is plain data")
}

/// A name that nobody guesses, for a socket in a network namespace that may be shared.
fn secret() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness: `Owner` took some at the start");
    random.iter().fold("slim-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Whether ports can be published: not with the host's network, none, or another container's.
fn has_own_network(mode: Option<&str>) -> bool {
    !mode.is_some_and(|mode| mode == "host" || mode == "none" || mode.starts_with("container:"))
}
