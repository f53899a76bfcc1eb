//! Which files belong together as one package of a programming language.
//!
//! | language | the package's folder | source |
//! | --- | --- | --- |
//! | Node | the folder in `node_modules` or `node_modules/@SCOPE`, else the nearest that holds `package.json` | "Folders as modules", nodejs.org/api/modules.html |
//! | Python | the topmost of a chain of folders that hold `__init__.py`, with its `NAME-VERSION.dist-info` or `.egg-info` beside it | "Regular packages", docs.python.org/3/reference/import.html; packaging.python.org, "Recording installed projects" |
//! | Ruby | the folder in `gems` beside `specifications`, with its `.gemspec` in there, else the nearest that holds a `*.gemspec` | `gem help platform`, `gem environment`: the layout of GEM_HOME |
//! | PHP | the nearest folder that holds `composer.json` | getcomposer.org/doc/04-schema.md |
//!
//! The package that is nearest to a file has it. Packages that are installed in a package's folder (an application's
//! `node_modules`) are others. The root directory is no package's folder, even if an application was copied there.

use crate::image::tree::{EntryId, Kind, Tree};

/// The folder of the package that has the files in `directory`.
pub(super) fn folder_of(tree: &Tree, directory: EntryId) -> Option<EntryId> {
    ancestors(tree, directory).find_map(|folder| {
        if is_gem(tree, folder) || is_installed_by_npm(tree, folder) || holds(tree, folder, b"composer.json") {
            return Some(folder);
        }
        if holds(tree, folder, b"__init__.py") {
            return ancestors(tree, folder).take_while(|&above| holds(tree, above, b"__init__.py")).last();
        }
        if holds(tree, folder, b"package.json") {
            // `dist/esm/package.json` of a package only says how the files beside it are to be read
            return Some(ancestors(tree, folder).find(|&above| is_installed_by_npm(tree, above)).unwrap_or(folder));
        }
        None
    })
}

/// The files and links of the package in `folder`, and what is recorded of it beside the folder.
pub(super) fn files_of(tree: &Tree, folder: EntryId) -> Vec<EntryId> {
    let mut found = vec![];
    let mut pending = vec![folder];
    pending.extend(records_of(tree, folder));
    while let Some(id) = pending.pop() {
        if tree.kind(id) != Kind::Directory {
            found.push(id);
        } else if id == folder || !holds_other_packages(tree, id) {
            pending.extend(tree.children(id));
        }
    }
    found
}

/// `directory` and all above it, but the root.
fn ancestors(tree: &Tree, directory: EntryId) -> impl Iterator<Item = EntryId> {
    std::iter::successors(Some(directory), |&id| Some(tree.parent(id))).take_while(|&id| id != EntryId::ROOT)
}

fn holds(tree: &Tree, folder: EntryId, name: &[u8]) -> bool {
    tree.child(folder, name).is_some()
}

fn is_installed_by_npm(tree: &Tree, folder: EntryId) -> bool {
    let above = tree.parent(folder);
    let home = if tree.name(above).starts_with(b"@") { tree.parent(above) } else { above };
    tree.name(home) == b"node_modules" && !tree.name(folder).starts_with(b"@")
}

fn is_gem(tree: &Tree, folder: EntryId) -> bool {
    is_gem_home(tree, tree.parent(folder)) || tree.children(folder).iter().any(|&id| tree.name(id).ends_with(b".gemspec"))
}

fn is_gem_home(tree: &Tree, folder: EntryId) -> bool {
    tree.name(folder) == b"gems" && holds(tree, tree.parent(folder), b"specifications")
}

/// Whether the packages that are installed in an application's folder are in here.
fn holds_other_packages(tree: &Tree, folder: EntryId) -> bool {
    match tree.name(folder) {
        b"node_modules" | b"site-packages" | b"dist-packages" => true,
        b"vendor" => holds(tree, folder, b"autoload.php"),
        b"gems" => is_gem_home(tree, folder),
        _ => false,
    }
}

/// What the language's installer records of a package outside of its folder.
fn records_of(tree: &Tree, folder: EntryId) -> Vec<EntryId> {
    let home = tree.parent(folder);
    let name = tree.name(folder);
    if is_gem_home(tree, home) {
        let specifications = tree.child(tree.parent(home), b"specifications");
        return specifications.and_then(|id| tree.child(id, &[name, b".gemspec"].concat())).into_iter().collect();
    }
    if !holds(tree, folder, b"__init__.py") {
        return vec![];
    }
    let is_record = |&id: &EntryId| {
        let record = [&b".dist-info"[..], b".egg-info"].iter().find_map(|suffix| tree.name(id).strip_suffix(*suffix));
        record.is_some_and(|record| normalized(record.split(|&byte| byte == b'-').next().unwrap_or_default()) == normalized(name))
    };
    tree.children(home).iter().copied().filter(is_record).collect()
}

/// A Python project's name in the one spelling that all of its spellings share, without runs of separators.
fn normalized(name: &[u8]) -> Vec<u8> {
    name.split(|byte| b"-_.".contains(byte)).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'-').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;

    /// The folder of the package of a file, and the files of that.
    fn package(tree: &Tree, file: &str) -> Option<(String, Vec<String>)> {
        let file = tree.get(file.as_bytes()).expect("file");
        let folder = folder_of(tree, tree.parent(file))?;
        let mut files: Vec<_> = files_of(tree, folder).into_iter().map(|id| escape(&tree.path(id))).collect();
        files.sort();
        Some((escape(&tree.path(folder)), files))
    }

    fn check(tree: &Tree, file: &str, folder: &str, files: &[&str]) {
        let expected = (folder.into(), files.iter().map(|&file| file.into()).collect());
        assert_eq!(package(tree, file), Some(expected), "{file}");
    }

    #[test]
    fn packages_of_node() {
        let tree = fixture::tree(&[
            "/app/package.json",
            "/app/server.js",
            "/app/views/index.ejs",
            "/app/node_modules/.bin/ejs -> ../ejs/bin/cli.js",
            "/app/node_modules/ejs/package.json",
            "/app/node_modules/ejs/bin/cli.js",
            "/app/node_modules/ejs/dist/esm/package.json",
            "/app/node_modules/ejs/dist/esm/index.js",
            "/app/node_modules/ejs/node_modules/ms/index.js",
            "/app/node_modules/@scope/x/lib/a.js",
            "/app/node_modules/@scope/y/a.js",
        ]);
        let ejs = ["bin/cli.js", "dist/esm/index.js", "dist/esm/package.json", "package.json"];
        let ejs = ejs.map(|file| format!("/app/node_modules/ejs/{file}"));
        let ejs: Vec<&str> = ejs.iter().map(String::as_str).collect();
        check(&tree, "/app/node_modules/ejs/dist/esm/index.js", "/app/node_modules/ejs", &ejs);
        check(&tree, "/app/views/index.ejs", "/app", &["/app/package.json", "/app/server.js", "/app/views/index.ejs"]);
        let ms = "/app/node_modules/ejs/node_modules/ms";
        check(&tree, &format!("{ms}/index.js"), ms, &[&format!("{ms}/index.js")]);
        let scoped = "/app/node_modules/@scope/x";
        check(&tree, &format!("{scoped}/lib/a.js"), scoped, &[&format!("{scoped}/lib/a.js")]);
    }

    #[test]
    fn packages_of_python() {
        let tree = fixture::tree(&[
            "/sp/site-packages/Flask_Login-0.6.dist-info/METADATA",
            "/sp/site-packages/flask_login/__init__.py",
            "/sp/site-packages/flask_login/json/__init__.py",
            "/sp/site-packages/flask_login/json/tag.py",
            "/sp/site-packages/flask_login/static/a.css",
            "/sp/site-packages/flask-1.dist-info/METADATA",
            "/sp/site-packages/six.py",
        ]);
        let files = ["__init__.py", "json/__init__.py", "json/tag.py", "static/a.css"];
        let files: Vec<String> = std::iter::once("/sp/site-packages/Flask_Login-0.6.dist-info/METADATA".into())
            .chain(files.iter().map(|file| format!("/sp/site-packages/flask_login/{file}")))
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        for file in ["json/tag.py", "static/a.css"] {
            check(&tree, &format!("/sp/site-packages/flask_login/{file}"), "/sp/site-packages/flask_login", &files);
        }
        assert_eq!(package(&tree, "/sp/site-packages/six.py"), None);
    }

    #[test]
    fn packages_of_ruby_and_php() {
        let tree = fixture::tree(&[
            "/gem/gems/rack-3.0/lib/rack.rb",
            "/gem/gems/rack-3.0/rack.css",
            "/gem/specifications/rack-3.0.gemspec",
            "/gem/specifications/other-1.gemspec",
            "/src/tool/tool.gemspec",
            "/src/tool/lib/tool.rb",
            "/www/composer.json",
            "/www/index.php",
            "/www/vendor/autoload.php",
            "/www/vendor/twig/twig/composer.json",
            "/www/vendor/twig/twig/src/a.php",
        ]);
        let rack = ["/gem/gems/rack-3.0/lib/rack.rb", "/gem/gems/rack-3.0/rack.css", "/gem/specifications/rack-3.0.gemspec"];
        check(&tree, rack[0], "/gem/gems/rack-3.0", &rack);
        check(&tree, "/src/tool/lib/tool.rb", "/src/tool", &["/src/tool/lib/tool.rb", "/src/tool/tool.gemspec"]);
        check(&tree, "/www/index.php", "/www", &["/www/composer.json", "/www/index.php"]);
        let twig = ["/www/vendor/twig/twig/composer.json", "/www/vendor/twig/twig/src/a.php"];
        check(&tree, twig[1], "/www/vendor/twig/twig", &twig);
    }

    #[test]
    fn the_root_is_no_package() {
        let tree = fixture::tree(&["/package.json", "/__init__.py", "/composer.json", "/x.gemspec", "/lib/a.js", "/main.py"]);
        for file in ["/lib/a.js", "/main.py"] {
            assert_eq!(package(&tree, file), None, "{file}");
        }
    }
}
