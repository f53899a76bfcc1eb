//! The layer: the kept entries of a tree as a tar archive, in the order of their paths.
//!
//! [`Layer`] is all that can be known before contents are read: every header, hence the exact size, and which files'
//! contents are needed in which order. [`LayerWriter`] is then fed those contents, from wherever they come, and writes
//! and hashes the archive as they arrive.
//!
//! Of the names of one file the first kept one carries the content, the others are links to it, with the same owner,
//! mode and attributes: who unpacks a layer applies the owner of every entry, which takes set-user-id bits and
//! capabilities away, and then what else the entry says. Sparse files are written out, since Docker does not take
//! sparse entries. (It also unpacks times before 1970 as 1970; they are written as they are.)

use std::collections::HashMap;
use std::io::Write;

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use super::PackError;
use super::header::{self, BLOCK, Body, Member};
use crate::escape::escape;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::plan::{Plan, path_order};

/// A layer to be written.
#[derive(Debug)]
pub struct Layer<'t> {
    tree: &'t Tree,
    items: Vec<Item>,
    size: u64,
}

/// A kept entry.
#[derive(Debug, Clone, Copy)]
struct Item {
    id: EntryId,
    mode: u16,
    owner: (u32, u32),
    /// The earlier name of the same file.
    link_to: Option<EntryId>,
}

/// What the kept names of one file share.
#[derive(Debug, Default)]
struct Shared {
    mode: Option<u16>,
    owner: Option<(u32, u32)>,
    first: Option<EntryId>,
}

impl<'t> Layer<'t> {
    /// The layer that holds what `plan` keeps of `tree`.
    ///
    /// # Errors
    /// A plan that doesn't fit the tree, and what cannot be in a layer.
    pub fn new(tree: &'t Tree, plan: &Plan) -> Result<Layer<'t>, PackError> {
        let ids = resolve(tree, plan)?;
        let group = |id| tree.hard_links(id).first().copied();
        let mut files: HashMap<EntryId, Shared> = HashMap::new();
        for (&id, kept) in ids.iter().zip(&plan.entries) {
            if let Some(group) = group(id) {
                let shared = files.entry(group).or_default();
                shared.mode = shared.mode.or(kept.mode);
                shared.owner = shared.owner.or(kept.owner);
            }
        }
        let items = ids.iter().zip(&plan.entries).map(|(&id, kept)| {
            let (mut mode, mut owner, mut link_to) = (kept.mode, kept.owner, None);
            if let Some(shared) = group(id).and_then(|group| files.get_mut(&group)) {
                (mode, owner, link_to) = (shared.mode, shared.owner, shared.first);
                shared.first.get_or_insert(id);
            }
            Item { id, mode: mode.unwrap_or(tree.mode(id)) & 0o7777, owner: owner.unwrap_or(tree.owner(id)), link_to }
        });
        let mut layer = Layer { tree, items: items.collect(), size: 2 * BLOCK as u64 };
        let mut header = vec![];
        for item in &layer.items {
            header.clear();
            layer.append_header(&mut header, item)?;
            let content = layer.content(item).unwrap_or(0);
            let blocks = content.checked_add((header.len() + header::padding(content)) as u64);
            let size = blocks.and_then(|blocks| layer.size.checked_add(blocks));
            layer.size = size.filter(|&size| i64::try_from(size).is_ok()).ok_or(PackError::TooLarge)?;
        }
        Ok(layer)
    }

    /// Exactly how many bytes the archive has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes the contents of its files have.
    #[must_use]
    pub fn content_size(&self) -> u64 {
        self.items.iter().filter_map(|item| self.content(item)).sum()
    }

    /// The files whose contents are needed, in that order. Empty ones need none.
    pub fn files(&self) -> impl Iterator<Item = EntryId> {
        self.items.iter().filter(|item| self.content(item).is_some()).map(|item| item.id)
    }

    /// How many bytes of content an entry carries, if any.
    fn content(&self, item: &Item) -> Option<u64> {
        let size = self.tree.size(item.id);
        (item.link_to.is_none() && size > 0).then_some(size)
    }

    fn append_header(&self, out: &mut Vec<u8>, item: &Item) -> Result<(), PackError> {
        let Layer { tree, .. } = self;
        let path = member_path(tree, item.id);
        let target = item.link_to.map(|id| member_path(tree, id));
        let (major, minor) = tree.device(item.id);
        let body = match (&target, tree.kind(item.id)) {
            (Some(target), _) => Body::HardLink(target),
            (None, Kind::File) => Body::File(tree.size(item.id)),
            (None, Kind::Directory) => Body::Directory,
            (None, Kind::Symlink) => Body::Symlink(tree.target(item.id)),
            (None, Kind::Fifo) => Body::Fifo,
            (None, Kind::CharacterDevice) => Body::CharacterDevice(major, minor),
            (None, Kind::BlockDevice) => Body::BlockDevice(major, minor),
        };
        let member = Member {
            path: &path,
            body,
            mode: item.mode,
            owner: item.owner,
            mtime: tree.mtime(item.id),
            xattrs: tree.xattrs(item.id),
        };
        header::append(out, &member).map_err(|reason| PackError::not_representable(&tree.path(item.id), reason))
    }
}

/// The entries that a plan keeps, in its order.
fn resolve(tree: &Tree, plan: &Plan) -> Result<Vec<EntryId>, PackError> {
    let mut is_kept = vec![false; tree.len()];
    is_kept[EntryId::ROOT.0 as usize] = true;
    let mut ids = Vec::with_capacity(plan.entries.len());
    let mut before: Option<&[u8]> = None;
    for kept in &plan.entries {
        let path = &kept.path[..];
        if before.is_some_and(|before| path_order(before, path).is_ge()) {
            return Err(PackError::NotSorted(escape(path)));
        }
        before = Some(path);
        let id = tree.get(path).filter(|&id| tree.path(id) == path).ok_or_else(|| PackError::NotInImage(escape(path)))?;
        if !is_kept[tree.parent(id).0 as usize] {
            return Err(PackError::NoParent(escape(path)));
        }
        if tree.name(id).starts_with(b".wh.") {
            let reason = "in a layer, a name that begins with `.wh.` stands for a removed file";
            return Err(PackError::not_representable(path, reason.into()));
        }
        is_kept[id.0 as usize] = true;
        ids.push(id);
    }
    Ok(ids)
}

/// The path as archives have it: relative, and a directory ends in a slash. The root is `./`.
fn member_path(tree: &Tree, id: EntryId) -> Vec<u8> {
    if id == EntryId::ROOT {
        return b"./".to_vec();
    }
    let mut path = tree.path(id);
    path.remove(0);
    if tree.kind(id) == Kind::Directory {
        path.push(b'/');
    }
    path
}

/// Writes a [`Layer`] while its contents arrive.
#[derive(Debug)]
pub struct LayerWriter<'l, W> {
    layer: &'l Layer<'l>,
    out: W,
    hasher: Sha256,
    /// The first item whose header has not been written.
    next: usize,
    /// The file whose content comes now, and how much of it came.
    file: Option<(EntryId, u64)>,
}

impl<'l, W: Write> LayerWriter<'l, W> {
    /// Begins to write `layer` to `out`.
    ///
    /// # Errors
    /// [`PackError::Write`].
    pub fn new(layer: &'l Layer<'l>, out: W) -> Result<Self, PackError> {
        let mut writer = LayerWriter { layer, out, hasher: Sha256::new(), next: 0, file: None };
        writer.advance()?;
        Ok(writer)
    }

    /// The next bytes of the present file.
    ///
    /// # Errors
    /// [`PackError::Content`] where they are more than it has, [`PackError::NoFile`] after the last one, [`PackError::Write`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.take(bytes.len() as u64)?;
        self.write(bytes)
    }

    /// So many zeros come next in the present file.
    ///
    /// # Errors
    /// As [`LayerWriter::data`].
    pub fn hole(&mut self, length: u64) -> Result<(), PackError> {
        self.take(length)?;
        self.zeros(length)
    }

    /// The present file is complete; the next one follows.
    ///
    /// # Errors
    /// [`PackError::Content`] where it is not, [`PackError::NoFile`], [`PackError::Write`].
    pub fn file_end(&mut self) -> Result<(), PackError> {
        let (id, given) = self.file.take().ok_or(PackError::NoFile)?;
        let expected = self.layer.tree.size(id);
        if given != expected {
            return Err(self.content_error(id, given));
        }
        self.zeros(header::padding(expected) as u64)?;
        self.advance()
    }

    /// Ends the archive; gives back the output and the digest of all that was written (the layer's diffID).
    ///
    /// # Errors
    /// [`PackError::Content`] where a file is missing, [`PackError::Write`].
    pub fn finish(mut self) -> Result<(W, Digest), PackError> {
        if let Some((id, given)) = self.file {
            return Err(self.content_error(id, given));
        }
        self.zeros(2 * BLOCK as u64)?;
        Ok((self.out, super::digest(self.hasher)))
    }

    /// Counts bytes towards the present file.
    fn take(&mut self, length: u64) -> Result<(), PackError> {
        let (id, given) = self.file.ok_or(PackError::NoFile)?;
        let given = given.saturating_add(length);
        if given > self.layer.tree.size(id) {
            return Err(self.content_error(id, given));
        }
        self.file = Some((id, given));
        Ok(())
    }

    fn content_error(&self, id: EntryId, given: u64) -> PackError {
        let tree = self.layer.tree;
        PackError::Content { path: escape(&tree.path(id)), expected: tree.size(id), given }
    }

    /// Writes headers up to that of the next file with content.
    fn advance(&mut self) -> Result<(), PackError> {
        let layer = self.layer;
        let mut headers = vec![];
        while let Some(item) = layer.items.get(self.next) {
            self.next += 1;
            layer.append_header(&mut headers, item)?;
            if layer.content(item).is_some() {
                self.file = Some((item.id, 0));
                break;
            }
            if headers.len() > 64 << 10 {
                self.write(&headers)?;
                headers.clear();
            }
        }
        self.write(&headers)
    }

    fn zeros(&mut self, mut length: u64) -> Result<(), PackError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while length > 0 {
            let part = length.min(ZEROS.len() as u64);
            self.write(&ZEROS[..part as usize])?;
            length -= part;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.hasher.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

#[cfg(test)]
pub(crate) mod tests;
