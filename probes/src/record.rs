//! What came of the requests: pure data, for the observation, the report, and the comparison of two runs.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{HttpCommand, Protocol};

/// Most bytes of bodies that are kept in memory for comparing, over all records of a run.
const MAX_KEPT_IN_ALL: usize = 64 << 20;

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
    /// The body's first bytes ([`MAX_KEPT`](crate::MAX_KEPT)), for comparing; only in memory. It is empty in a record that was
    /// read back, and where so many bodies were kept already that memory is at risk.
    #[serde(skip)]
    pub body: Bytes,
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// It is longer than [`MAX_BODY`](crate::MAX_BODY).
    TooLong,
    /// The time was up; so it is with streams that never end.
    TimedOut,
    /// The connection broke, or the body isn't what its headers promise.
    Broken,
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

    #[test]
    fn bodies_are_kept_within_a_bound() {
        let mut records = Records::default();
        let record = |size: usize| HttpRecord {
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
                headers: vec![],
                digest: String::new(),
                size: size as u64,
                truncated: None,
                body: vec![0; size].into(),
            }),
        };
        for size in [MAX_KEPT_IN_ALL - 10, 11, 10, 1] {
            records.push(record(size));
        }
        let kept: Vec<usize> = records.all.iter().map(|record| record.answer().expect("answer").body.len()).collect();
        assert_eq!(kept, [MAX_KEPT_IN_ALL - 10, 0, 10, 0]);
    }
}
