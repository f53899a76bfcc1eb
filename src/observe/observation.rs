//! What was seen of a run: the observation, the evidence from which a plan is made.
//!
//! An observation says which path was used, how, by which process and in which phase; it decides nothing. It is a file
//! format of its own (see `docs/observation.md` and [`super::file`]), so that a program can be profiled in many places
//! and its image built in one: several observations of one image are merged by taking all of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
pub use slim_sensor::wire::{Access, Counters, Fanotify, Sense};

use crate::escape;

/// Everything that was seen of one `slim build` or `slim profile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Of what, by what.
    pub header: Header,
    /// The phases by number, 0 being the first.
    pub phases: Vec<Phase>,
    /// Programs by number: `PathUse::process` is an index.
    pub processes: Vec<Process>,
    /// Each use of a path.
    pub uses: Vec<PathUse>,
    /// What was mounted over the image's tree in the observed container.
    pub mounts: Vec<Mount>,
    /// The answers of the probes, in the order they were made: one JSON value each, written by the probe.
    pub answers: Vec<serde_json::Value>,
    /// Names of the system calls that were used (the hot set, which is never trapped, included). Empty without the first sense:
    /// then they are not known.
    pub syscalls: BTreeSet<String>,
    /// How it ended.
    pub end: End,
}

/// The first line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Program and version that wrote it, such as `slim 0.1.0`.
    pub tool: String,
    /// The image's id, `sha256:...`.
    pub image: String,
    /// The name that the user gave.
    pub name: String,
    /// As in the image's configuration: `amd64`, `arm64`.
    pub architecture: String,
    /// Run options that differ from a plain run, as they were given (`--env` values are left out: they may be secret).
    pub options: Vec<String>,
    /// The first sense was in use: the arguments of system calls were seen.
    #[serde(default = "yes")]
    pub notify: bool,
    /// What the second sense saw.
    pub fanotify: Fanotify,
}

fn yes() -> bool {
    true
}

/// A stretch of the run, in which uses are first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What kind of stretch.
    pub kind: PhaseKind,
    /// For a probe: the request (`GET /docs`) or the command; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// See [`Phase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// From the start of the program until it is ready.
    Start,
    /// Ready, and no probe under way.
    Ready,
    /// An HTTP request, or a wave of requests while crawling.
    Http,
    /// A command.
    Exec,
    /// The image's health check.
    HealthCheck,
    /// From the stop signal to the end.
    Stop,
}

/// A program in a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the container's pid namespace.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// The executable's path; empty where it could not be known.
    #[serde(with = "escape::path")]
    pub executable: Vec<u8>,
    /// The command line: words, cut to 4,096 bytes in all.
    pub command: Vec<String>,
}

/// One use of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathUse {
    /// As the process wrote it: absolute, or relative to `base`.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// The directory (working directory or open directory) that a relative path starts from.
    #[serde(default, with = "escape::path", skip_serializing_if = "Vec::is_empty")]
    pub base: Vec<u8>,
    /// The process's root directory where that is not `/`; `path` and `base` are seen from there.
    #[serde(default, with = "escape::path", skip_serializing_if = "Vec::is_empty")]
    pub root: Vec<u8>,
    /// How.
    pub access: Access,
    /// Seen by which sense. A path that fanotify saw is already resolved.
    #[serde(default = "notify", skip_serializing_if = "is_notify")]
    pub sense: Sense,
    /// Index into the processes.
    pub process: u32,
    /// Index into the phases.
    pub phase: u32,
}

impl PathUse {
    /// The path from the container's root, as it was written.
    #[must_use]
    pub fn absolute(&self) -> Vec<u8> {
        self.spelling().joined()
    }

    /// The path as the process used it.
    #[must_use]
    pub fn spelling(&self) -> Spelling<'_> {
        Spelling { root: &self.root, base: &self.base, path: &self.path }
    }
}

/// A path as a process used it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spelling<'a> {
    /// The process's root directory; empty or `/` where it is the container's.
    pub root: &'a [u8],
    /// The directory from which a relative path starts.
    pub base: &'a [u8],
    /// The path; an empty one is the base itself.
    pub path: &'a [u8],
}

impl<'a> Spelling<'a> {
    /// An absolute path of the container.
    #[must_use]
    pub fn absolute(path: &'a [u8]) -> Spelling<'a> {
        Spelling { path, ..Spelling::default() }
    }

    /// The path as one text from the container's root, symbolic links and `..` as written.
    #[must_use]
    pub fn joined(&self) -> Vec<u8> {
        let mut joined = self.root.strip_suffix(b"/").unwrap_or(self.root).to_vec();
        if !self.path.starts_with(b"/") {
            joined.extend_from_slice(self.base.strip_suffix(b"/").unwrap_or(self.base));
            if !self.path.is_empty() {
                joined.push(b'/');
            }
        }
        joined.extend_from_slice(self.path);
        joined
    }
}

fn notify() -> Sense {
    Sense::Notify
}

fn is_notify(sense: &Sense) -> bool {
    *sense == Sense::Notify
}

/// Something mounted in the observed container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    #[serde(with = "escape::path")]
    pub target: Vec<u8>,
    /// What is to be seen there.
    pub shows: Shows,
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shows {
    /// A fresh volume, filled from the image's own directory: paths below are the image's.
    Image,
    /// The user's files (a bind mount, a volume that was there before): never content of the image.
    User,
    /// Files that the engine or the kernel makes (`/proc`, `/etc/hosts`, a tmpfs).
    Engine,
}

/// How the run ended, and how good the evidence is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct End {
    /// Nothing was lost, and the record is whole.
    pub complete: bool,
    /// The target was killed by a signal before everything was told: what fanotify alone saw in its last moment may be missing.
    pub tail_unknown: bool,
    /// What went through the sensor.
    pub counters: Counters,
    /// What was lost, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// Differences to a plain run that the sensor caused, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Exit status of the target, where it ended.
    pub exit_code: Option<i64>,
}
