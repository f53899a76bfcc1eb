//! Whether one image does what another does: the slim one what the fat one did.
//!
//! What a run shows to the outside ([`Shown`]) is recorded when the fat image is observed. The slim image is then run in the
//! same way, the same requests and commands are made in the same order ([`Verifier`]), and both are compared ([`judge`]).
//! What differs between two runs of the fat image is [`Noise`]; it is run a second time only where something differs.
//!
//! An image whose own second run differs for good (and not by chance) cannot be verified: see [`Trial::restless`].
//!
//! Nothing is changed here. What to do about a difference is a new plan, see [`crate::plan`].

mod clock;
pub mod diagnosis;
pub mod judge;
pub mod noise;
pub mod shown;
pub mod verifier;

pub use judge::{Finding, judge};
pub use noise::Noise;
pub use shown::{Shown, ShownError};
pub use verifier::{Setting, Trial, Verifier};

/// How much must be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All answers, how the program ends, where it listens.
    #[default]
    Strict,
    /// It runs, and answers are of the same class.
    Run,
    /// Nothing: it is not run.
    Off,
}
