//! Noise within a unit of text: words that differ from run to run.
//!
//! A hole is what was seen to differ, and what is known of it: an address keeps the part up to its last
//! `/`, `?`, `&`, `=`, `#` or `@` that was the same, a number stays a number, and all keep their order of magnitude. A date may
//! stand in several words, of which two runs within one day differ only in the time: the words around a time that
//! look like its date are holes too, for other words of a date.

use std::collections::BTreeMap;
use std::ops::Range;

use super::align::common_ends;
use super::extent::Extent;
use super::units::has_digit;

/// Where a word can be the same in one part and noise in the other.
const SEPARATORS: [char; 6] = ['/', '?', '&', '=', '#', '@'];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// How many words before and behind a time can belong to its date.
const DATE_WORDS: usize = 8;

/// The holes of one unit, each with the first of its words. They have no word in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Holes(BTreeMap<usize, Hole>);

#[derive(Debug, Clone)]
struct Hole {
    /// Of the expected unit; it may be empty, where words are only there in other runs.
    words: Range<usize>,
    filling: Filling,
}

#[derive(Debug, Clone)]
enum Filling {
    /// Words of a date beside a time.
    Date,
    Any {
        prefix: String,
        suffix: String,
        sizes: Extent,
        is_numeric: bool,
    },
}

/// How two units differ.
pub(super) struct UnitDifference {
    /// The first word that differs and, where there is one, that is no noise.
    pub(super) at: usize,
    pub(super) is_noise: bool,
}

impl Holes {
    /// Makes holes where the units differ.
    pub(super) fn learn(&mut self, expected: &[&str], again: &[&str]) {
        if expected.len() != again.len() {
            let (before, after) = common_ends(expected, again);
            return self.add(before..expected.len() - after, expected, again);
        }
        let differing: Vec<usize> = (0..expected.len()).filter(|&at| expected[at] != again[at]).collect();
        let mut added = 0;
        for &at in &differing {
            if at >= added {
                self.add(at..at + 1, expected, again);
                added = self.at(at).map_or(added, |hole| hole.words.end);
            }
        }
        for &at in &differing {
            for part in date_around(expected, at) {
                if self.at(part).is_none() {
                    self.0.entry(part).or_insert(Hole { words: part..part + 1, filling: Filling::Date });
                }
            }
        }
    }

    /// Adds a hole, as one with those that it touches. The words before and behind it are as many in both units.
    fn add(&mut self, words: Range<usize>, expected: &[&str], again: &[&str]) {
        let near = self.0.range(..=words.end).rev().take_while(|(_, hole)| hole.words.end >= words.start);
        let touching = near.map(|(_, hole)| hole.words.clone()).filter(|other| touch(other, &words));
        let words = touching.fold(words.clone(), |all, other| all.start.min(other.start)..all.end.max(other.end));
        let others = words.start..again.len() - (expected.len() - words.end);
        let (expected, again) = (expected[words.clone()].join(" "), again[others].join(" "));
        if let Some(hole) = self.0.get_mut(&words.start).filter(|hole| hole.words == words) {
            return hole.filling.include(&expected, &again);
        }
        let mut filling = Filling::of(&expected, &again);
        let inside = self.0.range(words.start..=words.end).filter(|(_, part)| touch(&part.words, &words));
        let parts: Vec<usize> = inside.map(|(&start, _)| start).collect();
        for part in parts.into_iter().filter_map(|start| self.0.remove(&start)) {
            filling.take_in(&part.filling);
        }
        self.0.insert(words.start, Hole { words, filling });
    }

    /// The hole that this word is in.
    fn at(&self, word: usize) -> Option<&Hole> {
        self.0.range(..=word).next_back().map(|(_, hole)| hole).filter(|hole| hole.words.contains(&word))
    }

    fn accepts_word(&self, at: usize, word: &str) -> bool {
        self.at(at).is_some_and(|hole| hole.words.len() == 1 && hole.filling.accepts(word))
    }

    /// How the units differ; `None`: they don't.
    pub(super) fn judge(&self, expected: &[&str], got: &[&str]) -> Option<UnitDifference> {
        if expected.len() != got.len() {
            return Some(self.judge_lengths(expected, got));
        }
        let mut difference = None;
        let mut accepted = 0;
        for at in (0..expected.len()).filter(|&at| expected[at] != got[at]) {
            if at >= accepted {
                let hole = self.at(at).filter(|hole| hole.filling.accepts(&got[hole.words.clone()].join(" ")));
                let Some(hole) = hole else { return Some(UnitDifference { at, is_noise: false }) };
                accepted = hole.words.end;
            }
            difference.get_or_insert(UnitDifference { at, is_noise: true });
        }
        difference
    }

    /// The same, where the numbers of words differ.
    fn judge_lengths(&self, expected: &[&str], got: &[&str]) -> UnitDifference {
        let (before, after) = common_ends(expected, got);
        let shorter = expected.len().min(got.len());
        let is_same = |at: usize, other: usize| expected[at] == got[other] || self.accepts_word(at, got[other]);
        let masked_before = (0..shorter).take_while(|&at| is_same(at, at)).count();
        let from_end = |back: usize| is_same(expected.len() - 1 - back, got.len() - 1 - back);
        let masked_after = (0..shorter - masked_before).take_while(|&back| from_end(back)).count();
        let is_noise =
            self.accepts_rest(expected, got, before, after) || self.accepts_rest(expected, got, masked_before, masked_after);
        let at = if is_noise { before } else { masked_before };
        UnitDifference { at, is_noise }
    }

    /// Whether one hole accounts for all but so many words at both ends.
    fn accepts_rest(&self, expected: &[&str], got: &[&str], before: usize, after: usize) -> bool {
        let end = expected.len() - after;
        self.0.values().filter(|hole| hole.words.start <= before && end <= hole.words.end).any(|hole| {
            // What is the same at both ends may still belong to the hole.
            let words = hole.words.start..got.len() - (expected.len() - hole.words.end);
            hole.filling.accepts(&got[words].join(" "))
        })
    }
}

fn touch(left: &Range<usize>, right: &Range<usize>) -> bool {
    let overlap = left.start < right.end && right.start < left.end;
    let holds =
        |outer: &Range<usize>, inner: &Range<usize>| inner.is_empty() && outer.start <= inner.start && inner.start <= outer.end;
    overlap || holds(left, right) || holds(right, left)
}

impl Filling {
    fn of(expected: &str, again: &str) -> Self {
        let (prefix, suffix) = fixed_ends(expected, again);
        let (prefix, suffix) = (prefix.into(), suffix.into());
        let mut sizes = Extent::of(expected.len());
        sizes.include(again.len());
        Self::Any { prefix, suffix, sizes, is_numeric: is_numeric(expected) && is_numeric(again) }
    }

    /// Takes in another sample of the same words.
    fn include(&mut self, expected: &str, again: &str) {
        match self {
            Self::Date if is_of_date(again) => {}
            Self::Date => *self = Self::of(expected, again),
            Self::Any { prefix, suffix, sizes, is_numeric: all_numeric } => {
                let (shorter_prefix, shorter_suffix) = fixed_ends(expected, again);
                prefix.truncate(prefix.len().min(shorter_prefix.len()));
                suffix.drain(..suffix.len().saturating_sub(shorter_suffix.len()));
                sizes.include(again.len());
                *all_numeric &= is_numeric(again);
            }
        }
    }

    /// Takes in what turned out to be a part of it, of which other samples are not known as a whole.
    fn take_in(&mut self, part: &Self) {
        let Self::Any { prefix, suffix, sizes, is_numeric } = self else { return };
        prefix.clear();
        suffix.clear();
        *is_numeric = false;
        if let Self::Any { sizes: part, .. } = part {
            sizes.join(*part);
        }
    }

    fn accepts(&self, got: &str) -> bool {
        match self {
            Self::Date => is_of_date(got),
            Self::Any { prefix, suffix, sizes, is_numeric } => {
                let inner = got.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
                let is_hexadecimal = || got.bytes().all(|byte| byte.is_ascii_hexdigit());
                // Ids in base 16 can be without a letter twice, and then without a digit.
                inner.is_some() && sizes.accepts(got.len()) && (!is_numeric || has_digit(got) || is_hexadecimal())
            }
        }
    }
}

/// Up to and from which separator both are the same.
fn fixed_ends<'a>(expected: &'a str, again: &str) -> (&'a str, &'a str) {
    let (expected_bytes, again_bytes) = (expected.as_bytes(), again.as_bytes());
    let (before, after) = common_ends(expected_bytes, again_bytes);
    // A separator is one byte, so that whatever it ends or begins is text.
    let is_separator = |byte: &u8| SEPARATORS.contains(&char::from(*byte));
    let prefix_end = expected_bytes[..before].iter().rposition(is_separator).map_or(0, |at| at + 1);
    let suffix_start = expected_bytes.len() - after;
    let found = expected_bytes[suffix_start..].iter().position(is_separator);
    let suffix = found.map_or("", |at| &expected[suffix_start + at..]);
    // The filling at the end of Base64 says nothing.
    (&expected[..prefix_end], if suffix.bytes().all(|byte| byte == b'=') { "" } else { suffix })
}

/// Whether a word is a number, a time, or the like.
fn is_numeric(word: &str) -> bool {
    has_digit(word) && word.bytes().all(|byte| byte.is_ascii_digit() || b".,:-+/% ".contains(&byte))
}

/// The words around a time that belong to its date, if there is a date.
fn date_around(words: &[&str], at: usize) -> Vec<usize> {
    if !is_of_date(words[at]) {
        return vec![];
    }
    let belongs = |&at: &usize| is_of_date(words[at]) || words[at] == ",";
    let start = (at.saturating_sub(DATE_WORDS)..at).rev().take_while(belongs).last().unwrap_or(at);
    let end = (at..words.len().min(at + DATE_WORDS)).take_while(belongs).last().unwrap_or(at);
    let parts: Vec<usize> = (start..=end).filter(|&part| words[part] != ",").collect();
    let has_time = parts.iter().any(|&part| words[part].contains(':'));
    let has_date = parts.iter().any(|&part| is_month(words[part]) || is_whole_date(words[part]));
    if has_time && has_date { parts } else { vec![] }
}

fn is_of_date(word: &str) -> bool {
    let is_number = word.len() <= 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = word.contains(':') && is_numeric(word);
    let is_offset = word.starts_with(['+', '-']) && word.len() <= 6 && is_numeric(word);
    let is_zone = (2..=4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase());
    !word.is_empty()
        && (is_number || is_time || is_offset || is_zone || is_named(word, &DAYS) || is_month(word) || is_whole_date(word))
}

fn is_month(word: &str) -> bool {
    is_named(word, &MONTHS)
}

/// Whether a word is one of these names, in full or short.
fn is_named(word: &str, names: &[&str]) -> bool {
    let word = word.to_ascii_lowercase();
    word.len() <= 9 && word.bytes().all(|byte| byte.is_ascii_lowercase()) && names.iter().any(|name| word.starts_with(name))
}

/// Such as `2025-01-31` and `31/01/2025`.
fn is_whole_date(word: &str) -> bool {
    let joints = word.bytes().filter(|byte| b"-/.".contains(byte)).count();
    joints == 2 && (8..=10).contains(&word.len()) && is_numeric(word)
}

#[cfg(test)]
mod tests {
    use super::super::units::words;
    use super::*;

    /// Whether a unit is the same as the first of `samples`, given the noise between these; `None`: it is equal.
    fn judge(samples: &[&str], got: &str) -> Option<bool> {
        let expected = words(samples[0]);
        let mut holes = Holes::default();
        for again in &samples[1..] {
            holes.learn(&expected, &words(again));
        }
        for again in &samples[1..] {
            assert!(holes.judge(&expected, &words(again)).is_none_or(|difference| difference.is_noise), "{samples:?}: {again}");
        }
        holes.judge(&expected, &words(got)).map(|difference| difference.is_noise)
    }

    #[test]
    fn words_that_differ_are_noise_where_they_did_before() {
        for (samples, got, noise) in [
            (&["a 1 b", "a 2 b"][..], "a 1 b", None),
            (&["a 1 b"], "a 2 b", Some(false)),
            (&["a 1 b", "a 2 b"], "a 31 b", Some(true)),
            (&["a 1 b", "a 2 b"], "c 3 b", Some(false)),
            (&["a 1 b", "a 2 b"], "a 3 b c", Some(false)),
            (&["a 1 b", "a 2 b"], "a b", Some(false)),
            // A number stays a number, and may be one in base 16.
            (&["count 12", "count 13"], "count none", Some(false)),
            (&["id 12", "id 13"], "id ff", Some(true)),
            (&["id 1x", "id z3"], "id qq", Some(true)),
            // The order of magnitude stays.
            (&["id abcdefghij", "id klmnopqrst"], "id x", Some(false)),
            (
                &["id abcdefghij", "id klmnopqrst"],
                "id xyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxy",
                Some(false),
            ),
            // Addresses keep the part that was the same.
            (&["/x/a1b2?v=1", "/x/c3d4?v=1"], "/x/e5f6?v=1", Some(true)),
            (&["/x/a1b2?v=1", "/x/c3d4?v=1"], "/y/e5f6?v=1", Some(false)),
            (&["/x/a1b2?v=1", "/x/c3d4?v=1"], "/x/e5f6?v=2", Some(false)),
            (&["/x/a1b2?v=1", "/x/c3d4?v=1", "/x/c3d4?v=2"], "/x/e5f6?v=3", Some(true)),
            (&["ab12cd==", "ef34gh=="], "ij56klm=", Some(true)),
            // Other numbers of words.
            (&["a x b", "a y z b"], "a q r s b", Some(true)),
            (&["a x b", "a y z b"], "a b", Some(false)),
            (&["a b", "a y b"], "a z b", Some(true)),
            (&["a b", "a y b"], "b", Some(false)),
            (&["a y", "b y y"], "c y y y", Some(true)),
            (&["a 1 b c", "a 2 b d e"], "a 3 b f", Some(true)),
            (&["a 1 b c", "a 1 b d e", "a 2 b c"], "a 3 b f g", Some(true)),
            (&["a 1 b c", "a 1 b d e", "a 2 b c"], "a 3 x f g", Some(false)),
            // Learning the same again changes nothing.
            (&["a b c", "x", "a y c", "a z c", "a q c", "a y c", "a y c", "a z c", "a y c", "a z c"], "w", Some(true)),
            (&["a b c", "x y", "y", "x y", "y", "x y", "y", "x y", "y", "x y", "y", "x y", "y", "x"], "", Some(false)),
            (&["", "x"], "y", Some(true)),
        ] {
            assert_eq!(judge(samples, got), noise, "{samples:?} {got}");
        }
    }

    #[test]
    fn a_time_has_its_date_around_it() {
        for (first, second, got) in [
            ("Fri, 31 Jan 2025 23:59:01 GMT", "Fri, 31 Jan 2025 23:59:59 GMT", "Sat, 01 Feb 2025 00:00:01 GMT"),
            ("on 2025-12-31 23:59:01 +0000", "on 2025-12-31 23:59:59 +0000", "on 2026-01-01 00:00:01 +0000"),
            ("December 31, 2025 11:59:01 PM", "December 31, 2025 11:59:59 PM", "January 1, 2026 12:00:01 AM"),
            ("2025-12-31T23:59:01.5Z", "2025-12-31T23:59:59.75Z", "2026-01-01T00:00:01Z"),
            ("[31/Dec/2025:23:59:01 +0000]", "[31/Dec/2025:23:59:59 +0000]", "[31/Dec/2025:23:59:59 +0000]"),
        ] {
            assert_ne!(judge(&[first, second], got), Some(false), "{got}");
        }
        for (first, second, got) in [
            // No date beside it, no word of a date in its place, other words.
            ("took 12:01 for 5", "took 12:02 for 5", "took 12:03 for 6"),
            ("at 12:01 5", "at 12:02 5", "at 12:03 6"),
            ("31 Jan 12:01 x", "31 Jan 12:02 x", "31 Jan 12:03 y"),
            ("31 Jan 12:01 x", "31 Jan 12:02 x", "none Jan 12:03 x"),
            ("31 Jan 12:01 x", "31 Jan 12:02 x", "31 Jan never x"),
        ] {
            assert_eq!(judge(&[first, second], got), Some(false), "{got}");
        }
    }
}
