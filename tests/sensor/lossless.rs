//! Nothing is lost: each of thousands of uses is in the observation, however the program ends right after; and where
//! the sensor itself is killed, the program works on and slim says that it doesn't know.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slim::observe::observation::{Access, Observation, PathUse, Sense};

use crate::support::{
    Client, Engine, Image, NO_HTTP, Proxy, Running, Shared, Slim, behaviour, compile, docker, docker_output, entries, heavy,
    nightly, on_both_engines, unique,
};

on_both_engines!(
    many_uses_by_the_target_and_many_by_a_command,
    the_last_moment_before_an_exit_counts,
    the_last_moment_before_a_commands_kill_counts,
    files_that_are_gone_and_pointers_to_nothing,
);

/// How many files there are to be used.
const FILES: usize = 40_000;

/// Programs that use many files, and those.
static MANY: Shared = Shared::new(|| {
    let (busy, patient) = (compile(include_str!("../programs/busy.c")), compile(include_str!("../programs/patient.c")));
    let image = Image::scratch().file("/program", &busy, 0o755).file("/patient", &patient, 0o755);
    // What another file executes is another program, whose uses are told again.
    let image = image.file("/again", &busy, 0o755).file("/before", b"", 0o644).directory("/tmp", 0o1777);
    let image = (0..FILES).fold(image, |image, number| image.file(&format!("/many/{number}"), b"x", 0o644));
    image.change(r#"ENTRYPOINT ["/program"]"#)
});

/// The numbers of the files in /many that this program used in this way.
fn numbers(seen: &Observation, program: &str, access: Access, sense: Sense) -> BTreeSet<usize> {
    let by = |used: &PathUse| seen.processes[used.process as usize].executable == program.as_bytes();
    let uses = seen.uses.iter().filter(|used| (used.access, used.sense) == (access, sense) && by(used));
    uses.filter_map(|used| std::str::from_utf8(used.path.strip_prefix(b"/many/")?).ok()?.parse().ok()).collect()
}

#[track_caller]
fn assert_complete(seen: &Observation) {
    assert!(seen.end.complete && !seen.end.tail_unknown && seen.end.losses.is_empty(), "{:?}", seen.end);
    assert_eq!(seen.end.counters.lost, 0);
    assert_eq!(seen.end.counters.received, seen.end.counters.resolved);
}

/// Runs the image to its end, in which nothing may be lost.
fn complete(image: &Image, command: &str, sensor: &str) -> Observation {
    let words =
        [NO_HTTP, "--sensor", sensor, "--continue-after", "app-exit", "--observation-out", "seen.jsonl", "--cmd", command];
    let seen = Slim::observe(image, &words).run().ok().observation("seen.jsonl");
    assert_complete(&seen);
    seen
}

/// A million by each, in the nightly run.
fn many_uses_by_the_target_and_many_by_a_command(engine: Engine) {
    let rounds = nightly(5, 25);
    let _turn = heavy();
    let image = MANY.on(engine);
    let all: BTreeSet<usize> = (0..FILES).collect();
    let (target, command) = (format!("{FILES} {rounds} 4 stay"), format!("/again {FILES} {rounds} 4 join"));
    let words = [NO_HTTP, "--observation-out", "seen.jsonl", "--cmd", &target, "--exec", &command];
    // Each time is as the first.
    for _ in 0..nightly(1, 3) {
        let seen = Slim::observe(&image, &words).run().ok().observation("seen.jsonl");
        assert_complete(&seen);
        assert!(seen.end.counters.received >= 2 * (FILES * rounds) as u64, "{:?}", seen.end.counters);
        for program in ["/program", "/again"] {
            for (access, sense) in
                [(Access::Open, Sense::Notify), (Access::Open, Sense::Fanotify), (Access::Lookup, Sense::Notify)]
            {
                assert!(numbers(&seen, program, access, sense) == all, "{program} {access:?} {sense:?}");
            }
        }
    }
}

/// Files that are opened right before an end.
const LAST: usize = 20_000;

fn assert_last(seen: &Observation, program: &str, senses: &[Sense]) {
    for sense in senses {
        assert!(numbers(seen, program, Access::Open, *sense) == (0..LAST).collect(), "{program} {sense:?}");
    }
}

fn the_last_moment_before_an_exit_counts(engine: Engine) {
    let _turn = heavy();
    let image = MANY.on(engine);
    for end in ["exit", "exit_group"] {
        let seen = complete(&image, &format!("{LAST} 1 1 {end}"), "full");
        assert_last(&seen, "/program", &[Sense::Notify, Sense::Fanotify]);
        let seen = complete(&image, &format!("{LAST} 1 1 {end}"), "fanotify");
        assert_last(&seen, "/program", &[Sense::Fanotify]);
    }
    // While the others are not done: of its own nothing lacks.
    let seen = complete(&image, &format!("{LAST} 1 4 exit"), "full");
    let own: BTreeSet<usize> = (0..LAST).step_by(4).collect();
    assert!(numbers(&seen, "/program", Access::Open, Sense::Fanotify).is_superset(&own));
}

/// A command that kills itself, beside the target.
fn the_last_moment_before_a_commands_kill_counts(engine: Engine) {
    let _turn = heavy();
    let image = MANY.on(engine);
    let command = format!("/again {LAST} 1 1 kill");
    let words = [NO_HTTP, "--observation-out", "seen.jsonl", "--cmd", "1 1 1 stay", "--exec", &command];
    let seen = Slim::observe(&image, &words).run().ok().observation("seen.jsonl");
    assert_complete(&seen);
    assert_last(&seen, "/again", &[Sense::Notify]);
    // Whose the last events of the other sense are is not known any more, as there is no such process.
    let opened: BTreeSet<usize> =
        ["/again", ""].iter().flat_map(|by| numbers(&seen, by, Access::Open, Sense::Fanotify)).collect();
    assert!(opened == (0..LAST).collect());
}

/// The target is killed from outside, and with it the sensor.
#[test]
fn the_last_moment_before_a_kill_counts() {
    let _turn = heavy();
    let image = MANY.on(Engine::Docker);
    let label = format!("test={}", unique("label"));
    let target = format!("{LAST} 1 1 stay");
    let words = ["build", &image.name, NO_HTTP, "--label", &label, "--cmd", &target, "--observation-out", "seen.jsonl"];
    let mut run = Running::start(&[&words[..], &["--continue-after", "app-exit"]].concat(), &[]);
    docker(&["kill", &container_that_says(&label, "done")]);
    assert_eq!(run.end(), 5, "{}", run.said());
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.exit_code, seen.end.complete, seen.end.counters.lost), (Some(137), true, 0));
    // The kernel kills the sensor with the target. Now and then it lives long enough to tell that all was told.
    assert_eq!(seen.end.tail_unknown, run.said().contains("last moment"), "{}", run.said());
    let senses = if seen.end.tail_unknown { &[Sense::Notify][..] } else { &[Sense::Notify, Sense::Fanotify] };
    assert_last(&seen, "/program", senses);
}

/// Waits for the container with this label whose log begins so.
fn container_that_says(label: &str, words: &str) -> String {
    eventually("the container", || {
        let id = Client::default().labelled(label).first()?["Id"].as_str()?.to_owned();
        docker_output(&["logs", &id]).stdout.starts_with(words.as_bytes()).then_some(id)
    })
}

/// Runs a program that uses many files while `stall` keeps the sensor's records from being read; it gets the running slim
/// and what lets the program go on.
fn stalled(variables: &[(&str, &str)], stall: impl FnOnce(&Running, &dyn Fn())) {
    let image = MANY.on(Engine::Docker);
    let files = FILES.to_string();
    let label = format!("test={}", unique("label"));
    let words = [
        "build",
        &image.name,
        NO_HTTP,
        "--entrypoint",
        "/patient",
        "--cmd",
        &files,
        "--continue-after",
        "app-exit",
        "--label",
        &label,
    ];
    let mut run = Running::start(&[&words[..], &NO_RESULT].concat(), variables);
    let container = container_that_says(&label, "ready");
    run.until_it_says("waiting until the program ends");
    stall(&run, &|| drop(docker(&["cp", "/dev/null", &format!("{container}:/tmp/go")])));
    assert_eq!(run.end(), 0, "{}", run.said());
    let seen = run.observation("seen.jsonl");
    assert_complete(&seen);
    for sense in [Sense::Notify, Sense::Fanotify] {
        assert!(numbers(&seen, "/patient", Access::Open, sense) == (0..FILES).collect(), "{sense:?}");
    }
}

/// How long nobody reads what the monitor writes.
const STALL: Duration = Duration::from_secs(10);

#[test]
fn a_stalled_way_to_the_controller_loses_nothing() {
    let proxy = Proxy::new();
    stalled(&[("DOCKER_HOST", &proxy.host())], |_, go| {
        let stalled = proxy.stall();
        go();
        std::thread::sleep(STALL);
        drop(stalled);
    });
}

#[test]
fn a_stopped_controller_loses_nothing() {
    stalled(&[], |run, go| {
        run.send(Signal::SIGSTOP);
        go();
        std::thread::sleep(STALL);
        run.send(Signal::SIGCONT);
    });
}

fn files_that_are_gone_and_pointers_to_nothing(engine: Engine) {
    let mut image = Image::scratch().file("/program", &compile(include_str!("../programs/vanish.c")), 0o755);
    for name in ["deleted", "renamed", "replaced", "replaced-by-renaming", "how"] {
        image = image.file(&format!("/data/{name}"), b"x", 0o644);
    }
    let image = image.change(r#"ENTRYPOINT ["/program"]"#).build_for(engine);
    let words = [NO_HTTP, "--show-clogs", "--observation-out", "seen.jsonl"];
    let run = Slim::keep(&image, &words).run().ok();
    let log: String = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(|line| format!("{line}\n")).collect();
    let (_, plain, _) = behaviour(&image.run(&[], &[]));
    assert_eq!(plain.matches("error 14").count(), 4, "{plain}");
    assert_eq!(log, plain);
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    let used = |path: &str, access| seen.uses.iter().any(|used| used.path == path.as_bytes() && used.access == access);
    for (path, access) in [
        ("/data/deleted", Access::Open),
        ("/data/deleted", Access::Change),
        ("/data/renamed", Access::Open),
        ("/data/new-name", Access::Change),
        ("/data/replaced", Access::Open),
        ("/data/replaced", Access::Write),
        ("/data/replaced-by-renaming", Access::Open),
        ("/data/replaced-by-renaming", Access::Change),
        ("/data/missing", Access::Open),
    ] {
        assert!(used(path, access), "{path} {access:?}");
    }
    // They are kept, and are what they are in the image, whatever became of them in the run.
    let (before, kept) = (image.entries(), entries(&image.slim_layer()[..]));
    for name in ["deleted", "renamed", "replaced", "replaced-by-renaming"] {
        let path = format!("data/{name}").into_bytes();
        assert_eq!(kept[&path].content, before[&path].content, "{name}");
    }
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
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that waits until it may use its files.
static PATIENT: Shared = Shared::new(|| {
    let image =
        Image::scratch().file("/program", &compile(include_str!("../programs/patient.c")), 0o755).file("/before", b"", 0o644);
    let image = (0..2_000).fold(image, |image, number| image.file(&format!("/many/{number}"), b"x", 0o644));
    image.directory("/tmp", 0o1777).change(r#"ENTRYPOINT ["/program"]"#)
});

/// Nothing is put into the daemon.
const NO_RESULT: [&str; 5] = ["--verify=off", "--output", "docker-archive:result.tar", "--observation-out", "seen.jsonl"];

/// Starts a build of an image whose program waits until it may use so many files, and kills processes of its sensor.
fn with_killed(files: usize, victims: &[usize]) -> (Running, String) {
    let (image, files) = (PATIENT.on(Engine::Docker), files.to_string());
    let label = format!("test={}", unique("label"));
    let words =
        ["build", &image.name, NO_HTTP, "--cmd", &files, "--continue-after", "app-exit", "--show-clogs", "--label", &label];
    let run = Running::start(&[&words[..], &NO_RESULT].concat(), &[]);
    let container = container_that_says(&label, "ready");
    let processes = eventually("the monitor", || Some(monitors(&container)).filter(|processes| processes.len() == 2));
    for victim in victims {
        kill(Pid::from_raw(processes[*victim].parse().unwrap()), Signal::SIGKILL).unwrap();
    }
    (run, container)
}

/// The sensor's processes, in the order in which they are started.
const GUARD: usize = 0;
const WORKER: usize = 1;

#[test]
fn a_killed_monitor_is_a_loss_and_the_program_works_on() {
    const FILES: usize = 2_000;
    let _image = PATIENT.on(Engine::Docker);
    let go = |container: &str| docker(&["cp", "/dev/null", &format!("{container}:/tmp/go")]);

    let (mut run, container) = with_killed(FILES, &[WORKER]);
    go(&container);
    assert_eq!(run.end(), 7, "{}", run.said());
    assert!(run.said().contains("the sensor died while the program ran"), "{}", run.said());
    assert!(run.said().contains(&format!("| opened {FILES}")), "the program was disturbed: {}", run.said());

    // Who only guards is not missed.
    let (mut run, container) = with_killed(FILES, &[GUARD]);
    go(&container);
    assert_eq!(run.end(), 0, "{}", run.said());
    let seen = run.observation("seen.jsonl");
    assert_complete(&seen);
    assert!(numbers(&seen, "/program", Access::Open, Sense::Notify) == (0..FILES).collect());
    assert!(run.said().contains(&format!("| opened {FILES}")), "the program was disturbed: {}", run.said());
}

#[test]
fn a_killed_monitor_of_a_program_that_never_ends_is_a_loss() {
    let _image = PATIENT.on(Engine::Docker);
    // It is killed at last, which is not taken for the reason of the monitor's end.
    let _image = PATIENT.on(Engine::Docker);
    // It is killed at last, which is not taken for the reason of the monitor's end.
    let (mut run, _) = with_killed(0, &[WORKER]);
    assert_eq!(run.end(), 7, "{}", run.said());
    let (mut run, _) = with_killed(0, &[GUARD, WORKER]);
    assert_eq!(run.end(), 7, "{}", run.said());
    assert!(run.said().contains("the sensor ended while the program ran"), "{}", run.said());
}
