//! What is kept, and why: a pure function from the image's tree, observations and declared extras to a [`Plan`].
//!
//! The plan is a file format too (`--write-plan`, `docs/plan.md`): with the image it is all that a build needs, and the
//! same plan gives the same image.

use serde::{Deserialize, Serialize};

use crate::escape;
use crate::image::tree::EntryId;
use crate::observe::observation::{Access, PhaseKind};

/// Reads contents of the image for the closures. The plan itself does no I/O: who makes it brings this.
pub trait Contents {
    /// The first `limit` bytes of a regular file (all of it where it is shorter).
    ///
    /// # Errors
    /// Whatever stood in the way, for the user.
    fn read(&self, file: EntryId, limit: u64) -> std::io::Result<Vec<u8>>;
}

/// What is kept of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this format: [`Plan::VERSION`].
    pub version: u32,
    /// The image's id, `sha256:...`.
    pub image: String,
    /// Kept entries, sorted by path; every parent of an entry is an entry.
    pub entries: Vec<Kept>,
    /// What the user should know, in words: sweeps, listed directories that were too heavy, unreadable files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    /// The version of the format that this program writes.
    pub const VERSION: u32 = 1;
}

/// A kept entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Absolute path in the image.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
    /// Other permissions than the image's (`--path-perms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u16>,
    /// Another owner than the image's (`--path-perms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

/// Why an entry is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// A process used it.
    Used {
        /// How.
        access: Access,
        /// The process's executable.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// In which kind of phase it was first seen.
        during: PhaseName,
    },
    /// The names in a directory that a process listed are part of what it saw.
    Listed {
        /// The process's executable.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// In which phase.
        during: PhaseName,
    },
    /// It is a directory on the way to a kept entry.
    Parent,
    /// It is a symbolic link on the way to this path, as it was written.
    Link {
        /// The path that leads through it.
        #[serde(with = "escape::path")]
        to: Vec<u8>,
    },
    /// Another file needs it.
    Needed {
        /// Which.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// For what.
        edge: Edge,
    },
    /// The image's configuration names it.
    Config {
        /// The field: `Entrypoint`, `Cmd`, `Healthcheck`, `WorkingDir`, `Volumes`, `Shell`.
        field: String,
    },
    /// A rule that holds for every image.
    Rule {
        /// Which, in words.
        rule: String,
    },
    /// The user asked for it.
    Asked {
        /// The option and its value.
        option: String,
    },
}

/// A phase, as a reason names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhaseName(pub String);

impl PhaseName {
    /// The words for a phase: `start`, `stop`, or the probe's request or command.
    #[must_use]
    pub fn new(kind: PhaseKind, name: &str) -> PhaseName {
        PhaseName(match kind {
            PhaseKind::Start => "start".into(),
            PhaseKind::Ready => "ready".into(),
            PhaseKind::Http | PhaseKind::Exec => name.into(),
            PhaseKind::HealthCheck => "health check".into(),
            PhaseKind::Stop => "stop".into(),
        })
    }
}

/// How one file needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// `PT_INTERP` of an ELF executable.
    Loader,
    /// The interpreter of a script's first line.
    Interpreter,
    /// `DT_NEEDED` of an ELF file.
    Library,
}
