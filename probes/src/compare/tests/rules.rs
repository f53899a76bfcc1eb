//! Each rule of what is compared, and of what noise may hide.

use super::*;
use crate::exec::{ExecCommand, OutputCollector};
use crate::record::Truncated;

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
        // Learning the same again and again widens nothing.
        (
            &[&page("hello"), &page("a\nb"), &page(""), &page("a\nb"), "menu\nhello\nfooter", &page(""), &page("")],
            &page(""),
            false,
        ),
        (&["a\nb\nc\nd", "a\nd", "a\nx\ny\nd", "d", "a\nd", "d", "a\nd", "d", "a\nd", "d", "a\nd", "d"], "a\nd", false),
        // Nothing of it was ever the same.
        (&["abc def", "ghi jkl mno"], "pqr", false),
        (&["abc def", "ghi jkl mno"], "", true),
        (&["abc def", "ghi jkl mno"], "Service unavailable", true),
        (&["abc def", "ghi jkl mno"], "<html><body><h1>This page intentionally left blank</h1></body></html>", true),
        // Lines that come in any order, and a line that is gone.
        (&["a\nb\nc 1", "c 2\na\nb"], "b\nc 3\na", false),
        (&["a\nb\nc 1", "c 1\na\nb"], "b\nc 1\na", false),
        (&["a\nb\nc 1", "c 1\na\nb"], "b\nc 2\na", true),
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
        (&[r#"["a","b",1]"#, r#"[1,"a","b"]"#], r#"["b",1,"a"]"#, false),
        (&[r#"["a","b",1]"#, r#"[1,"a","b"]"#], r#"["b",2,"a"]"#, true),
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
