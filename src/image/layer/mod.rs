//! Layers as they lie in archives, layouts and registries: compressed or not, and below that a tar archive.
//!
//! All of it is somebody else's bytes. The readers here turn any stream into entries, zeros and errors, and never into
//! more memory than their constants say; what the entries do to a tree is the business of [`super::store`].

pub mod compression;
#[cfg(test)]
pub(crate) mod fixture;
mod numbers;
mod pax;
mod sparse;
pub mod tar;

/// Whether an extended attribute belongs to the image: overlay's book-keeping and the label that an engine gives to a
/// container's files do not, and who sets them from an archive takes orders from it on how to mount it.
#[must_use]
pub fn is_xattr_of_image(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") && name != b"security.selinux"
}
