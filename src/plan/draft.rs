//! The plan in the making: for each entry of the tree, why it is kept so far.
//!
//! The rules only ever add; parents follow at the end, in one pass from the leaves to the root, and so does what the user
//! excludes. Everything is indexed by the entry's number: a tree of a million entries needs no table of paths.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{Kept, Reason};
use super::resolve::{Resolution, View};
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;

/// See the module.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// What is chosen from.
    pub(super) tree: &'a Tree,
    reasons: Vec<Vec<Reason>>,
    /// Directories of which a process saw the names, and why those are kept.
    pub(super) listed: BTreeMap<EntryId, Reason>,
    /// Files that will be executed; whether their libraries must be found as well (nobody was seen to load them).
    programs: BTreeMap<EntryId, bool>,
    /// Those of them at which the closure hasn't looked yet, or not with libraries.
    pending: BTreeSet<EntryId>,
    /// For the user, in words.
    pub(super) notes: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(tree: &'a Tree) -> Draft<'a> {
        Draft {
            tree,
            reasons: vec![vec![]; tree.len()],
            listed: BTreeMap::new(),
            programs: BTreeMap::new(),
            pending: BTreeSet::new(),
            notes: vec![],
        }
    }

    /// Keeps an entry. The strongest reasons stay, whatever the order in which they come.
    pub(super) fn keep(&mut self, id: EntryId, reason: Reason) {
        let reasons = &mut self.reasons[id.0 as usize];
        if let Err(at) = reasons.binary_search_by(|present| present.strongest_first(&reason))
            && at < Kept::MAX_REASONS
        {
            reasons.truncate(Kept::MAX_REASONS - 1);
            reasons.insert(at, reason);
        }
    }

    /// Keeps what was passed on the way of `spelling`.
    pub(super) fn keep_passed(&mut self, resolution: &Resolution, spelling: Spelling) {
        for &id in &resolution.passed {
            let reason = match self.tree.kind(id) {
                Kind::Symlink => Reason::Link { to: spelling.joined() },
                _ => Reason::Parent,
            };
            self.keep(id, reason);
        }
    }

    /// Keeps what `path` leads to in the image, and the way there. The entry, where there is one.
    pub(super) fn keep_path(&mut self, path: &[u8], reason: Reason) -> Option<EntryId> {
        let spelling = Spelling::absolute(path);
        let resolution = View::of(self.tree).resolve(spelling, true);
        let id = resolution.found()?;
        self.keep_passed(&resolution, spelling);
        self.keep(id, reason);
        Some(id)
    }

    /// Keeps everything below `id`, itself included; for a symbolic link to a file, the file as well.
    pub(super) fn keep_subtree(&mut self, id: EntryId, reason: &Reason) {
        for entry in self.tree.walk(id) {
            self.keep_with_file(entry, reason);
        }
    }

    /// Keeps one entry; for a symbolic link to a file, the file as well. What is not a directory, at the end of the link.
    pub(super) fn keep_with_file(&mut self, id: EntryId, reason: &Reason) -> Option<EntryId> {
        self.keep(id, reason.clone());
        if self.tree.kind(id) != Kind::Symlink {
            return Some(id).filter(|&id| self.tree.kind(id) != Kind::Directory);
        }
        let path = self.tree.path(id);
        let spelling = Spelling::absolute(&path);
        let resolution = View::of(self.tree).resolve(spelling, true);
        let file = resolution.found().filter(|&file| self.tree.kind(file) != Kind::Directory)?;
        self.keep_passed(&resolution, spelling);
        self.keep(file, reason.clone());
        Some(file)
    }

    /// Has the closure look at an executable file.
    pub(super) fn run(&mut self, id: EntryId, with_libraries: bool) {
        let known = self.programs.get(&id).copied();
        if self.tree.kind(id) == Kind::File && known.is_none_or(|had_libraries| with_libraries && !had_libraries) {
            self.programs.insert(id, with_libraries);
            self.pending.insert(id);
        }
    }

    /// Up to `count` of the programs that wait for the closure, and whether their libraries are wanted.
    pub(super) fn next_programs(&mut self, count: usize) -> Vec<(EntryId, bool)> {
        let next = std::iter::from_fn(|| self.pending.pop_first()).take(count);
        next.map(|id| (id, self.programs.get(&id).copied().unwrap_or_default())).collect()
    }

    pub(super) fn is_kept(&self, id: EntryId) -> bool {
        !self.reasons[id.0 as usize].is_empty()
    }

    pub(super) fn reasons(&self, id: EntryId) -> &[Reason] {
        &self.reasons[id.0 as usize]
    }

    /// Takes out the entries for which `is_excluded` says so and below which nothing is kept; then keeps all parents.
    pub(super) fn close(&mut self, mut is_excluded: impl FnMut(EntryId, &[Reason]) -> bool) {
        let mut holds_kept = vec![false; self.tree.len()];
        holds_kept[EntryId::ROOT.0 as usize] = true;
        // children have higher numbers than their parents
        for index in (0..self.tree.len()).rev() {
            let id = EntryId(index as u32);
            if holds_kept[index] {
                self.keep(id, Reason::Parent);
            } else if self.is_kept(id) && is_excluded(id, &self.reasons[index]) {
                self.reasons[index].clear();
            }
            if self.is_kept(id) {
                holds_kept[self.tree.parent(id).0 as usize] = true;
            }
        }
    }

    /// The kept entries in the plan's order.
    pub(super) fn into_entries(mut self) -> Vec<Kept> {
        let tree = self.tree;
        let kept = tree.walk(EntryId::ROOT).filter_map(|id| {
            let reasons = std::mem::take(&mut self.reasons[id.0 as usize]);
            (!reasons.is_empty()).then(|| Kept { path: tree.path(id), mode: None, owner: None, reasons })
        });
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::testing::paths;

    #[test]
    fn the_strongest_reasons_stay_in_any_order() {
        let tree = fixture::tree(&["/a"]);
        let a = tree.get(b"/a").expect("a");
        let asked = |number: u8| Reason::Asked { option: format!("{number:02}") };
        let collect = |numbers: &mut dyn Iterator<Item = u8>| {
            let mut draft = Draft::new(&tree);
            draft.keep(a, Reason::Parent);
            numbers.for_each(|number| draft.keep(a, asked(number % 20)));
            draft.reasons(a).to_vec()
        };
        let forward = collect(&mut (0..40));
        assert_eq!(forward, (0..8).map(asked).collect::<Vec<_>>());
        assert_eq!(forward, collect(&mut (0..40).rev()));
    }

    #[test]
    fn closing_keeps_parents_and_drops_what_is_excluded() {
        let tree = fixture::tree(&["/a/b/c", "/a/b/d", "/a/x/y", "/z/"]);
        let mut draft = Draft::new(&tree);
        for path in ["/a/b", "/a/b/c", "/a/b/d", "/a/x/y"] {
            draft.keep_path(path.as_bytes(), Reason::Rule { rule: "test".into() });
        }
        // `/a/b` is excluded as well, but it holds `/a/b/d`; `/a/x` was only there for what it holds
        let excluded = ["/a/b", "/a/b/c", "/a/x/y"];
        draft.close(|id, _| excluded.contains(&&*String::from_utf8_lossy(&tree.path(id))));
        assert_eq!(paths(&draft.into_entries()), ["/", "/a", "/a/b", "/a/b/d"]);
    }

    #[test]
    fn nothing_at_all_is_the_root() {
        let tree = fixture::tree(&["/a"]);
        let mut draft = Draft::new(&tree);
        draft.close(|_, _| true);
        assert_eq!(paths(&draft.into_entries()), ["/"]);
    }
}
