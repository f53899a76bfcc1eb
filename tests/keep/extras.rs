//! What the user asks for: paths, a shell, certificates, time zones, other permissions.

use serde_json::json;

use super::{keeps, slim, slim_says};
use crate::support::{Image, NO_HTTP, Slim, busybox, compile, shell};

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
        let build = Slim::keep(&image, &[&[NO_HTTP], words].concat());
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
    let image = Image::scratch().file("/true", &nothing, 0o755).file("/data", b"x", 0o644).cmd(&["/true"]).build();
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
    assert!(!image.is_minified());
}

#[test]
fn a_shell_that_is_asked_for_works() {
    let nothing = compile("int main(void) { return 0; }");
    let image =
        busybox().file("/true", &nothing, 0o755).cmd(&["/true"]).directory("/work", 0o755).change("WORKDIR /work").build();
    keeps(&slim(&image, &[]), &["/work"], &["/bin/busybox", "/bin/sh"]);
    let run = slim(&image, &["--include-shell"]);
    keeps(&run, &["/bin/sh", "/bin/ls", "/bin/cat", "/bin/busybox"], &["/bin/httpd"]);
    let listed = slim_says(&image, &["sh", "-c", "ls / && cat /etc/group"]);
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
    let told = slim_says(&image, &[]);
    assert_eq!(told, "data\n/app/data 600 1000 2000\n/app/run 4755 0 0\n/app/folder 1777 1 0\n/app/plain 444 7 8");
}
