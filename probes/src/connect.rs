//! What the caller lends to the prober: a way to the target, and an ear for what is about to be asked.
//!
//! Both traits are object safe, so that one prober serves a published port, a relay through an exec stream, and the
//! doubles of a test.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to the target.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How to reach the target.
pub trait Connect: Send + Sync {
    /// Connects to the target's TCP `port`, as the target itself numbers it.
    ///
    /// # Errors
    /// Why there is no connection. What is to be tried again must be told by one of the kinds that a closed door has
    /// (`ConnectionRefused`, `ConnectionReset`, `ConnectionAborted`, `BrokenPipe`, `UnexpectedEof`). A relay that accepts
    /// before it knows of a refusal should therefore wait for the target's side: once bytes of a request are in it, a
    /// closed connection is final.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;
}

/// Who wants to know what is asked of the target, before it is asked.
pub trait Phases: Send + Sync {
    /// The next requests belong to `name`: `GET /docs`, or `crawl GET / depth 1` for a wave of pages that are fetched side
    /// by side. The first byte is sent after this has returned.
    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()>;
}

/// Whether an error says that the other side has no ear for us, now: the errors after which a new attempt makes sense.
pub(crate) fn is_closed_door(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}
