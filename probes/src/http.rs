//! Requests to the ports of one target: when a connection is tried again, and which protocol is spoken.
//!
//! **Retries.** What is asked twice is done twice, so a request is sent again only if no byte of it was sent: the
//! connection was refused, or closed before the first byte.
//!
//! **Which protocol?** Where neither the user nor an earlier request has told, HTTP in the clear is tried. A TLS server
//! shows itself by an alert, by an answer 400 that says so (the libraries that can tell), or by hanging up without a
//! word (those built on OpenSSL). Then TLS is tried; only if its handshake succeeds is the request sent again, which is no
//! second time: behind a TLS server the first one cannot have been understood by anybody. What is found is remembered for the port.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;

use crate::command::{HttpCommand, Protocol};
use crate::connect::{Connect, Stream, is_closed_door};
use crate::exchange::{Attempt, HOST_NAME, deadline_after, exchange, request};
use crate::record::HttpRecord;
use crate::run::HttpOptions;
use crate::tls;

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

impl<'a> Client<'a> {
    pub(crate) fn new(connect: &'a dyn Connect, options: &'a HttpOptions) -> Self {
        Self { connect, options, tls: tls::connector(), ports: Mutex::default() }
    }

    /// Makes the request of `command` on `port`.
    pub(crate) async fn request(&self, port: u16, command: &HttpCommand) -> HttpRecord {
        let known = command.protocol.or(self.memory(port).protocol);
        let mut protocol = known.unwrap_or(Protocol::Http);
        let (mut attempt, attempts, mut time) = self.attempt_with_retries(port, protocol, command).await;
        if known.is_none() && !matches!(attempt, Attempt::NotSent { .. }) {
            if attempt.hints_at_tls() {
                let started = Instant::now();
                let over_tls = self.attempt(port, Protocol::Https, command).await;
                if !matches!(over_tls, Attempt::NotSent { .. }) {
                    (protocol, attempt, time) = (Protocol::Https, over_tls, started.elapsed());
                }
            }
            self.remember(port, |memory| memory.protocol = Some(protocol));
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
            request: Some(Box::new(command.clone())),
        }
    }

    /// The last attempt, their number, and the time that the last one took.
    async fn attempt_with_retries(&self, port: u16, protocol: Protocol, command: &HttpCommand) -> (Attempt, u32, Duration) {
        let retries = if self.memory(port).refused { 0 } else { self.options.retry_count };
        let mut retried = 0;
        loop {
            let started = Instant::now();
            let attempt = self.attempt(port, protocol, command).await;
            let closed = matches!(attempt, Attempt::NotSent { closed: true, .. });
            if !closed || retried == retries {
                self.remember(port, |memory| memory.refused = closed);
                return (attempt, retried.saturating_add(1), started.elapsed());
            }
            retried += 1;
            sleep(self.options.retry_wait).await;
        }
    }

    /// One attempt, within the time for one.
    async fn attempt(&self, port: u16, protocol: Protocol, command: &HttpCommand) -> Attempt {
        let deadline = deadline_after(self.options.timeout);
        let request = match request(port, protocol, command) {
            Ok(request) => request,
            Err(error) => return Attempt::NotSent { reason: format!("the request cannot be made: {error}"), closed: false },
        };
        match timeout_at(deadline, self.open(port, protocol)).await {
            Ok(Ok(stream)) => exchange(stream, request, deadline).await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::testing::{Door, Loopback, Server, acceptor, options, reply};

    fn failed(record: &HttpRecord) -> &str {
        match &record.outcome {
            Outcome::Failed(reason) => reason,
            other => panic!("expected a failure, not {other:?}"),
        }
    }

    fn status(record: &HttpRecord) -> u16 {
        record.answer().unwrap_or_else(|| panic!("expected an answer, not {:?}", record.outcome)).status
    }

    fn refuse() -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    /// A connection whose other end is closed before anything can be written.
    fn hang_up() -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(tokio::io::duplex(64).0))
    }

    fn time_out() -> io::Result<Box<dyn Stream>> {
        Err(io::ErrorKind::TimedOut.into())
    }

    #[tokio::test]
    async fn what_was_not_sent_is_tried_again() {
        let server = Server::answering(|_| reply("200 OK", "", "")).await;
        for fail in [refuse, hang_up] {
            let (door, options) = (Door::new(3, fail), options());
            let record = Client::new(&door, &options).request(server.port, &HttpCommand::get("/")).await;
            assert_eq!((status(&record), record.attempts, door.attempts()), (200, 4, 4));
        }
        assert_eq!(server.connections(), 2);
    }

    #[tokio::test]
    async fn retries_end_and_are_not_waited_for_twice() {
        let door = Door::new(usize::MAX, refuse);
        let options = HttpOptions { retry_count: 2, ..options() };
        let client = Client::new(&door, &options);
        let record = client.request(1, &HttpCommand::get("/")).await;
        assert_eq!((record.attempts, door.attempts()), (3, 3));
        assert_eq!(failed(&record), "cannot connect: connection refused");
        assert_eq!(client.request(1, &HttpCommand::get("/")).await.attempts, 1);
        assert_eq!(client.request(2, &HttpCommand::get("/")).await.attempts, 3);
    }

    #[tokio::test]
    async fn only_a_closed_door_is_tried_again() {
        let (door, options) = (Door::new(usize::MAX, time_out), options());
        let record = Client::new(&door, &options).request(1, &HttpCommand::get("/")).await;
        assert_eq!((failed(&record), door.attempts()), ("cannot connect: timed out", 1));
        let command = HttpCommand { method: "NO METHOD".into(), ..HttpCommand::get("/") };
        let record = Client::new(&Loopback, &options).request(1, &command).await;
        assert_eq!(failed(&record), "the request cannot be made: invalid HTTP method");
    }

    #[tokio::test]
    async fn a_request_that_was_sent_is_not_sent_again() {
        let server = Server::start(|mut peer| async move { _ = peer.read_request().await }).await;
        let options = HttpOptions { timeout: Duration::from_millis(500), ..options() };
        let client = Client::new(&Loopback, &options);
        let over_http = HttpCommand { protocol: Some(Protocol::Http), ..HttpCommand::get("/") };
        let record = client.request(server.port, &over_http).await;
        assert_eq!(failed(&record), "the connection was closed without an answer");
        assert_eq!((record.attempts, server.connections(), server.requests().len()), (1, 1, 1));
        // Where it could be TLS, once its handshake is tried, but the request is not repeated.
        for (connections, requests) in [(3, 2), (4, 3)] {
            let record = client.request(server.port, &HttpCommand::get("/")).await;
            assert_eq!(failed(&record), "the connection was closed without an answer");
            assert_eq!((record.protocol, record.attempts), (Protocol::Http, 1));
            assert_eq!((server.connections(), server.requests().len()), (connections, requests));
        }
    }

    #[tokio::test]
    async fn any_certificate_is_accepted() {
        let server = Server::answering_over_tls(|_| reply("200 OK", "", "hello")).await;
        let options = options();
        let command = HttpCommand { protocol: Some(Protocol::Https), ..HttpCommand::get("/") };
        let record = Client::new(&Loopback, &options).request(server.port, &command).await;
        assert_eq!((status(&record), record.protocol), (200, Protocol::Https));
        assert_eq!(server.connections(), 1);
        assert!(server.requests()[0].contains(&format!("\r\nhost: localhost:{}\r\n", server.port)));
    }

    #[tokio::test]
    async fn a_tls_server_may_just_hang_up() {
        let server = Server::answering_over_tls(|_| b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()).await;
        let options = options();
        let record = Client::new(&Loopback, &options).request(server.port, &HttpCommand::get("/")).await;
        let answer = record.answer().expect("answer");
        assert_eq!((answer.size, answer.truncated), (13, None));
    }

    /// Asks twice, and expects that the first request finds out about TLS and the second one knows.
    async fn expect_tls_is_found(server: Server) {
        let options = options();
        let client = Client::new(&Loopback, &options);
        for connections in [2, 3] {
            let record = client.request(server.port, &HttpCommand::get("/")).await;
            assert_eq!((status(&record), record.protocol, record.attempts), (200, Protocol::Https, 1));
            assert_eq!(server.connections(), connections);
        }
    }

    #[tokio::test]
    async fn tls_is_found_by_an_alert() {
        expect_tls_is_found(Server::answering_over_tls(|_| reply("200 OK", "", "")).await).await;
    }

    /// A server that treats requests in the clear in a way of its own.
    async fn tls_server_that_answers_in_the_clear(answer: &'static [u8]) -> Server {
        let acceptor = acceptor();
        Server::start(move |mut peer| {
            let acceptor = acceptor.clone();
            async move {
                let mut first = [0];
                if peer.stream.peek(&mut first).await.unwrap_or(0) == 1 && first != [22] {
                    let _ = peer.read_request().await;
                    peer.send(answer).await;
                } else if let Some(mut peer) = peer.accept_tls(acceptor).await {
                    peer.answer(|_| reply("200 OK", "", "")).await;
                }
            }
        })
        .await
    }

    #[tokio::test]
    async fn tls_is_found_by_silence_and_by_words() {
        for answer in [
            &b""[..],
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 64\r\n\r\n<center>The plain HTTP request was sent to HTTPS port</center>\r\n",
        ] {
            expect_tls_is_found(tls_server_that_answers_in_the_clear(answer).await).await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_only_talks_of_tls_stands() {
        let server = Server::answering(|_| reply("400 Bad Request", "", "sent an HTTP request to an HTTPS server")).await;
        let options = HttpOptions { timeout: Duration::from_millis(500), ..options() };
        let record = Client::new(&Loopback, &options).request(server.port, &HttpCommand::get("/")).await;
        assert_eq!((status(&record), record.protocol, server.connections()), (400, Protocol::Http, 2));
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn https_to_a_plain_server_fails() {
        let server = Server::answering(|_| reply("200 OK", "", "")).await;
        let options = HttpOptions { timeout: Duration::from_millis(500), ..options() };
        let command = HttpCommand { protocol: Some(Protocol::Https), ..HttpCommand::get("/") };
        let record = Client::new(&Loopback, &options).request(server.port, &command).await;
        assert_eq!(failed(&record), "no connection in time");
    }
}
