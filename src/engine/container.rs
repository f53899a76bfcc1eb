//! Containers of a Docker daemon: their life, commands in them, and what they leave.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as Api;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::answer::{Answered, ContainerAnswer, ContainerItem, ExecAnswer};
use super::docker::Engine;
use super::error::{EngineError, reason, status};
use super::owner;

/// A container of ours. It is removed by [`Container::remove`], or by [`Engine::clean_up`] at the end.
#[derive(Debug, Clone)]
pub struct Container {
    engine: Engine,
    /// Its id.
    pub id: String,
}

/// What to do where SELinux keeps a container from slim's program.
const SELINUX: &str = "SELinux is enforcing here, and does not let the engine's containers run slim's program: use slim's own engine \
                       (`--engine embedded`)";

/// How often a removal is tried again: Podman refuses one while the container's program ends by itself.
const REMOVALS: usize = 5;

/// What a program writes, part by part.
pub type Parts = Pin<Box<dyn Stream<Item = Result<LogOutput, Api>> + Send>>;

/// The way in.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Bytes of a container or command, and the way in.
pub struct Attached {
    /// What it writes to its standard output.
    pub output: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
    /// Its standard input.
    pub input: Input,
    /// The last of what it wrote to its standard error so far.
    pub complaints: Complaints,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// The end of what a program of ours wrote to its standard error.
#[derive(Debug, Clone, Default)]
pub struct Complaints(Arc<Mutex<Vec<u8>>>);

impl Complaints {
    const KEPT: usize = 16 << 10;

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let excess = kept.len().saturating_sub(Complaints::KEPT);
        kept.drain(..excess);
    }

    /// Takes all that comes.
    pub(super) async fn follow(self, mut from: impl AsyncRead + Unpin) {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            self.push(&part[..length]);
        }
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned()
    }
}

/// How a container's first process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// It runs.
    pub running: bool,
    /// Its exit code once it has ended.
    pub exit_code: i64,
    /// The kernel killed it for memory.
    pub out_of_memory: bool,
    /// Why the engine could not start it.
    pub error: String,
}

impl Engine {
    /// Creates a container, labelled as ours.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn create(&self, role: &str, mut body: ContainerCreateBody) -> Result<Container, EngineError> {
        body.labels.get_or_insert_default().extend(self.owner.labels());
        // One of several in the same role may still be on its way out when the next one comes.
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let name = format!("slim-{}-{role}-{number}", self.owner.run);
        tracing::debug!(name, "create");
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = self.docker.create_container(Some(options), body).await.map_err(self.kind.refused("create a container"))?;
        Ok(Container { engine: self.clone(), id: created.id })
    }

    /// Removes every container of this run. What was being created when it was called is caught too: a container can
    /// appear for a moment after its request was dropped, so this looks again until there is none.
    pub async fn clean_up(&self) -> Result<(), EngineError> {
        let mut quiet_looks = 0;
        while quiet_looks < 2 {
            let own = self.labelled(&format!("{}={}", owner::RUN, self.owner.run)).await?;
            quiet_looks = if own.is_empty() { quiet_looks + 1 } else { 0 };
            for (id, _) in own {
                Container { engine: self.clone(), id }.remove().await?;
            }
            if quiet_looks == 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Removes the containers that provably dead runs left; how many.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn sweep(&self) -> Result<usize, EngineError> {
        let mut removed = 0;
        for (id, labels) in self.labelled(owner::RUN).await? {
            if self.owner.is_dead(&labels) {
                Container { engine: self.clone(), id }.remove().await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn labelled(&self, label: &str) -> Result<Vec<(String, std::collections::HashMap<String, String>)>, EngineError> {
        let filters = std::collections::HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.lenient();
        let found: Vec<ContainerItem> = found.map_err(self.kind.refused("list containers"))?;
        Ok(found.into_iter().filter_map(|item| Some((item.id?, item.labels.unwrap_or_default()))).collect())
    }
}

impl Container {
    /// Starts its first process.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn start(&self) -> Result<(), EngineError> {
        tracing::debug!(container = self.id, "start");
        let started = self.engine.docker.start_container(&self.id, None).await;
        started.map_err(self.engine.kind.refused("start the container")).map_err(|error| match error {
            // The program that slim puts there isn't labelled for containers.
            EngineError::Refused { action, reason } if is_denied(&reason) && slim_sensor::machine::enforces_selinux() => {
                EngineError::Refused { action, reason: format!("{reason}; {SELINUX}") }
            }
            other => other,
        })
    }

    /// What the engine says of it.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn inspect(&self) -> Result<ContainerAnswer, EngineError> {
        self.engine
            .docker
            .inspect_container(&self.id, None)
            .await
            .lenient()
            .map_err(self.engine.kind.refused("look at the container"))
    }

    /// How its first process is.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn state(&self) -> Result<State, EngineError> {
        let state = self.inspect().await?.state.unwrap_or_default();
        Ok(State {
            running: state.running.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
        })
    }

    /// Waits until its first process has ended; the exit code.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn wait(&self) -> Result<i64, EngineError> {
        let mut answers = std::pin::pin!(self.engine.docker.wait_container(&self.id, None));
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            Some(Err(Api::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(self.engine.kind.refused("wait for the container")(error)),
            None => Ok(self.state().await?.exit_code),
        }
    }

    /// Sends a signal to its first process. It may have ended before.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn kill(&self, signal: &str) -> Result<(), EngineError> {
        tracing::debug!(container = self.id, signal, "kill");
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.engine.docker.kill_container(&self.id, Some(options)).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) && !is_improper(&error) => {
                Err(self.engine.kind.refused(format!("send {signal}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// The last `lines` of its log.
    pub async fn log(&self, lines: usize) -> Vec<String> {
        const LONGEST: usize = 1 << 20;
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut parts = std::pin::pin!(self.engine.docker.logs(&self.id, Some(options)));
        let mut bytes = vec![];
        // Some log drivers cannot be read: then there is nothing to show.
        while let Some(Ok(part)) = parts.next().await {
            bytes.extend_from_slice(&part.into_bytes());
            if bytes.len() > LONGEST {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// Puts files into it, before it is started.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn upload(&self, directory: &str, archive: Bytes) -> Result<(), EngineError> {
        let options = UploadToContainerOptionsBuilder::default().path(directory).build();
        let body = bollard::body_full(archive);
        let uploaded = self.engine.docker.upload_to_container(&self.id, Some(options), body).await;
        uploaded.map_err(self.engine.kind.refused("put slim's program into the container"))
    }

    /// Fills the volume at `target` of the container, which may not have been started, from an archive of a directory of that
    /// name. An engine that unpacks it beside the volume, and not in it, gives the volume's own directory its owner and mode.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn fill_volume<S>(&self, target: &str, archive: S) -> Result<(), EngineError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let parent = match target.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => parent,
            _ => "/",
        };
        let options = UploadToContainerOptionsBuilder::default().path(parent).build();
        let uploaded = self.engine.docker.upload_to_container(&self.id, Some(options), bollard::body_try_stream(archive)).await;
        uploaded.map_err(self.engine.kind.refused(format!("fill the volume at `{target}`")))
    }

    /// Attaches to its first process, before it is started.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn attach(&self) -> Result<Attached, EngineError> {
        let (parts, input) = self.attach_parts().await?;
        Ok(attached_streams(parts, input))
    }

    /// As [`Container::attach`], with what it writes to standard output and to standard error in one stream of parts.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn attach_parts(&self) -> Result<(Parts, Input), EngineError> {
        let options = AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true).build();
        let attached = self.engine.docker.attach_container(&self.id, Some(options)).await;
        let attached = attached.map_err(self.engine.kind.refused("attach to the container"))?;
        Ok((attached.output, attached.input))
    }

    /// Starts a program of ours as root, without a terminal, its standard streams attached.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn exec(&self, command: Vec<String>, with_input: bool) -> Result<(Attached, Exec), EngineError> {
        let (parts, input, exec) = self.exec_with(command, with_input, None).await?;
        Ok((attached_streams(parts, input), exec))
    }

    /// As [`Container::exec`], with a variable more in its environment.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn exec_with_variable(&self, command: Vec<String>, variable: &str) -> Result<(Attached, Exec), EngineError> {
        let (parts, input, exec) = self.exec_with(command, true, Some(vec![variable.to_owned()])).await?;
        Ok((attached_streams(parts, input), exec))
    }

    /// As [`Container::exec`], with what it writes to standard output and to standard error in one stream of parts.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn exec_parts(&self, command: Vec<String>, with_input: bool) -> Result<(Parts, Input, Exec), EngineError> {
        self.exec_with(command, with_input, None).await
    }

    async fn exec_with(
        &self,
        command: Vec<String>,
        with_input: bool,
        env: Option<Vec<String>>,
    ) -> Result<(Parts, Input, Exec), EngineError> {
        tracing::debug!(container = self.id, ?command, "exec");
        let config = ExecConfig {
            cmd: Some(command),
            env,
            user: Some("0".to_owned()),
            attach_stdin: Some(with_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let docker = &self.engine.docker;
        let id = docker
            .create_exec(&self.id, config)
            .await
            .map_err(self.engine.kind.refused("prepare a command in the container"))?
            .id;
        let options = StartExecOptions { detach: false, tty: false, output_capacity: Some(1 << 18) };
        match docker.start_exec(&id, Some(options)).await.map_err(self.engine.kind.refused("start a command in the container"))? {
            StartExecResults::Attached { output, input } => Ok((output, input, Exec { engine: self.engine.clone(), id })),
            StartExecResults::Detached => Err(EngineError::Refused {
                action: "attach to a command in the container".to_owned(),
                reason: "it was started detached".to_owned(),
            }),
        }
    }

    /// Removes it, running or not, with its anonymous volumes. It may be gone already.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn remove(&self) -> Result<(), EngineError> {
        tracing::debug!(container = self.id, "remove");
        let mut removed = self.try_remove().await;
        for _ in 0..REMOVALS {
            match &removed {
                Err(error) if is_improper(error) => removed = self.try_remove().await,
                _ => break,
            }
        }
        match removed {
            // 409: somebody is already removing it.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                Err(self.engine.kind.refused("remove a container")(error))
            }
            _ => Ok(()),
        }
    }

    async fn try_remove(&self) -> Result<(), Api> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.engine.docker.remove_container(&self.id, Some(options)).await
    }
}

/// The kernel's words in those of an engine.
fn is_denied(reason: &str) -> bool {
    reason.to_lowercase().contains("permission denied")
}

/// Podman's words for a container that has ended, or is just about to.
fn is_improper(error: &Api) -> bool {
    reason(error).contains("container state improper")
}

/// A command that was started in a container.
#[derive(Debug, Clone)]
pub struct Exec {
    engine: Engine,
    id: String,
}

impl Exec {
    /// Its exit code; `None` while it runs.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let inspected = self.engine.docker.inspect_exec(&self.id).await.lenient();
        let inspected: ExecAnswer = inspected.map_err(self.engine.kind.refused("look at a command"))?;
        Ok(if inspected.running.unwrap_or_default() { None } else { inspected.exit_code })
    }
}

fn attached_streams(output: Parts, input: Input) -> Attached {
    let complaints = Complaints::default();
    let kept = complaints.clone();
    let output = output.filter_map(move |part| {
        let part = match part {
            Ok(LogOutput::StdErr { message }) => {
                kept.push(&message);
                None
            }
            Ok(part) => Some(Ok(part.into_bytes())),
            Err(error) => Some(Err(std::io::Error::other(reason(&error)))),
        };
        std::future::ready(part)
    });
    Attached { output: Box::pin(output), input, complaints }
}
