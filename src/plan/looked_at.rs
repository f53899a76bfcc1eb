//! What was merely looked at: looked up by name, or seen as a name in a listed directory.
//!
//! It is part of what a program does: Python checks the `.py` beside a `.pyc`, PHP asks `file_exists`, a web server tries
//! files before it falls back, a plug-in loader lists a directory. It is also what `find /` does to a whole image. So the
//! names of a listed directory are kept while they weigh little, and a process that looks at a large part of the tree is
//! a sweep, whose looks keep nothing by themselves.
//!
//! Of a listed directory, files and other non-directories are kept with their content, symbolic links as links without
//! what they point to (a process that follows them looks that up by name), and directories only where something keeps
//! them anyway: an emptied one is not what was there, and Python, for one, imports it as a namespace package.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::draft::Draft;
use super::format::Reason;
use super::observed::{is_listing, without_mark};
use super::resolve::View;
use crate::escape::escape;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::{Access, Observation, Spelling};

/// The policy for what was merely looked at (`--keep-looked-at`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KeepLookedAt {
    /// Nothing of it: only what was opened, executed, entered, read as a link, written or changed.
    None,
    /// What was looked up by name, and the names in listed directories while they weigh little.
    #[default]
    Checked,
    /// What was looked up by name, and all names in listed directories.
    Listed,
    /// As `listed`, and what sweeps (`find /`, `du`) looked at counts too.
    All,
}

/// How many bytes the names of one listed directory may bring under [`KeepLookedAt::Checked`]. Configuration and plug-in
/// directories, whose names matter, hold small files; the directories that are listed only because something lies in
/// them (`/usr/lib/x86_64-linux-gnu`, `/usr/bin`) hold megabytes. Python lists each package that it imports from: with
/// this limit a web application keeps 50 KB of them that nothing else uses, with 64 KiB 270 KB, without any 6.7 MB.
const LISTED_BYTES: u64 = 16 << 10;
/// And how many names: each costs a header in the layer and a line in the report.
const LISTED_NAMES: usize = 1000;
/// And how many bytes all light directories may bring that one program listed: one that lists more walks through a tree in
/// search of something (RubyGems, `glob("**")`), and what it finds it opens or looks up by name.
const LISTED_BYTES_OF_PROGRAM: u64 = 16 * LISTED_BYTES;
/// Fewer looks than this are no sweep, however small the image.
const SWEEP_LOOKS: usize = 1000;
/// A process that looks at more than one in so many entries of the tree is a sweep.
const SWEEP_PART: usize = 10;
/// So many directories of which the names were too heavy are told by name.
const HEAVY_EXAMPLES: usize = 3;

/// The processes of an observation that looked at a large part of the tree, and at how many entries.
#[derive(Debug)]
pub(super) struct Sweeps(BTreeMap<u32, usize>);

impl Sweeps {
    /// Finds them.
    pub(super) fn find(tree: &Tree, observation: &Observation, view: &View) -> Sweeps {
        let most = SWEEP_LOOKS.max(tree.len() / SWEEP_PART);
        let looks = |access| matches!(access, Access::Lookup | Access::List | Access::Open);
        let mut told: BTreeMap<u32, usize> = BTreeMap::new();
        for path_use in observation.uses.iter().filter(|path_use| looks(path_use.access)) {
            *told.entry(path_use.process).or_default() += 1;
        }
        told.retain(|_, count| *count > most);
        // of the few that may be one, count the different entries that were found
        let mut found: BTreeMap<u32, HashSet<EntryId>> = BTreeMap::new();
        for path_use in observation.uses.iter().filter(|path_use| looks(path_use.access) && told.contains_key(&path_use.process))
        {
            let path = without_mark(tree, path_use);
            let resolution = view.resolve(Spelling { root: &path_use.root, base: &path_use.base, path: &path }, true);
            if let Some(id) = resolution.found()
                && (path_use.access == Access::Lookup || is_listing(tree, path_use.access, &resolution))
            {
                found.entry(path_use.process).or_default().insert(id);
            }
        }
        found.retain(|_, entries| entries.len() > most);
        Sweeps(found.into_iter().map(|(process, entries)| (process, entries.len())).collect())
    }

    /// What the user should know of them.
    pub(super) fn notes(&self, tree: &Tree, observation: &Observation) -> Vec<String> {
        let note = |(&process, count): (&u32, &usize)| {
            let program = observation.processes.get(process as usize).map_or_else(String::new, |it| escape(&it.executable));
            format!(
                "`{program}` looked at {count} of the image's {} entries: what only this sweep looked at is not kept (`--keep-looked-at all` keeps it)",
                tree.len()
            )
        };
        self.0.iter().map(note).collect()
    }

    pub(super) fn contains(&self, process: u32) -> bool {
        self.0.contains_key(&process)
    }
}

/// Keeps the names in listed directories as far as the policy goes. Comes after everything else that keeps content:
/// what is kept anyway weighs nothing.
pub(super) fn keep_listed(draft: &mut Draft, policy: KeepLookedAt) {
    if policy == KeepLookedAt::None {
        return;
    }
    let kept_files = kept_files(draft);
    let (mut light, mut heavy) = (vec![], vec![]);
    let mut of_program: HashMap<Vec<u8>, u64> = HashMap::new();
    for (directory, reason) in std::mem::take(&mut draft.listed) {
        let tree = draft.tree;
        let names = tree.children(directory).iter().copied();
        let names: Vec<EntryId> = names.filter(|&id| tree.kind(id) != Kind::Directory && !draft.is_kept(id)).collect();
        let mut files: Vec<EntryId> = names.iter().map(|&id| first_name(draft, id)).collect();
        files.sort_unstable();
        files.dedup();
        let weights = files.iter().filter(|file| !kept_files[file.0 as usize]).map(|&file| tree.size(file));
        let bytes = weights.fold(0, u64::saturating_add);
        if policy == KeepLookedAt::Checked && (bytes > LISTED_BYTES || names.len() > LISTED_NAMES) {
            heavy.push((bytes, directory));
            continue;
        }
        if let Reason::Listed { by, .. } = &reason {
            *of_program.entry(by.clone()).or_default() += bytes;
        }
        light.push((bytes, directory, names, reason));
    }
    for (bytes, directory, names, reason) in light {
        let walks = |by: &[u8]| of_program.get(by).is_some_and(|&bytes| bytes > LISTED_BYTES_OF_PROGRAM);
        match &reason {
            Reason::Listed { by, .. } if policy == KeepLookedAt::Checked && walks(by) => heavy.push((bytes, directory)),
            _ => names.into_iter().for_each(|id| draft.keep(id, reason.clone())),
        }
    }
    if heavy.is_empty() {
        return;
    }
    heavy.sort_unstable_by_key(|&(bytes, directory)| (Reverse(bytes), directory));
    let bytes = heavy.iter().fold(0_u64, |sum, &(bytes, _)| sum.saturating_add(bytes));
    let examples = heavy.iter().take(HEAVY_EXAMPLES).map(|&(_, id)| format!("`{}`", escape(&draft.tree.path(id))));
    draft.notes.push(format!(
        "listed directories whose other names are too heavy to be kept for that alone: {}, {bytes} bytes in all, such as {} (`--keep-looked-at listed` keeps the names)",
        heavy.len(),
        examples.collect::<Vec<_>>().join(", ")
    ));
}

/// By the number of a file's first name: whether its content is kept under any name.
fn kept_files(draft: &Draft) -> Vec<bool> {
    let mut kept = vec![false; draft.tree.len()];
    for id in draft.tree.ids().filter(|&id| draft.is_kept(id)) {
        kept[first_name(draft, id).0 as usize] = true;
    }
    kept
}

/// One entry for all names of a file.
fn first_name(draft: &Draft, id: EntryId) -> EntryId {
    draft.tree.hard_links(id).first().copied().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::observe::observation::PathUse;
    use crate::plan::testing::{Case, observation, path_use};

    const POLICIES: [KeepLookedAt; 4] = [KeepLookedAt::None, KeepLookedAt::Checked, KeepLookedAt::Listed, KeepLookedAt::All];

    /// What is kept under each policy, and the notes under the default one.
    fn kept(tree: &Tree, uses: &[(Access, &str)]) -> (Vec<Vec<String>>, Vec<String>) {
        let mut case = Case::new(tree);
        case.observations = vec![observation(uses)];
        let by_policy = POLICIES.map(|policy| {
            case.keep_looked_at = policy;
            case.kept()
        });
        case.keep_looked_at = KeepLookedAt::default();
        (by_policy.to_vec(), case.make().expect("plan").notes)
    }

    #[test]
    fn source_beside_compiled_code_is_kept() {
        let tree = fixture::tree(&["/lib/a.py", "/lib/__pycache__/a.cpython.pyc", "/lib/b.py"]);
        let uses = [(Access::Lookup, "/lib/a.py"), (Access::Open, "/lib/__pycache__/a.cpython.pyc")];
        let compiled = ["/lib", "/lib/__pycache__", "/lib/__pycache__/a.cpython.pyc"];
        let (by_policy, _) = kept(&tree, &uses);
        assert_eq!(by_policy[0], compiled);
        for kept in &by_policy[1..] {
            assert_eq!(*kept, [&compiled[..], &["/lib/a.py"]].concat());
        }
    }

    #[test]
    fn names_of_a_listed_directory_are_kept_while_they_are_light() {
        let light = format!("/conf.d/b size={}", LISTED_BYTES - 1);
        let tree = fixture::tree(&[
            "/conf.d/a size=1",
            &light,
            "/conf.d/link -> /elsewhere",
            "/conf.d/pipe fifo",
            "/conf.d/empty/",
            "/conf.d/package/code.py",
            "/elsewhere",
        ]);
        let names = ["/conf.d", "/conf.d/a", "/conf.d/b", "/conf.d/empty", "/conf.d/link", "/conf.d/pipe"];
        for access in [Access::List, Access::Open] {
            let (by_policy, notes) = kept(&tree, &[(access, "/conf.d")]);
            assert_eq!(by_policy[0], ["/conf.d", "/conf.d/empty"], "{access:?}");
            for kept in &by_policy[1..] {
                assert_eq!(*kept, names, "{access:?}");
            }
            assert!(notes.is_empty(), "{notes:?}");
        }
    }

    #[test]
    fn a_program_that_lists_everywhere_only_searches() {
        let light =
            |count: u64| -> Vec<String> { (0..count).map(|number| format!("/lib/{number:03}/a size={LISTED_BYTES}")).collect() };
        let names_kept = |count: u64, policy: usize| {
            let lines = light(count);
            let tree = fixture::tree(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let directories: Vec<String> = (0..count).map(|number| format!("/lib/{number:03}")).collect();
            let uses: Vec<_> = directories.iter().map(|directory| (Access::List, directory.as_str())).collect();
            let (by_policy, notes) = kept(&tree, &uses);
            (by_policy[policy].iter().filter(|path| path.ends_with("/a")).count() as u64, notes.len())
        };
        assert_eq!(names_kept(16, 1), (16, 0));
        assert_eq!(names_kept(17, 1), (0, 1));
        assert_eq!(names_kept(17, 2), (17, 1));
    }

    #[test]
    fn heavy_directories_are_left_and_noted() {
        let heavy = format!("/lib/heavy size={LISTED_BYTES}");
        let tree = fixture::tree(&[
            &heavy,
            "/lib/light size=1",
            "/lib/used size=999999",
            "/lib/same size=999999 link=1",
            "/opt/same size=999999 link=1",
        ]);
        let mut uses = vec![(Access::List, "/lib"), (Access::Open, "/lib/used"), (Access::Open, "/opt/same")];
        let (by_policy, notes) = kept(&tree, &uses);
        assert_eq!(by_policy[1], ["/lib", "/lib/used", "/opt", "/opt/same"]);
        assert_eq!(by_policy[2].len(), 7);
        assert_eq!(by_policy[3].len(), 7);
        let expected = format!("1, {} bytes in all, such as `/lib` (", LISTED_BYTES + 1);
        assert!(notes.len() == 1 && notes[0].contains(&expected), "{notes:?}");
        // what is kept anyway, under any name, weighs nothing
        uses.push((Access::Lookup, "/lib/heavy"));
        assert_eq!(kept(&tree, &uses).0[1].len(), 7);

        let many: Vec<String> = (0..=LISTED_NAMES).map(|number| format!("/many/{number}")).collect();
        let tree = fixture::tree(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            kept(&tree, &[(Access::List, "/many")]).0.iter().map(Vec::len).collect::<Vec<_>>(),
            [1, 1, LISTED_NAMES + 2, LISTED_NAMES + 2]
        );
    }

    #[test]
    fn many_heavy_directories_are_one_note() {
        let lines: Vec<String> = (0..30).map(|number| format!("/d{number}/f size={}", 100_000 + number)).collect();
        let tree = fixture::tree(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let directories: Vec<String> = (0..30).map(|number| format!("/d{number}")).collect();
        let uses: Vec<_> = directories.iter().map(|path| (Access::List, &path[..])).collect();
        let (_, notes) = kept(&tree, &uses);
        assert!(notes.len() == 1 && notes[0].contains("30, 3000435 bytes in all, such as `/d29`, `/d28`, `/d27` ("), "{notes:?}");
    }

    #[test]
    fn a_sweep_keeps_nothing_by_itself() {
        // as many entries as still are no sweep, and one more
        for (count, is_sweep) in [(SWEEP_LOOKS, false), (SWEEP_LOOKS + 1, true)] {
            let lines: Vec<String> = (0..2 * SWEEP_LOOKS).map(|number| format!("/d/{number}")).collect();
            let tree = fixture::tree(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let mut seen = observation(&[(Access::Open, "/d/0"), (Access::Lookup, "/d/1"), (Access::Lookup, "/d/1999")]);
            // look-ups that fail don't count
            seen.uses.extend((0..2000).map(|_| PathUse { process: 1, ..path_use(Access::Lookup, "/missing") }));
            seen.uses.push(PathUse { process: 1, ..path_use(Access::List, "/d") });
            seen.uses.extend(lines[..count - 1].iter().map(|path| PathUse { process: 1, ..path_use(Access::Lookup, path) }));
            let mut case = Case::new(&tree);
            case.observations = vec![seen];
            let notes = case.make().expect("plan").notes;
            let all = |case: &mut Case| {
                case.keep_looked_at = KeepLookedAt::All;
                case.kept().len()
            };
            if is_sweep {
                assert_eq!(case.kept(), ["/d", "/d/0", "/d/1", "/d/1999"]);
                let expected = format!("`/bin/other` looked at {count} of the image's 2002 entries");
                assert!(notes.len() == 1 && notes[0].starts_with(&expected), "{notes:?}");
                assert_eq!(all(&mut case), 2001);
            } else {
                assert!(case.kept().len() > SWEEP_LOOKS, "{notes:?}");
            }
        }
    }
}
