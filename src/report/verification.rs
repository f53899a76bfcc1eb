//! What the report says of the verification: whether the slim image does what the original does, and what it took.

use serde::Serialize;

use crate::escape;
use crate::verify::{Finding, Level};

/// See the module.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// How much had to be the same.
    pub level: Level,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it could not be verified, where it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Each image that was tried, the last being the result.
    pub rounds: Vec<Round>,
    /// In how many things the original differs from itself: not compared.
    pub noise: usize,
    /// How the last image differs.
    pub differences: Vec<Finding>,
    /// What it most likely lacks.
    pub suspects: Vec<Suspect>,
    /// What that probably means.
    pub diagnosis: Vec<String>,
}

/// What came of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does the same.
    Same,
    /// It doesn't.
    Differs,
    /// Nobody knows.
    Unverified,
}

/// One image that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Its id.
    pub image: String,
    /// In how many things it differs.
    pub differences: usize,
    /// One of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// What it looked for in vain, though the original has it.
    pub looked_for: usize,
    /// What the next round adds, with what that needs.
    pub added: usize,
    /// The first of that.
    pub examples: Vec<Path>,
    /// The rule by which it was added, where nothing was looked for in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Of packing, running and comparing.
    pub seconds: f64,
}

/// A path of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Path(#[serde(with = "escape::path")] pub Vec<u8>);

/// Something that may be the cause of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// Where.
    pub path: Path,
    /// Why it is one.
    pub reason: String,
}

impl Verification {
    /// Of a level, before anything is known.
    #[must_use]
    pub fn new(level: Level) -> Verification {
        Verification {
            level,
            verdict: Verdict::Unverified,
            reason: None,
            rounds: vec![],
            noise: 0,
            differences: vec![],
            suspects: vec![],
            diagnosis: vec![],
        }
    }

    /// How many entries the repair brought.
    #[must_use]
    pub fn repaired(&self) -> usize {
        self.rounds.iter().map(|round| round.added).sum()
    }
}
