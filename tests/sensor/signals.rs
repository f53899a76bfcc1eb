//! Signals and ends: who is hit by kill(-1), who is reaped, how a target dies. The sensor's own processes beside the
//! target are neither hit nor seen by any of it.

use slim::observe::observation::Sense;

use crate::support::{Engine, Image, Slim, busybox, compile, docker, on_both_engines, unique, until};

on_both_engines!(
    kill_everybody,
    a_target_that_ends_every_process_it_sees,
    deaths_have_their_exit_codes,
    an_init_that_demands_to_be_the_first_process,
);

/// The image in a daemon, whose containers are what every other is compared with.
fn reference(image: &Image) -> Option<Image> {
    (image.engine() == Engine::Embedded).then(|| image.in_docker())
}

/// Runs the image plainly, under Docker, and observed; the log of both.
fn both(image: &Image, command: &str, options: &[&str], sensor: &str) -> (String, String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let reference = reference(image);
    let plain = reference.as_ref().unwrap_or(image).run(options, &words);
    let flags = [
        "--http-probe=false",
        "--continue-after",
        "app-exit",
        "--show-clogs",
        "--observation-out",
        "seen.jsonl",
        "--sensor",
        sensor,
        "--cmd",
        command,
    ];
    let run = Slim::observe(image, &[&flags, options].concat()).run().ok();
    let observation = run.observation("seen.jsonl");
    assert_eq!(observation.end.exit_code, plain.status.code().map(i64::from), "{command}");
    assert_eq!(observation.end.counters.lost, 0);
    assert!(observation.end.complete);
    let log = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(|line| format!("{line}\n")).collect();
    (String::from_utf8_lossy(&plain.stdout).into_owned(), log)
}

fn kill_everybody(engine: Engine) {
    let program = compile(include_str!("../programs/signals.c"));
    let image = Image::scratch().file("/signals", &program, 0o755).build_for(engine);
    let pairs = "0 15 0 9 1000 15 1000 0 3000 15 3000 18 0 65 0 -1";
    for sensor in ["full", "fanotify"] {
        let (plain, observed) = both(&image, &format!("/signals {pairs}"), &[], sensor);
        assert_eq!(plain.matches("reaped 5, then error 10").count(), 8, "{plain}");
        assert_eq!(observed, plain, "{sensor}");
    }
    // A root without CAP_KILL may signal root's processes only.
    let (plain, observed) = both(&image, "/signals 0 15 0 9", &["--cap-drop", "KILL"], "auto");
    assert_eq!(plain.matches("spared").count(), 6, "{plain}");
    assert_eq!(observed, plain);
}

fn a_target_that_ends_every_process_it_sees(engine: Engine) {
    let program = compile(include_str!("../programs/shutdown.c"));
    let image = Image::scratch().file("/shutdown", &program, 0o755).file("/late", b"", 0o644).build_for(engine);
    let (plain, observed) = both(&image, "/shutdown", &[], "auto");
    assert_eq!(plain, "ended 2, then read /late: 0\n");
    assert_eq!(observed, plain);
}

fn deaths_have_their_exit_codes(engine: Engine) {
    let program = compile(include_str!("../programs/deaths.c"));
    let image = Image::scratch().file("/deaths", &program, 0o755).file("/last", b"", 0o644).build_for(engine);
    let reference = reference(&image);
    for (how, code) in [("exit", 3), ("exit_group", 4), ("thread", 5), ("abort", 139), ("segv", 139), ("child", 6)] {
        let words = ["--http-probe=false", "--observation-out", "seen.jsonl", "--cmd", &format!("/deaths {how}")];
        // A failure is nothing to build from, but it was observed all the same.
        let run = Slim::build(&image, &words).run().fails(5, &format!("the program ended with exit code {code} by itself"));
        let observation = run.observation("seen.jsonl");
        let end = &observation.end;
        assert_eq!((end.exit_code, end.complete, end.counters.lost), (Some(code), true, 0), "{how}");
        let plain = reference.as_ref().unwrap_or(&image).run(&[], &["/deaths", how]);
        assert_eq!(plain.status.code().map(i64::from), Some(code), "{how}");
        assert!(observation.uses.iter().any(|used| used.path == b"/last" && used.sense == Sense::Notify), "{how}");
        // Where the kernel ends everything at once, the monitor may or may not have had its last word.
        assert!(code > 128 || !end.tail_unknown, "{how}");
        assert_eq!(run.stderr().contains("last moment"), end.tail_unknown, "{how}: {}", run.stderr());
    }
}

/// What a program says until it is stopped, with its exit code and the seconds that it takes to stop.
fn stopped(image: &Image) -> (String, i64, f64) {
    let container = unique("stopped");
    docker(&["run", "-d", "--name", &container, &image.name]);
    until("the program to be ready", || docker(&["logs", &container]).contains("ready"));
    let begun = std::time::Instant::now();
    docker(&["stop", &container]);
    let seconds = begun.elapsed().as_secs_f64();
    let log = docker(&["logs", &container]);
    let code = docker(&["inspect", "-f", "{{.State.ExitCode}}", &container]).parse().unwrap();
    docker(&["rm", &container]);
    (log, code, seconds)
}

fn an_init_that_demands_to_be_the_first_process(engine: Engine) {
    let program = compile(include_str!("../programs/init.c"));
    for signal in ["SIGTERM", "SIGUSR2"] {
        let image = Image::scratch()
            .file("/init", &program, 0o755)
            .cmd(&["/init"])
            .change(&format!("STOPSIGNAL {signal}"))
            .build_for(engine);
        let reference = reference(&image);
        let (log, code, seconds) = stopped(reference.as_ref().unwrap_or(&image));
        assert!(log.contains("reaped with 3: 1\nreaped with 4: 1\nreaped with 5: 1\nreaped with 143: 1"), "{log}");
        let words = ["--http-probe=false", "--continue-after", "2", "--show-clogs", "--observation-out", "seen.jsonl"];
        let run = Slim::observe(&image, &words).run().ok();
        let observed: Vec<String> = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(str::to_owned).collect();
        assert_eq!(observed.join("\n"), log, "{signal}");
        let end = run.observation("seen.jsonl").end;
        assert_eq!((end.exit_code, end.complete), (Some(code), true), "{signal}");
        // It stops by itself, in the time that it takes, not by being killed when Docker's patience ends.
        assert!(
            seconds > 1.4 && run.seconds("observe: stop") > 1.4 && run.seconds("observe: stop") < 8.0,
            "{seconds} {}",
            run.seconds("observe: stop")
        );
    }
}

/// The engine's init waits for its signals too, and hands them on.
#[test]
fn the_engines_init_hears_the_stop_signal() {
    // A process before the program is a daemon's.
    let image = busybox().shell_cmd("sleep 1000").load();
    let words = ["--http-probe=false", "--continue-after", "1", "--init", "--observation-out", "seen.jsonl"];
    let run = Slim::observe(&image, &words).run().ok();
    assert_eq!(run.warnings(), [""; 0]);
    assert_eq!(run.observation("seen.jsonl").end.exit_code, Some(0));
}
