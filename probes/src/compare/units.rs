//! Text in the pieces that are compared: units, and the words in them.
//!
//! A unit is a line, or less: pages and scripts without line breaks are common, so a unit also ends before `<` and after `;`,
//! `{` and `}`. White space around units and words, and empty units, mean nothing.
//!
//! Most of what differs from run to run (times, counters, ids) has digits in it. So units are recognised by what else is in them:
//! two units with the same [`skeleton`] are the same unit, and are compared word by word.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Where words end; each is a word by itself. A comma between two digits isn't.
const DELIMITERS: &str = "\"'`<>()[]{},;|";

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    /// Without white space at its ends, never empty.
    pub(super) text: &'a str,
    /// Its line in the text, from 1.
    pub(super) line: usize,
}

/// The units of `text`.
pub(super) fn units(text: &str) -> impl Iterator<Item = Unit<'_>> {
    let lines = text.lines().zip(1..);
    let units = lines.flat_map(|(text, line)| {
        let after = text.split_inclusive([';', '{', '}']);
        after.flat_map(split_before_tags).map(move |text| Unit { text: text.trim(), line })
    });
    units.filter(|unit| !unit.text.is_empty())
}

fn split_before_tags(text: &str) -> impl Iterator<Item = &str> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(text.match_indices('<').map(|(at, _)| at).filter(|&at| at > 0));
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &text[start..end])
}

/// The words of a unit.
pub(super) fn words(unit: &str) -> Vec<&str> {
    let mut words = vec![];
    let mut start = 0;
    let mut before = None;
    let mut characters = unit.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = at + character.len_utf8();
        let is_digit = |neighbour: Option<char>| neighbour.is_some_and(|neighbour| neighbour.is_ascii_digit());
        let joins_digits = character == ',' && is_digit(before) && is_digit(characters.peek().map(|&(_, next)| next));
        let is_delimiter = DELIMITERS.contains(character) && !joins_digits;
        if is_delimiter || character.is_whitespace() {
            if start < at {
                words.push(&unit[start..at]);
            }
            if is_delimiter {
                words.push(&unit[at..next]);
            }
            start = next;
        }
        before = Some(character);
    }
    if start < unit.len() {
        words.push(&unit[start..]);
    }
    words
}

/// A digest of the words.
pub(super) fn exact(unit: &str) -> u64 {
    digest(words(unit).into_iter())
}

/// A digest of the words, where all words with a digit are taken as the same.
pub(super) fn skeleton(unit: &str) -> u64 {
    digest(words(unit).into_iter().map(without_digits))
}

/// A digest by which the repeated elements of a list are recognised: of a tag without the text behind it, else the skeleton.
pub(super) fn kind(unit: &str) -> u64 {
    if !unit.starts_with('<') {
        return skeleton(unit);
    }
    digest(words(unit).into_iter().take_while(|word| *word != ">").map(without_digits))
}

fn digest<'a>(words: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

fn without_digits(word: &str) -> &str {
    if has_digit(word) { "#" } else { word }
}

pub(super) fn has_digit(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_a_text() {
        let all = |text| units(text).map(|unit| (unit.line, unit.text)).collect::<Vec<_>>();
        assert_eq!(all(" \n\n"), []);
        assert_eq!(all("a b \r\n\n  c"), [(1, "a b"), (3, "c")]);
        assert_eq!(all("<ul><li>a</li> é<b>x"), [(1, "<ul>"), (1, "<li>a"), (1, "</li> é"), (1, "<b>x")]);
        assert_eq!(all("f(){a; b}c\n;"), [(1, "f(){"), (1, "a;"), (1, "b}"), (1, "c"), (2, ";")]);
    }

    #[test]
    fn words_of_a_unit() {
        for (unit, expected) in [
            ("", &[][..]),
            ("a  b\tc", &["a", "b", "c"]),
            ("<a href=\"/x?y=1\">é", &["<", "a", "href=", "\"", "/x?y=1", "\"", ">", "é"]),
            ("1,234 1,a ,5", &["1,234", "1", ",", "a", ",", "5"]),
            ("[12:34:56.7] (x)", &["[", "12:34:56.7", "]", "(", "x", ")"]),
        ] {
            assert_eq!(words(unit), expected);
        }
    }

    #[test]
    fn units_are_recognised_whatever_their_digits() {
        assert_eq!(skeleton("at 12:34, id ab1"), skeleton("at  7, id x9"));
        assert_ne!(skeleton("at 12:34"), skeleton("at noon"));
        assert_ne!(skeleton("a b"), skeleton("ab"));
        assert_eq!(kind("<li class=\"x\">apple"), kind("<li class=\"x\">pear tart"));
        assert_ne!(kind("<li class=\"x\">apple"), kind("<li class=\"y\">apple"));
        assert_ne!(kind("<li>"), kind("</li>"));
        assert_ne!(kind("apple"), kind("pear"));
    }
}
