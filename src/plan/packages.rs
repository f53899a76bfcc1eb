//! Which package of the distribution brought a file, by what dpkg and apk keep of it in an image.
//!
//! * dpkg: `/var/lib/dpkg/info/NAME.list`, one absolute path a line, directories and links included; in distroless images
//!   `/var/lib/dpkg/status.d/NAME.md5sums`, a checksum and a relative path a line, of files alone.
//! * apk: `/lib/apk/db/installed` (`/usr/lib/...` in newer ones), for all packages: records of `LETTER:value` lines, `P:` the
//!   name, `F:` a directory, `R:` a file in the last directory; an empty line ends a record.
//!
//! The database of rpm is one of SQLite or Berkeley DB and is not read: what rpm installed belongs to nobody here.
//!
//! The parsers go over the bytes line by line and keep nothing, so that what they yield is bounded by what was read. A line
//! that is not as it should be, or longer than the kernel lets a path be, is passed over: the image may have a file there
//! that only looks like a database.

use std::collections::BTreeSet;

use super::resolve::View;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Spelling;

/// The longest path, as in the kernel.
const MAX_PATH: usize = 4096;
/// The largest list of one package that is read; those of the largest packages (texlive, linux-headers) have 2 MB.
const MAX_LIST: u64 = 16 << 20;
/// The largest database of apk that is read. Alpine's own largest images have 5 MB.
const MAX_DATABASE: u64 = 64 << 20;
/// So many lists are asked for at once.
const BATCH: usize = 64;

/// A package, and what of it is in the image: no directories, which packages share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name, as the database spells it (`libc6:amd64`).
    pub(super) name: Vec<u8>,
    pub(super) entries: BTreeSet<EntryId>,
}

/// Goes through all packages of the image whose database can be read, in the order of their names.
pub(super) fn for_each(tree: &Tree, contents: &dyn Contents, mut visit: impl FnMut(Package)) {
    let view = View::of(tree);
    // packages say `/lib/x` where the image has `/lib -> usr/lib`
    let entry =
        |path: &[u8]| view.resolve(Spelling::absolute(path), false).found().filter(|&id| tree.kind(id) != Kind::Directory);
    for Lists { directory, suffix, path_in } in DPKG {
        let files = view.resolve(Spelling::absolute(directory), true).found().map_or(&[][..], |id| tree.children(id));
        let lists: Vec<EntryId> = files.iter().copied().filter(|&id| tree.name(id).ends_with(suffix)).collect();
        for lists in lists.chunks(BATCH) {
            for (&list, bytes) in lists.iter().zip(contents.read_each(lists, MAX_LIST)) {
                let Ok(bytes) = bytes else { continue };
                let name = tree.name(list).strip_suffix(suffix).unwrap_or_default().to_vec();
                visit(Package { name, entries: lines(&bytes).filter_map(path_in).filter_map(|path| entry(&path)).collect() });
            }
        }
    }
    let database = APK.iter().find_map(|path| view.resolve(Spelling::absolute(path), true).found());
    let bytes = database.filter(|&id| tree.kind(id) == Kind::File).and_then(|id| contents.read(id, MAX_DATABASE).ok());
    let mut package = Package { name: vec![], entries: BTreeSet::new() };
    for file in apk_files(bytes.as_deref().unwrap_or_default()) {
        if package.name != file.package {
            let next = Package { name: file.package.to_vec(), entries: BTreeSet::new() };
            visit(std::mem::replace(&mut package, next));
        }
        package.entries.extend(entry(&file.path()));
    }
    visit(package);
}

/// A kind of list that dpkg has for each package.
struct Lists {
    directory: &'static [u8],
    suffix: &'static [u8],
    path_in: fn(&[u8]) -> Option<Vec<u8>>,
}

const DPKG: [Lists; 2] = [
    Lists { directory: b"/var/lib/dpkg/info", suffix: b".list", path_in: path_of_list },
    Lists { directory: b"/var/lib/dpkg/status.d", suffix: b".md5sums", path_in: path_of_checksums },
];
/// Where apk's database can be.
const APK: [&[u8]; 2] = [b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"];

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').filter(|line| line.len() < MAX_PATH)
}

/// The path in a line of a `.list`.
fn path_of_list(line: &[u8]) -> Option<Vec<u8>> {
    line.starts_with(b"/").then(|| line.to_vec())
}

/// The path in a line of `.md5sums`: 32 hexadecimal digits, two spaces, a path from the root without a slash.
fn path_of_checksums(line: &[u8]) -> Option<Vec<u8>> {
    let (checksum, rest) = line.split_at_checked(32)?;
    let path = rest.strip_prefix(b"  ").filter(|path| !path.is_empty())?;
    let path = path.strip_prefix(b"./").unwrap_or(path);
    checksum.iter().all(u8::is_ascii_hexdigit).then(|| [b"/", path].concat())
}

/// A file of a package in apk's database.
#[derive(Debug, PartialEq, Eq)]
struct ApkFile<'a> {
    package: &'a [u8],
    directory: &'a [u8],
    name: &'a [u8],
}

impl ApkFile<'_> {
    fn path(&self) -> Vec<u8> {
        [b"/", self.directory, b"/", self.name].concat()
    }
}

fn apk_files(database: &[u8]) -> impl Iterator<Item = ApkFile<'_>> {
    let (mut package, mut directory) = (&b""[..], &b""[..]);
    lines(database).filter_map(move |line| {
        match line {
            [] => (package, directory) = (b"", b""),
            [b'P', b':', name @ ..] => package = name,
            [b'F', b':', path @ ..] => directory = path,
            [b'R', b':', name @ ..] if !package.is_empty() => return Some(ApkFile { package, directory, name }),
            _ => {}
        }
        None
    })
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    for line in lines(bytes) {
        drop((path_of_list(line), path_of_checksums(line)));
    }
    apk_files(bytes).for_each(|file| drop(file.path()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape;
    use crate::image::tree::fixture;
    use crate::plan::testing::Files;

    /// As apk writes it (shortened).
    const INSTALLED: &[u8] =
        b"C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=\nP:alpine-baselayout\nV:3.4.3-r2\nA:x86_64\nF:dev\nF:etc\nR:motd\n\
        Z:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=\nF:usr/bin\n\nC:Q1pBp5xMwlHs4VnPwVDQTpHyUcKBU=\nP:busybox\nV:1.36.1-r5\nF:bin\n\
        R:busybox\na:0:0:755\nZ:Q1=\nF:\nR:at-the-root\n";

    fn packages(tree: &Tree, contents: Vec<(&'static str, Vec<u8>)>) -> Vec<String> {
        let mut found = vec![];
        for_each(tree, &Files { tree, contents }, |package| {
            let entries: Vec<_> = package.entries.iter().map(|&id| escape(&tree.path(id))).collect();
            found.push(format!("{}: {}", escape(&package.name), entries.join(" ")));
        });
        found.retain(|package| package != ": ");
        found
    }

    #[test]
    fn lists_of_dpkg_are_read() {
        let tree = fixture::tree(&[
            "/lib -> usr/lib",
            "/usr/lib/libc.so.6",
            "/usr/share/doc/libc6/copyright",
            "/usr/bin/awk -> /etc/alternatives/awk",
            "/var/lib/dpkg/info/libc6:amd64.list",
            "/var/lib/dpkg/info/libc6:amd64.md5sums",
            "/var/lib/dpkg/info/mawk.list",
            "/var/lib/dpkg/info/empty.list",
        ]);
        let list = b"/.\n/lib\n/lib/libc.so.6\n/usr/share/doc/libc6\n/usr/share/doc/libc6/copyright\n/usr/lib/removed\n";
        let contents = vec![
            ("/var/lib/dpkg/info/libc6:amd64.list", list.to_vec()),
            ("/var/lib/dpkg/info/mawk.list", b"/usr/bin/awk\nno/path\n/usr/lib/\n".to_vec()),
        ];
        let libc = "libc6:amd64: /lib /usr/lib/libc.so.6 /usr/share/doc/libc6/copyright";
        assert_eq!(packages(&tree, contents), ["empty: ", libc, "mawk: /usr/bin/awk"]);
    }

    #[test]
    fn checksums_of_distroless_images_are_read() {
        let tree =
            fixture::tree(&["/usr/lib/libssl.so.3", "/var/lib/dpkg/status.d/libssl3", "/var/lib/dpkg/status.d/libssl3.md5sums"]);
        let sums = b"d41d8cd98f00b204e9800998ecf8427e  usr/lib/libssl.so.3\nshort  usr\n\nd41d8cd98f00b204e9800998ecf8427e  \n";
        assert_eq!(
            packages(&tree, vec![("/var/lib/dpkg/status.d/libssl3.md5sums", sums.to_vec())]),
            ["libssl3: /usr/lib/libssl.so.3"]
        );
        assert_eq!(path_of_checksums(&[&[b'0'; 32][..], b"  ./etc/x"].concat()), Some(b"/etc/x".to_vec()));
    }

    #[test]
    fn the_database_of_apk_is_read() {
        for database in ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"] {
            let tree = fixture::tree(&["/etc/motd", "/bin/busybox", "/at-the-root", database]);
            let expected = ["alpine-baselayout: /etc/motd", "busybox: /at-the-root /bin/busybox"];
            assert_eq!(packages(&tree, vec![(database, INSTALLED.to_vec())]), expected);
        }
    }

    #[test]
    fn what_is_no_database_has_no_packages() {
        let long = [&b"/"[..], &[b'x'; 5000]].concat();
        assert_eq!(lines(&long).count(), 0);
        assert_eq!(apk_files(b"R:file\nF:\xff\nP:\nR:x\n\0\nP").count(), 0);
        // a directory, or something else, where a file should be
        let tree = fixture::tree(&["/lib/apk/db/installed/x", "/var/lib/dpkg/info", "/unreadable"]);
        assert!(packages(&tree, vec![]).is_empty());
    }
}
