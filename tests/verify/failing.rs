//! Programs that do not work, from the start or only as a slim image: no success, and nothing is tagged.

use serde_json::json;

use super::{Change, Outside, PlanFile, Tag, assert_nothing_is_left, build_of_plan, page, verification};
use crate::support::{Engine, Image, NO_HTTP, Slim, busybox, docker_architecture, on_both_engines};

on_both_engines!(a_slim_image_that_does_not_stop_is_no_success, what_is_kept_unverified_says_so);

/// Builds, which must fail; nothing has the name then.
#[track_caller]
fn fails(image: &Image, words: &[&str], code: i32, text: &str) {
    Slim::build(image, words).run().fails(code, text);
    assert!(!image.is_minified());
}

#[test]
fn an_original_that_does_not_work_is_no_success() {
    let ends = busybox().cmd(&["sh", "-c", "exit 3"]).build();
    fails(&ends, &[NO_HTTP], 5, "the program ended with exit code 3");
    let deaf = page().shell_cmd("sleep 1000").build();
    fails(&deaf, &["--http-probe", "--start-timeout", "1"], 6, "the program does not listen on port 8080 after 1 s");
    let broken = page().file("/www/cgi-bin/broken", b"#!/bin/sh\nprintf 'Status: 500 Broken\\r\\n\\r\\n'\n", 0o755).build();
    let asked = ["--http-probe-cmd", "/cgi-bin/broken", "--http-probe-cmd", "POST:/cgi-bin/broken"];
    fails(&broken, &asked, 6, "each of the 2 HTTP probes was answered with a server error, such as ");
    // One good answer is something to compare.
    Slim::build(&broken, &[&asked[..], &["--http-probe-cmd", "/index.html"]].concat()).run().ok();
    let unhealthy = page().change("HEALTHCHECK --retries=1 CMD echo too bad; exit 1").build();
    fails(&unhealthy, &[], 6, "the image's health check failed with exit code 1: too bad");
    let run = Slim::build(&unhealthy, &["--verify=off"]).run().ok();
    assert!(run.warnings().contains(&"the image's health check failed with exit code 1".to_owned()), "{:?}", run.warnings());
}

#[test]
fn an_original_that_answers_otherwise_on_its_second_start_is_no_success() {
    let outside = Outside::new();
    let ask = format!("wget -q -O - http://127.0.0.1:{}/", outside.port());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "mkdir /tmp/www; [ $({ask}) = 1 ] && echo 'set it up' > /tmp/www/index.html || echo 'it was set up' > /tmp/www/index.html; \
         httpd -f -p 127.0.0.1:{free} -h /tmp/www"
    );
    let image = busybox().shell_cmd(&script).build();
    let run = Slim::build(&image, &["--network", "host", "--http-probe"]).run();
    let run = run.fails(8, "the original itself does something else when it is run again").fails(8, "it was set up");
    assert_eq!(verification(&run)["verdict"], "differs");
    assert!(!image.is_minified());
}

fn a_slim_image_that_does_not_stop_is_no_success(engine: Engine) {
    let script = "trap '/app/stop && exit 0' TERM; while :; do sleep 1000 & wait; done";
    let image = busybox().file("/app/stop", b"#!/bin/sh\ntrue\n", 0o755).config(json!({
        "architecture": docker_architecture(), "os": "linux", "config": {"Cmd": ["sh", "-c", script], "StopTimeout": 1}
    }));
    let image = image.build_for(engine);
    let words = [NO_HTTP, "--exec", "true"];
    let plan = PlanFile::of(&image, &words).with(&Change::Remove("/app/stop"));
    let tag = Tag::of(&image);
    let run = build_of_plan(&image, &plan, &tag, &[&words[..], &["--verify=strict", "--repair-rounds", "0"]].concat()).run();
    let run = run.fails(8, "program: end after the stop signal: expected `it ended by itself`, got `it had to be killed`");
    assert_nothing_is_left(&run, &tag);
    assert_eq!(verification(&run)["suspects"][0]["path"], "/app/stop");
    let run = build_of_plan(&image, &plan, &tag, &[&words[..], &["--verify=strict"]].concat()).run().ok();
    let repair = json!({"why": "repair", "by": "/bin/busybox", "during": "stop"});
    assert!(run.reasons("/app/stop").contains(&repair), "{:?}", run.reasons("/app/stop"));
}

#[test]
fn a_program_that_is_restarted_over_and_over_is_told_of() {
    let worker = b"#!/bin/sh\ncat /app/settings > /dev/null || exit 1\nexec sleep 1000\n";
    let image = page().file("/app/worker", worker, 0o755).file("/app/settings", b"all", 0o644);
    let image = image.shell_cmd("(while :; do /app/worker; sleep 0.1; done) & httpd -f -p 8080 -h /www");
    let image = image.build();
    let words = ["--http-probe", "--exec", "sleep 2; cat /app/settings"];
    let plan = PlanFile::of(&image, &words).with(&Change::Remove("/app/settings"));
    let words = [&["--verify=strict", "--repair-rounds", "0"], &words[..]].concat();
    let run = build_of_plan(&image, &plan, &Tag::of(&image), &words).run().fails(8, "`/app/worker` was started ");
    assert!(run.stderr().contains(" times, and 1 times in the original image"), "{}", run.stderr());
}

fn what_is_kept_unverified_says_so(engine: Engine) {
    let image = page().build_for(engine);
    let plan = PlanFile::of(&image, &[]).with(&Change::Remove("/www/index.html"));
    let tag = Tag::of(&image);
    let words = ["--verify=strict", "--repair-rounds", "0", "--keep-unverified"];
    let run = build_of_plan(&image, &plan, &tag, &words).run().fails(8, "GET / on port 8080: status: expected `200`, got `404`");
    let tags: &[&str] = if engine == Engine::Docker { &[&tag.name] } else { &[] };
    assert_eq!(run.report()["result"]["tags"], json!(tags));
    assert_eq!(tag.config().1["config"]["Labels"], json!({"unverified": "differs"}));
}
