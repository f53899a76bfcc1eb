//! `--continue-after`: what an observation waits for before the target is stopped.
//!
//! Probes and commands that were asked for always run; this says what else has to come to pass. Words are joined by `&`,
//! and all of them must have come: `probe&5` is five seconds more after the last probe.

use std::time::Duration;

use super::words::{DurationError, parse_duration};
use crate::observe::continue_after::ContinueAfter;

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContinueAfterError {
    /// Not a word of it.
    #[error(
        "`{0}` is not known: the words are `probe`, `exec`, `timeout:SECONDS`, a number of seconds, `app-exit`, joined by `&`"
    )]
    Word(String),
    /// docker-slim's, but not ours.
    #[error("`{0}` is a mode of docker-slim that is not supported: use `probe`, `exec`, a number of seconds or `app-exit`")]
    Unsupported(String),
    /// The same thing twice.
    #[error("`{0}` says again what was said before it")]
    Twice(String),
    /// A time that nobody waits.
    #[error("`{0}`: {1}")]
    Timeout(String, DurationError),
}

/// What docker-slim waits when `timeout` stands alone.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes sense of the words.
///
/// # Errors
/// [`ContinueAfterError`].
pub fn parse_continue_after(text: &str) -> Result<ContinueAfter, ContinueAfterError> {
    let mut after = ContinueAfter::default();
    for word in text.split('&').map(str::trim) {
        let twice = match word {
            "probe" => std::mem::replace(&mut after.probe, true),
            "exec" => std::mem::replace(&mut after.exec, true),
            "app-exit" => std::mem::replace(&mut after.app_exit, true),
            "enter" | "signal" | "host-exec" | "container-probe" => {
                return Err(ContinueAfterError::Unsupported(word.to_owned()));
            }
            _ => after.timeout.replace(parse_timeout(word)?).is_some(),
        };
        if twice {
            return Err(ContinueAfterError::Twice(word.to_owned()));
        }
    }
    Ok(after)
}

/// `timeout`, `timeout:DURATION` or `DURATION`.
fn parse_timeout(word: &str) -> Result<Duration, ContinueAfterError> {
    if word == "timeout" {
        return Ok(DEFAULT_TIMEOUT);
    }
    parse_duration(word.strip_prefix("timeout:").unwrap_or(word)).map_err(|error| match error {
        DurationError::Malformed => ContinueAfterError::Word(word.to_owned()),
        DurationError::TooLong => ContinueAfterError::Timeout(word.to_owned(), error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let none = ContinueAfter::default();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, expected) in [
            ("probe", ContinueAfter { probe: true, ..none }),
            ("exec", ContinueAfter { exec: true, ..none }),
            ("app-exit", ContinueAfter { app_exit: true, ..none }),
            ("10", ContinueAfter { timeout: seconds(10), ..none }),
            ("10s", ContinueAfter { timeout: seconds(10), ..none }),
            ("timeout:10", ContinueAfter { timeout: seconds(10), ..none }),
            ("timeout:1500ms", ContinueAfter { timeout: Some(Duration::from_millis(1500)), ..none }),
            ("2m", ContinueAfter { timeout: seconds(120), ..none }),
            ("timeout", ContinueAfter { timeout: seconds(60), ..none }),
            ("probe&5", ContinueAfter { probe: true, timeout: seconds(5), ..none }),
            ("exec & probe & app-exit", ContinueAfter { probe: true, exec: true, app_exit: true, ..none }),
        ] {
            assert_eq!(parse_continue_after(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn words_that_are_none() {
        let unknown = |word: &str| {
            format!(
                "`{word}` is not known: the words are `probe`, `exec`, `timeout:SECONDS`, a number of seconds, \
                 `app-exit`, joined by `&`"
            )
        };
        let unsupported = |word: &str| {
            format!(
                "`{word}` is a mode of docker-slim that is not supported: use `probe`, `exec`, a number of seconds or \
                 `app-exit`"
            )
        };
        for (text, message) in [
            ("", unknown("")),
            ("probe&", unknown("")),
            ("probes", unknown("probes")),
            ("timeout:", unknown("timeout:")),
            ("timeout:x", unknown("timeout:x")),
            ("-5", unknown("-5")),
            ("1.5", unknown("1.5")),
            ("enter", unsupported("enter")),
            ("probe&signal", unsupported("signal")),
            ("probe&probe", "`probe` says again what was said before it".into()),
            ("5&timeout:5", "`timeout:5` says again what was said before it".into()),
            ("86401", "`86401`: the duration is longer than a day".into()),
            ("99999999999999999999", "`99999999999999999999`: the duration is longer than a day".into()),
        ] {
            assert_eq!(parse_continue_after(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
