//! Small languages of the command line: sizes, durations, and command lines in one word.

use std::time::Duration;

use crate::engine::options::limits::{SizeError, parse_size};

/// The bytes of a size, such as `20g`.
///
/// # Errors
/// [`SizeError`].
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    parse_size(text).map(i64::unsigned_abs)
}

/// What is wrong with a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number and a unit.
    #[error("a duration is a number of seconds, or a number with `ms`, `s`, `m` or `h`, such as `1500ms`")]
    Malformed,
    /// More than a day is a slip.
    #[error("the duration is longer than a day")]
    TooLong,
}

/// `60`, `60s`, `1500ms`, `2m`, `1h`: at most a day.
///
/// # Errors
/// [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let unit_start = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError::Malformed),
    };
    if number.is_empty() {
        return Err(DurationError::Malformed);
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|&duration| duration <= DAY)
        .ok_or(DurationError::TooLong)
}

/// What is wrong with a command line in one word.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    /// `[...` that isn't JSON.
    #[error("what begins with `[` must be a JSON array of strings: {0}")]
    Json(#[from] serde_json::Error),
    /// A quote without its end.
    #[error("a `{0}` is not closed")]
    Quote(char),
    /// A backslash with nothing behind it.
    #[error("it ends in a backslash")]
    Backslash,
}

/// The words of `--entrypoint` and `--cmd`: a JSON array where it begins with `[`, else what a shell would make of it
/// with quotes and backslashes alone. Nothing but blanks is no word: the image's are cleared.
///
/// # Errors
/// [`CommandLineError`].
pub fn parse_command_line(text: &str) -> Result<Vec<String>, CommandLineError> {
    if text.trim_start().starts_with('[') { Ok(serde_json::from_str(text)?) } else { split_words(text) }
}

fn split_words(text: &str) -> Result<Vec<String>, CommandLineError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(CommandLineError::Quote('\''))? {
                        '\'' => break,
                        quoted => word.push(quoted),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(CommandLineError::Quote('"'))? {
                        '"' => break,
                        '\\' => match characters.next().ok_or(CommandLineError::Quote('"'))? {
                            '\n' => {}
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        quoted => word.push(quoted),
                    }
                }
            }
            '\\' => match characters.next().ok_or(CommandLineError::Backslash)? {
                '\n' => {}
                escaped => word.get_or_insert_default().push(escaped),
            },
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("60", 60_000), ("60s", 60_000), ("1500ms", 1500), ("2m", 120_000), ("0", 0), ("24h", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        let form = "a duration is a number of seconds, or a number with `ms`, `s`, `m` or `h`, such as `1500ms`";
        for text in ["", "s", "-1", "+1", "1.5", "1 s", "1S", "1d", "1ss", "٣"] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), form, "{text}");
        }
        for text in ["25h", "86401", "99999999999999999999", "18446744073709551615h"] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), "the duration is longer than a day", "{text}");
        }
    }

    #[test]
    fn command_lines() {
        for (text, words) in [
            ("", &[][..]),
            (" ", &[]),
            ("nginx -g 'daemon off;'", &["nginx", "-g", "daemon off;"]),
            ("  a\t b\n", &["a", "b"]),
            ("a\"b c\"'d e'f", &["ab cd ef"]),
            ("''", &[""]),
            ("\"\"", &[""]),
            ("a\\ b \\\" \\\\", &["a b", "\"", "\\"]),
            ("\"a\\\"b\\$c\\d\"", &["a\"b$c\\d"]),
            ("'a\\'", &["a\\"]),
            ("$HOME `x` a;b|c", &["$HOME", "`x`", "a;b|c"]),
            ("é ü", &["é", "ü"]),
            ("[\"sh\", \"-c\", \"a  b\"]", &["sh", "-c", "a  b"]),
            ("[]", &[]),
        ] {
            assert_eq!(parse_command_line(text).unwrap(), words, "{text}");
        }
        for (text, message) in [
            ("a 'b", "a `'` is not closed"),
            ("a \"b", "a `\"` is not closed"),
            ("a \"b\\", "a `\"` is not closed"),
            ("a\\", "it ends in a backslash"),
            ("[sh]", "what begins with `[` must be a JSON array of strings: expected value at line 1 column 2"),
            (
                "[1]",
                "what begins with `[` must be a JSON array of strings: invalid type: integer `1`, expected a string at \
                 line 1 column 2",
            ),
        ] {
            assert_eq!(parse_command_line(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
