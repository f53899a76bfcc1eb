//! `slim run`: images that no daemon has do what they do in Docker; `slim doctor`.

use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::support::{Image, Running, Slim, busybox, until};

fn image() -> Image {
    busybox()
        .directory("/work", 0o777)
        .change("ENV GREETING=hello")
        .change("WORKDIR /work")
        .cmd(&["sh", "-c", "echo $GREETING from $(pwd); cat /proc/1/comm; echo trouble >&2; exit 3"])
        .build()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_archive_runs_as_in_docker() {
    let image = image();
    let reference = image.in_docker();
    let plain = reference.run(&[], &[]);
    let ours = image.run(&[], &[]);
    assert_eq!(text(&ours.stdout), text(&plain.stdout));
    assert_eq!((text(&ours.stderr), ours.status.code()), ("trouble\n".to_owned(), Some(3)));

    // The same words for both.
    let script = "id; echo $HOME; echo $GREETING; pwd; ls -ln / | wc -l; cat /proc/self/status | grep Cap; umask; ls /dev";
    for options in [&[][..], &["--user", "web", "--env", "GREETING=hi", "--workdir", "/etc"], &["--cap-drop", "ALL"]] {
        let plain = reference.run(options, &["sh", "-c", script]);
        let ours = image.run(options, &["sh", "-c", script]);
        let lines = |output: &Output| -> Vec<String> {
            // Docker adds `/.dockerenv`.
            text(&output.stdout).lines().filter(|line| line.parse::<u32>().is_err()).map(str::to_owned).collect()
        };
        assert_eq!(lines(&ours), lines(&plain), "{options:?} {}", text(&ours.stderr));
    }
}

#[test]
fn mounts_and_a_read_only_root() {
    let image = image();
    let shared = tempfile::tempdir().unwrap();
    let volume = format!("{}:/shared", shared.path().display());
    let options = ["--read-only", "--volume", &volume, "--tmpfs", "/tmp"];
    let run = image.run(&options, &["sh", "-c", "touch /work/x; touch /tmp/y && echo kept > /shared/z && ls /tmp"]);
    assert_eq!(text(&run.stdout), "y\n", "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("/work/x: Read-only file system"), "{}", text(&run.stderr));
    assert_eq!(std::fs::read_to_string(shared.path().join("z")).unwrap(), "kept\n");
    // What is written into the root is gone with the container, and the store is as it was.
    let run = image.run(&[], &["sh", "-c", "ls /work; touch /work/x"]);
    assert_eq!(text(&run.stdout), "");
    assert_eq!(text(&image.run(&[], &["ls", "/work"]).stdout), "");
}

#[test]
fn a_directory_is_an_image_that_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", folder.path().join("bin/busybox")).unwrap();
    let source = format!("rootfs:{}", folder.path().display());
    let run = Slim::new(&["run", &source, "/bin/busybox", "sh", "-c", "echo made > /file; /bin/busybox cat /file"]).run().ok();
    assert_eq!(run.stdout(), "made\n");
    assert!(!folder.path().join("file").exists());
}

#[test]
fn a_signal_reaches_the_program_and_nothing_is_left() {
    let image = image();
    let temporary = image.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    let script = "trap 'echo stopped >&2; exit 9' TERM; echo ready >&2; sleep 1000 & wait";
    command.args(["run", &image.source(), "sh", "-c", script]);
    command.env("XDG_CACHE_HOME", image.cache()).env("TMPDIR", &temporary);
    let mut run = Running::spawn(command, temporary.clone(), tempfile::tempdir().unwrap());
    run.until_it_says("ready");
    run.send(Signal::SIGTERM);
    assert_eq!(run.end(), 9, "{}", run.said());
    assert!(run.said().ends_with("stopped\n"), "{}", run.said());
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(image.path("").to_str().unwrap()), "{mounts}");
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let image = image();
    let temporary = image.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.arg("run").arg(image.source()).args(words).env("XDG_CACHE_HOME", image.cache()).env("TMPDIR", &temporary);
        command
    };
    let script = "echo written > /work/file; echo ready >&2; exec sleep 1000";
    let mut killed = Running::spawn(run(&["sh", "-c", script]), temporary.clone(), tempfile::tempdir().unwrap());
    killed.until_it_says("ready");
    killed.send(Signal::SIGKILL);
    killed.end();
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    // Its container ends a moment after it, and may hold the directory until then.
    until("the removal", || {
        assert!(run(&["true"]).status().unwrap().success());
        std::fs::read_dir(&temporary).unwrap().count() == 0
    });
}

#[test]
fn what_cannot_be_run_is_said() {
    let image = image();
    let nowhere = Slim::new(&["run", "nginx"]).env("DOCKER_HOST", "unix:///no/such/socket");
    nowhere.run().fails(3, "no Docker daemon answers at `unix:///no/such/socket`");
    Slim::new(&["run", "docker-archive:/no/such/file"]).run().fails(4, "/no/such/file");
    Slim::new(&["run", "--network", "bridge", &image.source()]).run().fails(2, "slim's own containers have no `--network`");
    let missing = image.run(&[], &["/no/such/program"]);
    assert_eq!(missing.status.code(), Some(5), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("/no/such/program"), "{}", text(&missing.stderr));
}

#[test]
fn the_doctor_tells_what_works_here() {
    let run = Slim::new(&["doctor", "--output-format", "json"]).run().ok();
    let findings: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    let works: Vec<bool> = findings.as_array().unwrap().iter().map(|finding| finding["works"].as_bool().unwrap()).collect();
    assert_eq!(works[..2], [true, true], "the daemon of these tests, and root: {findings:#}");
    let nowhere = Slim::new(&["doctor", "--host", "unix:///no/such/socket"]).run().ok();
    assert!(nowhere.stdout().starts_with("no    a Docker or Podman daemon\n"), "{}", nowhere.stdout());
    // Docker and Podman are told of each by itself, whichever is used.
    for daemon in ["unix:///var/run/docker.sock", "podman/podman.sock"] {
        assert!(nowhere.stdout().contains(daemon), "{daemon}: {}", nowhere.stdout());
    }
}
