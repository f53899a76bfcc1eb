//! Which headers are compared, and in which form.

use std::borrow::Cow;

use crate::exchange::HOST_NAME;
use crate::record::Answer;

/// How the values of a header are brought into a form that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are.
    Plain,
    /// The items of a list, in any order and case.
    List,
    /// Without the host and port, where they are the target's own.
    Location,
    /// Cookies by name and attributes; neither value nor expiry.
    Cookies,
    /// The scheme and the realm; no nonces.
    Challenge,
    /// Whether it is there, and whether it is a weak one: it is often made of the file's number, which every image has its own of.
    EntityTag,
}

/// The headers that are compared, in lower case.
const HEADERS: &[(&str, Form)] = &[
    ("accept-ranges", Form::Plain),
    ("access-control-allow-credentials", Form::Plain),
    ("access-control-allow-headers", Form::List),
    ("access-control-allow-methods", Form::List),
    ("access-control-allow-origin", Form::Plain),
    ("access-control-expose-headers", Form::List),
    ("access-control-max-age", Form::Plain),
    ("allow", Form::List),
    ("cache-control", Form::List),
    ("content-disposition", Form::Plain),
    ("content-encoding", Form::Plain),
    ("content-language", Form::Plain),
    ("content-location", Form::Location),
    ("content-range", Form::Plain),
    ("content-security-policy", Form::Plain),
    ("content-type", Form::Plain),
    ("etag", Form::EntityTag),
    ("last-modified", Form::Plain),
    ("link", Form::Plain),
    ("location", Form::Location),
    ("proxy-authenticate", Form::Challenge),
    ("referrer-policy", Form::Plain),
    ("refresh", Form::Plain),
    ("server", Form::Plain),
    ("set-cookie", Form::Cookies),
    ("strict-transport-security", Form::Plain),
    ("vary", Form::List),
    ("www-authenticate", Form::Challenge),
    ("x-content-type-options", Form::Plain),
    ("x-frame-options", Form::Plain),
    ("x-powered-by", Form::Plain),
];

/// Each header that one of two answers has and that is compared, with both values; an absent one is empty.
pub(super) fn pairs(expected: &Answer, got: &Answer) -> Vec<(&'static str, String, String)> {
    let mut pairs: Vec<_> = HEADERS
        .iter()
        .map(|&(name, form)| (name, value(expected, name, form), value(got, name, form)))
        .filter(|(_, expected, got)| !expected.is_empty() || !got.is_empty())
        .collect();
    // Without a body (HEAD, 304), it is all that is known of one. Else it's the body that is compared, however it was sent.
    if expected.size == 0
        && got.size == 0
        && let Some((left, right)) = both(expected, got, "content-length")
    {
        pairs.push(("content-length", left.into(), right.into()));
    }
    pairs
}

fn both<'a>(expected: &'a Answer, got: &'a Answer, name: &str) -> Option<(&'a str, &'a str)> {
    Some((expected.header(name)?, got.header(name)?))
}

/// The values of all lines of a header, one on each line.
fn value(answer: &Answer, name: &str, form: Form) -> String {
    let values = answer.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    match form {
        Form::Plain => values.collect::<Vec<_>>().join("\n"),
        Form::List => sorted(values.flat_map(|value| value.split(',')).map(|item| item.trim().to_ascii_lowercase())).join(", "),
        Form::Location => values.map(without_own_origin).collect::<Vec<_>>().join("\n"),
        Form::Cookies => sorted(values.map(cookie)).join("\n"),
        Form::Challenge => values.map(challenge).collect::<Vec<_>>().join("\n"),
        Form::EntityTag => {
            values.map(|value| if value.starts_with("W/") { "weak" } else { "strong" }).collect::<Vec<_>>().join("\n")
        }
    }
}

fn sorted(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.filter(|item| !item.is_empty()).collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// The target is asked as [`HOST_NAME`], and may know itself by its own name and another port.
fn without_own_origin(value: &str) -> Cow<'_, str> {
    let Ok(url) = url::Url::parse(value) else { return Cow::Borrowed(value) };
    let is_own =
        matches!(url.scheme(), "http" | "https") && matches!(url.host_str(), Some(HOST_NAME | "127.0.0.1" | "0.0.0.0" | "[::1]"));
    if is_own { Cow::Owned(url[url::Position::BeforePath..].to_owned()) } else { Cow::Borrowed(value) }
}

/// Such as `session; httponly; path=/`.
fn cookie(value: &str) -> String {
    let mut parts = value.split(';');
    let name = parts.next().unwrap_or_default().split('=').next().unwrap_or_default().trim();
    let attributes = sorted(parts.map(|part| {
        let part = part.trim().to_ascii_lowercase();
        let expires = ["expires=", "max-age="].into_iter().find(|attribute| part.starts_with(attribute));
        expires.map_or(part, |attribute| attribute.trim_end_matches('=').to_owned())
    }));
    std::iter::once(name.to_owned()).chain(attributes).collect::<Vec<_>>().join("; ")
}

/// Such as `digest realm="x"`.
fn challenge(value: &str) -> String {
    let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    let realm = parameters.split(',').map(str::trim).find(|part| part.to_ascii_lowercase().starts_with("realm="));
    format!("{} {}", scheme.to_ascii_lowercase(), realm.unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &str)], size: u64) -> Answer {
        Answer {
            status: 200,
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            digest: String::new(),
            size,
            truncated: None,
            decoded_digest: None,
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn values_in_the_form_that_is_compared() {
        for (name, values, form) in [
            ("Content-Type", &["text/html; charset=utf-8"][..], "text/html; charset=utf-8"),
            ("vary", &["Accept, Cookie", "accept"], "accept, cookie"),
            ("allow", &["POST,GET, "], "get, post"),
            ("location", &["http://localhost:8080/a?b#c"], "/a?b#c"),
            ("location", &["https://127.0.0.1"], "/"),
            ("location", &["http://[::1]:1/a"], "/a"),
            ("location", &["http://example.com:8080/a"], "http://example.com:8080/a"),
            ("location", &["ftp://localhost/a"], "ftp://localhost/a"),
            ("location", &["/a", "b"], "/a\nb"),
            (
                "set-cookie",
                &["b=2; Path=/; HttpOnly; Expires=Fri, 31 Jan 2025 00:00:00 GMT", "a=1;max-age=5;Secure"],
                "a; max-age; secure\nb; expires; httponly; path=/",
            ),
            ("set-cookie", &["=; ;"], ""),
            ("www-authenticate", &["Digest nonce=\"x\", realm=\"a b\", opaque=\"y\""], "digest realm=\"a b\""),
            ("www-authenticate", &["Negotiate"], "negotiate"),
            ("etag", &["\"5f-61\""], "strong"),
            ("etag", &["W/\"5f-61\""], "weak"),
            ("date", &["Fri, 31 Jan 2025 00:00:00 GMT"], ""),
            ("x-request-id", &["1"], ""),
        ] {
            let headers: Vec<(&str, &str)> = values.iter().map(|value| (name, *value)).collect();
            let found = pairs(&answer(&headers, 0), &answer(&[], 0));
            assert_eq!(found.first().map_or("", |(_, value, _)| value), form, "{name} {values:?}");
        }
    }

    #[test]
    fn a_length_counts_where_there_is_no_body() {
        let (left, right) = ([("content-length", "5")], [("content-length", "6")]);
        assert_eq!(pairs(&answer(&left, 0), &answer(&right, 0)), [("content-length", "5".into(), "6".into())]);
        assert_eq!(pairs(&answer(&left, 5), &answer(&right, 6)), []);
        assert_eq!(pairs(&answer(&left, 0), &answer(&[("transfer-encoding", "chunked")], 0)), []);
    }

    #[test]
    fn the_list_is_sorted_and_documented() {
        assert!(HEADERS.is_sorted_by_key(|(name, _)| *name));
        let document = include_str!("../../../docs/verify.md");
        for (name, _) in HEADERS {
            assert!(document.contains(&format!("`{name}`")), "docs/verify.md lacks `{name}`");
        }
    }
}
