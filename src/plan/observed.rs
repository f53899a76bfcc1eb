//! From uses to entries: everything that a process used is kept, and the way that it took there.
//!
//! A use of a path that is not in the image keeps no content, but the symbolic links on its way (the path must lead to
//! the same place again), and where something was made, changed or removed, the directory in which that was. What was
//! unlinked or renamed is kept as well: the next start finds the image as it was. Slim's own program counts for nothing.
//!
//! Most opens are seen twice. The program waits while the first sense (notify) looks at it; the second (fanotify) comes
//! later, when the process may be another program, or gone: whom it names is a matter of luck. So what the first sense
//! told already counts for nothing when the second tells it again, and who is not known is named by its process's other
//! uses. [`Uses`] goes through an observation in this way; `repair` and `widen` read theirs by it, too.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::draft::Draft;
use super::format::{PhaseName, Reason};
use super::looked_at::{KeepLookedAt, Sweeps};
use super::resolve::{End, Resolution, View};
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;
use crate::observe::observation::{Access, Observation, PathUse, Process, Sense};

/// The kernel's mark on a path whose name is gone.
const DELETED: &[u8] = b" (deleted)";

/// Keeps what one observation shows. `own_prefix` is the directory of slim's own program in the container.
pub(super) fn keep(draft: &mut Draft, observation: &Observation, policy: KeepLookedAt, own_prefix: &[u8]) {
    let uses = Uses::new(draft.tree, observation, own_prefix);
    let sweeps = Sweeps::find(draft.tree, observation, &uses.view);
    draft.notes.extend(sweeps.notes(draft.tree, observation));
    uses.for_each(|used| {
        let merely_looked_at = used.access == Access::Lookup || used.is_listing;
        let counts = match policy {
            KeepLookedAt::All => true,
            KeepLookedAt::None if used.access == Access::Lookup => false,
            _ => !(merely_looked_at && sweeps.contains(used.process)),
        };
        if !counts {
            return;
        }
        draft.keep_passed(&used.resolution, used.spelling);
        if let End::Found(id) = used.resolution.end {
            if used.is_listing {
                let reason = Reason::Listed { by: used.by.to_vec(), during: used.during.clone() };
                let first = draft.listed.entry(id).or_insert_with(|| reason.clone());
                *first = reason.min(first.clone());
            }
            if is_run(draft.tree, id, used.access) {
                draft.run(id, false);
            }
        }
        if let Some(id) = used.entry() {
            draft.keep(id, Reason::Used { access: used.access, by: used.by.to_vec(), during: used.during.clone() });
        }
    });
}

/// The uses of one observation, in the tree of the image that was observed, or of the one that it was made from.
pub(super) struct Uses<'a> {
    tree: &'a Tree,
    observation: &'a Observation,
    own_prefix: &'a [u8],
    /// The tree as its processes saw it.
    pub(super) view: View<'a>,
}

/// A use of a path, and what it means.
pub(super) struct Use<'a> {
    pub(super) access: Access,
    /// The number of the process.
    pub(super) process: u32,
    /// Its program.
    pub(super) by: &'a [u8],
    pub(super) during: PhaseName,
    pub(super) spelling: Spelling<'a>,
    pub(super) resolution: Resolution,
    /// A directory was opened, after which its names can be read.
    pub(super) is_listing: bool,
}

impl Use<'_> {
    /// What the use needs at its end, where the image has it.
    pub(super) fn entry(&self) -> Option<EntryId> {
        match self.resolution.end {
            End::Found(id) => Some(id),
            // the mount point alone: what is mounted there is not the image's
            End::Covered(point) => Some(point),
            End::Missing { directory } => directory.filter(|_| matches!(self.access, Access::Change | Access::Write)),
        }
    }
}

impl<'a> Uses<'a> {
    pub(super) fn new(tree: &'a Tree, observation: &'a Observation, own_prefix: &'a [u8]) -> Uses<'a> {
        Uses { tree, observation, own_prefix, view: View::with_mounts(tree, &observation.mounts) }
    }

    /// Goes through them: first what the first sense told, then what only the second did.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&Use)) {
        let Observation { phases, processes, uses, .. } = self.observation;
        let phases: Vec<PhaseName> = phases.iter().map(|phase| PhaseName::new(phase.kind, &phase.name)).collect();
        let executable = |path_use: &PathUse| processes.get(path_use.process as usize).map_or(&[][..], |it| &it.executable);
        let programs = Programs::find(processes);
        let mut seen_by_notify = HashSet::new();
        let (notify, fanotify): (Vec<&PathUse>, Vec<&PathUse>) =
            uses.iter().partition(|path_use| path_use.sense == Sense::Notify);
        for path_use in notify.into_iter().chain(fanotify) {
            if is_below(executable(path_use), self.own_prefix) {
                continue;
            }
            let path = without_mark(self.tree, path_use);
            let spelling = Spelling { root: &path_use.root, base: &path_use.base, path: &path };
            let resolution = self.view.resolve(spelling, path_use.access != Access::ReadLink);
            let is_listing = is_listing(self.tree, path_use.access, &resolution);
            if let End::Found(id) | End::Covered(id) = resolution.end {
                let seen = (id, if is_listing { Access::List } else { path_use.access });
                match path_use.sense {
                    Sense::Notify => drop(seen_by_notify.insert(seen)),
                    Sense::Fanotify if seen_by_notify.contains(&seen) => continue,
                    Sense::Fanotify => {}
                }
            }
            visit(&Use {
                access: path_use.access,
                process: path_use.process,
                by: programs.of(path_use),
                during: phases.get(path_use.phase as usize).cloned().unwrap_or_else(|| PhaseName(String::new())),
                spelling,
                resolution,
                is_listing,
            });
        }
    }
}

/// The programs of an observation's processes, those that were not known when they were told included.
struct Programs<'a> {
    /// By the number of a process: its program, else the one that it had been or become by then.
    earlier: Vec<&'a [u8]>,
    /// The same, or the one that it became.
    later: Vec<&'a [u8]>,
}

impl<'a> Programs<'a> {
    fn find(processes: &'a [Process]) -> Programs<'a> {
        fn carry<'a>(processes: impl Iterator<Item = &'a Process>) -> Vec<&'a [u8]> {
            let mut known: HashMap<i32, &[u8]> = HashMap::new();
            let carried = processes.map(|process| {
                let executable = known.entry(process.pid).or_default();
                if !process.executable.is_empty() {
                    *executable = &process.executable;
                }
                *executable
            });
            carried.collect()
        }
        let mut later = carry(processes.iter().rev());
        later.reverse();
        Programs { earlier: carry(processes.iter()), later }
    }

    /// The program that used a path. Unknown to fanotify is who is gone by now, to notify who is about to start.
    fn of(&self, path_use: &PathUse) -> &'a [u8] {
        let (first, second) = match path_use.sense {
            Sense::Fanotify => (&self.earlier, &self.later),
            Sense::Notify => (&self.later, &self.earlier),
        };
        let known =
            |programs: &[&'a [u8]]| programs.get(path_use.process as usize).copied().filter(|program| !program.is_empty());
        known(first).or_else(|| known(second)).unwrap_or_default()
    }
}

/// Whether this use is a directory's opening, after which its names can be read.
pub(super) fn is_listing(tree: &Tree, access: Access, resolution: &Resolution) -> bool {
    matches!(access, Access::List | Access::Open) && resolution.found().is_some_and(|id| tree.kind(id) == Kind::Directory)
}

/// Executed, or an executable file that was opened: an interpreter that opens a script itself, a wrapper that maps a program.
fn is_run(tree: &Tree, id: EntryId, access: Access) -> bool {
    access == Access::Exec || (access == Access::Open && tree.kind(id) == Kind::File && tree.mode(id) & 0o111 != 0)
}

/// The path without the kernel's mark, unless the image has a file that is really called so.
pub(super) fn without_mark<'a>(tree: &Tree, path_use: &'a PathUse) -> Cow<'a, [u8]> {
    match path_use.path.strip_suffix(DELETED) {
        Some(path) if path_use.sense == Sense::Fanotify && tree.get(path).is_some() && tree.get(&path_use.path).is_none() => {
            path.into()
        }
        _ => Cow::Borrowed(&path_use.path),
    }
}

/// Whether `path` is `directory` or below it.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    !directory.is_empty() && path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::observe::observation::{Mount, Phase, PhaseKind, Shows};
    use crate::plan::PlanError;
    use crate::plan::format::Plan;
    use crate::plan::testing::{Case, IMAGE, observation, path_use};

    fn kept(tree: &Tree, uses: &[(Access, &str)]) -> Vec<String> {
        let mut case = Case::new(tree);
        case.observations = vec![observation(uses)];
        case.kept()
    }

    #[test]
    fn uses_keep_the_entry_and_the_way_to_it() {
        let tree = fixture::tree(&[
            "/bin -> usr/bin",
            "/usr/bin/awk -> /etc/alternatives/awk",
            "/etc/alternatives/awk -> /usr/bin/gawk",
            "/usr/bin/gawk mode=755",
            "/usr/share/x/data",
            "/var/log/app/old.log",
            "/var/run -> /srv/run",
            "/srv/run/kept",
            "/dangling -> /nowhere/at/all",
        ]);
        use Access::{Change, Enter, Exec, List, Lookup, Open, ReadLink, Write};
        let awk =
            ["/bin", "/etc", "/etc/alternatives", "/etc/alternatives/awk", "/usr", "/usr/bin", "/usr/bin/awk", "/usr/bin/gawk"];
        let log = ["/var", "/var/log", "/var/log/app"];
        for (access, path, expected) in [
            (Exec, "/bin/awk", &awk[..]),
            (Open, "/bin/awk", &awk),
            (Lookup, "/bin/awk", &awk),
            (ReadLink, "/bin/awk", &["/bin", "/usr", "/usr/bin", "/usr/bin/awk"]),
            (Enter, "/usr/share/x", &["/usr", "/usr/share", "/usr/share/x"]),
            (List, "/usr/share/x", &["/usr", "/usr/share", "/usr/share/x", "/usr/share/x/data"]),
            // the directory that was left through `..` must be there, too
            (Open, "/usr/share/x/../../bin/gawk", &["/usr", "/usr/bin", "/usr/bin/gawk", "/usr/share", "/usr/share/x"]),
            (Open, "/dangling", &["/dangling"]),
            // not in the image: nothing, but the place where something was made
            (Lookup, "/var/log/app/new.log", &[]),
            (Open, "/var/log/app/new.log", &[]),
            (Write, "/var/log/app/new.log", &log),
            (Change, "/var/log/app/new.log", &log),
            (Write, "/var/log/app/made/new.log", &[]),
            // removed or renamed in the run: the next start finds it
            (Change, "/var/log/app/old.log", &["/var", "/var/log", "/var/log/app", "/var/log/app/old.log"]),
            // the link leads to the same place for who made it and for who looks for it
            (Write, "/var/run/pid", &["/srv", "/srv/run", "/var", "/var/run"]),
            (Lookup, "/var/run/pid", &["/var", "/var/run"]),
        ] {
            assert_eq!(kept(&tree, &[(access, path)]), expected, "{access:?} {path}");
        }
    }

    #[test]
    fn reasons_tell_who_and_when() {
        let tree = fixture::tree(&["/a", "/l -> a"]);
        let mut case = Case::new(&tree);
        let mut seen = observation(&[(Access::Open, "/l")]);
        seen.phases.push(Phase { kind: PhaseKind::Http, name: "GET /docs".into() });
        seen.uses.push(PathUse { process: 1, phase: 1, ..path_use(Access::Lookup, "/a") });
        // a number that leads nowhere, as in a damaged file, is no reason to fail
        seen.uses.push(PathUse { process: 99, phase: 99, ..path_use(Access::Enter, "/a") });
        case.observations = vec![seen];
        let Plan { entries, .. } = case.make().expect("plan");
        let used = |access, by: &str, during: &str| Reason::Used { access, by: by.into(), during: PhaseName(during.into()) };
        assert_eq!(
            entries[1].reasons,
            [
                used(Access::Open, "/bin/app", "start"),
                used(Access::Enter, "", ""),
                used(Access::Lookup, "/bin/other", "GET /docs")
            ]
        );
        assert_eq!(entries[2].reasons, [Reason::Link { to: b"/l".to_vec() }]);
    }

    /// Regression: an open that both senses saw was kept for two programs, one of them without a name where the process
    /// had ended before fanotify's event was read, so that two plans of the same run differed.
    #[test]
    fn what_both_senses_saw_has_one_reason() {
        let tree = fixture::tree(&["/conf", "/loader", "/start"]);
        let process = |pid, executable: &str| Process { pid, parent: 0, executable: executable.into(), command: vec![] };
        let mut seen = observation(&[]);
        seen.processes = vec![
            process(1, ""),
            process(1, "/bin/app"),
            process(7, "/bin/tool"),
            process(7, ""),
            process(8, ""),
            process(7, "/bin/late"),
        ];
        let path_use = |access, path: &str, sense, process| PathUse { sense, process, ..path_use(access, path) };
        // fanotify's in front, as it can be in a merged file
        seen.uses = vec![
            path_use(Access::Open, "/conf", Sense::Fanotify, 3),
            path_use(Access::Open, "/conf", Sense::Fanotify, 5),
            path_use(Access::Open, "/loader", Sense::Fanotify, 3),
            path_use(Access::Open, "/loader", Sense::Fanotify, 4),
            path_use(Access::Open, "/conf", Sense::Notify, 2),
            path_use(Access::Exec, "/start", Sense::Notify, 0),
        ];
        let mut case = Case::new(&tree);
        case.observations = vec![seen];
        let plan = case.make().expect("plan");
        let used = |access, by: &str| Reason::Used { access, by: by.into(), during: PhaseName("start".into()) };
        let reasons: Vec<_> = plan.entries[1..].iter().map(|kept| &kept.reasons[..]).collect();
        assert_eq!(reasons[0], [used(Access::Open, "/bin/tool")]);
        assert_eq!(reasons[1], [used(Access::Open, ""), used(Access::Open, "/bin/tool")]);
        assert_eq!(reasons[2], [used(Access::Exec, "/bin/app")]);
    }

    /// Regression: of the directories that a sweep had listed, those of the last moment were told by fanotify when the
    /// process was gone, and their names were kept as if somebody else had listed them.
    #[test]
    fn a_sweep_that_fanotify_tells_of_late_is_still_one() {
        let lines: Vec<String> = (0..1500).map(|number| format!("/d{}/{number} size=1", number % 3)).collect();
        let tree = fixture::tree(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let mut seen = observation(&[]);
        seen.processes.push(Process { pid: seen.processes[1].pid, parent: 0, executable: vec![], command: vec![] });
        let gone = seen.processes.len() as u32 - 1;
        let by = |process, sense, access, path: &str| PathUse { process, sense, ..path_use(access, path) };
        for line in &lines {
            seen.uses.push(by(1, Sense::Notify, Access::Lookup, line.split(' ').next().expect("path")));
        }
        for directory in ["/d0", "/d1", "/d2"] {
            // by its name, and as the kernel tells of the same call
            seen.uses.push(by(1, Sense::Notify, Access::Open, directory));
            seen.uses.push(by(gone, Sense::Fanotify, Access::List, directory));
        }
        let mut case = Case::new(&tree);
        case.observations = vec![seen];
        assert_eq!(case.kept(), [""; 0]);
    }

    #[test]
    fn what_is_mounted_or_our_own_is_no_content() {
        let tree = fixture::tree(&["/data/file", "/proc/fake", "/var/lib/db/seed", "/secret", "/slim-own/slim mode=755"]);
        let mut seen = observation(&[(Access::Open, "/data/file"), (Access::Write, "/data/new"), (Access::Open, "/proc/fake")]);
        seen.mounts = vec![
            Mount { target: b"/data".to_vec(), shows: Shows::User },
            Mount { target: b"/var/lib/db".to_vec(), shows: Shows::Image },
        ];
        seen.uses.push(path_use(Access::Open, "/var/lib/db/seed"));
        seen.uses.push(PathUse { process: 2, ..path_use(Access::Open, "/secret") });
        let mut case = Case::new(&tree);
        case.observations = vec![seen];
        assert_eq!(case.kept(), ["/data", "/proc", "/var", "/var/lib", "/var/lib/db", "/var/lib/db/seed"]);
    }

    #[test]
    fn paths_are_seen_from_the_root_and_the_directory_of_the_process() {
        let tree = fixture::tree(&["/jail/etc/conf", "/etc/conf", "/srv/app/data"]);
        let mut seen = observation(&[]);
        seen.uses = vec![
            PathUse { root: b"/jail".to_vec(), ..path_use(Access::Open, "/../etc/conf") },
            PathUse { base: b"/srv".to_vec(), ..path_use(Access::Open, "app/data") },
        ];
        let mut case = Case::new(&tree);
        case.observations = vec![seen];
        assert_eq!(case.kept(), ["/jail", "/jail/etc", "/jail/etc/conf", "/srv", "/srv/app", "/srv/app/data"]);
    }

    #[test]
    fn the_mark_of_a_deleted_file_is_taken_off() {
        let tree = fixture::tree(&["/gone", "/named (deleted) -> named", "/named"]);
        for (sense, path, expected) in [
            (Sense::Fanotify, "/gone (deleted)", &["/gone"][..]),
            (Sense::Fanotify, "/named (deleted)", &["/named", "/named (deleted)"]),
            (Sense::Fanotify, "/never (deleted)", &[]),
            (Sense::Notify, "/gone (deleted)", &[]),
        ] {
            let mut seen = observation(&[]);
            seen.uses = vec![PathUse { sense, ..path_use(Access::Open, path) }];
            let mut case = Case::new(&tree);
            case.observations = vec![seen];
            assert_eq!(case.kept(), expected, "{sense:?} {path}");
        }
    }

    #[test]
    fn observations_are_merged_and_must_be_of_the_image() {
        let tree = fixture::tree(&["/a", "/b", "/c"]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Open, "/a")]), observation(&[(Access::Open, "/b")])];
        assert_eq!(case.kept(), ["/a", "/b"]);
        let plan = case.make().expect("plan");
        case.observations.reverse();
        assert_eq!(case.make().expect("plan"), plan, "their order doesn't matter");
        case.observations[0].header.image = "sha256:beef".into();
        assert!(
            matches!(case.make(), Err(PlanError::OtherImage { observed, image }) if observed == "sha256:beef" && image == IMAGE)
        );
    }
}
