//! The cache of unpacked layers, from the command line: it stays within its size, says what is in it, and nobody loses
//! what he uses.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::ground::{Layer, base, docker_archive};
use crate::support::{Archive, Ground, Running, until};

/// The output of `slim cache WORDS` as JSON.
fn cache(ground: &Ground, words: &[&str]) -> Value {
    let output = ground.slim(&[&["cache"], words, &["--output-format", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An image of two layers, the upper one of `megabytes`.
fn image(ground: &Ground, megabytes: usize) -> String {
    ground.image(Archive::default().file("a", &vec![b'a'; megabytes << 20]))
}

#[test]
fn the_cache_says_where_it_is_and_what_is_in_it() {
    let ground = Ground::new();
    let empty = cache(&ground, &[]);
    assert_eq!((&empty["layers"], &empty["bytes"]), (&0.into(), &0.into()));
    assert!(!ground.path("cache/slim").exists());
    ground.runs(&image(&ground, 4), &[]);
    let listing = cache(&ground, &["list"]);
    assert_eq!(listing["path"], ground.path("cache/slim").to_str().unwrap());
    assert_eq!(listing["layers"], 2);
    let busybox = fs::metadata("/bin/busybox").unwrap().len().next_multiple_of(4096);
    assert_eq!(listing["bytes"], busybox + (4 << 20));
    let flavour = &listing["flavours"][0];
    assert_eq!((&flavour["flavour"], flavour["layers"].as_array().unwrap().len()), (&"root".into(), 2));
    let text = String::from_utf8(ground.slim(&["cache"]).stdout).unwrap();
    assert!(text.starts_with(&format!("{}: 2 layers, ", ground.path("cache/slim").display())), "{text}");

    let pruned = cache(&ground, &["prune", "--keep", "4m"]);
    assert_eq!((&pruned["removed_layers"], &pruned["in_use"]), (&1.into(), &0.into()));
    assert_eq!(cache(&ground, &["prune"])["left_bytes"], 0);
    assert_eq!(cache(&ground, &["list"])["layers"], 0);
}

#[test]
fn what_exceeds_its_size_is_removed_after_use() {
    let ground = Ground::new();
    let run = |image: &str, words: &[&str], size: Option<&str>| {
        let mut command = ground.command(&[&["run"], words, &[image]].concat());
        command.envs(size.map(|size| ("SLIM_CACHE_SIZE", size)));
        assert!(command.status().unwrap().success());
        cache(&ground, &[])["layers"].as_u64().unwrap()
    };
    assert_eq!(run(&image(&ground, 4), &[], None), 2);
    // The older image's own layer goes, what both have stays.
    assert_eq!(run(&image(&ground, 5), &["--cache-size", "8m"], None), 2);
    assert_eq!(run(&image(&ground, 5), &[], Some("5.5m")), 1);
    assert_eq!(run(&image(&ground, 5), &[], Some("0")), 0);
    // What is typed counts.
    assert_eq!(run(&image(&ground, 5), &["--cache-size=1g"], Some("0")), 2);
    let refused = ground.slim(&["run", "--cache-size", "much", "oci:none"]);
    assert_eq!(refused.status.code(), Some(2));
    // Also where the image turns out not to be usable.
    let broken = [base(), Layer::new(Archive::default().file("../x", b"").finish())];
    let image = ground.save(&docker_archive(&broken));
    ground.refuses(&image, &["--cache-size", "0"], "leads out");
    assert_eq!(cache(&ground, &[])["layers"], 0);
}

#[test]
fn a_layer_in_use_stays_whoever_removes() {
    let ground = Ground::new();
    let image = image(&ground, 4);
    let script = "trap 'cat /a | wc -c >&2; exit' TERM; echo ready >&2; while :; do /busybox sleep 0.1; done";
    let script = script.replace("cat", "/busybox cat").replace("wc", "/busybox wc");
    let command = ground.command(&["run", &image, "/busybox", "sh", "-c", &script]);
    let mut first = Running::spawn(command, PathBuf::new(), tempfile::tempdir().unwrap());
    first.until_it_says("ready");
    let pruned = || -> Value {
        let output = ground.command(&["cache", "prune", "--output-format", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!((&pruned()["removed_layers"], &pruned()["in_use"]), (&0.into(), &2.into()));
    // Another run of the same image is done with them, and keeps nothing.
    assert!(ground.command(&["run", "--cache-size", "0", &image]).status().unwrap().success());
    first.send(Signal::SIGTERM);
    assert_eq!(first.end(), 0, "{}", first.said());
    assert!(first.said().ends_with("4194304\n"), "{}", first.said());
    until("the removal", || pruned()["left_bytes"] == 0);
}

#[test]
fn many_at_a_time_with_no_room_at_all() {
    let ground = Ground::new();
    let image = image(&ground, 4);
    let words = ["run", "--cache-size", "0", &image, "/busybox", "wc", "-c", "/a"];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let output = ground.command(&words).output().unwrap();
                    assert_eq!(
                        String::from_utf8_lossy(&output.stdout),
                        "4194304 /a\n",
                        "{}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                }
            });
        }
    });
    // The last one found nothing in use.
    assert_eq!(cache(&ground, &[])["layers"], 0);
}

#[test]
fn what_a_killed_run_left_is_removed_with_the_next() {
    let ground = Ground::new();
    let image = image(&ground, 4);
    ground.runs(&image, &[]);
    let directory = ground.layers().join("root/sha256");
    let leftover = directory.join(format!("{}.partial", "0".repeat(64)));
    fs::create_dir_all(leftover.join("fs/deep/er")).unwrap();
    ground.runs(&image, &[]);
    assert!(!leftover.exists());
    assert_eq!(cache(&ground, &[])["layers"], 2);
}
