//! What differs between two answers of the same program to the same probe, and so says nothing of another image.
//!
//! A mask is learnt: the first answer is what others are compared with, and wherever another one of the same program differs
//! from it there is noise. What may stand there is as close to what was seen as can be told without false alarms; the
//! modules of texts, JSON values and bytes say how close. More answers make for a better mask, not only a wider one: a
//! random digit is the same in one of ten.
//!
//! Some differences are never noise, even if the program itself is not steady in them: whether there is an answer at all, the
//! class of its status, and whether an exit code is zero. A program that fails one time of two proves nothing by failing.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{Content, ContentMask};
use super::{Side, body, headers, output};
use crate::exec::ExecRecord;
use crate::record::{Outcome, Truncated};

/// What is noise in the answers to one probe. The default is that nothing is.
#[derive(Debug, Clone, Default)]
pub struct Mask {
    pub(super) statuses: BTreeSet<u16>,
    pub(super) truncated: BTreeSet<Option<Truncated>>,
    pub(super) headers: BTreeMap<&'static str, ContentMask>,
    pub(super) body: ContentMask,
    /// What something said that doesn't speak HTTP.
    pub(super) said: ContentMask,
    pub(super) exit_codes: BTreeSet<Option<i64>>,
    pub(super) stdout: ContentMask,
    pub(super) stderr: ContentMask,
}

impl Mask {
    /// Learns from another answer of the expected side. `expected` must be the same each time, and the one that is compared with.
    pub fn learn_http(&mut self, expected: Side<'_, Outcome>, again: Side<'_, Outcome>) {
        match (expected.record, again.record) {
            (Outcome::Answered(left), Outcome::Answered(right)) => {
                self.statuses.insert(right.status);
                self.truncated.insert(right.truncated);
                for (name, left, right) in headers::pairs(left, right) {
                    let mask = self.headers.entry(name).or_default();
                    mask.learn(&Content::of_text(&left, expected.own), &Content::of_text(&right, again.own));
                }
                self.body.learn(&body(left, expected.own), &body(right, again.own));
            }
            (Outcome::NotHttp(left), Outcome::NotHttp(right)) => {
                self.said.learn(&Content::of_text(left, expected.own), &Content::of_text(right, again.own));
            }
            _ => {}
        }
    }

    /// Learns from another time that the command was run on the expected side. `expected` must be the same each time.
    pub fn learn_exec(&mut self, expected: Side<'_, ExecRecord>, again: Side<'_, ExecRecord>) {
        let (left, right) = (expected.record, again.record);
        self.exit_codes.insert(right.exit_code);
        self.stdout.learn(&output(&left.stdout, expected.own), &output(&right.stdout, again.own));
        self.stderr.learn(&output(&left.stderr, expected.own), &output(&right.stderr, again.own));
    }

    /// Where it hides more than single words and numbers, in words.
    #[must_use]
    pub fn coarse(&self) -> Vec<String> {
        let parts =
            [("body", &self.body), ("answer", &self.said), ("standard output", &self.stdout), ("standard error", &self.stderr)];
        let headers = self.headers.iter().map(|(name, mask)| (*name, mask));
        let all = headers.chain(parts).flat_map(|(part, mask)| mask.coarse().map(move |words| format!("{part}: {words}")));
        all.take(MAX_COARSE).collect()
    }
}

/// Most places that [`Mask::coarse`] names.
const MAX_COARSE: usize = 20;
