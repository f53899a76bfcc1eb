//! What a build says when it doesn't end well, with which exit code, and where.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Slim, busybox, docker, unique, web};

#[test]
fn programs_that_do_not_start() {
    let image = |words: &[&str]| busybox().cmd(words).load();
    Slim::build(&image(&["nope", "-x"]), &[])
        .run()
        .fails(5, "the program could not be started: exec: \"nope\": executable file not found in $PATH");
    Slim::build(&image(&["/etc/passwd"]), &["--http-probe"])
        .run()
        .fails(5, "the program could not be started: exec: \"/etc/passwd\": permission denied");
    Slim::build(&image(&["sleep", "9"]), &["--user", "nobody-here"])
        .run()
        .fails(5, "the program could not be started: ")
        .fails(5, "nobody-here");
    Slim::build(&busybox().load(), &[]).run().fails(2, "say what to run with `--entrypoint` or `--cmd`");
}

#[test]
fn programs_that_fail_at_once() {
    let lines = "exec >&2; seq 30; echo 'could not connect to db:5432: Connection refused'; exit 3";
    let image = busybox().cmd(&["sh", "-c", lines]).change("EXPOSE 80").load();
    let run = Slim::build(&image, &["--http-probe"]).run();
    let run = run.fails(5, "the program ended with exit code 3 before it could be probed\nit listened on no port\n");
    let run = run.fails(5, "\nits log ends with:\n  12\n  13\n");
    let run = run.fails(5, "\n  30\n  could not connect to db:5432: Connection refused\n").fails(5, "`--network`");
    let report = run.report();
    assert_eq!((&report["outcome"]["exit_code"], &report["evidence"]["exit_code"]), (&Value::from(5), &Value::from(3)));
    assert!(report["outcome"]["error"].as_str().unwrap().contains("exit code 3"));
    Slim::build(&image, &[]).run().fails(5, "the program ended with exit code 3 by itself");
    // It was exercised: how it ends without is worth a warning.
    let run = Slim::keep(&image, &["--exec", "true"]).run().ok();
    assert_eq!(run.warnings(), ["the program ended by itself, with exit code 3"]);
    let quiet = busybox().cmd(&["false"]).load();
    let run = Slim::build(&quiet, &[]).run().fails(5, "its log is empty");
    assert!(!run.stderr().contains("--network"));
}

#[test]
fn programs_that_die_while_they_are_probed() {
    let dies = "#!/bin/sh\necho dying > /proc/1/fd/1\nkill -TERM 1\nsleep 1000\n";
    let image = busybox()
        .file("/www/index.html", b"<a href=/cgi-bin/die>die</a>", 0o644)
        .file("/www/cgi-bin/die", dies.as_bytes(), 0o755)
        .change("EXPOSE 8080")
        .cmd(&["sh", "-c", "trap 'exit 9' TERM; httpd -f -p 8080 -h /www & wait"])
        .load();
    Slim::build(&image, &[])
        .run()
        .fails(5, "the program ended with exit code 9 while it was probed over HTTP\n")
        .fails(5, "its log ends with:\n  dying\n");
    let kills = ["--http-probe=false", "--exec", "sh -c 'kill -TERM 1; sleep 1000'", "--exec", "true"];
    let run = Slim::build(&image, &kills).run();
    assert!(run.code() == 5 && run.stderr().contains("the program ended with exit code 9 "), "{}", run.stderr());
    // The last command may end it.
    let run = Slim::keep(&image, &kills[..3]).run().ok();
    assert_eq!(run.warnings(), ["the program ended by itself, with exit code 9"]);
}

#[test]
fn the_log_is_shown_where_it_is_wanted() {
    let image = busybox().cmd(&["sh", "-c", "echo \"out $((6 * 7))\"; echo err >&2"]).load();
    let run = Slim::keep(&image, &["--show-clogs"]).run().ok();
    let said = run.stderr();
    assert!(said.contains("| out 42\n") && said.contains("| err\n"), "{said}");
    assert!(!Slim::keep(&image, &[]).run().ok().stderr().contains("out 42"));
}

#[test]
fn standard_output_is_for_the_result() {
    let image = web().load();
    let tag = format!("{}:1", unique("tag"));
    let words = ["--tag", &tag, "--http-probe", "--exec", "true"];
    let run = |more: &[&str]| Slim::keep(&image, &[&words[..], more].concat()).env("NO_COLOR", "1").run().ok();
    let quiet = run(&["--quiet"]);
    assert_eq!((quiet.stdout(), quiet.stderr()), (format!("{tag}\n"), String::new()));
    let json = run(&["--output-format", "json"]);
    let summary: Value = serde_json::from_str(&json.stdout()).unwrap();
    assert_eq!((&summary["tags"][0], &summary["lost"], &summary["commands"]), (&tag.clone().into(), &0.into(), &1.into()));
    assert_eq!(json.stdout().lines().count(), 1);
    let text = run(&[]);
    let said = text.stdout();
    assert!(said.starts_with(&format!("{} -> {tag}\n  size ", image.name)), "{said}");
    assert!(said.contains(", 0 lost\n") && said.ends_with(&format!("try it: docker run --rm {tag}\n")), "{said}");
    // Another test's killed run may have been found before the first step: that is a line of its own.
    let is_plain = text.stderr().lines().any(|line| line.starts_with("starting `sh -c "));
    assert!(is_plain, "plain lines where there is no terminal:\n{}", text.stderr());
    assert!(!(text.stderr() + &said).contains('\x1b'));
    assert!(run(&["--verbose"]).stderr().contains("engine: Docker "));
    docker(&["rmi", &tag]);

    let failed = Slim::build(&image, &["--quiet", "--http-probe-ports", "1", "--start-timeout", "1"]).run().fails(6, "error: ");
    assert_eq!(failed.stdout(), "");
}

#[test]
fn colours_are_for_terminals() {
    let missing = format!("{}:1", unique("missing"));
    let on_terminal = |no_color: &str| {
        let line = format!("'{}' build --pull=false --report off {missing}", env!("CARGO_BIN_EXE_slim"));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", no_color).stdin(Stdio::null());
        let output = script.output().expect("`script` is installed (`tests/run` does that)");
        assert_eq!(output.status.code(), Some(4));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(on_terminal("").contains("\x1b[1;31merror: \x1b[0m"), "{:?}", on_terminal(""));
    assert!(on_terminal("1").contains("error: ") && !on_terminal("1").contains("\x1b[1;31m"), "{:?}", on_terminal("1"));
}
