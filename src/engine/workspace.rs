//! A run's directory for temporary files, and the removal of those that killed runs left.
//!
//! The directory holds a copy of our executable, so one that stays behind weighs many megabytes. Each holds a file that
//! its run keeps locked: the kernel gives up the lock with the process, however that ends, so who can take it knows that the
//! run is over. Unlike a process id in the name this holds across pid namespaces, boots and recycled numbers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Names begin so.
const PREFIX: &str = "slim-";
/// Characters behind the prefix: nobody guesses them.
const RANDOM: usize = 20;
/// The locked file.
const LOCK: &str = "lock";

/// See the module. Removed when it goes out of scope.
#[derive(Debug)]
pub struct Workspace {
    directory: tempfile::TempDir,
    /// Locked as long as it is open.
    _lock: File,
}

impl Workspace {
    /// Makes one in `parent`.
    ///
    /// # Errors
    /// The system's.
    pub fn create(parent: &Path) -> io::Result<Workspace> {
        let directory = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM).tempdir_in(parent)?;
        // It gets its name when it is locked: until then no other run takes it for a dead run's.
        let (unlocked, locked) = (directory.path().join("unlocked"), directory.path().join(LOCK));
        let lock = File::create_new(&unlocked)?;
        lock.lock()?;
        fs::rename(&unlocked, &locked)?;
        Ok(Workspace { directory, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the directories in `parent` whose runs are over; how many. What cannot be removed is not ours to remove.
    pub fn sweep(parent: &Path) -> usize {
        let Ok(entries) = fs::read_dir(parent) else { return 0 };
        entries.flatten().filter(|entry| is_name(&entry.file_name())).filter(|entry| remove_dead(&entry.path()).is_ok()).count()
    }
}

fn is_name(name: &std::ffi::OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn remove_dead(directory: &PathBuf) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    // Only what we made: anybody may put names into a shared directory.
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let lock = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(directory.join(LOCK))?;
    lock.try_lock()?;
    fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Workspace::create(parent.path()).unwrap();
        fs::write(alive.path().join("file"), "").unwrap();
        let Workspace { directory, _lock } = Workspace::create(parent.path()).unwrap();
        let dead = directory.keep();
        fs::create_dir(dead.join("program")).unwrap();
        fs::write(dead.join("program/slim"), "").unwrap();
        drop(_lock);
        let others = ["slim-", "slim-12345678901234567890", "slim-abcdefghij.bcdefghij"].map(|name| parent.path().join(name));
        others.iter().for_each(|path| fs::create_dir(path).unwrap());
        fs::write(others[0].join(LOCK), "").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        let link = parent.path().join("slim-aaaaaaaaaaaaaaaaaaaa");
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();

        assert_eq!(Workspace::sweep(parent.path()), 1);
        assert!(!dead.exists());
        assert!(alive.path().join("file").exists() && elsewhere.path().join(LOCK).exists() && link.exists());
        assert!(others.iter().all(|path| path.exists()), "not ours, or not yet locked");

        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
        assert_eq!(Workspace::sweep(&parent.path().join("missing")), 0);
    }
}
