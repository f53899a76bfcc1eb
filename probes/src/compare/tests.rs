//! Answers of whole programs: noise that must pass, and what is broken behind it and must not.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use serde_json::{Value, json};

use super::*;
use crate::exec::{ExecCommand, OutputCollector};
use crate::record::Truncated;

/// How many programs are tried of each kind.
const SEEDS: u64 = 40;

/// Random numbers that are the same in each run of the tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| letters[self.below(letters.len() as u64) as usize]).collect()
    }

    fn hex(&mut self, length: usize) -> String {
        self.text("0123456789abcdef", length)
    }

    fn base64(&mut self, length: usize) -> String {
        self.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", length) + "="
    }

    fn uuid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|length| self.hex(length)).join("-")
    }

    /// A moment of one hour: the runs that are compared are close to one another.
    fn clock(&mut self) -> String {
        format!("11:{:02}:{:02}", self.below(60), self.below(60))
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

fn answer(content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let body = bytes::Bytes::from(body.into());
    Answer {
        status: 200,
        headers: vec![("content-type".into(), content_type.into())],
        digest: content::digest_of(&body),
        size: body.len() as u64,
        truncated: None,
        decoded_digest: None,
        body,
    }
}

fn html(body: impl Into<String>) -> Answer {
    answer("text/html", body.into())
}

fn with_header(mut answer: Answer, name: &str, value: impl Into<String>) -> Answer {
    answer.headers.push((name.into(), value.into()));
    answer
}

fn gzip(bytes: &[u8], time: u32) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().mtime(time).write(vec![], Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// The differences between the first of some answers and `got`, with what differs between these answers as noise.
fn differences(answers: &[Answer], got: &Answer) -> Vec<Difference> {
    let own = Own::default();
    let outcomes: Vec<Outcome> = answers.iter().cloned().map(Outcome::Answered).collect();
    let mut mask = Mask::default();
    let side = |record| Side { record, own: &own };
    for again in &outcomes[1..] {
        mask.learn_http(side(&outcomes[0]), side(again));
    }
    for again in &outcomes {
        let found = http(side(&outcomes[0]), side(again), &mask, Level::Strict);
        assert!(found.iter().all(|difference| difference.noise), "between two that were learnt: {found:?}");
    }
    http(side(&outcomes[0]), side(&Outcome::Answered(got.clone())), &mask, Level::Strict)
}

fn real(differences: &[Difference]) -> Vec<&Difference> {
    differences.iter().filter(|difference| !difference.noise).collect()
}

/// A kind of program: its name, an answer of it, and the same answer where something is broken.
type Program = (&'static str, fn(&mut Random) -> Answer, &'static [fn(&mut Random) -> Answer]);

/// A page of ten lines, with something in its middle.
fn page(middle: &str) -> Answer {
    let mut text = String::from("<html><head><title>Shop</title></head>\n<body>\n");
    for line in ["welcome", "what we sell", "where we are"] {
        let _ = writeln!(text, "<p class=\"{}\">{line}</p>", line.len());
    }
    let _ = writeln!(text, "{middle}\n<footer>all rights reserved</footer>\n</body></html>");
    html(text)
}

const PROGRAMS: &[Program] = &[
    (
        "the time, in formats of many kinds",
        |random| {
            let clock = random.clock();
            let seconds = 1_738_300_000 + random.below(3600);
            page(&format!(
                "<p>{seconds} {seconds}.{} Fri, 31 Jan 2025 {clock} GMT 2025-01-31T{clock}.{}Z in {}ms</p><!-- {clock} -->",
                random.below(1_000_000),
                random.below(1000),
                random.below(100)
            ))
        },
        &[
            |_| page("<p>Warning: date(): the time zone database is corrupt</p>"),
            |_| page(""),
            |random| {
                let clock = random.clock();
                html(format!("<p>1738300000 1738300000.5 Fri, 31 Jan 2025 {clock} GMT 2025-01-31T{clock}.5Z in 5ms</p>"))
            },
            |_| html("Internal error"),
            |_| html(""),
        ],
    ),
    (
        "random ids, and lists of them",
        |random| {
            let mut list = String::new();
            for _ in 0..5 {
                let _ = writeln!(list, "<li><a href=\"/item/{}?v={}\">{}</a></li>", random.hex(8), random.hex(6), random.hex(16));
            }
            let (uuid, nonce, token) = (random.uuid(), random.base64(22), random.base64(43));
            page(&format!("<script nonce=\"{nonce}\">id = '{uuid}';</script>\n<input value=\"{token}\">\n<ul>\n{list}</ul>"))
        },
        &[
            |random| {
                let (uuid, nonce, token) = (random.uuid(), random.base64(22), random.base64(43));
                page(&format!("<script nonce=\"{nonce}\">id = '{uuid}';</script>\n<input value=\"{token}\">\n<ul>\n</ul>"))
            },
            |random| page(&format!("<script nonce=\"{}\">id = 'undefined';</script>", random.base64(22))),
            |_| html("<html><body>Whoops, something is wrong</body></html>"),
        ],
    ),
    (
        "cookies",
        |random| {
            let value =
                format!("session={}; Path=/; HttpOnly; Expires=Fri, 31 Jan 2025 {} GMT", random.base64(20), random.clock());
            let second = format!("csrf={}; Secure", random.hex(32));
            with_header(with_header(page("hello"), "set-cookie", value), "Set-Cookie", second)
        },
        &[
            |_| page("hello"),
            |random| {
                let value =
                    format!("session={}; Path=/; HttpOnly; Expires=Fri, 31 Jan 2025 {} GMT", random.base64(20), random.clock());
                with_header(page("hello"), "set-cookie", value)
            },
            |random| {
                let value = format!("session={}; Path=/; Expires=Fri, 31 Jan 2025 {} GMT", random.base64(20), random.clock());
                with_header(with_header(page("hello"), "set-cookie", value), "set-cookie", "csrf=1; Secure")
            },
        ],
    ),
    (
        "host names that nobody told of",
        |random| {
            with_header(page(&format!("<p>served by {}</p>", random.hex(12))), "location", format!("http://{}/x", random.hex(12)))
        },
        &[
            |_| with_header(page("<p>served by </p>"), "location", "http://a1/x"),
            |random| with_header(page(&format!("<p>served by {}</p>", random.hex(12))), "location", "http://1f9d0c27ad3b/y"),
        ],
    ),
    (
        "shuffled keys, ids and times in JSON",
        |random| {
            let mut members = vec![
                format!("\"id\":\"{}\"", random.uuid()),
                format!("\"time\":{}", 1_738_300_000 + random.below(3600)),
                format!("\"uptime\":{}.{:03}", random.below(9), random.below(1000)),
                format!("\"log\":[{}]", vec!["{\"line\":\"started\"}"; 4 + random.below(12) as usize].join(",")),
                format!("\"sessions\":{{\"{}\":{{\"user\":\"a\",\"age\":{}}}}}", random.hex(10), random.below(100)),
                "\"version\":\"1.2.3\"".to_owned(),
                "\"items\":[{\"name\":\"apple\",\"price\":3},{\"name\":\"pear\",\"price\":4}]".to_owned(),
                format!("\"message\":\"started at {} on port 80, all is well\"", random.clock()),
            ];
            random.shuffle(&mut members);
            answer("application/json", format!("{{{}}}", members.join(",")))
        },
        &[
            |random| broken_json(random, |value| drop(value.as_object_mut().expect("object").remove("version"))),
            |random| broken_json(random, |value| drop(value.as_object_mut().expect("object").remove("id"))),
            |random| broken_json(random, |value| value["version"] = json!("1.2.4")),
            |random| broken_json(random, |value| value["time"] = json!("never")),
            |random| broken_json(random, |value| value["id"] = json!(null)),
            |random| broken_json(random, |value| value["log"] = json!([])),
            |random| broken_json(random, |value| value["log"] = json!([{"text": "started"}])),
            |random| broken_json(random, |value| value["sessions"] = json!({})),
            |random| broken_json(random, |value| value["sessions"] = json!({"0123456789": {"user": "a"}})),
            |random| broken_json(random, |value| value["items"] = json!([{"name": "apple", "price": 3}])),
            |random| broken_json(random, |value| value["items"][0] = json!({"name": "apple"})),
            |random| broken_json(random, |value| value["message"] = json!("started at 12:00:00 on port 80, something is wrong")),
            |random| broken_json(random, |value| value["error"] = json!("no template")),
            |_| answer("application/json", "{}"),
            |_| answer("application/json", "[]"),
            |_| answer("application/json", ""),
            |_| answer("application/json", "{\"id\":"),
        ],
    ),
    (
        "gzip with times",
        |random| {
            let time = random.next() as u32;
            with_header(answer("text/plain", gzip(b"hello\nworld\n", time)), "content-encoding", "gzip")
        },
        &[
            |random| with_header(answer("text/plain", gzip(b"hello\n", random.next() as u32)), "content-encoding", "gzip"),
            |random| with_header(answer("text/plain", gzip(b"", random.next() as u32)), "content-encoding", "gzip"),
            |_| with_header(answer("text/plain", "hello\nworld\n"), "content-encoding", "gzip"),
        ],
    ),
    (
        "gzip with times in it",
        |random| {
            let text = format!("hello\nat {}\n", random.clock());
            with_header(answer("text/plain", gzip(text.as_bytes(), random.next() as u32)), "content-encoding", "gzip")
        },
        &[
            |random| {
                with_header(answer("text/plain", gzip(b"hello\nat never\n", random.next() as u32)), "content-encoding", "gzip")
            },
            |random| with_header(answer("text/plain", gzip(b"at 11:00:00\n", random.next() as u32)), "content-encoding", "gzip"),
        ],
    ),
    (
        "lists of any length",
        |random| {
            let count = 4 + random.below(12);
            let rows: String = (0..count).map(|_| format!("<tr><td>{}</td><td>ok</td></tr>\n", random.hex(6))).collect();
            page(&format!("<table>\n{rows}</table>\n<p>{count} jobs</p>"))
        },
        &[
            |_| page("<table>\n</table>\n<p>0 jobs</p>"),
            |random| page(&format!("<table>\n<tr><td>{}</td><td>ok</td></tr>\n</table>", random.hex(6))),
            |_| page("<p>3 jobs</p>"),
            |_| page("<table>\n<tr><td>Error: cannot read jobs</td></tr>\n</table>\n<p>3 jobs</p>"),
        ],
    ),
    (
        "lines in any order",
        |random| {
            let mut lines: Vec<String> =
                ["apple", "pear", "plum", "fig", "quince"].iter().map(|name| format!("{name} {}", random.below(1000))).collect();
            random.shuffle(&mut lines);
            answer("text/plain", lines.join("\n"))
        },
        &[
            |_| answer("text/plain", "pear 1\napple 2\nquince 3\nplum 4"),
            |_| answer("text/plain", "pear 1\napple 2\nquince 3\nplum 4\ncherry 5"),
        ],
    ),
    (
        "random pictures",
        |random| {
            let mut bytes = b"\x89PNG\r\n\x1a\n\0".to_vec();
            bytes.extend((0..500 + random.below(200)).map(|_| random.next() as u8));
            answer("image/png", bytes)
        },
        &[
            |_| answer("image/png", "<html>an ordinary page that has about as many bytes</html>".repeat(10)),
            |_| answer("image/png", ""),
            |_| answer("image/png", &b"\x89PNG\r\n\x1a\n\0"[..]),
        ],
    ),
    (
        "one long line",
        |random| {
            let id = random.hex(12);
            html(format!("{}<b>{id}</b>{}", "<p>first</p>".repeat(30), "<p>second</p>".repeat(30)))
        },
        &[
            |random| html(format!("{}<b>{}</b>", "<p>first</p>".repeat(30), random.hex(12))),
            |random| html(format!("<b>{}</b>", random.hex(12))),
            |random| html(random.hex(600)),
        ],
    ),
];

fn broken_json(random: &mut Random, change: impl FnOnce(&mut Value)) -> Answer {
    let (_, program, _) = PROGRAMS.iter().find(|(name, ..)| name.contains("JSON")).expect("the program");
    let mut value = serde_json::from_slice(&program(random).body).expect("JSON");
    change(&mut value);
    answer("application/json", value.to_string())
}

#[test]
fn noise_passes_and_what_is_broken_does_not() {
    for (name, program, broken) in PROGRAMS {
        let mut asked = [0; 4];
        for seed in 0..SEEDS {
            let mut random = Random(seed);
            let got = program(&mut random);
            let mut fat = vec![program(&mut random)];
            // The expected side is asked again while there is a difference.
            loop {
                let found = differences(&fat, &got);
                let Some(first) = real(&found).first().copied() else { break };
                assert!(fat.len() < asked.len(), "{name}, seed {seed}: {first}");
                fat.push(program(&mut random));
            }
            asked[fat.len() - 1] += 1;
            fat.resize_with(asked.len(), || program(&mut random));
            for (index, broken) in broken.iter().enumerate() {
                let got = broken(&mut random);
                let found = differences(&fat, &got);
                assert!(!real(&found).is_empty(), "{name}, broken answer {index}, seed {seed}: {found:#?}");
            }
        }
        // Once is not enough where numbers are small: they may be the same by chance.
        assert!(asked[2] + asked[3] <= SEEDS / 10, "{name}: {asked:?}");
    }
}

/// Whether `got` differs from the first of `samples`, in more than noise.
fn differs(samples: &[&str], got: &str) -> bool {
    let answers: Vec<Answer> = samples.iter().map(|text| html(*text)).collect();
    !real(&differences(&answers, &html(got))).is_empty()
}

#[test]
fn texts() {
    let long: String = (0..100).map(|line| format!("<p>line {line} at 12:{:02}</p>\n", line % 60)).collect();
    let later = long.replace("12:", "13:");
    let page = |middle: &str| format!("top\nmenu\n{middle}\nfooter\nbottom");
    for (samples, got, expected) in [
        // White space means nothing, all else does.
        (&["a b\nc"][..], " a  b\r\n\n c \n", false),
        (&["a b\nc"], "a b c", true),
        (&["a"], "A", true),
        (&["a"], "", true),
        (&[""], "a", true),
        // Noise in each line hides no line.
        (&[&long, &later], &long.replace("12:", "14:"), false),
        (&[&long, &later], &later.replace("<p>line 50 at 13:50</p>\n", ""), true),
        (&[&long, &later], &later.replace("line 50", "line"), true),
        (&[&long, &later], "Internal error", true),
        (&[&long, &later], "<p>line 0 at 12:00</p>", true),
        (&[&long, &later], "", true),
        (&[&long, &later], &later[..later.len() / 2], true),
        // A message that comes and goes: it hides itself only.
        (&[&page("hello"), &page("")], &page("goodbye"), false),
        (&[&page("hello"), &page("")], &page(""), false),
        (&[&page("hello"), &page("")], &page(&"a long story ".repeat(10)), true),
        (&[&page("hello"), &page("")], "top\nmenu\nfooter", true),
        (&[&page("hello"), &page("")], "top\nhello\nfooter\nbottom", true),
        (&[&page("hello"), &page("")], &page("Fatal error"), true),
        (&[&page("hello, no error"), &page("")], &page("Fatal error"), true),
        (&[&page("hello, no error"), &page("")], &page("error: none"), false),
        // Nothing of it was ever the same.
        (&["abc def", "ghi jkl mno"], "pqr", false),
        (&["abc def", "ghi jkl mno"], "", true),
        (&["abc def", "ghi jkl mno"], "Service unavailable", true),
        (&["abc def", "ghi jkl mno"], "<html><body><h1>This page intentionally left blank</h1></body></html>", true),
        // Lines that come in any order, and a line that is gone.
        (&["a\nb\nc 1", "c 2\na\nb"], "b\nc 3\na", false),
        (&["a\nb\nc 1", "c 2\na\nb"], "b\na", true),
        (&["a\nb\nc 1", "c 2\na\nb"], "b\nc 3\nd", true),
    ] {
        assert_eq!(differs(samples, got), expected, "{samples:?}: {got}");
    }
}

#[test]
fn json_documents() {
    let deep = |levels: usize, inner: &str| format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels));
    for (samples, got, expected) in [
        (&[r#"{"a":1,"b":[1,2]}"#][..], r#"{ "b": [1, 2], "a": 1 }"#, false),
        (&[r#"{"a":1,"b":[1,2]}"#], r#"{"b":[2,1],"a":1}"#, true),
        (&[r#"{"a":1}"#], r#"{"a":1.5}"#, true),
        (&[r#"{"a":1}"#], r#"{"a":"1"}"#, true),
        (&[r#"{"a":1}"#], r#"{"a":1,"b":null}"#, true),
        (&[r#"{"a":null}"#], "{}", true),
        (&["[]"], "{}", true),
        (&[r#"{"a":1}"#, r#"{"a":2}"#], r#"{"a":3}"#, false),
        (&[r#"{"a":1}"#, r#"{"a":2}"#], r#"{"a":null}"#, true),
        (&[r#"{"a":1}"#, r#"{"a":null}"#], r#"{"a":2}"#, false),
        (&[r#"{"a":1}"#, r#"{"a":2}"#], r#"{"b":3}"#, true),
        // The elements in another order, and with other numbers in them.
        (&[r#"["a","b","c1"]"#, r#"["c2","a","b"]"#], r#"["b","c3","a"]"#, false),
        (&[r#"["a","b","c1"]"#, r#"["c2","a","b"]"#], r#"["b","a"]"#, true),
        (&[r#"["a","b","c1"]"#, r#"["c2","a","b"]"#], r#"["b","a","d"]"#, true),
        // Names with the characters of a pointer.
        (&[r#"{"a/b":{"~":1}}"#, r#"{"a/b":{"~":2}}"#], r#"{"a/b":{"~":3}}"#, false),
        (&[r#"{"a/b":{"~":1}}"#, r#"{"a/b":{"~":2}}"#], r#"{"a":{"b":{"~":3}}}"#, true),
        // Nested more deeply than the parser goes, it is text.
        (&[&deep(100, "1"), &deep(100, "2")], &deep(100, "3"), false),
        (&[&deep(100, "1"), &deep(100, "2")], &deep(99, "3"), true),
        (&[&deep(5000, "1"), &deep(5000, "2")], &deep(5000, "3"), false),
        (&[&deep(5000, "1"), &deep(5000, "2")], &deep(4999, "3"), true),
    ] {
        assert_eq!(differs(samples, got), expected, "{samples:?}: {got}");
    }
}

#[test]
fn places_are_told() {
    let found = differences(&[html("a\nb c\nd")], &html("a\nb x\nd"));
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["body, line 2: expected `b c`, got `b x`"]);
    let found = differences(&[html(r#"{"items":[{"name":"a"}],"b":1}"#)], &html(r#"{"items":[{"name":"c"}]}"#));
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["body, /b: expected `1`, got ``", "body, /items/0/name: expected `a`, got `c`"]
    );
}

#[test]
fn statuses_redirects_and_ends() {
    let with_status = |status| Answer { status, ..html("") };
    for (expected, again, got, level, noise) in [
        (200, 200, 200, Level::Strict, None),
        (200, 200, 201, Level::Strict, Some(false)),
        (200, 201, 201, Level::Strict, Some(true)),
        (200, 500, 500, Level::Strict, Some(false)),
        (200, 200, 500, Level::Run, Some(false)),
        (200, 200, 204, Level::Run, None),
        (404, 404, 403, Level::Run, None),
    ] {
        let [expected, again, got] = [expected, again, got].map(|status| Outcome::Answered(with_status(status)));
        let own = Own::default();
        let side = |record| Side { record, own: &own };
        let mut mask = Mask::default();
        mask.learn_http(side(&expected), side(&again));
        let found = http(side(&expected), side(&got), &mask, level);
        assert_eq!(found.first().map(|difference| difference.noise), noise, "{expected} {again} {got}");
        assert!(found.iter().all(|difference| difference.what == What::Status));
    }
    let redirect = |place: &str| with_header(with_status(302), "location", place);
    let found = differences(&[redirect("http://localhost:8080/a")], &redirect("/b"));
    assert_eq!(found[0].to_string(), "redirect: expected `/a`, got `/b`");
    assert_eq!(differences(&[redirect("http://localhost:8080/a")], &redirect("http://localhost:9090/a")), []);

    let stream = |text: &str, truncated| Answer { truncated, ..html(text) };
    let endless = [stream("data: 1\ndata: 2\n", Some(Truncated::TimedOut))];
    assert_eq!(differences(&endless, &stream("data: 1\ndata: 2\ndata: 3\n", Some(Truncated::TimedOut))), []);
    assert_eq!(real(&differences(&endless, &stream("", Some(Truncated::TimedOut)))).len(), 1);
    let found = differences(&endless, &stream("data: 1\ndata: 2\n", Some(Truncated::Broken)));
    assert_eq!(found[0].to_string(), "end of the body: expected `did not end in time`, got `broke off`");
}

#[test]
fn whether_there_is_an_answer() {
    let answered = || Outcome::Answered(html("x"));
    let failed = |reason: &str| Outcome::Failed(reason.into());
    let other = |said: &str| Outcome::NotHttp(said.into());
    for (expected, got, strict, run) in [
        (failed("a"), failed("b"), 0, 0),
        (answered(), failed("no answer in time"), 1, 1),
        (failed("a"), answered(), 1, 1),
        (answered(), other("-ERR"), 1, 1),
        (other("-ERR"), other("-ERR"), 0, 0),
        (other("-ERR"), other("+OK"), 1, 0),
    ] {
        let own = Own::default();
        let side = |record| Side { record, own: &own };
        let mut mask = Mask::default();
        let count = |level, mask: &Mask| {
            http(side(&expected), side(&got), mask, level).iter().filter(|difference| !difference.noise).count()
        };
        assert_eq!((count(Level::Strict, &mask), count(Level::Run, &mask)), (strict, run), "{expected}, {got}");
        // Even one that is not steady in it.
        mask.learn_http(side(&expected), side(&got));
        assert_eq!(count(Level::Run, &mask), run);
    }
}

#[test]
fn own_names_are_no_difference() {
    let own = [("1f9d0c27ad3b", "172.17.0.2"), ("7be2145fc019", "172.17.0.9")]
        .map(|(host, address)| Own::new([(host.to_owned(), "host name"), (address.to_owned(), "address")]));
    let outcome = |host: &str, address: &str| {
        let page = html(format!("<p>{host} at {address}</p>"));
        Outcome::Answered(with_header(page, "location", format!("http://{address}/x")))
    };
    let (expected, got) = (outcome("1f9d0c27ad3b", "172.17.0.2"), outcome("7be2145fc019", "172.17.0.9"));
    let compare = |own: &[Own; 2]| {
        let (expected, got) = (Side { record: &expected, own: &own[0] }, Side { record: &got, own: &own[1] });
        http(expected, got, &Mask::default(), Level::Strict).len()
    };
    assert_eq!(compare(&own), 0);
    assert_eq!(compare(&[Own::default(), Own::default()]), 2);
}

#[test]
fn bodies_of_which_not_all_is_kept() {
    let whole = html("a\nb\n");
    let lost = |answer: &Answer| Answer { body: bytes::Bytes::new(), ..answer.clone() };
    assert_eq!(differences(&[lost(&whole)], &whole), []);
    let found = differences(&[lost(&whole)], &html("a\nc\n"));
    assert!(found[0].expected.ends_with(", not kept") && !found[0].noise, "{found:?}");
    let compressed = |time| with_header(answer("text/plain", gzip(b"a", time)), "content-encoding", "gzip");
    let decoded_digest = decoded_digest(&compressed(1));
    assert!(decoded_digest.is_some());
    assert_eq!(differences(&[Answer { decoded_digest: decoded_digest.clone(), ..lost(&compressed(1)) }], &compressed(2)), []);
    assert_eq!(differences(&[lost(&compressed(1))], &compressed(2)).len(), 1);

    // A long one: its beginning tells where, its digest whether there is more.
    let long = |first: &str, last: &str| {
        let text = format!("{first}\n{}{last}\n", "line\n".repeat(100));
        Answer { body: text.as_bytes()[..200].to_vec().into(), ..html(text) }
    };
    let samples = [long("at 1", "x"), long("at 20", "x")];
    assert_eq!(real(&differences(&samples[..1], &long("at 3", "x"))).len(), 2);
    assert_eq!(real(&differences(&samples, &long("at 3", "x"))), Vec::<&Difference>::new());
    assert_eq!(real(&differences(&samples, &long("other", "x"))).len(), 2);
    assert_eq!(real(&differences(&samples[..1], &long("at 1", "y"))).len(), 1);
    assert_eq!(real(&differences(&samples, &html("at 3"))).len(), 2);
}

#[test]
fn bombs_are_compared_as_bytes() {
    let bomb = |time| with_header(answer("text/plain", gzip(&vec![b'x'; 8 << 20], time)), "content-encoding", "gzip");
    assert_eq!(differences(&[bomb(1)], &bomb(1)), []);
    assert_eq!(differences(&[bomb(1)], &bomb(2)).len(), 1);
    let bare = |content: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(vec![], Compression::fast());
        encoder.write_all(content).expect("compressed");
        with_header(answer("text/plain", encoder.finish().expect("compressed")), "content-encoding", "deflate")
    };
    assert_eq!(differences(&[bare(b"a\n\nb")], &bare(b"a\nb")), []);
}

#[test]
fn hostile_answers_cost_little() {
    let count = 30_000;
    let numbers = |from: usize| (from..from + count).map(|number| number.to_string()).collect::<Vec<_>>();
    for [first, second] in [
        [numbers(1).join(" "), numbers(2).join(" ")],
        [numbers(1).join("\n"), numbers(2).join("\n")],
        [format!("[{}]", numbers(1).join(",")), format!("[{}]", numbers(2).join(","))],
        ["a\nb\n".repeat(count), "b\nc\na\n".repeat(count)],
        ["<a>x<b>".repeat(count), "<a>y<a>z<b>".repeat(count)],
        ["12:30 Jan 1 ".repeat(count / 4), "12:31 Jan 2 ".repeat(count / 4)],
        ["x;".repeat(3 * count), "y;".repeat(3 * count)],
    ] {
        differences(&[html(first), html(second)], &html("x"));
    }
}

#[test]
fn commands() {
    let own = Own::default();
    let run = |exit_code, stdout: &str, stderr: &str| {
        let collected = |text: &str| {
            let mut collector = OutputCollector::default();
            collector.push(text.as_bytes());
            collector.finish()
        };
        ExecRecord {
            command: ExecCommand::Direct(vec!["x".into()]),
            exit_code,
            milliseconds: 1,
            stdout: collected(stdout),
            stderr: collected(stderr),
        }
    };
    let long = |last: &str| format!("{}{last}", "line\n".repeat(100_000));
    for (samples, got, strict, running) in [
        (vec![run(Some(0), "a", "b")], run(Some(0), "a\n", "b"), &[][..], true),
        (vec![run(Some(0), "a", "b")], run(Some(1), "a", "b"), &[What::ExitCode], false),
        (vec![run(Some(0), "a", "b")], run(None, "a", "b"), &[What::ExitCode], false),
        (vec![run(Some(1), "a", "b")], run(Some(2), "a", "b"), &[What::ExitCode], true),
        (vec![run(Some(1), "a", "b"), run(Some(2), "a", "b")], run(Some(2), "a", "b"), &[], true),
        (vec![run(Some(0), "a", "b"), run(Some(2), "a", "b")], run(Some(2), "a", "b"), &[What::ExitCode], false),
        (vec![run(Some(0), "a", "b")], run(Some(0), "c", "d"), &[What::Stdout, What::Stderr], true),
        (vec![run(Some(0), "a 1", "x\ny"), run(Some(0), "a 2", "y\nx")], run(Some(0), "a 3", "y\nx"), &[], true),
        (vec![run(Some(0), "a 1", ""), run(Some(0), "a 2", "")], run(Some(0), "a 3", "warning"), &[What::Stderr], true),
        (vec![run(Some(0), &long("x"), "")], run(Some(0), &long("x"), ""), &[], true),
        (vec![run(Some(0), &long("x"), "")], run(Some(0), &long("y"), ""), &[What::Stdout], true),
        (vec![run(Some(0), &long("x"), ""), run(Some(0), &long("y"), "")], run(Some(0), &long("z"), ""), &[], true),
        (
            vec![run(Some(0), &long("x"), ""), run(Some(0), &long("y"), "")],
            run(Some(0), "line\n", ""),
            &[What::Stdout, What::Stdout],
            true,
        ),
    ] {
        let side = |record| Side { record, own: &own };
        let mut mask = Mask::default();
        samples[1..].iter().for_each(|again| mask.learn_exec(side(&samples[0]), side(again)));
        let found = exec(side(&samples[0]), side(&got), &mask, Level::Strict);
        assert_eq!(real(&found).iter().map(|difference| difference.what.clone()).collect::<Vec<_>>(), strict, "{found:?}");
        assert_eq!(exec(side(&samples[0]), side(&got), &mask, Level::Run).is_empty(), running, "{found:?}");
    }
}

#[test]
fn a_mask_says_where_it_is_coarse() {
    let own = Own::default();
    let coarse = |samples: [Answer; 2]| {
        let [first, second] = samples.map(Outcome::Answered);
        let side = |record| Side { record, own: &own };
        let mut mask = Mask::default();
        mask.learn_http(side(&first), side(&second));
        mask.coarse()
    };
    assert_eq!(coarse([html("a 1"), html("a 2")]), Vec::<String>::new());
    assert_eq!(coarse([html("a\nb\nc"), html("a\nc")]), ["body: from line 2, the number of lines differs"]);
    assert_eq!(coarse([html("a\nb"), html("b\na")]), ["body: the lines come in any order"]);
    assert_eq!(coarse([html("[1]"), html("[1,2]")]), ["body: ``: only the shape of the value is compared"]);
    assert_eq!(coarse([html("\0"), html("\0\0")]), ["body: only the size is compared, by its order of magnitude"]);
}
