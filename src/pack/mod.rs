//! From a plan to an image: one layer with what is kept, in the archive that a daemon loads ([`load`]), or compressed and
//! in files ([`store`], then [`files`]) or in a registry ([`push`]).
//!
//! Everything is streamed and nothing depends on when or where it runs: the same tree, plan and contents give the same
//! bytes, hence the same image id. The size of the layer is known before any content is read, because contents are as
//! long as the tree says or the build fails.

pub mod archive;
pub mod compression;
pub mod differ;
pub mod files;
mod gzip;
mod header;
pub mod layer;
mod layout;
pub mod load;
pub mod push;
pub mod store;

use oci_spec::image::{Digest, Sha256Digest};
use sha2::{Digest as _, Sha256};

use crate::escape::escape;
use crate::image::digest::digits;

/// Why an image cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The plan was made for another image, or by hand.
    #[error("the plan keeps `{0}`, which the image does not have: make a new plan for this image")]
    NotInImage(String),
    /// The plan's entries are not in the order of their paths.
    #[error("`{0}` is not in its place in the plan, or is there twice: sort the entries by path")]
    NotSorted(String),
    /// The plan keeps something without the directory that it is in.
    #[error("the plan keeps `{0}` but not the directory that it is in: add the directory")]
    NoParent(String),
    /// The layer format has no way to say it.
    #[error("`{path}` cannot be in a layer: {reason}; leave it out with `--exclude-pattern`")]
    NotRepresentable {
        /// The entry.
        path: String,
        /// What stands in the way.
        reason: String,
    },
    /// More bytes than a layer can hold.
    #[error("what the plan keeps is too large for one layer")]
    TooLarge,
    /// A content is not as long as the tree says.
    #[error(
        "`{path}` has {expected} bytes in the image, but {given} came: the image is damaged, or was changed while it was read"
    )]
    Content {
        /// The file.
        path: String,
        /// In the tree.
        expected: u64,
        /// At least so many came, where it is more than expected.
        given: u64,
    },
    /// A content was given after the last file.
    #[error("more contents came than the layer has files")]
    NoFile,
    /// The image cannot be written.
    #[error("cannot write the image: {0}")]
    Write(#[from] std::io::Error),
}

impl PackError {
    fn not_representable(path: &[u8], reason: String) -> PackError {
        PackError::NotRepresentable { path: escape(path), reason }
    }
}

/// The digest of `bytes`, `sha256:...`; of a configuration's, it is the image's id.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    digest(Sha256::new_with_prefix(bytes))
}

/// The digest of what was hashed, `sha256:...`.
fn digest(hasher: Sha256) -> Digest {
    let digest: Sha256Digest = digits(hasher).parse().expect("a hash has 64 hexadecimal digits");
    digest.into()
}
