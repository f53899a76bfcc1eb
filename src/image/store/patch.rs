//! What a stack of the layers' directories does not show by itself, as one more directory on top of them.
//!
//! Overlayfs takes a directory's metadata from the highest layer that has it, also where that layer only implies it; and
//! a file of a layer below has no second name above. A layer is the same in each image that has it, so neither can be put
//! right in it.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;

use super::disk::Disk;
use super::index::{Effect, Index, Record};
use super::read::LayerFiles;
use super::unpack::UnpackError;
use super::{Flavour, StoreError, failed};
use crate::image::read_files::{Piece, ReadFiles};
use crate::image::tree::{Entry, EntryId, Kind, Tree};

impl LayerFiles {
    /// Puts into the empty `directory` what overlayfs needs above the layers; whether there is such a thing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn patch(&mut self, flavour: Flavour, directory: &Path) -> Result<bool, StoreError> {
        let merged = self.merged();
        let tree = &merged.tree;
        let mut ids = BTreeSet::new();
        for &patch in merged.patches() {
            let mut at = patch;
            // What leads to it is described too, or it would be implied here.
            while ids.insert(at) && at != EntryId::ROOT {
                at = tree.parent(at);
            }
        }
        if ids.is_empty() {
            return Ok(false);
        }
        let mut disk = Disk::open(directory, flavour).map_err(failed(directory))?;
        let wrong = |path: &[u8], reason: Errno| StoreError::Patch(UnpackError::disk(path)(reason));
        for &id in ids.iter().filter(|&&id| id != EntryId::ROOT) {
            let path = tree.path(id);
            let first = tree.hard_links(id).iter().find(|&&other| other < id && ids.contains(&other));
            let made = match (first, tree.kind(id)) {
                (Some(&first), _) => disk.hard_link(&tree.path(first), &path),
                (None, Kind::Directory) => disk.directory(&path),
                (None, Kind::Symlink) => disk.symlink(&path, tree.target(id)),
                (None, Kind::File) => {
                    let file = disk.file(&path).map_err(|reason| wrong(&path, reason))?;
                    self.copy(&path, &file)?;
                    file.set_len(tree.size(id)).map_err(failed(directory))?;
                    Ok(())
                }
                (None, kind) => disk.special(&path, kind, tree.device(id)),
            };
            made.map_err(|reason| wrong(&path, reason))?;
        }
        let index = Index { records: records(tree, &ids), bytes: 0 };
        disk.describe(&index).map_err(|(path, reason)| wrong(&path, reason))?;
        Ok(true)
    }

    fn copy(&mut self, path: &[u8], file: &std::fs::File) -> Result<(), StoreError> {
        let mut at = 0;
        let read = self.read(&[path.to_vec()], u64::MAX, &mut |piece| {
            match piece {
                Piece::Data(bytes) => {
                    file.write_all_at(bytes, at).map_err(|error| error.to_string())?;
                    at += bytes.len() as u64;
                }
                Piece::Hole(length) => at += length,
                Piece::End => {}
            }
            Ok(())
        });
        read.map_err(StoreError::Copy)
    }
}

/// The entries as a layer would describe them; their numbers in the tree put parents first.
fn records(tree: &Tree, ids: &BTreeSet<EntryId>) -> Vec<Record> {
    let numbers: Vec<EntryId> = ids.iter().copied().collect();
    let record = |&id: &EntryId| {
        let parent = numbers.binary_search(&tree.parent(id)).unwrap_or_default() as u32;
        let ((uid, gid), (mtime, mtime_nanoseconds)) = (tree.owner(id), tree.mtime(id));
        let entry = Entry {
            parent,
            name: tree.name(id).to_vec(),
            kind: tree.kind(id),
            mode: tree.mode(id),
            uid,
            gid,
            mtime,
            mtime_nanoseconds,
            size: tree.size(id),
            device: tree.device(id),
            link_group: None,
            target: tree.target(id).to_vec(),
            xattrs: tree.xattrs(id).to_vec(),
        };
        Record { entry, effect: Effect::Put }
    };
    numbers.iter().map(record).collect()
}
