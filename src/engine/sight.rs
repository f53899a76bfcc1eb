//! Whether a daemon sees our files, found out without asking it.
//!
//! Docker's daemon is asked: it refuses to mount what is not there. Podman makes a directory there instead, which would stay
//! on its host. So for Podman its process is looked at: who listens on the socket (or, with socket activation, who opened it)
//! must have the same file at the same path. In doubt it doesn't see us: uploading always works.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Whether the process that listens at `host` has the file that we have at `path`, which is absolute.
pub(super) fn listener_sees(host: &str, path: &Path) -> bool {
    let Some(socket) = host.strip_prefix("unix://") else { return false };
    let Ok(stream) = UnixStream::connect(socket) else { return false };
    let Ok(peer) = getsockopt(&stream, PeerCredentials) else { return false };
    // A process of another namespace has the number 0, and so no folder in ours.
    let theirs = Path::new("/proc").join(peer.pid().to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path));
    match (std::fs::metadata(path), std::fs::metadata(theirs)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_listens_here_sees_what_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = (folder.path().join("socket"), folder.path().join("file"));
        let host = format!("unix://{}", socket.display());
        std::fs::write(&file, "").unwrap();
        assert!(!listener_sees(&host, &file), "nobody listens");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(listener_sees(&host, &file));
        assert!(!listener_sees(&host, &folder.path().join("missing")));
        assert!(!listener_sees("tcp://127.0.0.1:1", &file));
    }
}
