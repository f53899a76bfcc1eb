//! Comparison of two answers to one probe: what was expected, and what came.
//!
//! A program rarely answers the same bytes twice, so what counts as a difference is learnt: [`http`] and [`exec`] compare two
//! answers strictly, and where they differ, the program whose answer was expected is asked again. A [`Mask`] that
//! [learns](Mask::learn_http) from its second answer marks as noise what differs between two answers of the same
//! program. What is marked is still told ([`Difference::noise`]), for the report.
//!
//! ```
//! use slim_probes::compare::{self, Level, Mask, Own, Side};
//! use slim_probes::Outcome;
//!
//! # fn answers() -> [Outcome; 3] {
//! #     ["at 12:01", "at 12:02", "at 12:03"].map(|said| Outcome::NotHttp(said.into()))
//! # }
//! let [expected, again, got] = answers();
//! // Host name, address and published ports differ from container to container.
//! let own = Own::new([("1f9d0c27ad3b".to_owned(), "host name")]);
//! let side = |record| Side { record, own: &own };
//!
//! let mut mask = Mask::default();
//! assert!(compare::http(side(&expected), side(&got), &mask, Level::Strict).iter().any(|difference| !difference.noise));
//! mask.learn_http(side(&expected), side(&again));
//! assert!(compare::http(side(&expected), side(&got), &mask, Level::Strict).iter().all(|difference| difference.noise));
//! ```
//!
//! Without knowledge of the program only the following is never a difference: the container's own names ([`Own`]), how
//! a body is transferred and compressed, white space, the order of the keys of a JSON object, headers that aren't listed
//! (docs/verify.md), the values of cookies, entity tags and nonces.
//!
//! Answers are not trusted: sizes, nesting, what bodies decompress to, and the cost of finding what belongs together are bounded.
//! What exceeds a bound is compared by length and digest.

mod alarms;
mod align;
mod content;
mod difference;
mod extent;
mod headers;
mod holes;
mod json;
mod mask;
mod own;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod units;

use self::content::{Content, ContentMask};
use self::difference::Differences;
pub use self::difference::{Difference, What};
pub use self::mask::Mask;
pub use self::own::Own;
use crate::exec::{ExecRecord, Output};
use crate::record::{Answer, Outcome};

/// How much must be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything that is compared.
    Strict,
    /// The class: whether there is an answer, 2xx or 3xx and so on; an exit code of zero or not.
    Run,
}

/// One of the two sides of a comparison.
#[derive(Debug)]
pub struct Side<'a, T> {
    /// What came of the probe.
    pub record: &'a T,
    /// What is the container's own, and so different on the other side.
    pub own: &'a Own,
}

impl<T> Clone for Side<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Side<'_, T> {}

/// How the outcomes of one request differ; nothing where they are the same. Two requests without an answer are the same.
#[must_use]
pub fn http(expected: Side<'_, Outcome>, got: Side<'_, Outcome>, mask: &Mask, level: Level) -> Vec<Difference> {
    let mut differences = Differences::default();
    match (expected.record, got.record) {
        (Outcome::Answered(left), Outcome::Answered(right)) => {
            let is_same_class = left.status / 100 == right.status / 100;
            if left.status != right.status && (level == Level::Strict || !is_same_class) {
                let is_noise = is_same_class && mask.statuses.contains(&right.status);
                differences.push(&What::Status, None, &left.status.to_string(), &right.status.to_string(), is_noise);
            }
            if level == Level::Strict {
                compare_answers(
                    Side { record: left, own: expected.own },
                    Side { record: right, own: got.own },
                    mask,
                    &mut differences,
                );
            }
        }
        (Outcome::NotHttp(left), Outcome::NotHttp(right)) if level == Level::Strict => {
            let (left, right) = (Content::of_text(left, expected.own), Content::of_text(right, got.own));
            push_all(&What::Outcome, &mask.said, &left, &right, &mut differences);
        }
        (Outcome::NotHttp(_), Outcome::NotHttp(_)) | (Outcome::Failed(_), Outcome::Failed(_)) => {}
        (left, right) => differences.push(&What::Outcome, None, &left.to_string(), &right.to_string(), false),
    }
    differences.into_vec()
}

fn compare_answers(expected: Side<'_, Answer>, got: Side<'_, Answer>, mask: &Mask, differences: &mut Differences) {
    let (left, right) = (expected.record, got.record);
    for (name, left, right) in headers::pairs(left, right) {
        let what = if name == "location" { What::Redirect } else { What::Header(name.into()) };
        let none = ContentMask::default();
        let mask = mask.headers.get(name).unwrap_or(&none);
        push_all(&what, mask, &Content::of_text(&left, expected.own), &Content::of_text(&right, got.own), differences);
    }
    if left.truncated != right.truncated {
        let words =
            |answer: &Answer| answer.truncated.map_or("was read to its end".to_owned(), |truncated| truncated.to_string());
        differences.push(&What::Truncated, None, &words(left), &words(right), mask.truncated.contains(&right.truncated));
    }
    push_all(&What::Body, &mask.body, &body(left, expected.own), &body(right, got.own), differences);
}

/// How the outcomes of one command differ; nothing where they are the same.
#[must_use]
pub fn exec(expected: Side<'_, ExecRecord>, got: Side<'_, ExecRecord>, mask: &Mask, level: Level) -> Vec<Difference> {
    let mut differences = Differences::default();
    let (left, right) = (expected.record, got.record);
    let is_same_class = left.exit_code.map(|code| code == 0) == right.exit_code.map(|code| code == 0);
    if left.exit_code != right.exit_code && (level == Level::Strict || !is_same_class) {
        let words = |code: Option<i64>| code.map_or("none".to_owned(), |code| code.to_string());
        let is_noise = is_same_class && mask.exit_codes.contains(&right.exit_code);
        differences.push(&What::ExitCode, None, &words(left.exit_code), &words(right.exit_code), is_noise);
    }
    if level == Level::Strict {
        let (expected, got) = (expected.own, got.own);
        push_all(&What::Stdout, &mask.stdout, &output(&left.stdout, expected), &output(&right.stdout, got), &mut differences);
        push_all(&What::Stderr, &mask.stderr, &output(&left.stderr, expected), &output(&right.stderr, got), &mut differences);
    }
    differences.into_vec()
}

fn push_all(what: &What, mask: &ContentMask, expected: &Content<'_>, got: &Content<'_>, differences: &mut Differences) {
    let is_line = matches!(what, What::Header(_) | What::Redirect);
    for found in mask.judge(expected, got) {
        let place = found.place.filter(|_| !is_line);
        differences.push(what, place, &found.expected, &found.got, found.is_noise);
    }
}

fn body<'a>(answer: &'a Answer, own: &'a Own) -> Content<'a> {
    Content {
        size: answer.size,
        digest: &answer.digest,
        decoded_digest: answer.decoded_digest.as_deref(),
        head: &answer.body,
        encoding: answer.header("content-encoding"),
        is_broken_off: answer.truncated.is_some(),
        own,
    }
}

fn output<'a>(output: &'a Output, own: &'a Own) -> Content<'a> {
    Content { size: output.size, digest: &output.digest, head: output.text.as_bytes(), ..Content::of_text("", own) }
}

/// The digest of an answer's body after its content-encoding was undone; `None`: it has none, or it can't be undone.
pub(crate) fn decoded_digest(answer: &Answer) -> Option<String> {
    let encoding = answer.header("content-encoding")?;
    content::decode(&answer.body, Some(encoding)).map(|decoded| content::digest_of(&decoded))
}
