//! Paths as text: how every file and message of ours writes the bytes of a path.
//!
//! A path is any bytes but NUL; JSON and terminals want text. Valid UTF-8 is written as it is, but for the backslash
//! (`\\`) and control characters (`\n`, `\t`, else `\xNN`), and each byte that isn't UTF-8 is `\xNN`. So common paths
//! stay readable, nothing printed can move the cursor, and [`unescape`] gives back exactly the bytes.

use serde::{Deserialize, Deserializer, Serializer};

/// The text of `bytes`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    c.encode_utf8(&mut buffer).bytes().for_each(|byte| push_byte(&mut text, byte));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_byte(&mut text, byte));
    }
    text
}

fn push_byte(text: &mut String, byte: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    text.push_str("\\x");
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
}

/// The bytes of a text that [`escape`] made; `None` for an escape that it never writes.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, tail) = rest.split_first()?;
        rest = tail;
        match kind {
            b'\\' => bytes.push(b'\\'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'x' => {
                let digits = rest.get(..2)?;
                let digit = |d: u8| (d as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
                rest = &rest[2..];
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// For `#[serde(with = "escape::path")]` on a field of bytes.
pub mod path {
    use super::*;

    /// Writes the escaped text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(bytes))
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The deserializer's, and a text with an escape that [`escape`] never writes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        unescape(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` has an unknown escape")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], "/srv/naïve\u{85}\\x41".as_bytes(), b"\xc3\x28\xf0\x9f", b""] {
            let text = escape(bytes);
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert_eq!(unescape(&text).as_deref(), Some(bytes));
        }
        assert_eq!(escape(b"/a b/\xff\n\\"), "/a b/\\xff\\n\\\\");
        for bad in ["\\", "\\q", "\\x4", "\\xg0"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
