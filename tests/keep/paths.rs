//! Links on the way, what was merely looked at, what the configuration names; and the reasons that are told.

use serde_json::{Value, json};

use super::{keeps, slim};
use crate::support::{Image, NO_HTTP, Slim, behaviour, compile, same_behaviour, shell};

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
    let image = Image::scratch()
        .cmd(&["/bin/tool"])
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
    let mut image = Image::scratch()
        .file("/look", &program, 0o755)
        .cmd(&words)
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
            let (fat, slim) = (behaviour(&image.run(&[], &[])).1, behaviour(&image.run_slim(&[], &[])).1);
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
        .change("HEALTHCHECK CMD /app/check")
        .build();
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

#[test]
fn reasons_name_process_access_and_phase() {
    let image = shell(
        "cat /data/start; echo x >/log/new; mkdir /log/made; test -e /data/looked; cd /entered; echo /listed/*; \
        sleep 1000",
    )
    .file("/data/start", b"start", 0o644)
    .file("/data/looked", b"looked", 0o644)
    .file("/data/command", b"command", 0o644)
    .file("/data/health", b"health", 0o644)
    .file("/log/old", b"old", 0o644)
    .file("/entered/unused", b"unused", 0o644)
    .file("/listed/name", b"name", 0o644)
    .change("HEALTHCHECK CMD cat /data/health && : >/tmp/checked")
    .build();
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
