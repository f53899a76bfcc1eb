//! The report of a build (`--report`): what was kept and why, what was removed, and how it is known.
//!
//! One JSON document, described in `docs/report.md`. It is written before a failure ends the program too, with what was known by
//! then; what is not known is absent, never guessed.

use serde::Serialize;
use slim_probes::{ExecRecord, HttpResult};

use crate::escape;
use crate::image::packer::Skipped;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::{End, Fanotify, Observation};
use crate::plan::{Plan, PlanError, Reason};

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this format: [`Report::VERSION`].
    pub version: u32,
    /// `slim` and its version.
    pub tool: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was minified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFacts>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultFacts>,
    /// Run options that differ from a plain run; variables by name only.
    pub options: Vec<String>,
    /// How the image was exercised, and what it answered.
    pub probes: ProbeFacts,
    /// What is known of the observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// What the user should look at.
    pub warnings: Vec<String>,
    /// System calls that were used, and those that are never trapped.
    pub syscalls: Vec<String>,
    /// Kept entries, sorted by path.
    pub kept: Vec<KeptRow>,
    /// Removed entries, sorted by path.
    pub removed: Removed,
    /// Entries of the source that no layer can hold.
    pub skipped: Vec<SkippedRow>,
    /// Seconds of each step, in order.
    pub seconds: Vec<(String, f64)>,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Exit code of the program.
    pub exit_code: u8,
    /// Its meaning.
    pub meaning: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The source image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageFacts {
    /// As the user named it.
    pub name: String,
    /// `sha256:...`
    pub id: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Bytes, as the engine counts them.
    pub size: u64,
    /// Files, directories and all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
}

/// The slim image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultFacts {
    /// `sha256:...`
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Digest of its layer.
    pub layer: String,
    /// Bytes, as the engine counts them.
    pub size: u64,
    /// Files, directories and all else.
    pub entries: usize,
}

/// Probes and their answers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProbeFacts {
    /// HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpResult>,
    /// Commands.
    pub exec: Vec<ExecRecord>,
    /// The image's own health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ExecRecord>,
}

/// How good the observation is.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// What fanotify saw.
    pub fanotify: Fanotify,
    /// Counters, losses, notes, and the program's exit code.
    #[serde(flatten)]
    pub end: End,
}

/// A kept entry.
#[derive(Debug, Clone, Serialize)]
pub struct KeptRow {
    /// Where.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Removed entries.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Removed {
    /// How many.
    pub entries: usize,
    /// Bytes of those that were files.
    pub bytes: u64,
    /// Each of them.
    pub paths: Vec<RemovedRow>,
}

/// A removed entry.
#[derive(Debug, Clone, Serialize)]
pub struct RemovedRow {
    /// Where.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
}

/// An entry that cannot be in a layer.
#[derive(Debug, Clone, Serialize)]
pub struct SkippedRow {
    /// Where.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

impl Report {
    /// The version of the format that this program writes.
    pub const VERSION: u32 = 1;

    /// A report of nothing yet.
    #[must_use]
    pub fn new() -> Report {
        Report {
            version: Report::VERSION,
            tool: format!("slim {}", env!("CARGO_PKG_VERSION")),
            outcome: Outcome { exit_code: 0, meaning: String::new(), error: None },
            image: None,
            result: None,
            options: vec![],
            probes: ProbeFacts::default(),
            evidence: None,
            warnings: vec![],
            syscalls: vec![],
            kept: vec![],
            removed: Removed::default(),
            skipped: vec![],
            seconds: vec![],
        }
    }

    /// Adds what the observation says of itself.
    pub fn observed(&mut self, observation: &Observation) {
        let (fanotify, end) = (observation.header.fanotify.clone(), observation.end.clone());
        self.evidence = Some(Evidence { fanotify, end });
        self.syscalls = observation.syscalls.iter().cloned().collect();
    }

    /// Adds what the plan keeps of the tree, and what it doesn't.
    ///
    /// # Errors
    /// [`PlanError::NotInImage`] for a plan of another image.
    pub fn planned(&mut self, tree: &Tree, plan: &Plan) -> Result<(), PlanError> {
        let ids = plan.ids(tree)?;
        let mut is_kept = vec![false; tree.len()];
        for (&id, kept) in ids.iter().zip(&plan.entries) {
            is_kept[id.0 as usize] = true;
            let (kind, size) = (tree.kind(id), tree.size(id));
            self.kept.push(KeptRow { path: kept.path.clone(), kind, size, reasons: kept.reasons.clone() });
        }
        for id in tree.walk(EntryId::ROOT).filter(|id| !is_kept[id.0 as usize]) {
            let (kind, size) = (tree.kind(id), tree.size(id));
            self.removed.entries += 1;
            // A file with several names is counted once, and not at all while one of them is kept.
            let names = tree.hard_links(id);
            let is_gone = names.iter().all(|name| !is_kept[name.0 as usize]) && names.first().is_none_or(|&first| first == id);
            self.removed.bytes += if is_gone { size } else { 0 };
            self.removed.paths.push(RemovedRow { path: tree.path(id), kind, size });
        }
        Ok(())
    }

    /// Adds what could not be listed.
    pub fn skipped(&mut self, skipped: &[Skipped]) {
        self.skipped =
            skipped.iter().map(|entry| SkippedRow { path: entry.path.clone(), reason: entry.reason.clone() }).collect();
    }

    /// Adds the seconds of a step.
    pub fn took(&mut self, step: &str, seconds: f64) {
        self.seconds.push((step.to_owned(), (seconds * 1000.0).round() / 1000.0));
    }
}

impl Default for Report {
    fn default() -> Self {
        Report::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::Kept;

    #[test]
    fn everything_is_kept_or_removed_and_no_byte_counts_twice() {
        let tree =
            fixture::tree(&["/a/x size=5 link=1", "/a/y size=5 link=1", "/b/x size=7 link=2", "/b/y size=7 link=2", "/c size=1"]);
        let keep = |path: &str| Kept { path: path.into(), reasons: vec![Reason::Parent], mode: None, owner: None };
        let entries = ["/", "/a", "/a/y"].map(keep).into();
        let plan = Plan { version: Plan::VERSION, image: "sha256:1".into(), entries, notes: vec![] };
        let mut report = Report::new();
        report.planned(&tree, &plan).unwrap();
        assert_eq!(report.kept.len() + report.removed.entries, tree.len());
        assert_eq!(report.removed.paths.len(), report.removed.entries);
        assert_eq!(report.removed.bytes, 8, "/a/x is still there as /a/y, /b/x and /b/y are one file");
    }
}
