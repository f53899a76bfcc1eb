//! `docker://REF`: images in registries, read and written without a daemon.
//!
//! The manifest, the indexes that lead to it and the configuration are fetched at once: they are small, and say all about
//! the image. Layers are promises (see [`blob`]): each is fetched when it is unpacked.
//!
//! ```text
//! REF -> host, repository            place      may it be plain HTTP?
//!     -> requests                    session    log in (challenge, account), again after a pause, bounded answers
//!     -> manifest, configuration     pull       the same choice as in a layout (transport::oci)
//!     -> layers                      blob       resumed where they are cut
//! ```
//!
//! Whatever comes from a registry is hostile: documents are as long as their descriptors say and no longer than
//! [`MAX_DOCUMENT`](super::MAX_DOCUMENT), layers as long as theirs, all of it is verified by digest, and words are made harmless before
//! they are shown. There is a crate for the protocol (`oci-client`), but it keeps whole answers in memory however long they are, and goes
//! wherever it is led to; so the few requests that there are, are made here.

mod account;
mod blob;
pub mod challenge;
pub mod place;
mod pull;
pub mod session;
pub mod words;

pub use self::account::{Access, Credentials};
pub use self::blob::Tell;
pub use self::pull::open;
use crate::image::layer::compression::LayerError;

/// What goes wrong with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody there, or not for long.
    #[error("the registry `{host}` cannot be reached: {reason}{hint}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The system's reason, or the protocol's.
        reason: String,
        /// What may help.
        hint: &'static str,
    },
    /// An account is missing, or may not.
    #[error("the registry refuses `{place}`{words}: {hint}")]
    Unauthorized {
        /// Registry and repository.
        place: String,
        /// The registry's words, after a colon.
        words: String,
        /// What to do.
        hint: String,
    },
    /// Not there.
    #[error("{what} is not in `{place}`")]
    Missing {
        /// What was asked for.
        what: String,
        /// Registry and repository.
        place: String,
    },
    /// Anything else that it says or does.
    #[error("the registry `{registry}` {how}{words}")]
    Refused {
        /// What it is called.
        registry: String,
        /// What it does.
        how: String,
        /// Its words, after a colon.
        words: String,
    },
    /// More than it should be.
    #[error("{what} is longer than the {limit} bytes that it may have: the registry is damaged, or hostile")]
    TooLong {
        /// What was asked for.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// Its layers.
    #[error(transparent)]
    Layers(LayerError),
    /// We cannot speak TLS.
    #[error(
        "TLS cannot be spoken: {0}; certificates of authorities are in the package `ca-certificates`, or in the file that \
         `SSL_CERT_FILE` names"
    )]
    Tls(String),
    /// Our own disk.
    #[error("a downloaded blob cannot be stored: {0}")]
    Disk(std::io::Error),
    /// Of ours.
    #[error("a fault of slim: {0}")]
    Fault(String),
}
