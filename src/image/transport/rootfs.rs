//! `rootfs:DIRECTORY`: a directory as an image of one layer, read in place.
//!
//! It is what the packer does in a container, so the packer does it, in a thread of this process: it never leaves the
//! directory, follows no link, and skips sockets and what is mounted below. The thread has a working directory of its
//! own, as the packer changes it. Nothing is unmounted, and nothing is taken for an engine's.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use slim_sensor::packer;

use crate::image::packer::{Packer, PackerError};

/// Begins to read the directory; `own` are absolute paths of ours in it, which are left out.
///
/// # Errors
/// [`PackerError`]
pub fn open(directory: &Path, own: &[PathBuf]) -> Result<Packer, PackerError> {
    let root = directory.canonicalize()?;
    let (ours, theirs) = UnixStream::pair()?;
    let own = own.iter().filter_map(|path| path.canonicalize().ok()).filter_map(|path| below(&root, &path)).collect();
    let options = packer::Options {
        root,
        own,
        // In the end of times: nothing is newer, so nothing is taken for an engine's.
        container_created: (i64::MAX, 0),
        image_created: 0,
        volumes: vec![],
        unmount: false,
    };
    let serve = move || {
        let input = theirs.try_clone()?;
        unshare(CloneFlags::CLONE_FS)?;
        // Its reader sees the end of the stream.
        packer::run(options, input, theirs).map_err(io::Error::other)
    };
    std::thread::Builder::new().name("packer".to_owned()).spawn(serve)?;
    Packer::attach(Box::new(ours))
}

/// A path as the directory's own tree has it.
fn below(root: &Path, path: &Path) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let rest = path.strip_prefix(root).ok()?;
    Some([b"/", rest.as_os_str().as_bytes()].concat())
}
