//! What runs the containers of a build: a daemon or slim itself, and one container of it, whichever it is.
//!
//! There are two engines and there will not be many: so these are enums, not traits. What is particular to an engine stays in
//! its modules.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use slim_probes::Stream;
use slim_sensor::stub::{Engine as Rules, StubSpec};
use slim_sensor::{container, relay};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::io::StreamReader;

use super::container::{Container, Exec, Input, Parts};
use super::docker::Engine;
use super::embedded::{Embedded, ObservedContainer};
use super::error::EngineError;
use super::inject::Program;
use super::signal::signal_number;
use crate::hidden;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Runtime<'a> {
    /// A daemon, and our program for its containers.
    Docker(&'a Engine, &'a Program),
    /// slim itself.
    Embedded(&'a Embedded),
}

impl Runtime<'_> {
    /// By whose rules its containers go.
    #[must_use]
    pub fn rules(&self) -> Rules {
        match self {
            Runtime::Docker(engine, _) => engine.rules(),
            Runtime::Embedded(_) => Rules::Docker(container::SECCOMP_PROFILE.to_owned()),
        }
    }

    /// Where in containers what is slim's own lies; a path that no image can have where nothing does.
    #[must_use]
    pub fn own_prefix(&self) -> &str {
        match self {
            Runtime::Docker(_, program) => &program.inside,
            Runtime::Embedded(_) => "/\0",
        }
    }
}

/// A container with an observed program.
#[derive(Debug, Clone)]
pub enum Contained {
    /// Of a daemon, with the path of our program in it.
    Docker(Box<Container>, String),
    /// Of slim's own.
    Embedded(Arc<ObservedContainer>),
}

/// The end of a command in a container, or of its monitor.
#[derive(Debug, Clone)]
pub enum Ending {
    /// Of a daemon.
    Docker(Exec),
    /// Of slim's own.
    Embedded(watch::Receiver<Option<i64>>),
}

impl Ending {
    /// Its exit code; `None` while it runs.
    ///
    /// # Errors
    /// [`EngineError::Refused`]
    pub async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        match self {
            Ending::Docker(exec) => exec.exit_code().await,
            Ending::Embedded(code) => Ok(*code.borrow()),
        }
    }
}

impl Contained {
    /// Waits until its first process has ended; the exit code.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn wait(&self) -> Result<i64, EngineError> {
        match self {
            Contained::Docker(container, _) => container.wait().await,
            Contained::Embedded(container) => Ok(container.wait().await?),
        }
    }

    /// Sends a signal to its first process. It may have ended before.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn kill(&self, signal: &str) -> Result<(), EngineError> {
        match self {
            Contained::Docker(container, _) => container.kill(signal).await,
            Contained::Embedded(container) => {
                let unknown =
                    || EngineError::Refused { action: format!("send {signal}"), reason: "there is no such signal".into() };
                Ok(container.kill(signal_number(signal).ok_or_else(unknown)?).await?)
            }
        }
    }

    /// The last `lines` of its log.
    pub async fn log(&self, lines: usize) -> Vec<String> {
        match self {
            Contained::Docker(container, _) => container.log(lines).await,
            Contained::Embedded(container) => container.log(lines),
        }
    }

    /// Starts a command in it, observed: what it puts out, its input, its end.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn exec(
        &self,
        stub: &StubSpec,
        command: &[String],
        with_input: bool,
    ) -> Result<(Parts, Input, Ending), EngineError> {
        match self {
            Contained::Docker(container, program) => {
                let mut words = vec![program.clone(), hidden::STUB.to_owned(), hidden::to_json(stub)];
                words.extend(command.iter().cloned());
                let (parts, input, exec) = container.exec_parts(words, with_input).await?;
                Ok((parts, input, Ending::Docker(exec)))
            }
            Contained::Embedded(container) => {
                let (parts, input, code) = container.exec(stub, command, with_input).await?;
                Ok((parts, input, Ending::Embedded(code)))
            }
        }
    }

    /// Connects from inside its network to the first of `addresses` that accepts.
    ///
    /// # Errors
    /// As connecting has them.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> io::Result<Box<dyn Stream>> {
        let (container, program) = match self {
            Contained::Embedded(container) => return Ok(Box::new(container.connect(addresses).await?)),
            Contained::Docker(container, program) => (container, program),
        };
        // There a relay connects, and its standard streams are the connection.
        let mut words = vec![program.clone(), hidden::RELAY.to_owned()];
        words.extend(addresses.iter().map(ToString::to_string));
        let (attached, _) = container.exec(words, true).await.map_err(io::Error::other)?;
        let mut output = StreamReader::new(attached.output);
        match output.read_u8().await {
            Ok(relay::CONNECTED) => Ok(Box::new(tokio::io::join(output, attached.input))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, attached.complaints.text()))
            }
            Ok(_) => Err(io::Error::other("the relay cannot be understood")),
            Err(error) => Err(error),
        }
    }

    /// Removes it, running or not, while the caller goes on where that takes long. A failed removal is told by the final
    /// clean-up, which tries again.
    pub async fn remove(self) {
        match self {
            Contained::Docker(container, _) => drop(tokio::spawn(async move { container.remove().await })),
            Contained::Embedded(container) => container.remove().await,
        }
    }
}
