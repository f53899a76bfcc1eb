//! What not every run of an image used: where several were watched, the difference tells how much they depend on chance.

use std::collections::BTreeMap;

use super::observed::Uses;
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::Observation;

/// The entries that some of the runs used and others did not, each with the numbers of the runs that did, from 1.
#[must_use]
pub fn seen_by_some(tree: &Tree, observations: &[Observation], own_prefix: &[u8]) -> Vec<(EntryId, Vec<usize>)> {
    let mut seen: BTreeMap<EntryId, Vec<usize>> = BTreeMap::new();
    if observations.len() < 2 {
        return vec![];
    }
    for (number, observation) in (1..).zip(observations) {
        Uses::new(tree, observation, own_prefix).for_each(|used| {
            let Some(entry) = used.entry() else { return };
            let runs = seen.entry(entry).or_default();
            if runs.last() != Some(&number) {
                runs.push(number);
            }
        });
    }
    seen.into_iter().filter(|(_, runs)| runs.len() < observations.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::observe::observation::Access;
    use crate::plan::testing::observation;

    #[test]
    fn what_all_runs_used_is_not_told() {
        let tree = fixture::tree(&["/a", "/b", "/c"]);
        let run = |paths: &[&str]| observation(&paths.iter().map(|&path| (Access::Open, path)).collect::<Vec<_>>());
        let runs = [run(&["/a", "/b", "/b"]), run(&["/a", "/gone"]), run(&["/c", "/b", "/a"])];
        let some = seen_by_some(&tree, &runs, b"");
        let named: Vec<_> = some.iter().map(|(id, runs)| (tree.path(*id), runs.clone())).collect();
        assert_eq!(named, [(b"/b".to_vec(), vec![1, 3]), (b"/c".to_vec(), vec![3])]);
        assert_eq!(seen_by_some(&tree, &runs[..1], b""), []);
    }
}
