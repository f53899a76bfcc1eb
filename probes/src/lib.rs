//! Probes: what `slim` asks of a running program, so that it shows which files it needs, and what the program answers.
//!
//! There are two kinds:
//!
//! * **HTTP probes** are requests to the ports on which the program listens. [`probe_http`] makes them: each
//!   [`HttpCommand`] on each port, redirects and (where the command asks for it) links followed, and gives an
//!   [`HttpRecord`] for each request. The commands come from `--http-probe-cmd` ([`HttpCommand::parse`]) and from
//!   `--http-probe-cmd-file` ([`read_command_file`]), both in docker-slim's formats; with none, `GET /` is crawled.
//! * **Command probes** are programs that are executed beside it. [`ExecCommand::parse`] reads `--exec` and decides between
//!   direct execution and the container's shell; executing is the caller's part, [`ExecRecord`] what it notes.
//!
//! This crate knows nothing of containers. A connection is what the caller's [`Connect`] gives; before anything is sent, the
//! caller's [`Phases`] hears of it, so that what a sensor sees can be laid at a probe's door. Answers are data: whether a
//! server error, or no answer at all, is an error, is for the caller to decide ([`HttpResult::warnings`] has the words).
//!
//! ```no_run
//! use std::io;
//!
//! use slim_probes::{BoxFuture, Connect, HttpCommand, HttpOptions, Phases, Stream, probe_http};
//!
//! struct Loopback;
//!
//! impl Connect for Loopback {
//!     fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
//!         Box::pin(async move {
//!             let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
//!             Ok(Box::new(stream) as Box<dyn Stream>)
//!         })
//!     }
//! }
//!
//! struct Silent;
//!
//! impl Phases for Silent {
//!     fn begin<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, ()> {
//!         Box::pin(async {})
//!     }
//! }
//!
//! # async fn example() -> Result<(), slim_probes::CommandError> {
//! let commands = [HttpCommand::parse("crawl:/docs")?, HttpCommand::parse("POST:/login")?];
//! let result = probe_http(&HttpOptions::default(), &commands, &[8080], &Loopback, &Silent).await;
//! assert!(result.answered() > 0 && result.server_errors() == 0);
//! # Ok(())
//! # }
//! ```
//!
//! Whether two answers to one probe are the same, [`compare`] tells.
//!
//! # What an HTTP probe promises
//!
//! * A request is sent again only if no byte of it was sent (`--http-probe-retry-count`, `--http-probe-retry-wait`).
//! * Where the protocol isn't given, the port decides: HTTP in the clear is tried, then TLS where the answer hints at it. Any
//!   certificate is accepted. HTTP/1.1 is spoken; HTTP/2 and WebSocket are not.
//! * A crawl stays on the origin, sends only GET, leaves out `/logout` and `/delete`, and visits the same pages in the same
//!   order each time. Its bounds, and which of them were reached, are in [`CrawlOptions`] and [`Crawl`].
//! * The target is not trusted: the time of a request, headers, bodies ([`MAX_BODY`]), links and what is kept in memory
//!   ([`MAX_KEPT`] of a body) are bounded.

/// Parsers that nobody else needs, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// As a file of requests, and as a page that links to others.
    pub fn command_file_and_page(bytes: &[u8]) {
        crate::command_file::fuzz(bytes);
        let page = url::Url::parse("http://localhost:80/a/b").expect("a URL");
        for link in crate::links::of_html(bytes, &page) {
            assert!(link.starts_with('/'), "{link}");
        }
    }
}

mod command;
mod command_file;
pub mod compare;
mod connect;
mod crawl;
mod exchange;
mod exclude;
mod exec;
mod http;
mod links;
mod record;
mod run;
mod tally;
#[cfg(test)]
mod testing;
mod tls;

pub use futures_util::future::BoxFuture;

pub use self::command::{CommandError, HttpCommand, Protocol};
pub use self::command_file::{CommandFileError, read_command_file, read_probe_script};
pub use self::connect::{Connect, Phases, Stream};
pub use self::crawl::{Crawl, CrawlOptions, Cut};
pub use self::exchange::{MAX_BODY, MAX_KEPT};
pub use self::exec::{
    ExecCommand, ExecError, ExecRecord, Output, OutputCollector, SHELL_CHARACTERS, SHELL_WORD_STARTS, SHELL_WORDS,
};
pub use self::record::{Answer, Crawled, HttpRecord, Outcome, Truncated};
pub use self::run::{HttpOptions, HttpResult, PortResult, Speaks, probe_http, replay_http};
