//! `--continue-after`: what an observation waits for before the target is stopped.
//!
//! Probes and commands that were asked for always run; this says what else has to come to pass. Words are joined by `&`,
//! and all of them must have come: `probe&5` is five seconds more after the last probe.

use std::time::Duration;

/// What is waited for; all that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContinueAfter {
    /// The HTTP probes are done.
    pub probe: bool,
    /// The commands are done.
    pub exec: bool,
    /// So much time has passed after everything else.
    pub timeout: Option<Duration>,
    /// The target has ended by itself.
    pub app_exit: bool,
}

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
    #[error("`{0}` is longer than a day")]
    TooLong(String),
}

/// What docker-slim waits when `timeout` stands alone.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl ContinueAfter {
    /// Makes sense of the words.
    ///
    /// # Errors
    /// [`ContinueAfterError`].
    pub fn parse(text: &str) -> Result<ContinueAfter, ContinueAfterError> {
        let mut after = ContinueAfter::default();
        for word in text.split('&').map(str::trim) {
            let before = after;
            match word {
                "probe" => after.probe = true,
                "exec" => after.exec = true,
                "app-exit" => after.app_exit = true,
                "enter" | "signal" | "host-exec" | "container-probe" => {
                    return Err(ContinueAfterError::Unsupported(word.to_owned()));
                }
                _ => {
                    let timeout = parse_timeout(word)?;
                    if after.timeout.replace(timeout).is_some() {
                        return Err(ContinueAfterError::Twice(word.to_owned()));
                    }
                }
            }
            if after == before {
                return Err(ContinueAfterError::Twice(word.to_owned()));
            }
        }
        Ok(after)
    }
}

/// `timeout`, `timeout:N` or `N`, in seconds.
fn parse_timeout(word: &str) -> Result<Duration, ContinueAfterError> {
    if word == "timeout" {
        return Ok(DEFAULT_TIMEOUT);
    }
    let number = word.strip_prefix("timeout:").unwrap_or(word);
    let number = number.strip_suffix('s').unwrap_or(number);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ContinueAfterError::Word(word.to_owned()));
    }
    let timeout = number.parse().map(Duration::from_secs).ok().filter(|&timeout| timeout <= LONGEST);
    timeout.ok_or_else(|| ContinueAfterError::TooLong(word.to_owned()))
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
            ("timeout", ContinueAfter { timeout: seconds(60), ..none }),
            ("probe&5", ContinueAfter { probe: true, timeout: seconds(5), ..none }),
            ("exec & probe & app-exit", ContinueAfter { probe: true, exec: true, app_exit: true, ..none }),
        ] {
            assert_eq!(ContinueAfter::parse(text), Ok(expected), "{text}");
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
            ("86401", "`86401` is longer than a day".into()),
            ("99999999999999999999", "`99999999999999999999` is longer than a day".into()),
        ] {
            assert_eq!(ContinueAfter::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
