//! Comparison of two contents: bodies of answers, outputs of commands.
//!
//! Equal bytes are equal. Else the content-encoding is undone (`gzip`, `deflate`), since a compressed body may hold the
//! time, and what is in it is compared as JSON where both are, as text where both are, else as bytes: by length and digest.
//! What is noise of texts and JSON is told in their modules; of bytes it is everything but the first few and the order of
//! magnitude of their number.
//!
//! Of a content that is long, only the beginning is at hand, or nothing: then this is compared, and the rest as bytes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde_json::Value;

use super::alarms::{alarms, is_alarming};
use super::align::common_ends;
use super::extent::Extent;
use super::json::JsonMask;
use super::own::Own;
use super::text::{Text, TextMask};
use crate::tally::Tally;

/// Most bytes of a decoded content.
const MAX_DECODED: u64 = 4 << 20;
/// How many of the first bytes tell a format.
const MAGIC: usize = 8;

/// A content, as far as it is known.
#[derive(Debug)]
pub(super) struct Content<'a> {
    pub(super) size: u64,
    pub(super) digest: &'a str,
    /// Of what it decodes to, where that is known without the bytes.
    pub(super) decoded_digest: Option<&'a str>,
    /// Its first bytes.
    pub(super) head: &'a [u8],
    /// As in the header `content-encoding`.
    pub(super) encoding: Option<&'a str>,
    /// Whether it was broken off, so that its size says nothing.
    pub(super) is_broken_off: bool,
    pub(super) own: &'a Own,
}

/// The noise of a content.
#[derive(Debug, Clone, Default)]
pub(super) struct ContentMask {
    text: TextMask,
    json: JsonMask,
    bytes: Option<BytesMask>,
    /// Words of failure that the expected side has said.
    alarms: BTreeSet<&'static str>,
}

#[derive(Debug, Clone)]
struct BytesMask {
    sizes: Extent,
    magic: Vec<u8>,
    /// Whether all were texts, or none was; `None`: some were.
    are_texts: Option<bool>,
}

/// Something in which two contents differ.
pub(super) struct ContentDifference {
    pub(super) place: Option<String>,
    pub(super) expected: String,
    pub(super) got: String,
    pub(super) is_noise: bool,
}

/// What two contents are compared as.
enum Pair<'a> {
    Same,
    Json(Value, Value),
    Text(Cow<'a, str>, Cow<'a, str>),
    Bytes,
}

impl<'a> Content<'a> {
    /// A short text, whose digest is itself.
    pub(super) fn of_text(text: &'a str, own: &'a Own) -> Self {
        let (size, head) = (text.len() as u64, text.as_bytes());
        Self { size, digest: text, decoded_digest: None, head, encoding: None, is_broken_off: false, own }
    }

    fn is_whole(&self) -> bool {
        self.head.len() as u64 == self.size
    }

    fn decoded(&self) -> Option<Cow<'a, [u8]>> {
        if self.is_whole() { decode(self.head, self.encoding) } else { None }
    }

    fn pair_with(&self, got: &Content<'a>) -> Pair<'a> {
        if self.size == got.size && self.digest == got.digest {
            return Pair::Same;
        }
        match (self.decoded(), got.decoded()) {
            (Some(left), Some(right)) if left == right => return Pair::Same,
            (Some(left), Some(right)) => return self.pair_of(got, left, right),
            (None, Some(right)) if self.decoded_digest.is_some_and(|digest| digest == digest_of(&right)) => return Pair::Same,
            _ => {}
        }
        if self.head.is_empty() || got.head.is_empty() || self.encoding.is_some() || got.encoding.is_some() {
            return Pair::Bytes;
        }
        self.pair_of(got, Cow::Borrowed(self.head), Cow::Borrowed(got.head))
    }

    fn pair_of(&self, got: &Content<'a>, left: Cow<'a, [u8]>, right: Cow<'a, [u8]>) -> Pair<'a> {
        if !self.is_cut()
            && !got.is_cut()
            && let (Some(mut left), Some(mut right)) = (json(&left), json(&right))
        {
            self.own.replace_in_json(&mut left);
            got.own.replace_in_json(&mut right);
            return Pair::Json(left, right);
        }
        match (text(left, self.is_cut()), text(right, got.is_cut())) {
            (Some(left), Some(right)) => Pair::Text(replaced(self.own, left), replaced(got.own, right)),
            _ => Pair::Bytes,
        }
    }

    /// Whether it ends where the content itself does not.
    fn is_cut(&self) -> bool {
        self.is_broken_off || !self.is_whole()
    }

    /// Whether there are bytes that were not compared with those of the other.
    fn has_rest(&self, other: &Self) -> bool {
        !(self.is_whole() && other.is_whole() || self.is_broken_off && other.is_broken_off)
    }

    fn alarms(&self) -> BTreeSet<&'static str> {
        let bytes = self.decoded().unwrap_or(Cow::Borrowed(self.head));
        alarms(&String::from_utf8_lossy(&bytes))
    }

    fn in_words(&self) -> String {
        let kept = if self.head.is_empty() && self.size > 0 { ", not kept" } else { "" };
        format!("{} bytes, {}{kept}", self.size, self.digest)
    }
}

impl ContentMask {
    /// Learns that `again` is as good as `expected`.
    pub(super) fn learn(&mut self, expected: &Content<'_>, again: &Content<'_>) {
        self.alarms.extend(expected.alarms());
        self.alarms.extend(again.alarms());
        match expected.pair_with(again) {
            Pair::Same => {}
            Pair::Json(left, right) => self.json.learn(&left, &right),
            Pair::Text(left, right) => match (Text::new(&left, expected.is_cut()), Text::new(&right, again.is_cut())) {
                (Some(left), Some(right)) => {
                    self.text.learn(&left, &right);
                    if expected.has_rest(again) {
                        self.learn_bytes(expected, again);
                    }
                }
                _ => self.learn_bytes(expected, again),
            },
            Pair::Bytes => self.learn_bytes(expected, again),
        }
    }

    fn learn_bytes(&mut self, expected: &Content<'_>, again: &Content<'_>) {
        let bytes = self.bytes.get_or_insert_with(|| BytesMask {
            sizes: Extent::of(expected.length()),
            magic: expected.magic().to_vec(),
            are_texts: Some(expected.is_text()),
        });
        bytes.sizes.include(again.length());
        bytes.magic.truncate(common_ends(&bytes.magic, again.magic()).0);
        bytes.are_texts = bytes.are_texts.filter(|&are_texts| are_texts == again.is_text());
    }

    /// How `got` differs from `expected`.
    pub(super) fn judge(&self, expected: &Content<'_>, got: &Content<'_>) -> Vec<ContentDifference> {
        let mut differences = vec![];
        match expected.pair_with(got) {
            Pair::Same => {}
            Pair::Json(left, right) => {
                differences.extend(self.json.judge(&left, &right).into_iter().map(|found| ContentDifference {
                    place: (!found.pointer.is_empty()).then_some(found.pointer),
                    expected: found.expected,
                    got: found.got,
                    is_noise: found.is_noise,
                }));
            }
            Pair::Text(left, right) => match (Text::new(&left, expected.is_cut()), Text::new(&right, got.is_cut())) {
                (Some(left), Some(right)) => {
                    differences.extend(self.text.judge(&left, &right).into_iter().map(|found| ContentDifference {
                        place: Some(format!("line {}", found.line)),
                        expected: found.expected,
                        got: found.got,
                        is_noise: found.is_noise,
                    }));
                    if expected.has_rest(got) {
                        differences.push(self.judge_bytes(expected, got));
                    }
                }
                _ => differences.push(self.judge_bytes(expected, got)),
            },
            Pair::Bytes => differences.push(self.judge_bytes(expected, got)),
        }
        for difference in &mut differences {
            difference.is_noise = difference.is_noise && !is_alarming(&difference.got, &self.alarms);
        }
        differences
    }

    fn judge_bytes(&self, expected: &Content<'_>, got: &Content<'_>) -> ContentDifference {
        let is_noise = self.bytes.as_ref().is_some_and(|bytes| {
            bytes.sizes.accepts(got.length())
                && got.magic().starts_with(&bytes.magic)
                && bytes.are_texts.is_none_or(|are_texts| are_texts == got.is_text())
                && got.alarms().is_subset(&self.alarms)
        });
        ContentDifference { place: None, expected: expected.in_words(), got: got.in_words(), is_noise }
    }

    /// Where it hides more than words and numbers.
    pub(super) fn coarse(&self) -> impl Iterator<Item = String> {
        let bytes = self.bytes.iter().map(|_| "only the size is compared, by its order of magnitude".to_owned());
        self.text.coarse().chain(self.json.coarse()).chain(bytes)
    }
}

impl Content<'_> {
    fn length(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn magic(&self) -> &[u8] {
        &self.head[..self.head.len().min(MAGIC)]
    }

    fn is_text(&self) -> bool {
        text(self.decoded().unwrap_or(Cow::Borrowed(self.head)), self.is_cut()).is_some()
    }
}

/// Undoes a content-encoding; `None`: it isn't known, the bytes are not in it, or they become too many.
pub(super) fn decode<'a>(bytes: &'a [u8], encoding: Option<&str>) -> Option<Cow<'a, [u8]>> {
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Some(Cow::Borrowed(bytes)),
        "gzip" | "x-gzip" => inflate(MultiGzDecoder::new(bytes)),
        // By the standard it is in zlib's format, but some servers send it bare.
        "deflate" => inflate(ZlibDecoder::new(bytes)).or_else(|| inflate(DeflateDecoder::new(bytes))),
        _ => None,
    }
}

fn inflate<'a>(decoder: impl Read) -> Option<Cow<'a, [u8]>> {
    let mut decoded = vec![];
    decoder.take(MAX_DECODED + 1).read_to_end(&mut decoded).ok()?;
    (decoded.len() as u64 <= MAX_DECODED).then_some(Cow::Owned(decoded))
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    let mut tally = Tally::new(0);
    tally.push(bytes);
    tally.finish().0
}

/// Only documents: a lone number or string is a text as good.
fn json(bytes: &[u8]) -> Option<Value> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first == b'{' || *first == b'[' { serde_json::from_slice(bytes).ok() } else { None }
}

/// `None`: it isn't text. What was cut may end within a character.
fn text(bytes: Cow<'_, [u8]>, is_cut: bool) -> Option<Cow<'_, str>> {
    if bytes.contains(&0) {
        return None;
    }
    match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(error) if is_cut && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok().map(Cow::Borrowed)
            }
            Err(_) => None,
        },
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn replaced<'a>(own: &Own, text: Cow<'a, str>) -> Cow<'a, str> {
    match own.replace(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(replaced) => Cow::Owned(replaced),
    }
}
