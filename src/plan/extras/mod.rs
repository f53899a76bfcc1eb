//! What the user asked for: paths, programs, a shell, certificates; and what not to keep.
//!
//! Each kept entry carries the option that asked for it, and an option that matches nothing is an error that names it: the
//! user relies on something that would not be there. Programs come with loader, interpreter and libraries (the closure).
//! Exclusions are applied last and win, also over what was asked for, which is then noted; a directory that holds
//! something kept cannot be excluded.

mod certificates;
mod globs;
mod permissions;

use std::collections::BTreeMap;

pub use permissions::PathPermissions;

use self::globs::{Patterns, is_pattern};
use super::draft::Draft;
use super::resolve::View;
use super::{ConfigView, Kept, PlanError, Reason, path_order};
use crate::escape::escape;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;

/// The declared extras of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// `--include-path`: absolute paths (a directory with all that is below it) and patterns.
    pub include_paths: Vec<Vec<u8>>,
    /// `--include-bin`: paths of programs and libraries, with all that they need.
    pub include_bins: Vec<Vec<u8>>,
    /// `--include-exe`: names of programs, looked for in the image's `PATH`, with all that they need.
    pub include_exes: Vec<Vec<u8>>,
    /// `--include-shell`: a shell and the basic tools.
    pub include_shell: bool,
    /// `--include-cert-all`: certificates of authorities. On by default on the command line.
    pub include_certificates: bool,
    /// `--include-zoneinfo`: the time zones.
    pub include_zoneinfo: bool,
    /// `--include-workdir`: the working directory with all that is below it.
    pub include_workdir: bool,
    /// `--exclude-pattern`: patterns of what not to keep.
    pub exclude_patterns: Vec<Vec<u8>>,
    /// `--path-perms`.
    pub path_permissions: Vec<PathPermissions>,
}

/// The first of these that the image has is its shell.
const SHELLS: [&str; 2] = ["sh", "bash"];
/// What one needs to look around, as far as the image has it.
const TOOLS: [&str; 22] = [
    "ls", "cat", "cp", "mv", "rm", "ln", "mkdir", "chmod", "chown", "ps", "kill", "grep", "find", "head", "tail", "env", "id",
    "pwd", "echo", "stat", "which", "df",
];

impl Extras {
    /// Keeps all that is asked for.
    pub(super) fn keep(&self, draft: &mut Draft, config: &ConfigView, contents: &dyn Contents) -> Result<(), PlanError> {
        self.keep_paths(draft)?;
        for path in &self.include_bins {
            let option = format!("--include-bin {}", escape(path));
            must_be_absolute(&option, path)?;
            let id = draft.keep_path(path, Reason::Asked { option: option.clone() });
            let id = id.ok_or_else(|| PlanError::Nothing { option: option.clone() })?;
            if draft.tree.kind(id) != Kind::File {
                return Err(PlanError::Option { option, problem: "it is not a file; `--include-path` keeps a directory".into() });
            }
            draft.run(id, true);
        }
        for name in &self.include_exes {
            let option = format!("--include-exe {}", escape(name));
            keep_program(draft, config, name, &option).ok_or(PlanError::Nothing { option })?;
        }
        if self.include_shell {
            let option = "--include-shell";
            let shell = SHELLS.iter().find_map(|name| keep_program(draft, config, name.as_bytes(), option));
            shell.ok_or_else(|| PlanError::Nothing { option: option.into() })?;
            for name in TOOLS {
                keep_program(draft, config, name.as_bytes(), option);
            }
        }
        if self.include_zoneinfo {
            let option = "--include-zoneinfo";
            let asked = Reason::Asked { option: option.into() };
            let zones = draft.keep_path(b"/usr/share/zoneinfo", asked.clone());
            zones.into_iter().for_each(|id| draft.keep_subtree(id, &asked));
            let settings = ["/etc/localtime", "/etc/timezone"].map(|path| draft.keep_path(path.as_bytes(), asked.clone()));
            if zones.or(settings[0]).or(settings[1]).is_none() {
                return Err(PlanError::Nothing { option: option.into() });
            }
        }
        if self.include_workdir {
            let option = "--include-workdir";
            let asked = Reason::Asked { option: option.into() };
            let id = draft.keep_path(&config.directory(), asked.clone());
            match id.ok_or_else(|| PlanError::Nothing { option: option.into() })? {
                EntryId::ROOT => {
                    let problem = "the image's working directory is `/`, with which all would be kept".into();
                    return Err(PlanError::Option { option: option.into(), problem });
                }
                id => draft.keep_subtree(id, &asked),
            }
        }
        if self.include_certificates {
            certificates::keep(draft, config, contents);
        }
        for permissions in &self.path_permissions {
            let option = permissions.option();
            let kept = draft.keep_path(&permissions.path, Reason::Asked { option: option.clone() });
            kept.ok_or(PlanError::Nothing { option })?;
        }
        Ok(())
    }

    fn keep_paths(&self, draft: &mut Draft) -> Result<(), PlanError> {
        let mut patterns = vec![];
        for path in &self.include_paths {
            let option = format!("--include-path {}", escape(path));
            let asked = Reason::Asked { option: option.clone() };
            // a name with a star in it is found by its name
            match draft.keep_path(path, asked.clone()) {
                Some(id) => draft.keep_subtree(id, &asked),
                None if is_pattern(path) => patterns.push(path),
                None => {
                    must_be_absolute(&option, path)?;
                    // a link that leads out of the image can be kept as such
                    let link = View::of(draft.tree).resolve(Spelling::absolute(path), false);
                    let id = link.found().ok_or(PlanError::Nothing { option })?;
                    draft.keep_passed(&link, Spelling::absolute(path));
                    draft.keep(id, asked);
                }
            }
        }
        let mut patterns = Patterns::new("--include-path", patterns)?;
        if patterns.is_empty() {
            return Ok(());
        }
        // parents come before what they hold, so a matched directory reaches all below it in one pass
        let mut asked: BTreeMap<EntryId, Reason> = BTreeMap::new();
        for id in draft.tree.ids() {
            let own = patterns.matching(&draft.tree.path(id)).map(|option| Reason::Asked { option: option.into() });
            if let Some(reason) = own.or_else(|| asked.get(&draft.tree.parent(id)).cloned()) {
                if draft.tree.kind(id) == Kind::Directory {
                    asked.insert(id, reason.clone());
                    draft.keep(id, reason);
                } else {
                    draft.keep_subtree(id, &reason);
                }
            }
        }
        patterns.must_all_have_matched()
    }

    /// Takes out what is excluded and closes the draft.
    pub(super) fn exclude_and_close(&self, draft: &mut Draft) -> Result<(), PlanError> {
        let tree = draft.tree;
        let Some(excluding) = self.excluding(tree)? else {
            draft.close(|_, _| false);
            return Ok(());
        };
        // of each pair of options that contradict each other: how often, and an example
        let mut contradictions: BTreeMap<(String, String), (usize, EntryId)> = BTreeMap::new();
        draft.close(|id, reasons| {
            let Some(exclude) = &excluding[id.0 as usize] else { return false };
            for reason in reasons {
                if let Reason::Asked { option } = reason {
                    contradictions.entry((exclude.clone(), option.clone())).or_insert((0, id)).0 += 1;
                }
            }
            true
        });
        for ((exclude, option), (count, example)) in contradictions {
            let example = escape(&tree.path(example));
            draft.notes.push(format!("`{exclude}` takes out what `{option}` asks for: {count} entries, such as `{example}`"));
        }
        Ok(())
    }

    /// For each entry of the tree, the option that excludes it; `None` where nothing at all is excluded.
    pub(super) fn excluding(&self, tree: &Tree) -> Result<Option<Vec<Option<String>>>, PlanError> {
        let mut patterns = Patterns::new("--exclude-pattern", &self.exclude_patterns)?;
        if patterns.is_empty() {
            return Ok(None);
        }
        let excluding = tree.ids().map(|id| patterns.matching(&tree.path(id)).map(String::from)).collect();
        patterns.must_all_have_matched()?;
        Ok(Some(excluding))
    }

    /// Gives kept entries the permissions that were asked for, under all names of a file: they are one.
    pub(super) fn change_permissions(&self, tree: &Tree, entries: &mut [Kept]) {
        for permissions in &self.path_permissions {
            let Some(id) = View::of(tree).resolve(Spelling::absolute(&permissions.path), true).found() else { continue };
            let other_names = tree.hard_links(id).iter().filter(|&&name| name != id);
            for name in std::iter::once(&id).chain(other_names) {
                let path = tree.path(*name);
                if let Ok(at) = entries.binary_search_by(|kept| path_order(&kept.path, &path)) {
                    permissions.apply(tree, &mut entries[at]);
                }
            }
        }
    }
}

fn must_be_absolute(option: &str, path: &[u8]) -> Result<(), PlanError> {
    if path.starts_with(b"/") {
        return Ok(());
    }
    Err(PlanError::Option { option: option.into(), problem: "a path of the image begins with `/`".into() })
}

/// Keeps a program that is looked for by its name.
fn keep_program(draft: &mut Draft, config: &ConfigView, name: &[u8], option: &str) -> Option<()> {
    let (path, resolution, id) = config.find_program(draft.tree, name)?;
    draft.keep_passed(&resolution, Spelling::absolute(&path));
    draft.keep(id, Reason::Asked { option: option.into() });
    draft.run(id, true);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::Plan;
    use crate::plan::testing::{Case, elf};

    fn image() -> Tree {
        fixture::tree(&[
            "/app/main.py",
            "/app/static/a.css",
            "/app/static/b.css",
            "/app/static/deep/c.css",
            "/app/static/link.css -> /opt/shared/d.css",
            "/app/static/away -> /opt/shared",
            "/app/current -> static",
            "/app/dangling -> /nowhere",
            "/app/what*",
            "/opt/shared/d.css",
            "/usr/bin/sh -> dash",
            "/usr/bin/dash mode=755",
            "/usr/bin/ls mode=755",
            "/usr/bin/tool mode=755",
            "/usr/lib/libtool.so",
            "/usr/share/zoneinfo/Europe/Berlin",
            "/etc/localtime -> /usr/share/zoneinfo/Europe/Berlin",
            "/same/a link=3",
            "/same/b link=3",
        ])
    }

    /// What is kept without directories, or the error.
    fn files(tree: &Tree, extras: Extras) -> Result<Vec<String>, String> {
        let mut case = Case::new(tree);
        case.extras = extras;
        case.config.working_dir = b"/app/static".to_vec();
        case.contents =
            vec![("/usr/bin/tool", elf(None, &["libtool.so"], "", "")), ("/usr/lib/libtool.so", elf(None, &[], "", ""))];
        let plan = case.make().map_err(|error| error.to_string())?;
        let files = plan.entries.iter().filter(|kept| tree.get(&kept.path).is_some_and(|id| tree.kind(id) != Kind::Directory));
        Ok(files.map(|kept| escape(&kept.path)).collect())
    }

    fn values(values: &[&str]) -> Vec<Vec<u8>> {
        values.iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn paths_folders_and_patterns_are_included() {
        let tree = image();
        let styles = [
            "/app/static/a.css",
            "/app/static/away",
            "/app/static/b.css",
            "/app/static/deep/c.css",
            "/app/static/link.css",
            "/opt/shared/d.css",
        ];
        let with_link = [&["/app/current"], &styles[..]].concat();
        for (paths, expected) in [
            (&["/app/main.py"][..], &["/app/main.py"][..]),
            (&["/app/static"], &styles),
            (&["/app/static/"], &styles),
            (&["/app/current"], &with_link),
            (&["/app/dangling"], &["/app/dangling"]),
            (&["/app/static/*.css"], &["/app/static/a.css", "/app/static/b.css", "/app/static/link.css", "/opt/shared/d.css"]),
            (&["/app/sta*"], &styles),
            (&["**/?.css"], &["/app/static/a.css", "/app/static/b.css", "/app/static/deep/c.css", "/opt/shared/d.css"]),
            (&["/app/what*"], &["/app/what*"]),
            (&["/app/main.py", "/app/{current,wh*}"], &[&["/app/current", "/app/main.py"], &["/app/what*"][..]].concat()),
        ] {
            let extras = Extras { include_paths: values(paths), ..Extras::default() };
            assert_eq!(files(&tree, extras).expect("plan"), expected, "{paths:?}");
        }
    }

    #[test]
    fn programs_come_with_what_they_need() {
        let tree = image();
        let tool = ["/usr/bin/tool", "/usr/lib/libtool.so"];
        let included = |extras| files(&tree, extras).expect("plan");
        assert_eq!(included(Extras { include_bins: values(&["/usr/bin/tool"]), ..Extras::default() }), tool);
        assert_eq!(included(Extras { include_exes: values(&["tool"]), ..Extras::default() }), tool);
        assert_eq!(
            included(Extras { include_shell: true, ..Extras::default() }),
            ["/usr/bin/dash", "/usr/bin/ls", "/usr/bin/sh"]
        );
        let zones = included(Extras { include_zoneinfo: true, ..Extras::default() });
        assert_eq!(zones, ["/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin"]);
        assert_eq!(included(Extras { include_workdir: true, ..Extras::default() }).len(), 6);
    }

    #[test]
    fn an_extra_that_matches_nothing_is_named() {
        let tree = fixture::tree(&["/a", "/d/"]);
        let none = Extras::default;
        for (extras, option) in [
            (Extras { include_paths: values(&["/a", "/missing"]), ..none() }, "--include-path /missing"),
            (Extras { include_paths: values(&["relative"]), ..none() }, "--include-path relative"),
            (Extras { include_paths: values(&["/a*", "/b*"]), ..none() }, "--include-path /b*"),
            (Extras { include_paths: values(&["/a["]), ..none() }, "--include-path /a["),
            (Extras { include_bins: values(&["/missing"]), ..none() }, "--include-bin /missing"),
            (Extras { include_bins: values(&["/d"]), ..none() }, "--include-bin /d"),
            (Extras { include_exes: values(&["a"]), ..none() }, "--include-exe a"),
            (Extras { include_shell: true, ..none() }, "--include-shell"),
            (Extras { include_zoneinfo: true, ..none() }, "--include-zoneinfo"),
            (Extras { include_workdir: true, ..none() }, "--include-workdir"),
            (Extras { exclude_patterns: values(&["/a", "/b"]), ..none() }, "--exclude-pattern /b"),
            (
                Extras { path_permissions: vec![PathPermissions::parse(b"/b:7").expect("value")], ..none() },
                "--path-perms /b:0007",
            ),
        ] {
            let error = files(&tree, extras).expect_err(option);
            assert!(error.contains(&format!("`{option}`")), "{error}");
        }
    }

    #[test]
    fn exclusions_win_and_contradictions_are_noted() {
        let tree = image();
        let mut case = Case::new(&tree);
        case.extras.include_paths = values(&["/app"]);
        // `/app/static` itself holds what is kept, `deep` nothing any more
        case.extras.exclude_patterns = values(&["/app/static", "**/deep/**", "/app/*.py", "/usr/**"]);
        let plan = case.make().expect("plan");
        let kept = crate::plan::testing::paths(&plan.entries);
        for gone in ["/app/main.py", "/app/static/deep/c.css"] {
            assert!(!kept.contains(&gone.to_string()), "{kept:?}");
        }
        assert!(kept.contains(&"/app/static".to_string()) && kept.contains(&"/app/static/a.css".to_string()), "{kept:?}");
        let expected = [
            "`--exclude-pattern **/deep/**` takes out what `--include-path /app` asks for: 1 entries, such as `/app/static/deep/c.css`",
            "`--exclude-pattern /app/*.py` takes out what `--include-path /app` asks for: 1 entries, such as `/app/main.py`",
        ];
        assert_eq!(plan.notes, expected);
    }

    #[test]
    fn permissions_hold_for_all_names_of_a_file() {
        let tree = image();
        let mut case = Case::new(&tree);
        case.extras.include_paths = values(&["/same/b", "/app/main.py"]);
        case.extras.path_permissions =
            ["/same/a:4755#7", "/app/current:700"].map(|value| PathPermissions::parse(value.as_bytes()).expect("value")).to_vec();
        let plan = case.make().expect("plan");
        let changed: Vec<_> = plan
            .entries
            .iter()
            .filter(|kept| kept.mode.is_some())
            .map(|kept| (escape(&kept.path), kept.mode, kept.owner))
            .collect();
        let owner = Some((7, 0));
        assert_eq!(
            changed,
            [
                ("/app/static".into(), Some(0o700), None),
                ("/same/a".into(), Some(0o4755), owner),
                ("/same/b".into(), Some(0o4755), owner)
            ]
        );
        assert_eq!(Plan::from_json(&plan.to_json()).expect("plan"), plan);
    }
}
