//! One request, from the connection to the last byte of the answer.
//!
//! Each request has its own connection (`Connection: close`), so that no answer depends on an earlier one and the
//! target's workers are free again. The head goes by the name `localhost`: it may stand in a `Host` header as in TLS's
//! server name (an address may not), and the lists of allowed hosts that frameworks start with let it pass.
//!
//! **Retries.** What is asked twice is done twice, so a request is sent again only if no byte of it was sent: the
//! connection was refused, or closed before the first byte. A tap between hyper and the connection counts them.
//!
//! **Which protocol?** Where neither the user nor an earlier request has told, HTTP in the clear is tried. A TLS server
//! shows itself by an alert, by an answer 400 that says so (the libraries that can tell), or by hanging up without a
//! word (those built on OpenSSL). Then TLS is tried; only if its handshake succeeds is the request sent again, which is no
//! second time: behind a TLS server the first one cannot have been understood by anybody.
//!
//! **Hostile answers.** Headers, body and time are bounded. The whole body (up to [`MAX_BODY`]) is counted and digested, its
//! first [`MAX_KEPT`] bytes are kept.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use crate::command::{HttpCommand, Protocol};
use crate::connect::{Connect, Stream, is_closed_door};
use crate::record::{Answer, HttpRecord, Outcome, Truncated};
use crate::run::HttpOptions;
use crate::tally::Tally;
use crate::tls;

/// The name that the target is addressed by.
pub(crate) const HOST_NAME: &str = "localhost";
/// Most bytes of a body that are read.
pub const MAX_BODY: u64 = 64 << 20;
/// Most bytes of a body that are kept in memory.
pub const MAX_KEPT: usize = 1 << 20;
/// How much of an answer is looked at to tell what speaks there.
const MAX_SEEN: usize = 64;
/// Most headers of an answer. hyper's own bound is 100; large applications send more than that.
const MAX_HEADERS: usize = 256;
/// What servers say in an answer 400 to a request that should have come over TLS: Go, nginx, Apache, Tomcat.
const SPEAKS_TLS: [&str; 4] = [
    "sent an http request to an https server",
    "plain http request was sent to https port",
    "speaking plain http to an ssl-enabled server port",
    "this combination of host and port requires tls",
];

/// Makes requests to the ports of one target, and remembers what it learnt about them.
pub(crate) struct Client<'a> {
    connect: &'a dyn Connect,
    options: &'a HttpOptions,
    tls: TlsConnector,
    ports: Mutex<HashMap<u16, PortMemory>>,
}

/// What earlier requests told of a port.
#[derive(Clone, Copy, Default)]
struct PortMemory {
    protocol: Option<Protocol>,
    /// All retries were in vain: another round of waiting would be, too.
    refused: bool,
}

/// What came of one attempt.
enum Attempt {
    /// An answer in HTTP.
    Answered(Answer),
    /// These first bytes, which aren't HTTP.
    NotHttp(Vec<u8>),
    /// No byte of the request was sent; `closed`: as the door was closed.
    NotSent { reason: String, closed: bool },
    /// No answer; `mute`: the connection was closed without a byte.
    NoAnswer { reason: String, mute: bool },
}

impl<'a> Client<'a> {
    pub(crate) fn new(connect: &'a dyn Connect, options: &'a HttpOptions) -> Self {
        Self { connect, options, tls: tls::connector(), ports: Mutex::default() }
    }

    /// Makes the request of `command` on `port`.
    pub(crate) async fn request(&self, port: u16, command: &HttpCommand) -> HttpRecord {
        let known = command.protocol.or(self.memory(port).protocol);
        let mut protocol = known.unwrap_or(Protocol::Http);
        let (mut attempt, attempts, mut time) = self.attempt_with_retries(port, protocol, command).await;
        if known.is_none() {
            if attempt.hints_at_tls() {
                let started = Instant::now();
                let over_tls = self.attempt(port, Protocol::Https, command).await;
                if !matches!(over_tls, Attempt::NotSent { .. }) {
                    (protocol, attempt, time) = (Protocol::Https, over_tls, started.elapsed());
                }
            }
            if protocol == Protocol::Https || matches!(attempt, Attempt::Answered(_)) {
                self.remember(port, |memory| memory.protocol = Some(protocol));
            }
        }
        let outcome = attempt.outcome();
        tracing::debug!(?command, port, attempts, ?time, %outcome, "probed");
        HttpRecord {
            method: command.method.clone(),
            resource: command.resource.clone(),
            port,
            protocol,
            attempts,
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            crawled: None,
            outcome,
        }
    }

    /// The last attempt, their number, and the time that the last one took.
    async fn attempt_with_retries(&self, port: u16, protocol: Protocol, command: &HttpCommand) -> (Attempt, u32, Duration) {
        let retries = if self.memory(port).refused { 0 } else { self.options.retry_count };
        for number in 1.. {
            let started = Instant::now();
            let attempt = self.attempt(port, protocol, command).await;
            let closed = matches!(attempt, Attempt::NotSent { closed: true, .. });
            if !closed || number > retries {
                self.remember(port, |memory| memory.refused = closed);
                return (attempt, number, started.elapsed());
            }
            sleep(self.options.retry_wait).await;
        }
        unreachable!("the number of retries is at most the largest number")
    }

    /// One attempt, within the time for one.
    async fn attempt(&self, port: u16, protocol: Protocol, command: &HttpCommand) -> Attempt {
        let deadline = Instant::now() + self.options.timeout;
        let request = match request(port, protocol, command) {
            Ok(request) => request,
            Err(error) => return Attempt::NotSent { reason: format!("the request cannot be made: {error}"), closed: false },
        };
        match timeout_at(deadline, self.open(port, protocol)).await {
            Ok(Ok(stream)) => talk(stream, request, deadline).await,
            Ok(Err(not_sent)) => not_sent,
            Err(_) => Attempt::NotSent { reason: "no connection in time".into(), closed: false },
        }
    }

    /// A connection over which a request can be sent.
    async fn open(&self, port: u16, protocol: Protocol) -> Result<Box<dyn Stream>, Attempt> {
        let not_sent = |reason, error: &io::Error| Attempt::NotSent { reason, closed: is_closed_door(error) };
        let stream = self.connect.connect(port).await;
        let stream = stream.map_err(|error| not_sent(format!("cannot connect: {error}"), &error))?;
        if protocol == Protocol::Http {
            return Ok(stream);
        }
        let name = ServerName::try_from(HOST_NAME).expect("a constant host name");
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|error| not_sent(format!("the TLS handshake failed: {error}"), &error))?;
        Ok(Box::new(stream))
    }

    fn memory(&self, port: u16) -> PortMemory {
        self.ports().get(&port).copied().unwrap_or_default()
    }

    fn remember(&self, port: u16, change: impl FnOnce(&mut PortMemory)) {
        change(self.ports().entry(port).or_default());
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<u16, PortMemory>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    fn outcome(self) -> Outcome {
        match self {
            Self::Answered(answer) => Outcome::Answered(answer),
            Self::NotHttp(seen) => Outcome::NotHttp(seen.escape_ascii().to_string()),
            Self::NotSent { reason, .. } | Self::NoAnswer { reason, .. } => Outcome::Failed(reason),
        }
    }

    /// Whether this is what TLS servers answer to a request in the clear.
    fn hints_at_tls(&self) -> bool {
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
fn request(port: u16, protocol: Protocol, command: &HttpCommand) -> Result<Request<Full<Bytes>>, http::Error> {
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
    let mut request = Request::new(Full::new(Bytes::from(command.body.clone().unwrap_or_default())));
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

/// Sends the request and reads the answer.
async fn talk(stream: Box<dyn Stream>, request: Request<Full<Bytes>>, deadline: Instant) -> Attempt {
    let seen = Arc::new(Seen::default());
    let stream = TokioIo::new(Tap { stream, seen: Arc::clone(&seen) });
    let (mut sender, connection) = match http1::Builder::new().max_headers(MAX_HEADERS).handshake(stream).await {
        Ok(pair) => pair,
        Err(error) => return seen.without_answer(&error),
    };
    let exchange = pin!(async {
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
    match select(exchange, pin!(connection)).await {
        Either::Left((attempt, _)) => attempt,
        Either::Right((_, exchange)) => exchange.await,
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
    Answer { status: head.status.as_u16(), headers, digest, size, truncated, body: kept.into() }
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
