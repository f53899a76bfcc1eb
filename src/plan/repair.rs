//! What a slim image lacks: what its processes used by name, and only the image that it was made of has.
//!
//! A failed look-up is told like any other, by the path as it was written: the sensor sees a call before the kernel answers
//! it. So the observation of the *slim* image is read with the tree of the *fat* one. What a use leads to there, and what
//! is not in the slim image, was looked for in vain; that is the final entry, and also each symbolic link and directory on
//! the way. What the fat image hasn't either can't be the difference, and is not told.
//!
//! What only a sweep (`find /`, `du`) looked at was left out of the plan on purpose, and would bring much of the image back.
//! It is told only where nothing else is missing.

use std::collections::HashSet;

use super::extend::Addition;
use super::format::{PhaseName, Reason};
use super::looked_at::Sweeps;
use super::observed::{Use, Uses};
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::{Access, Observation};

/// Something that was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What the fat image has there.
    pub entry: EntryId,
    /// How it was to be used, by the first who tried.
    pub access: Access,
    /// Who that was: the process's executable.
    pub by: Vec<u8>,
    /// In which phase of the slim image's run.
    pub during: PhaseName,
    /// Only a sweep looked at it.
    pub by_sweep: bool,
}

impl Missing {
    /// What a plan needs for it to be found.
    #[must_use]
    pub fn addition(&self) -> Addition {
        Addition { entry: self.entry, reason: Reason::Repair { by: self.by.clone(), during: self.during.clone() } }
    }
}

/// What was looked for in vain: each entry once, in the order of first use. `observation` is of the slim image, `tree` of the
/// fat one; `is_kept` says what of that the slim one has. `own_prefix` is the directory of slim's own program.
#[must_use]
pub fn missing(tree: &Tree, observation: &Observation, own_prefix: &[u8], is_kept: &dyn Fn(EntryId) -> bool) -> Vec<Missing> {
    let uses = Uses::new(tree, observation, own_prefix);
    let sweeps = Sweeps::find(tree, observation, &uses.view);
    let (mut found, mut found_by_sweeps) = (Found::default(), Found::default());
    uses.for_each(|used| {
        let by_sweep = sweeps.contains(used.process) && (used.access == Access::Lookup || used.is_listing);
        let found = if by_sweep { &mut found_by_sweeps } else { &mut found };
        found.add(used, by_sweep, is_kept);
    });
    if found.missing.is_empty() { found_by_sweeps.missing } else { found.missing }
}

#[derive(Default)]
struct Found {
    missing: Vec<Missing>,
    known: HashSet<EntryId>,
}

impl Found {
    fn add(&mut self, used: &Use, by_sweep: bool, is_kept: &dyn Fn(EntryId) -> bool) {
        for entry in used.resolution.passed.iter().copied().chain(used.entry()) {
            if !is_kept(entry) && self.known.insert(entry) {
                let (by, during) = (used.by.to_vec(), used.during.clone());
                self.missing.push(Missing { entry, access: used.access, by, during, by_sweep });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;
    use crate::observe::observation::{Mount, PathUse, Phase, PhaseKind, Process, Sense, Shows};
    use crate::plan::testing::{observation, path_use};

    /// The paths that are missing in a slim image that has only `kept`.
    fn missing_paths(tree: &Tree, seen: &Observation, kept: &[&str]) -> Vec<String> {
        let kept: Vec<EntryId> = kept.iter().map(|path| tree.get(path.as_bytes()).expect("kept")).collect();
        let missing = missing(tree, seen, b"/slim-own", &|id| id == EntryId::ROOT || kept.contains(&id));
        missing.iter().map(|missing| escape(&tree.path(missing.entry))).collect()
    }

    #[test]
    fn what_the_fat_image_has_and_the_slim_one_lacks_is_missing() {
        let tree = fixture::tree(&[
            "/bin -> usr/bin",
            "/usr/bin/awk -> /etc/alternatives/awk",
            "/etc/alternatives/awk -> /usr/bin/gawk",
            "/usr/bin/gawk mode=755",
            "/srv/www/index.html",
            "/srv/cache/old",
            "/etc/app/conf",
        ]);
        use Access::{Change, Enter, Exec, List, Lookup, Open, ReadLink, Write};
        let all_of_awk = ["/bin", "/usr/bin/awk", "/etc/alternatives/awk", "/usr/bin/gawk"];
        for (access, path, kept, expected) in [
            (Exec, "/bin/awk", &[][..], &all_of_awk[..]),
            (Exec, "/bin/awk", &["/bin", "/usr/bin", "/usr/bin/gawk"], &["/usr/bin/awk", "/etc/alternatives/awk"]),
            (Exec, "/bin/awk", &all_of_awk, &[]),
            (ReadLink, "/bin/awk", &["/bin"], &["/usr/bin/awk"]),
            (Lookup, "/srv/www/index.html", &["/srv", "/srv/www"], &["/srv/www/index.html"]),
            (List, "/srv/www", &["/srv"], &["/srv/www"]),
            (Enter, "/srv/www", &["/srv", "/srv/www"], &[]),
            // the directory that is left through `..` must be there, too
            (Open, "/srv/cache/../www/index.html", &["/srv", "/srv/www", "/srv/www/index.html"], &["/srv/cache"]),
            // the fat image doesn't have it either; where something is made, the place is needed
            (Lookup, "/srv/cache/new", &[], &[]),
            (Open, "/srv/cache/new", &[], &[]),
            (Write, "/srv/cache/new", &["/srv"], &["/srv/cache"]),
            (Change, "/srv/cache/new", &["/srv", "/srv/cache"], &[]),
            (Lookup, "/nowhere/at/all", &[], &[]),
        ] {
            assert_eq!(missing_paths(&tree, &observation(&[(access, path)]), kept), expected, "{access:?} {path} {kept:?}");
        }
    }

    #[test]
    fn each_is_told_once_by_who_looked_first() {
        let tree = fixture::tree(&["/a", "/b", "/secret"]);
        let mut seen = observation(&[(Access::Lookup, "/b"), (Access::Open, "/a"), (Access::Open, "/b")]);
        seen.phases.push(Phase { kind: PhaseKind::Http, name: "GET /docs".into() });
        seen.uses.push(PathUse { process: 1, phase: 1, ..path_use(Access::Exec, "/a") });
        seen.uses.push(PathUse { process: 2, ..path_use(Access::Open, "/secret") });
        let missing = missing(&tree, &seen, b"/slim-own", &|id| id == EntryId::ROOT);
        let expected = |path: &[u8], access| Missing {
            by_sweep: false,
            entry: tree.get(path).expect("entry"),
            access,
            by: b"/bin/app".to_vec(),
            during: PhaseName("start".into()),
        };
        assert_eq!(missing, [expected(b"/b", Access::Lookup), expected(b"/a", Access::Open)]);
        let reason = Reason::Repair { by: b"/bin/app".to_vec(), during: PhaseName("start".into()) };
        assert_eq!(missing[0].addition(), Addition { entry: missing[0].entry, reason });
    }

    #[test]
    fn it_is_seen_as_the_process_saw_it() {
        let tree = fixture::tree(&["/jail/etc/conf", "/etc/conf", "/data/file", "/srv/app/x"]);
        let mut seen = observation(&[(Access::Open, "/data/file")]);
        seen.mounts = vec![Mount { target: b"/data".to_vec(), shows: Shows::User }];
        seen.uses.push(PathUse { root: b"/jail".to_vec(), ..path_use(Access::Open, "/etc/conf") });
        seen.uses.push(PathUse { base: b"/srv".to_vec(), ..path_use(Access::Open, "app/x") });
        seen.uses.push(PathUse { sense: Sense::Fanotify, ..path_use(Access::Open, "/etc/conf (deleted)") });
        assert_eq!(missing_paths(&tree, &seen, &["/data"]), ["/jail/etc/conf", "/srv/app/x", "/etc/conf"]);
    }

    #[test]
    fn sweeps_count_only_where_nothing_else_is_missing() {
        let lines: Vec<String> = (0..1500).map(|number| format!("/d/{number}")).collect();
        let tree = fixture::tree(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let mut seen = observation(&[(Access::Open, "/d/7")]);
        seen.processes.push(Process { pid: 9, parent: 1, executable: b"/bin/find".to_vec(), command: vec![] });
        let sweep = seen.processes.len() as u32 - 1;
        seen.uses.extend(lines.iter().map(|path| PathUse { process: sweep, ..path_use(Access::Lookup, path) }));
        assert_eq!(missing_paths(&tree, &seen, &["/d"]), ["/d/7"]);
        assert_eq!(missing_paths(&tree, &seen, &["/d", "/d/7"]).len(), 1499);
    }
}
