//! A run's directory for temporary files, and the removal of those that killed runs left.
//!
//! The directory holds a copy of our executable, so one that stays behind weighs many megabytes. Each holds a file that
//! its run keeps locked: the kernel gives up the lock with the process, however that ends, so who can take it knows that the
//! run is over. Unlike a process id in the name this holds across pid namespaces, boots and recycled numbers.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Names begin so.
const PREFIX: &str = "slim-";
/// Characters behind the prefix: nobody guesses them.
const RANDOM: usize = 20;
/// The locked file.
const LOCK: &str = "lock";
/// Ids of images that have no name yet, a line each.
const IMAGES: &str = "images";
/// More is no list of ours.
const MAX_IMAGES: u64 = 64 << 10;

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

    /// Those that are in `parent`, of this run and of others.
    #[must_use]
    pub fn present(parent: &Path) -> Vec<PathBuf> {
        ours(parent).collect()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The file in which a run notes the images that it makes, for who finds the directory without the run.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.path().join(IMAGES)
    }

    /// Removes the directories in `parent` whose runs are over. What cannot be removed is not ours to remove.
    #[must_use]
    pub fn sweep(parent: &Path) -> Swept {
        sweep(parent, true)
    }

    /// As [`Workspace::sweep`], for who has no engine: directories that note images stay for who has one, or nobody would
    /// remove those images any more. How many were removed.
    #[must_use]
    pub fn sweep_without_engine(parent: &Path) -> usize {
        sweep(parent, false).directories
    }
}

fn sweep(parent: &Path, has_engine: bool) -> Swept {
    let dead = ours(parent).filter_map(|directory| remove_dead(&directory, has_engine).ok());
    dead.fold(Swept::default(), |mut swept, images| {
        swept.directories += 1;
        swept.images.extend(images);
        swept
    })
}

/// What is called as one of ours.
fn ours(parent: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| is_name(&entry.file_name())).map(|entry| entry.path())
}

/// What dead runs left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories, which are gone now.
    pub directories: usize,
    /// Ids of images that may have no name.
    pub images: Vec<String>,
}

fn is_name(name: &std::ffi::OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Removes a dead run's directory; the images that it noted.
fn remove_dead(directory: &PathBuf, has_engine: bool) -> io::Result<Vec<String>> {
    let metadata = fs::symlink_metadata(directory)?;
    // Only what we made: anybody may put names into a shared directory.
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let lock = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(directory.join(LOCK))?;
    lock.try_lock()?;
    let mut images = String::new();
    let noted = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(directory.join(IMAGES));
    // A line that was cut by the run's end is no id.
    let _ = noted.and_then(|file| file.take(MAX_IMAGES).read_to_string(&mut images));
    if !has_engine && !images.is_empty() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    fs::remove_dir_all(directory)?;
    Ok(images.lines().filter(|line| is_id(line)).map(str::to_owned).collect())
}

fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
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
        let id = format!("sha256:{}", "0a".repeat(32));
        fs::write(dead.join(IMAGES), format!("{id}\nnginx:latest\nsha256:0a")).unwrap();
        drop(_lock);
        let others = ["slim-", "slim-12345678901234567890", "slim-abcdefghij.bcdefghij"].map(|name| parent.path().join(name));
        others.iter().for_each(|path| fs::create_dir(path).unwrap());
        fs::write(others[0].join(LOCK), "").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        let link = parent.path().join("slim-aaaaaaaaaaaaaaaaaaaa");
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();

        let mut present = Workspace::present(parent.path());
        present.sort();
        let mut of_such_names = vec![alive.path().to_owned(), dead.clone(), others[1].clone(), link.clone()];
        of_such_names.sort();
        assert_eq!(present, of_such_names);
        assert_eq!(Workspace::sweep_without_engine(parent.path()), 0, "it notes an image");
        assert_eq!(Workspace::sweep(parent.path()), Swept { directories: 1, images: vec![id] });
        assert!(!dead.exists());
        assert!(alive.path().join("file").exists() && elsewhere.path().join(LOCK).exists() && link.exists());
        assert!(others.iter().all(|path| path.exists()), "not ours, or not yet locked");

        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
        let Workspace { directory, _lock } = Workspace::create(parent.path()).unwrap();
        let dead = directory.keep();
        drop(_lock);
        assert_eq!((Workspace::sweep_without_engine(parent.path()), dead.exists()), (1, false));
        assert_eq!(Workspace::sweep(&parent.path().join("missing")), Swept::default());
    }
}
