//! The report of a build (`--report`): what was kept and why, what was removed, and how it is known.
//!
//! One JSON document, described in `docs/report.md`. It is written before a failure ends the program too, with what was known by
//! then; what is not known is absent, never guessed.

mod entries;
pub mod verification;

pub use entries::Entries;
pub use verification::Verification;

use serde::Serialize;
use slim_probes::{ExecRecord, HttpResult};

use crate::escape;
use crate::image::packer::Skipped;
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::{End, Fanotify, Observation};

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
    /// What ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineFacts>,
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
    /// Whether the result does what the original does; absent where it was not to be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// The result was packed twice, and was the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproducible: Option<bool>,
    /// Where the original was watched several times: what only some of the runs used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// What the user should look at.
    pub warnings: Vec<String>,
    /// System calls that were used, and those that are never trapped.
    pub syscalls: Vec<String>,
    /// What is kept of the image, and what isn't; absent where the build did not come so far.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Entries>,
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

/// The engine that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineFacts {
    /// Such as `Docker 20.10.24`; slim's own is `embedded`.
    pub name: String,
    /// Why this one.
    pub reason: String,
}

impl EngineFacts {
    /// The name of slim's own.
    pub const EMBEDDED: &str = "embedded";

    /// It is slim's own.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.name == EngineFacts::EMBEDDED
    }
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
    /// Bytes of what is in its files.
    pub size: u64,
    /// Files, directories and all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
}

/// The slim image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultFacts {
    /// `sha256:...`: the digest of its configuration.
    pub id: String,
    /// What the engine that has it calls it, where that is something else: the digest of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_in_engine: Option<String>,
    /// Its names.
    pub tags: Vec<String>,
    /// Digest of its layer.
    pub layer: String,
    /// Bytes, as the engine counts them.
    pub size: u64,
    /// Files, directories and all else.
    pub entries: usize,
    /// Where it went.
    pub outputs: Vec<OutputFacts>,
}

/// A place that the slim image went to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputFacts {
    /// In skopeo's words, such as `docker-archive`.
    pub transport: &'static str,
    /// The file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What it is called there; in a layout a tag.
    pub names: Vec<String>,
    /// Digest of its OCI manifest, where there is one: what a registry calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// How the layer is compressed, with the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// Bytes of the compressed layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
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
    /// The arguments of system calls were seen.
    pub notify: bool,
    /// What fanotify saw.
    pub fanotify: Fanotify,
    /// Counters, losses, notes, and the program's exit code.
    #[serde(flatten)]
    pub end: End,
}

impl Evidence {
    /// What one of the senses could not see here, in words; nothing was lost by that.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        match &self.fanotify {
            Fanotify::Refused(reason) => Some(format!(
                "fanotify is refused ({reason}), so what the kernel opens by itself was not seen; the loaders and \
                 interpreters of kept programs are kept all the same"
            )),
            _ => None,
        }
    }
}

/// Several runs of the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// How many.
    pub count: usize,
    /// What only some of them used.
    pub partial: Vec<PartialRow>,
}

/// An entry that only some of the runs used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartialRow {
    /// Where.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// The runs that used it, from 1.
    pub runs: Vec<usize>,
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
            engine: None,
            result: None,
            options: vec![],
            probes: ProbeFacts::default(),
            evidence: None,
            verification: None,
            reproducible: None,
            runs: None,
            warnings: vec![],
            syscalls: vec![],
            entries: None,
            skipped: vec![],
            seconds: vec![],
        }
    }

    /// Adds what the observation says of itself.
    pub fn observed(&mut self, observation: &Observation) {
        let header = &observation.header;
        self.evidence = Some(Evidence { notify: header.notify, fanotify: header.fanotify.clone(), end: observation.end.clone() });
        self.syscalls = observation.syscalls.iter().cloned().collect();
    }

    /// Adds what `count` runs have in common, and what not.
    pub fn runs(&mut self, count: usize, tree: &Tree, partial: &[(EntryId, Vec<usize>)]) {
        let row = |(id, runs): &(EntryId, Vec<usize>)| PartialRow { path: tree.path(*id), runs: runs.clone() };
        self.runs = (count > 1).then(|| Runs { count, partial: partial.iter().map(row).collect() });
    }

    /// How many entries are kept and removed, where that is known.
    #[must_use]
    pub fn counts(&self) -> Option<(usize, usize)> {
        self.entries.as_ref().map(Entries::counts)
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
