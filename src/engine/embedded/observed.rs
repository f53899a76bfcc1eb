//! A container of slim's own whose programs are watched.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as Api;
use futures_util::{StreamExt, stream};
use slim_sensor::Meeting;
use slim_sensor::container::spec::{Mount, Mounted, OWN_EXECUTABLE, ProcessSpec};
use slim_sensor::stub::StubSpec;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::io::ReaderStream;

use super::engine::{Embedded, EmbeddedError};
use super::log::Log;
use super::monitor::{self, Door};
use super::root::ImageRoot;
use super::runner::RunnerError;
use super::running::Running;
use super::streams::Streams;
use crate::engine::capabilities::CapabilitySet;
use crate::engine::container::{Attached, Input, Parts};
use crate::engine::options::RunOptions;
use crate::hidden;
use crate::image::source::SourceImage;

/// Under which number a stub has its connection to the monitor.
const CONNECTION: i32 = 3;
/// How long the last words of a program may take after its end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is started in a container.
#[derive(Debug)]
pub struct StubOptions<'a> {
    /// How, but for where the monitor is met.
    pub stub: &'a StubSpec,
    /// The command line.
    pub command: &'a [String],
    /// What volumes at these places begin with: directories of this machine.
    pub volumes: &'a [(String, PathBuf)],
    /// Its standard input is wanted, and what it puts out.
    pub attach: bool,
    /// It has no terminal, whatever the options say.
    pub no_terminal: bool,
}

/// See the module. Dropped, all in it is killed.
#[derive(Debug)]
pub struct ObservedContainer {
    running: Running,
    state: PathBuf,
    door: Door,
    log: Log,
    /// Write the log.
    writers: Mutex<Vec<JoinHandle<()>>>,
}

/// A container that has begun.
#[expect(missing_debug_implementations, reason = "it holds streams")]
pub struct ObservedStart {
    /// It.
    pub container: ObservedContainer,
    /// Its monitor's streams.
    pub monitor: Attached,
    /// The monitor's exit code, once it has ended.
    pub monitor_exit: watch::Receiver<Option<i64>>,
    /// Standard streams of the program, where they were wanted.
    pub attached: Option<(Parts, Input)>,
    /// What is mounted in it beside what every container has.
    pub mounts: Vec<Mount>,
    /// Its host name.
    pub hostname: String,
}

impl Embedded {
    /// Starts a container of an image with these options, its first process observed.
    ///
    /// # Errors
    /// [`EmbeddedError`]
    pub async fn start_observed(
        &self,
        image: &SourceImage,
        root: &ImageRoot,
        options: &RunOptions,
        what: StubOptions<'_>,
    ) -> Result<ObservedStart, EmbeddedError> {
        let mut spec = self.specify(image, root, options)?;
        for mount in &mut spec.mounts {
            if let Some((_, directory)) = what.volumes.iter().find(|(target, _)| *target == mount.target) {
                mount.what = Mounted::Volume(Some(directory.clone()));
            }
        }
        let monitor = monitor::start(self.runner().executable(), what.stub.senses).map_err(RunnerError::Talk)?;
        let connection = monitor.door.connection().map_err(RunnerError::Talk)?;
        let bounding = spec.process.capabilities.bounding;
        spec.process.argv = what.command.to_vec();
        spec.process.stub = stub_words(what.stub);
        spec.process.stub_capabilities = bounding | CapabilitySet::SENSOR.mask();
        spec.process.descriptors = vec![CONNECTION];
        spec.process.input = what.attach;
        spec.process.terminal &= !what.no_terminal;
        let (running, streams) = self.runner().start(&spec, &[connection]).await?;
        let log = Log::default();
        let (attached, writers) = if what.attach {
            let (parts, input) = parts(streams);
            (Some((logged(parts, log.clone()), input)), vec![])
        } else {
            let errors = streams.errors.map(|errors| tokio::spawn(log.clone().follow(errors)));
            (None, [tokio::spawn(log.clone().follow(streams.output))].into_iter().chain(errors).collect())
        };
        let container = ObservedContainer { running, state: spec.state, door: monitor.door, log, writers: Mutex::new(writers) };
        Ok(ObservedStart {
            container,
            monitor: monitor.attached,
            monitor_exit: monitor.exit_code,
            attached,
            mounts: spec.mounts,
            hostname: spec.hostname,
        })
    }
}

impl ObservedContainer {
    /// What was done otherwise than intended, in words.
    #[must_use]
    pub fn fallbacks(&self) -> &[String] {
        self.running.fallbacks()
    }

    /// Waits until the first process has ended, and what it wrote is in the log; its exit code.
    ///
    /// # Errors
    /// [`RunnerError`]
    pub async fn wait(&self) -> Result<i64, RunnerError> {
        let exit_code = self.running.wait().await?;
        let writers = std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::time::timeout(LAST_WORDS, futures_util::future::join_all(writers)).await;
        Ok(i64::from(exit_code))
    }

    /// Sends a signal to the first process. It may have ended before.
    ///
    /// # Errors
    /// [`RunnerError`]
    pub async fn kill(&self, signal: i32) -> Result<(), RunnerError> {
        self.running.kill(signal).await
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log(&self, lines: usize) -> Vec<String> {
        self.log.lines(lines)
    }

    /// Starts a command beside the first process, observed. What it puts out, its input, and its exit code once it has ended.
    ///
    /// # Errors
    /// [`RunnerError`]
    pub async fn exec(
        &self,
        stub: &StubSpec,
        command: &[String],
        with_input: bool,
    ) -> Result<(Parts, Input, watch::Receiver<Option<i64>>), RunnerError> {
        let connection: OwnedFd = self.door.connection()?;
        let process = ProcessSpec {
            stub: stub_words(stub),
            input: with_input,
            descriptors: vec![CONNECTION],
            ..self.running.command(command.to_vec())
        };
        let (command, streams) = self.running.exec(&process, &[connection]).await?;
        let (tell, exit_code) = watch::channel(None);
        tokio::spawn(async move {
            let code = command.wait().await.map_or(137, i64::from);
            tell.send_replace(Some(code));
        });
        let (parts, input) = parts(streams);
        Ok((parts, input, exit_code))
    }

    /// Connects to the first of `addresses` that accepts, from inside.
    ///
    /// # Errors
    /// That of the last.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match self.running.connect(*address).await {
                Ok(stream) => return Ok(stream),
                Err(RunnerError::Talk(error)) => last = error,
                Err(error) => return Err(std::io::Error::other(error)),
            }
        }
        Err(last)
    }

    /// Kills what runs in it, and removes it.
    pub async fn remove(&self) {
        self.running.end().await;
        // What can't be removed now goes with the run.
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

fn stub_words(stub: &StubSpec) -> Vec<String> {
    let stub = StubSpec { meeting: Meeting::Given(CONNECTION), ..stub.clone() };
    vec![OWN_EXECUTABLE.to_owned(), hidden::STUB.to_owned(), hidden::to_json(&stub)]
}

/// Standard streams in the form that an engine's API has them.
fn parts(streams: Streams) -> (Parts, Input) {
    let failed = |err: std::io::Error| Api::IOError { err };
    let output = ReaderStream::new(streams.output);
    let output = output.map(move |part| part.map(|message| LogOutput::StdOut { message }).map_err(failed));
    let input: Input = match streams.input {
        Some(input) => Box::pin(input),
        None => Box::pin(tokio::io::sink()),
    };
    let Some(errors) = streams.errors else { return (Box::pin(output), input) };
    let errors = ReaderStream::new(errors);
    let errors = errors.map(move |part| part.map(|message| LogOutput::StdErr { message }).map_err(failed));
    (Box::pin(stream::select(output, errors)), input)
}

fn logged(parts: Parts, log: Log) -> Parts {
    Box::pin(parts.inspect(move |part| {
        if let Ok(part) = part {
            log.push(part.as_ref());
        }
    }))
}
