//! Extended attributes of a name in the working directory.
//!
//! The kernel reads attributes of links, devices and FIFOs only by path (the calls that take a directory are from 2024),
//! and a path relative to the working directory is the one that has no length limit and needs no `/proc`.

use std::ffi::{CStr, c_char};

use nix::errno::Errno;

use crate::wire::Xattr;

/// The kernel's limits: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const LIMIT: usize = 65_536;
/// The most that is sent of one entry, so that it fits a frame with room to spare.
const TOTAL: usize = 512 << 10;

/// Reads attributes; holds the buffers.
pub(super) struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { names: vec![0; LIMIT], value: vec![0; LIMIT] }
    }

    /// The attributes that belong to the image, sorted by name; nothing where the file system has none.
    pub(super) fn read(&mut self, path: &CStr) -> Result<Vec<Xattr>, Errno> {
        let length = match list(path, &mut self.names) {
            Ok(length) => length,
            Err(Errno::ENOTSUP) => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        let mut xattrs = vec![];
        let mut total = 0;
        for name in self.names[..length].split_inclusive(|&byte| byte == 0) {
            let Some(name) = CStr::from_bytes_with_nul(name).ok().filter(|name| is_of_image(name.to_bytes())) else { continue };
            let length = get(path, name, &mut self.value)?;
            let value = &self.value[..length];
            total += name.count_bytes() + value.len();
            if total > TOTAL {
                return Err(Errno::E2BIG);
            }
            xattrs.push(Xattr { name: name.to_bytes().to_vec(), value: value.to_vec() });
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }
}

/// Overlay's book-keeping and the label that the engine gives to a container's files are not the image's.
fn is_of_image(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.") && name != b"security.selinux"
}

#[allow(unsafe_code, reason = "neither std nor nix has extended attributes")]
fn list(path: &CStr, names: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `path` ends in NUL, and the kernel writes at most `names.len()` bytes to `names`.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast::<c_char>(), names.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

#[allow(unsafe_code, reason = "neither std nor nix has extended attributes")]
fn get(path: &CStr, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: both strings end in NUL, and the kernel writes at most `value.len()` bytes to `value`.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_keeping_is_not_of_the_image() {
        for (name, kept) in [
            ("security.capability", true),
            ("security.selinux", false),
            ("system.posix_acl_access", true),
            ("trusted.overlay.opaque", false),
            ("trusted.other", true),
            ("user.overlay.origin", false),
            ("user.overlays", true),
        ] {
            assert_eq!(is_of_image(name.as_bytes()), kept, "{name}");
        }
    }
}
