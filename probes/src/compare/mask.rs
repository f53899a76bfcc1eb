//! What differs between two answers of the same program, and so means nothing.

use super::Side;
use crate::exec::ExecRecord;
use crate::record::Outcome;

/// What is noise in the answers to one probe, learnt from several of them.
#[derive(Debug, Clone, Default)]
pub struct Mask {}

impl Mask {
    /// Learns from another answer of the expected side. The first one must be the one that is compared with later.
    pub fn learn_http(&mut self, expected: Side<'_, Outcome>, again: Side<'_, Outcome>) {
        let _ = (expected, again);
    }

    /// Learns from another time that the command was run on the expected side.
    pub fn learn_exec(&mut self, expected: Side<'_, ExecRecord>, again: Side<'_, ExecRecord>) {
        let _ = (expected, again);
    }
}
