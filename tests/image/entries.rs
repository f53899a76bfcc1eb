//! Entries exactly as in the original; nothing of the run, of the engine or of the user's mounts.

use std::collections::BTreeMap;

use serde_json::json;

use super::{architecture, inspect, rows};
use crate::support::{Builder, Entries, Image, NO_HTTP, Slim, compile, docker, entries, exported, same_behaviour, shell, unique};

/// What a path's last part of an image's layer is compared by.
fn below(entries: &Entries, directory: &str) -> Entries {
    let is_below =
        |path: &[u8]| path.strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'));
    entries.iter().filter(|(path, _)| is_below(path)).map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

/// The paths as text.
fn paths(entries: &Entries) -> Vec<String> {
    entries.keys().map(|path| path.escape_ascii().to_string()).collect()
}

/// Adds an entry with any path, a PAX header in front of it.
fn add(image: &mut Builder, path: &[u8], header: &tar::Header, extensions: &[(&str, &[u8])], content: &[u8]) {
    let archive = image.archive();
    let path = ("path", path);
    archive.append_pax_extensions(std::iter::once(path).chain(extensions.iter().copied())).unwrap();
    let mut header = header.clone();
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, content).unwrap();
}

/// Capabilities as the kernel stores them: `cap_net_bind_service=ep`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Every oddity that a file system allows, in a directory.
pub(crate) fn oddities(image: &mut Builder, directory: &str) {
    use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
    let header = Builder::header;
    let at = |name: &[u8]| [directory.as_bytes(), b"/", name].concat();
    add(image, directory.as_bytes(), &header(Directory, 0o755), &[], b"");
    add(image, &at(b"new\nline"), &header(Regular, 0o644), &[], b"1");
    add(image, &at(b"not \xff\xfe text"), &header(Regular, 0o600), &[], b"2");
    add(image, &at(&[b'n'; 255]), &header(Regular, 0o644), &[], b"3");
    add(image, &at(b"back\\slash \x1b[31m"), &header(Regular, 0o644), &[], b"4");
    add(image, &at(b"long-link"), &header(Symlink, 0o777), &[("linkpath", "t/".repeat(150).as_bytes())], b"");
    add(image, &at(b"odd-link"), &header(Symlink, 0o777), &[("linkpath", b"new\nline\xff")], b"");
    add(image, &at(b"pipe"), &header(Fifo, 0o622), &[], b"");
    for (name, kind, (major, minor)) in [("null", Char, (1, 3)), ("large", Char, (300, 70_000)), ("disk", Block, (7, 200))] {
        let mut device = header(kind, 0o660);
        device.set_device_major(major).unwrap();
        device.set_device_minor(minor).unwrap();
        device.set_gid(6);
        add(image, &at(name.as_bytes()), &device, &[], b"");
    }
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("secret", 0o000), ("all", 0o7777)] {
        add(image, &at(name.as_bytes()), &header(Regular, mode), &[], name.as_bytes());
    }
    for (name, mode) in [("sticky", 0o1777), ("shared", 0o2775), ("closed", 0o700)] {
        add(image, &at(name.as_bytes()), &header(Directory, mode), &[], b"");
    }
    let mut owned = header(Regular, 0o4750);
    owned.set_uid(12345);
    owned.set_gid(54321);
    add(image, &at(b"owned"), &owned, &[], b"owned");
    let ids: [(&str, &[u8]); 2] = [("uid", b"4294967294"), ("gid", b"3000000000")];
    add(image, &at(b"owned-by-many"), &header(Regular, 0o644), &ids, b"many");
    let capability: (&str, &[u8]) = ("SCHILY.xattr.security.capability", &CAPABILITY);
    add(image, &at(b"capable"), &header(Regular, 0o755), &[capability, ("SCHILY.xattr.user.note", b"a\0b\xff")], b"capable");
    for (name, mtime) in [("precise", "1234567890.123456789"), ("ancient", "-86400.5"), ("future", "4102444800"), ("zero", "0")] {
        add(image, &at(name.as_bytes()), &header(Regular, 0o644), &[("mtime", mtime.as_bytes())], name.as_bytes());
    }
    add(image, &at(b"when"), &header(Directory, 0o755), &[("mtime", b"1111111111.25")], b"");
    let mut linked = header(Regular, 0o4755);
    linked.set_uid(1000);
    add(image, &at(b"name-1"), &linked, &[capability], &[b'x'; 70_000]);
    for name in [&b"name-2"[..], b"sticky/name-3"] {
        add(image, &at(name), &header(Link, 0o4755), &[("linkpath", &at(b"name-1"))], b"");
    }
    add(image, &at(b"empty"), &header(Regular, 0o644), &[], b"");
    add(image, &at(b"zeros"), &header(Regular, 0o644), &[], &vec![0; 64 << 20]);
    let deep = [&b"deep"[..], &b"/0123456789abcdef"[..].repeat(40)].concat();
    let mut path = vec![];
    for name in deep.split(|&byte| byte == b'/') {
        path = [&path[..], name, b"/"].concat();
        add(image, &at(&path), &header(Directory, 0o755), &[], b"");
    }
    add(image, &at(&[&path[..], b"file"].concat()), &header(Regular, 0o644), &[], b"deep");
}

/// The oddities that a program of the slim image sees of a directory: what archives don't tell.
const LOOK: &str = "stat -c '%n %A %u %g %t %T %s %h %y %F' /zoo/* /zoo/*/*; cat /zoo/new* /zoo/not* /zoo/n* /zoo/back* /zoo/empty; cat /zoo/zeros | busybox md5sum";

#[test]
fn kept_entries_are_exactly_as_in_the_image() {
    let mut image = shell(LOOK).directory("/gone", 0o755).file("/gone/file", b"gone", 0o644);
    oddities(&mut image, "zoo");
    oddities(&mut image, "gone/zoo");
    let image = image.load();
    let run = Slim::keep(&image, &[NO_HTTP, "--include-path", "/zoo/deep"]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(below(&slim, "zoo"), below(&fat, "zoo"));
    assert!(below(&fat, "zoo").len() > 70, "{:?}", paths(&fat));
    // sticky directories are places to write to, empty ones stay what they were
    let left = ["gone", "gone/zoo", "gone/zoo/closed", "gone/zoo/shared", "gone/zoo/sticky", "gone/zoo/when"];
    assert_eq!(paths(&below(&slim, "gone")), left);
    let looked = |image: &str| docker(&["run", "--rm", image]);
    assert_eq!(looked(&image.slim_name()), looked(&image.name));

    let bytes = image.slim_layer();
    let packed = entries(&bytes[..]);
    let entry = |name: &[u8]| &packed[&[b"zoo/", name].concat()];
    assert_eq!(entry(b"precise").mtime, "1234567890.123456789");
    assert_eq!(entry(b"when").mtime, "1111111111.25");
    let capable = [("security.capability".to_owned(), CAPABILITY.to_vec()), ("user.note".to_owned(), b"a\0b\xff".to_vec())];
    assert_eq!(entry(b"capable").xattrs, BTreeMap::from(capable));
    assert_eq!(entry(b"owned-by-many").owner, (4_294_967_294, 3_000_000_000));
    assert_eq!(entry(b"large").device, (300, 70_000));
    assert_eq!(entry(&[b'n'; 255]).size, 1);
    assert_eq!(entry(b"long-link").link, "t/".repeat(150).as_bytes());
    for name in [&b"name-2"[..], b"sticky/name-3"] {
        assert_eq!((entry(name).kind, &entry(name).link[..], entry(name).size), (tar::EntryType::Link, &b"zoo/name-1"[..], 0));
    }
    let contents: u64 = packed.values().map(|entry| entry.size).sum();
    assert!((bytes.len() as u64) < contents + (packed.len() as u64 + 100) * 2048, "each content is there once");
    let report = run.report();
    let kept: Vec<Vec<u8>> = rows(&report["kept"]).into_iter().map(|path| path.strip_prefix(b"/").unwrap().to_vec()).collect();
    assert_eq!(kept.len(), packed.len());
    assert!(kept.iter().all(|path| packed.contains_key(path)), "the report names what is there");
}

#[test]
fn what_the_run_changes_is_not_in_the_image() {
    let script = "set -e; cd /data; b=/bin/busybox; echo new >new; echo more >>conf; $b chmod 600 mode; $b chown 1000 owner; \
        $b mv old renamed; $b rm removed; $b rm -r tree; $b mkdir made; $b ln -s x link; $b ln conf conf-2; : >emptied; \
        $b touch touched; $b mv moved-directory other-directory; $b sed -i s/a/b/ edited; echo x >/etc/new; cat conf";
    let mut image = shell(script);
    let names = ["conf", "mode", "owner", "old", "removed", "tree/file", "emptied", "touched", "moved-directory/file", "edited"];
    image = image.directory("/data", 0o755).directory("/data/tree", 0o755).directory("/data/moved-directory", 0o755);
    for name in names {
        image = image.file(&format!("/data/{name}"), format!("a {name}\n").as_bytes(), 0o644);
    }
    let image = image.load();
    let run = Slim::keep(&image, &[NO_HTTP]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(run.report()["evidence"]["exit_code"], 0, "the program did all of it");
    assert_eq!(below(&slim, "data"), below(&fat, "data"));
    assert!(!paths(&slim).contains(&"etc/new".to_owned()));
    same_behaviour(&image);
}

#[test]
fn layers_become_one_as_the_container_sees_them() {
    let mut image =
        shell("cat /d/changed /d/made/again /d/replaced; ls /d; stat -c '%h %n' /d/name-1 /d/name-2 /vol/name-1 /vol/name-2");
    for name in ["changed", "removed", "replaced/file", "made/before", "name-1", "moved"] {
        image = image.file(&format!("/d/{name}"), name.as_bytes(), 0o644);
    }
    image =
        image.hard_link("/d/name-2", "/d/name-1").file("/vol/name-1", b"volume", 0o644).hard_link("/vol/name-2", "/vol/name-1");
    let image = image.change("VOLUME /vol").load().rebuilt(
        "RUN cd /d && b=/bin/busybox && echo x >changed && $b rm removed && $b rm -r replaced made && echo y >replaced && \
         mkdir made && echo z >made/again && echo more >>name-2 && $b mv moved /d/other-name && $b chmod 4711 name-1\n\
         RUN cd /d && /bin/busybox chown 1000:2000 changed",
    );
    let run = Slim::keep(&image, &[NO_HTTP]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(below(&slim, "d"), below(&fat, "d"), "{}", run.stderr());
    assert_eq!(below(&slim, "d").keys().filter(|path| path.starts_with(b"d/name-")).count(), 2);
    assert!(!paths(&slim).iter().any(|path| path.contains(".wh.") || path.ends_with("removed")));
    assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1");
    same_behaviour(&image);
}

/// A program that does nothing.
fn nothing() -> Vec<u8> {
    compile("int main(void) { return 0; }")
}

#[test]
fn what_the_engine_makes_is_not_in_the_layer() {
    let image = Image::scratch().file("/app", &nothing(), 0o755).config(json!({
        "architecture": architecture(), "os": "linux", "created": "2001-02-03T04:05:06.5Z",
        "config": {"Cmd": ["/app"], "WorkingDir": "/srv/deep", "Volumes": {"/vol": {}, "/srv/a/vol": {}}},
    }));
    let image = image.load();
    let slim = Slim::keep(&image, &[NO_HTTP, "--tmpfs", "/scratch", "--hostname", "other", "--add-host", "a:1.2.3.4"]);
    let bind = format!("{}:/mnt/folder", slim.folder().display());
    let folder = slim.folder().join("x");
    std::fs::write(folder, "x").unwrap();
    let mut slim = slim;
    slim.command().args(["--volume", &bind]);
    slim.run().ok();
    let packed = entries(&image.slim_layer()[..]);
    assert_eq!(paths(&packed), ["", "app"]);
    assert_eq!((packed[&b""[..]].mode, &packed[&b""[..]].mtime[..]), (0o755, "981173106"), "the time is the image's");
    same_behaviour(&image);
}

#[test]
fn what_mounts_hide_is_in_the_image() {
    let mut image = shell("cat /data/seed").file("/etc/hosts", b"1.2.3.4 of-the-image", 0o600).change("VOLUME /data");
    image = image.directory("/dev", 0o755).directory("/proc", 0o555).file("/proc/version", b"mine", 0o644);
    let mut device = Builder::header(tar::EntryType::Char, 0o666);
    device.set_device_major(1).unwrap();
    device.set_device_minor(7).unwrap();
    add(&mut image, b"dev/mine", &device, &[], b"");
    let mut owned = Builder::header(tar::EntryType::Directory, 0o750);
    owned.set_uid(1000);
    owned.set_gid(2000);
    add(&mut image, b"data/", &owned, &[("mtime", b"1234567890.5")], b"");
    let image = image.file("/data/seed", b"seed", 0o640).file("/data/unused", b"unused", 0o640).load();
    let run = Slim::keep(&image, &[NO_HTTP, "--include-path", "/dev/mine", "--include-path", "/proc/version"]).run().ok();
    let packed = entries(&image.slim_layer()[..]);
    let fat = exported(&image.name);
    for path in ["data", "data/seed", "dev/mine", "proc", "proc/version"] {
        let (kept, original) = (&packed[path.as_bytes()], &fat[path.as_bytes()]);
        assert_eq!(
            (kept.kind, kept.mode, kept.owner, kept.device, &kept.content),
            (original.kind, original.mode, original.owner, original.device, &original.content),
            "{path}"
        );
    }
    assert_eq!(packed[&b"data"[..]].mtime, "1234567890.5");
    for path in [
        "data/unused",
        ".dockerenv",
        "dev/console",
        "dev/shm",
        "dev/pts",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        "sys",
    ] {
        assert!(!packed.contains_key(path.as_bytes()), "{path}: {}", run.stderr());
    }
    same_behaviour(&image);
}

#[test]
fn what_the_user_mounts_is_never_in_the_image() {
    let secret = "correct horse battery staple";
    let image = shell("cat /conf/default /conf/secret /named/file /data/seed; echo x >/named/file; cat /run/later; ls /conf")
        .directory("/conf", 0o755)
        .file("/conf/default", b"of the image", 0o644)
        .file("/data/seed", b"seed", 0o644)
        .change("VOLUME /data")
        .load();
    let volume = unique("volume");
    docker(&["run", "--rm", "-v", &format!("{volume}:/named"), &image.name, "sh", "-c", &format!("echo {secret} >/named/file")]);
    let mut slim = Slim::keep(&image, &[NO_HTTP, "--observation-out", "seen.jsonl", "--write-plan", "plan.json"]);
    for name in ["secret", "default"] {
        std::fs::write(slim.folder().join(name), secret).unwrap();
    }
    let bind = format!("{}:/conf:ro", slim.folder().display());
    slim.command().args(["--volume", &bind, "--volume", &format!("{volume}:/named"), "--env", &format!("SECRET={secret}")]);
    let run = slim.run().ok();
    let bytes = image.slim_layer();
    let packed = entries(&bytes[..]);
    assert!(packed.contains_key(&b"conf"[..]), "the mount point is there for the next run");
    for path in ["conf/default", "conf/secret", "named/file"] {
        assert!(!packed.contains_key(path.as_bytes()), "{path}");
    }
    assert!(packed.contains_key(&b"data/seed"[..]), "a fresh volume shows the image's files");
    assert!(!contains(&bytes, secret));
    for file in ["slim.report.json", "seen.jsonl", "plan.json"] {
        assert!(!contains(&std::fs::read(run.path(file)).unwrap(), secret), "{file}");
    }
    docker(&["volume", "rm", &volume]);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
