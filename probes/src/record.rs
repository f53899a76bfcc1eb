//! What came of the requests: pure data, for the observation, the report, and the comparison of two runs.
//!
//! Bodies are for comparing only. In memory they are kept up to [`MAX_KEPT`](crate::MAX_KEPT); a record as such is written
//! without its body, as the report has no use for it. [`HttpResult::to_save`](crate::HttpResult::to_save) gives the records for a
//! file that another run is to be compared with: there shorter bodies are kept, as text where they are text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::command::{HttpCommand, Protocol};
use crate::compare;

/// Most bytes of bodies that are kept in memory for comparing, over all records of a run.
const MAX_KEPT_IN_ALL: usize = 64 << 20;
/// The longest body that is saved.
const MAX_SAVED: usize = 64 << 10;
/// Most bytes of bodies that are saved, over all records of a run.
const MAX_SAVED_IN_ALL: usize = 16 << 20;

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRecord {
    /// In capitals.
    pub method: String,
    /// Path and query, as sent.
    pub resource: String,
    /// The target's port.
    pub port: u16,
    /// The protocol of the last attempt.
    pub protocol: Protocol,
    /// How often a connection was tried (finding out about TLS isn't counted).
    pub attempts: u32,
    /// What the last attempt took, from connecting to the last byte.
    pub milliseconds: u64,
    /// Where the request came from; `None`: the user's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crawled: Option<Crawled>,
    /// What came of it.
    pub outcome: Outcome,
    /// The request itself, for asking again; only in memory, as its headers and body may be secret.
    #[serde(skip)]
    pub request: Option<Box<HttpCommand>>,
}

/// Where a request comes from that isn't a command of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crawled {
    /// How many links away from the answer to the user's command.
    pub depth: u32,
    /// The resource that links (or redirects) to it; the first one, where there are several.
    pub from: String,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer in HTTP, whatever its status.
    Answered(Answer),
    /// Something answers that doesn't speak HTTP: the beginning of what it said, as text.
    NotHttp(String),
    /// No answer; in words.
    Failed(String),
}

/// An answer in HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers, in order, one pair for each line; bytes that aren't UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// Digest of the body as far as it was read: `sha256:...`.
    pub digest: String,
    /// Bytes of the body, as far as it was read.
    pub size: u64,
    /// Why the body was not read to its end, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncated>,
    /// Digest of the body after its content-encoding was undone; only in a file that doesn't keep the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded_digest: Option<String>,
    /// The body's first bytes ([`MAX_KEPT`](crate::MAX_KEPT)), for comparing. It is empty where it was not saved, and where so many
    /// bodies were kept already that memory is at risk.
    #[serde(default, skip_serializing, deserialize_with = "saved_body")]
    pub body: Bytes,
}

/// A body in a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedBody {
    Text(String),
    Base64(String),
}

impl SavedBody {
    fn of(body: &Bytes) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(body)),
        }
    }
}

fn saved_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    match SavedBody::deserialize(deserializer)? {
        SavedBody::Text(text) => Ok(text.into()),
        SavedBody::Base64(text) => STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom),
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// It is longer than [`MAX_BODY`](crate::MAX_BODY).
    TooLong,
    /// The time was up; so it is with streams that never end.
    TimedOut,
    /// The connection broke, or the body isn't what its headers promise.
    Broken,
}

/// As a verb, such as `broke off`.
impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "is too long",
            Self::TimedOut => "did not end in time",
            Self::Broken => "broke off",
        })
    }
}

/// In a few words, such as `200, 612 bytes`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "{}, {} bytes", answer.status, answer.size),
            Self::NotHttp(seen) => write!(f, "not HTTP: `{seen}`"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl HttpRecord {
    /// The request that makes this record again: the one that was made, else, for a record that was read back, what is known
    /// of it, without headers and body.
    #[must_use]
    pub fn to_command(&self) -> HttpCommand {
        let known = self.request.as_deref().cloned();
        let mut command =
            known.unwrap_or_else(|| HttpCommand { method: self.method.clone(), ..HttpCommand::get(self.resource.as_str()) });
        (command.port, command.protocol, command.crawl) = (Some(self.port), Some(self.protocol), false);
        command
    }

    /// The answer, where there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::NotHttp(_) | Outcome::Failed(_) => None,
        }
    }
}

impl Answer {
    /// The value of the first header with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The records as they are saved, with bodies, as many as there is room for.
pub(crate) fn to_save(records: &[HttpRecord]) -> impl Iterator<Item = serde_json::Value> {
    let mut room = MAX_SAVED_IN_ALL;
    records.iter().map(move |record| {
        let mut saved = serde_json::json!(record);
        if let (Some(answer), Some(fields)) = (record.answer(), saved.pointer_mut("/outcome/answered")) {
            let is_whole = answer.body.len() as u64 == answer.size;
            if is_whole && answer.body.len() <= MAX_SAVED.min(room) {
                room -= answer.body.len();
                fields["body"] = serde_json::json!(SavedBody::of(&answer.body));
            } else if is_whole && let Some(digest) = compare::decoded_digest(answer) {
                fields["decoded_digest"] = digest.into();
            }
        }
        saved
    })
}

/// The records of a run, with a bound on the bodies that they keep.
pub(crate) struct Records {
    pub(crate) all: Vec<HttpRecord>,
    room: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self { all: vec![], room: MAX_KEPT_IN_ALL }
    }
}

impl Records {
    pub(crate) fn push(&mut self, mut record: HttpRecord) {
        if let Outcome::Answered(answer) = &mut record.outcome {
            match self.room.checked_sub(answer.body.len()) {
                Some(room) => self.room = room,
                None => answer.body = Bytes::new(),
            }
        }
        self.all.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: impl Into<Bytes>, encoding: &str) -> HttpRecord {
        let body = body.into();
        HttpRecord {
            method: "GET".into(),
            resource: "/".into(),
            port: 80,
            protocol: Protocol::Http,
            attempts: 1,
            milliseconds: 0,
            crawled: None,
            request: None,
            outcome: Outcome::Answered(Answer {
                status: 200,
                headers: vec![("content-encoding".into(), encoding.into())],
                digest: String::new(),
                size: body.len() as u64,
                truncated: None,
                decoded_digest: None,
                body,
            }),
        }
    }

    #[test]
    fn bodies_are_kept_within_a_bound() {
        let mut records = Records::default();
        for size in [MAX_KEPT_IN_ALL - 10, 11, 10, 1] {
            records.push(record(vec![0; size], ""));
        }
        let kept: Vec<usize> = records.all.iter().map(|record| record.answer().expect("answer").body.len()).collect();
        assert_eq!(kept, [MAX_KEPT_IN_ALL - 10, 0, 10, 0]);
    }

    /// The answer as it is in a file, and as it is read back.
    fn saved(records: &[HttpRecord]) -> Vec<(serde_json::Value, Answer)> {
        let read = |value: serde_json::Value| {
            let record: HttpRecord = serde_json::from_value(value.clone()).expect("a record");
            (value["outcome"]["answered"].clone(), record.answer().expect("an answer").clone())
        };
        to_save(records).map(read).collect()
    }

    #[test]
    fn saved_bodies_are_read_back() {
        for (body, json) in [
            (&b""[..], serde_json::json!({"text": ""})),
            (b"a\n\0", serde_json::json!({"text": "a\n\0"})),
            (b"\xff\0", serde_json::json!({"base64": "/wA="})),
        ] {
            let record = record(body.to_vec(), "");
            let (value, answer) = saved(std::slice::from_ref(&record)).remove(0);
            assert_eq!(value["body"], json);
            assert_eq!(Some(&answer), record.answer());
            assert!(!serde_json::to_string(&record).expect("json").contains("\"body\""), "only where it is asked for");
        }
        let broken = r#"{"status":200,"headers":[],"digest":"","size":1,"body":{"base64":"?"}}"#;
        assert!(serde_json::from_str::<Answer>(broken).is_err());
        let older = r#"{"status":200,"headers":[],"digest":"","size":1}"#;
        assert!(serde_json::from_str::<Answer>(older).expect("an answer").body.is_empty());
    }

    #[test]
    fn saved_bodies_are_bounded() {
        let long = vec![b'x'; MAX_SAVED + 1];
        let saved_long = saved(&[record(long.clone(), ""), record(long, "identity")]);
        assert!(saved_long.iter().all(|(value, answer)| value["body"].is_null() && answer.body.is_empty()));
        let digests: Vec<bool> = saved_long.iter().map(|(_, answer)| answer.decoded_digest.is_some()).collect();
        assert_eq!(digests, [true, true]);

        let mut beginning = record(vec![b'x'; 10], "gzip");
        if let Outcome::Answered(answer) = &mut beginning.outcome {
            answer.size = 11;
        }
        let (value, answer) = saved(&[beginning]).remove(0);
        assert!(value["body"].is_null() && answer.decoded_digest.is_none(), "{value}");

        let count = MAX_SAVED_IN_ALL / MAX_SAVED;
        let kept = saved(&vec![record(vec![b'x'; MAX_SAVED], ""); count + 1]);
        assert_eq!(kept.iter().filter(|(_, answer)| !answer.body.is_empty()).count(), count);
    }
}
