//! What is told of a difference: few and short words, whatever the answers are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most differences of one answer that are told, of noise and of others each.
const MAX_DIFFERENCES: usize = 50;
/// Most characters of a value that are shown.
const MAX_SHOWN: usize = 200;
/// How much of what is the same is shown before the difference, where not all is shown.
const SHOWN_BEFORE: usize = 40;

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

/// Collects differences, within bounds.
#[derive(Debug, Default)]
pub(super) struct Differences {
    all: Vec<Difference>,
    noise: usize,
}

impl Differences {
    pub(super) fn push(&mut self, what: &What, place: Option<String>, expected: &str, got: &str, noise: bool) {
        let count = if noise { self.noise } else { self.all.len() - self.noise };
        if count == MAX_DIFFERENCES {
            return;
        }
        self.noise += usize::from(noise);
        let from = shown_from(expected, got);
        let (expected, got) = (shown(expected, from), shown(got, from));
        self.all.push(Difference { what: what.clone(), place, expected, got, noise });
    }

    pub(super) fn into_vec(self) -> Vec<Difference> {
        self.all
    }
}

/// From which byte on two values are shown: where they differ within what is shown from the beginning, from there.
fn shown_from(expected: &str, got: &str) -> usize {
    let same: Vec<usize> =
        expected.char_indices().zip(got.chars()).take_while(|((_, left), right)| left == right).map(|((at, _), _)| at).collect();
    if same.len() + SHOWN_BEFORE <= MAX_SHOWN { 0 } else { same[same.len() - SHOWN_BEFORE] }
}

fn shown(value: &str, from: usize) -> String {
    let mut shown = String::from(if from > 0 { "…" } else { "" });
    let mut characters = value[from..].chars();
    for character in characters.by_ref().take(MAX_SHOWN) {
        match character {
            '\'' | '"' => shown.push(character),
            character => shown.extend(character.escape_debug()),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(expected: &str, got: &str) -> (String, String) {
        let mut differences = Differences::default();
        differences.push(&What::Body, None, expected, got, false);
        let mut all = differences.into_vec();
        assert_eq!(all.len(), 1);
        let difference = all.remove(0);
        (difference.expected, difference.got)
    }

    #[test]
    fn values_are_short_and_show_the_difference() {
        assert_eq!(told("a \"b\"\n", "\u{1b}[1m\u{202e}\\"), ("a \"b\"\\n".into(), "\\u{1b}[1m\\u{202e}\\\\".into()));
        let long = "é".repeat(1000);
        let (expected, got) = told(&format!("{long}x{long}"), &format!("{long}y"));
        assert_eq!(expected, format!("…{}x{}…", &long[..80], &long[..2 * (MAX_SHOWN - 41)]));
        assert_eq!(got, format!("…{}y", &long[..80]));
        assert_eq!(told(&long, ""), (format!("{}…", &long[..2 * MAX_SHOWN]), String::new()));
    }

    #[test]
    fn differences_are_few() {
        let mut differences = Differences::default();
        for count in 0..1000 {
            differences.push(&What::Body, None, "a", "b", count % 3 != 0);
        }
        let all = differences.into_vec();
        assert_eq!(all.len(), 2 * MAX_DIFFERENCES);
        assert_eq!(all.iter().filter(|difference| difference.noise).count(), MAX_DIFFERENCES);
    }

    #[test]
    fn differences_in_words_and_in_json() {
        let mut differences = Differences::default();
        differences.push(&What::Header("vary".into()), None, "a", "", false);
        differences.push(&What::Body, Some("line 3".into()), "a", "b", true);
        let all = differences.into_vec();
        assert_eq!(all[0].to_string(), "header `vary`: expected `a`, got ``");
        assert_eq!(all[1].to_string(), "body, line 3: expected `a`, got `b`");
        let json = serde_json::to_string(&all).expect("json");
        assert!(
            json.starts_with(r#"[{"what":{"header":"vary"},"expected":"a","got":"","noise":false},{"what":"body","#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Vec<Difference>>(&json).expect("differences"), all);
    }
}
