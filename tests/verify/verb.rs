//! `slim verify`: an image of any tool against its original, or against what was seen of that.

use serde_json::{Value, json};

use crate::support::{Builder, Engine, Image, Run, Slim, busybox, docker_output, on_both_engines};

on_both_engines!(an_image_that_does_the_same);

/// A server with two pages, and more.
fn server(more: &[(&str, &str)]) -> Builder {
    let pages = [("/www/index.html", "<a href=/linked.html>more</a>"), ("/www/linked.html", "linked")];
    let files = pages.iter().chain(more);
    let image = files.fold(busybox(), |image, (path, content)| image.file(path, content.as_bytes(), 0o644));
    image.change("EXPOSE 8080").shell_cmd("httpd -f -p 8080 -h /www")
}

/// It has a page that nothing links to.
fn original() -> Builder {
    server(&[("/www/own.html", "own")])
}

/// The same as another tool would leave it, without that page.
fn without_own_page() -> Builder {
    server(&[])
}

#[track_caller]
fn verify(image: &Image, against: &str, words: &[&str]) -> Run {
    Slim::with(&image.client, &[&["verify", &image.source(), "--against", against, "--output-format", "json"], words].concat())
        .run()
}

fn outcome(run: &Run) -> Value {
    serde_json::from_str(&run.stdout()).unwrap_or_else(|error| panic!("{error}: {}", run.stdout()))
}

fn an_image_that_does_the_same(engine: Engine) {
    let (image, other) = (original().build_for(engine), without_own_page().build_for(engine));
    // The page that it lacks is asked for by nobody.
    let run = verify(&other, &image.source(), &["--report", "verify.json"]).ok();
    let told = outcome(&run);
    assert_eq!((&told["verdict"], &told["requests"], &told["differences"]), (&json!("same"), &json!(2), &json!([])));
    let report: Value = serde_json::from_slice(&std::fs::read(run.path("verify.json")).unwrap()).unwrap();
    assert_eq!(report, told);
}

#[test]
fn a_script_asks_for_more() {
    let (image, other) = (original().build(), without_own_page().build());
    let script = tempfile::NamedTempFile::new().unwrap();
    let probes = json!({"commands": [{"resource": "/own.html"}], "exec": ["cat /www/own.html"]});
    std::fs::write(script.path(), probes.to_string()).unwrap();
    let path = script.path().to_str().unwrap();
    let run = verify(&other, &image.source(), &["--probe-script", path]);
    assert_eq!(run.code(), 8, "{}", run.stderr());
    let told = outcome(&run);
    assert_eq!((&told["verdict"], &told["requests"], &told["commands"]), (&json!("differs"), &json!(3), &json!(1)));
    let differs = |probe: &str, what: &str, expected: &str| {
        let differences = told["differences"].as_array().unwrap();
        let is_it = |found: &&Value| found["probe"] == probe && found["what"] == what && found["expected"] == expected;
        assert!(differences.iter().any(|found| is_it(&found)), "{probe} {what}: {told:#}");
    };
    differs("GET /own.html on port 8080", "status", "200");
    differs("`cat /www/own.html`", "exit code", "0");
    differs("`cat /www/own.html`", "standard output", "own");
    assert_eq!(told["suspects"][0]["path"], "/www/own.html", "{told:#}");

    // What runs at all, and answers in the same class, is enough for some: a missing page is not.
    let class = verify(&other, &image.source(), &["--probe-script", path, "--verify", "run"]);
    assert_eq!(class.code(), 8);
    assert_eq!(outcome(&class)["differences"][0]["what"], "status");
}

#[test]
fn a_saved_observation_stands_for_the_original() {
    let (image, other) = (original().build(), without_own_page().build());
    let words = ["--http-probe-cmd", "/own.html", "--exec", "cat /www/index.html", "--observation-out", "seen.jsonl"];
    let seen = Slim::observe(&image, &words).run().ok();
    let path = seen.path("seen.jsonl");
    let path = path.to_str().unwrap();
    assert_eq!(outcome(&verify(&image, path, &[]).ok())["requests"], 1);
    let run = verify(&other, path, &[]);
    assert_eq!((run.code(), &outcome(&run)["differences"][0]["what"]), (8, &json!("status")), "{}", run.stderr());

    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "{}").unwrap();
    let words = ["verify", &image.source(), "--against", path, "--probe-script", script.path().to_str().unwrap()];
    Slim::new(&words).run().fails(2, "an observation has no answers to new probes");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let image = original().load();
    Slim::new(&["verify", &image.name, "--against", &image.name, "--verify", "off"])
        .run()
        .fails(2, "then there is nothing to do");
    Slim::new(&["verify", &image.name, "--against", "no-such-image:1"]).run().fails(4, "no-such-image:1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nothing").unwrap();
    Slim::new(&["verify", &image.name, "--against", file.path().to_str().unwrap()]).run().fails(2, "--against");
    let left = docker_output(&["ps", "-aq", "--filter", &format!("ancestor={}", image.name)]);
    assert!(left.stdout.is_empty(), "containers are left");
}
