//! `--sensor`: which senses watch, and what is known with each; what the build depends on works with any of them.

use slim::observe::observation::{Access, Fanotify, Sense};

use super::ways;
use crate::support::{Builder, Engine, NO_HTTP, Slim, on_both_engines, web};

on_both_engines!(notify_alone_needs_no_fanotify, fanotify_alone_traps_no_path, a_server_is_probed_whatever_watches_it);

/// A seccomp profile that allows everything but fanotify.
const NO_FANOTIFY: &str =
    r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["fanotify_init"],"action":"SCMP_ACT_ERRNO"}]}"#;

/// A server that is ready when it listens, with a health check.
fn served() -> Builder {
    web().change("HEALTHCHECK CMD cat /etc/passwd")
}

fn notify_alone_needs_no_fanotify(engine: Engine) {
    let run =
        Slim::observe(&ways::image().build_for(engine), &[NO_HTTP, "--sensor", "notify", "--observation-out", "seen.jsonl"])
            .run()
            .ok();
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.header.notify, &seen.header.fanotify), (true, &Fanotify::Off));
    assert_eq!(seen.header.options, ["--sensor notify"]);
    assert_eq!((seen.end.complete, seen.end.counters.opens), (true, 0));
    assert!(seen.uses.iter().all(|used| used.sense == Sense::Notify));
    // The plan finds by itself what only the kernel opens.
    for path in ["/w/script", "/w/interpreter", "/w/stat", "/w/readlink"] {
        assert!(run.keeps(path), "{path}");
    }
    let evidence = &run.report()["evidence"];
    assert_eq!((&evidence["notify"], &evidence["fanotify"]), (&true.into(), &"off".into()));
    assert_eq!(run.warnings(), [""; 0]);
}

fn fanotify_alone_traps_no_path(engine: Engine) {
    // What verification, which watches with both senses, would put back is not of this.
    let words = [NO_HTTP, "--sensor", "fanotify", "--observation-out", "seen.jsonl"];
    let run = Slim::observe(&ways::image().build_for(engine), &words).run().ok();
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.header.notify, &seen.header.fanotify), (false, &Fanotify::Filesystem));
    assert!(seen.end.complete);
    assert!(seen.uses.iter().all(|used| used.sense == Sense::Fanotify));
    let used = |path: &str, access| seen.uses.iter().any(|used| used.path == path.as_bytes() && used.access == access);
    assert!(used("/ways", Access::Exec) && used("/w/open", Access::Open) && used("/w/thread-63", Access::Open));
    assert!(!used("/w/stat", Access::Lookup));
    assert_eq!((run.reasons("/w/stat"), run.reasons("/w/readlink")), (vec![], vec![]));
    // Which calls were made is not known, rather than said to be few.
    assert!(seen.syscalls.is_empty());
    assert_eq!(run.report()["evidence"]["notify"], false);
}

fn a_server_is_probed_whatever_watches_it(engine: Engine) {
    let image = served().build_for(engine);
    for sensor in ["full", "notify", "fanotify"] {
        let words = ["--http-probe", "--exec", "cat /etc/group", "--sensor", sensor, "--observation-out", "seen.jsonl"];
        let run = Slim::observe(&image, &words).run().ok();
        let seen = run.observation("seen.jsonl");
        assert!(seen.end.complete && !seen.end.tail_unknown, "{sensor}");
        assert!(run.requests().iter().any(|(_, request, status)| request == "GET /" && *status == Some(200)), "{sensor}");
        assert_eq!(run.report()["probes"]["health_check"]["exit_code"], 0, "{sensor}");
        let phase = |path: &str| {
            let used = seen.uses.iter().find(|used| used.path == path.as_bytes() && used.access == Access::Open);
            used.map(|used| seen.phases[used.phase as usize].name.as_str()).unwrap_or_else(|| panic!("{sensor}: {path}"))
        };
        assert_eq!(phase("/etc/group"), "cat /etc/group", "{sensor}");
        assert!(run.seconds("observe: ready") < 5.0, "{sensor}: the port was not heard of");
    }
}

#[test]
fn where_fanotify_is_refused() {
    // A profile of the user's is a daemon's option.
    let image = served().load();
    let build = |words: &[&str]| {
        let slim = Slim::build(&image, &[&["--security-opt", "seccomp=no-fanotify.json", "--http-probe"], words].concat());
        std::fs::write(slim.folder().join("no-fanotify.json"), NO_FANOTIFY).unwrap();
        slim.run()
    };
    let refused = "the kernel refuses fanotify in this container (Operation not permitted";
    build(&["--sensor", "full"]).fails(3, refused).fails(3, "`--sensor full` needs it: use `--sensor auto`");
    build(&["--sensor", "fanotify"]).fails(3, refused);
    let run = build(&["--observation-out", "seen.jsonl"]).ok();
    let warnings = run.warnings();
    assert!(warnings[0].starts_with("the observation is degraded: fanotify is refused (Operation not permitted"), "{warnings:?}");
    let seen = run.observation("seen.jsonl");
    assert!(seen.end.complete && matches!(seen.header.fanotify, Fanotify::Refused(_)));
    assert_eq!(build(&["--sensor", "notify"]).ok().warnings(), [""; 0]);
}
