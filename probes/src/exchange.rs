//! One request over one connection, and what comes back.
//!
//! Each request has its own connection (`Connection: close`), so that no answer depends on an earlier one and the
//! target's workers are free again. The target is addressed as `localhost`: a name that may stand in a `Host` header as well
//! as in TLS's server name (an address may not), and that the lists of allowed hosts of common frameworks let pass.
//!
//! hyper's errors don't tell what a prober must know: whether the request has left, and whether what answers speaks HTTP.
//! So a tap between hyper and the connection notes whether a byte was sent, and the first bytes that came.
//!
//! The answer may be hostile: headers, body and time are bounded. The whole body (up to [`MAX_BODY`]) is counted and
//! digested, its first [`MAX_KEPT`] bytes are kept.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::command::{HttpCommand, Protocol};
use crate::connect::Stream;
use crate::record::{Answer, Outcome, Truncated};
use crate::tally::Tally;

/// The name that the target is addressed by.
pub(crate) const HOST_NAME: &str = "localhost";
/// Most bytes of a body that are read.
pub const MAX_BODY: u64 = 64 << 20;
/// Most bytes of a body that are kept in memory.
pub const MAX_KEPT: usize = 1 << 20;
/// How much of an answer is looked at to tell what speaks there.
const MAX_SEEN: usize = 64;
/// Most headers of an answer. hyper's own bound is 100, which one generous application can exceed with cookies alone.
const MAX_HEADERS: usize = 256;
/// Most bytes of an answer's head; all of it is kept in the record.
const MAX_HEAD: usize = 64 << 10;
/// What servers say in an answer 400 to a request that should have come over TLS: Go, nginx, Apache, Tomcat.
const SPEAKS_TLS: [&str; 4] = [
    "sent an http request to an https server",
    "plain http request was sent to https port",
    "speaking plain http to an ssl-enabled server port",
    "this combination of host and port requires tls",
];

/// What came of one attempt.
pub(crate) enum Attempt {
    /// An answer in HTTP.
    Answered(Answer),
    /// These first bytes, which aren't HTTP.
    NotHttp(Vec<u8>),
    /// No byte of the request was sent; `closed`: as the door was closed.
    NotSent { reason: String, closed: bool },
    /// No answer; `mute`: the connection was closed without a byte.
    NoAnswer { reason: String, mute: bool },
}

impl Attempt {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Answered(answer) => Outcome::Answered(answer),
            Self::NotHttp(seen) => Outcome::NotHttp(seen.escape_ascii().to_string()),
            Self::NotSent { reason, .. } | Self::NoAnswer { reason, .. } => Outcome::Failed(reason),
        }
    }

    /// Whether this is what TLS servers answer to a request in the clear.
    pub(crate) fn hints_at_tls(&self) -> bool {
        match self {
            Self::Answered(answer) => {
                let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(4096)]).to_ascii_lowercase();
                answer.status == 400 && SPEAKS_TLS.iter().any(|words| text.contains(words))
            }
            // A record of the type alert, of any version.
            Self::NotHttp(seen) => seen.starts_with(&[21, 3]),
            Self::NoAnswer { mute, .. } => *mute,
            Self::NotSent { .. } => false,
        }
    }
}

/// The request on the wire.
pub(crate) fn request(port: u16, protocol: Protocol, command: &HttpCommand) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::try_from(authority(port, protocol))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("slim/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if command.username.is_some() || command.password.is_some() {
        let pair = [command.username.as_deref(), command.password.as_deref()].map(Option::unwrap_or_default).join(":");
        let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        headers.insert(AUTHORIZATION, HeaderValue::try_from(value)?);
    }
    for (name, _) in &command.headers {
        headers.remove(name);
    }
    for (name, value) in &command.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
    }
    let mut request = Request::new(Full::new(command.body.clone().unwrap_or_default()));
    *request.method_mut() = Method::from_bytes(command.method.as_bytes())?;
    *request.uri_mut() = Uri::from(PathAndQuery::try_from(command.resource.as_str())?);
    *request.headers_mut() = headers;
    Ok(request)
}

/// The host and, where it isn't the protocol's own, the port.
fn authority(port: u16, protocol: Protocol) -> String {
    match (protocol, port) {
        (Protocol::Http, 80) | (Protocol::Https, 443) => HOST_NAME.into(),
        _ => format!("{HOST_NAME}:{port}"),
    }
}

/// When `time` from now is over; a time beyond any clock is a year.
pub(crate) fn deadline_after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

/// Sends the request and reads the answer.
pub(crate) async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, deadline: Instant) -> Attempt {
    let seen = Arc::new(Seen::default());
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD);
    let stream = TokioIo::new(Tap { stream, seen: Arc::clone(&seen) });
    let (mut sender, connection) = match builder.handshake(stream).await {
        Ok(pair) => pair,
        Err(error) => return seen.without_answer(&error),
    };
    let answered = pin!(async {
        match timeout_at(deadline, sender.send_request(request)).await {
            Ok(Ok(response)) => Attempt::Answered(read(response, deadline).await),
            Ok(Err(error)) => seen.without_answer(&error),
            Err(_) => match seen.first_bytes() {
                first if first.is_empty() || first.starts_with(b"HTTP/") => {
                    Attempt::NoAnswer { reason: "no answer in time".into(), mute: false }
                }
                first => Attempt::NotHttp(first),
            },
        }
    });
    // The connection does the work of both directions. It may well end first: what it has read is still to be taken.
    match select(answered, pin!(connection)).await {
        Either::Left((attempt, _)) => attempt,
        Either::Right((_, answered)) => answered.await,
    }
}

/// Reads the body, within the bounds of length and time.
async fn read(response: Response<Incoming>, deadline: Instant) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut tally = Tally::new(MAX_KEPT);
    let truncated = loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => break Some(Truncated::TimedOut),
            Ok(None) => break None,
            Ok(Some(Err(_))) => break Some(Truncated::Broken),
            Ok(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else { continue };
                let room = MAX_BODY - tally.size();
                if data.len() as u64 > room {
                    tally.push(&data[..usize::try_from(room).unwrap_or(data.len())]);
                    break Some(Truncated::TooLong);
                }
                tally.push(data);
            }
        }
    };
    let size = tally.size();
    let (digest, kept) = tally.finish();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().into(), text(value.as_bytes()))).collect();
    Answer { status: head.status.as_u16(), headers, digest, size, truncated, decoded_digest: None, body: kept.into() }
}

/// What passed through a [`Tap`].
#[derive(Default)]
struct Seen {
    sent: AtomicBool,
    first: Mutex<Vec<u8>>,
}

impl Seen {
    fn first_bytes(&self) -> Vec<u8> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What hyper's error comes down to, given what was sent and seen.
    fn without_answer(&self, error: &hyper::Error) -> Attempt {
        let first = self.first_bytes();
        if first.is_empty() {
            if !self.sent.load(Ordering::Relaxed) {
                return Attempt::NotSent { reason: format!("the request was not sent: {error}"), closed: !error.is_user() };
            }
            return Attempt::NoAnswer { reason: "the connection was closed without an answer".into(), mute: true };
        }
        if b"HTTP/".starts_with(&first[..first.len().min(5)]) {
            return Attempt::NoAnswer { reason: format!("the answer is broken: {error}"), mute: false };
        }
        Attempt::NotHttp(first)
    }
}

/// A connection that notes whether anything was sent, and the first bytes that came.
struct Tap {
    stream: Box<dyn Stream>,
    seen: Arc<Seen>,
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            let mut first = self.seen.first.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_SEEN - first.len();
            first.extend_from_slice(&read[..read.len().min(room)]);
        }
        match polled {
            // A TLS server that just hangs up. Whether the answer is whole is for its headers to say.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.seen.sent.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::testing::{Server, reply};

    async fn ask_within(server: &Server, command: &HttpCommand, time: Duration) -> Outcome {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connected");
        let request = request(server.port, Protocol::Http, command).expect("request");
        exchange(Box::new(stream), request, Instant::now() + time).await.outcome()
    }

    async fn ask(server: &Server, command: &HttpCommand) -> Outcome {
        ask_within(server, command, Duration::from_secs(30)).await
    }

    async fn answer(server: &Server, command: &HttpCommand) -> Answer {
        match ask(server, command).await {
            Outcome::Answered(answer) => answer,
            other => panic!("expected an answer, not {other:?}"),
        }
    }

    /// The outcome of asking a server that answers these bytes to any request.
    async fn outcome_of(bytes: &'static [u8]) -> Outcome {
        ask(&Server::answering(|_| bytes.to_vec()).await, &HttpCommand::get("/")).await
    }

    #[tokio::test]
    async fn a_request_and_its_answer() {
        let server = Server::answering(|_| {
            b"HTTP/1.1 201 Created\r\nSet-Cookie: a=1\r\nX-Odd: \xff\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\nabc".to_vec()
        })
        .await;
        let answer = answer(&server, &HttpCommand::get("/a:b?c=%20d//")).await;
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            server.requests(),
            [format!(
                "GET /a:b?c=%20d// HTTP/1.1\r\nhost: localhost:{}\r\nuser-agent: slim/{version}\r\naccept: */*\r\nconnection: close\r\n\r\n",
                server.port
            )]
        );
        assert_eq!(answer.status, 201);
        let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-odd", "\u{fffd}"), ("content-length", "3")];
        assert_eq!(answer.headers, headers.map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(answer.digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((answer.size, answer.truncated, &answer.body[..]), (3, None, &b"abc"[..]));
        let mut read_back: Answer = serde_json::from_str(&serde_json::to_string(&answer).expect("json")).expect("answer");
        assert!(read_back.body.is_empty());
        read_back.body = answer.body.clone();
        assert_eq!(read_back, answer);
    }

    #[tokio::test]
    async fn headers_credentials_and_body_are_sent() {
        let server = Server::answering(|_| reply("200 OK", "", "")).await;
        let command = HttpCommand {
            method: "POST".into(),
            headers: [("User-Agent", "mine"), ("X-A", "1"), ("x-a", "2"), ("Host", "example.com")]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .into(),
            body: Some("{\"a\": 1}".into()),
            username: Some("Aladdin".into()),
            password: Some("open sesame".into()),
            ..HttpCommand::get("/")
        };
        answer(&server, &command).await;
        let requests = server.requests();
        let (head, body) = requests[0].split_once("\r\n\r\n").expect("head and body");
        let mut lines: Vec<&str> = head.lines().collect();
        lines[1..].sort_unstable();
        assert_eq!(
            lines,
            [
                "POST / HTTP/1.1",
                "accept: */*",
                "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                "connection: close",
                "content-length: 8",
                "host: example.com",
                "user-agent: mine",
                "x-a: 1",
                "x-a: 2",
            ]
        );
        assert_eq!(body, "{\"a\": 1}");
    }

    #[test]
    fn the_port_of_the_protocol_goes_without_saying() {
        assert_eq!(authority(80, Protocol::Http), "localhost");
        assert_eq!(authority(443, Protocol::Https), "localhost");
        assert_eq!(authority(443, Protocol::Http), "localhost:443");
    }

    #[tokio::test]
    async fn an_answer_to_head_has_no_body() {
        let server = Server::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec()).await;
        let answer = answer(&server, &HttpCommand { method: "HEAD".into(), ..HttpCommand::get("/") }).await;
        assert_eq!((answer.size, answer.truncated), (0, None));
    }

    #[tokio::test]
    async fn what_does_not_speak_http_is_told_apart() {
        for (bytes, seen) in [
            (
                &b"-ERR wrong number of arguments for 'get' command\r\n"[..],
                "-ERR wrong number of arguments for \\'get\\' command\\r\\n",
            ),
            (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00", "\\x00\\x00\\x06\\x04\\x00\\x00\\x00\\x00\\x00"),
            (&[b'x'; 1000], &"x".repeat(MAX_SEEN)),
            (b"ICY 200 OK\r\n\r\n", "ICY 200 OK\\r\\n\\r\\n"),
        ] {
            assert_eq!(outcome_of(bytes).await, Outcome::NotHttp(seen.into()));
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_first_is_told_apart() {
        let server = Server::start(|mut peer| async move {
            peer.send(b"220 mail ESMTP\r\n").await;
            peer.wait_for_close().await;
        })
        .await;
        assert_eq!(ask(&server, &HttpCommand::get("/")).await, Outcome::NotHttp("220 mail ESMTP\\r\\n".into()));
    }

    #[tokio::test]
    async fn broken_heads_fail() {
        for bytes in
            [&b"HTTP/1.1 2"[..], b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n"]
        {
            let outcome = outcome_of(bytes).await;
            let Outcome::Failed(reason) = &outcome else { panic!("{outcome:?}") };
            assert!(reason.starts_with("the answer is broken: "), "{reason}");
        }
    }

    #[tokio::test]
    async fn endless_heads_fail() {
        for line in [&b"X: y\r\n"[..], b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
            let server = Server::start(async move |mut peer| {
                peer.send(b"HTTP/1.1 200 OK\r\n").await;
                while peer.stream.write_all(&line.repeat(1000)).await.is_ok() {}
            })
            .await;
            let outcome = ask(&server, &HttpCommand::get("/")).await;
            let Outcome::Failed(reason) = &outcome else { panic!("{outcome:?}") };
            assert!(reason.starts_with("the answer is broken: "), "{reason}");
        }
    }

    #[tokio::test]
    async fn bodies_that_break_off_are_told() {
        for (bytes, size) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789"[..], 10),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n8\r\nab", 6),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nzz\r\n", 4),
        ] {
            let outcome = outcome_of(bytes).await;
            let Outcome::Answered(answer) = &outcome else { panic!("{outcome:?}") };
            assert_eq!((answer.size, answer.truncated), (size, Some(Truncated::Broken)));
        }
        let outcome = outcome_of(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
        let Outcome::Answered(answer) = &outcome else { panic!("{outcome:?}") };
        assert_eq!((answer.size, answer.truncated), (13, None));
    }

    #[tokio::test]
    async fn time_is_bounded() {
        let short = Duration::from_millis(200);
        let silent = Server::start(|mut peer| async move { peer.wait_for_close().await }).await;
        assert_eq!(ask_within(&silent, &HttpCommand::get("/"), short).await, Outcome::Failed("no answer in time".into()));
        let stream = Server::start(|mut peer| async move {
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            peer.wait_for_close().await;
        })
        .await;
        let outcome = ask_within(&stream, &HttpCommand::get("/"), short).await;
        let Outcome::Answered(answer) = &outcome else { panic!("{outcome:?}") };
        assert_eq!((answer.size, answer.truncated), (9, Some(Truncated::TimedOut)));
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let server = Server::start(|mut peer| async move {
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while peer.stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
        })
        .await;
        let answer = answer(&server, &HttpCommand::get("/")).await;
        assert_eq!((answer.size, answer.truncated, answer.body.len()), (MAX_BODY, Some(Truncated::TooLong), MAX_KEPT));
    }
}
