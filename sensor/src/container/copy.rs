//! Layers laid over each other by copying, for a machine without overlayfs: the same tree, made the slow way.
//!
//! From the lowest layer up: a whiteout (a character device 0/0) removes, an opaque directory begins empty, everything
//! else replaces what is there. Owners and devices are kept where that is allowed; extended attributes are not copied.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use super::failure::{During, SetUpError};
use super::tree;
use crate::kernel::extended_attribute;

/// Lays `layers`, the topmost first, into an empty directory. `aside`: another empty one on its file system.
pub(super) fn layers(layers: &[PathBuf], target: &Path, aside: &Path) -> Result<(), SetUpError> {
    for layer in layers.iter().rev() {
        copy(layer, target, aside).during(|| format!("copy the layer `{}`", layer.display()))?;
    }
    Ok(())
}

/// Copies a directory, itself included, into a new one. `aside`: an empty one on the file system of that. What cannot be had
/// without privileges (owners, devices) is left out.
///
/// # Errors
/// The system's.
pub fn directory(from: &Path, to: &Path, aside: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    copy(from, to, aside)?;
    dress(to, &fs::metadata(from)?)
}

fn copy(layer: &Path, target: &Path, aside: &Path) -> io::Result<()> {
    let mut directories = vec![PathBuf::new()];
    let mut finished = vec![];
    // Files of several names, by number: copied once.
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(layer.join(&directory))? {
            let path = directory.join(entry?.file_name());
            let (from, to) = (layer.join(&path), target.join(&path));
            let metadata = fs::symlink_metadata(&from)?;
            let is_whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
            let is_directory = metadata.is_dir();
            if is_whiteout || !is_directory || is_opaque(&from) || !fs::symlink_metadata(&to).is_ok_and(|old| old.is_dir()) {
                remove(&to, aside)?;
            }
            if is_whiteout {
                continue;
            }
            if is_directory {
                fs::create_dir(&to).or_else(|error| if to.is_dir() { Ok(()) } else { Err(error) })?;
                directories.push(path.clone());
                // Its time changes with what is put in.
                finished.push((to, metadata));
                continue;
            }
            let number = (metadata.dev(), metadata.ino());
            if let Some(first) = links.get(&number) {
                fs::hard_link(first, &to)?;
                continue;
            }
            if !leaf(&from, &to, &metadata)? {
                continue;
            }
            if metadata.nlink() > 1 {
                links.insert(number, to);
            }
        }
    }
    for (path, metadata) in finished.iter().rev() {
        dress(path, metadata)?;
    }
    Ok(())
}

/// Makes what is no directory; whether it could be made.
pub(super) fn leaf(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<bool> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        // In a user namespace an id may have no place.
        let _ = lchown(to, Some(metadata.uid()), Some(metadata.gid()));
        return Ok(true);
    }
    if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        let kind = SFlag::from_bits_truncate(metadata.mode() & SFlag::S_IFMT.bits());
        if mknod(to, kind, Mode::from_bits_truncate(0o600), metadata.rdev()).is_err() {
            return Ok(false);
        }
    }
    dress(to, metadata)?;
    Ok(true)
}

/// Owner, permissions and time, in this order: a new owner clears permissions.
pub(super) fn dress(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let _ = lchown(path, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_dir() {
        let times = FileTimes::new().set_modified(metadata.modified()?).set_accessed(metadata.modified()?);
        let _ = File::open(path).and_then(|file| file.set_times(times));
    }
    Ok(())
}

fn is_opaque(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    [c"trusted.overlay.opaque", c"user.overlay.opaque"].iter().any(|name| extended_attribute(&path, name) == Some(b'y'))
}

fn remove(path: &Path, aside: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => tree::remove(path, aside),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_layers_replace_what_is_below() {
        let work = tempfile::tempdir().expect("directory");
        let (lower, upper, target) = (work.path().join("lower"), work.path().join("upper"), work.path().join("target"));
        for directory in
            ["lower/kept", "lower/becomes-file", "lower/hidden/x", "upper/kept", "upper/becomes-directory", "target", "aside"]
        {
            fs::create_dir_all(work.path().join(directory)).expect("directory");
        }
        let write = |path: &str, text: &str| fs::write(work.path().join(path), text).expect("write");
        write("lower/kept/old", "old");
        write("lower/kept/both", "below");
        write("lower/becomes-file/inner", "gone");
        fs::hard_link(lower.join("kept/old"), lower.join("kept/second-name")).expect("link");
        // A link out of the tree, where the upper layer has a directory.
        symlink(work.path(), lower.join("becomes-directory")).expect("link");
        write("upper/kept/both", "above");
        write("upper/becomes-file", "file");
        write("upper/becomes-directory/new", "new");
        symlink("kept/both", upper.join("link")).expect("link");
        fs::set_permissions(upper.join("kept"), fs::Permissions::from_mode(0o2750)).expect("mode");

        let is_root = nix::unistd::Uid::effective().is_root();
        if is_root {
            mknod(&upper.join("hidden"), SFlag::S_IFCHR, Mode::empty(), 0).expect("whiteout");
        }

        layers(&[upper, lower], &target, &work.path().join("aside")).expect("copy");
        let read = |path: &str| fs::read_to_string(target.join(path)).expect("read");
        assert_eq!(
            ["kept/old", "kept/both", "becomes-file", "becomes-directory/new", "link"].map(read),
            ["old", "above", "file", "new", "above"]
        );
        assert_eq!(target.join("hidden").exists(), !is_root, "who may make a whiteout sees it work");
        assert!(fs::symlink_metadata(target.join("becomes-directory")).expect("there").is_dir());
        assert!(!work.path().join("new").exists(), "nothing was written through the link");
        let metadata = |path: &str| fs::metadata(target.join(path)).expect("there");
        assert_eq!(metadata("kept").mode() & 0o7777, 0o2750);
        assert_eq!(metadata("kept/old").ino(), metadata("kept/second-name").ino());
    }
}
