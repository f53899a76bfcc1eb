//! What else a slim image could need that answers differently and looked for nothing in vain.
//!
//! Such an image reads something by a name that it got from elsewhere: from a listing, where a name that is missing is no
//! failed look-up; or it looks by means that no sensor sees. What it lacks is then likely to be near to what it uses. There
//! are three rules, from the nearest to the furthest, each to be tried by itself:
//!
//! 1. [`Widening::ListedFolders`]: all files and links in the folders that a process listed, however heavy; sweeps
//!    (`find /`) don't count. A folder in them comes with all that is below it while that is light: what an application tells
//!    by its name (a theme, a page) is light, what is heavy is code, and an *emptied* folder would be a lie (Python
//!    imports it as a package).
//! 2. [`Widening::PackageFolders`]: of each file that was opened or executed, the rest of the language package that it is in,
//!    see [`super::language_package`]; else the files in the same folder, unless that is one that the whole system
//!    shares, like `/usr/lib`: there, lying side by side means nothing.
//! 3. [`Widening::OwningPackages`]: the rest of the distribution's package that owns it, see [`super::packages`]. Its documents
//!    (`/usr/share/doc`, manual pages) stay out, as no program answers with those; its locales don't.

use std::collections::{BTreeMap, BTreeSet};

use super::extend::Addition;
use super::format::{Plan, Reason, Widening};
use super::looked_at::Sweeps;
use super::observed::Uses;
use super::{PlanError, language_package, packages};
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::{Access, Observation};

/// How much a folder may hold that comes because its name is in a listed folder.
const LIGHT_BYTES: u64 = 1 << 20;
/// And how many entries.
const LIGHT_ENTRIES: usize = 1000;
/// Folders that everything on a system shares.
const SHARED: [&[u8]; 16] = [
    b"/",
    b"/bin",
    b"/sbin",
    b"/lib",
    b"/lib64",
    b"/etc",
    b"/usr/bin",
    b"/usr/sbin",
    b"/usr/lib",
    b"/usr/lib64",
    b"/usr/libexec",
    b"/usr/local/bin",
    b"/usr/local/sbin",
    b"/usr/local/lib",
    b"/usr/share",
    b"/opt",
];
/// In such a folder is the C library, and those of all packages (`/usr/lib/x86_64-linux-gnu`).
const C_LIBRARY: &[u8] = b"libc.so.6";
/// What a package brings for people to read.
const DOCUMENTS: [&[u8]; 6] = [
    b"/usr/share/doc/",
    b"/usr/share/man/",
    b"/usr/share/info/",
    b"/usr/share/doc-base/",
    b"/usr/share/lintian/",
    b"/usr/share/bug/",
];

impl Widening {
    /// In the order in which they are to be tried.
    pub const ALL: [Widening; 3] = [Widening::ListedFolders, Widening::PackageFolders, Widening::OwningPackages];

    /// What it brings, in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Widening::ListedFolders => "all names in the folders that a process listed",
            Widening::PackageFolders => "the rest of the language packages of the files that were opened",
            Widening::OwningPackages => "the rest of the distribution's packages of the files that were opened",
        }
    }
}

/// What a rule starts from.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "a reader of contents has no text of its own")]
pub struct WidenInput<'a> {
    /// The plan that is too small.
    pub plan: &'a Plan,
    /// What is in the image that it is of.
    pub tree: &'a Tree,
    /// What was seen of runs, of that image and of the slim one.
    pub observations: &'a [&'a Observation],
    /// Contents of the image's files.
    pub contents: &'a dyn Contents,
    /// Directory of slim's own program in the observed containers. May be empty.
    pub own_prefix: &'a [u8],
}

/// What the plan would have to keep in addition by this rule, in the order of the tree's entries.
///
/// # Errors
/// [`PlanError::NotInImage`]: the plan is of another image.
pub fn widen(rule: Widening, input: &WidenInput) -> Result<Vec<Addition>, PlanError> {
    let tree = input.tree;
    let mut found = Found { kept: vec![false; tree.len()], from: BTreeMap::new() };
    for id in input.plan.ids(tree)? {
        found.kept[id.0 as usize] = true;
    }
    match rule {
        Widening::ListedFolders => listed_folders(input, &mut found),
        Widening::PackageFolders => package_folders(input, &mut found),
        Widening::OwningPackages => owning_packages(input, &mut found),
    }
    let addition = |(entry, from)| Addition { entry, reason: Reason::Widened { rule, from } };
    Ok(found.from.into_iter().map(addition).collect())
}

/// What a rule found that is not kept yet, and from where.
struct Found {
    kept: Vec<bool>,
    from: BTreeMap<EntryId, Vec<u8>>,
}

impl Found {
    fn add(&mut self, entries: impl IntoIterator<Item = EntryId>, from: &[u8]) {
        for entry in entries.into_iter().filter(|entry| !self.kept[entry.0 as usize]) {
            self.from.entry(entry).or_insert_with(|| from.to_vec());
        }
    }
}

fn listed_folders(input: &WidenInput, found: &mut Found) {
    let tree = input.tree;
    let mut listed = BTreeSet::new();
    for observation in input.observations {
        let uses = Uses::new(tree, observation, input.own_prefix);
        let sweeps = Sweeps::find(tree, observation, &uses.view);
        uses.for_each(|used| {
            if used.is_listing && !sweeps.contains(used.process) {
                listed.extend(used.resolution.found());
            }
        });
    }
    for folder in listed {
        for &name in tree.children(folder) {
            found.add(light_files(tree, name), &tree.path(folder));
        }
    }
}

/// The file itself; or all that is below a folder, while that is light. No directories: they come with what they hold.
fn light_files(tree: &Tree, id: EntryId) -> Vec<EntryId> {
    if tree.kind(id) != Kind::Directory {
        return vec![id];
    }
    let entries: Vec<EntryId> = tree.walk(id).take(LIGHT_ENTRIES + 1).collect();
    let bytes = entries.iter().fold(0_u64, |sum, &entry| sum.saturating_add(tree.size(entry)));
    if entries.len() > LIGHT_ENTRIES || bytes > LIGHT_BYTES {
        return vec![];
    }
    entries.into_iter().filter(|&entry| tree.kind(entry) != Kind::Directory).collect()
}

fn package_folders(input: &WidenInput, found: &mut Found) {
    let tree = input.tree;
    let directories: BTreeSet<EntryId> = opened(input).into_iter().map(|file| tree.parent(file)).collect();
    let (mut folders, mut others) = (BTreeSet::new(), vec![]);
    for directory in directories {
        match language_package::folder_of(tree, directory) {
            Some(folder) => drop(folders.insert(folder)),
            None => others.push(directory),
        }
    }
    for folder in folders {
        found.add(language_package::files_of(tree, folder), &tree.path(folder));
    }
    for directory in others {
        let path = tree.path(directory);
        if !SHARED.contains(&&path[..]) && tree.child(directory, C_LIBRARY).is_none() {
            found.add(tree.children(directory).iter().copied().filter(|&id| tree.kind(id) != Kind::Directory), &path);
        }
    }
}

fn owning_packages(input: &WidenInput, found: &mut Found) {
    let tree = input.tree;
    let opened = opened(input);
    let is_document = |id: EntryId| {
        let path = tree.path(id);
        DOCUMENTS.iter().any(|folder| path.starts_with(folder))
    };
    packages::for_each(tree, input.contents, |package| {
        if !package.entries.is_disjoint(&opened) {
            found.add(package.entries.into_iter().filter(|&id| !is_document(id)), &package.name);
        }
    });
}

/// The files that were opened or executed.
fn opened(input: &WidenInput) -> BTreeSet<EntryId> {
    let mut opened = BTreeSet::new();
    for observation in input.observations {
        Uses::new(input.tree, observation, input.own_prefix).for_each(|used| {
            if matches!(used.access, Access::Open | Access::Exec) {
                opened.extend(used.resolution.found().filter(|&id| input.tree.kind(id) == Kind::File));
            }
        });
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;
    use crate::observe::observation::PathUse;
    use crate::plan::testing::{Case, Files, observation, path_use};

    /// What the rule adds to the plan of `case`: paths, and from where.
    fn widened(case: &Case, rule: Widening) -> Vec<(String, String)> {
        let plan = case.make().expect("plan");
        let input = WidenInput {
            plan: &plan,
            tree: case.tree,
            observations: &case.observations.iter().collect::<Vec<_>>(),
            contents: &Files { tree: case.tree, contents: case.contents.clone() },
            own_prefix: b"/slim-own",
        };
        let additions = widen(rule, &input).expect("additions");
        let told = additions.into_iter().map(|Addition { entry, reason }| match reason {
            Reason::Widened { rule: told, from } if told == rule => (escape(&case.tree.path(entry)), escape(&from)),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|&(path, from)| (path.into(), from.into())).collect()
    }

    #[test]
    fn names_of_listed_folders_come_however_heavy() {
        let heavy = format!("/pages/heavy/x size={}", LIGHT_BYTES + 1);
        let many: Vec<String> = (0..LIGHT_ENTRIES).map(|number| format!("/pages/many/{number}")).collect();
        let mut lines = vec![
            "/pages/a size=9999999",
            "/pages/link -> /elsewhere",
            "/pages/theme/deep/style.css size=9",
            "/pages/empty/",
            &heavy,
            "/elsewhere",
            "/swept/x size=999999",
            "/own/x size=999999",
        ];
        lines.extend(many.iter().map(String::as_str));
        let tree = fixture::tree(&lines);
        let mut case = Case::new(&tree);
        let mut seen = observation(&[(Access::List, "/pages"), (Access::Open, "/elsewhere")]);
        seen.uses.push(PathUse { process: 2, ..path_use(Access::List, "/own") });
        seen.uses.extend(many[1..].iter().map(|path| PathUse { process: 1, ..path_use(Access::Lookup, path) }));
        seen.uses.push(PathUse { process: 1, ..path_use(Access::List, "/swept") });
        case.observations = vec![seen];
        case.keep_looked_at = crate::plan::KeepLookedAt::None;
        let expected = ["/pages/a", "/pages/link", "/pages/theme/deep/style.css"].map(|path| (path, "/pages"));
        assert_eq!(widened(&case, Widening::ListedFolders), owned(&[&expected[..], &[("/swept/x", "/swept")]].concat()));
        // one look more, and the other process is a sweep
        case.observations[0].uses.push(PathUse { process: 1, ..path_use(Access::Lookup, &many[0]) });
        assert_eq!(widened(&case, Widening::ListedFolders), owned(&expected));
    }

    #[test]
    fn packages_of_languages_come_whole() {
        let tree = fixture::tree(&[
            "/app/node_modules/ejs/package.json",
            "/app/node_modules/ejs/lib/a.js",
            "/app/node_modules/ejs/lib/b.js",
            "/app/node_modules/ms/index.js",
            "/srv/jars/a.jar",
            "/srv/jars/b.jar",
            "/srv/jars/more/c.jar",
            "/usr/bin/java mode=755",
            "/usr/bin/other mode=755",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/lib/x86_64-linux-gnu/libother.so",
        ]);
        let mut case = Case::new(&tree);
        case.observations = vec![
            observation(&[(Access::Open, "/app/node_modules/ejs/lib/a.js"), (Access::Exec, "/usr/bin/java")]),
            observation(&[(Access::Open, "/srv/jars/a.jar"), (Access::Open, "/usr/lib/x86_64-linux-gnu/libc.so.6")]),
        ];
        let ejs = "/app/node_modules/ejs";
        assert_eq!(
            widened(&case, Widening::PackageFolders),
            owned(&[
                ("/app/node_modules/ejs/lib/b.js", ejs),
                ("/app/node_modules/ejs/package.json", ejs),
                ("/srv/jars/b.jar", "/srv/jars")
            ])
        );
    }

    #[test]
    fn packages_of_the_distribution_come_without_their_documents() {
        let tree = fixture::tree(&[
            "/usr/bin/git mode=755",
            "/usr/lib/git-core/git-merge mode=755",
            "/usr/share/doc/git/copyright",
            "/usr/share/man/man1/git.1.gz",
            "/usr/share/locale/de/LC_MESSAGES/git.mo",
            "/usr/bin/vi mode=755",
            "/var/lib/dpkg/info/git.list",
            "/var/lib/dpkg/info/vi.list",
            "/lib/apk/db/installed",
            "/etc/motd",
            "/etc/motd.d/x",
        ]);
        let mut case = Case::new(&tree);
        let git = b"/usr/bin/git\n/usr/lib/git-core/git-merge\n/usr/share/doc/git/copyright\n/usr/share/man/man1/git.1.gz\n\
            /usr/share/locale/de/LC_MESSAGES/git.mo\n";
        case.contents = vec![
            ("/var/lib/dpkg/info/git.list", git.to_vec()),
            ("/var/lib/dpkg/info/vi.list", b"/usr/bin/vi\n".to_vec()),
            ("/lib/apk/db/installed", b"P:base\nF:etc\nR:motd\nF:etc/motd.d\nR:x\n".to_vec()),
        ];
        // what was only looked at says nothing of what is used
        case.observations =
            vec![observation(&[(Access::Exec, "/usr/bin/git"), (Access::Open, "/etc/motd"), (Access::Lookup, "/usr/bin/vi")])];
        let expected = [
            ("/etc/motd.d/x", "base"),
            ("/usr/lib/git-core/git-merge", "git"),
            ("/usr/share/locale/de/LC_MESSAGES/git.mo", "git"),
        ];
        assert_eq!(widened(&case, Widening::OwningPackages), owned(&expected));
    }

    #[test]
    fn an_image_without_any_of_it_is_not_widened() {
        let tree = fixture::tree(&["/app mode=755"]);
        let mut case = Case::new(&tree);
        case.observations = vec![observation(&[(Access::Exec, "/app")])];
        for rule in Widening::ALL {
            assert_eq!(widened(&case, rule), [], "{}", rule.describe());
        }
    }
}
