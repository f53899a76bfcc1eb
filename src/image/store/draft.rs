//! A layer in the making: the tree that its entries have made so far.
//!
//! The reader of the archive asks here where a path really is, and the answer never leaves the layer: names are walked one
//! by one in this tree, in memory; a symbolic link of the layer itself is followed as inside a root directory, and what
//! lies in a directory that the layer does not have is put into one that it implies. So the disk is never asked what a
//! path means, and what an archive hides in its paths cannot matter there.
//!
//! A whiteout speaks of the layers below, wherever in the archive it stands: what the layer itself puts at that path
//! stays, and a directory there becomes opaque.

use std::collections::HashMap;

use super::index::{Effect, Index, Record, blank, bytes_on_disk};
use crate::escape::escape;
use crate::image::tree::{Entry, Kind, Xattr};

/// The most names of a path, links resolved; each open directory of a removal costs a file descriptor.
const MAX_DEPTH: usize = 512;
/// The most links on the way to one path.
const MAX_LINKS: usize = 40;
/// The most bytes of a path, and of a name.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
/// The most entries of a layer.
pub(super) const MAX_ENTRIES: usize = 2_000_000;
/// The most bytes of all paths of a layer together. Compressed archives of a few megabytes can have any number of long
/// paths; 2 million entries of a real image have a third of this.
const MAX_PATHS: usize = 512 << 20;
/// The most bytes of all extended attributes of a layer together; they stay in memory until the layer is done.
const MAX_XATTRS: usize = 64 << 20;

/// Why a path of an archive cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathError {
    /// It leaves the root.
    #[error("`{0}` leads out of the image's root")]
    Outside(String),
    /// It is too long or has a NUL.
    #[error("`{0}` cannot be a path")]
    Path(String),
    /// Something is in a file.
    #[error("`{0}` is below something that is not a directory")]
    BelowFile(String),
    /// Links that go in circles.
    #[error("`{0}` is behind too many symbolic links")]
    Links(String),
    /// A link to something that it cannot be another name of.
    #[error("`{path}` is a hard link to `{target}`, which is a directory")]
    HardLink {
        /// The link.
        path: String,
        /// What it should be a name of.
        target: String,
    },
    /// Too many.
    #[error("a layer has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// Too many long paths.
    #[error("the paths of a layer have more than {} MiB", MAX_PATHS >> 20)]
    Paths,
    /// Too many large attributes.
    #[error("the extended attributes of a layer have more than {} MiB", MAX_XATTRS >> 20)]
    Xattrs,
}

/// A node of the draft.
pub(super) type NodeId = u32;

/// The root.
pub(super) const ROOT: NodeId = 0;

/// What is at a path.
#[derive(Debug, Clone)]
enum Present {
    /// Only a whiteout.
    Nothing,
    /// A directory that was not described.
    Implied,
    /// What the entry says; all but directories are an inode, which names may share.
    Directory(Entry),
    Inode(u32),
    /// A name of a file below.
    LinkBelow(Vec<u8>),
}

#[derive(Debug, Clone)]
struct Node {
    parent: NodeId,
    name: Vec<u8>,
    /// Names in its path, and bytes of it.
    depth: usize,
    length: usize,
    present: Present,
    /// What is below is taken away.
    is_whiteout: bool,
    /// What is in the directory below is taken away.
    is_opaque: bool,
    children: HashMap<Vec<u8>, NodeId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Draft {
    nodes: Vec<Option<Node>>,
    inodes: Vec<(Entry, u32)>,
    alive: usize,
    /// Bytes of the paths of all nodes that ever were, and of all attributes.
    path_bytes: usize,
    xattr_bytes: usize,
}

/// A node that was taken out of the draft: what has to be removed from the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removed {
    /// Absolute.
    pub(super) path: Vec<u8>,
    pub(super) is_directory: bool,
}

/// Splits a path into its names; `None` where it leads out.
fn names(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = vec![];
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names)
}

impl Draft {
    pub(super) fn new() -> Draft {
        let root = Node {
            parent: ROOT,
            name: vec![],
            depth: 0,
            length: 0,
            present: Present::Implied,
            is_whiteout: false,
            is_opaque: false,
            children: HashMap::new(),
        };
        Draft { nodes: vec![Some(root)], inodes: vec![], alive: 1, path_bytes: 0, xattr_bytes: 0 }
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id as usize].as_ref().expect("ids of removed nodes are not kept")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id as usize].as_mut().expect("ids of removed nodes are not kept")
    }

    /// The absolute path of a node, free of links.
    pub(super) fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut names = vec![];
        while id != ROOT {
            names.push(&self.node(id).name);
            id = self.node(id).parent;
        }
        names.iter().rev().flat_map(|name| [b"/", &name[..]].concat()).collect()
    }

    /// The directory that `path` is in, made where there is none (what was made is told, the highest first), and the
    /// last name; `None` for the root itself.
    pub(super) fn parent<'p>(&mut self, path: &'p [u8], made: &mut Vec<NodeId>) -> Result<Option<(NodeId, &'p [u8])>, PathError> {
        let text = || escape(&path[..path.len().min(MAX_PATH)]);
        if path.len() > MAX_PATH || path.contains(&0) {
            return Err(PathError::Path(text()));
        }
        let names = names(path).ok_or_else(|| PathError::Outside(text()))?;
        let Some((last, directories)) = names.split_last() else { return Ok(None) };
        if names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(PathError::Path(text()));
        }
        let mut at = ROOT;
        let mut links = 0;
        // What is still to be walked, the next name last.
        let mut ahead: Vec<Vec<u8>> = directories.iter().rev().map(|name| name.to_vec()).collect();
        while let Some(name) = ahead.pop() {
            match &name[..] {
                b"" | b"." => continue,
                // Of a link's target; above the root is the root.
                b".." => {
                    at = self.node(at).parent;
                    continue;
                }
                _ => {}
            }
            let Some(&next) = self.node(at).children.get(&name) else {
                at = self.add(at, &name, Present::Implied)?;
                made.push(at);
                continue;
            };
            match &self.node(next).present {
                Present::Directory(_) | Present::Implied => at = next,
                Present::Nothing => {
                    self.node_mut(next).present = Present::Implied;
                    made.push(next);
                    at = next;
                }
                Present::Inode(inode) if self.inodes[*inode as usize].0.kind == Kind::Symlink => {
                    links += 1;
                    let target = self.inodes[*inode as usize].0.target.clone();
                    if links > MAX_LINKS || ahead.len() > MAX_DEPTH || target.len() > MAX_PATH {
                        return Err(PathError::Links(text()));
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    ahead.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
                Present::Inode(_) | Present::LinkBelow(_) => return Err(PathError::BelowFile(text())),
            }
        }
        let directory = self.node(at);
        if directory.depth >= MAX_DEPTH || directory.length + 1 + last.len() > MAX_PATH {
            return Err(PathError::Path(text()));
        }
        Ok(Some((at, last)))
    }

    fn add(&mut self, parent: NodeId, name: &[u8], present: Present) -> Result<NodeId, PathError> {
        self.alive += 1;
        let id = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < 2 * MAX_ENTRIES);
        let id = id.filter(|_| self.alive <= MAX_ENTRIES).ok_or(PathError::TooMany)?;
        let (depth, length) = (self.node(parent).depth + 1, self.node(parent).length + 1 + name.len());
        self.path_bytes += length;
        if self.path_bytes > MAX_PATHS {
            return Err(PathError::Paths);
        }
        let (name, children) = (name.to_vec(), HashMap::new());
        let node = Node { parent, name: name.clone(), depth, length, present, is_whiteout: false, is_opaque: false, children };
        self.nodes.push(Some(node));
        self.node_mut(parent).children.insert(name, id);
        Ok(id)
    }

    /// Puts an entry at a name, in place of what is there, which is told (the deepest first); a directory stays one.
    pub(super) fn put(&mut self, parent: NodeId, name: &[u8], mut entry: Entry) -> Result<(NodeId, Vec<Removed>), PathError> {
        entry.name.clear();
        self.count_xattrs(&entry.xattrs)?;
        let is_directory = entry.kind == Kind::Directory;
        let present = |draft: &mut Draft, entry: Entry| {
            if is_directory {
                return Ok(Present::Directory(entry));
            }
            draft.inodes.push((entry, 1));
            Ok(Present::Inode(u32::try_from(draft.inodes.len() - 1).map_err(|_| PathError::TooMany)?))
        };
        if is_directory
            && let Some(&id) = self.node(parent).children.get(name)
            && self.is_directory(id)
        {
            self.node_mut(id).present = Present::Directory(entry);
            return Ok((id, vec![]));
        }
        let present = present(self, entry)?;
        self.replace(parent, name, present)
    }

    fn count_xattrs(&mut self, xattrs: &[Xattr]) -> Result<(), PathError> {
        self.xattr_bytes += xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>();
        if self.xattr_bytes > MAX_XATTRS { Err(PathError::Xattrs) } else { Ok(()) }
    }

    fn replace(&mut self, parent: NodeId, name: &[u8], present: Present) -> Result<(NodeId, Vec<Removed>), PathError> {
        let Some(&id) = self.node(parent).children.get(name) else {
            return Ok((self.add(parent, name, present)?, vec![]));
        };
        let removed = self.clear(id);
        let node = self.node_mut(id);
        // A whiteout stands, whatever comes in its place.
        (node.present, node.is_opaque) = (present, false);
        Ok((id, removed))
    }

    /// Makes a node hold nothing; what that takes from the disk.
    fn clear(&mut self, id: NodeId) -> Vec<Removed> {
        let mut order = vec![id];
        let mut at = 0;
        while at < order.len() {
            order.extend(self.node(order[at]).children.values());
            at += 1;
        }
        let mut removed = vec![];
        for &id in order.iter().rev() {
            let path = self.path(id);
            match self.node(id).present {
                Present::Nothing | Present::LinkBelow(_) => {}
                Present::Inode(inode) => {
                    self.inodes[inode as usize].1 -= 1;
                    removed.push(Removed { path, is_directory: false });
                }
                Present::Directory(_) | Present::Implied => removed.push(Removed { path, is_directory: true }),
            }
        }
        for &below in &order[1..] {
            self.nodes[below as usize] = None;
            self.alive -= 1;
        }
        self.node_mut(id).children = HashMap::new();
        removed
    }

    /// Gives a file of this layer another name, or notes that it is one of a layer below. The entry is what the link
    /// says of the file. Gives the path of the other name, where it is in this layer.
    pub(super) fn link(
        &mut self,
        (parent, name): (NodeId, &[u8]),
        target: &[u8],
        entry: Entry,
    ) -> Result<(Option<Vec<u8>>, Vec<Removed>), PathError> {
        let wrong = |draft: &Draft| PathError::HardLink {
            path: escape(&[&draft.path(parent)[..], b"/", name].concat()),
            target: escape(target),
        };
        let Some(other) = self.find(target)? else {
            let names = names(target).ok_or_else(|| PathError::Outside(escape(target)))?;
            let path = names.iter().flat_map(|name| [b"/", *name].concat()).collect();
            let (_, removed) = self.replace(parent, name, Present::LinkBelow(path))?;
            return Ok((None, removed));
        };
        let inode = match &self.node(other).present {
            Present::Inode(inode) => *inode,
            Present::LinkBelow(path) => {
                let path = path.clone();
                if self.node(parent).children.get(name) == Some(&other) {
                    return Ok((None, vec![]));
                }
                let (_, removed) = self.replace(parent, name, Present::LinkBelow(path))?;
                return Ok((None, removed));
            }
            _ => return Err(wrong(self)),
        };
        let other_path = self.path(other);
        if self.node(parent).children.get(name) == Some(&other) {
            return Ok((None, vec![]));
        }
        self.count_xattrs(&entry.xattrs)?;
        let (_, removed) = self.replace(parent, name, Present::Inode(inode))?;
        let (file, names) = &mut self.inodes[inode as usize];
        *names += 1;
        // Whoever unpacks an archive applies what each of its entries says; so the last one counts. To set an owner takes
        // capabilities away.
        file.xattrs.retain(|xattr| xattr.name != b"security.capability");
        (file.mode, file.uid, file.gid) = (entry.mode, entry.uid, entry.gid);
        (file.mtime, file.mtime_nanoseconds) = (entry.mtime, entry.mtime_nanoseconds);
        merge_xattrs(&mut file.xattrs, entry.xattrs);
        Ok((Some(other_path), removed))
    }

    /// What is at a path, if this layer has it; links on the way are followed, the last name is not.
    fn find(&self, path: &[u8]) -> Result<Option<NodeId>, PathError> {
        let text = || escape(&path[..path.len().min(MAX_PATH)]);
        if path.len() > MAX_PATH || path.contains(&0) {
            return Err(PathError::Path(text()));
        }
        let (mut at, mut links) = (ROOT, 0);
        let mut ahead: Vec<&[u8]> = names(path).ok_or_else(|| PathError::Outside(text()))?;
        ahead.reverse();
        while let Some(name) = ahead.pop() {
            at = match name {
                b"" | b"." => at,
                b".." => self.node(at).parent,
                name => {
                    let Some(&next) = self.node(at).children.get(name) else { return Ok(None) };
                    match &self.node(next).present {
                        Present::Inode(inode) if !ahead.is_empty() => {
                            let entry = &self.inodes[*inode as usize].0;
                            links += 1;
                            if entry.kind != Kind::Symlink {
                                return Err(PathError::BelowFile(text()));
                            }
                            if links > MAX_LINKS || ahead.len() > MAX_DEPTH || entry.target.len() > MAX_PATH {
                                return Err(PathError::Links(text()));
                            }
                            ahead.extend(entry.target.split(|&byte| byte == b'/').rev());
                            if entry.target.starts_with(b"/") { ROOT } else { at }
                        }
                        Present::Nothing => return Ok(None),
                        _ => next,
                    }
                }
            }
        }
        Ok(Some(at))
    }

    /// Takes away what the layers below have at a name.
    pub(super) fn white_out(&mut self, parent: NodeId, name: &[u8]) -> Result<(), PathError> {
        let id = match self.node(parent).children.get(name) {
            Some(&id) => id,
            None => self.add(parent, name, Present::Nothing)?,
        };
        self.node_mut(id).is_whiteout = true;
        Ok(())
    }

    /// Takes away what the layers below have in a directory.
    pub(super) fn make_opaque(&mut self, directory: NodeId) {
        self.node_mut(directory).is_opaque = true;
    }

    /// Whether there is a directory of this layer at a name.
    pub(super) fn has_directory(&self, parent: NodeId, name: &[u8]) -> bool {
        self.node(parent).children.get(name).is_some_and(|&id| self.is_directory(id))
    }

    fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).present, Present::Directory(_) | Present::Implied)
    }

    /// All that the layer says; children in the order of their names.
    pub(super) fn finish(&self) -> Index {
        let is_named = |(_, names): &&(Entry, u32)| *names > 0;
        let bytes = self.inodes.iter().filter(is_named).map(|(entry, _)| bytes_on_disk(entry.size)).sum();
        let mut index = Index { records: vec![], bytes };
        let mut stack = vec![(ROOT, 0)];
        while let Some((id, parent)) = stack.pop() {
            let node = self.node(id);
            let number = index.records.len() as u32;
            let record = self.record(id, parent);
            index.records.push(record);
            let mut children: Vec<_> = node.children.iter().collect();
            children.sort_unstable_by(|one, other| other.0.cmp(one.0));
            stack.extend(children.into_iter().map(|(_, &child)| (child, number)));
        }
        index
    }

    fn record(&self, id: NodeId, parent: u32) -> Record {
        let node = self.node(id);
        let is_opaque = node.is_opaque || node.is_whiteout;
        let (entry, effect) = match &node.present {
            Present::Nothing => (blank(0, b"", Kind::File, 0), Effect::Whiteout),
            Present::LinkBelow(path) => (Entry { target: path.clone(), ..blank(0, b"", Kind::File, 0) }, Effect::LinkBelow),
            Present::Implied if is_opaque => (blank(0, b"", Kind::Directory, 0o755), Effect::ImpliedOpaque),
            Present::Implied => (blank(0, b"", Kind::Directory, 0o755), Effect::Implied),
            Present::Directory(entry) if is_opaque => (entry.clone(), Effect::PutOpaque),
            Present::Directory(entry) => (entry.clone(), Effect::Put),
            Present::Inode(inode) => {
                let (entry, names) = &self.inodes[*inode as usize];
                (Entry { link_group: (*names > 1).then_some(u64::from(*inode)), ..entry.clone() }, Effect::Put)
            }
        };
        Record { entry: Entry { parent, name: node.name.clone(), ..entry }, effect }
    }
}

/// Adds attributes, or changes those that are there; both lists are sorted.
fn merge_xattrs(xattrs: &mut Vec<Xattr>, others: Vec<Xattr>) {
    for other in others {
        match xattrs.binary_search_by(|xattr| xattr.name.cmp(&other.name)) {
            Ok(at) => xattrs[at] = other,
            Err(at) => xattrs.insert(at, other),
        }
    }
}
