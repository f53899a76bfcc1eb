//! The tree of an image: every entry with its metadata, as the packer listed it.
//!
//! An image can hold a million entries, so the tree is a table: one fixed-size row for each entry, names in one run of
//! bytes, rare things (link targets, extended attributes) beside it. Children of a directory are a range of one index,
//! sorted by name, so a look-up is a binary search and a walk in path order needs no sorting. Entries are numbered in
//! the order of the listing, which puts parents before children.

use std::collections::HashMap;

pub use slim_sensor::wire::{Entry, Kind, Xattr};

use crate::escape::escape;

/// The number of an entry in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u32);

impl EntryId {
    /// The root directory.
    pub const ROOT: EntryId = EntryId(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What makes a listing unusable as a tree: the packer (or who pretends to be it) broke its contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Not exactly one root, as the first entry.
    #[error("the listing does not begin with the root directory")]
    Root,
    /// A parent that is not an earlier directory.
    #[error("entry `{0}` is not in a directory that was listed before it")]
    Parent(String),
    /// A name that cannot be one.
    #[error("`{0}` cannot be a file name")]
    Name(String),
    /// The same path twice.
    #[error("`{0}` is listed twice")]
    Duplicate(String),
    /// More entries or bytes of names than a tree can number.
    #[error("the image has too many entries")]
    TooLarge,
}

/// A row: 64 bytes.
#[derive(Debug, Clone)]
struct Row {
    name: u32,
    name_length: u16,
    mode: u16,
    parent: u32,
    uid: u32,
    gid: u32,
    mtime_nanoseconds: u32,
    mtime: i64,
    size: u64,
    /// Index of its first child in `children`; where the next directory's begin is its `children_end`.
    children: u32,
    children_end: u32,
    /// Into `extras`, `NONE` for the many that have none.
    extra: u32,
    kind: Kind,
}

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Default)]
struct Extra {
    target: Box<[u8]>,
    xattrs: Box<[Xattr]>,
    device: (u32, u32),
    link_group: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    rows: Vec<Row>,
    names: Vec<u8>,
    extras: Vec<Extra>,
    children: Vec<EntryId>,
    /// Members of each hard-link group, in listing order.
    links: HashMap<u64, Vec<EntryId>>,
}

/// Takes entries in listing order, gives the [`Tree`].
#[derive(Debug, Default)]
pub struct TreeBuilder {
    tree: Tree,
}

impl TreeBuilder {
    /// Adds the next entry.
    ///
    /// # Errors
    /// [`TreeError`] where the entry cannot be in a tree.
    pub fn push(&mut self, entry: Entry) -> Result<EntryId, TreeError> {
        let tree = &mut self.tree;
        let id = EntryId(u32::try_from(tree.rows.len()).ok().filter(|&id| id < NONE).ok_or(TreeError::TooLarge)?);
        if id == EntryId::ROOT {
            if entry.kind != Kind::Directory || !entry.name.is_empty() {
                return Err(TreeError::Root);
            }
        } else {
            let name = &entry.name;
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) || name.len() > 255 {
                return Err(TreeError::Name(escape(name)));
            }
            match tree.rows.get(entry.parent as usize) {
                Some(parent) if parent.kind == Kind::Directory => {}
                _ => return Err(TreeError::Parent(escape(name))),
            }
        }
        let name = u32::try_from(tree.names.len()).map_err(|_| TreeError::TooLarge)?;
        tree.names.extend_from_slice(&entry.name);
        let mut extra = NONE;
        if entry.link_group.is_some() || !entry.target.is_empty() || !entry.xattrs.is_empty() || entry.device != (0, 0) {
            extra = u32::try_from(tree.extras.len()).map_err(|_| TreeError::TooLarge)?;
            tree.extras.push(Extra {
                target: entry.target.into(),
                xattrs: entry.xattrs.into(),
                device: entry.device,
                link_group: entry.link_group,
            });
            if let Some(group) = entry.link_group {
                tree.links.entry(group).or_default().push(id);
            }
        }
        tree.rows.push(Row {
            name,
            name_length: entry.name.len() as u16,
            mode: entry.mode & 0o7777,
            parent: entry.parent,
            uid: entry.uid,
            gid: entry.gid,
            mtime_nanoseconds: entry.mtime_nanoseconds.min(999_999_999),
            mtime: entry.mtime,
            size: if entry.kind == Kind::File { entry.size } else { 0 },
            children: 0,
            children_end: 0,
            extra,
            kind: entry.kind,
        });
        Ok(id)
    }

    /// Sorts and indexes what was pushed.
    ///
    /// # Errors
    /// [`TreeError::Root`] for an empty listing, [`TreeError::Duplicate`].
    pub fn finish(self) -> Result<Tree, TreeError> {
        let mut tree = self.tree;
        if tree.rows.is_empty() {
            return Err(TreeError::Root);
        }
        let mut children: Vec<EntryId> = (1..tree.rows.len() as u32).map(EntryId).collect();
        children.sort_unstable_by(|&a, &b| {
            (tree.rows[a.index()].parent, tree.name(a)).cmp(&(tree.rows[b.index()].parent, tree.name(b)))
        });
        for (position, &child) in children.iter().enumerate() {
            let parent = tree.rows[child.index()].parent;
            if position > 0 {
                let before = children[position - 1];
                if tree.rows[before.index()].parent == parent && tree.name(before) == tree.name(child) {
                    return Err(TreeError::Duplicate(escape(&tree.path(child))));
                }
            }
            let row = &mut tree.rows[parent as usize];
            if row.children_end == 0 {
                row.children = position as u32;
            }
            row.children_end = position as u32 + 1;
        }
        tree.children = children;
        tree.links.retain(|_, members| members.len() > 1);
        Ok(tree)
    }
}

impl Tree {
    /// Gives the root directory other permissions.
    pub fn set_root_mode(&mut self, mode: u16) {
        if let Some(root) = self.rows.first_mut() {
            root.mode = mode & 0o7777;
        }
    }

    /// How many entries there are, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never true of a tree that [`TreeBuilder::finish`] gave.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All entries, parents before children.
    pub fn ids(&self) -> impl Iterator<Item = EntryId> + use<> {
        (0..self.rows.len() as u32).map(EntryId)
    }

    /// The last component of the path; empty for the root.
    #[must_use]
    pub fn name(&self, id: EntryId) -> &[u8] {
        let row = &self.rows[id.index()];
        &self.names[row.name as usize..row.name as usize + usize::from(row.name_length)]
    }

    /// The absolute path: `/` for the root, no slash at the end otherwise.
    #[must_use]
    pub fn path(&self, id: EntryId) -> Vec<u8> {
        if id == EntryId::ROOT {
            return b"/".to_vec();
        }
        let mut names = vec![];
        let mut at = id;
        while at != EntryId::ROOT {
            names.push(self.name(at));
            at = self.parent(at);
        }
        let mut path = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// The directory that it is in; the root is its own parent.
    #[must_use]
    pub fn parent(&self, id: EntryId) -> EntryId {
        EntryId(self.rows[id.index()].parent)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self, id: EntryId) -> Kind {
        self.rows[id.index()].kind
    }

    /// Permission bits with set-user-id, set-group-id and sticky.
    #[must_use]
    pub fn mode(&self, id: EntryId) -> u16 {
        self.rows[id.index()].mode
    }

    /// Owner and group.
    #[must_use]
    pub fn owner(&self, id: EntryId) -> (u32, u32) {
        let row = &self.rows[id.index()];
        (row.uid, row.gid)
    }

    /// Modification time: seconds and nanoseconds.
    #[must_use]
    pub fn mtime(&self, id: EntryId) -> (i64, u32) {
        let row = &self.rows[id.index()];
        (row.mtime, row.mtime_nanoseconds)
    }

    /// Bytes of a regular file, 0 for anything else.
    #[must_use]
    pub fn size(&self, id: EntryId) -> u64 {
        self.rows[id.index()].size
    }

    fn extra(&self, id: EntryId) -> Option<&Extra> {
        self.extras.get(self.rows[id.index()].extra as usize)
    }

    /// Where a symbolic link points; empty for anything else.
    #[must_use]
    pub fn target(&self, id: EntryId) -> &[u8] {
        self.extra(id).map_or(&[], |extra| &extra.target)
    }

    /// Extended attributes, sorted by name.
    #[must_use]
    pub fn xattrs(&self, id: EntryId) -> &[Xattr] {
        self.extra(id).map_or(&[], |extra| &extra.xattrs)
    }

    /// Major and minor number of a device.
    #[must_use]
    pub fn device(&self, id: EntryId) -> (u32, u32) {
        self.extra(id).map_or((0, 0), |extra| extra.device)
    }

    /// All names of the file, this one included, where it has more than one in the tree; else nothing.
    #[must_use]
    pub fn hard_links(&self, id: EntryId) -> &[EntryId] {
        self.extra(id).and_then(|extra| extra.link_group).and_then(|group| self.links.get(&group)).map_or(&[], Vec::as_slice)
    }

    /// The entries of a directory, sorted by name.
    #[must_use]
    pub fn children(&self, id: EntryId) -> &[EntryId] {
        let row = &self.rows[id.index()];
        &self.children[row.children as usize..row.children_end as usize]
    }

    /// The entry `name` of directory `id`.
    #[must_use]
    pub fn child(&self, id: EntryId, name: &[u8]) -> Option<EntryId> {
        let children = self.children(id);
        children.binary_search_by(|&child| self.name(child).cmp(name)).ok().map(|at| children[at])
    }

    /// The entry with exactly this path; symbolic links are not followed (see `plan::resolve` for that).
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<EntryId> {
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).try_fold(EntryId::ROOT, |at, name| self.child(at, name))
    }

    /// `id` and everything below it, in path order, directories before what they hold.
    pub fn walk(&self, id: EntryId) -> impl Iterator<Item = EntryId> {
        let mut stack = vec![id];
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(self.children(next).iter().rev());
            Some(next)
        })
    }
}

/// Trees for tests, from a few words a line.
#[cfg(test)]
pub mod fixture {
    use super::*;

    /// Makes a tree: `/path` is a file, `/path/` a directory, `/path -> target` a link; options after it:
    /// `mode=0755`, `uid=1`, `gid=1`, `size=10`, `link=7` (hard-link group), `fifo`. Parents are made as needed (0755).
    #[must_use]
    pub fn tree(lines: &[&str]) -> Tree {
        let mut entries = std::collections::BTreeMap::<Vec<u8>, Entry>::new();
        let blank = |name: &str, kind, mode| Entry {
            parent: 0,
            name: name.as_bytes().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            mtime_nanoseconds: 0,
            size: 0,
            device: (0, 0),
            link_group: None,
            target: vec![],
            xattrs: vec![],
        };
        entries.insert(b"/".to_vec(), blank("", Kind::Directory, 0o755));
        for line in lines {
            let (line, target) = line.split_once(" -> ").map_or((*line, None), |(path, rest)| (path, Some(rest)));
            let words: Vec<&str> = target.unwrap_or(line).split(' ').collect();
            let path = if target.is_some() { line } else { words[0] };
            let kind = match (target, path.ends_with('/')) {
                (Some(_), _) => Kind::Symlink,
                (None, true) => Kind::Directory,
                (None, false) if words.contains(&"fifo") => Kind::Fifo,
                (None, false) => Kind::File,
            };
            let path = path.trim_end_matches('/');
            for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
                let name = path[..at].rsplit('/').next().unwrap_or_default();
                entries.entry(path.as_bytes()[..at].to_vec()).or_insert_with(|| blank(name, Kind::Directory, 0o755));
            }
            let mode = match kind {
                Kind::Directory => 0o755,
                Kind::Symlink => 0o777,
                _ => 0o644,
            };
            let mut entry = blank(path.rsplit('/').next().unwrap_or_default(), kind, mode);
            if target.is_some() {
                entry.target = words[0].as_bytes().to_vec();
            }
            for word in &words[1..] {
                match word.split_once('=') {
                    Some(("mode", value)) => entry.mode = u16::from_str_radix(value, 8).expect("mode"),
                    Some(("uid", value)) => entry.uid = value.parse().expect("uid"),
                    Some(("gid", value)) => entry.gid = value.parse().expect("gid"),
                    Some(("size", value)) => entry.size = value.parse().expect("size"),
                    Some(("link", value)) => entry.link_group = Some(value.parse().expect("link")),
                    _ => assert_eq!(*word, "fifo", "unknown word"),
                }
            }
            entries.insert(path.as_bytes().to_vec(), entry);
        }
        // parents before children: sort by path
        let numbers: HashMap<Vec<u8>, u32> = entries.keys().cloned().zip(0..).collect();
        let mut builder = TreeBuilder::default();
        for (path, mut entry) in entries {
            let parent = path.iter().rposition(|&byte| byte == b'/').filter(|&at| at > 0).map_or(&b"/"[..], |at| &path[..at]);
            entry.parent = numbers[parent];
            builder.push(entry).expect("entry");
        }
        builder.finish().expect("tree")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_walks_and_links() {
        let tree =
            fixture::tree(&["/b/z", "/b/a/", "/b/l -> ../x", "/x size=5 link=1 mode=4755", "/y size=5 link=1", "/only link=2"]);
        let x = tree.get(b"/x").expect("x");
        assert_eq!((tree.size(x), tree.mode(x), tree.hard_links(x).len()), (5, 0o4755, 2));
        assert!(tree.hard_links(tree.get(b"/only").expect("only")).is_empty());
        assert_eq!(tree.target(tree.get(b"/b/l").expect("l")), b"../x");
        assert_eq!(tree.get(b"/b/nothing"), None);
        assert_eq!(tree.get(b"/x/below-a-file"), None);
        let paths: Vec<_> = tree.walk(EntryId::ROOT).map(|id| escape(&tree.path(id))).collect();
        assert_eq!(paths, ["/", "/b", "/b/a", "/b/l", "/b/z", "/only", "/x", "/y"]);
    }

    #[test]
    fn hostile_listings_are_refused() {
        let root = Entry {
            parent: 0,
            name: vec![],
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanoseconds: 0,
            size: 0,
            device: (0, 0),
            link_group: None,
            target: vec![],
            xattrs: vec![],
        };
        let entry = |parent, name: &[u8], kind| Entry { parent, name: name.to_vec(), kind, ..root.clone() };
        assert!(TreeBuilder::default().finish().is_err());
        assert!(TreeBuilder::default().push(entry(0, b"a", Kind::File)).is_err());
        for bad in [
            entry(0, b"..", Kind::File),
            entry(0, b"a/b", Kind::File),
            entry(0, b"", Kind::File),
            entry(7, b"a", Kind::File),
            entry(1, b"below-a-file", Kind::File),
        ] {
            let mut builder = TreeBuilder::default();
            builder.push(root.clone()).expect("root");
            builder.push(entry(0, b"file", Kind::File)).expect("file");
            assert!(builder.push(bad.clone()).is_err(), "{bad:?}");
        }
        let mut builder = TreeBuilder::default();
        builder.push(root.clone()).expect("root");
        builder.push(entry(0, b"a", Kind::File)).expect("a");
        builder.push(entry(0, b"a", Kind::Directory)).expect("a");
        assert!(matches!(builder.finish(), Err(TreeError::Duplicate(path)) if path == "/a"));
    }
}
