//! Comparison of two answers to one probe: what was expected, and what came.
mod difference;
mod mask;
mod own;

pub use self::difference::{Difference, What};
pub use self::mask::Mask;
pub use self::own::Own;

use crate::exec::ExecRecord;
use crate::record::Outcome;

/// How much must be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything that is compared.
    Strict,
    /// The class: 2xx, 3xx and so on; an exit code of zero or not.
    Run,
}

/// One of the two sides of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a, T> {
    /// What came of the probe.
    pub record: &'a T,
    /// What is the container's own, and so different on the other side.
    pub own: &'a Own,
}

/// How the outcomes of one request differ; nothing where they are the same.
#[must_use]
pub fn http(expected: Side<'_, Outcome>, got: Side<'_, Outcome>, mask: &Mask, level: Level) -> Vec<Difference> {
    let _ = (expected, got, mask, level);
    vec![]
}

/// How the outcomes of one command differ; nothing where they are the same.
#[must_use]
pub fn exec(expected: Side<'_, ExecRecord>, got: Side<'_, ExecRecord>, mask: &Mask, level: Level) -> Vec<Difference> {
    let _ = (expected, got, mask, level);
    vec![]
}
