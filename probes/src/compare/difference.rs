//! What is told of a difference.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something in which two answers differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What differs.
    pub what: What,
    /// Where in it: `line 3`, `/items/0/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What was expected, escaped and cut for display.
    pub expected: String,
    /// What came, escaped and cut for display.
    pub got: String,
    /// Whether two runs of the expected side differ here, too.
    pub noise: bool,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Whether there is an answer, and whether in HTTP.
    Outcome,
    /// The status code.
    Status,
    /// The header of this name.
    Header(String),
    /// Where a redirect leads.
    Redirect,
    /// The body.
    Body,
    /// Whether the body could be read to its end.
    Truncated,
    /// The exit code.
    ExitCode,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome => f.write_str("outcome"),
            Self::Status => f.write_str("status"),
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Redirect => f.write_str("redirect"),
            Self::Body => f.write_str("body"),
            Self::Truncated => f.write_str("end of the body"),
            Self::ExitCode => f.write_str("exit code"),
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
        }
    }
}

/// Such as: body, line 3: expected `a`, got `b`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        write!(f, ": expected `{}`, got `{}`", self.expected, self.got)
    }
}
