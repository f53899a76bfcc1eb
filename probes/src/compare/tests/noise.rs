//! Programs that answer with something else each time: what is noise must pass, what is broken behind it must not.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

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
