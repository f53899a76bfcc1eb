//! A plan with more in it: what a slim image was seen to lack, and what that needs.
//!
//! The plan that was too small stays as it is: its entries, their reasons, its notes, its changed permissions. Each file
//! that is added goes through the closure with its libraries, as nobody was seen to load them. What the user excluded is
//! not added, not even as something that another file needs: the user's word wins, and [`Extended::refused`] tells of it.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::extras::Extras;
use super::format::{Kept, Plan, Reason};
use super::{ConfigView, PlanError, closure};
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind, Tree};

/// What a plan is extended from.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "a reader of contents has no text of its own")]
pub struct ExtendInput<'a> {
    /// The plan that was too small.
    pub plan: &'a Plan,
    /// What is in the image.
    pub tree: &'a Tree,
    /// Its configuration.
    pub config: &'a ConfigView,
    /// Contents of its files.
    pub contents: &'a dyn Contents,
    /// What the user excluded; nothing else of it counts here.
    pub extras: &'a Extras,
    /// Also find the libraries of all programs that the plan keeps already. Where only fanotify watched, what it told of a
    /// library was the file at the end, not the symbolic link by which the loader looks for it.
    pub libraries_of_all: bool,
}

/// An entry to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Which.
    pub entry: EntryId,
    /// Why.
    pub reason: Reason,
}

/// A plan with more in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// The plan.
    pub plan: Plan,
    /// What is new in it, in the plan's order, with what was needed and the directories above.
    pub added: Vec<EntryId>,
    /// What was not added, and the option that excludes it.
    pub refused: Vec<(EntryId, String)>,
}

/// Makes a plan with `additions`. The same input gives the same plan; what is kept already changes nothing.
///
/// # Errors
/// [`PlanError`]: the plan is of another image, or a pattern of what is excluded is not usable.
pub fn extend(input: &ExtendInput, additions: &[Addition]) -> Result<Extended, PlanError> {
    let &ExtendInput { plan, tree, .. } = input;
    let before: BTreeMap<EntryId, &Kept> = plan.ids(tree)?.into_iter().zip(&plan.entries).collect();
    let excluding = input.extras.excluding(tree)?.unwrap_or_else(|| vec![None; tree.len()]);
    let is_excluded = |id: EntryId| excluding[id.0 as usize].is_some();
    let mut draft = Draft::new(tree);
    for (&id, kept) in &before {
        kept.reasons.iter().for_each(|reason| draft.keep(id, reason.clone()));
        if input.libraries_of_all && can_need_libraries(tree, id) {
            draft.run(id, true);
        }
    }
    for Addition { entry, reason } in additions.iter().filter(|addition| !before.contains_key(&addition.entry)) {
        if is_excluded(*entry) {
            // if something in it comes, it comes as well
            draft.keep(*entry, reason.clone());
        } else if let Some(file) = draft.keep_with_file(*entry, reason).filter(|&file| !is_excluded(file)) {
            draft.run(file, true);
        }
    }
    closure::keep(&mut draft, input.config, input.contents);
    let mut refused = vec![];
    draft.close(|id, _| match &excluding[id.0 as usize] {
        Some(option) if !before.contains_key(&id) => {
            refused.push((id, option.clone()));
            true
        }
        _ => false,
    });
    refused.sort_unstable();
    let mut notes = plan.notes.clone();
    for note in std::mem::take(&mut draft.notes) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let mut entries = draft.into_entries();
    let mut added = vec![];
    for kept in &mut entries {
        let Some(id) = tree.get(&kept.path) else { continue };
        match before.get(&id) {
            Some(&as_before) => kept.clone_from(as_before),
            None => {
                added.push(id);
                // permissions are those of a file, not of one of its names
                if let Some(same_file) = tree.hard_links(id).iter().find_map(|name| before.get(name)) {
                    (kept.mode, kept.owner) = (same_file.mode, same_file.owner);
                }
            }
        }
    }
    let plan = Plan { version: Plan::VERSION, image: plan.image.clone(), notes, entries };
    Ok(Extended { plan, added, refused })
}

/// Whether a loader could be wanted for it: an executable, or a file that is named as a library is.
fn can_need_libraries(tree: &Tree, id: EntryId) -> bool {
    let name = tree.name(id);
    let is_library = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
    tree.kind(id) == Kind::File && (tree.mode(id) & 0o111 != 0 || is_library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;
    use crate::observe::observation::Access;
    use crate::plan::PathPermissions;
    use crate::plan::format::{Edge, PhaseName};
    use crate::plan::testing::{Case, Files, elf, observation, paths};

    /// Extends `plan`, which is of `case`, with what is at `paths`.
    fn extend_with(case: &Case, plan: &Plan, paths: &[&str], libraries_of_all: bool) -> Extended {
        let additions: Vec<Addition> = paths
            .iter()
            .map(|path| Addition { entry: case.tree.get(path.as_bytes()).expect("entry"), reason: repair() })
            .collect();
        let input = ExtendInput {
            plan,
            tree: case.tree,
            config: &case.config,
            contents: &Files { tree: case.tree, contents: case.contents.clone() },
            extras: &case.extras,
            libraries_of_all,
        };
        let extended = extend(&input, &additions).expect("extended");
        let reversed: Vec<Addition> = additions.iter().rev().cloned().collect();
        assert_eq!(extend(&input, &reversed).expect("extended"), extended, "their order doesn't matter");
        assert_eq!(Plan::from_json(&extended.plan.to_json()).expect("valid"), extended.plan);
        extended
    }

    fn repair() -> Reason {
        Reason::Repair { by: b"/bin/app".to_vec(), during: PhaseName("start".into()) }
    }

    fn told(tree: &Tree, ids: &[EntryId]) -> Vec<String> {
        ids.iter().map(|&id| escape(&tree.path(id))).collect()
    }

    #[test]
    fn what_is_added_comes_with_what_it_needs() {
        let tree = fixture::tree(&[
            "/app/plugin.so",
            "/app/tool mode=755",
            "/app/data",
            "/app/not-a-program",
            "/bin/sh -> dash",
            "/bin/dash mode=755",
            "/bin/other mode=755",
            "/usr/lib/libssl.so -> libssl.so.3",
            "/usr/lib/libssl.so.3",
            "/usr/lib/unused.so",
        ]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Open, "/app/data")])];
        case.contents = vec![
            ("/app/plugin.so", elf(None, &["libssl.so"], "", "")),
            ("/app/tool", b"#!/bin/sh\n".to_vec()),
            ("/app/not-a-program", b"#!/bin/other\n".to_vec()),
            ("/usr/lib/libssl.so.3", elf(None, &[], "", "")),
        ];
        let plan = case.make().expect("plan");
        let library = ["/usr", "/usr/lib", "/usr/lib/libssl.so", "/usr/lib/libssl.so.3"];
        for (additions, expected) in [
            (&["/app/plugin.so"][..], &[&["/app/plugin.so"], &library[..]].concat()[..]),
            (&["/app/tool"], &["/app/tool", "/bin", "/bin/dash", "/bin/sh"]),
            // the kernel does not run what has no bit for it, whatever its first line is
            (&["/app/not-a-program"], &["/app/not-a-program"]),
            (&["/usr/lib/libssl.so"], &library),
            (&["/usr/lib"], &["/usr", "/usr/lib"]),
            (&["/app/data", "/app", "/"], &[]),
            (&[], &[]),
        ] {
            let extended = extend_with(&case, &plan, additions, false);
            assert_eq!(told(&tree, &extended.added), expected, "{additions:?}");
            assert_eq!(paths(&extended.plan.entries).len(), plan.entries.len() + expected.len(), "{additions:?}");
            assert_eq!((extended.plan.notes, extended.refused), (vec![], vec![]), "{additions:?}");
        }
        let extended = extend_with(&case, &plan, &["/app/plugin.so"], false).plan;
        let reasons = |path: &[u8]| &extended.entries.iter().find(|kept| kept.path == path).expect("kept").reasons[..];
        assert_eq!(reasons(b"/app/plugin.so"), [repair()]);
        assert_eq!(reasons(b"/usr/lib/libssl.so.3"), [Reason::Needed { by: b"/app/plugin.so".to_vec(), edge: Edge::Library }]);
        assert_eq!(reasons(b"/usr/lib"), [Reason::Parent]);
    }

    #[test]
    fn links_are_kept_alone_unless_they_lead_to_a_file() {
        let tree =
            fixture::tree(&["/a -> b", "/b -> file", "/file", "/d -> folder", "/folder/x", "/dangling -> /nowhere", "/kept"]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Open, "/kept")])];
        let plan = case.make().expect("plan");
        for (link, expected) in [("/a", &["/a", "/b", "/file"][..]), ("/d", &["/d"]), ("/dangling", &["/dangling"])] {
            assert_eq!(told(&tree, &extend_with(&case, &plan, &[link], false).added), expected);
        }
    }

    #[test]
    fn the_plan_as_it_was_stays() {
        let tree = fixture::tree(&["/a link=1", "/b link=1", "/c", "/d", "/lib/x"]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Open, "/a"), (Access::Lookup, "/c")])];
        case.extras.path_permissions = vec![PathPermissions::parse(b"/a:4755#7").expect("value")];
        let mut plan = case.make().expect("plan");
        plan.notes.push("a note".into());
        // as in a plan that somebody else wrote
        let of_c = plan.entries.iter_mut().find(|kept| kept.path == b"/c").expect("kept");
        of_c.reasons.extend((0..20).map(|number| Reason::Rule { rule: number.to_string() }));
        let Extended { plan: extended, added, .. } = extend_with(&case, &plan, &["/b", "/d", "/c"], true);
        assert_eq!(told(&tree, &added), ["/b", "/d"]);
        let at = |path: &[u8]| extended.entries.iter().find(|kept| kept.path == path).expect("kept");
        assert_eq!((at(b"/b").mode, at(b"/b").owner), (Some(0o4755), Some((7, 0))));
        assert_eq!((at(b"/d").mode, at(b"/d").owner), (None, None));
        assert_eq!(extended.notes, plan.notes);
        let mut without = extended.clone();
        without.entries.retain(|kept| kept.path != b"/b" && kept.path != b"/d");
        assert_eq!(without, plan);
        assert_eq!(extend_with(&case, &extended, &["/b", "/d", "/c"], true).plan, extended);
    }

    #[test]
    fn what_is_excluded_is_refused_and_told() {
        let tree = fixture::tree(&[
            "/secret/key",
            "/secret/public",
            "/app/plugin.so",
            "/app/tool mode=755",
            "/bin/sh mode=755",
            "/lib/libssl.so",
            "/link -> app/public",
            "/app/public",
            "/kept",
        ]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Open, "/kept")])];
        case.contents = vec![
            ("/app/plugin.so", elf(None, &["libssl.so"], "", "")),
            ("/app/tool", b"#!/bin/sh\n".to_vec()),
            ("/lib/libssl.so", elf(None, &[], "", "")),
        ];
        let patterns = ["/secret", "/secret/key", "/lib/*", "/app/tool", "/link", "/kept"];
        case.extras.exclude_patterns = patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        let mut plan = case.make().expect("plan");
        assert_eq!(paths(&plan.entries), ["/"]);
        let check = |plan: &Plan, additions: &[&str], added: &[&str], refused: &[&str]| {
            let extended = extend_with(&case, plan, additions, false);
            assert_eq!(told(&tree, &extended.added), added, "{additions:?}");
            let of = |&(id, ref option): &(EntryId, String)| format!("{} {option}", escape(&tree.path(id)));
            assert_eq!(extended.refused.iter().map(of).collect::<Vec<_>>(), refused, "{additions:?}");
        };
        check(&plan, &["/secret/key"], &[], &["/secret/key --exclude-pattern /secret/key"]);
        check(&plan, &["/secret"], &[], &["/secret --exclude-pattern /secret"]);
        check(&plan, &["/secret", "/secret/public"], &["/secret", "/secret/public"], &[]);
        check(&plan, &["/app/plugin.so"], &["/app", "/app/plugin.so"], &["/lib/libssl.so --exclude-pattern /lib/*"]);
        check(&plan, &["/app/tool"], &[], &["/app/tool --exclude-pattern /app/tool"]);
        check(&plan, &["/link"], &[], &["/link --exclude-pattern /link"]);
        // a plan from a file, that the user wrote: what it keeps is not taken out
        case.extras.exclude_patterns = vec![];
        plan = case.make().expect("plan");
        case.extras.exclude_patterns = vec![b"/kept".to_vec()];
        assert_eq!(extend_with(&case, &plan, &["/app/public"], false).plan.entries.len(), plan.entries.len() + 2);
    }

    /// As fanotify alone tells it: every file by the path at its end, no link, no loader by its name.
    #[test]
    fn libraries_of_all_programs_are_found_when_asked_for() {
        let tree = fixture::tree(&[
            "/bin -> usr/bin",
            "/usr/bin/app mode=755",
            "/usr/lib/libz.so.1 -> libz.so.1.3",
            "/usr/lib/libz.so.1.3",
            "/usr/lib/module.so",
            "/usr/lib/libm.so.6 -> libm.so",
            "/usr/lib/libm.so",
            "/lib64 -> usr/lib",
            "/usr/lib/ld.so.2 -> ld.so",
            "/usr/lib/ld.so mode=755",
        ]);
        let mut case = Case::new(&tree);
        let files = ["/usr/bin/app", "/usr/lib/libz.so.1.3", "/usr/lib/ld.so", "/usr/lib/module.so"];
        case.observations = vec![observation(&files.map(|path| (Access::Open, path)))];
        case.contents = vec![
            ("/usr/bin/app", elf(Some("/lib64/ld.so.2"), &["libz.so.1"], "", "")),
            ("/usr/lib/libz.so.1.3", elf(None, &[], "", "")),
            ("/usr/lib/module.so", elf(None, &["libm.so.6"], "", "")),
            ("/usr/lib/libm.so", elf(None, &[], "", "")),
        ];
        let plan = case.make().expect("plan");
        assert_eq!(extend_with(&case, &plan, &[], false).added, []);
        let added = extend_with(&case, &plan, &[], true).added;
        assert_eq!(told(&tree, &added), ["/usr/lib/libm.so", "/usr/lib/libm.so.6", "/usr/lib/libz.so.1"]);
    }

    #[test]
    fn a_plan_of_another_image_is_noticed() {
        let (tree, other) = (fixture::tree(&["/a"]), fixture::tree(&["/b"]));
        let mut case = Case::new(&other);
        case.observations = vec![observation(&[(Access::Open, "/b")])];
        let plan = case.make().expect("plan");
        let contents = Files { tree: &tree, contents: vec![] };
        let (config, extras) = (ConfigView::default(), Extras::default());
        let input = ExtendInput {
            plan: &plan,
            tree: &tree,
            config: &config,
            contents: &contents,
            extras: &extras,
            libraries_of_all: false,
        };
        assert!(matches!(extend(&input, &[]), Err(PlanError::NotInImage(path)) if path == "/b"));
    }
}
