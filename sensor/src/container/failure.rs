//! What can go wrong while a container is made: which step, why, and what to do about it.

use std::fmt::Display;

use nix::errno::Errno;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {reason}{advice}")]
pub(super) struct SetUpError {
    step: String,
    reason: String,
    /// The number of the error, for those who try another way.
    pub(super) errno: Errno,
    advice: String,
}

impl SetUpError {
    pub(super) fn new(step: impl Display, errno: Errno) -> SetUpError {
        SetUpError { step: step.to_string(), reason: errno.desc().to_lowercase(), errno, advice: String::new() }
    }

    /// What the user can do.
    pub(super) fn advice(self, advice: impl Display) -> SetUpError {
        SetUpError { advice: format!("; {advice}"), ..self }
    }
}

/// Says what was tried when something failed.
pub(super) trait During<T> {
    /// `step` continues "cannot".
    fn during<D: Display>(self, step: impl FnOnce() -> D) -> Result<T, SetUpError>;
}

impl<T> During<T> for nix::Result<T> {
    fn during<D: Display>(self, step: impl FnOnce() -> D) -> Result<T, SetUpError> {
        self.map_err(|errno| SetUpError::new(step(), errno))
    }
}

impl<T> During<T> for std::io::Result<T> {
    fn during<D: Display>(self, step: impl FnOnce() -> D) -> Result<T, SetUpError> {
        self.map_err(|error| match error.raw_os_error() {
            Some(number) => SetUpError::new(step(), Errno::from_raw(number)),
            None => SetUpError { reason: error.to_string(), ..SetUpError::new(step(), Errno::EIO) },
        })
    }
}
