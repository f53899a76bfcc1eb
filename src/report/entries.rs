//! The two lists of a report: every entry of the image is in one of them.
//!
//! An image can have a million entries, so the rows are made while they are written, from the tree and the plan.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::escape;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::plan::{Plan, PlanError, Reason};

/// What is kept of an image, and what isn't.
#[derive(Debug, Clone)]
pub struct Entries {
    tree: Arc<Tree>,
    plan: Arc<Plan>,
    /// The plan's entries in the tree.
    kept: Vec<EntryId>,
    /// By number of entry.
    is_kept: Vec<bool>,
}

/// A kept entry.
#[derive(Serialize)]
struct KeptRow<'a> {
    #[serde(with = "escape::path")]
    path: &'a [u8],
    kind: Kind,
    size: u64,
    reasons: &'a [Reason],
}

/// Removed entries: how many, bytes of those that were files, each of them.
#[derive(Serialize)]
struct Removed<'a> {
    entries: usize,
    bytes: u64,
    paths: RemovedRows<'a>,
}

struct RemovedRows<'a>(&'a Entries);

/// A removed entry.
#[derive(Serialize)]
struct RemovedRow {
    #[serde(with = "escape::path")]
    path: Vec<u8>,
    kind: Kind,
    size: u64,
}

impl Entries {
    /// Compares an image with a plan of it.
    ///
    /// # Errors
    /// [`PlanError::NotInImage`] for a plan of another image.
    pub fn new(tree: Arc<Tree>, plan: Arc<Plan>) -> Result<Entries, PlanError> {
        let kept = plan.ids(&tree)?;
        let mut is_kept = vec![false; tree.len()];
        kept.iter().for_each(|id| is_kept[id.0 as usize] = true);
        Ok(Entries { tree, plan, kept, is_kept })
    }

    /// How many are kept, and how many removed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.kept.len(), self.tree.len() - self.kept.len())
    }

    fn is_kept(&self, id: EntryId) -> bool {
        self.is_kept[id.0 as usize]
    }

    fn removed(&self) -> impl Iterator<Item = EntryId> {
        self.tree.walk(EntryId::ROOT).filter(|&id| !self.is_kept(id))
    }

    /// Bytes of removed files. A file with several names counts once, and not at all while one of them is kept.
    fn removed_bytes(&self) -> u64 {
        let is_gone = |id: EntryId| {
            let names = self.tree.hard_links(id);
            names.iter().all(|&name| !self.is_kept(name)) && names.first().is_none_or(|&first| first == id)
        };
        self.removed().filter(|&id| is_gone(id)).map(|id| self.tree.size(id)).sum()
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kept", &KeptRows(self))?;
        let removed = Removed { entries: self.counts().1, bytes: self.removed_bytes(), paths: RemovedRows(self) };
        map.serialize_entry("removed", &removed)?;
        map.end()
    }
}

struct KeptRows<'a>(&'a Entries);

impl Serialize for KeptRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entries { tree, plan, kept, .. } = self.0;
        serializer.collect_seq(kept.iter().zip(&plan.entries).map(|(&id, entry)| KeptRow {
            path: &entry.path,
            kind: tree.kind(id),
            size: tree.size(id),
            reasons: &entry.reasons,
        }))
    }
}

impl Serialize for RemovedRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tree = &self.0.tree;
        serializer.collect_seq(self.0.removed().map(|id| RemovedRow {
            path: tree.path(id),
            kind: tree.kind(id),
            size: tree.size(id),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::Kept;

    #[test]
    fn everything_is_kept_or_removed_and_no_byte_counts_twice() {
        let tree =
            fixture::tree(&["/a/x size=5 link=1", "/a/y size=5 link=1", "/b/x size=7 link=2", "/b/y size=7 link=2", "/c size=1"]);
        let keep = |path: &str| Kept { path: path.into(), reasons: vec![Reason::Parent], mode: None, owner: None };
        let entries = ["/", "/a", "/a/y"].map(keep).into();
        let plan = Plan { version: Plan::VERSION, image: "sha256:1".into(), entries, notes: vec![] };
        let entries = Entries::new(Arc::new(tree), Arc::new(plan)).unwrap();
        assert_eq!(entries.counts(), (3, 5));
        let json = serde_json::to_value(&entries).unwrap();
        let paths = |rows: &serde_json::Value| -> Vec<String> {
            rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(paths(&json["kept"]), ["/", "/a", "/a/y"]);
        assert_eq!(paths(&json["removed"]["paths"]), ["/a/x", "/b", "/b/x", "/b/y", "/c"]);
        assert_eq!(json["removed"]["entries"], 5);
        assert_eq!(json["removed"]["bytes"], 8, "/a/x is still there as /a/y, /b/x and /b/y are one file");
    }
}
