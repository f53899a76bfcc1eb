//! The engines that slim works with, each a daemon of the test's own: one that stores without an overlay, one whose
//! containers have other users, one behind TCP or TLS, Podman's. (Docker's that doesn't see our files is in
//! [`super::daemon`].)

mod containerd;
mod contract;
mod docker;
mod podman;
mod remote;
mod rows;

use crate::support::{Image, Run, Slim};

/// Minifies an image of [`crate::support::web`]: it is probed, what was used is kept, and the result serves the same.
#[track_caller]
fn built(image: &Image, words: &[&str]) -> Run {
    let run = Slim::build(image, &[&["--http-probe", "--observation-out", "seen.jsonl"], words].concat()).run();
    check(image, run)
}

/// What must be so of every such build.
#[track_caller]
fn check(image: &Image, run: Run) -> Run {
    let run = run.ok();
    assert!(run.keeps("/www/large") && run.keeps("/www/index.html"), "{}", run.stderr());
    assert!(!run.keeps("/bin/wget"), "{}", run.stderr());
    let evidence = &run.report()["evidence"];
    assert!(evidence["complete"] == true && evidence["counters"]["lost"] == 0, "{evidence}");
    let listed = image.client.docker(&["run", "--rm", "--entrypoint", "/bin/busybox", &image.slim_name(), "ls", "/www"]);
    assert_eq!(listed.lines().filter(|name| ["index.html", "large"].contains(name)).count(), 2, "{listed}");
    run
}
