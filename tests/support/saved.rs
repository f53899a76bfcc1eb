//! An image of the daemon as an archive, with a layer store of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Image, docker};

/// See the module. Gone when dropped.
pub struct Saved {
    pub image: Image,
    folder: tempfile::TempDir,
}

impl Saved {
    pub fn new(image: Image) -> Saved {
        let folder = tempfile::tempdir().unwrap();
        docker(&["save", "-o", folder.path().join("app.tar").to_str().unwrap(), &image.name]);
        Saved { image, folder }
    }

    /// Others may read it.
    pub fn for_all(self) -> Saved {
        for (path, mode) in [(self.path(""), 0o755), (self.path("app.tar"), 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        self
    }

    /// A file beside the archive.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What slim calls it.
    pub fn source(&self) -> String {
        format!("docker-archive:{}", self.path("app.tar").display())
    }

    /// For `XDG_CACHE_HOME`.
    pub fn cache(&self) -> PathBuf {
        self.path("cache")
    }
}
