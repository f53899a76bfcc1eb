//! The libraries of a program, found as its loader would find them, without running it.
//!
//! glibc's order: `DT_RPATH` of the file and of those that led to it (where it has no `DT_RUNPATH`), `LD_LIBRARY_PATH` of the
//! image's configuration, `DT_RUNPATH`, `/etc/ld.so.cache`, the default directories. musl's: `LD_LIBRARY_PATH`, the run paths
//! of the file and of those that led to it, `/etc/ld-musl-ARCH.path` or the default directories. Like the loaders, this
//! passes over a library of another machine or class. Variants for particular processors (`glibc-hwcaps`) are left out:
//! the plain library is next in line everywhere.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::closure::WHOLE;
use super::config::ConfigView;
use super::draft::Draft;
use super::elf::{self, Elf};
use super::format::{Edge, Reason};
use super::library_cache;
use super::resolve::{Resolution, View};
use crate::escape::escape;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;

/// A program of more libraries than this is made up.
const MAX_OBJECTS: usize = 4096;
/// The longest search path of musl's that is read.
const MAX_MUSL_PATH: u64 = 64 << 10;

/// Finds libraries; what it has read of the image it remembers.
pub(super) struct LibrarySearch<'a> {
    view: View<'a>,
    tree: &'a Tree,
    contents: &'a dyn Contents,
    /// `LD_LIBRARY_PATH`.
    variable: Vec<u8>,
    cache: Option<HashMap<Vec<u8>, Vec<Vec<u8>>>>,
    files: HashMap<EntryId, Result<Rc<Elf>, String>>,
}

/// A program or library of one search.
struct Object {
    id: EntryId,
    elf: Rc<Elf>,
    /// Where `$ORIGIN` is.
    origin: Vec<u8>,
    /// The object that needed it; the program's own number for the program.
    needed_by: usize,
}

/// The two loaders whose rules are known.
enum Loader {
    Glibc,
    /// With its name for the machine.
    Musl(Vec<u8>),
}

impl<'a> LibrarySearch<'a> {
    pub(super) fn new(tree: &'a Tree, config: &ConfigView, contents: &'a dyn Contents) -> LibrarySearch<'a> {
        let variable = config.variable(b"LD_LIBRARY_PATH").unwrap_or_default().to_vec();
        LibrarySearch { view: View::of(tree), tree, contents, variable, cache: None, files: HashMap::new() }
    }

    /// Keeps the libraries that `program` needs, and those that they need. What isn't found is noted.
    pub(super) fn keep(&mut self, draft: &mut Draft, program: EntryId) {
        let program_path = self.tree.path(program);
        let elf = match self.elf(program) {
            Ok(elf) => elf,
            Err(error) => {
                draft.notes.push(format!("the libraries of `{}` are not known: {error}", escape(&program_path)));
                return;
            }
        };
        let loader = self.loader(&elf);
        let mut objects = vec![Object { id: program, elf, origin: parent(&program_path).to_vec(), needed_by: 0 }];
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut index = 0;
        while index < objects.len() {
            for name in objects[index].elf.clone().needed.iter().filter(|name| seen.insert(name.to_vec())) {
                let by = self.tree.path(objects[index].id);
                let Some((path, resolution, id, elf)) = self.find(&loader, &objects, index, name) else {
                    let (by, name) = (escape(&by), escape(name));
                    draft.notes.push(format!("`{by}` needs the library `{name}`, which is not in the image"));
                    continue;
                };
                draft.keep_passed(&resolution, Spelling::absolute(&path));
                draft.keep(id, Reason::Needed { by, edge: Edge::Library });
                if objects.iter().all(|object| object.id != id) && objects.len() < MAX_OBJECTS {
                    objects.push(Object { id, elf, origin: parent(&path).to_vec(), needed_by: index });
                }
            }
            index += 1;
        }
    }

    fn loader(&self, program: &Elf) -> Loader {
        let name = |path: &[u8]| {
            Some(
                path.rsplit(|&byte| byte == b'/').next()?.strip_prefix(b"ld-musl-")?.split(|&byte| byte == b'.').next()?.to_vec(),
            )
        };
        let musl = match &program.interpreter {
            Some(path) => name(path),
            // a library or a static program: by what the image has
            None if self.tree.get(b"/etc/ld.so.cache").is_some() => None,
            None => {
                self.tree.get(b"/lib").and_then(|lib| self.tree.children(lib).iter().find_map(|&id| name(self.tree.name(id))))
            }
        };
        musl.map_or(Loader::Glibc, Loader::Musl)
    }

    /// The library `name` for `objects[index]`: the path by which it is reached, and where that leads.
    fn find(
        &mut self,
        loader: &Loader,
        objects: &[Object],
        index: usize,
        name: &[u8],
    ) -> Option<(Vec<u8>, Resolution, EntryId, Rc<Elf>)> {
        let object = &objects[index];
        let mut candidates: Vec<Vec<u8>> = vec![];
        let in_directories = |candidates: &mut Vec<Vec<u8>>, directories: Vec<Vec<u8>>| {
            candidates.extend(directories.into_iter().map(|directory| [&directory, &b"/"[..], name].concat()));
        };
        if name.contains(&b'/') {
            candidates = expand(name, object);
        } else {
            let variable = directories(&self.variable, b":;", object);
            match loader {
                Loader::Glibc => {
                    if object.elf.runpath.is_empty() {
                        for ancestor in ancestry(objects, index).filter(|ancestor| ancestor.elf.runpath.is_empty()) {
                            in_directories(&mut candidates, directories(&ancestor.elf.rpath, b":", ancestor));
                        }
                    }
                    in_directories(&mut candidates, variable);
                    in_directories(&mut candidates, directories(&object.elf.runpath, b":", object));
                    candidates.extend(self.cache().get(name).into_iter().flatten().cloned());
                    in_directories(&mut candidates, default_directories(object));
                }
                Loader::Musl(machine) => {
                    in_directories(&mut candidates, variable);
                    for ancestor in ancestry(objects, index) {
                        let own = if ancestor.elf.runpath.is_empty() { &ancestor.elf.rpath } else { &ancestor.elf.runpath };
                        in_directories(&mut candidates, directories(own, b":", ancestor));
                    }
                    in_directories(&mut candidates, self.musl_directories(machine, object));
                }
            }
        }
        let target = object.elf.target;
        candidates.into_iter().find_map(|path| {
            let resolution = self.view.resolve(Spelling::absolute(&path), true);
            let id = resolution.found().filter(|&id| self.tree.kind(id) == Kind::File)?;
            let elf = self.elf(id).ok().filter(|elf| elf.target == target)?;
            Some((path, resolution, id, elf))
        })
    }

    fn elf(&mut self, id: EntryId) -> Result<Rc<Elf>, String> {
        let (tree, contents) = (self.tree, self.contents);
        let read = || {
            if tree.size(id) > WHOLE {
                return Err(format!("it has {} bytes, more than is read", tree.size(id)));
            }
            let bytes = contents.read(id, WHOLE).map_err(|error| error.to_string())?;
            elf::parse(&bytes).map(Rc::new).map_err(|error| error.to_string())
        };
        self.files.entry(id).or_insert_with(read).clone()
    }

    fn cache(&mut self) -> &HashMap<Vec<u8>, Vec<Vec<u8>>> {
        let (view, contents) = (&self.view, self.contents);
        self.cache.get_or_insert_with(|| {
            let file = view.resolve(Spelling::absolute(b"/etc/ld.so.cache"), true).found();
            file.and_then(|id| contents.read(id, library_cache::MAX_BYTES).ok())
                .map(|bytes| library_cache::parse(&bytes))
                .unwrap_or_default()
        })
    }

    fn musl_directories(&self, machine: &[u8], object: &Object) -> Vec<Vec<u8>> {
        let path = [b"/etc/ld-musl-", machine, b".path"].concat();
        let file = self.view.resolve(Spelling::absolute(&path), true).found();
        let text = file.and_then(|id| self.contents.read(id, MAX_MUSL_PATH).ok());
        directories(text.as_deref().unwrap_or(b"/lib:/usr/local/lib:/usr/lib"), b":\n", object)
    }
}

/// The object and those that led to it, the program last.
fn ancestry(objects: &[Object], index: usize) -> impl Iterator<Item = &Object> {
    std::iter::successors(Some(index), |&at| (at != 0).then(|| objects[at].needed_by)).map(|at| &objects[at])
}

/// The directories of a search path, expanded; what depends on the working directory is left out.
fn directories(path: &[u8], separators: &[u8], object: &Object) -> Vec<Vec<u8>> {
    let entries = path.split(|byte| separators.contains(byte)).map(<[u8]>::trim_ascii);
    entries.flat_map(|entry| expand(entry, object)).filter(|entry| entry.starts_with(b"/")).collect()
}

/// Where glibc looks in the end, with the directories of Debian and of others.
fn default_directories(object: &Object) -> Vec<Vec<u8>> {
    let multiarch = object.elf.target.multiarch();
    let debian = ["/lib", "/usr/lib"].map(|prefix| format!("{prefix}/{multiarch}"));
    let others = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(String::from);
    debian.into_iter().chain(others).map(String::into_bytes).collect()
}

/// The readings of an entry with `$ORIGIN`, `$PLATFORM` and `$LIB`, which differs between distributions.
fn expand(entry: &[u8], object: &Object) -> Vec<Vec<u8>> {
    if !entry.contains(&b'$') {
        return vec![entry.to_vec()];
    }
    let target = object.elf.target;
    let libs = [format!("lib/{}", target.multiarch()), "lib64".into(), "lib".into()];
    let mut readings: Vec<Vec<u8>> = libs
        .iter()
        .map(|lib| {
            let entry = replace(entry, "ORIGIN", &object.origin);
            replace(&replace(&entry, "PLATFORM", target.platform().as_bytes()), "LIB", lib.as_bytes())
        })
        .collect();
    readings.dedup();
    readings
}

/// Replaces the first `$NAME` or `${NAME}`; a path with more of one kind is not worth it.
fn replace(entry: &[u8], name: &str, value: &[u8]) -> Vec<u8> {
    for pattern in [format!("${{{name}}}"), format!("${name}")] {
        if let Some(at) = entry.windows(pattern.len()).position(|window| window == pattern.as_bytes()) {
            return [&entry[..at], value, &entry[at + pattern.len()..]].concat();
        }
    }
    entry.to_vec()
}

/// The directory of a path.
fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::testing::{Case, elf};

    /// The files kept for `/bin/app`, of these files with these contents.
    fn libraries(env: &str, files: &[(&'static str, Vec<u8>)]) -> (Vec<String>, Vec<String>) {
        let lines: Vec<String> = files.iter().map(|(path, _)| format!("{path} mode=755")).collect();
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.push("/lib/x86_64-linux-gnu/link.so -> real.so");
        let tree = fixture::tree(&lines);
        let mut case = Case::new(&tree);
        case.contents = files.to_vec();
        case.config.entrypoint = vec!["/bin/app".into()];
        case.config.env = vec![(b"LD_LIBRARY_PATH".to_vec(), env.into())];
        let plan = case.make().expect("plan");
        let is_file = |kept: &&super::super::Kept| tree.get(&kept.path).is_some_and(|id| tree.kind(id) != Kind::Directory);
        (
            plan.entries.iter().filter(is_file).map(|kept| escape(&kept.path)).filter(|path| path != "/bin/app").collect(),
            plan.notes,
        )
    }

    fn library(needed: &[&str]) -> Vec<u8> {
        elf(None, needed, "", "")
    }

    fn other_machine() -> Vec<u8> {
        let mut bytes = library(&[]);
        bytes[18] = 183;
        bytes
    }

    #[test]
    fn glibc_searches_in_its_order() {
        let app = |needed: &[&str], rpath, runpath| elf(Some("/lib64/ld-linux-x86-64.so.2"), needed, rpath, runpath);
        let (kept, notes) = libraries(
            "",
            &[
                ("/bin/app", app(&["link.so", "cached.so", "missing.so"], "", "")),
                ("/lib/x86_64-linux-gnu/real.so", library(&["deep.so"])),
                ("/usr/lib/deep.so", library(&["cached.so"])),
                ("/opt/cached.so", library(&[])),
                ("/opt/unused.so", library(&[])),
                (
                    "/etc/ld.so.cache",
                    library_cache::fixture(&[("cached.so", "/opt/cached.so", 0), ("unused.so", "/opt/unused.so", 0)]),
                ),
            ],
        );
        assert_eq!(
            kept,
            ["/lib/x86_64-linux-gnu/link.so", "/lib/x86_64-linux-gnu/real.so", "/opt/cached.so", "/usr/lib/deep.so"]
        );
        assert_eq!(notes, ["`/bin/app` needs the library `missing.so`, which is not in the image"]);

        // each place wins over those after it
        let places = ["/rpath/x.so", "/variable/x.so", "/runpath/x.so", "/cached/x.so", "/usr/lib/x.so"];
        let cache = library_cache::fixture(&[("x.so", "/cached/x.so", 0)]);
        for (rpath, env, runpath, cached, expected) in [
            ("/rpath", "/variable", "", true, 0),
            ("/rpath", "/variable", "/runpath", true, 1),
            ("", "", "/runpath", true, 2),
            ("", "/nowhere", "/nowhere", true, 3),
            ("", "relative:", "", false, 4),
        ] {
            let mut files = vec![("/bin/app", app(&["x.so"], rpath, runpath))];
            files.extend(places.map(|path| (path, library(&[]))));
            files.extend(cached.then(|| ("/etc/ld.so.cache", cache.clone())));
            assert_eq!(libraries(env, &files).0, [places[expected]], "{rpath} {env} {runpath}");
        }
    }

    #[test]
    fn run_paths_are_expanded_and_inherited() {
        let (kept, notes) = libraries(
            "",
            &[
                ("/bin/app", elf(None, &["a.so", "$ORIGIN/plugin.so"], "$ORIGIN/../opt/${LIB}", "")),
                ("/bin/plugin.so", library(&[])),
                // found by the program's DT_RPATH, which a library without its own inherits
                ("/opt/lib64/a.so", library(&["b.so"])),
                ("/opt/lib64/b.so", elf(None, &["c.so", "d.so"], "", "$ORIGIN/more/$PLATFORM")),
                ("/opt/lib64/more/x86_64/c.so", library(&[])),
                // not: DT_RUNPATH stops the inheritance
                ("/opt/lib64/d.so", library(&[])),
            ],
        );
        assert_eq!(kept, ["/bin/plugin.so", "/opt/lib64/a.so", "/opt/lib64/b.so", "/opt/lib64/more/x86_64/c.so"]);
        assert_eq!(notes, ["`/opt/lib64/b.so` needs the library `d.so`, which is not in the image"]);
    }

    #[test]
    fn libraries_of_another_machine_are_passed_over() {
        let app = elf(None, &["x.so", "y.so"], "/first:/second", "");
        let files = [
            ("/bin/app", app),
            ("/first/x.so", other_machine()),
            ("/second/x.so", library(&[])),
            ("/first/y.so", b"text".to_vec()),
        ];
        let (kept, notes) = libraries("", &files);
        assert_eq!(kept, ["/second/x.so"]);
        assert_eq!(notes.len(), 1, "{notes:?}");
    }

    #[test]
    fn musl_has_its_own_path() {
        let app = elf(Some("/lib/ld-musl-x86_64.so.1"), &["x.so", "y.so"], "", "");
        let files = [
            ("/bin/app", app),
            ("/lib/ld-musl-x86_64.so.1", library(&[])),
            ("/usr/local/lib/x.so", library(&[])),
            ("/usr/lib/x.so", library(&[])),
        ];
        assert_eq!(libraries("", &files).0, ["/lib/ld-musl-x86_64.so.1", "/usr/local/lib/x.so"]);
        let path = ("/etc/ld-musl-x86_64.path", b"/usr/lib\n/opt\n".to_vec());
        let files = [&files[..], &[path, ("/opt/y.so", library(&[]))]].concat();
        assert_eq!(libraries("", &files).0, ["/lib/ld-musl-x86_64.so.1", "/opt/y.so", "/usr/lib/x.so"]);
    }
}
