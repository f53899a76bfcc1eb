//! What a plan leaves out, told briefly: a directory of which nothing is kept is one row.

use super::{Plan, PlanError};
use crate::image::tree::{EntryId, Kind, Tree};

/// All that is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// In the order of the tree.
    pub rows: Vec<RemovedRow>,
    /// Entries in all rows.
    pub entries: u64,
    /// Bytes in all rows.
    pub bytes: u64,
}

/// A removed entry; a directory with everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedRow {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Itself and what is below it.
    pub entries: u64,
    /// Of files whose content is kept under no name; one with several names counts once.
    pub bytes: u64,
}

/// Compares an image with a plan of it.
///
/// # Errors
/// [`PlanError::NotInImage`]: the plan was made of another image.
pub fn removed(tree: &Tree, plan: &Plan) -> Result<Removed, PlanError> {
    let first_name = |id: EntryId| tree.hard_links(id).first().copied().unwrap_or(id).0 as usize;
    let mut is_kept = vec![false; tree.len()];
    let mut is_counted = vec![false; tree.len()];
    for id in plan.ids(tree)? {
        is_kept[id.0 as usize] = true;
        is_counted[first_name(id)] = true;
    }
    let mut removed = Removed::default();
    let mut pending = vec![EntryId::ROOT];
    while let Some(id) = pending.pop() {
        if is_kept[id.0 as usize] {
            pending.extend(tree.children(id).iter().rev());
            continue;
        }
        let mut row = RemovedRow { path: tree.path(id), kind: tree.kind(id), entries: 0, bytes: 0 };
        for below in tree.walk(id) {
            row.entries += 1;
            if !std::mem::replace(&mut is_counted[first_name(below)], true) {
                row.bytes = row.bytes.saturating_add(tree.size(below));
            }
        }
        removed.entries += row.entries;
        removed.bytes = removed.bytes.saturating_add(row.bytes);
        removed.rows.push(row);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;
    use crate::plan::testing::Case;

    #[test]
    fn whole_directories_are_one_row_and_content_counts_once() {
        let tree = fixture::tree(&[
            "/doc/a size=10",
            "/doc/deep/b size=20",
            "/doc/link -> a",
            "/bin/kept size=5 link=1",
            "/bin/same size=5 link=1",
            "/bin/gone size=7 link=2",
            "/doc/gone size=7 link=2",
        ]);
        let mut case = Case::new(&tree);
        case.extras.include_paths = vec![b"/bin/kept".to_vec()];
        let removed = removed(&tree, &case.make().expect("plan")).expect("removed");
        let rows: Vec<_> = removed.rows.iter().map(|row| (escape(&row.path), row.entries, row.bytes)).collect();
        assert_eq!(rows, [("/bin/gone".into(), 1, 7), ("/bin/same".into(), 1, 0), ("/doc".into(), 6, 30)]);
        assert_eq!((removed.entries, removed.bytes), (8, 37));
    }
}
