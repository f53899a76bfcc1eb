//! What of the original image is missing in the slim one, for whoever says that it misses something.

use super::messages::{Language, Said, What};
use super::shown;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;
use crate::plan::Plan;
use crate::plan::resolve::View;

const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"];
/// Where the loader finds libraries outside of its default folders.
const CACHE: &str = "/etc/ld.so.cache";
const LOCALES: [&str; 3] = ["/usr/lib/locale", "/usr/share/i18n", "/usr/share/locale"];
const ZONES: [&str; 3] = ["/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"];
const CERTIFICATES: [&str; 5] =
    ["/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates"];

/// What a path that was looked for in vain says, where that can be told by its name.
pub(super) fn purpose(path: &[u8]) -> Option<Said<'_>> {
    let path = std::str::from_utf8(path).ok()?;
    let name = file_name(path);
    let (what, name) = if name.starts_with("libnss_") || path == "/etc/nsswitch.conf" {
        (What::Identity, "")
    } else if path.split('/').any(|part| part == "gconv") {
        (What::Charset, "gconv")
    } else if is_in(path.as_bytes(), &LOCALES) {
        (What::Locale, "")
    } else if is_in(path.as_bytes(), &ZONES) {
        (What::TimeZone, "")
    } else if is_in(path.as_bytes(), &CERTIFICATES) {
        (What::Certificate, "")
    } else if is_loader(name) {
        (What::Library, path)
    } else if SHELLS.contains(&name) {
        (What::Program, path)
    } else {
        return None;
    };
    Some(Said { what, name })
}

/// The original image, and what is left of it.
#[derive(Debug)]
pub(super) struct Image<'a> {
    tree: &'a Tree,
    kept: Vec<bool>,
    /// Kept with all that is below.
    whole: Vec<bool>,
}

/// Something that was found in the original image.
struct Located {
    path: String,
    is_kept: bool,
}

impl<'a> Image<'a> {
    pub(super) fn new(tree: &'a Tree, plan: &Plan) -> Image<'a> {
        let mut kept = vec![false; tree.len()];
        for id in plan.entries.iter().filter_map(|entry| tree.get(&entry.path)) {
            kept[id.0 as usize] = true;
        }
        let mut whole = kept.clone();
        // children have higher numbers than their parents
        for index in (0..tree.len()).rev() {
            whole[tree.parent(EntryId(index as u32)).0 as usize] &= whole[index];
        }
        Image { tree, kept, whole }
    }

    /// What is the matter where a message says so; nothing where the slim image has all that the original has.
    pub(super) fn explain(&self, Said { what, name }: Said) -> Option<String> {
        match what {
            What::ExecFormat => {
                let what = if name.is_empty() { "the program".into() } else { format!("`{}`", shown(name.as_bytes())) };
                Some(format!(
                    "{what} has a format that the kernel doesn't run (exec format error): a script without `#!` in its first line needs a shell (`--include-shell`), a program for another machine needs its emulator"
                ))
            }
            What::Program => self.program(name),
            What::Library => self.library(name),
            What::File => self.program(name).or_else(|| self.part("file", name, &[name.into()])),
            What::Module(language) => self.module(language, name),
            What::Charset => self.charsets(name),
            What::Locale => self.locales(),
            What::TimeZone => self.time_zones(),
            What::Certificate => self.certificates(),
            What::Identity => self.name_services(),
        }
    }

    /// A program that could not be started: it isn't there, or what it needs first isn't.
    fn program(&self, name: &str) -> Option<String> {
        let is_program = |id| self.tree.kind(id) == Kind::File && self.tree.mode(id) & 0o111 != 0;
        let Located { path, is_kept } = match name.strip_prefix('/') {
            Some(_) => self.at(name).filter(|&(id, _)| is_program(id)).map(|(_, located)| located)?,
            None => {
                self.ending(name.trim_start_matches("./"), &|id| is_program(id) || self.at_link(id).is_some_and(is_program))?
            }
        };
        let name = shown(name.as_bytes());
        Some(if is_kept {
            format!(
                "`{path}` is there, but not what it needs to start: its loader, or the interpreter in its first line (`--include-bin {path}` keeps both)"
            )
        } else if SHELLS.contains(&file_name(&path)) {
            format!("the shell `{path}` is missing (`--include-shell`)")
        } else if name.contains('/') {
            format!("the program `{path}` is missing, or a link to it (`--include-bin {name}` keeps it with all that it needs)")
        } else {
            format!("the program `{name}` is missing (`--include-exe {name}` keeps it with all that it needs)")
        })
    }

    fn library(&self, name: &str) -> Option<String> {
        let is_file = |id| self.tree.kind(id) != Kind::Directory;
        let Located { path, is_kept } = self.ending(name, &is_file)?;
        let name = shown(name.as_bytes());
        if !is_kept && is_loader(file_name(&path)) {
            return Some(format!("the loader `{path}`, which starts programs, is missing (`--include-bin {path}`)"));
        }
        if !is_kept {
            return Some(format!(
                "the shared library `{name}` is missing (`--include-bin {path}` keeps it with all that it needs)"
            ));
        }
        let cache = self.tree.get(CACHE.as_bytes()).filter(|&id| !self.is_kept(id));
        let advice = match cache {
            Some(_) => format!("`--include-path {CACHE}` keeps the loader's list of folders"),
            None => format!("`--include-bin {path}` keeps all that it needs itself"),
        };
        Some(format!(
            "the shared library `{name}` is there as `{path}`, but it, or something that it needs, was not found: {advice}"
        ))
    }

    fn module(&self, language: Language, name: &str) -> Option<String> {
        match language {
            Language::Python => {
                let path = name.replace('.', "/");
                let last = file_name(&path);
                self.part("Python module", name, &[format!("{path}.py"), format!("{path}/__init__.py")]).or_else(|| {
                    self.unkept(&|path| is_extension_module(path, last)).map(|path| told("Python module", name, &path))
                })
            }
            Language::Node if name.starts_with(['.', '/']) => {
                let path = name.trim_start_matches("../").trim_start_matches("./");
                let ends = ["", ".js", ".mjs", ".cjs", ".json", ".node"].map(|end| format!("{path}{end}"));
                self.part("Node module", name, &ends)
            }
            Language::Node => self.part("Node package", name, &[format!("node_modules/{name}")]),
            Language::Ruby => self.part("Ruby library", name, &[format!("{name}.rb"), format!("{name}.so"), name.into()]),
            Language::Perl => self.part("Perl module", name, &[name.into()]),
            Language::Java => {
                let class = format!("{}.class", name.replace('.', "/"));
                // else it is in an archive, and nobody knows in which
                let in_archive = || {
                    self.unkept(&|path| path.ends_with(b".jar")).map(|archive| told("archive of the Java class", name, &archive))
                };
                self.part("Java class", name, &[class]).or_else(in_archive)
            }
        }
    }

    /// Something whose path has one of these ends, and that is not kept, or not as a whole.
    fn part(&self, what: &str, name: &str, ends: &[String]) -> Option<String> {
        let found = ends.iter().find_map(|end| self.ending(end, &|id| !self.is_whole(id)))?;
        Some(told(what, name, &found.path))
    }

    fn charsets(&self, folder: &str) -> Option<String> {
        let is_part = |id| self.tree.kind(id) == Kind::Directory && !self.is_whole(id);
        let path = self.ending(folder, &is_part)?.path;
        Some(format!("something of `{path}`, which converts character sets, is missing (`--include-path {path}`)"))
    }

    fn locales(&self) -> Option<String> {
        let folder = LOCALES.iter().find(|folder| self.unkept(&|path| is_in(path, &[folder])).is_some())?;
        Some(format!("data of locales is missing (`--include-path {folder}`)"))
    }

    fn time_zones(&self) -> Option<String> {
        self.unkept(&|path| is_in(path, &ZONES)).map(|_| "data of time zones is missing (`--include-zoneinfo`)".into())
    }

    fn certificates(&self) -> Option<String> {
        let path = self.unkept(&|path| is_in(path, &CERTIFICATES))?;
        Some(format!(
            "certificates of authorities are missing, without which no peer can be verified, such as `{path}` (`--include-cert-all`)"
        ))
    }

    fn name_services(&self) -> Option<String> {
        let is_service = |path: &[u8]| path.windows(8).any(|part| part == b"/libnss_");
        let path = self.unkept(&is_service)?;
        Some(format!(
            "hosts and users are looked up by libraries of which some are missing, such as `{path}` (`--include-bin {path}`)"
        ))
    }

    fn is_kept(&self, id: EntryId) -> bool {
        self.kept[id.0 as usize]
    }

    fn is_whole(&self, id: EntryId) -> bool {
        self.whole[id.0 as usize]
    }

    /// What an absolute path leads to, and whether all on the way is kept.
    fn at(&self, path: &str) -> Option<(EntryId, Located)> {
        let resolution = View::of(self.tree).resolve(Spelling::absolute(path.as_bytes()), true);
        let id = resolution.found()?;
        let is_kept = self.is_kept(id) && resolution.passed.iter().all(|&passed| self.is_kept(passed));
        Some((id, Located { path: shown(&self.tree.path(id)), is_kept }))
    }

    /// What a symbolic link leads to.
    fn at_link(&self, id: EntryId) -> Option<EntryId> {
        if self.tree.kind(id) != Kind::Symlink {
            return None;
        }
        View::of(self.tree).resolve(Spelling::absolute(&self.tree.path(id)), true).found()
    }

    /// Of the entries whose path ends with the components of `end`, the one with the shortest path; rather one that is
    /// not kept.
    fn ending(&self, end: &str, is_wanted: &dyn Fn(EntryId) -> bool) -> Option<Located> {
        let end = [b"/", end.trim_start_matches('/').as_bytes()].concat();
        let name = end.rsplit(|&byte| byte == b'/').next().filter(|name| !name.is_empty())?;
        let named = self.tree.ids().filter(|&id| self.tree.name(id) == name);
        let paths = named.map(|id| (id, self.tree.path(id))).filter(|(id, path)| path.ends_with(&end) && is_wanted(*id));
        let (is_kept, _, path) = paths.map(|(id, path)| (self.is_kept(id), path.len(), path)).min()?;
        Some(Located { path: shown(&path), is_kept })
    }

    /// The first file or link with such a path that is not kept.
    fn unkept(&self, is_wanted: &dyn Fn(&[u8]) -> bool) -> Option<String> {
        let unkept = self.tree.ids().filter(|&id| !self.is_kept(id) && self.tree.kind(id) != Kind::Directory);
        unkept.map(|id| self.tree.path(id)).find(|path| is_wanted(path)).map(|path| shown(&path))
    }
}

fn told(what: &str, name: &str, path: &str) -> String {
    let name = shown(name.as_bytes());
    format!("the {what} `{name}` is missing, or part of it (`--include-path {path}`)")
}

/// Whether `path` is one of `places` or below one.
fn is_in(path: &[u8], places: &[&str]) -> bool {
    places.iter().any(|place| path.strip_prefix(place.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
}

/// Whether `path` is a Python module in machine code: `_ssl.cpython-311-x86_64-linux-gnu.so`.
fn is_extension_module(path: &[u8], module: &str) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    name.ends_with(b".so") && name.strip_prefix(module.as_bytes()).is_some_and(|rest| rest.starts_with(b"."))
}

/// Whether a file is called as the loaders of the C libraries are: `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-") && name.contains(".so")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::plan::{Kept, Reason};
    use crate::verify::diagnosis::messages;

    const IMAGE: [&str; 40] = [
        "/app/run mode=755",
        "/app/lib/util.js",
        "/app/node_modules/ejs/index.js",
        "/app/node_modules/ejs/lib/a.js",
        "/app/jars/b.jar",
        "/app/conf",
        "/bin -> usr/bin",
        "/etc/ld.so.cache",
        "/etc/localtime -> /usr/share/zoneinfo/UTC",
        "/etc/nsswitch.conf",
        "/etc/pkix",
        "/etc/ssl/certs/ca.pem",
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/bin/convert mode=755",
        "/usr/bin/dash mode=755",
        "/usr/bin/python3 -> python3.11",
        "/usr/bin/python3.11 mode=755",
        "/usr/bin/sh -> dash",
        "/usr/bin/vi mode=755",
        "/usr/lib/locale/C.utf8/LC_CTYPE",
        "/usr/lib/python3/dist-packages/yaml/__init__.py",
        "/usr/lib/python3/encodings/latin.py",
        "/usr/lib/python3/json/__init__.py",
        "/usr/lib/python3/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "/usr/lib/ruby/foo/bar.rb",
        "/usr/lib/ruby/enc/utf_16.so",
        "/usr/lib/x/gconv/ISO8859-15.so",
        "/usr/lib/x/libfar.so.1",
        "/usr/lib/x/libnss_dns.so.2",
        "/usr/lib/x/libssl.so.3",
        "/usr/share/doc/yaml/README",
        "/usr/share/classes/a/B.class",
        "/usr/share/perl5/Foo/Bar.pm",
        "/usr/share/php/x.php",
        "/usr/share/zoneinfo/Europe/Berlin",
        "/usr/share/zoneinfo/UTC",
        "/opt/tool mode=755",
        "/opt/other/convert",
        "/opt/locale",
        "/opt/sh",
    ];
    /// Everything else is not in the slim image.
    const KEPT: [&str; 11] = [
        "/app/run",
        "/app/node_modules",
        "/app/node_modules/ejs",
        "/app/node_modules/ejs/index.js",
        "/usr/bin/python3.11",
        "/usr/bin/vi",
        "/usr/lib/python3/json",
        "/usr/lib/python3/json/__init__.py",
        "/usr/lib/x",
        "/usr/lib/x/libfar.so.1",
        "/usr/lib/x/libnss_files.so.2",
    ];

    fn with_image<T>(kept: &[&str], check: impl FnOnce(&Image) -> T) -> T {
        let tree = fixture::tree(&IMAGE);
        let entry = |path: &&str| Kept { path: (*path).into(), mode: None, owner: None, reasons: vec![Reason::Parent] };
        let entries = kept.iter().map(entry).collect();
        let plan = Plan { version: Plan::VERSION, image: String::new(), notes: vec![], entries };
        check(&Image::new(&tree, &plan))
    }

    #[test]
    fn messages_are_explained_by_what_is_missing() {
        let explain = |line: &str| {
            let said = messages::read(line).unwrap_or_else(|| panic!("{line}"));
            with_image(&KEPT, |image| image.explain(said))
        };
        for (line, thing, option) in [
            // there, but it doesn't start
            ("exec /app/run: no such file or directory", "`/app/run` is there, but", "--include-bin /app/run`"),
            ("bash: line 1: /usr/bin/vi: cannot execute: required file not found", "loader", "--include-bin /usr/bin/vi`"),
            ("exec /app/run: exec format error", "`/app/run`", "--include-shell`"),
            ("exec user process caused: exec format error", "the program has", "--include-shell`"),
            // not there
            ("exec: \"/bin/sh\": stat /bin/sh: no such file or directory", "the shell `/usr/bin/dash`", "--include-shell`"),
            ("exec: \"/opt/tool\": stat /opt/tool: no such file", "`/opt/tool`", "--include-bin /opt/tool`"),
            ("sh: 1: convert: not found", "`convert`", "--include-exe convert`"),
            ("/usr/bin/env: 'python3': No such file or directory", "`python3`", "--include-exe python3`"),
            ("Error: spawn /usr/bin/python3 ENOENT", "`/usr/bin/python3.11`", "--include-bin /usr/bin/python3`"),
            ("Error: spawn sh ENOENT", "the shell `/usr/bin/sh`", "--include-shell`"),
            ("FileNotFoundError: [Errno 2] No such file or directory: 'convert'", "program `convert`", "--include-exe convert`"),
            (
                "FileNotFoundError: [Errno 2] No such file or directory: '/app/conf'",
                "file `/app/conf`",
                "--include-path /app/conf`",
            ),
            // libraries
            (
                "x: error while loading shared libraries: libssl.so.3: cannot open shared object file: No such file or directory",
                "`libssl.so.3` is missing",
                "--include-bin /usr/lib/x/libssl.so.3`",
            ),
            (
                "Error loading shared library libfar.so.1: No such file (needed by /app/run)",
                "is there as",
                "--include-path /etc/ld.so.cache`",
            ),
            // modules
            ("ModuleNotFoundError: No module named 'yaml'", "Python module `yaml`", "dist-packages/yaml/__init__.py`"),
            ("ModuleNotFoundError: No module named '_ssl'", "`_ssl`", "_ssl.cpython-311-x86_64-linux-gnu.so`"),
            ("Error: Cannot find module './lib/util'", "Node module", "--include-path /app/lib/util.js`"),
            ("Error: Cannot find module '/app/lib/util.js'", "Node module", "--include-path /app/lib/util.js`"),
            ("Error: Cannot find module 'ejs'", "Node package `ejs`", "--include-path /app/node_modules/ejs`"),
            ("in `require': cannot load such file -- foo/bar (LoadError)", "Ruby library", "/usr/lib/ruby/foo/bar.rb`"),
            ("Can't locate Foo/Bar.pm in @INC", "Perl module", "--include-path /usr/share/perl5/Foo/Bar.pm`"),
            ("Caused by: java.lang.ClassNotFoundException: a.B", "Java class `a.B`", "/usr/share/classes/a/B.class`"),
            ("java.lang.NoClassDefFoundError: c/D", "archive of the Java class `c/D`", "--include-path /app/jars/b.jar`"),
            (
                "Failed opening required 'x.php' (include_path='.:/usr/share/php')",
                "`x.php`",
                "--include-path /usr/share/php/x.php`",
            ),
            // data
            ("iconv: failed to start conversion processing", "character sets", "--include-path /usr/lib/x/gconv`"),
            ("LookupError: unknown encoding: latin-9", "character sets", "--include-path /usr/lib/python3/encodings`"),
            ("code converter not found (x to y)", "character sets", "--include-path /usr/lib/ruby/enc`"),
            ("locale.Error: unsupported locale setting", "locales", "--include-path /usr/lib/locale`"),
            ("panic: unknown time zone Europe/Berlin", "time zones", "--include-zoneinfo`"),
            ("x509: certificate signed by unknown authority", "`/etc/ssl/certs/ca.pem`", "--include-cert-all`"),
            ("socket.gaierror: Temporary failure in name resolution", "libnss_dns", "--include-bin /usr/lib/x/libnss_dns.so.2`"),
        ] {
            let told = explain(line).unwrap_or_else(|| panic!("{line}"));
            assert!(told.contains(thing) && told.contains(option), "{line}: {told}");
        }
        // what the original image hasn't either, or what the slim one has
        for line in [
            "exec /nowhere: no such file or directory",
            "sh: 1: nothing: not found",
            "the user `x` is: not found",
            "error while loading shared libraries: libnothing.so: cannot open shared object file",
            "ModuleNotFoundError: No module named 'tzdata'",
            "ModuleNotFoundError: No module named 'json'",
            "Error: Cannot find module 'optional'",
            "FileNotFoundError: [Errno 2] No such file or directory: '/missing'",
        ] {
            if let Some(said) = messages::read(line) {
                assert_eq!(with_image(&KEPT, |image| image.explain(said)), None, "{line}");
            }
        }
    }

    #[test]
    fn an_image_that_has_everything_is_not_blamed() {
        let all: Vec<String> = {
            let tree = fixture::tree(&IMAGE);
            tree.ids().map(|id| crate::escape::escape(&tree.path(id))).collect()
        };
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for line in [
            "ModuleNotFoundError: No module named 'yaml'",
            "iconv: failed to start conversion processing",
            "locale.Error: unsupported locale setting",
            "panic: unknown time zone Europe/Berlin",
            "x509: certificate signed by unknown authority",
            "socket.gaierror: Temporary failure in name resolution",
            "java.lang.NoClassDefFoundError: c/D",
        ] {
            let said = messages::read(line).expect("message");
            assert_eq!(with_image(&all, |image| image.explain(said)), None, "{line}");
        }
    }

    #[test]
    fn missing_paths_tell_what_they_are_for() {
        for (path, option) in [
            ("/usr/lib/x/libnss_dns.so.2", Some("--include-bin /usr/lib/x/libnss_dns.so.2`")),
            ("/etc/nsswitch.conf", Some("--include-bin /usr/lib/x/libnss_dns.so.2`")),
            ("/usr/lib/x/gconv", Some("--include-path /usr/lib/x/gconv`")),
            ("/usr/lib/x/gconv/ISO8859-15.so", Some("--include-path /usr/lib/x/gconv`")),
            ("/usr/lib/locale/C.utf8", Some("--include-path /usr/lib/locale`")),
            ("/usr/share/zoneinfo/UTC", Some("--include-zoneinfo`")),
            ("/etc/localtime", Some("--include-zoneinfo`")),
            ("/etc/ssl/certs", Some("--include-cert-all`")),
            ("/lib64/ld-linux-x86-64.so.2", Some("starts programs, is missing (`--include-bin /lib64/ld-linux-x86-64.so.2`")),
            ("/usr/bin/sh", Some("--include-shell`")),
            ("/usr/bin/convert", None),
            ("/etc/pkix", None),
            ("/opt/locale", None),
            ("/opt/sh", None),
        ] {
            let told = with_image(&KEPT, |image| purpose(path.as_bytes()).and_then(|said| image.explain(said)));
            assert_eq!(told.is_some(), option.is_some(), "{path}: {told:?}");
            assert!(told.unwrap_or_default().contains(option.unwrap_or_default()), "{path}");
        }
    }
}
