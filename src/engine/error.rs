//! What goes wrong between slim and an engine, in words that a user can do something about.

use bollard::errors::Error as Api;

use super::embedded::RunnerError;
use super::endpoint::EndpointError;
use super::kind::Kind;

/// What goes wrong between us and the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Nobody answers.
    #[error(
        "no Docker daemon answers at `{host}`: {reason}; start it, name another with DOCKER_HOST, or check that you may use its socket"
    )]
    Unreachable {
        /// Where it was looked for.
        host: String,
        /// Why it isn't there.
        reason: String,
    },
    /// The daemon has no such image.
    #[error(
        "the daemon has no image `{name}`: check the name with `{} images`, or let slim fetch it with `--pull`",
        kind.command()
    )]
    NoImage {
        /// As it was asked for.
        name: String,
        /// Which daemon.
        kind: Kind,
    },
    /// A registry refuses or lacks the image.
    #[error("cannot pull `{image}`: {reason}")]
    Pull {
        /// Which.
        image: String,
        /// The registry's words.
        reason: String,
    },
    /// The daemon has no room.
    #[error(
        "the engine has no disk space left while it was to {action}: free some (`{} system prune`), then try again",
        kind.command()
    )]
    NoSpace {
        /// What was asked.
        action: String,
        /// Which daemon.
        kind: Kind,
    },
    /// The daemon went away.
    #[error("the connection to the engine broke while it was to {action}: {reason}; see whether the daemon still runs")]
    Lost {
        /// What was asked.
        action: String,
        /// Why it broke.
        reason: String,
    },
    /// A container of slim's own.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The daemon that is meant cannot be found out.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Any other refusal.
    #[error("the engine cannot {action}: {reason}")]
    Refused {
        /// What was asked.
        action: String,
        /// Its words.
        reason: String,
    },
}

/// The words of an error: the daemon's own where there are any.
pub(super) fn reason(error: &Api) -> String {
    match error {
        Api::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Api::DockerStreamError { error } => error.trim().to_owned(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}

/// The status code of the daemon's refusal.
pub(super) fn status(error: &Api) -> Option<u16> {
    match error {
        Api::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
