//! What the slim image holds: entries exactly as in its original, nothing of the run or the engine, the same configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    Builder, Entries, Image, Run, Slim, busybox, compile, docker, docker_output, entries, exported, layer, unique,
};

/// Tests that need no probe run short jobs.
const NO_HTTP: &str = "--http-probe=false";

/// An image with busybox that runs a shell's script.
fn shell(script: &str) -> Builder {
    busybox().change(&format!("CMD {}", json!(["sh", "-c", script])))
}

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
fn oddities(image: &mut Builder, directory: &str) {
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
    let image = image.build();
    let run = Slim::build(&image, &[NO_HTTP, "--include-path", "/zoo/deep"]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(below(&slim, "zoo"), below(&fat, "zoo"));
    assert!(below(&fat, "zoo").len() > 70, "{:?}", paths(&fat));
    // sticky directories are places to write to, empty ones stay what they were
    let left = ["gone", "gone/zoo", "gone/zoo/closed", "gone/zoo/shared", "gone/zoo/sticky", "gone/zoo/when"];
    assert_eq!(paths(&below(&slim, "gone")), left);
    let looked = |image: &str| docker(&["run", "--rm", image]);
    assert_eq!(looked(&image.slim_name()), looked(&image.name));

    let bytes = layer(&image.slim_name());
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

/// The paths of a list in the report, in bytes.
fn rows(rows: &Value) -> Vec<Vec<u8>> {
    let path = |row: &Value| slim::escape::unescape(row["path"].as_str().unwrap()).unwrap();
    rows.as_array().unwrap().iter().map(path).collect()
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
    let image = image.build();
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(run.report()["evidence"]["exit_code"], 0, "the program did all of it");
    assert_eq!(below(&slim, "data"), below(&fat, "data"));
    assert!(!paths(&slim).contains(&"etc/new".to_owned()));
    same_output(&image);
}

/// The slim image does what its original does.
#[track_caller]
fn same_output(image: &Image) {
    let run = |name: &str| {
        let output = docker_output(&["run", "--rm", name]);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run(&image.slim_name()), run(&image.name));
}

/// A program that does nothing.
fn nothing() -> Vec<u8> {
    compile("int main(void) { return 0; }")
}

#[test]
fn what_the_engine_makes_is_not_in_the_layer() {
    let image = Image::scratch().file("/app", &nothing(), 0o755).load(json!({
        "architecture": architecture(), "os": "linux", "created": "2001-02-03T04:05:06.5Z",
        "config": {"Cmd": ["/app"], "WorkingDir": "/srv/deep", "Volumes": {"/vol": {}, "/srv/a/vol": {}}},
    }));
    let slim = Slim::build(&image, &[NO_HTTP, "--tmpfs", "/scratch", "--hostname", "other", "--add-host", "a:1.2.3.4"]);
    let bind = format!("{}:/mnt/folder", slim.folder().display());
    let folder = slim.folder().join("x");
    std::fs::write(folder, "x").unwrap();
    let mut slim = slim;
    slim.command().args(["--volume", &bind]);
    slim.run().ok();
    let packed = entries(&layer(&image.slim_name())[..]);
    assert_eq!(paths(&packed), ["", "app"]);
    assert_eq!((packed[&b""[..]].mode, &packed[&b""[..]].mtime[..]), (0o755, "981173106"), "the time is the image's");
    same_output(&image);
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
    let image = image.file("/data/seed", b"seed", 0o640).file("/data/unused", b"unused", 0o640).build();
    let run = Slim::build(&image, &[NO_HTTP, "--include-path", "/dev/mine", "--include-path", "/proc/version"]).run().ok();
    let packed = entries(&layer(&image.slim_name())[..]);
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
    same_output(&image);
}

#[test]
fn what_the_user_mounts_is_never_in_the_image() {
    let secret = "correct horse battery staple";
    let image = shell("cat /conf/default /conf/secret /named/file /data/seed; echo x >/named/file; cat /run/later; ls /conf")
        .directory("/conf", 0o755)
        .file("/conf/default", b"of the image", 0o644)
        .file("/data/seed", b"seed", 0o644)
        .change("VOLUME /data")
        .build();
    let volume = unique("volume");
    docker(&["run", "--rm", "-v", &format!("{volume}:/named"), &image.name, "sh", "-c", &format!("echo {secret} >/named/file")]);
    let mut slim = Slim::build(&image, &[NO_HTTP, "--observation-out", "seen.jsonl", "--write-plan", "plan.json"]);
    for name in ["secret", "default"] {
        std::fs::write(slim.folder().join(name), secret).unwrap();
    }
    let bind = format!("{}:/conf:ro", slim.folder().display());
    slim.command().args(["--volume", &bind, "--volume", &format!("{volume}:/named"), "--env", &format!("SECRET={secret}")]);
    let run = slim.run().ok();
    let bytes = layer(&image.slim_name());
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

/// As Docker names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the daemon says of an image, but for what must differ.
fn facts(image: &str) -> Value {
    let mut facts: Value = serde_json::from_str(&docker(&["image", "inspect", "-f", "{{json .}}", image])).unwrap();
    let fields = ["Config", "Architecture", "Variant", "Os", "OsVersion", "Author", "Created"];
    fields.iter().map(|&field| (field.to_owned(), facts[field].take())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn the_configuration_is_kept_field_by_field() {
    let full = json!({
        "architecture": architecture(), "os": "linux", "author": "Someone <a@b>", "created": "2001-02-03T04:05:06.123456789Z",
        "config": {
            "User": "1000:2000", "ExposedPorts": {"8080/tcp": {}, "53/udp": {}}, "Env": ["PATH=/bin", "EMPTY=", "A=b=c d"],
            "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /etc/group", "x y", ""], "Volumes": {"/data": {}}, "WorkingDir": "/work",
            "Labels": {"z": "1", "a": "", "quote\"": "<&>\u{1f980}"}, "StopSignal": "SIGQUIT", "StopTimeout": 3,
            "Healthcheck": {"Test": ["CMD-SHELL", "cat /etc/passwd"], "Interval": 30_000_000_000_i64, "Timeout": 5_000_000_000_i64, "StartPeriod": 1_000_000_000, "Retries": 7},
            "Shell": ["/bin/sh", "-ec"], "OnBuild": ["RUN a", "COPY b /c"]
        },
        "history": [{"created": "2001-02-03T04:05:06Z", "created_by": "by hand"}, {"created_by": "ENV", "empty_layer": true}],
    });
    let minimal = json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]}});
    let entrypoint =
        json!({"architecture": architecture(), "os": "linux", "config": {"Entrypoint": ["/bin/true"], "Cmd": [], "Labels": {}}});
    for config in [full, minimal, entrypoint] {
        let image = busybox().directory("/work", 0o755).directory("/data", 0o755).load(config.clone());
        Slim::build(&image, &[NO_HTTP]).run().ok();
        let slim = image.slim_name();
        assert_eq!(facts(&slim), facts(&image.name), "{config}");
        let history = docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &slim]);
        let id = docker(&["image", "inspect", "-f", "{{.Id}}", &image.name]);
        assert_eq!(history, format!("slim build|slim {} from {id}", env!("CARGO_PKG_VERSION")));
        assert_eq!(docker(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", &slim]), "1");
    }
}

#[test]
fn options_of_the_run_are_not_in_the_configuration() {
    let image = shell("cat /etc/group").change("ENV A=b").change("EXPOSE 80").directory("/work", 0o755).build_with("LABEL a=b");
    let options = [
        NO_HTTP,
        "--env",
        "A=other",
        "--env",
        "NEW=1",
        "--user",
        "1000:2000",
        "--workdir",
        "/tmp",
        "--expose",
        "99",
        "--label",
        "c=d",
        "--entrypoint",
        "cat",
        "--cmd",
        "/etc/passwd",
        "--hostname",
        "h",
        "--tmpfs",
        "/t",
        "--volume",
        "/v",
        "--shm-size",
        "1m",
        "--read-only",
        "--init=false",
        "--tty=false",
        "--network",
        "none",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=100",
    ];
    let run = Slim::build(&image, &options).run().ok();
    assert_eq!(facts(&image.slim_name()), facts(&image.name));
    assert!(run.keeps("/bin/sh"), "the image's own command still works");
    same_output(&image);
    let packed = entries(&layer(&image.slim_name())[..]);
    for path in ["t", "v"] {
        assert!(!packed.contains_key(path.as_bytes()), "{path}");
    }
}

/// A name in the daemon, removed with what it stands for.
fn name(kind: &str) -> Image {
    Image { name: format!("{}:t", unique(kind)) }
}

/// A field of an image in the daemon.
fn inspect(image: &str, field: &str) -> String {
    docker(&["image", "inspect", "-f", &format!("{{{{{field}}}}}"), image])
}

#[test]
fn the_same_plan_gives_the_same_image() {
    let image = shell("cat /etc/group; cat /nothing").file("/etc/other", b"x", 0o644).build();
    let tags = [name("a"), name("b"), name("dated")];
    let build = |tag: &Image, epoch: &str| {
        let words = [NO_HTTP, "--tag", &tag.name, "--write-plan", "plan", "--observation-out", "seen"];
        Slim::build(&image, &words).env("SOURCE_DATE_EPOCH", epoch).run().ok()
    };
    let runs = [build(&tags[0], ""), build(&tags[1], ""), build(&tags[2], "1000000000")];
    let [first, second, dated] = tags.each_ref().map(|tag| &tag.name[..]);
    assert_eq!(inspect(first, ".Id"), inspect(second, ".Id"));
    let plans = runs.each_ref().map(|run| std::fs::read(run.path("plan")).unwrap());
    assert!(plans[0] == plans[1] && plans[0] == plans[2]);

    assert_ne!(inspect(first, ".Id"), inspect(dated, ".Id"));
    let (mut expected, found) = (facts(first), facts(dated));
    expected["Created"] = json!("2001-09-09T01:46:40Z");
    assert_eq!(found, expected);
    assert_eq!(inspect(first, ".RootFS.Layers"), inspect(dated, ".RootFS.Layers"));
}

#[test]
fn plan_and_observation_are_complete_files() {
    let image = shell("cat /etc/group; cat /odd* /nothing").build_with("HEALTHCHECK CMD cat /etc/passwd");
    let words = [NO_HTTP, "--exec", "cat /etc/nsswitch.conf", "--write-plan", "plan", "--observation-out", "seen"];
    let run = Slim::build(&image, &words).run().ok();
    let report = run.report();
    let plan = slim::plan::Plan::from_json(&std::fs::read(run.path("plan")).unwrap()).unwrap();
    let planned: Vec<Vec<u8>> = plan.entries.iter().map(|kept| kept.path.clone()).collect();
    assert_eq!(planned, rows(&report["kept"]));
    assert_eq!(plan.image, inspect(&image.name, ".Id"));

    let seen = slim::observe::file::read(&std::fs::read(run.path("seen")).unwrap()[..]).unwrap();
    assert_eq!((&seen.header.image, &seen.header.name), (&plan.image, &image.name));
    assert!(seen.end.complete && seen.end.losses.is_empty() && seen.end.counters.lost == 0);
    assert_eq!(seen.end.exit_code, Some(1), "of the program, as `/nothing` is not there");
    assert!(seen.uses.iter().any(|path_use| path_use.path == b"/nothing"), "failed look-ups are evidence");
    assert!(seen.processes.iter().any(|process| process.command.iter().any(|word| word == "/etc/nsswitch.conf")));
    assert!(seen.mounts.iter().any(|mount| mount.target == b"/proc"));
    assert!(!seen.syscalls.is_empty());
}

#[test]
fn the_result_has_the_names_that_were_asked_for() {
    let image = shell("cat /etc/group").build();
    let tags = [name("one"), name("two")];
    Slim::build(&image, &[NO_HTTP, "--tag", &tags[0].name, "--tag", &tags[1].name]).run().ok();
    assert_eq!(inspect(&tags[0].name, ".Id"), inspect(&tags[1].name, ".Id"));
    assert!(!docker_output(&["image", "inspect", &image.slim_name()]).status.success(), "only those");

    // `latest`, where no tag is given
    let (untagged, _) = tags[0].name.rsplit_once(':').unwrap();
    let latest = Image { name: format!("{untagged}:latest") };
    Slim::build(&image, &[NO_HTTP, "--tag", untagged]).run().ok();
    assert_eq!(inspect(&latest.name, ".Id"), inspect(&tags[0].name, ".Id"));

    // an id gives a name that leads back to it
    let id = inspect(&image.name, ".Id");
    let digits = &id["sha256:".len()..];
    let short = &digits[..12];
    let by_id = Image { name: format!("slim-{short}:latest") };
    for spelling in [&id, digits, short, &format!("sha256:{short}")] {
        docker_output(&["rmi", &by_id.name]);
        let run = Slim::new(&["build", spelling, NO_HTTP]).run().ok();
        assert_eq!(run.report()["result"]["tags"], json!([by_id.name]), "{spelling}");
        assert_eq!(inspect(&by_id.name, ".Id"), inspect(&tags[0].name, ".Id"));
    }
    for (tag, problem) in [("Upper", "lower-case"), ("a:b@sha256:c", ""), ("a:-", "tag"), ("", "empty")] {
        Slim::build(&image, &[NO_HTTP, "--tag", tag]).run().fails(2, problem);
    }
}

#[test]
fn the_image_is_named_in_several_ways() {
    let image = shell("cat /etc/group").build();
    let of_daemon = format!("docker-daemon:{}", image.name);
    for words in [["build", "--target", &image.name], ["build", "--verbose", &of_daemon], ["b", "-q", &image.name]] {
        Slim::new(&[&words[..], &[NO_HTTP]].concat()).run().ok();
        assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1", "{words:?}");
        docker(&["rmi", &image.slim_name()]);
    }
}

#[test]
fn an_older_result_survives_a_build_that_fails() {
    let image = shell("cat /etc/group").build();
    Slim::build(&image, &[NO_HTTP]).run().ok();
    let before = inspect(&image.slim_name(), ".Id");
    for (words, code, said) in [
        (&[NO_HTTP, "--include-path", "/missing"][..], 2, "`--include-path /missing`"),
        (&[NO_HTTP, "--entrypoint", "/missing"], 5, "/missing"),
        (&[NO_HTTP, "--exec", "/missing"], 6, "/missing"),
        (&["--http-probe", "--http-probe-retry-count", "0"], 5, "exit code 0"),
    ] {
        let run = Slim::build(&image, words).run().fails(code, said);
        let outcome = &run.report()["outcome"];
        assert_eq!(outcome["exit_code"], code, "{outcome}");
        assert!(outcome["error"].as_str().unwrap().contains(said), "{outcome}");
        assert_eq!(run.report()["result"], Value::Null);
        assert_eq!(inspect(&image.slim_name(), ".Id"), before, "{words:?}");
    }
    same_output(&image);
}

#[test]
fn what_slim_made_is_not_made_again_by_accident() {
    let image = shell("cat /etc/group").build();
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    let slim = image.slim_name();
    assert!(run.stdout().contains(&slim));
    let before = inspect(&slim, ".Id");
    Slim::new(&["build", &slim, NO_HTTP]).run().fails(4, "--force");
    let tag = name("again");
    let words = ["build", &slim, NO_HTTP, "--force", "--tag", &tag.name];
    let again = Slim::new(&words).run().ok();
    assert_eq!(again.report()["image"]["id"], before);
    assert_eq!(again.report()["removed"]["entries"], 0, "{}", again.report()["removed"]);
    assert_eq!(inspect(&tag.name, ".RootFS.Layers"), inspect(&slim, ".RootFS.Layers"), "nothing was left to remove");
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_started() {
    Slim::new(&["build", "slim-test-no-such-image:1", "--pull=false"]).run().fails(4, "slim-test-no-such-image:1");
    for (word, said) in [("oci:/tmp/x", "not supported"), ("Upper", "lower-case"), ("", "empty")] {
        Slim::new(&["build", word]).run().fails(2, said);
    }
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let image = busybox().load(json!({"architecture": other, "os": "linux", "config": {"Cmd": ["/bin/true"]}}));
    let since = docker(&["info", "-f", "{{.SystemTime}}"]);
    let run = Slim::build(&image, &[NO_HTTP]).run().fails(4, other);
    assert!(run.stderr().contains(architecture()), "{}", run.stderr());
    let until = docker(&["info", "-f", "{{.SystemTime}}"]);
    let events = docker(&["events", "--since", &since, "--until", &until, "--filter", "event=create"]);
    assert!(!events.contains(&inspect(&image.name, ".Id")) && !events.contains(&image.name), "{events}");
}

#[test]
fn the_report_accounts_for_every_entry() {
    let image = shell("cat /etc/group /srv/used; cat /srv/missing")
        .file("/srv/used", b"used", 0o644)
        .file("/srv/unused", b"unused", 0o644)
        .hard_link("/srv/other-name", "/srv/used")
        .build();
    let run = Slim::build(&image, &[NO_HTTP, "--env", "A=hidden", "--exec", "cat /etc/passwd"]).run().ok();
    let report = run.report();
    assert_eq!(report["version"], 1);
    assert!(report["tool"].as_str().unwrap().starts_with("slim "));
    assert_eq!((&report["outcome"]["exit_code"], &report["outcome"]["meaning"]), (&json!(0), &json!("done")));
    assert_eq!(report["image"]["name"], image.name);
    assert_eq!(report["result"]["id"], inspect(&image.slim_name(), ".Id"));
    assert_eq!(report["result"]["layer"], inspect(&image.slim_name(), "index .RootFS.Layers 0"));

    let engine = [
        ".dockerenv",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "proc",
        "sys",
        "dev",
    ];
    let mut expected = exported(&image.name);
    expected.retain(|path, _| !engine.iter().any(|name| name.as_bytes() == path));
    let mut expected: Vec<Vec<u8>> = expected.keys().map(|path| [b"/", &path[..]].concat()).collect();
    expected.push(b"/".to_vec());
    expected.sort();
    expected.dedup();
    let mut accounted = [rows(&report["kept"]), rows(&report["removed"]["paths"])].concat();
    accounted.sort();
    assert_eq!(accounted, expected);
    assert_eq!(report["image"]["entries"], accounted.len());
    assert_eq!(report["removed"]["entries"], rows(&report["removed"]["paths"]).len());
    assert_eq!(report["removed"]["bytes"], b"unused".len(), "`/srv/other-name` is still there as `/srv/used`");
    for row in report["kept"].as_array().unwrap() {
        assert!(!row["reasons"].as_array().unwrap().is_empty(), "{row}");
        assert!(row["kind"].is_string() && row["size"].is_u64(), "{row}");
    }
    let used = |path: &str, access: &str, during: &str| {
        let expected = json!({"why": "used", "access": access, "by": "/bin/busybox", "during": during});
        assert!(run.reasons(path).contains(&expected), "{path}: {:?}", run.reasons(path));
    };
    used("/srv/used", "open", "start");
    used("/etc/passwd", "open", "cat /etc/passwd");
    used("/bin/busybox", "exec", "start");

    assert_eq!((&report["evidence"]["complete"], &report["evidence"]["counters"]["lost"]), (&json!(true), &json!(0)));
    assert_eq!(report["probes"]["exec"][0]["exit_code"], 0);
    let syscalls = report["syscalls"].as_array().unwrap();
    assert!(syscalls.contains(&json!("execve")) && syscalls.contains(&json!("write")), "{syscalls:?}");
    let steps: Vec<&str> = report["seconds"].as_array().unwrap().iter().map(|step| step[0].as_str().unwrap()).collect();
    for step in ["resolve", "observe", "plan", "pack"] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    assert!(report["options"].to_string().contains('A') && !report.to_string().contains("hidden"), "values may be secrets");
}

#[test]
fn the_report_goes_where_the_user_says() {
    let image = shell("cat /etc/group").build();
    let files = |run: &Run| std::fs::read_dir(run.path("")).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    let run = Slim::build(&image, &[NO_HTTP, "--report", "off"]).run().ok();
    assert_eq!(files(&run), [""; 0], "nothing is written");
    let run = Slim::build(&image, &[NO_HTTP, "--report", "mine.json"]).run().ok();
    assert_eq!(files(&run), ["mine.json"]);
    let run = Slim::build(&image, &[NO_HTTP, "--report", "missing/folder/mine.json"]).run().ok();
    assert!(run.stderr().contains("missing/folder/mine.json"), "{}", run.stderr());
    assert_eq!(files(&run), [""; 0]);
    assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1");
}

#[test]
fn the_result_is_told_as_it_was_asked_for() {
    let image = shell("cat /etc/group").build();
    let slim = image.slim_name();
    let run = Slim::build(&image, &[NO_HTTP, "--quiet"]).run().ok();
    assert_eq!((run.stdout(), run.stderr()), (format!("{slim}\n"), String::new()));
    let run = Slim::build(&image, &[NO_HTTP, "--output-format", "json"]).run().ok();
    let told: Value = serde_json::from_str(&run.stdout()).unwrap();
    let report = run.report();
    assert_eq!((&told["image"], &told["tags"]), (&json!(image.name), &json!([slim])));
    assert_eq!((&told["id"], &told["entries_kept"]), (&report["result"]["id"], &report["result"]["entries"]));
    assert_eq!((&told["size_before"], &told["size_after"]), (&report["image"]["size"], &report["result"]["size"]));
    assert_eq!((&told["lost"], &told["entries_removed"]), (&json!(0), &report["removed"]["entries"]));
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    for words in [&slim[..], "kept", "removed", " 0 lost", "times smaller", "docker run --rm"] {
        assert!(run.stdout().contains(words), "{words}: {}", run.stdout());
    }
    assert!(!run.stdout().contains('\x1b') && !run.stderr().contains('\x1b'), "no terminal, no colour");
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
    let image = image.change("VOLUME /vol").build_with(
        "RUN cd /d && b=/bin/busybox && echo x >changed && $b rm removed && $b rm -r replaced made && echo y >replaced && \
         mkdir made && echo z >made/again && echo more >>name-2 && $b mv moved /d/other-name && $b chmod 4711 name-1\n\
         RUN cd /d && /bin/busybox chown 1000:2000 changed",
    );
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    let (fat, slim) = (exported(&image.name), exported(&image.slim_name()));
    assert_eq!(below(&slim, "d"), below(&fat, "d"), "{}", run.stderr());
    assert_eq!(below(&slim, "d").keys().filter(|path| path.starts_with(b"d/name-")).count(), 2);
    assert!(!paths(&slim).iter().any(|path| path.contains(".wh.") || path.ends_with("removed")));
    assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1");
    same_output(&image);
}
