//! Starting containers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use slim_sensor::container::message::{Event, Failure, Request};
use slim_sensor::container::spec::{ContainerSpec, Ids};
use tokio::sync::watch;

use super::ids::{self, IdsError};
use super::link::Link;
use super::running::Running;
use super::streams::{self, Streams};
use super::tiers::{Tier, TierReport};
use crate::hidden;

/// Why a container, or a command in it, could not be started or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The executable cannot be executed again.
    #[error("cannot start the container's helper, `{path}`: {error}")]
    Helper {
        /// The executable.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The helper ended, or was ended by somebody.
    #[error("the container's helper ended without a word; look for a kill in the kernel's log, such as for lack of memory")]
    Gone,
    /// Something between the helper and us.
    #[error("cannot talk with the container's helper: {0}")]
    Talk(#[from] io::Error),
    /// It could not be started.
    #[error("{}", .0.reason)]
    Start(Failure),
    /// Its ids could not be mapped.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// No tier works.
    #[error("this machine lets nobody make containers the way we are started{}", reasons(.0))]
    NoTier(Vec<TierReport>),
}

fn reasons(reports: &[TierReport]) -> String {
    let reason = |report: &TierReport| report.outcome.as_ref().err().map(|reason| format!("\n  {}: {reason}", report.tier));
    reports.iter().filter_map(reason).collect()
}

/// Starts containers, each with a helper of its own.
#[derive(Debug, Clone)]
pub struct Runner {
    executable: PathBuf,
    tier: Tier,
    helpers: Helpers,
}

/// How many helpers there are.
#[derive(Debug, Clone)]
struct Helpers {
    alive: watch::Sender<usize>,
}

/// One helper, as long as it lives.
#[derive(Debug)]
struct Counted(Helpers);

impl Helpers {
    fn one_more(&self) -> Counted {
        self.alive.send_modify(|alive| *alive += 1);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.alive.send_modify(|alive| *alive -= 1);
    }
}

impl Runner {
    /// A runner that works in one tier, by what was found out before. `executable` is `slim` itself.
    #[must_use]
    pub fn new(executable: PathBuf, tier: Tier) -> Runner {
        Runner { executable, tier, helpers: Helpers { alive: watch::Sender::new(0) } }
    }

    /// The executable that the helpers are, `slim` itself.
    pub(super) fn executable(&self) -> &Path {
        &self.executable
    }

    /// Waits until all helpers have ended: nothing is left of their containers then.
    pub async fn all_ended(&self) {
        let mut alive = self.helpers.alive.subscribe();
        // The sender is here.
        let _ = alive.wait_for(|alive| *alive == 0).await;
    }

    /// A runner that works in the first tier which is possible here. `state` is a directory in which the containers'
    /// state directories will be.
    ///
    /// # Errors
    /// [`RunnerError::NoTier`], with the reasons.
    pub async fn choose(executable: PathBuf, state: &Path) -> Result<Runner, RunnerError> {
        let mut reports = vec![];
        for tier in Tier::ALL {
            let report = tier.probe(&executable, state).await;
            if report.outcome.is_ok() {
                return Ok(Runner::new(executable, tier));
            }
            reports.push(report);
        }
        Err(RunnerError::NoTier(reports))
    }

    /// How it works.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Makes a container and starts its first process. The specification's ids are replaced by those of the tier;
    /// `descriptors` are handed to the first process under the numbers in it.
    ///
    /// # Errors
    /// [`RunnerError`]; nothing of the container is left then.
    pub async fn start(&self, spec: &ContainerSpec, descriptors: &[OwnedFd]) -> Result<(Running, Streams), RunnerError> {
        let spec = ContainerSpec { ids: self.tier.ids(), ..spec.clone() };
        let (link, theirs) = Link::new()?;
        let mut command = Command::new(&self.executable);
        command.arg(hidden::CONTAINER).env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let spawned = command.spawn().map_err(|error| RunnerError::Helper { path: self.executable.clone(), error });
        let helper = Helper(Some((spawned?, self.helpers.one_more())));
        // Its end of the socket must be nobody's but the helper's.
        drop(command);
        match begin(&link, &spec, descriptors, helper.id()).await {
            Ok((begun, streams)) => Ok((Running::new(link, helper, spec.process, begun), streams)),
            Err(error) => {
                link.close();
                helper.end().await;
                Err(error)
            }
        }
    }
}

/// The helper's process. Dropped, it is waited for in the background: it ends when its socket is closed, and who is not
/// waited for stays in the table of processes.
#[derive(Debug)]
pub(super) struct Helper(Option<(Child, Counted)>);

impl Helper {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, |(child, _)| child.id())
    }

    /// Waits until it has ended.
    pub(super) async fn end(mut self) {
        if let Some((mut child, counted)) = self.0.take() {
            // Its status says nothing that its messages did not.
            let waiting = tokio::task::spawn_blocking(move || {
                let _ = child.wait();
                drop(counted);
            });
            let _ = waiting.await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some((mut child, counted)) = self.0.take() {
            std::thread::spawn(move || {
                let _ = child.wait();
                drop(counted);
            });
        }
    }
}

/// What the helper tells of a container that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) pid: i32,
    /// Its first process.
    pub(super) first: OwnedFd,
    pub(super) fallbacks: Vec<String>,
    /// Its tables of TCP sockets.
    pub(super) tables: Vec<OwnedFd>,
}

async fn begin(link: &Link, spec: &ContainerSpec, further: &[OwnedFd], helper: u32) -> Result<(Begun, Streams), RunnerError> {
    let (pipes, theirs) = if spec.process.terminal {
        (None, vec![])
    } else {
        let (ours, theirs) = streams::pipes(spec.process.input)?;
        (Some(ours), theirs)
    };
    let descriptors: Vec<_> = theirs.iter().chain(further).map(AsFd::as_fd).collect();
    link.send(&Request::Start(Box::new(spec.clone())), &descriptors).await.map_err(|_| RunnerError::Gone)?;
    drop(theirs);
    loop {
        match link.receive().await? {
            Some((Event::MapIds, _)) if spec.ids == Ids::Mapped => {
                let mapped = tokio::task::spawn_blocking(move || ids::map(helper)).await;
                mapped.map_err(io::Error::other)??;
                link.send(&Request::IdsMapped, &[]).await?;
            }
            Some((Event::Started { pid, fallbacks }, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                let first = descriptors.next().ok_or(RunnerError::Gone)?;
                let streams = match pipes {
                    Some(pipes) => pipes,
                    None => streams::terminal(descriptors.next().ok_or(RunnerError::Gone)?)?,
                };
                return Ok((Begun { pid, first, fallbacks, tables: descriptors.collect() }, streams));
            }
            Some((Event::Failed(failure), _)) => return Err(RunnerError::Start(failure)),
            Some(_) => {}
            None => return Err(RunnerError::Gone),
        }
    }
}
