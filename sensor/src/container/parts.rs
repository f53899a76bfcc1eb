//! The writable layer over a directory below which something is mounted, such as the root of a machine.
//!
//! In a user namespace the kernel gives no overlay of such a directory, as that would uncover what lies beneath the mounts. So the
//! root is laid together of parts: a directory with nothing mounted below is an overlay of its own, one with mounts below is made
//! anew and looked into, and a mount point stays empty, as what is mounted there belongs to another file system. What is
//! beside the directories on the way is copied, as far as it can be read.
//!
//! Programs can tell: from one part to the other nothing can be renamed or linked.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::copy::{dress, leaf};
use super::failure::{During, SetUpError};
use super::mounts::kept_flags;
use super::root::{NONE, mount_overlay, open, open_directory};
use crate::mountinfo;

/// More of the list of mounts is not read.
const MAX_TABLE: u64 = 16 << 20;
/// A longer file is not copied: it is this machine's own, which can only be read.
const MAX_COPIED: u64 = 64 << 20;

/// Where something is mounted below a directory.
pub(super) struct Points(BTreeSet<PathBuf>);

impl Points {
    /// As this process sees them.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn below(directory: &Path) -> io::Result<Points> {
        let mut text = vec![];
        File::open("/proc/self/mountinfo")?.take(MAX_TABLE).read_to_end(&mut text)?;
        let points = mountinfo::parse(&text).into_iter().map(|mount| PathBuf::from(OsStr::from_bytes(&mount.point)));
        Ok(Points(points.filter(|point| point != directory && point.starts_with(directory)).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    /// Whether there are such below a directory: in the order of paths they come right after it.
    fn are_below(&self, directory: &Path) -> bool {
        let mut after = self.0.range::<Path, _>((Bound::Excluded(directory), Bound::Unbounded));
        after.next().is_some_and(|point| point.starts_with(directory))
    }
}

/// Lays a root together in the empty directory `target`; how many overlays it has. `parts`: an empty directory, for what is
/// written. `attributes`: further options of overlays.
pub(super) fn lay(directory: &Path, points: &Points, target: &Path, parts: &Path, attributes: &str) -> Result<usize, SetUpError> {
    let mut left = vec![(directory.to_owned(), target.to_owned())];
    let mut made: Vec<(PathBuf, Metadata)> = vec![];
    let mut count = 0;
    while let Some((from, to)) = left.pop() {
        let step = || format!("lay together what is in `{}`", from.display());
        made.push((to.clone(), fs::metadata(&from).during(step)?));
        let entries = match fs::read_dir(&from) {
            // What can't be listed isn't used by a program of the same rights.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            other => other.during(step)?,
        };
        for entry in entries {
            let entry = entry.during(step)?;
            let (inner, place) = (entry.path(), to.join(entry.file_name()));
            let step = || format!("lay `{}` over", inner.display());
            // It may be gone since it was listed.
            let Ok(metadata) = fs::symlink_metadata(&inner) else { continue };
            if !metadata.is_dir() {
                beside(&inner, &place, &metadata).during(step)?;
                continue;
            }
            fs::create_dir(&place).during(step)?;
            if points.has(&inner) {
                made.push((place, metadata));
            } else if points.are_below(&inner) {
                left.push((inner, place));
            } else {
                overlay(&inner, &place, &metadata, &parts.join(count.to_string()), attributes).during(step)?;
                count += 1;
            }
        }
    }
    for (path, metadata) in made.iter().rev() {
        dress(path, metadata).during(|| format!("make `{}` like its original", path.display()))?;
    }
    Ok(count)
}

fn overlay(lower: &Path, place: &Path, metadata: &Metadata, part: &Path, attributes: &str) -> io::Result<()> {
    let (upper, work) = (part.join("upper"), part.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir(&work)?;
    dress(&upper, metadata)?;
    Ok(mount_overlay(&[open_directory(lower)?], &upper, &work, place, attributes)?)
}

/// What is no directory, in place of its original; nothing where that can't be read.
fn beside(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() && metadata.len() > MAX_COPIED {
        File::create(to)?;
        mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | kept_flags(&open(to)?);
        return Ok(mount(NONE, to, NONE, flags, NONE)?);
    }
    match leaf(from, to, metadata) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_below_their_directories() {
        let points = Points(["/proc", "/run/user/1", "/var/lib/x", "/var-lib"].map(PathBuf::from).into());
        for (directory, has, below) in [
            ("/", false, true),
            ("/proc", true, false),
            ("/proc/sys", false, false),
            ("/run", false, true),
            ("/run/user", false, true),
            ("/run/use", false, false),
            ("/run/user/1", true, false),
            ("/var", false, true),
            ("/var/lib", false, true),
            ("/var-lib", true, false),
            ("/usr", false, false),
        ] {
            let directory = Path::new(directory);
            assert_eq!((points.has(directory), points.are_below(directory)), (has, below), "{directory:?}");
        }
    }

    #[test]
    fn a_machine_has_mounts_below_its_root() {
        let points = Points::below(Path::new("/")).expect("mounts");
        assert!(points.has(Path::new("/proc")) && !points.has(Path::new("/")) && points.are_below(Path::new("/")));
        assert!(Points::below(Path::new("/proc/self/fd")).expect("mounts").is_empty());
    }
}
