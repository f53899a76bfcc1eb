//! How an image is exercised: HTTP, commands, the health check, and what is waited for.

use serde_json::json;

use crate::support::{
    Builder, Engine, Image, NO_HTTP, Run, Slim, busybox, compile, docker, nightly, on_both_engines, shell, unique,
};

on_both_engines!(
    by_default_an_exposed_port_that_answers_is_crawled,
    by_default_a_port_that_speaks_something_else_is_a_warning,
    servers_on_loopback_are_reached,
    with_the_hosts_network_only_the_programs_own_ports_are_probed,
    commands_run_without_a_shell_one_after_the_other,
    commands_that_cannot_run_are_errors_that_say_why,
    when_the_program_has_ended_commands_get_containers_of_their_own,
    a_script_is_read_by_the_images_shell,
    large_outputs_are_taken_to_their_end,
    a_health_check_is_run_until_it_succeeds,
    a_command_that_does_not_end_is_an_error,
    servers_are_reached_whatever_the_network,
);

/// Busybox with a few pages; what serves them is up to the test.
fn pages() -> Builder {
    busybox()
        .file("/www/index.html", b"<a href='/about.html'>about</a> <a href=/logout>out</a>", 0o644)
        .file("/www/about.html", b"<img src=deep/one.png>", 0o644)
        .file("/www/deep/one.png", b"one", 0o644)
        .file("/www/logout", b"out", 0o644)
        .file("/www/hidden.html", b"hidden", 0o644)
}

/// An image that serves its pages on port 8080.
fn web() -> Builder {
    pages().shell_cmd("httpd -f -p 8080 -h /www")
}

/// A program that waits until it is told to stop.
fn waiter() -> Vec<u8> {
    compile(
        "#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
         static void stop(int s) { _exit(0); }\nint main() { signal(SIGTERM, stop); for (;;) pause(); }",
    )
}

/// An image without a shell, which waits; `/bin/busybox` is there, but under no name that a shell would have.
fn shell_less() -> Builder {
    Image::scratch()
        .file("/wait", &waiter(), 0o755)
        .file("/bin/busybox", &std::fs::read("/bin/busybox").unwrap(), 0o755)
        .file("/data/one", b"one", 0o644)
        .file("/data/two", b"two", 0o644)
        .cmd(&["/wait"])
}

/// A program that ends at once, in an image with a few files.
fn one_shot() -> Builder {
    busybox().file("/data/one", b"one", 0o644).file("/data/two", b"two", 0o644).cmd(&["true"])
}

#[track_caller]
fn assert_crawled(run: &Run, port: u64) {
    let expected = ["GET /", "GET /about.html", "GET /deep/one.png"];
    assert_eq!(run.requests(), expected.map(|request| (port, request.to_owned(), Some(200))), "{}", run.stderr());
    assert!(run.keeps("/www/deep/one.png") && !run.keeps("/www/hidden.html") && !run.keeps("/www/logout"));
}

fn by_default_an_exposed_port_that_answers_is_crawled(engine: Engine) {
    let image = web().change("EXPOSE 8080").build_for(engine);
    let run = Slim::observe(&image, &[]).run().ok();
    assert_crawled(&run, 8080);
    assert_eq!(run.warnings(), [""; 0]);
    assert!(run.is_used("/www/index.html", "GET / (/bin/busybox, open)"));
    assert!(run.is_used("/www/about.html", "crawl GET / depth 1 (/bin/busybox, open)"));
    assert!(run.is_used("/www/deep/one.png", "crawl GET / depth 2 (/bin/busybox, open)"));
}

#[test]
fn by_default_a_port_that_is_only_listened_on_is_crawled_too() {
    assert_crawled(&Slim::observe(&web().build(), &[]).run().ok(), 8080);
}

#[test]
fn by_default_a_late_server_is_waited_for_also_where_it_exposes_nothing() {
    let image = pages().shell_cmd("(sleep 3; exec httpd -f -p 8080 -h /www)").build();
    let run = Slim::observe(&image, &[]).run().ok();
    assert_crawled(&run, 8080);
    assert_eq!(run.warnings(), [""; 0]);
}

fn by_default_a_port_that_speaks_something_else_is_a_warning(engine: Engine) {
    let image = busybox().shell_cmd("nc -ll -p 6379 -e cat").change("EXPOSE 6379").build_for(engine);
    let run = Slim::observe(&image, &["--continue-after", "0"]).run().ok();
    assert_eq!(run.warnings(), ["no port speaks HTTP: the program was not exercised over HTTP"]);
    Slim::build(&image, &["--http-probe"])
        .run()
        .fails(6, "no HTTP probe was answered\nport 6379 does not speak HTTP: it said \"GET / HTTP/1.1")
        .fails(6, "\nit listened on [::]:6379\nits log is empty");
}

#[test]
fn by_default_an_exposed_port_that_is_not_used_is_a_warning() {
    let image = shell_less().change("EXPOSE 7777").change("EXPOSE 53/udp").build();
    let run = Slim::observe(&image, &["--start-timeout", "1"]).run().ok();
    let warnings = run.warnings();
    assert_eq!(warnings[0], "the program does not listen on port 7777: nothing was probed over HTTP");
    assert!(warnings[1].starts_with("nothing was exercised: "), "{warnings:?}");
}

#[test]
fn a_probe_that_was_asked_for_must_be_answered() {
    let image = busybox().shell_cmd("seq 30; sleep 1000").change("EXPOSE 8080").build();
    let run = Slim::build(&image, &["--http-probe", "--start-timeout", "2"]).run();
    let run =
        run.fails(6, "the program does not listen on port 8080 after 2 s\nit listened on no port\nits log ends with:\n  11\n");
    assert!(run.stderr().contains("\n  30\n"));
    assert_eq!(run.report()["outcome"]["exit_code"], 6, "the report is written all the same");
    // To say what to ask is to ask.
    for words in [["--http-probe-cmd", "/"], ["--http-probe-ports", "80"]] {
        Slim::build(&image, &[&words[..], &["--start-timeout", "1s"]].concat()).run().fails(6, "after 1 s");
    }
}

#[test]
fn nothing_is_probed_where_that_is_not_wanted() {
    let image = web().change("EXPOSE 8080").build();
    for off in ["--http-probe=false", "--http-probe-off"] {
        let run = Slim::observe(&image, &[off, "--exec", "true"]).run().ok();
        assert_eq!((run.requests(), run.warnings()), (vec![], vec![]));
        assert!(!run.keeps("/www/index.html"));
    }
}

#[test]
fn several_ports_are_asked_each() {
    let servers = "httpd -p 8080 -h /www; sleep 0.1; httpd -p 8082 -h /www; sleep 1000";
    let image = pages().shell_cmd(&format!("({servers})")).change("EXPOSE 8080 8081 8082").build();
    let asked = |run: &Run| run.requests().into_iter().map(|(port, request, _)| format!("{port} {request}")).collect::<Vec<_>>();
    let run = Slim::observe(&image, &["--http-probe-cmd", "/hidden.html", "--http-probe-cmd", "/about.html"]).run().ok();
    let every = ["8080 GET /hidden.html", "8082 GET /hidden.html", "8080 GET /about.html", "8082 GET /about.html"];
    assert_eq!(asked(&run), every, "what is exposed and not listened on is left out");
    // A use that is repeated is told once, with its first reason.
    assert!(run.is_used("/www/hidden.html", "GET /hidden.html on port 8080 (/bin/busybox, open)"));
    let run = Slim::observe(&image, &["--http-probe-ports", "8082,8080", "--http-probe-cmd", "/hidden.html"]).run().ok();
    assert_eq!(asked(&run), ["8082 GET /hidden.html", "8080 GET /hidden.html"], "in the user's order");
    let run = Slim::observe(&image, &["--http-probe-ports", "8082", "--http-probe-cmd", "/hidden.html"]).run().ok();
    assert_eq!(asked(&run), ["8082 GET /hidden.html"]);
}

fn servers_on_loopback_are_reached(engine: Engine) {
    let image = pages().shell_cmd("httpd -f -p 127.0.0.1:8080 -h /www").change("EXPOSE 8080").build_for(engine);
    assert_crawled(&Slim::observe(&image, &["--http-probe"]).run().ok(), 8080);
}

fn servers_are_reached_whatever_the_network(engine: Engine) {
    let image = web().build_for(engine);
    assert_crawled(&Slim::observe(&image, &["--network", "none"]).run().ok(), 8080);
    // Other networks are a daemon's.
    if engine == Engine::Embedded {
        return;
    }

    let other = docker(&["run", "-d", &image.name, "sleep", "1000"]);
    let joined = Slim::build(&image, &["--network", &format!("container:{other}")]).run();
    docker(&["rm", "-f", &other]);
    assert_crawled(&joined.ok(), 8080);

    let network = unique("network");
    docker(&["network", "create", &network]);
    let own = Slim::build(&image, &["--network", &network]).run();
    docker(&["network", "rm", &network]);
    // The engine's name server listens there too.
    assert_crawled(&own.ok(), 8080);
}

fn with_the_hosts_network_only_the_programs_own_ports_are_probed(engine: Engine) {
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let image = pages().shell_cmd(&format!("httpd -f -p 127.0.0.1:{port} -h /www")).build_for(engine);
    assert_crawled(&Slim::observe(&image, &["--network", "host"]).run().ok(), port.into());
    foreign.set_nonblocking(true).unwrap();
    assert!(foreign.accept().is_err(), "nobody asked us");
}

#[test]
fn a_slow_start_is_waited_for_without_asking() {
    let image = pages().shell_cmd("(sleep 2; exec httpd -f -v -p 8080 -h /www)").change("EXPOSE 8080").build();
    let run = Slim::observe(&image, &["--http-probe", "--show-clogs"]).run().ok();
    assert_crawled(&run, 8080);
    let report = run.report();
    assert_eq!(report["probes"]["http"]["records"][0]["attempts"], 1);
    let logged = run.stderr().lines().filter(|line| line.starts_with("| ") && line.contains("response:200")).count();
    assert_eq!(logged, 3, "the log shows each request once:\n{}", run.stderr());
}

#[test]
fn requests_are_made_as_they_are_described() {
    let script = b"#!/bin/sh\nread name\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n\
        [ \"$REQUEST_METHOD/$HTTP_X_COLOUR/$CONTENT_TYPE\" = POST/blue/text/odd ] && cat /data/$name\n";
    let image = pages()
        .file("/www/cgi-bin/read", script, 0o755)
        .file("/www/cgi-bin/broken", b"#!/bin/sh\nprintf 'Status: 503 Busy\\r\\n\\r\\n'\n", 0o755)
        .file("/data/one", b"one", 0o644)
        .file("/data/two", b"two", 0o644)
        .file("/data/three", b"three", 0o644)
        .file("/www/private/page.html", b"private", 0o644)
        .file("/etc/httpd.conf", b"/private:me:secret\n", 0o644)
        .shell_cmd("httpd -f -p 8080 -h /www -c /etc/httpd.conf")
        .change("EXPOSE 8080")
        .build();
    let slim = Slim::observe(&image, &["--http-probe-cmd-file", "probes.json", "--http-probe-cmd", "POST:/cgi-bin/broken"]);
    let headers = ["X-Colour: blue", "Content-Type: text/odd"];
    let commands = json!({"commands": [
        {"method": "POST", "resource": "/cgi-bin/read", "headers": headers, "body": "one\n"},
        {"resource": "/cgi-bin/read", "headers": headers, "body_file": "body"},
        {"resource": "/private/page.html"},
        {"resource": "/private/page.html", "username": "me", "password": "secret", "port": 8080, "protocol": "http"},
        {"resource": "/about.html", "crawl": true},
    ]});
    std::fs::write(slim.folder().join("probes.json"), commands.to_string()).unwrap();
    std::fs::write(slim.folder().join("body"), "two\n").unwrap();
    let run = slim.run().ok();
    let made: Vec<_> = run.requests().into_iter().map(|(_, request, status)| (request, status.unwrap_or_default())).collect();
    let expected = [
        ("POST /cgi-bin/broken", 503),
        ("POST /cgi-bin/read", 200),
        ("POST /cgi-bin/read", 200),
        ("GET /private/page.html", 401),
        ("GET /private/page.html", 200),
        ("GET /about.html", 200),
        ("GET /deep/one.png", 200),
    ];
    assert_eq!(made, expected.map(|(request, status)| (request.to_owned(), status)));
    assert!(run.keeps("/data/one") && run.keeps("/data/two") && !run.keeps("/data/three"));
    assert!(run.keeps("/www/private/page.html"));
    assert_eq!(run.warnings(), ["`POST /cgi-bin/broken` on port 8080 was answered with 503 Service Unavailable"]);
}

#[test]
fn self_signed_certificates_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=nobody.invalid -keyout".split(' '))
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is installed (`tests/run` does that)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let image = pages()
        .programs(&["/usr/bin/openssl"])
        .file("/tls/key.pem", &std::fs::read(key).unwrap(), 0o600)
        .file("/tls/certificate.pem", &std::fs::read(certificate).unwrap(), 0o644)
        .change("WORKDIR /www")
        .change("EXPOSE 8443")
        .shell_cmd("openssl s_server -accept 8443 -key /tls/key.pem -cert /tls/certificate.pem -WWW")
        .build();
    for words in [&[][..], &["--http-probe-cmd", "https:/about.html"]] {
        let run = Slim::observe(&image, &[words, &["--http-probe-cmd", "/index.html"]].concat()).run().ok();
        let report = run.report();
        assert!(run.requests().iter().all(|(_, _, status)| *status == Some(200)), "{}", run.stderr());
        assert_eq!(report["probes"]["http"]["records"][0]["protocol"], "https", "it is found out, or told");
        assert!(run.keeps("/www/index.html"));
        assert_eq!(run.keeps("/www/about.html"), !words.is_empty());
    }
}

#[test]
fn crawls_are_bounded() {
    let link = |number: u32| format!("<a href={number}.html>next</a> <a href=/secret/{number}>no</a>");
    let image =
        (0..6).fold(web(), |image, number| image.file(&format!("/www/{number}.html"), link(number + 1).as_bytes(), 0o644));
    let image = image.build();
    let run = Slim::observe(
        &image,
        &["--http-probe-cmd", "crawl:/0.html", "--http-crawl-max-depth", "2", "--http-crawl-exclude", "/secret"],
    );
    let run = run.run().ok();
    let asked: Vec<_> = run.requests().into_iter().map(|(_, request, _)| request).collect();
    assert_eq!(asked, ["GET /0.html", "GET /1.html", "GET /2.html"]);
    assert!(run.warnings().iter().any(|warning| warning.contains("--http-crawl-max-depth")), "{:?}", run.warnings());
    let run = Slim::observe(&image, &["--http-probe", "--http-probe-crawl=false"]).run().ok();
    assert_eq!(run.requests().len(), 1);
}

/// Exit codes and outputs of the commands.
fn commands(run: &Run) -> Vec<(i64, String)> {
    let report = run.report();
    let records = report["probes"]["exec"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    records.iter().map(|record| (record["exit_code"].as_i64().unwrap_or(-1), text(&record["stdout"]["text"]))).collect()
}

fn commands_run_without_a_shell_one_after_the_other(engine: Engine) {
    let image = shell_less().build_for(engine);
    let run = Slim::observe(
        &image,
        &["--exec", "/bin/busybox cat '/data/one'", "--exec", "/bin/busybox false", "--exec", "/bin/busybox cat"],
    );
    let run = run.run().ok();
    assert_eq!(commands(&run), [(0, "one".to_owned()), (1, String::new()), (0, String::new())]);
    assert!(run.is_used("/data/one", "/bin/busybox cat /data/one (/bin/busybox, open)"));
    assert!(run.keeps("/bin/busybox") && run.keeps("/wait") && !run.keeps("/data/two"));
    assert_eq!(run.warnings(), [""; 0]);
}

fn commands_that_cannot_run_are_errors_that_say_why(engine: Engine) {
    let image = shell_less().build_for(engine);
    Slim::build(&image, &["--exec", "/bin/busybox cat /data/*"])
        .run()
        .fails(6, "the command `/bin/busybox cat /data/*` could not be run: exec: \"sh\": executable file not found in $PATH")
        .fails(6, "the command has shell syntax, so it needs the image's `sh`");
    Slim::build(&image, &["--exec", "nope -x"])
        .run()
        .fails(6, "the command `nope -x` could not be run: exec: \"nope\": executable file not found in $PATH");
    Slim::build(&image, &["--exec", "/data/one"])
        .run()
        .fails(6, "the command `/data/one` could not be run: exec: \"/data/one\": permission denied");
    let ended = one_shot().build_for(engine);
    Slim::build(&ended, &["--exec", "nope"]).run().fails(6, "the command `nope` could not be run: exec: \"nope\"");
    Slim::build(&ended, &["--exec", "echo 'a"]).run().fails(2, "single quotes");
}

#[test]
fn commands_with_shell_syntax_use_the_images_shell() {
    let image = web().file("/data/one", b"one", 0o644).file("/data/two", b"two", 0o644).build();
    let run = Slim::build(&image, &["--exec", "cat /data/* | wc -c; exit 7"]).run().ok();
    assert_eq!(commands(&run), [(7, "6\n".to_owned())]);
    assert!(run.keeps("/data/one") && run.keeps("/data/two") && run.keeps("/bin/sh"));
}

fn when_the_program_has_ended_commands_get_containers_of_their_own(engine: Engine) {
    let image = one_shot().build_for(engine);
    let run = Slim::observe(
        &image,
        &["--exec", "cat /data/one", "--exec", "echo $$ $COLOUR; exit 3", "--exec", "test -e /tmp/x", "--env", "COLOUR=blue"],
    );
    let run = run.run().ok();
    assert_eq!(commands(&run), [(0, "one".to_owned()), (3, "1 blue\n".to_owned()), (1, String::new())]);
    assert!(run.keeps("/data/one") && !run.keeps("/data/two"));
    assert_eq!(run.warnings(), [""; 0]);
}

fn a_script_is_read_by_the_images_shell(engine: Engine) {
    // It holds a byte that is no text.
    let script = b"name=\xff\ncat /data/one\ntest $name = \"$(printf '\\377')\"\n";
    let web = || web().file("/data/one", b"one", 0o644).file("/data/two", b"two", 0o644);
    for (image, kept) in [(web(), "/www/index.html"), (one_shot(), "/bin/true")] {
        let image = image.build_for(engine);
        let slim = Slim::observe(&image, &["--exec", "echo first", "--exec-file", "script"]);
        std::fs::write(slim.folder().join("script"), script).unwrap();
        let run = slim.run().ok();
        assert_eq!(commands(&run), [(0, "first\n".to_owned()), (0, "one".to_owned())]);
        assert!(run.is_used("/data/one", "sh -s < script (/bin/busybox, open)"));
        assert!(run.keeps(kept) && !run.keeps("/data/two"));
    }
    let image = shell_less().build_for(engine);
    let slim = Slim::observe(&image, &["--exec-file", "script"]);
    std::fs::write(slim.folder().join("script"), script).unwrap();
    slim.run().fails(6, "could not be run: exec: \"sh\": executable file not found in $PATH; a script needs the image's `sh`");
    Slim::build(&web().build_for(engine), &["--exec-file", "missing"]).run().fails(2, "`missing` cannot be read");
}

fn large_outputs_are_taken_to_their_end(engine: Engine) {
    // A daemon takes seconds for each ten megabytes.
    let size = if engine == Engine::Docker { nightly(4_000_000, 40_000_000) } else { 40_000_000 };
    for image in [web(), one_shot()] {
        let run = Slim::observe(&image.build_for(engine), &["--exec", &format!("yes | head -c {size}")]).run().ok();
        let report = run.report();
        assert_eq!(report["probes"]["exec"][0]["stdout"]["size"], size);
    }
}

fn a_health_check_is_run_until_it_succeeds(engine: Engine) {
    let image = || web().file("/data/health", b"fine", 0o644).link("/bin/check", "busybox").file("/check.sh", b"exit 0", 0o644);
    let checked = |dockerfile: &str| {
        let image = image().change(dockerfile).build_for(engine);
        Slim::observe(&image, &["--http-probe"]).run().ok()
    };
    let run = checked("HEALTHCHECK --interval=1s CMD [\"/bin/cat\", \"/data/health\"]");
    assert_eq!(run.report()["probes"]["health_check"]["stdout"]["text"], "fine", "once");
    assert!(run.keeps("/data/health") && run.keeps("/bin/cat"));
    assert!(run.is_used("/data/health", "health check (/bin/busybox, open)"), "{:?}", run.reasons("/data/health"));
    assert_eq!(run.warnings(), [""; 0]);

    let unhealthy = |dockerfile: &str, problem: &str| {
        let image = image().change(dockerfile).build_for(engine);
        Slim::build(&image, &["--http-probe"]).run().fails(6, &format!("error: the image's health check {problem}"));
        let run = Slim::observe(&image, &["--http-probe"]).run().ok();
        assert_eq!(run.warnings(), [format!("the image's health check {problem}")]);
        run
    };
    let run = unhealthy("HEALTHCHECK --interval=10ms CMD cat /data/health && exit 4", "failed with exit code 4");
    assert!(run.keeps("/data/health") && run.keeps("/bin/sh"));
    unhealthy("HEALTHCHECK --timeout=1s --retries=1 CMD sleep 1000", "did not end in 1 s");
    unhealthy("HEALTHCHECK --interval=10ms CMD [\"/missing\"]", "failed with exit code 127");
    let sometimes = "HEALTHCHECK --interval=10ms CMD cat /data/health && { test -e /tmp/twice || ! touch /tmp/twice; }";
    let run = checked(sometimes);
    assert_eq!((run.warnings(), &run.report()["probes"]["health_check"]["exit_code"]), (vec![], &0.into()));
    let run = checked("HEALTHCHECK NONE");
    assert!(run.report()["probes"]["health_check"].is_null());
}

#[test]
fn everything_has_its_place_in_the_order() {
    let image = web().dockerfile("HEALTHCHECK CMD [\"true\"]\nEXPOSE 8080").build();
    let slim =
        Slim::observe(&image, &["--exec", "true", "--http-probe-cmd", "/", "--observation-out", "seen", "--exec", "echo a"]);
    let run = slim.run().ok();
    let seen = std::fs::read_to_string(run.path("seen")).unwrap();
    let records = seen.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let phases: Vec<_> = records
        .filter(|record| record["record"] == "phase")
        .map(|phase| format!("{} {}", phase["kind"].as_str().unwrap(), phase["name"].as_str().unwrap_or_default()))
        .collect();
    let expected = ["start ", "ready ", "http GET /", "exec true", "exec echo a", "health_check ", "stop "];
    assert_eq!(phases, expected);
}

#[test]
fn what_is_waited_for_is_seen() {
    let image = busybox().file("/data/late", b"late", 0o644).shell_cmd("(sleep 3; cat /data/late; sleep 1)").build();
    for (after, sees) in
        [("app-exit", true), ("probe", false), ("exec", false), ("timeout:5", true), ("5", true), ("probe&exec&5", true)]
    {
        let run = Slim::observe(&image, &["--exec", "true", "--continue-after", after]).run().ok();
        assert_eq!(run.keeps("/data/late"), sees, "{after}");
        assert_eq!(run.warnings().iter().filter(|warning| warning.contains("exercised")).count(), 0, "{after}");
    }
}

#[test]
fn without_any_probe_the_end_is_waited_for() {
    let image = busybox().file("/data/late", b"late", 0o644).cmd(&["sh", "-c", "sleep 3; cat /data/late"]).build();
    let run = Slim::observe(&image, &[]).run().ok();
    assert!(run.keeps("/data/late"));
    assert_eq!(run.warnings(), [""; 0], "it ended by itself");

    let run = Slim::observe(&shell_less().build(), &[]).run().ok();
    let warnings = run.warnings();
    assert!(warnings.len() == 1 && warnings[0].starts_with("nothing was exercised: "), "{warnings:?}");
    let report = run.report();
    let steps = report["seconds"].as_array().unwrap();
    let watched: f64 = steps
        .iter()
        .filter(|step| step[0] == "observe: ready" || step[0] == "observe: wait")
        .map(|step| step[1].as_f64().unwrap())
        .sum();
    assert!((9.5..12.0).contains(&watched), "watched for {watched} s");
}

fn a_command_that_does_not_end_is_an_error(engine: Engine) {
    let image = shell("sleep 1000").build_for(engine);
    let words = [NO_HTTP, "--exec", "sleep 1000", "--exec-timeout", "1s"];
    Slim::build(&image, &words).run().fails(6, "`sleep 1000` could not be run: it did not end in 1 s");
    // In a container of its own, as the program has ended.
    let image = shell("true").build_for(engine);
    Slim::build(&image, &words).run().fails(6, "it did not end in 1 s; allow more with `--exec-timeout`");
}
