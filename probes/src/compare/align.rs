//! Which elements of two sequences belong together.
//!
//! This is the patience diff: what both sequences begin and end with belongs together; between that, elements that occur
//! exactly once in both are anchors, as many as are in the same order, and the stretches between two anchors are
//! treated in the same way. Other than a shortest edit script it costs no more than sorting does, however different the two are,
//! and it never matches one closing tag with any other.

use std::collections::HashMap;
use std::ops::Range;

/// How often the stretches between anchors are looked at again. Deeper ones are rare, and are taken as different.
const MAX_DEPTH: u32 = 16;

/// A stretch of both sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Equal elements, in ranges of one length.
    Same(Range<usize>, Range<usize>),
    /// Different ones; one of the ranges may be empty.
    Hunk(Range<usize>, Range<usize>),
}

/// In which sense two sequences have the same elements in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shuffled {
    Exactly,
    /// Words with digits differ.
    ButForDigits,
}

/// Whether two sequences are the same but for their order, by digests that leave out digits and, where they are, by exact ones.
pub(super) fn shuffled(mut left: Vec<u64>, mut right: Vec<u64>, exact: impl FnOnce() -> [Vec<u64>; 2]) -> Option<Shuffled> {
    if left.len() != right.len() || left == right {
        return None;
    }
    left.sort_unstable();
    right.sort_unstable();
    let [mut exact_left, mut exact_right] = if left == right { exact() } else { return None };
    exact_left.sort_unstable();
    exact_right.sort_unstable();
    Some(if exact_left == exact_right { Shuffled::Exactly } else { Shuffled::ButForDigits })
}

impl Segment {
    pub(super) fn ranges(&self) -> (Range<usize>, Range<usize>) {
        let (Self::Same(left, right) | Self::Hunk(left, right)) = self;
        (left.clone(), right.clone())
    }

    /// Whether it has as many elements of one as of the other.
    pub(super) fn is_paired(&self) -> bool {
        let (left, right) = self.ranges();
        left.len() == right.len()
    }
}

/// The stretches of `left` and `right`, in order; together they are all of both.
pub(super) fn align(left: &[u64], right: &[u64]) -> Vec<Segment> {
    let mut segments = vec![];
    align_within(left, right, 0..left.len(), 0..right.len(), MAX_DEPTH, &mut segments);
    segments
}

fn align_within(left: &[u64], right: &[u64], a: Range<usize>, b: Range<usize>, depth: u32, segments: &mut Vec<Segment>) {
    let (before, after) = common_ends(&left[a.clone()], &right[b.clone()]);
    if before > 0 {
        segments.push(Segment::Same(a.start..a.start + before, b.start..b.start + before));
    }
    let (inner_a, inner_b) = (a.start + before..a.end - after, b.start + before..b.end - after);
    let anchors = if depth == 0 { vec![] } else { anchors(left, right, inner_a.clone(), inner_b.clone()) };
    if anchors.is_empty() {
        if !inner_a.is_empty() || !inner_b.is_empty() {
            segments.push(Segment::Hunk(inner_a.clone(), inner_b.clone()));
        }
    } else {
        let (mut from_a, mut from_b) = (inner_a.start, inner_b.start);
        for (at_a, at_b) in anchors {
            align_within(left, right, from_a..at_a, from_b..at_b, depth - 1, segments);
            segments.push(Segment::Same(at_a..at_a + 1, at_b..at_b + 1));
            (from_a, from_b) = (at_a + 1, at_b + 1);
        }
        align_within(left, right, from_a..inner_a.end, from_b..inner_b.end, depth - 1, segments);
    }
    if after > 0 {
        segments.push(Segment::Same(inner_a.end..a.end, inner_b.end..b.end));
    }
}

/// How many elements at the beginning, and how many of the others at the end, are equal.
pub(super) fn common_ends<T: PartialEq>(left: &[T], right: &[T]) -> (usize, usize) {
    let before = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let (left, right) = (&left[before..], &right[before..]);
    let after = left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count();
    (before, after)
}

/// The longest run of elements that occur once in both and are in the same order.
fn anchors(left: &[u64], right: &[u64], a: Range<usize>, b: Range<usize>) -> Vec<(usize, usize)> {
    let once_in_right = once(right, b);
    let mut pairs: Vec<(usize, usize)> =
        once(left, a).into_iter().filter_map(|(element, at)| Some((at, *once_in_right.get(&element)?))).collect();
    pairs.sort_unstable();
    longest_increasing(&pairs)
}

/// The elements that occur once, and where.
fn once(elements: &[u64], range: Range<usize>) -> HashMap<u64, usize> {
    let mut places: HashMap<u64, Option<usize>> = HashMap::new();
    for at in range {
        places.entry(elements[at]).and_modify(|place| *place = None).or_insert(Some(at));
    }
    places.into_iter().filter_map(|(element, place)| Some((element, place?))).collect()
}

/// Of pairs in the order of their first halves, the most whose second halves ascend.
fn longest_increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the pair with the least second half that ends a run of this length; for each pair, the one before it.
    let mut ends: Vec<usize> = vec![];
    let mut before: Vec<Option<usize>> = vec![];
    for (index, pair) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < pair.1);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut run = vec![];
    let mut next = ends.last().copied();
    while let Some(index) = next {
        run.push(pairs[index]);
        next = before[index];
    }
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(left: &str, right: &str) -> String {
        let bytes = |text: &str| text.bytes().map(u64::from).collect::<Vec<_>>();
        let segments = align(&bytes(left), &bytes(right));
        let (mut a, mut b) = (0, 0);
        let mut text = String::new();
        for segment in &segments {
            let (at_a, at_b) = segment.ranges();
            assert_eq!((at_a.start, at_b.start), (a, b), "{segments:?}");
            (a, b) = (at_a.end, at_b.end);
            match segment {
                Segment::Same(..) => {
                    assert_eq!(left[at_a.clone()], right[at_b]);
                    text += &left[at_a];
                }
                Segment::Hunk(..) => text += &format!("({}|{})", &left[at_a], &right[at_b]),
            }
        }
        assert_eq!((a, b), (left.len(), right.len()));
        text
    }

    #[test]
    fn what_belongs_together() {
        for (left, right, aligned) in [
            ("", "", ""),
            ("abc", "abc", "abc"),
            ("abc", "", "(abc|)"),
            ("", "abc", "(|abc)"),
            ("abc", "axc", "a(b|x)c"),
            ("abc", "xyz", "(abc|xyz)"),
            ("ac", "abbbc", "a(|bbb)c"),
            ("aaa", "aa", "aa(a|)"),
            ("1bcd2efg3", "4bcd5efg6", "(1|4)bcd(2|5)efg(3|6)"),
            ("-a-b-c-", "+b+a+c+", "(-a-|+)b(-|+a+)c(-|+)"),
            ("xaay", "uaav", "(xaay|uaav)"),
        ] {
            assert_eq!(of(left, right), aligned);
        }
    }

    #[test]
    fn cost_is_bounded() {
        let count = 200_000;
        let ascending: Vec<u64> = (0..count).collect();
        let descending: Vec<u64> = (0..count).rev().collect();
        assert_eq!(align(&ascending, &descending).iter().filter(|it| matches!(it, Segment::Same(..))).count(), 1);
        let alternating: Vec<u64> = (0..count).map(|it| it % 2).collect();
        let other: Vec<u64> = (0..count).map(|it| it % 3).collect();
        align(&alternating, &other);
    }
}
