//! The layers of an image, one on the other: the tree that a container of it sees, and where each file's bytes are.
//!
//! Each layer is applied to what the layers below made. Hard links to files of layers below are resolved against what
//! was there before the layer. What engines put over the image's own is then taken off, so that the tree, and with it
//! the slim image, is the same as from a daemon: see `engine_view`.

use std::collections::{HashMap, HashSet};

use super::engine_view;
use super::index::{Effect, Index, Record, blank};
use crate::escape::escape;
use crate::image::tree::{Entry, EntryId, Kind, Tree, TreeBuilder, TreeError};

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A link to nothing.
    #[error("`{path}` is a hard link to `{target}`, which the image does not have")]
    HardLink {
        /// The link.
        path: String,
        /// What it should be a name of.
        target: String,
    },
    /// The tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The number of its layer.
    pub layer: u32,
    /// Its record in the layer's index.
    pub record: u32,
}

/// What all layers make together.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The tree.
    pub tree: Tree,
    /// For each entry, by its number.
    origins: Vec<Origin>,
    patches: Vec<EntryId>,
}

impl Merged {
    /// Where an entry comes from: of a file, where its content is.
    #[must_use]
    pub fn origin(&self, id: EntryId) -> Origin {
        self.origins[id.0 as usize]
    }

    /// Entries that a stack of the layers' directories does not show as they are: see [`LayerFiles::patch`].
    ///
    /// [`LayerFiles::patch`]: super::read::LayerFiles::patch
    pub(super) fn patches(&self) -> &[EntryId] {
        &self.patches
    }
}

pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;

#[derive(Debug, Clone, Copy)]
enum Present {
    Directory,
    /// One of the inodes, which names may share.
    Inode(u32),
}

#[derive(Debug)]
struct Node {
    name: Vec<u8>,
    present: Present,
    /// Of a directory.
    entry: Option<Entry>,
    origin: Origin,
    /// A layer above that of its entry implies the directory.
    is_implied_above: bool,
    children: HashMap<Vec<u8>, NodeId>,
}

/// The tree in the making.
#[derive(Debug)]
pub(super) struct Stack {
    nodes: Vec<Node>,
    inodes: Vec<(Entry, Origin)>,
    /// Inodes that a layer above gives more names.
    linked_above: HashSet<u32>,
    /// The time of directories that nobody described.
    created: i64,
}

/// Merges layers, the lowest first. `created` is when the image was created, in seconds since 1970; `made_by_engine`
/// are directories that engines make in containers: VOLUMEs and the working directory.
///
/// # Errors
/// [`MergeError`]
pub fn merge<'i>(
    layers: impl Iterator<Item = &'i Index>,
    created: i64,
    made_by_engine: &[Vec<u8>],
) -> Result<Merged, MergeError> {
    let mut stack = Stack::new(created);
    for (number, index) in (0..).zip(layers) {
        stack.apply(number, index)?;
    }
    engine_view::take_off(&mut stack, created, made_by_engine);
    stack.into_tree()
}

impl Stack {
    fn new(created: i64) -> Stack {
        let entry = Entry { mtime: created, ..blank(0, b"", Kind::Directory, 0o755) };
        let root = Node {
            name: vec![],
            present: Present::Directory,
            entry: Some(entry),
            origin: Origin { layer: 0, record: 0 },
            is_implied_above: false,
            children: HashMap::new(),
        };
        Stack { nodes: vec![root], inodes: vec![], linked_above: HashSet::new(), created }
    }

    fn apply(&mut self, layer: u32, index: &Index) -> Result<(), MergeError> {
        let below = self.links_below(index)?;
        // The node of each record that is a directory, and the inode of each group of names.
        let mut nodes = vec![ROOT; index.records.len()];
        let mut groups: HashMap<u64, u32> = HashMap::new();
        if let Some(Record { effect: Effect::PutOpaque | Effect::ImpliedOpaque, .. }) = index.records.first() {
            self.nodes[ROOT as usize].children.clear();
        }
        for (number, record) in (0..).zip(&index.records).skip(1) {
            let Record { entry, effect } = record;
            let parent = nodes[entry.parent as usize];
            let name = &entry.name;
            let origin = Origin { layer, record: number };
            let existing = self.child(parent, name).filter(|&id| matches!(self.nodes[id as usize].present, Present::Directory));
            let is_opaque = matches!(effect, Effect::PutOpaque | Effect::ImpliedOpaque);
            let is_implied = matches!(effect, Effect::Implied | Effect::ImpliedOpaque);
            match (effect, entry.kind) {
                (Effect::Whiteout, _) => drop(self.nodes[parent as usize].children.remove(name)),
                (Effect::LinkBelow, _) => {
                    let inode = below.get(&number).copied().unwrap_or_default();
                    self.linked_above.insert(inode);
                    self.put(parent, name, Present::Inode(inode), None, self.inodes[inode as usize].1);
                }
                (_, Kind::Directory) => {
                    let id = match existing {
                        Some(id) => id,
                        None => {
                            let entry = Entry { mtime: self.created, ..blank(0, name, Kind::Directory, 0o755) };
                            self.put(parent, name, Present::Directory, Some(entry), origin)
                        }
                    };
                    let node = &mut self.nodes[id as usize];
                    if is_opaque {
                        node.children.clear();
                    }
                    node.is_implied_above = is_implied && existing.is_some();
                    if !is_implied {
                        (node.entry, node.origin) = (Some(entry.clone()), origin);
                    }
                    nodes[number as usize] = id;
                }
                (_, _) => {
                    let inode = match entry.link_group {
                        Some(group) => *groups.entry(group).or_insert_with(|| self.inode(entry, origin)),
                        None => self.inode(entry, origin),
                    };
                    self.put(parent, name, Present::Inode(inode), None, origin);
                }
            }
        }
        Ok(())
    }

    /// The inodes of links to files of the layers below, by the records' numbers.
    fn links_below(&self, index: &Index) -> Result<HashMap<u32, u32>, MergeError> {
        let mut links = HashMap::new();
        for (number, record) in (0..).zip(&index.records) {
            if record.effect != Effect::LinkBelow {
                continue;
            }
            let target = &record.entry.target;
            match self.get(target).map(|id| self.nodes[id as usize].present) {
                Some(Present::Inode(inode)) => drop(links.insert(number, inode)),
                _ => {
                    let path = escape(&index.path(number));
                    return Err(MergeError::HardLink { path, target: escape(target) });
                }
            }
        }
        Ok(links)
    }

    fn inode(&mut self, entry: &Entry, origin: Origin) -> u32 {
        self.inodes.push((entry.clone(), origin));
        (self.inodes.len() - 1) as u32
    }

    fn put(&mut self, parent: NodeId, name: &[u8], present: Present, entry: Option<Entry>, origin: Origin) -> NodeId {
        // What was there is forgotten, with all that was in it.
        let id = self.nodes.len() as u32;
        self.nodes.push(Node { name: name.to_vec(), present, entry, origin, is_implied_above: false, children: HashMap::new() });
        self.nodes[parent as usize].children.insert(name.to_vec(), id);
        id
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes[parent as usize].children.get(name).copied()
    }

    /// What is at an absolute path; links are not followed.
    pub(super) fn get(&self, path: &[u8]) -> Option<NodeId> {
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        names.try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// The entry of a directory.
    pub(super) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Entry> {
        self.nodes[id as usize].entry.as_mut()
    }

    pub(super) fn is_empty(&self, id: NodeId) -> bool {
        self.nodes[id as usize].children.is_empty()
    }

    pub(super) fn remove(&mut self, parent: NodeId, name: &[u8]) {
        self.nodes[parent as usize].children.remove(name);
    }

    fn into_tree(self) -> Result<Merged, MergeError> {
        let mut builder = TreeBuilder::default();
        let (mut origins, mut patches) = (vec![], vec![]);
        let mut stack = vec![(ROOT, 0)];
        while let Some((id, parent)) = stack.pop() {
            let node = &self.nodes[id as usize];
            let (mut entry, origin) = match (node.present, &node.entry) {
                (Present::Inode(inode), _) => {
                    let (entry, origin) = &self.inodes[inode as usize];
                    (Entry { link_group: Some(u64::from(inode)), ..entry.clone() }, *origin)
                }
                (Present::Directory, entry) => {
                    (entry.clone().unwrap_or_else(|| blank(0, b"", Kind::Directory, 0o755)), node.origin)
                }
            };
            entry.parent = parent;
            entry.name.clone_from(&node.name);
            let id = builder.push(entry)?;
            origins.push(origin);
            let is_linked_above = matches!(node.present, Present::Inode(inode) if self.linked_above.contains(&inode));
            patches.extend((node.is_implied_above || is_linked_above).then_some(id));
            let mut children: Vec<NodeId> = node.children.values().copied().collect();
            children.sort_unstable_by(|&one, &other| self.nodes[other as usize].name.cmp(&self.nodes[one as usize].name));
            stack.extend(children.into_iter().map(|child| (child, id.0)));
        }
        Ok(Merged { tree: builder.finish()?, origins, patches })
    }
}
