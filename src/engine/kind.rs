//! Which engine speaks Docker's API, and where it keeps its images.

use std::fmt;

use bollard::errors::Error as Api;

use super::answer::{Answered, Info, Version};
use super::error::{EngineError, reason};

/// The type of driver that a daemon tells whose images are in containerd.
const CONTAINERD_SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// Who speaks the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Docker's daemon, or what doesn't say that it is something else.
    Docker,
    /// Podman's service.
    Podman,
}

impl Kind {
    pub(super) fn of(version: &Version) -> Kind {
        let mut components = version.components.iter().flatten();
        if components.any(|component| component.name.as_deref() == Some("Podman Engine")) { Kind::Podman } else { Kind::Docker }
    }

    /// The program with which a user speaks to it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }

    /// Names what was asked for in an error of the API.
    pub(super) fn refused(self, action: impl Into<String>) -> impl FnOnce(Api) -> EngineError {
        let action = action.into();
        move |error| {
            let reason = reason(&error);
            match error {
                _ if reason.contains("no space left on device") => EngineError::NoSpace { action, kind: self },
                Api::HyperResponseError { .. }
                | Api::HyperLegacyError { .. }
                | Api::IOError { .. }
                | Api::SocketNotFoundError(_)
                | Api::RequestTimeoutError => EngineError::Lost { action, reason },
                _ => EngineError::Refused { action, reason },
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Docker => "Docker",
            Kind::Podman => "Podman",
        })
    }
}

/// Where a daemon keeps its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStore {
    /// In its storage driver: an image's id is the digest of its configuration, and its layers are unpacked.
    Driver,
    /// In containerd: an image's id is the digest of its manifest or index, and its layers stay as they came.
    Containerd,
}

impl ImageStore {
    /// By what the daemon says of itself. Where its words aren't understood, the store is taken for a driver, as Podman's is.
    pub(super) async fn of(docker: &bollard::Docker) -> ImageStore {
        let info: Info = docker.info().await.lenient().unwrap_or_default();
        let status = info.driver_status.unwrap_or_default();
        match status.iter().flatten().any(|word| word == CONTAINERD_SNAPSHOTTER) {
            true => ImageStore::Containerd,
            false => ImageStore::Driver,
        }
    }
}
