//! Nothing is lost: each of thousands of uses is in the observation, however the program ends right after; and where
//! the sensor itself is killed, the program works on and slim says that it doesn't know.

use std::collections::BTreeSet;

use slim::observe::observation::{Access, Observation, Sense};

use crate::support::{Image, NO_HTTP, Slim, compile, docker, docker_output};

/// An image with this program as its entrypoint and `count` small files in /many.
fn with_files(program: &[u8], count: usize) -> Image {
    let builder = Image::scratch().file("/program", program, 0o755).file("/before", b"", 0o644).directory("/tmp", 0o1777);
    let builder = (0..count).fold(builder, |image, number| image.file(&format!("/many/{number}"), b"x", 0o644));
    builder.change(r#"ENTRYPOINT ["/program"]"#).build()
}

/// The numbers of the files in /many that were used in this way.
fn numbers(observation: &Observation, access: Access, sense: Sense) -> BTreeSet<usize> {
    let uses = observation.uses.iter().filter(|used| (used.access, used.sense) == (access, sense));
    uses.filter_map(|used| std::str::from_utf8(used.path.strip_prefix(b"/many/")?).ok()?.parse().ok()).collect()
}

/// Runs the image to its end, in which nothing may be lost.
fn complete(image: &Image, command: &str, sensor: &str) -> Observation {
    let words =
        [NO_HTTP, "--sensor", sensor, "--continue-after", "app-exit", "--observation-out", "seen.jsonl", "--cmd", command];
    let observation = Slim::build(image, &words).run().ok().observation("seen.jsonl");
    assert!(observation.end.complete && !observation.end.tail_unknown && observation.end.losses.is_empty());
    assert_eq!(observation.end.counters.lost, 0);
    assert_eq!(observation.end.counters.received, observation.end.counters.resolved);
    observation
}

#[test]
fn four_processes_and_many_files() {
    const FILES: usize = 20_000;
    let image = with_files(&compile(include_str!("../programs/busy.c")), FILES);
    let (opened, looked_up): (BTreeSet<usize>, BTreeSet<usize>) = (0..FILES).partition(|number| number / 4 % 2 == 0);
    // The second time is as the first.
    for _ in 0..2 {
        let seen = complete(&image, &format!("{FILES} wait"), "full");
        assert_eq!(numbers(&seen, Access::Open, Sense::Notify), opened);
        assert_eq!(numbers(&seen, Access::Open, Sense::Fanotify), opened);
        assert_eq!(numbers(&seen, Access::Lookup, Sense::Notify), looked_up);
    }
}

#[test]
fn the_last_moment_counts() {
    const FILES: usize = 5_000;
    let image = with_files(&compile(include_str!("../programs/busy.c")), FILES);
    for end in ["exit", "exit_group"] {
        let seen = complete(&image, &format!("{FILES} {end}"), "full");
        // The first process doesn't wait for the others: of its own nothing lacks.
        let own = |number: &usize| number % 4 == 3;
        let wanted: BTreeSet<usize> = (0..FILES).filter(|number| own(number) && number / 4 % 2 == 0).collect();
        for sense in [Sense::Notify, Sense::Fanotify] {
            let seen: BTreeSet<usize> = numbers(&seen, Access::Open, sense).into_iter().filter(own).collect();
            assert_eq!(seen, wanted, "{end} {sense:?}");
        }
        let seen = complete(&image, &format!("{FILES} {end}"), "fanotify");
        assert!(numbers(&seen, Access::Open, Sense::Fanotify).is_superset(&wanted), "{end}");
    }
}

#[test]
fn files_that_are_gone_and_pointers_to_nothing() {
    let mut image = Image::scratch().file("/program", &compile(include_str!("../programs/vanish.c")), 0o755);
    for name in ["deleted", "renamed", "how"] {
        image = image.file(&format!("/data/{name}"), b"x", 0o644);
    }
    let image = image.change(r#"ENTRYPOINT ["/program"]"#).build();
    let words = [NO_HTTP, "--show-clogs", "--observation-out", "seen.jsonl"];
    let run = Slim::build(&image, &words).run().ok();
    let log: String = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(|line| format!("{line}\n")).collect();
    let plain = docker(&["run", "--rm", &image.name]);
    assert_eq!(plain.matches("error 14").count(), 4, "{plain}");
    assert_eq!(log.trim_end(), plain);
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    let used = |path: &str, access| seen.uses.iter().any(|used| used.path == path.as_bytes() && used.access == access);
    for (path, access) in [
        ("/data/deleted", Access::Open),
        ("/data/deleted", Access::Change),
        ("/data/renamed", Access::Open),
        ("/data/new-name", Access::Change),
        ("/data/missing", Access::Open),
    ] {
        assert!(used(path, access), "{path} {access:?}");
    }
    assert!(run.keeps("/data/deleted") && run.keeps("/data/renamed"));
}

/// The processes of the sensor in a container: those that run slim with the monitor's verb, the first being the guard.
fn monitors(container: &str) -> Vec<String> {
    let listed = docker(&["top", container, "-eo", "pid,ppid,args"]);
    let mut lines: Vec<&str> =
        listed.lines().filter(|line| line.contains("/program/slim") && line.contains("__monitor")).collect();
    lines.sort_by_key(|line| line.split_whitespace().next().and_then(|pid| pid.parse::<u32>().ok()));
    lines.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Waits until `check` gives something.
#[track_caller]
fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(std::time::Instant::now() < deadline, "{what} never came");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_killed_monitor_is_a_loss_and_the_program_works_on() {
    const FILES: usize = 2_000;
    let image = with_files(&compile(include_str!("../programs/patient.c")), FILES);
    let label = format!("test={}", crate::support::unique("label"));
    let words = [NO_HTTP, "--continue-after", "app-exit", "--show-clogs", "--label", &label, "--cmd", "2000"];
    let mut slim = Slim::build(&image, &words);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| slim.command().output().unwrap());
        let container = eventually("the container", || {
            let id = docker(&["ps", "-q", "--filter", &format!("label={label}")]);
            (!id.is_empty() && docker_output(&["logs", &id]).stdout.starts_with(b"ready")).then_some(id)
        });
        // The guard is the first; its worker does the work.
        let worker = eventually("the worker", || monitors(&container).get(1).cloned());
        assert!(std::process::Command::new("kill").args(["-9", &worker]).status().unwrap().success());
        docker(&["cp", "/dev/null", &format!("{container}:/tmp/go")]);
        let output = run.join().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.contains("the observation is incomplete"), "{said}");
        assert!(said.contains(&format!("| opened {FILES}")), "the program was disturbed: {said}");
    });
}
