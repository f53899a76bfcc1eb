//! Daemons that don't answer, go away, come back, or are somewhere else.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use crate::support::{Proxy, Running, Slim, docker, docker_output, large, until, web};

#[test]
fn a_daemon_that_goes_away_and_comes_back() {
    let image = web().load();
    for moment in ["waiting until", "running `sleep 1000`"] {
        let proxy = Proxy::new();
        let words = ["build", &image.name, "--http-probe", "--exec", "sleep 1000"];
        let mut run = Running::start(&words, &[("DOCKER_HOST", &proxy.host())]);
        run.until_it_says(moment);
        let volumes = run.volumes();
        proxy.cut(true);
        run.until_it_says("waiting for the engine to come back");
        assert_eq!(run.temporary_files(), Vec::<PathBuf>::new());
        proxy.cut(false);
        assert_eq!(run.end(), 3, "{}", run.said());
        assert!(run.said().contains("error: the connection to the engine broke while it was to "), "{}", run.said());
        run.assert_nothing_is_left(&volumes);
    }
}

#[test]
fn a_daemon_that_goes_away_for_good() {
    let image = web().load();
    let proxy = Proxy::new();
    let mut run =
        Running::start(&["build", &image.name, "--http-probe", "--exec", "sleep 1000"], &[("DOCKER_HOST", &proxy.host())]);
    run.until_it_says("running `sleep 1000`");
    let volumes = run.volumes();
    proxy.cut(true);
    assert_eq!(run.end(), 3, "{}", run.said());
    assert!(run.said().contains("warning: something is left in the engine, the next run removes it"), "{}", run.said());
    Slim::build(&image, &["--http-probe"]).run().ok();
    until("the removal of its containers", || run.containers().is_empty());
    run.assert_nothing_is_left(&volumes);
}

#[test]
fn daemons_that_do_not_answer() {
    let refused = "no Docker daemon answers at `";
    for host in ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1", "nonsense://x"] {
        let run = Slim::new(&["build", "app"]).env("DOCKER_HOST", host).run().fails(3, &format!("{refused}{host}`: "));
        run.fails(3, "name another with DOCKER_HOST");
        Slim::new(&["build", "app", "--host", host]).run().fails(3, refused);
    }
    let closes = Proxy::new();
    closes.cut(true);
    Slim::new(&["build", "app"]).env("DOCKER_HOST", &closes.host()).run().fails(3, refused);
}

#[test]
fn a_daemon_that_does_not_see_our_files_gets_them_sent() {
    let image = web().load();
    for options in [&[][..], &["--read-only", "--tmpfs", "/tmp"]] {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut command = image.client.slim_elsewhere();
        command.args(["build", &image.name, "--http-probe", "--exec", "test -e /www/hidden"]).args(options);
        command.current_dir(folder.path()).env("TMPDIR", &temporary);
        let mut run = Running::spawn(command, temporary, folder);
        let mut volumes = BTreeSet::new();
        until("its end", || {
            volumes.append(&mut run.volumes());
            run.child.try_wait().unwrap().is_some()
        });
        assert_eq!(run.end(), 0, "{}", run.said());
        assert!(volumes.len() >= 2, "the program was in volumes: {volumes:?}");
        run.assert_nothing_is_left(&volumes);
        let report = run.report();
        let kept = report["kept"].as_array().unwrap();
        assert!(kept.iter().any(|row| row["path"] == "/www/large") && report["evidence"]["complete"] == true);
        let slim = docker(&["create", &image.slim_name()]);
        let copied = docker_output(&["cp", &format!("{slim}:/www/large"), "-"]);
        docker(&["rm", "-v", &slim]);
        let mut content = vec![];
        let mut archive = tar::Archive::new(copied.stdout.as_slice());
        archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut content).unwrap();
        assert!(content == large()[..content.len()] && content.len() == 1 << 20);
    }
}
