//! What a build leaves behind, however it ends: nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Client, Image, Running, Slim, busybox, docker, docker_output, heavy_web, unique, until, web};

/// The id that an image's slim version has; the build is repeatable, so any other gets the same. It has no name then.
fn slim_id(image: &Image) -> String {
    let name = format!("{}:known", unique("slim"));
    Slim::build(image, &["--http-probe", "--tag", &name]).run().ok();
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &name]);
    docker(&["rmi", &name]);
    id
}

fn exists(id: &str) -> bool {
    Client::default().has_image(id)
}

#[test]
fn nothing_is_left_of_a_success_and_of_each_failure() {
    let failing = busybox().change("VOLUME /data").cmd(&["sh", "-c", "exit 3"]).load();
    let good = web().load();
    for (image, words, code) in [
        (&good, &["--http-probe"][..], 0),
        (&good, &["--exec", "nope"], 6),
        (&good, &["--include-path", "/nope"], 2),
        (&failing, &[], 5),
        (&failing, &["--exec", "true"], 0),
        (&failing, &["--cmd", "nope"], 5),
        (&failing, &["--http-probe", "--cmd", "sleep 1000", "--start-timeout", "1"], 6),
    ] {
        let mut run = Running::start(&[&["build", &image.name], words].concat(), &[]);
        let mut volumes = BTreeSet::new();
        until("its end", || {
            volumes.append(&mut run.volumes());
            run.child.try_wait().unwrap().is_some()
        });
        assert_eq!(run.end(), code, "{words:?}\n{}", run.said());
        run.assert_nothing_is_left(&volumes);
    }
}

#[test]
fn nothing_is_left_of_an_interrupted_build() {
    // Every step takes its time, so that it can be met.
    let image = web()
        .file("/www/cgi-bin/slow", b"#!/bin/sh\nsleep 3\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n", 0o755)
        .cmd(&["sh", "-c", "trap 'sleep 3; exit 0' TERM; (sleep 2; exec httpd -f -p 8080 -h /www) & wait"])
        .load();
    // What an older build made stays.
    let older = busybox().load();
    docker(&["tag", &older.name, &image.slim_name()]);
    let older_id = docker(&["image", "inspect", "-f", "{{.Id}}", &older.name]);
    let moments = [
        "",
        "starting",
        "waiting until",
        "probing HTTP",
        "running `sleep 3`",
        "stopping it",
        "verifying, slim image: running `sleep 3`",
    ];
    let words = ["build", &image.name, "--http-probe-cmd", "/cgi-bin/slow", "--exec", "sleep 3"];
    let told = [(Signal::SIGINT, 130, "interrupted (Ctrl-C)"), (Signal::SIGTERM, 143, "terminated (SIGTERM)")];
    for (number, moment) in moments.into_iter().enumerate() {
        for &(signal, code, words_of_it) in if number == 4 { &told[..] } else { &told[number % 2..][..1] } {
            let mut run = Running::start(&words, &[]);
            match moment {
                "" => until("its directory", || !run.temporary_files().is_empty()),
                moment => run.until_it_says(moment),
            }
            let volumes = run.volumes();
            run.send(signal);
            assert_eq!(run.end(), code, "{signal} at {moment:?}\n{}", run.said());
            assert!(run.said().ends_with(&format!("cleaning up\nerror: {words_of_it}\n")), "{}", run.said());
            run.assert_nothing_is_left(&volumes);
            let report = run.report();
            assert_eq!(report["outcome"]["exit_code"], code);
        }
    }
    assert_eq!(docker(&["image", "inspect", "-f", "{{.Id}}", &image.slim_name()]), older_id);
}

#[test]
fn nothing_is_left_of_an_interrupted_load() {
    // The moments in which the daemon has all of the image or part of it, and no name yet.
    let image = heavy_web().load();
    let id = slim_id(&image);
    for milliseconds in (0..200).step_by(20) {
        let mut run = Running::start(&["build", &image.name, "--http-probe"], &[]);
        run.until_it_says("packing");
        std::thread::sleep(Duration::from_millis(milliseconds));
        run.send(Signal::SIGINT);
        let code = run.end();
        assert_eq!(exists(&id), code == 0, "{milliseconds} ms after it began to pack, exit code {code}");
        assert!(code == 0 || code == 130, "{}", run.said());
        run.assert_nothing_is_left(&BTreeSet::new());
        docker_output(&["rmi", &image.slim_name()]);
    }
    for moment in ["verifying, slim image: starting", "verifying, slim image: probing"] {
        let mut run = Running::start(&["build", &image.name, "--http-probe"], &[]);
        run.until_it_says(moment);
        run.send(Signal::SIGINT);
        assert_eq!(run.end(), 130, "{}", run.said());
        assert!(!exists(&id), "{moment}");
        run.assert_nothing_is_left(&BTreeSet::new());
    }
}

#[test]
fn an_image_that_a_killed_build_tried_is_removed_by_the_next() {
    let image = web().load();
    let id = slim_id(&image);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("TMPDIR", folder.path().to_str().unwrap())];
    let mut killed = Running::start(&["build", &image.name, "--http-probe"], &variables);
    killed.until_it_says("verifying, slim image: waiting");
    killed.send(Signal::SIGKILL);
    killed.end();
    assert!(exists(&id), "otherwise nothing is tested");
    let other = busybox().cmd(&["true"]).load();
    let mut next = Running::start(&["build", &other.name, "--verify=off"], &variables);
    assert_eq!(next.end(), 0, "{}", next.said());
    // A build of another test may have been the first to find it, and be at it.
    until("the removal of the image", || !exists(&id));
    killed.assert_nothing_is_left(&BTreeSet::new());
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next_and_no_more() {
    let image = web().load();
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().to_str().unwrap();
    let start = || Running::start(&["build", &image.name, "--http-probe", "--exec", "sleep 1000"], &[("TMPDIR", temporary)]);
    let directories = || std::fs::read_dir(folder.path()).unwrap().count();
    let (mut killed, mut living) = (start(), start());
    killed.until_it_says("running `sleep 1000`");
    living.until_it_says("running `sleep 1000`");
    let volumes = killed.volumes();
    killed.send(Signal::SIGKILL);
    killed.end();
    assert!(!volumes.is_empty() && directories() == 2, "otherwise nothing is tested");

    let mut next = Running::start(&["build", &image.name, "--http-probe"], &[("TMPDIR", temporary)]);
    assert_eq!(next.end(), 0, "{}", next.said());
    assert!(next.said().contains("directories for temporary files: 1\n"), "{}", next.said());
    // A build of another test may have been the first to find them, and be at it.
    until("the removal of its containers", || killed.containers().is_empty());
    killed.assert_nothing_is_left(&volumes);
    assert_eq!(directories(), 1);
    assert_eq!(living.containers().len(), 2, "the other run lives");
    living.send(Signal::SIGINT);
    assert_eq!(living.end(), 130);
    living.assert_nothing_is_left(&BTreeSet::new());
    assert_eq!(directories(), 0);
}
