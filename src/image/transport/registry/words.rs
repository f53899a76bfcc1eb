//! What a registry says, in its documents and of its errors, and how that is told: bounded, and harmless to a terminal.

use serde::Deserialize;

use crate::escape::escape;

/// The most bytes that are read of words on an error.
pub const MAX_READ: u64 = 64 << 10;
/// The most characters that are shown of them.
const MAX_SHOWN: usize = 300;

/// What is at the bottom of an error: the layers above it only name themselves, or addresses that may hold secrets.
#[must_use]
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    shown(&deepest.to_string())
}

/// Foreign words, bounded and harmless.
#[must_use]
pub fn shown(words: &str) -> String {
    escape(words.chars().take(MAX_SHOWN).collect::<String>().as_bytes())
}

/// Behind what a registry is said to have done; nothing where it said nothing.
#[must_use]
pub fn told(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// What a registry says of an error, in the form that the specification has for it.
#[must_use]
pub fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: Option<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let one = |One { code, message }| message.filter(|message| !message.is_empty()).unwrap_or(code);
    errors.into_iter().take(3).map(one).collect::<Vec<_>>().join(", ")
}

/// The token in the answer of a server that gives them out; `None`: there is none that a header could hold.
#[must_use]
pub fn parse_token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let Token { token, access_token } = serde_json::from_slice(body).ok()?;
    let token = token.or(access_token)?;
    // It goes into a header.
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_tokens() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no \u001b[31mway","detail":null},{"code":"UNKNOWN"}]}"#;
        assert_eq!(shown(&words(body)), "no \\x1b[31mway, UNKNOWN");
        assert_eq!(words(b"<html>"), "");
        assert_eq!(shown(&"x".repeat(1000)), "x".repeat(300));
        assert_eq!(parse_token(br#"{"token":"a.b","access_token":"c"}"#).as_deref(), Some("a.b"));
        assert_eq!(parse_token(br#"{"access_token":"c","expires_in":60}"#).as_deref(), Some("c"));
        for body in ["{}", r#"{"token":""}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":1}"#, ""] {
            assert_eq!(parse_token(body.as_bytes()), None, "{body}");
        }
    }
}
