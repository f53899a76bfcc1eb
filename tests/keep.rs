//! What is kept, and why: links, interpreters, libraries, what was merely looked at, and declared extras.

use serde_json::{Value, json};

use crate::support::{Builder, Image, Run, Slim, busybox, compile, compile_with, docker, docker_output};

/// Tests that need no probe run short jobs.
const NO_HTTP: &str = "--http-probe=false";

/// An image with busybox that runs a shell's script.
fn shell(script: &str) -> Builder {
    command(busybox(), &["sh", "-c", script])
}

/// An image that runs a command.
fn command(image: Builder, words: &[&str]) -> Builder {
    image.change(&format!("CMD {}", json!(words)))
}

/// Builds the slim image with no other words than these.
#[track_caller]
fn slim(image: &Image, words: &[&str]) -> Run {
    Slim::build(image, &[&[NO_HTTP], words].concat()).run().ok()
}

/// What a container does: exit code, standard output, standard error.
fn behaviour(image: &str) -> (Option<i32>, String, String) {
    let output = docker_output(&["run", "--rm", image]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The slim image does what its original does, and that is something.
#[track_caller]
fn same_behaviour(image: &Image) {
    let fat = behaviour(&image.name);
    assert!(fat.0 == Some(0) && !fat.1.is_empty(), "the original fails: {fat:?}");
    assert_eq!(behaviour(&image.slim_name()), fat);
}

#[track_caller]
fn keeps(run: &Run, kept: &[&str], removed: &[&str]) {
    for path in kept {
        assert!(run.keeps(path), "{path} is not kept");
    }
    for path in removed {
        assert!(!run.keeps(path), "{path} is kept: {:?}", run.reasons(path));
    }
}

#[test]
fn links_on_the_way_are_kept_as_links() {
    let script = "set -e; cd /; cat /opt/current/config/../share/text /one /abs; cat /up/../note; cat /work/loop/../etc/self; \
        cd /opt/current; cat config/main; cd /work/a; stat -c '%s %n' ../b/file; cat ./../b/./link";
    let image = shell(script)
        .directory("/usr/tool", 0o755)
        .link("/opt/current", "versions/2")
        .file("/opt/versions/2/share/text", b"text\n", 0o644)
        .file("/opt/versions/2/etc/main", b"main\n", 0o644)
        .link("/opt/versions/2/config", "etc")
        .file("/opt/versions/1/etc/main", b"old\n", 0o644)
        .link("/one", "two")
        .link("/two", "/links/three")
        .link("/links/three", "../links/four")
        .link("/links/four", "./five")
        .file("/links/five", b"five\n", 0o644)
        .file("/links/six", b"six\n", 0o644)
        .link("/abs", "/deep/inside/../absolute")
        .file("/deep/absolute", b"absolute\n", 0o644)
        .link("/up", "/deep/inside/")
        .file("/deep/inside/unused", b"unused\n", 0o644)
        .file("/deep/note", b"note\n", 0o644)
        .link("/work/loop", "/srv/data")
        .file("/srv/data/unused", b"unused", 0o644)
        .link("/srv/etc", "../links")
        .link("/links/self", "five")
        .directory("/work/a", 0o755)
        .file("/work/b/file", b"12345", 0o644)
        .link("/work/b/link", "../../links/five")
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    let links = [
        "/opt/current",
        "/opt/versions/2/config",
        "/one",
        "/two",
        "/links/three",
        "/links/four",
        "/abs",
        "/up",
        "/work/loop",
        "/srv/etc",
        "/links/self",
        "/work/b/link",
    ];
    keeps(&run, &links, &["/opt/versions/1", "/links/six", "/deep/inside/unused", "/srv/data/unused"]);
    keeps(&run, &["/deep/inside", "/srv/data", "/work/a", "/work/b/file", "/deep/note"], &[]);
    let report = run.report();
    for row in report["kept"].as_array().unwrap() {
        let is_link = links.iter().any(|link| row["path"] == *link);
        assert!(!is_link || row["kind"] == "symlink", "{row}");
    }
    let why = |path: &str| run.reasons(path)[0].clone();
    assert_eq!(why("/up"), json!({"why": "link", "to": "/up/../note"}));
    assert_eq!(why("/deep/inside"), json!({"why": "parent"}));
}

#[test]
fn a_merged_usr_stays_merged() {
    let program = compile("#include <stdio.h>\nint main(void) { puts(\"ran\"); return 0; }");
    let image = command(Image::scratch(), &["/bin/tool"])
        .link("/bin", "usr/bin")
        .link("/sbin", "usr/sbin")
        .link("/lib", "usr/lib")
        .file("/usr/bin/tool-1.2", &program, 0o755)
        .link("/usr/bin/tool", "/etc/alternatives/tool")
        .link("/etc/alternatives/tool", "/usr/bin/tool-1.2")
        .file("/usr/lib/other", b"x", 0o644)
        .file("/usr/sbin/other", b"x", 0o755)
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    let kept = ["/bin", "/usr/bin/tool", "/etc/alternatives/tool", "/usr/bin/tool-1.2"];
    keeps(&run, &kept, &["/lib", "/sbin", "/usr/lib/other", "/usr/sbin/other"]);
}

#[test]
fn links_that_lead_nowhere_are_kept_where_they_are_read() {
    let image =
        shell("b=/bin/busybox; $b readlink /dangling; $b readlink /beyond; cat /made/later; test -L /checked && echo yes")
            .link("/dangling", "/nowhere/at/all")
            .link("/beyond", "file")
            .file("/file", b"not needed", 0o644)
            .link("/made", "/tmp")
            .link("/checked", "/nowhere")
            .link("/unused", "/nowhere")
            .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    keeps(&run, &["/dangling", "/beyond", "/made", "/checked"], &["/file", "/unused"]);
    let read = json!({"why": "used", "access": "read_link", "by": "/bin/busybox", "during": "start"});
    assert!(run.reasons("/beyond").contains(&read), "{:?}", run.reasons("/beyond"));
}

#[test]
fn scripts_come_with_their_interpreters() {
    let image = command(busybox(), &["/app/start"])
        .file("/app/start", b"#!/bin/sh\n/app/second; /app/third\n", 0o755)
        .file("/app/second", b"#! /links/ash -e\necho second\n", 0o755)
        .file("/app/third", b"#!/usr/bin/env ash\necho third\n", 0o755)
        .link("/links/ash", "../bin/ash")
        .link("/bin/ash", "busybox")
        .link("/usr/bin/env", "/bin/env")
        .link("/usr/local/bin/ash", "/links/ash")
        .file("/usr/bin/unused", b"#!/bin/sh\n", 0o755)
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    keeps(&run, &["/links/ash", "/usr/bin/env", "/usr/local/bin/ash", "/bin/ash"], &["/usr/bin/unused", "/bin/httpd"]);
    let needed = json!({"why": "needed", "by": "/app/third", "edge": "interpreter"});
    assert!(run.reasons("/bin/busybox").contains(&needed), "{:?}", run.reasons("/bin/busybox"));
}

/// Bytes of a library of this machine.
fn library(name: &str) -> Vec<u8> {
    let output = std::process::Command::new("cc").arg(format!("-print-file-name={name}")).output().unwrap();
    std::fs::read(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
}

/// The loader of this machine's C library.
fn loader() -> Vec<u8> {
    library(if std::env::consts::ARCH == "aarch64" { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" })
}

/// A C library as distributions have it: `/lib64/ld.so` leads to the loader over links.
fn with_libc(image: Builder) -> Builder {
    image
        .link("/lib", "usr/lib")
        .link("/lib64", "usr/lib64")
        .link("/usr/lib64/ld.so", "../../lib/ld-1.so")
        .file("/usr/lib/ld-1.so", &loader(), 0o755)
        .file("/usr/lib/libc.so.6", &library("libc.so.6"), 0o755)
        .file("/usr/lib/libunused.so", b"\x7fELF", 0o644)
}

/// Compiles against it.
fn dynamic(source: &str, options: &[&str]) -> Vec<u8> {
    compile_with(source, &[&["-Wl,--dynamic-linker=/lib64/ld.so", "-ldl"], options].concat())
}

#[test]
fn a_dynamic_program_comes_with_loader_and_libraries() {
    let main = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(void) {
            for (int i = 0; i < 2; i++) {
                void *plugin = dlopen(i ? "/opt/plugins/b.so" : "liba.so", RTLD_NOW);
                if (!plugin) { puts(dlerror()); return 1; }
                puts(((const char *(*)(void)) dlsym(plugin, "name"))());
            }
            return 0;
        }"#;
    let plugin = |name: &str| dynamic(&format!("const char *name(void) {{ return \"{name}\"; }}"), &["-shared", "-fPIC"]);
    let image = with_libc(command(Image::scratch(), &["/usr/bin/app"]))
        .file("/usr/bin/app", &dynamic(main, &[]), 0o755)
        .link("/usr/lib/liba.so", "liba.so.1")
        .link("/usr/lib/liba.so.1", "liba.so.1.2.3")
        .file("/usr/lib/liba.so.1.2.3", &plugin("a"), 0o644)
        .file("/opt/plugins/b.so", &plugin("b"), 0o644)
        .file("/opt/plugins/c.so", &plugin("c"), 0o644)
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    let kept = [
        "/lib",
        "/lib64",
        "/usr/lib64/ld.so",
        "/usr/lib/ld-1.so",
        "/usr/lib/libc.so.6",
        "/usr/lib/liba.so",
        "/usr/lib/liba.so.1",
        "/usr/lib/liba.so.1.2.3",
        "/opt/plugins/b.so",
    ];
    keeps(&run, &kept, &["/usr/lib/libunused.so", "/opt/plugins/c.so"]);
    let needed = json!({"why": "needed", "by": "/usr/bin/app", "edge": "loader"});
    assert!(run.reasons("/usr/lib/ld-1.so").contains(&needed), "{:?}", run.reasons("/usr/lib/ld-1.so"));
    let opened = json!({"why": "used", "access": "open", "by": "/usr/bin/app", "during": "start"});
    assert!(run.reasons("/opt/plugins/b.so").contains(&opened));
}

#[test]
fn programs_that_are_asked_for_work_though_nobody_ran_them() {
    let library = |name: &str, options: &[&str]| {
        dynamic(&format!("const char *{name}(void) {{ return \"{name}\"; }}"), &[&["-shared", "-fPIC"], options].concat())
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libown.so"), library("own", &["-Wl,-soname,libown.so"])).unwrap();
    let search = format!("-L{}", folder.path().display());
    let main = "#include <stdio.h>\nconst char *own(void);\nint main(void) { puts(own()); return 0; }";
    let tool = dynamic(main, &["-Wl,--no-as-needed", &search, "-lown", "-Wl,-rpath,$ORIGIN/../lib"]);
    let image = with_libc(command(Image::scratch().file("/true", &compile("int main(void) { return 0; }"), 0o755), &["/true"]))
        .file("/opt/bin/tool", &tool, 0o755)
        .link("/opt/bin/alias", "tool")
        .link("/opt/lib/libown.so", "libown.so.1")
        .file("/opt/lib/libown.so.1", &library("own", &[]), 0o644)
        .file("/opt/bin/script", b"#!/opt/bin/tool\n", 0o755)
        .change("ENV PATH=/opt/bin")
        .build();
    let everything = [
        "/opt/bin/tool",
        "/opt/lib/libown.so",
        "/opt/lib/libown.so.1",
        "/usr/lib/libc.so.6",
        "/lib64",
        "/usr/lib64/ld.so",
        "/usr/lib/ld-1.so",
    ];
    keeps(&slim(&image, &[]), &[], &everything);
    for words in [["--include-bin", "/opt/bin/alias"], ["--include-exe", "alias"], ["--include-exe", "script"]] {
        let run = slim(&image, &words);
        keeps(&run, &everything, &["/usr/lib/libunused.so"]);
        let program = if words[1] == "script" { "/opt/bin/script" } else { "/opt/bin/alias" };
        assert_eq!(docker(&["run", "--rm", &image.slim_name(), program]), "own", "{words:?}");
        let needed = json!({"why": "needed", "by": "/opt/bin/tool", "edge": "library"});
        assert!(run.reasons("/opt/lib/libown.so.1").contains(&needed), "{:?}", run.reasons("/opt/lib/libown.so.1"));
    }
}

/// A program that only looks: at its first argument with `stat`, `access`, or by listing.
const LOOK: &str = r#"
    #include <dirent.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <unistd.h>
    int main(int count, char **words) {
        for (int i = 1; i + 1 < count; i += 2) {
            struct stat status;
            if (!strcmp(words[i], "stat")) printf("%d ", stat(words[i + 1], &status) ? -1 : (int) status.st_size);
            else if (!strcmp(words[i], "access")) printf("%d ", access(words[i + 1], R_OK));
            else {
                DIR *directory = opendir(words[i + 1]);
                int names = 0;
                while (directory && readdir(directory)) names++;
                printf("%d ", names);
            }
        }
        puts("done");
        return 0;
    }"#;

#[test]
fn what_was_merely_looked_at_is_kept_as_far_as_the_policy_goes() {
    let program = compile(LOOK);
    let words =
        ["/look", "stat", "/app/a.py", "access", "/app/b.py", "stat", "/app/missing.py", "list", "/light", "list", "/heavy"];
    let mut image = command(Image::scratch().file("/look", &program, 0o755), &words)
        .file("/app/a.py", b"source", 0o644)
        .file("/app/b.py", b"source", 0o644)
        .file("/app/c.py", b"source", 0o644)
        .file("/light/one", &[b'1'; 4000], 0o644)
        .link("/light/two", "/heavy/0")
        .file("/light/folder/file", b"x", 0o644)
        .directory("/light/empty", 0o755);
    for number in 0..8 {
        image = image.file(&format!("/heavy/{number}"), &[b'0'; 10_000], 0o644);
    }
    let image = image.build();
    let looked: &[&str] = &["/app/a.py", "/app/b.py"];
    let light: &[&str] = &["/light/one", "/light/two"];
    let heavy: &[&str] = &["/heavy/0", "/heavy/7"];
    let never: &[&str] = &["/app/c.py", "/light/folder"];
    for (policy, kept, removed) in [
        (&["--keep-looked-at", "none"][..], &[][..], &[looked, light, heavy][..]),
        (&[], &[looked, light], &[heavy]),
        (&["--keep-looked-at=checked"], &[looked, light], &[heavy]),
        (&["--keep-looked-at=listed"], &[looked, light, heavy], &[]),
        (&["--keep-looked-at=all"], &[looked, light, heavy], &[]),
    ] {
        let run = slim(&image, policy);
        keeps(
            &run,
            &[&kept.concat()[..], &["/light", "/heavy", "/light/empty"]].concat(),
            &[&removed.concat()[..], never].concat(),
        );
        let told = run.stderr().contains("`/heavy`");
        assert_eq!(told, removed.contains(&heavy) && !kept.is_empty(), "{policy:?}: {}", run.stderr());
        if policy == ["--keep-looked-at=listed"] {
            // what it saw is what it sees, but for a folder that would be empty
            let (fat, slim) = (behaviour(&image.name).1, behaviour(&image.slim_name()).1);
            assert_eq!((&fat[..], &slim[..]), ("6 0 -1 6 10 done\n", "6 0 -1 5 10 done\n"));
            let listed = json!({"why": "listed", "by": "/look", "during": "start"});
            assert_eq!(run.reasons("/heavy/0"), [listed]);
        }
        if policy.is_empty() {
            let looked_up = json!({"why": "used", "access": "lookup", "by": "/look", "during": "start"});
            assert_eq!(run.reasons("/app/a.py"), std::slice::from_ref(&looked_up));
            assert_eq!(run.reasons("/app/b.py"), [looked_up]);
        }
    }
    Slim::build(&image, &[NO_HTTP, "--keep-looked-at", "some"]).run().fails(2, "checked");
}

#[test]
fn a_sweep_keeps_nothing_by_itself() {
    let mut image = shell("/bin/busybox find / -xdev >/tmp/found; cat /many/d1/f1");
    for number in 0..2500 {
        image = image.file(&format!("/many/d{}/f{number}", number % 10), b"some content", 0o644);
    }
    let image = image.build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    keeps(&run, &["/many/d1/f1"], &["/many/d1/f11", "/many/d2/f2", "/many/d2"]);
    assert!(run.stderr().contains("sweep") && run.stderr().contains("/bin/busybox"), "{}", run.stderr());
    assert!(run.report()["warnings"].to_string().contains("sweep"));
    keeps(&slim(&image, &["--keep-looked-at", "all"]), &["/many/d1/f11", "/many/d2/f2"], &[]);
}

#[test]
fn paths_that_are_asked_for_are_kept() {
    let image = shell("cat /etc/group")
        .file("/app/main", b"main", 0o644)
        .file("/app/static/a.css", b"a", 0o644)
        .file("/app/static/deep/b.css", b"b", 0o644)
        .file("/app/static/deep/b.js", b"b", 0o644)
        .link("/app/static/link.css", "/opt/shared.css")
        .file("/opt/shared.css", b"shared", 0o644)
        .file("/opt/with space", b"space", 0o644)
        .file("/opt/star*", b"star", 0o644)
        .file("/opt/stars", b"stars", 0o644)
        .link("/opt/dangling", "/nowhere")
        .build();
    let all = [
        "/app/main",
        "/app/static/a.css",
        "/app/static/deep/b.css",
        "/app/static/deep/b.js",
        "/app/static/link.css",
        "/opt/shared.css",
        "/opt/with space",
        "/opt/star*",
        "/opt/stars",
        "/opt/dangling",
    ];
    for (words, kept) in [
        (&[][..], &[][..]),
        (&["--include-path", "/app/main"], &["/app/main"]),
        (&["--include-path", "/app/static"], &all[1..6]),
        (&["--include-path", "/app/static/*.css"], &["/app/static/a.css", "/app/static/link.css", "/opt/shared.css"]),
        (
            &["--include-path", "/app/**/*.css"],
            &["/app/static/a.css", "/app/static/deep/b.css", "/app/static/link.css", "/opt/shared.css"],
        ),
        (&["--include-path", "/opt/star*"], &["/opt/star*"]),
        (&["--include-path", "/opt/with space", "--include-path", "/opt/dangling"], &["/opt/with space", "/opt/dangling"]),
        (&["--include-path-file", "paths"], &["/app/main", "/opt/with space", "/opt/shared.css"]),
        (&["--include-path", "/app", "--exclude-pattern", "**/*.css"], &["/app/main", "/app/static/deep/b.js"]),
        (&["--include-path", "/app", "--exclude-pattern", "/app/static/**"], &["/app/main", "/opt/shared.css"]),
    ] {
        let build = Slim::build(&image, &[&[NO_HTTP], words].concat());
        std::fs::write(build.folder().join("paths"), "# a comment\n\n/app/main\n/opt/with space\n/opt/sh*\n").unwrap();
        let run = build.run().ok();
        let removed: Vec<&str> = all.into_iter().filter(|path| !kept.contains(path)).collect();
        keeps(&run, kept, &removed);
    }
    let run = slim(&image, &["--include-path", "/app/main"]);
    assert_eq!(run.reasons("/app/main"), [json!({"why": "asked", "option": "--include-path /app/main"})]);
}

#[test]
fn an_extra_that_matches_nothing_is_named() {
    let nothing = compile("int main(void) { return 0; }");
    let image = command(Image::scratch().file("/true", &nothing, 0o755).file("/data", b"x", 0o644), &["/true"]).build();
    for words in [
        ["--include-path", "/missing"],
        ["--include-path", "/missing/*"],
        ["--include-bin", "/missing"],
        ["--include-exe", "missing"],
        ["--exclude-pattern", "/missing/**"],
        ["--path-perms", "/missing:0644"],
    ] {
        let run = Slim::build(&image, &[NO_HTTP, words[0], words[1]]).run().fails(2, &format!("`{} {}`", words[0], words[1]));
        assert_eq!(run.report()["outcome"]["exit_code"], 2);
    }
    for word in ["--include-shell", "--include-zoneinfo"] {
        Slim::build(&image, &[NO_HTTP, word]).run().fails(2, &format!("`{word}`"));
    }
    for words in [
        ["--include-path", "relative"],
        ["--include-bin", "relative"],
        ["--path-perms", "/data:999"],
        ["--include-path-file", "missing"],
    ] {
        Slim::build(&image, &[NO_HTTP, words[0], words[1]]).run().fails(2, words[0]);
    }
    assert!(!docker_output(&["image", "inspect", &image.slim_name()]).status.success());
}

#[test]
fn a_shell_that_is_asked_for_works() {
    let nothing = compile("int main(void) { return 0; }");
    let image =
        command(busybox().file("/true", &nothing, 0o755), &["/true"]).directory("/work", 0o755).change("WORKDIR /work").build();
    keeps(&slim(&image, &[]), &["/work"], &["/bin/busybox", "/bin/sh"]);
    let run = slim(&image, &["--include-shell"]);
    keeps(&run, &["/bin/sh", "/bin/ls", "/bin/cat", "/bin/busybox"], &["/bin/httpd"]);
    let listed = docker(&["run", "--rm", &image.slim_name(), "sh", "-c", "ls / && cat /etc/group"]);
    assert!(listed.contains("true\n") && listed.contains("root:x:0:"), "{listed}");
}

#[test]
fn certificates_are_kept_by_default_and_private_keys_never() {
    let certificate = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let key = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\n";
    let image = shell("cat /etc/group")
        .file("/etc/ssl/certs/ca-certificates.crt", &certificate.repeat(100), 0o644)
        .link("/etc/ssl/certs/Authority.pem", "/usr/share/ca-certificates/authority.crt")
        .link("/etc/ssl/certs/0a1b2c3d.0", "Authority.pem")
        .file("/usr/share/ca-certificates/authority.crt", certificate, 0o644)
        .file("/etc/ssl/certs/server.pem", key, 0o644)
        .file("/etc/ssl/certs/server.key", b"anything", 0o600)
        .file("/etc/ssl/private/server.pem", certificate, 0o600)
        .file("/own/bundle.pem", certificate, 0o644)
        .change("ENV SSL_CERT_FILE=/own/bundle.pem")
        .build();
    let public = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssl/certs/Authority.pem",
        "/etc/ssl/certs/0a1b2c3d.0",
        "/usr/share/ca-certificates/authority.crt",
        "/own/bundle.pem",
    ];
    let private = ["/etc/ssl/certs/server.pem", "/etc/ssl/certs/server.key", "/etc/ssl/private/server.pem"];
    for words in [&[][..], &["--include-cert-all"], &["--include-cert-all=true"]] {
        keeps(&slim(&image, words), &public, &private);
    }
    keeps(&slim(&image, &["--include-cert-all=false"]), &[], &[&public[..], &private].concat());
}

#[test]
fn time_zones_and_the_working_directory_are_kept_where_they_are_asked_for() {
    let image = shell("cat /etc/group")
        .file("/usr/share/zoneinfo/Europe/Berlin", b"TZif", 0o644)
        .file("/usr/share/zoneinfo/UTC", b"TZif", 0o644)
        .link("/etc/localtime", "/usr/share/zoneinfo/UTC")
        .file("/srv/app/code", b"code", 0o644)
        .file("/srv/app/deep/data", b"data", 0o644)
        .file("/srv/other", b"other", 0o644)
        .change("WORKDIR /srv/app")
        .build();
    let zones = ["/usr/share/zoneinfo/Europe/Berlin", "/usr/share/zoneinfo/UTC", "/etc/localtime"];
    let work = ["/srv/app/code", "/srv/app/deep/data"];
    keeps(&slim(&image, &[]), &["/srv/app"], &[&zones[..], &work].concat());
    keeps(&slim(&image, &["--include-zoneinfo"]), &zones, &work);
    keeps(&slim(&image, &["--include-workdir"]), &work, &[&zones[..], &["/srv/other"]].concat());
    keeps(&slim(&image, &["--include-workdir=false", "--include-zoneinfo=true"]), &zones, &work);
}

#[test]
fn permissions_are_changed_where_the_user_says() {
    let image = shell("cat /app/data; stat -c '%n %a %u %g' /app/data /app/run /app/folder /app/plain")
        .file("/app/data", b"data\n", 0o644)
        .file("/app/run", b"#!/bin/sh\n", 0o644)
        .directory("/app/folder", 0o755)
        .file("/app/plain", b"plain", 0o640)
        .build();
    let words = [
        "--path-perms",
        "/app/data:0600#1000#2000",
        "--path-perms",
        "/app/run:4755",
        "--path-perms",
        "/app/folder:1777#1",
        "--include-path",
        "/app/plain:0444#7#8",
    ];
    slim(&image, &words);
    let told = docker(&["run", "--rm", &image.slim_name()]);
    assert_eq!(told, "data\n/app/data 600 1000 2000\n/app/run 4755 0 0\n/app/folder 1777 1 0\n/app/plain 444 7 8");
}

#[test]
fn reasons_name_process_access_and_phase() {
    let image = shell(
        "cat /data/start; echo x >/log/new; mkdir /log/made; test -e /data/looked; cd /entered; echo /listed/*; \
        until test -e /tmp/checked; do sleep 0.1; done",
    )
    .file("/data/start", b"start", 0o644)
    .file("/data/looked", b"looked", 0o644)
    .file("/data/command", b"command", 0o644)
    .file("/data/health", b"health", 0o644)
    .file("/log/old", b"old", 0o644)
    .file("/entered/unused", b"unused", 0o644)
    .file("/listed/name", b"name", 0o644)
    .build_with("HEALTHCHECK CMD cat /data/health && : >/tmp/checked");
    let run = slim(&image, &["--exec", "cat /data/command"]);
    let has = |path: &str, reason: Value| {
        let reasons = run.reasons(path);
        assert!(reasons.contains(&reason), "{path}: {reasons:?}");
    };
    let used = |access: &str, during: &str| json!({"why": "used", "access": access, "by": "/bin/busybox", "during": during});
    has("/data/start", used("open", "start"));
    has("/data/looked", used("lookup", "start"));
    has("/data/command", used("open", "cat /data/command"));
    has("/data/health", used("open", "health check"));
    has("/log", used("write", "start"));
    has("/log", used("change", "start"));
    has("/entered", used("enter", "start"));
    has("/listed", used("list", "start"));
    has("/listed/name", json!({"why": "listed", "by": "/bin/busybox", "during": "start"}));
    has("/bin/busybox", used("exec", "start"));
    has("/bin/busybox", used("exec", "cat /data/command"));
    has("/bin/busybox", json!({"why": "config", "field": "Cmd"}));
    has("/etc/passwd", json!({"why": "rule", "rule": "every image has it"}));
    has("/data", json!({"why": "parent"}));
    keeps(&run, &[], &["/log/old", "/entered/unused"]);
}

#[test]
fn what_the_configuration_names_is_kept_though_the_run_did_something_else() {
    let image = shell("cat /data/a; exit 1")
        .file("/data/a", b"a", 0o644)
        .file("/data/b", b"b", 0o644)
        .file("/app/check", b"#!/bin/sh\n", 0o755)
        .directory("/var/lib/app", 0o700)
        .directory("/nothing/in/it", 0o755)
        .directory("/drop", 0o1777)
        .file("/drop/left", b"left", 0o644)
        .file("/etc/nsswitch.conf", b"hosts: files dns\n", 0o644)
        .link("/etc/os-release", "../usr/lib/os-release")
        .file("/usr/lib/os-release", b"ID=test\n", 0o644)
        .change("ENTRYPOINT [\"/bin/env\"]")
        .change("VOLUME /var/lib/app")
        .change("WORKDIR /nothing/in/it")
        .build_with("HEALTHCHECK CMD /app/check");
    let run = slim(&image, &["--entrypoint", "/bin/cat", "--cmd", "/data/b"]);
    let kept = [
        "/bin/env",
        "/bin/sh",
        "/bin/cat",
        "/app/check",
        "/var/lib/app",
        "/nothing/in/it",
        "/drop",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/usr/lib/os-release",
        "/etc/passwd",
        "/etc/group",
        "/tmp",
        "/data/b",
    ];
    keeps(&run, &kept, &["/data/a", "/drop/left", "/root/x"]);
    assert!(run.reasons("/app/check").contains(&json!({"why": "config", "field": "Healthcheck"})));
}
