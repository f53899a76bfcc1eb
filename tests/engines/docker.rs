//! Docker's daemon with other ways to keep files and users, and slim itself in one of its containers.

use slim_sensor::wire::Fanotify;

use super::built;
use crate::support::{Daemon, Image, busybox, docker, web};

#[test]
fn a_root_that_is_no_overlay_is_watched_as_a_mount() {
    let daemon = Daemon::docker(&["--storage-driver", "vfs"]);
    let image = web().load_in(&daemon.client);
    // A neighbour on the same file system, which a mark on that would see.
    let neighbour = busybox().file("/neighbours", b"", 0o644).shell_cmd("while cat /neighbours; do :; done");
    let neighbour = neighbour.load_in(&daemon.client);
    let container = daemon.client.docker(&["run", "--detach", &neighbour.name]);
    let run = built(&image, &[]);
    let running = daemon.client.docker(&["inspect", "--format", "{{.State.Running}}", &container]);
    assert_eq!(running, "true", "it was there all the time");
    daemon.client.docker(&["rm", "--force", &container]);
    let observation = run.observation("seen.jsonl");
    assert_eq!(observation.header.fanotify, Fanotify::Mount);
    assert!(observation.end.counters.opens > 0);
    let strange = |path: &[u8]| path.starts_with(b"/tmp/") || path.ends_with(b"/neighbours");
    assert!(!observation.uses.iter().any(|used| strange(&used.path)), "of the host, or of the neighbour");
    daemon.assert_nothing_is_left();
}

#[test]
fn other_users_outside_degrade_the_observation_and_lose_nothing() {
    let daemon = Daemon::docker(&["--userns-remap", "nobody:nogroup"]);
    let image = web().file("/data/seed", b"seed", 0o600).change("USER web").load_in(&daemon.client);
    let run = built(&image, &["--exec", "ls /data", "--user", "root"]);
    let degraded = "fanotify is refused (Operation not permitted";
    assert!(run.stdout().contains(&format!("\n  degraded  {degraded}")), "{}", run.stdout());
    assert!(run.warnings().iter().any(|warning| warning.contains(degraded)), "{:?}", run.warnings());
    assert!(run.report()["evidence"]["fanotify"]["refused"].is_string(), "{}", run.report()["evidence"]);
    let observation = run.observation("seen.jsonl");
    assert!(matches!(observation.header.fanotify, Fanotify::Refused(_)), "{:?}", observation.header);
    assert_eq!((observation.end.counters.lost, observation.end.counters.opens), (0, 0));
    assert!(run.keeps("/data/seed"));
    let paths = run.report()["removed"].to_string();
    assert!(!paths.contains("/etc/mtab"), "what the engine added is not the image's: {paths}");
    daemon.assert_nothing_is_left();
}

/// The image for it is slim's own executable, and nothing else: it needs no files.
#[test]
fn slim_runs_in_a_container() {
    let image = web().load();
    let program = std::fs::read(env!("CARGO_BIN_EXE_slim")).unwrap();
    let inside = Image::scratch().file("/slim", &program, 0o755).directory("/tmp", 0o1777).directory("/out", 0o755);
    let inside = inside.change(r#"ENTRYPOINT ["/slim"]"#).change("WORKDIR /out").load();
    let slim = |words: &[&str]| {
        let socket = "/var/run/docker.sock:/var/run/docker.sock";
        let folder = tempfile::tempdir().unwrap();
        let out = format!("{}:/out", folder.path().display());
        let words = [&["run", "--rm", "--volume", socket, "--volume", &out, &inside.name, "build", &image.name], words];
        docker(&words.concat());
        let report = std::fs::read(folder.path().join("slim.report.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&report).unwrap()
    };
    for words in [&["--http-probe"][..], &["--http-probe", "--exec", "cat /www/hidden", "--network", "none"]] {
        let report = slim(words);
        assert_eq!(report["evidence"]["complete"], true, "{report}");
        let kept = report["kept"].as_array().unwrap();
        assert!(kept.iter().any(|row| row["path"] == "/www/large"), "{report}");
    }
}
