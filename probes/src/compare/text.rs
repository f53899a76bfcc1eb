//! Comparison of two texts, unit by unit and word by word, and what is learnt of their noise.
//!
//! Units are [aligned](align) by their skeletons, so that what belongs together is found whatever the noise. Which units are
//! aligned does not depend on what was learnt: so what was seen to differ between two answers is noise between the same two.
//!
//! * Units that belong together, and as many of one side as of the other between such, are compared in pairs:
//!   what differs is a hole ([`Holes`]).
//! * Where one side has more units than the other, there is a gap: a list of another length, a message that comes
//!   and goes. Any units may stand in a gap, as many bytes as were seen there by order of magnitude. It extends over
//!   the units beside it that are like those in it, since which element of a list is the added one is not to be told.
//! * Lines that were seen in another order may come in any order; with other digits, only if they were seen so.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::align::{Segment, Shuffled, align, shuffled};
use super::extent::Extent;
use super::holes::Holes;
use super::units::{Unit, exact, kind, skeleton, units, words};

/// Most units of a text that is compared in this way.
const MAX_UNITS: usize = 200_000;

/// A text in units.
#[derive(Debug)]
pub(super) struct Text<'a> {
    units: Vec<Unit<'a>>,
    skeletons: Vec<u64>,
    /// Whether it was cut, so that what it ends with is not its end.
    is_cut: bool,
}

/// The noise of one text; places are units of the expected one.
#[derive(Debug, Clone, Default)]
pub(super) struct TextMask {
    any_order: Option<Shuffled>,
    holes: BTreeMap<usize, Holes>,
    /// In order; they don't touch one another.
    gaps: Vec<Gap>,
}

#[derive(Debug, Clone)]
struct Gap {
    units: Range<usize>,
    /// In bytes.
    sizes: Extent,
    line: usize,
}

/// Something in which two texts differ.
pub(super) struct TextDifference {
    /// In the expected text, from 1.
    pub(super) line: usize,
    pub(super) expected: String,
    pub(super) got: String,
    pub(super) is_noise: bool,
}

impl<'a> Text<'a> {
    /// `None`: it has more units than are compared.
    pub(super) fn new(text: &'a str, is_cut: bool) -> Option<Self> {
        let units: Vec<Unit<'_>> = units(text).take(MAX_UNITS + 1).collect();
        let skeletons = units.iter().map(|unit| skeleton(unit.text)).collect();
        (units.len() <= MAX_UNITS).then_some(Self { units, skeletons, is_cut })
    }

    fn joined(&self, range: Range<usize>) -> String {
        self.units[range].iter().map(|unit| unit.text).collect::<Vec<_>>().join("\n")
    }

    fn size(&self, range: Range<usize>) -> usize {
        self.units[range].iter().map(|unit| unit.text.len()).sum()
    }

    /// The line of a unit; of the end, the last line.
    fn line(&self, unit: usize) -> usize {
        self.units.get(unit).or(self.units.last()).map_or(1, |unit| unit.line)
    }

    fn shuffled(&self, other: &Self) -> Option<Shuffled> {
        let exact_of = |text: &Self| text.units.iter().map(|unit| exact(unit.text)).collect();
        shuffled(self.skeletons.clone(), other.skeletons.clone(), || [exact_of(self), exact_of(other)])
    }

    fn segments(&self, other: &Self) -> Vec<Segment> {
        let mut segments = align(&self.skeletons, &other.skeletons);
        // What hangs over the end of one that was cut has no counterpart that could be seen.
        let hangs_over = |segment: &Segment| {
            let (left, right) = segment.ranges();
            (self.is_cut && left.is_empty()) || (other.is_cut && right.is_empty())
        };
        if segments.len() > 1 && segments.last().is_some_and(hangs_over) {
            segments.pop();
        }
        segments
    }
}

impl TextMask {
    /// Learns that `again` is as good as `expected`.
    pub(super) fn learn(&mut self, expected: &Text<'_>, again: &Text<'_>) {
        if let Some(shuffled) = expected.shuffled(again) {
            self.any_order = self.any_order.max(Some(shuffled));
            return;
        }
        let segments = expected.segments(again);
        let paired = segments.iter().filter(|segment| segment.is_paired()).map(Segment::ranges);
        for (at, other) in paired.flat_map(|(left, right)| left.zip(right)) {
            let (left, right) = (words(expected.units[at].text), words(again.units[other].text));
            if left != right {
                self.holes.entry(at).or_default().learn(&left, &right);
            }
        }
        self.add_gaps(unequal(&segments, expected, again), expected);
        for gap in &mut self.gaps {
            gap.sizes.include(size_in(&gap.units, &segments, again));
        }
    }

    /// Adds gaps, as one with those that they touch.
    fn add_gaps(&mut self, ranges: Vec<Range<usize>>, expected: &Text<'_>) {
        let known = self.gaps.drain(..).map(|gap| (gap.units, vec![gap.sizes]));
        let mut all: Vec<(Range<usize>, Vec<Extent>)> = known.chain(ranges.into_iter().map(|range| (range, vec![]))).collect();
        all.sort_by_key(|(range, _)| (range.start, range.end));
        let mut merged: Vec<(Range<usize>, Vec<Extent>)> = vec![];
        for (range, sizes) in all {
            match merged.last_mut().filter(|(last, _)| range.start <= last.end) {
                Some((last, known)) => {
                    last.end = last.end.max(range.end);
                    known.extend(sizes);
                }
                None => merged.push((range, sizes)),
            }
        }
        self.gaps.extend(merged.into_iter().map(|(units, known)| {
            let mut sizes = Extent::of(expected.size(units.clone()));
            known.into_iter().for_each(|known| sizes.join(known));
            Gap { line: expected.line(units.start), units, sizes }
        }));
    }

    /// How `got` differs from `expected`.
    pub(super) fn judge(&self, expected: &Text<'_>, got: &Text<'_>) -> Vec<TextDifference> {
        if expected.shuffled(got).is_some_and(|shuffled| self.any_order >= Some(shuffled)) {
            let (all_expected, all_got) = (expected.joined(0..expected.units.len()), got.joined(0..got.units.len()));
            return vec![TextDifference { line: 1, expected: all_expected, got: all_got, is_noise: true }];
        }
        let segments = expected.segments(got);
        let gaps: Vec<&Gap> = self.gaps.iter().filter(|gap| gap.sizes.accepts(size_in(&gap.units, &segments, got))).collect();
        let in_gap = |range: &Range<usize>| {
            let following = gaps.partition_point(|gap| gap.units.end < range.end);
            gaps.get(following).is_some_and(|gap| gap.units.start <= range.start && range.end <= gap.units.end)
        };
        let (mut pairs, mut rests) = (vec![], vec![]);
        for segment in &segments {
            let (left, right) = segment.ranges();
            if segment.is_paired() {
                pairs.extend(left.zip(right));
                continue;
            }
            let (rest_left, rest_right) = self.trimmed(left.clone(), right.clone(), expected, got);
            pairs.extend((left.start..rest_left.start).zip(right.start..rest_right.start));
            pairs.extend((rest_left.end..left.end).zip(rest_right.end..right.end));
            rests.push((rest_left, rest_right));
        }
        let of_pairs = pairs.into_iter().filter_map(|(at, other)| {
            let difference = self.judge_pair(at, other, expected, got)?;
            let is_noise = difference.is_noise || in_gap(&(at..at + 1));
            Some(TextDifference { is_noise, ..difference })
        });
        let of_rests = rests.into_iter().map(|(left, right)| TextDifference {
            line: expected.line(left.start),
            is_noise: in_gap(&left),
            expected: expected.joined(left),
            got: got.joined(right),
        });
        let mut differences: Vec<TextDifference> = of_pairs.chain(of_rests).collect();
        differences.sort_by_key(|difference| difference.line);
        differences
    }

    fn judge_pair(&self, at: usize, other: usize, expected: &Text<'_>, got: &Text<'_>) -> Option<TextDifference> {
        if expected.units[at].text == got.units[other].text {
            return None;
        }
        let (left, right) = (words(expected.units[at].text), words(got.units[other].text));
        let none = Holes::default();
        let found = self.holes.get(&at).unwrap_or(&none).judge(&left, &right)?;
        Some(TextDifference {
            line: expected.line(at),
            expected: around(&left, found.at),
            got: around(&right, found.at),
            is_noise: found.is_noise,
        })
    }

    /// A hunk without the units at its ends that are the same but for noise.
    fn trimmed(
        &self,
        mut left: Range<usize>,
        mut right: Range<usize>,
        expected: &Text<'_>,
        got: &Text<'_>,
    ) -> (Range<usize>, Range<usize>) {
        let is_same = |at: usize, other: usize| {
            self.holes.contains_key(&at) && self.judge_pair(at, other, expected, got).is_none_or(|difference| difference.is_noise)
        };
        while !left.is_empty() && !right.is_empty() && is_same(left.start, right.start) {
            (left.start, right.start) = (left.start + 1, right.start + 1);
        }
        while !left.is_empty() && !right.is_empty() && is_same(left.end - 1, right.end - 1) {
            (left.end, right.end) = (left.end - 1, right.end - 1);
        }
        (left, right)
    }

    /// Where it hides more than words.
    pub(super) fn coarse(&self) -> impl Iterator<Item = String> {
        let order = self.any_order.map(|_| "the lines come in any order".to_owned());
        let gaps = self.gaps.iter().map(|gap| format!("from line {}, the number of lines differs", gap.line));
        order.into_iter().chain(gaps)
    }
}

/// The ranges of `expected` where there are more units on one side, in order, each with the units beside it that are like
/// those in it.
fn unequal(segments: &[Segment], expected: &Text<'_>, again: &Text<'_>) -> Vec<Range<usize>> {
    let kind_of = |unit: &Unit<'_>| kind(unit.text);
    let mut ranges: Vec<Range<usize>> = vec![];
    for segment in segments {
        let (left, right) = segment.ranges();
        // What is within the range of another one already is not looked at again.
        let reached = ranges.last().map_or(0, |last| last.end);
        if segment.is_paired() || left.end < reached {
            continue;
        }
        let inside = expected.units[left.clone()].iter().chain(&again.units[right]);
        let kinds: HashSet<u64> = inside.map(kind_of).collect();
        let is_like = |at: &usize| kinds.contains(&kind_of(&expected.units[*at]));
        let from = reached.min(left.start);
        let start = left.start - (from..left.start).rev().take_while(is_like).count();
        let end = left.end + (left.end..expected.units.len()).take_while(is_like).count();
        ranges.push(start..end);
    }
    ranges
}

/// How many bytes of `other` stand where the units of `range` were expected.
fn size_in(range: &Range<usize>, segments: &[Segment], other: &Text<'_>) -> usize {
    let first = segments.partition_point(|segment| segment.ranges().0.end < range.start);
    let near = segments[first..].iter().take_while(|segment| segment.ranges().0.start <= range.end);
    near.map(|segment| {
        let (left, right) = segment.ranges();
        if !segment.is_paired() {
            return other.size(right);
        }
        let start = left.start.max(range.start);
        let end = left.end.min(range.end).max(start);
        other.size(right.start + (start - left.start)..right.start + (end - left.start))
    })
    .sum()
}

/// The words from a few before this one on.
fn around(words: &[&str], at: usize) -> String {
    words[at.saturating_sub(4)..].join(" ")
}
