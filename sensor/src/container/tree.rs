//! Removing a tree that anybody may have made.
//!
//! A container can leave a tree of any depth, for which no stack and no number of descriptors suffices. So it is taken
//! apart from the top: the directories in a directory are moved aside, next to each other, before it is removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes a directory with what is in it. `aside`: an empty directory on the same file system, which stays.
pub(super) fn remove(tree: &Path, aside: &Path) -> io::Result<()> {
    let mut count = 0u64;
    let mut left = vec![];
    let mut move_aside = |directory: &Path, left: &mut Vec<PathBuf>| {
        let moved = aside.join(count.to_string());
        count += 1;
        fs::rename(directory, &moved)?;
        left.push(moved);
        io::Result::Ok(())
    };
    move_aside(tree, &mut left)?;
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                move_aside(&entry.path(), &mut left)?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};

    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_nothing_else() {
        let work = tempfile::tempdir().expect("directory");
        let [tree, aside, other] = ["tree", "aside", "other"].map(|name| work.path().join(name));
        for directory in [&tree, &aside, &other] {
            fs::create_dir(directory).expect("directory");
        }
        fs::write(other.join("kept"), "").expect("file");
        symlink(&other, tree.join("link")).expect("link");
        // Its names look like ours.
        fs::create_dir_all(tree.join("0/1")).expect("directory");
        fs::write(tree.join("0/1/file"), "").expect("file");
        let mut deepest = open(&tree, OFlag::O_DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..1500 {
            mkdirat(&deepest, "deep", Mode::S_IRWXU).expect("directory");
            deepest = openat(&deepest, "deep", OFlag::O_DIRECTORY, Mode::empty()).expect("open");
        }
        remove(&tree, &aside).expect("removed");
        assert!(!tree.exists() && other.join("kept").exists());
        assert_eq!(fs::read_dir(&aside).expect("list").count(), 0);
    }
}
