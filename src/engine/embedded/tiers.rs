//! What this machine lets us do, by trying.
//!
//! Each tier is tried with a container of its own, with everything in it but a program: what a document says of a kernel,
//! a container around us or a security module is no proof.

use std::fmt;
use std::path::Path;

use slim_sensor::container::spec::{ContainerSpec, Ids, Root};
use slim_sensor::monitor::parse_status;

use super::runner::{Runner, RunnerError};
use crate::engine::capabilities::CapabilitySet;

/// How containers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// With this process's own rights.
    Root,
    /// In a user namespace with a range of ids.
    SubordinateIds,
    /// In a user namespace with one id; calls that change ids pretend to succeed.
    SingleId,
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Tier::Root => "as root",
            Tier::SubordinateIds => "user namespace with subordinate ids",
            Tier::SingleId => "user namespace with one id",
        })
    }
}

/// What came of trying a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierReport {
    /// Which.
    pub tier: Tier,
    /// What is done otherwise than intended; or why it doesn't work, and what to change.
    pub outcome: Result<Vec<String>, String>,
}

impl Tier {
    /// Best first.
    pub const ALL: [Tier; 3] = [Tier::Root, Tier::SubordinateIds, Tier::SingleId];

    pub(super) fn ids(self) -> Ids {
        match self {
            Tier::Root => Ids::Same,
            Tier::SubordinateIds => Ids::Mapped,
            Tier::SingleId => Ids::Single,
        }
    }

    /// Whether what runs in its containers can be watched; else why not.
    pub(super) fn lets_watch(self) -> Result<(), String> {
        const SYS_PTRACE: u64 = 1 << 19;
        if let Some(reason) = slim_sensor::machine::memory() {
            return Err(reason);
        }
        // Who made a user namespace may do anything to what is in it.
        if self != Tier::Root {
            return Ok(());
        }
        let status = std::fs::read("/proc/self/status").ok().and_then(|text| parse_status(&text));
        let can = status.is_some_and(|status| status.capabilities & SYS_PTRACE != 0);
        let lacking = "programs of other users cannot be watched without CAP_SYS_PTRACE; in a container, `--cap-add SYS_PTRACE`";
        if can { Ok(()) } else { Err(lacking.to_owned()) }
    }

    pub(super) async fn probe(self, executable: &Path, state: &Path) -> TierReport {
        let outcome = self.attempt(executable, state).await.map_err(|error| error.to_string());
        TierReport { tier: self, outcome }
    }

    /// Makes a container of an empty root, in which nothing is executed; what was done otherwise than intended.
    async fn attempt(self, executable: &Path, state: &Path) -> Result<Vec<String>, RunnerError> {
        let place = tempfile::Builder::new().prefix("probe-").tempdir_in(state)?;
        let (layer, own) = (place.path().join("layer"), place.path().join("state"));
        std::fs::create_dir(&layer)?;
        std::fs::create_dir(&own)?;
        let spec = ContainerSpec::new(Root::Layers(vec![layer]), own, CapabilitySet::DOCKER_DEFAULT.mask(), vec![]);
        let (running, _) = Runner::new(executable.to_owned(), self).start(&spec, &[]).await?;
        running.wait().await?;
        Ok(running.fallbacks().to_vec())
    }
}

/// What each tier gives here, best first. `state` is a directory in which the containers' state directories will be.
pub async fn probe_tiers(executable: &Path, state: &Path) -> Vec<TierReport> {
    let mut reports = vec![];
    for tier in Tier::ALL {
        let mut report = tier.probe(executable, state).await;
        if let (Ok(notes), Err(reason)) = (&mut report.outcome, tier.lets_watch()) {
            notes.push(reason);
        }
        reports.push(report);
    }
    reports
}
