//! Small real servers on the loopback, and doubles of the caller's side, for the tests of this crate.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::connect::{Connect, Phases, Stream};
use crate::run::HttpOptions;

/// A server that counts its connections and notes the requests it reads; it ends with the value.
pub(crate) struct Server {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// One connection of a [`Server`].
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves each connection by `serve`.
    pub(crate) async fn start<F>(serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
        let (counter, notes) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                peers.spawn(serve(Peer { stream, requests: Arc::clone(&notes) }));
            }
        });
        Self { port, connections, requests, task }
    }

    /// Reads a request and answers these bytes.
    pub(crate) async fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move { peer.answer(&*answer).await }
        })
        .await
    }

    /// The same over TLS; a client that doesn't speak it sees what rustls says then.
    pub(crate) async fn answering_over_tls(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (answer, acceptor) = (Arc::new(answer), acceptor());
        Self::start(move |peer| {
            let (answer, acceptor) = (Arc::clone(&answer), acceptor.clone());
            async move {
                if let Some(mut peer) = peer.accept_tls(acceptor).await {
                    peer.answer(&*answer).await;
                }
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests that were read, each as it came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("lock").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn accept_tls(self, acceptor: TlsAcceptor) -> Option<Peer<tokio_rustls::server::TlsStream<TcpStream>>> {
        let stream = acceptor.accept(self.stream).await.ok()?;
        Some(Peer { stream, requests: self.requests })
    }
}

impl<S: Stream> Peer<S> {
    /// Reads one request, with its body; `None` at the end of the stream.
    pub(crate) async fn read_request(&mut self) -> Option<String> {
        let mut bytes = vec![];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().expect("length")) {
                    self.requests.lock().expect("lock").push(text.clone());
                    return Some(text);
                }
            }
            if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn answer(&mut self, answer: impl Fn(&str) -> Vec<u8>) {
        if let Some(request) = self.read_request().await {
            self.send(&answer(&request)).await;
        }
    }

    /// Writes what the client still wants to read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Holds the connection until the client closes it.
    pub(crate) async fn wait_for_close(&mut self) {
        while self.stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
    }
}

/// With a certificate that is self-signed, long expired, and made out to another name.
pub(crate) fn acceptor() -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::new(vec!["production.example".into()]).expect("name");
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.self_signed(&key).expect("certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("config");
    TlsAcceptor::from(Arc::new(config))
}

/// The bytes of an answer.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The bytes of a page.
pub(crate) fn page(html: &str) -> Vec<u8> {
    reply("200 OK", "content-type: text/html; charset=utf-8\r\n", html)
}

/// The path of a request.
pub(crate) fn path(request: &str) -> &str {
    request.split(' ').nth(1).expect("request line")
}

/// No patience: for tests in which nothing is waited for in vain.
pub(crate) fn options() -> HttpOptions {
    HttpOptions { retry_wait: Duration::from_millis(1), ..HttpOptions::default() }
}

/// Connects to the loopback.
pub(crate) struct Loopback;

impl Connect for Loopback {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(("127.0.0.1", port)).await?) as Box<dyn Stream>) })
    }
}

/// Fails the first `failures` times in the way of `fail`, then connects to the loopback.
pub(crate) struct Door {
    pub(crate) failures: usize,
    pub(crate) fail: fn() -> io::Result<Box<dyn Stream>>,
    pub(crate) attempts: AtomicUsize,
}

impl Door {
    pub(crate) fn new(failures: usize, fail: fn() -> io::Result<Box<dyn Stream>>) -> Self {
        Self { failures, fail, attempts: AtomicUsize::new(0) }
    }

    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }
}

impl Connect for Door {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        if self.attempts.fetch_add(1, Ordering::SeqCst) < self.failures {
            return Box::pin(std::future::ready((self.fail)()));
        }
        Loopback.connect(port)
    }
}

/// Notes what it is told.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("lock").clone()
    }
}

impl Phases for Heard {
    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.lock().expect("lock").push(name.to_owned()) })
    }
}
