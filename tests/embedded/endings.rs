//! Nothing stays behind, however it ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{Ground, again, block, is_alive, part, until};

/// Whether something is mounted below a directory, in any process's view.
fn is_mounted(folder: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("mountinfo"));
    processes.filter_map(|path| std::fs::read_to_string(path).ok()).any(|mounts| mounts.contains(folder))
}

#[test]
fn the_end_of_the_controller_is_the_end_of_the_container() {
    const NAME: &str = "endings::the_end_of_the_controller_is_the_end_of_the_container";
    if let Some(folder) = part() {
        return controller(&folder);
    }
    let ground = Ground::new();
    let state = ground.path("state");
    std::fs::create_dir(&state).unwrap();
    let executable = std::env::current_exe().unwrap();
    let mut child = again(&executable, NAME, ground.folder.path().to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pids = lines.into_iter().find_map(|line| line.split_once("pids ").map(|(_, pids)| pids.to_owned())).unwrap();
    let pids: Vec<i32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    let helper: i32 = std::fs::read_to_string(format!("/proc/{}/stat", pids[0]))
        .unwrap()
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok())
        .unwrap();
    assert!(pids.iter().chain([&helper]).all(|&pid| is_alive(pid)));
    assert!(state.join("upper").exists());
    let folder = state.to_str().unwrap();
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(folder), "never mounted here");

    child.kill().unwrap();
    child.wait().unwrap();
    until("all processes are gone", || pids.iter().chain([&helper]).all(|&pid| !is_alive(pid)));
    until("nothing is mounted", || !is_mounted(folder));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "the helper emptied the state directory");
}

/// Starts a container and a command in it that ignore what they can, and waits to be killed.
#[expect(clippy::print_stdout, reason = "the test that started this reads it")]
fn controller(folder: &str) {
    let root = std::path::Path::new(folder).join("root");
    let state = std::path::Path::new(folder).join("state");
    let script = "trap '' TERM HUP INT; echo x >/written; while :; do sleep 1000; done".to_owned();
    let spec = slim_sensor::container::spec::ContainerSpec::new(
        slim_sensor::container::spec::Root::Layers(vec![root]),
        state,
        0,
        vec!["sh".to_owned(), "-c".to_owned(), script.clone()],
    );
    block(async {
        let runner = slim::engine::embedded::Runner::new(super::SLIM.into(), slim::engine::embedded::Tier::Root);
        let (running, _streams) = runner.start(&spec, &[]).await.unwrap();
        let command = running.command(vec!["sh".to_owned(), "-c".to_owned(), script]);
        let (exec, _exec_streams) = running.exec(&command, &[]).await.unwrap();
        println!("pids {} {}", running.pid(), exec.pid());
        std::future::pending::<()>().await;
    });
}

#[test]
fn the_end_of_the_helper_is_the_end_of_the_container() {
    let ground = Ground::new();
    let spec = ground.spec(&["sleep", "1000"]);
    block(async {
        let (running, _streams) = ground.runner().start(&spec, &[]).await.unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
        let helper: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), nix::sys::signal::Signal::SIGKILL).unwrap();
        let error = running.wait().await.unwrap_err().to_string();
        assert!(error.starts_with("the container's helper ended without a word"), "{error}");
        let pid = running.pid();
        until("the first process is gone", || !is_alive(pid));
    });
}

#[test]
fn what_is_dropped_is_killed() {
    let ground = Ground::new();
    let spec = ground.shell("trap '' TERM; sleep 1000");
    block(async {
        let (running, _streams) = ground.runner().start(&spec, &[]).await.unwrap();
        let pid = running.pid();
        drop(running);
        until("the process is gone", || !is_alive(pid));
        until("the state is gone", || std::fs::read_dir(&spec.state).unwrap().count() == 0);
    });
}

#[test]
fn a_start_that_nobody_waits_for_is_undone() {
    let ground = Ground::new();
    block(async {
        for milliseconds in [0, 1, 2, 4, 8, 16] {
            let spec = ground.shell("trap '' TERM; sleep 1000");
            let patience = std::time::Duration::from_millis(milliseconds);
            drop(tokio::time::timeout(patience, ground.runner().start(&spec, &[])).await);
            until("the state is gone", || std::fs::read_dir(&spec.state).unwrap().count() == 0);
        }
    });
}
