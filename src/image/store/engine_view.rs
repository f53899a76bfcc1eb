//! What a container does not show of its image, and what engines change in every container.
//!
//! Docker replaces some files of an image before any container of it exists, and stamps the directories that they are in;
//! the packer, which sees containers only, takes that off and gives stamped directories the time of the image's creation
//! (see `slim_sensor::packer`). From layers all would be to be seen. A plan must make the same image from both, and
//! each engine makes these files again, so they are left out here too.

use slim_sensor::packer::{REPLACED, STAMPED};

use super::merge::{ROOT, Stack};

/// Takes off what is not to be seen.
pub(super) fn take_off(stack: &mut Stack, created: i64, made_by_engine: &[Vec<u8>]) {
    for path in REPLACED {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        if let (Some(id), Some(parent)) = (stack.get(path), stack.get(&path[..slash]))
            && stack.directory_mut(id).is_none()
        {
            stack.remove(parent, &path[slash + 1..]);
        }
    }
    for path in STAMPED {
        stamp(stack, path, created);
    }
    // What an engine makes stamps the directory that it is made in.
    for path in made_by_engine.iter().filter(|path| path.starts_with(b"/")) {
        if stack.get(path).is_some() {
            continue;
        }
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let nearest = ends.rev().map(|end| &path[..end]).find(|way| stack.get(way).is_some());
        stamp(stack, nearest.unwrap_or_default(), created);
    }
}

/// Gives a directory the time of the image's creation. A plain one with nothing of the image's in it looks like one that the
/// engine made, and is taken for it.
fn stamp(stack: &mut Stack, path: &[u8], created: i64) {
    let Some(id) = stack.get(path) else { return };
    let is_empty = stack.is_empty(id);
    let Some(directory) = stack.directory_mut(id) else { return };
    (directory.mtime, directory.mtime_nanoseconds) = (created, 0);
    let is_plain = directory.mode == 0o755 && (directory.uid, directory.gid) == (0, 0);
    if id != ROOT && is_empty && is_plain {
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        if let Some(parent) = stack.get(&path[..slash]) {
            stack.remove(parent, &path[slash + 1..]);
        }
    }
}
