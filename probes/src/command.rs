//! One request that the user asks for, and the text it is written as.
//!
//! The grammar is docker-slim's `[crawl:][protocol:][METHOD:]/path`. What stands before the first `/` are the words, the
//! rest is the path, which may therefore hold colons. Left out: the protocol is found by asking, the method is GET, the
//! path is `/`. As there, words may be empty (`:/path`) and are not case sensitive.

use std::fmt;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// The methods that are spoken.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
/// Longest resource: what common servers accept in a request line.
pub(crate) const MAX_RESOURCE: usize = 8 << 10;

/// A protocol that is spoken, over HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Protocol {
    /// As in a URL.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One request that the user asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpCommand {
    /// In capitals.
    pub method: String,
    /// Path and query; begins with `/`.
    pub resource: String,
    /// `None`: what the port is found to speak.
    pub protocol: Option<Protocol>,
    /// Added to (and, where the name is the same, instead of) our own, in this order.
    pub headers: Vec<(String, String)>,
    /// What is sent with it.
    pub body: Option<Bytes>,
    /// For basic authentication.
    pub username: Option<String>,
    /// For basic authentication.
    pub password: Option<String>,
    /// Only on this port; `None`: on each port that is probed.
    pub port: Option<u16>,
    /// Follow the links of the answer.
    pub crawl: bool,
}

/// The headers, body and credentials may be secret: a log has their sizes.
impl fmt::Debug for HttpCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCommand")
            .field("method", &self.method)
            .field("resource", &self.resource)
            .field("protocol", &self.protocol)
            .field("port", &self.port)
            .field("crawl", &self.crawl)
            .field("headers", &self.headers.len())
            .field("body", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// What is wrong with a command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No text.
    #[error("an HTTP probe is empty: write `[crawl:][http:|https:][METHOD:]/path`")]
    Empty,
    /// A word before the path that is none, or not where it belongs.
    #[error("`{word}` in the HTTP probe `{text}` is no {expected}: write `[crawl:][http:|https:][METHOD:]/path`")]
    Word {
        /// The whole command.
        text: String,
        /// The bad part.
        word: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// A whole URL.
    #[error(
        "the HTTP probe `{0}` is a URL: give protocol and path, such as `https:/login`, and the port with `--http-probe-ports`"
    )]
    Url(String),
    /// A protocol that others speak.
    #[error("the protocol `{0}` is not spoken: use `http` or `https`")]
    Protocol(String),
    /// A method that is none, or that has no meaning here.
    #[error("the method `{0}` is not spoken: use one of GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")]
    Method(String),
    /// A path that cannot be in a request line.
    #[error("the resource `{resource}` {reason}")]
    Resource {
        /// The bad part.
        resource: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// A header that cannot be sent.
    #[error("the header `{header}` {reason}")]
    Header {
        /// The name, or all of it where no name could be found.
        header: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// A port that is none.
    #[error("the port {0} is not between 1 and 65535")]
    Port(i64),
    /// A user name that basic authentication cannot carry.
    #[error("the username `{0}` holds a colon, which basic authentication cannot carry")]
    Username(String),
}

impl HttpCommand {
    /// `GET resource`, on every port, without crawling.
    #[must_use]
    pub fn get(resource: impl Into<String>) -> Self {
        Self {
            method: "GET".into(),
            resource: resource.into(),
            protocol: None,
            headers: vec![],
            body: None,
            username: None,
            password: None,
            port: None,
            crawl: false,
        }
    }

    /// What is asked where the user names no command: `GET /`, with crawling.
    #[must_use]
    pub fn front_page() -> Self {
        Self { crawl: true, ..Self::get("/") }
    }

    /// Reads `[crawl:][protocol:][METHOD:]/path`.
    ///
    /// # Errors
    /// [`CommandError`], with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        if text.is_empty() {
            return Err(CommandError::Empty);
        }
        let (words, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        if !path.is_empty() && !words.is_empty() && !words.ends_with(':') {
            return Err(word_error(text, words, "part that ends in `:`"));
        }
        let mut command = Self::get("/");
        let mut expected = Expected::Crawl;
        for word in words.split(':').filter(|word| !word.is_empty()) {
            expected = command.set_word(text, word, expected)?;
        }
        if path.starts_with("//") && command.protocol.is_some() {
            return Err(CommandError::Url(text.into()));
        }
        if !path.is_empty() {
            command.resource = valid_resource(path)?;
        }
        Ok(command)
    }

    /// Takes one word, and says what may follow.
    fn set_word(&mut self, text: &str, word: &str, expected: Expected) -> Result<Expected, CommandError> {
        if expected <= Expected::Crawl && word.eq_ignore_ascii_case("crawl") {
            self.crawl = true;
            return Ok(Expected::Protocol);
        }
        if expected <= Expected::Protocol {
            match valid_protocol(word) {
                Ok(protocol) => {
                    self.protocol = Some(protocol);
                    return Ok(Expected::Method);
                }
                Err(error) if OTHER_PROTOCOLS.iter().any(|other| word.eq_ignore_ascii_case(other)) => return Err(error),
                Err(_) => {}
            }
        }
        if expected <= Expected::Method
            && let Ok(method) = valid_method(word)
        {
            self.method = method;
            return Ok(Expected::Path);
        }
        Err(word_error(text, word, expected.words()))
    }

    /// The request for a page that this command's answer links to: what identifies the user goes along, what describes a
    /// body doesn't.
    pub(crate) fn page(&self, resource: String, protocol: Protocol) -> Self {
        Self {
            protocol: Some(protocol),
            headers: self.headers.iter().filter(|(name, _)| !starts_with_content(name)).cloned().collect(),
            username: self.username.clone(),
            password: self.password.clone(),
            ..Self::get(resource)
        }
    }
}

/// What may come next, in the order of the grammar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    Crawl,
    Protocol,
    Method,
    Path,
}

impl Expected {
    fn words(self) -> &'static str {
        match self {
            Self::Crawl => "`crawl`, protocol (`http`, `https`), method or path (it begins with `/`)",
            Self::Protocol => "protocol (`http`, `https`), method or path (it begins with `/`)",
            Self::Method => "method or path (it begins with `/`)",
            Self::Path => "path (it begins with `/`)",
        }
    }
}

/// Protocols of docker-slim's grammar that aren't spoken here: a better answer than that they are no method.
const OTHER_PROTOCOLS: [&str; 6] = ["http2", "http2c", "http3", "ws", "wss", "fastcgi"];

fn word_error(text: &str, word: &str, expected: &'static str) -> CommandError {
    CommandError::Word { text: text.into(), word: word.trim_end_matches(':').into(), expected }
}

fn starts_with_content(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"))
}

/// Reads a protocol's name.
pub(crate) fn valid_protocol(name: &str) -> Result<Protocol, CommandError> {
    match name.to_ascii_lowercase().as_str() {
        "http" => Ok(Protocol::Http),
        "https" => Ok(Protocol::Https),
        _ => Err(CommandError::Protocol(name.into())),
    }
}

/// Reads a method's name; gives it in capitals.
pub(crate) fn valid_method(name: &str) -> Result<String, CommandError> {
    let method = name.to_ascii_uppercase();
    if METHODS.contains(&method.as_str()) { Ok(method) } else { Err(CommandError::Method(name.into())) }
}

/// Checks that a resource can stand in a request line as it is.
pub(crate) fn valid_resource(resource: &str) -> Result<String, CommandError> {
    let error = |reason| Err(CommandError::Resource { resource: resource.chars().take(100).collect(), reason });
    if !resource.starts_with('/') {
        return error("does not begin with `/`");
    }
    if resource.len() > MAX_RESOURCE {
        return error("is longer than 8,192 bytes");
    }
    if resource.contains('#') {
        return error("has a fragment, which is never sent: leave out `#` and what follows, or write it as `%23`");
    }
    // The http crate lets UTF-8 pass; servers do not agree on what it means.
    if !resource.bytes().all(|byte| byte.is_ascii_graphic()) || resource.parse::<PathAndQuery>().is_err() {
        return error("has a character that must be percent-encoded, such as `%20` for a space");
    }
    Ok(resource.into())
}

/// Reads `Name: value`.
pub(crate) fn valid_header(header: &str) -> Result<(String, String), CommandError> {
    let error = |header: &str, reason| Err(CommandError::Header { header: header.chars().take(100).collect(), reason });
    let Some((name, value)) = header.split_once(':') else {
        return error(header, "has no colon: write `Name: value`");
    };
    let (name, value) = (name.trim(), value.trim());
    let Ok(parsed) = HeaderName::try_from(name) else {
        return error(name, "has a name that no header can have");
    };
    if HeaderValue::from_str(value).is_err() {
        return error(name, "has a control character in its value");
    }
    if parsed == http::header::CONTENT_LENGTH || parsed == http::header::TRANSFER_ENCODING {
        return error(name, "follows from the body: leave it out");
    }
    Ok((name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let get = HttpCommand::get;
        let crawl = |command| HttpCommand { crawl: true, ..command };
        let over = |protocol, command| HttpCommand { protocol: Some(protocol), ..command };
        let with = |method: &str, command| HttpCommand { method: method.into(), ..command };
        for (text, expected) in [
            ("/", get("/")),
            ("/a:b:c", get("/a:b:c")),
            ("/crawl:GET:/x?q=http://y/", get("/crawl:GET:/x?q=http://y/")),
            ("//double", get("//double")),
            ("crawl:/docs", crawl(get("/docs"))),
            ("crawl", crawl(get("/"))),
            ("CRAWL:", crawl(get("/"))),
            ("http:/a", over(Protocol::Http, get("/a"))),
            ("HTTPS:/a", over(Protocol::Https, get("/a"))),
            ("post:/a", with("POST", get("/a"))),
            (":/a", get("/a")),
            ("crawl::HEAD:/a", crawl(with("HEAD", get("/a")))),
            ("crawl:https:PATCH:/a:1", crawl(over(Protocol::Https, with("PATCH", get("/a:1"))))),
            ("https:", over(Protocol::Https, get("/"))),
        ] {
            assert_eq!(HttpCommand::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        assert_eq!(HttpCommand::front_page(), crawl(get("/")));
    }

    #[test]
    fn errors_name_the_bad_part() {
        for (text, message) in [
            ("", "an HTTP probe is empty: write `[crawl:][http:|https:][METHOD:]/path`"),
            ("http2:GET:/", "the protocol `http2` is not spoken: use `http` or `https`"),
            ("crawl:ws:/", "the protocol `ws` is not spoken: use `http` or `https`"),
            (
                "about",
                "`about` in the HTTP probe `about` is no `crawl`, protocol (`http`, `https`), method or path (it begins with `/`): \
                 write `[crawl:][http:|https:][METHOD:]/path`",
            ),
            (
                "GET:https:/x",
                "`https` in the HTTP probe `GET:https:/x` is no path (it begins with `/`): write `[crawl:][http:|https:][METHOD:]/path`",
            ),
            (
                "http:crawl:/x",
                "`crawl` in the HTTP probe `http:crawl:/x` is no method or path (it begins with `/`): \
                 write `[crawl:][http:|https:][METHOD:]/path`",
            ),
            (
                "GET/x",
                "`GET` in the HTTP probe `GET/x` is no part that ends in `:`: write `[crawl:][http:|https:][METHOD:]/path`",
            ),
            (
                "http://localhost:80/x",
                "the HTTP probe `http://localhost:80/x` is a URL: give protocol and path, such as `https:/login`, and the port with \
                 `--http-probe-ports`",
            ),
            ("/a b", "the resource `/a b` has a character that must be percent-encoded, such as `%20` for a space"),
            ("/é", "the resource `/é` has a character that must be percent-encoded, such as `%20` for a space"),
            (
                "/a#b",
                "the resource `/a#b` has a fragment, which is never sent: leave out `#` and what follows, or write it as `%23`",
            ),
        ] {
            assert_eq!(HttpCommand::parse(text).expect_err(text).to_string(), message);
        }
        let long = HttpCommand::parse(&format!("/{}", "a".repeat(MAX_RESOURCE))).expect_err("too long").to_string();
        assert!(long.ends_with("is longer than 8,192 bytes") && long.len() < 200, "{long}");
    }

    #[test]
    fn headers() {
        assert_eq!(valid_header("X-Trace:a: b "), Ok(("X-Trace".into(), "a: b".into())));
        assert_eq!(valid_header("Empty:"), Ok(("Empty".into(), String::new())));
        for (header, message) in [
            ("no colon", "the header `no colon` has no colon: write `Name: value`"),
            ("a b: c", "the header `a b` has a name that no header can have"),
            (": c", "the header `` has a name that no header can have"),
            ("a: b\r\nInjected: c", "the header `a` has a control character in its value"),
            ("content-length: 3", "the header `content-length` follows from the body: leave it out"),
        ] {
            assert_eq!(valid_header(header).expect_err(header).to_string(), message);
        }
    }

    #[test]
    fn a_page_carries_the_user_but_no_body() {
        let command = HttpCommand {
            method: "POST".into(),
            headers: vec![
                ("Cookie".into(), "a=b".into()),
                ("Content-Type".into(), "text/plain".into()),
                ("é".into(), String::new()),
            ],
            body: Some("x".into()),
            username: Some("me".into()),
            port: Some(1),
            ..HttpCommand::front_page()
        };
        let page = command.page("/next".into(), Protocol::Https);
        assert_eq!((page.method.as_str(), page.resource.as_str(), page.body, page.crawl), ("GET", "/next", None, false));
        assert_eq!(page.headers.len(), 2);
        assert_eq!(page.username.as_deref(), Some("me"));
    }

    #[test]
    fn debug_hides_secrets() {
        let command = HttpCommand { password: Some("hunter2".into()), body: Some("hunter2".into()), ..HttpCommand::get("/") };
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}
