//! What a container has of its own: names that say nothing about the program.

use std::borrow::Cow;

use serde_json::Value;

/// Shorter texts are found by chance, and are left alone.
const MIN_LENGTH: usize = 3;

/// Texts that are a container's own (its host name, its addresses, its published ports), each replaced in its answers by a word
/// for it, so that the answers of two containers can be compared.
///
/// A text is replaced only where it stands alone: `172.17.0.2` is not found in `172.17.0.25`.
#[derive(Debug, Clone, Default)]
pub struct Own(Vec<(String, &'static str)>);

impl Own {
    /// Each text with the word for it, such as `("172.17.0.2", "address")`. Texts of less than three bytes are ignored.
    #[must_use]
    pub fn new(texts: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().filter(|(text, _)| text.len() >= MIN_LENGTH).collect();
        texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self(texts)
    }

    /// `text` with each of the own texts replaced.
    pub(super) fn replace<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut replaced = Cow::Borrowed(text);
        for (own, word) in &self.0 {
            if let Some(other) = replace_alone(&replaced, own, word) {
                replaced = Cow::Owned(other);
            }
        }
        replaced
    }

    /// Replaces them in all strings, keys and numbers.
    pub(super) fn replace_in_json(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::String(text) => *text = self.replace(text).into_owned(),
            Value::Number(number) => {
                let text = number.to_string();
                if let Some((_, word)) = self.0.iter().find(|(own, _)| *own == text) {
                    *value = Value::String(placeholder(word));
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.replace_in_json(element)),
            Value::Object(members) => {
                for (key, mut member) in std::mem::take(members) {
                    self.replace_in_json(&mut member);
                    members.insert(self.replace(&key).into_owned(), member);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}

fn placeholder(word: &str) -> String {
    format!("{{{word}}}")
}

/// `None` where `own` does not stand alone anywhere in `text`.
fn replace_alone(text: &str, own: &str, word: &str) -> Option<String> {
    let mut replaced = String::new();
    let mut taken = 0;
    for (start, _) in text.match_indices(own) {
        let end = start + own.len();
        let touches = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        if touches(text[..start].chars().next_back()) || touches(text[end..].chars().next()) {
            continue;
        }
        replaced.push_str(&text[taken..start]);
        replaced.push_str(&placeholder(word));
        taken = end;
    }
    (taken > 0).then(|| replaced + &text[taken..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn own() -> Own {
        Own::new([
            ("web".to_owned(), "host name"),
            ("172.17.0.2".into(), "address"),
            ("49153".into(), "port"),
            ("web.local".into(), "domain"),
            ("80".into(), "short"),
        ])
    }

    #[test]
    fn whole_texts_are_replaced() {
        for (text, replaced) in [
            ("on web", "on {host name}"),
            ("web,web", "{host name},{host name}"),
            ("http://172.17.0.2:49153/", "http://{address}:{port}/"),
            ("web.local", "{domain}"),
            ("172.17.0.25 1172.17.0.2 webs cobweb éweb", "172.17.0.25 1172.17.0.2 webs cobweb éweb"),
            ("80", "80"),
            ("", ""),
        ] {
            assert_eq!(own().replace(text), replaced);
        }
        assert_eq!(Own::default().replace("web"), "web");
    }

    #[test]
    fn json_keeps_its_structure() {
        let mut value = json!({"web": ["on web", 49153, 491530], "n": null});
        own().replace_in_json(&mut value);
        assert_eq!(value, json!({"{host name}": ["on {host name}", "{port}", 491530], "n": null}));
    }
}
