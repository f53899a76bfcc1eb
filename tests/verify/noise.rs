//! Answers that are never the same: no difference, however often they are compared; what is broken among them is one.

use super::{Change, PlanFile, Tag, build_of_plan, for_each_beside, verification};
use crate::support::{Image, Slim, busybox};

/// So often is the image compared.
const TIMES: usize = 20;

/// Headers and content of each answer.
const ANSWERS: [(&str, &str); 6] = [
    ("time", r#"printf '\r\n'; date; date +%s%N; cat /app/item"#),
    ("id", r#"printf '\r\n'; echo "request $(cat /proc/sys/kernel/random/uuid): $(cat /app/item)""#),
    ("cookie", r#"printf 'Set-Cookie: session=%s; Path=/; HttpOnly\r\n\r\n' $(cat /proc/sys/kernel/random/uuid); cat /app/item"#),
    ("host", r#"printf '\r\n'; echo "$(hostname) at $(hostname -i) has $(cat /app/item)""#),
    (
        "json",
        r#"printf '\r\n'; id=$(cat /proc/sys/kernel/random/uuid)
        lines() { printf '"id":"%s"\n"at":%s\n"load":%s\n"item":"%s"\n' "$@" | shuf; }
        echo "{$(lines $id $(date +%s) $(cut -d' ' -f1 /proc/uptime) $(cat /app/item) | paste -sd, -)}""#,
    ),
    ("gzip", r#"printf 'Content-Encoding: gzip\r\n\r\n'; (cat /app/item; echo; date +%s%N) | gzip"#),
];

/// The words that ask for all of it.
fn requests() -> Vec<String> {
    ANSWERS.iter().flat_map(|(name, _)| ["--http-probe-cmd".to_owned(), format!("/cgi-bin/{name}")]).collect()
}

fn image() -> Image {
    let mut image = busybox().file("/app/item", b"item-42", 0o644);
    for name in ["cut", "date", "gzip", "hostname", "paste", "shuf"] {
        image = image.link(&format!("/bin/{name}"), "busybox");
    }
    for (name, script) in ANSWERS {
        let script = format!("#!/bin/sh\nprintf 'Content-Type: {}\\r\\n'\n{script}\n", content_type(name));
        image = image.file(&format!("/www/cgi-bin/{name}"), script.as_bytes(), 0o755);
    }
    image.change("EXPOSE 8080").shell_cmd("httpd -f -p 8080 -h /www").build()
}

fn content_type(name: &str) -> &str {
    if name == "json" { "application/json" } else { "text/plain" }
}

#[test]
fn what_differs_each_time_is_no_difference() {
    let image = image();
    let requests = requests();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let run = Slim::build(&image, &requests).run().ok();
    assert_eq!(verification(&run)["verdict"], "same");
    assert!(verification(&run)["noise"].as_u64() > Some(0), "it is noisy: {:#}", verification(&run));
    let (slim, original) = (image.slim_source(), image.source());
    for_each_beside(1..TIMES, |time| {
        let words = [&["verify", &slim, "--against", &original], &requests[..]].concat();
        let run = Slim::new(&words).run();
        assert_eq!(run.code(), 0, "the {time}. time: {}{}", run.stdout(), run.stderr());
    });
}

#[test]
fn noise_does_not_hide_what_is_broken() {
    let image = image();
    let requests = requests();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let (plan, tag) = (PlanFile::of(&image, &requests).with(&Change::Remove("/app/item")), Tag::of(&image));
    let words = [&["--verify=strict", "--repair-rounds", "0"], &requests[..]].concat();
    let run = build_of_plan(&image, &plan, &tag, &words).run().fails(8, "/app/item");
    let verification = verification(&run);
    let differences = verification["differences"].as_array().unwrap();
    for (name, _) in ANSWERS {
        let probe = format!("GET /cgi-bin/{name} on port 8080");
        assert!(differences.iter().any(|difference| difference["probe"] == *probe), "{name}: {verification:#}");
    }
}
