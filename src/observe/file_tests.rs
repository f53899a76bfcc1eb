use serde_json::json;

use super::*;
use crate::observe::observation::{Access, Fanotify, PhaseKind, Sense, Shows};

const GOLDEN: &[u8] = include_bytes!("testdata/observation.jsonl");
const DOCUMENTATION: &str = include_str!("../../docs/observation.md");

/// Every kind of record, and what is hard to write in each.
pub(in crate::observe) fn fixture() -> Observation {
    let phase = |kind, name: &str| Phase { kind, name: name.into() };
    let path_use = |path: &[u8], access, process, phase| PathUse {
        path: path.into(),
        base: vec![],
        root: vec![],
        access,
        sense: Sense::Notify,
        process,
        phase,
    };
    Observation {
        header: Header {
            tool: "slim 0.1.0".into(),
            image: "sha256:c0ffee".into(),
            name: "app:latest".into(),
            architecture: "amd64".into(),
            options: vec!["--user www-data".into(), "--label a=\"ü\"\n".into()],
            notify: true,
            fanotify: Fanotify::Refused("operation not permitted".into()),
        },
        phases: vec![
            phase(PhaseKind::Start, ""),
            phase(PhaseKind::Ready, ""),
            phase(PhaseKind::Http, "GET /?q=\\\"ü\u{7}"),
            phase(PhaseKind::Exec, "ls -l"),
            phase(PhaseKind::HealthCheck, ""),
            phase(PhaseKind::Stop, ""),
        ],
        processes: vec![
            Process {
                pid: 1,
                parent: 0,
                executable: b"/usr/sbin/nginx".to_vec(),
                command: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
            },
            Process { pid: 7, parent: 1, executable: vec![], command: vec![] },
        ],
        uses: vec![
            path_use(b"/usr/sbin/nginx", Access::Exec, 0, 0),
            path_use(b"/etc/nginx/nginx.conf", Access::Open, 0, 0),
            PathUse { base: b"/srv".to_vec(), root: b"/chroot".to_vec(), ..path_use(b"../\xff\xfe/x", Access::Lookup, 1, 2) },
            PathUse { sense: Sense::Fanotify, ..path_use("/lib/ld\\\n\t\u{1b}ü\"".as_bytes(), Access::Open, 0, 1) },
            PathUse { base: b"/proc".to_vec(), ..path_use(b"", Access::List, 1, 3) },
            path_use(b"/usr/sbin", Access::Enter, 1, 3),
            path_use(b"/usr/bin/python3", Access::ReadLink, 1, 4),
            path_use(b"/run/nginx.pid", Access::Write, 0, 0),
            path_use(b"/run/nginx.pid", Access::Change, 0, 5),
        ],
        mounts: vec![
            Mount { target: b"/proc".to_vec(), shows: Shows::Engine },
            Mount { target: b"/my\xe9 data".to_vec(), shows: Shows::User },
            Mount { target: b"/var/lib/db".to_vec(), shows: Shows::Image },
        ],
        answers: vec![
            json!({"http": {"method": "GET", "resource": "/", "outcome": {"answered": {"status": 200, "headers": [["a", "\r\n"]]}}}}),
            json!({"exec": {"exit_code": null, "stdout": {"text": "a\nb", "size": 5}}}),
            json!(null),
        ],
        syscalls: ["openat", "execve", "999"].map(str::to_owned).into(),
        end: End {
            complete: false,
            tail_unknown: true,
            counters: Counters { received: 1200, resolved: 1199, opens: 44, lost: 1 },
            losses: vec!["the queue of fanotify overflowed".into()],
            notes: vec!["io_uring was denied".into(), "line\nbreak".into()],
            exit_code: Some(137),
        },
    }
}

fn written(observation: &Observation) -> Vec<u8> {
    let mut bytes = vec![];
    write(observation, &mut bytes).unwrap();
    bytes
}

fn message(bytes: &[u8]) -> String {
    read(bytes).map(|_| "no error").unwrap_err().to_string()
}

/// The golden file with other lines; numbers count from 1.
fn with_lines(change: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
    let mut lines: Vec<String> = std::str::from_utf8(GOLDEN).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

#[test]
fn the_format_does_not_change_by_accident() {
    assert_eq!(String::from_utf8(written(&fixture())).unwrap(), String::from_utf8_lossy(GOLDEN));
    assert_eq!(read(GOLDEN).unwrap(), fixture());
}

#[test]
fn the_smallest_comes_back() {
    let mut smallest = Observation { phases: vec![], processes: vec![], uses: vec![], mounts: vec![], ..fixture() };
    smallest.answers.clear();
    smallest.syscalls.clear();
    smallest.header.fanotify = Fanotify::Off;
    smallest.end = End { complete: true, ..End::default() };
    assert_eq!(read(&*written(&smallest)).unwrap(), smallest);
}

#[test]
fn the_documented_example_is_an_observation() {
    let (_, rest) = DOCUMENTATION.split_once("```jsonl\n").unwrap();
    let (example, _) = rest.split_once("```\n").unwrap();
    let observation = read(example.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(written(&observation)).unwrap(), example);
}

#[test]
fn every_word_is_documented() {
    let golden = std::str::from_utf8(GOLDEN).unwrap();
    for line in golden.lines() {
        let serde_json::Value::Object(mut record) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        // What is in an answer is described by words only.
        record.remove("answer");
        let words: Vec<String> = record.keys().cloned().collect();
        let kinds = ["record", "kind", "access", "sense", "shows"].into_iter().filter_map(|key| record.get(key)?.as_str());
        for word in words.iter().map(String::as_str).chain(kinds) {
            assert!(DOCUMENTATION.contains(&format!("`{word}`")), "`{word}`");
        }
    }
}

#[test]
fn records_may_be_mixed_and_fields_added() {
    let bytes = with_lines(|lines| {
        // A writer that tells things as they come: the processes and phases before their first use, all else anywhere.
        let answers = lines.extract_if(.., |line| line.contains(r#""record":"answer""#)).collect::<Vec<_>>();
        lines.splice(1..1, answers);
        for line in lines.iter_mut() {
            *line = format!(r#" {},"new":{{"a":[1]}}}}{}"#, line.strip_suffix('}').unwrap(), "\r");
        }
        lines.insert(4, r#"{"names":["stat"],"record":"syscalls"}"#.into());
    });
    let mut expected = fixture();
    expected.syscalls.insert("stat".into());
    assert_eq!(read(&*bytes).unwrap(), expected);
}

#[test]
fn what_may_be_absent() {
    let lines = [
        r#"{"record":"observation","version":1,"tool":"t","image":"i","name":"n","architecture":"a","options":[],"fanotify":"off"}"#,
        r#"{"record":"phase","kind":"start"}"#,
        r#"{"record":"process","pid":1,"parent":0,"executable":"","command":[]}"#,
        r#"{"record":"use","path":"/x","access":"open","process":0,"phase":0}"#,
        r#"{"record":"end","complete":true,"tail_unknown":false,"counters":{"received":0,"resolved":0,"opens":0,"lost":0}}"#,
        "",
    ];
    let observation = read(lines.join("\n").as_bytes()).unwrap();
    assert_eq!((observation.uses[0].sense, observation.end.exit_code, observation.header.notify), (Sense::Notify, None, true));
}

#[test]
fn a_cut_file_is_an_error_wherever_it_is_cut() {
    for length in 0..GOLDEN.len() {
        let error = read(&GOLDEN[..length]).unwrap_err();
        let complete_lines = GOLDEN[..length].iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(error.line, complete_lines + 1);
        match (length, GOLDEN[length.saturating_sub(1)]) {
            (0, _) => assert!(matches!(error.problem, Problem::Empty), "{error}"),
            (_, b'\n') => assert!(matches!(error.problem, Problem::NoEnd), "{error}"),
            _ => assert!(matches!(error.problem, Problem::Cut), "{error}"),
        }
    }
    assert_eq!(message(b""), "line 1: the file is empty, it should begin with an `observation` record");
    assert_eq!(
        message(&GOLDEN[..GOLDEN.len() - 1]),
        "line 29: the line is cut off, it does not end in a newline: copy the file again, or repeat the observation"
    );
    let without_end = with_lines(|lines| drop(lines.pop()));
    assert_eq!(
        message(&without_end),
        "line 29: the file stops without an `end` record: the run was cut off, so repeat the observation"
    );
}

#[test]
fn damaged_bytes_are_no_panic() {
    for at in 0..GOLDEN.len() {
        for byte in [0, b'"', b'}', b'9', b'\\', b'\n', 0xff] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = byte;
            // Many are still observations, of something else.
            if let Ok(observation) = read(&*bytes) {
                assert_eq!(read(&*written(&observation)).unwrap(), observation);
            }
        }
    }
}

/// What a wrong line in place of line `number` is answered with.
fn message_for(number: usize, line: &str) -> String {
    message(&with_lines(|lines| lines[number - 1] = line.to_owned()))
}

#[test]
fn wrong_first_lines() {
    let foreign = "line 1: not an observation: the file should begin with an `observation` record";
    for line in ["{}", r#"{"record":"phase","kind":"start"}"#, r#"{"version":1,"image":"sha256:c0ffee","entries":[]}"#] {
        assert_eq!(message_for(1, line), foreign, "{line}");
    }
    assert_eq!(
        message_for(1, r#"{"record":"observation","version":2,"digest":7}"#),
        "line 1: the file has version 2 of the observation format, and this `slim` reads version 1: use a `slim` that reads \
         version 2, or repeat the observation with this one"
    );
    let invalid = "line 1: not a record of version 1 of the observation format:";
    assert_eq!(message_for(1, r#"{"record":"observation"}"#), format!("{invalid} missing field `version`"));
    assert_eq!(message_for(1, r#"{"record":"observation","version":1}"#), format!("{invalid} missing field `tool`"));
    assert_eq!(
        message_for(1, r#"{"record":"observation","version":"1"}"#),
        format!("{invalid} invalid type: string \"1\", expected u32")
    );
    assert_eq!(message(b"\x7fELF\x02\n"), "line 1: not a JSON object: it does not begin with `{`");
    assert_eq!(message(b"[\"observation\",1]\n"), "line 1: not a JSON object: it does not begin with `{`");
    assert_eq!(message(b"\n"), "line 1: not a JSON object: it does not begin with `{`");
}

#[test]
fn wrong_records() {
    let invalid = "line 12: not a record of version 1 of the observation format:";
    let kinds = "`observation`, `phase`, `process`, `mount`, `use`, `answer`, `syscalls`, `loss`, `note`, `end`";
    for (line, expected) in [
        (r#"{"record":"clone"}"#, format!("{invalid} unknown variant `clone`, expected one of {kinds}")),
        (r#"{"path":"/x"}"#, format!("{invalid} missing field `record`")),
        (r#"{"record":"use","path":"/x"}"#, format!("{invalid} missing field `access`")),
        (
            r#"{"record":"use","path":"/x","path":"/y","access":"open","process":0,"phase":0}"#,
            format!("{invalid} duplicate field `path`"),
        ),
        (
            r#"{"record":"use","path":"/x","access":"open","process":-1,"phase":0}"#,
            format!("{invalid} invalid value: integer `-1`, expected u32"),
        ),
        (r#"{"record":"use","path":"/\\q"}"#, format!("{invalid} `/\\q` has an unknown escape")),
        (
            "{\"record\":\"phase\",\"kind\":\"\\u001b[2J\"}",
            format!(
                "{invalid} unknown variant `\u{fffd}[2J`, expected one of `start`, `ready`, `http`, `exec`, `health_check`, `stop`"
            ),
        ),
        (r#"{"record":"phase","kind":"start"} {}"#, "line 12: not a JSON object: trailing characters, column 35".into()),
        (r#"{"record":"phase","kind" "start"}"#, "line 12: not a JSON object: expected `:`, column 26".into()),
        (r#"{"record":"phase","#, "line 12: not a JSON object: EOF while parsing a value, column 18".into()),
    ] {
        assert_eq!(message_for(12, line), expected, "{line}");
    }
    let long = message_for(12, &format!(r#"{{"record":"{}"}}"#, "é".repeat(1 << 20)));
    assert_eq!(long, format!("{invalid} unknown variant `{}...", "é".repeat(MAX_SHOWN - 17)));
    let deep = message_for(12, &format!(r#"{{"record":"answer","answer":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20)));
    assert_eq!(deep, "line 12: not a JSON object: recursion limit exceeded, column 155");
    assert_eq!(
        message_for(2, &String::from_utf8_lossy(GOLDEN.split(|&byte| byte == b'\n').next().unwrap())),
        "line 2: a second `observation` record: files of several runs are merged, not concatenated, see docs/observation.md"
    );
}

#[test]
fn wrong_numbers() {
    for (line, expected) in [
        (r#""process":2,"phase":0"#, "process 2 is used, but only 2 were told so far: they are numbered from 0"),
        (r#""process":0,"phase":4294967295"#, "phase 4294967295 is used, but only 6 were told so far: they are numbered from 0"),
    ] {
        let line = format!(r#"{{"record":"use","path":"/x","access":"open",{line}}}"#);
        assert_eq!(message_for(13, &line), format!("line 13: {expected}"));
    }
}

#[test]
fn paths_and_lines_have_a_limit() {
    let path = "/".repeat(MAX_PATH);
    for (rest, most) in [
        (r#""record":"use","access":"open","process":0,"phase":0,"path""#, &path),
        (r#""record":"use","access":"open","process":0,"phase":0,"path":"x","base""#, &path),
        (r#""record":"use","access":"open","process":0,"phase":0,"path":"x","root""#, &path),
        (r#""record":"process","pid":1,"parent":0,"command":[],"executable""#, &path),
        (r#""record":"mount","shows":"user","target""#, &path),
    ] {
        let line = |path: &str| format!(r#"{{{rest}:"{path}"}}"#);
        read(&*with_lines(|lines| lines.insert(12, line(most)))).unwrap();
        let error = message(&with_lines(|lines| lines.insert(12, line(&format!("{most}/")))));
        assert_eq!(error, "line 13: a path of 4097 bytes: the most is 4096");
    }

    let spaces = |length: usize| {
        with_lines(|lines| {
            let missing = length - lines[1].len() - 1;
            lines[1].push_str(&" ".repeat(missing));
        })
    };
    assert_eq!(read(&*spaces(MAX_LINE)).unwrap(), fixture());
    assert_eq!(message(&spaces(MAX_LINE + 1)), "line 2: the line is longer than 16777216 bytes: no observation has such a line");

    let mut too_long = fixture();
    too_long.header.options.push("x".repeat(MAX_LINE));
    let error = write(&too_long, io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "a record takes 16777457 bytes: the most is 16777216");
}

#[test]
fn wrong_ends() {
    let counters = r#""counters":{"received":1,"resolved":1,"opens":0,"lost":0}"#;
    let contradiction = "the run is called complete, but its records say that something was lost: repeat the observation";
    let complete = format!(r#"{{"record":"end","complete":true,"tail_unknown":false,{counters},"exit_code":0}}"#);
    assert_eq!(message_for(29, &complete), format!("line 29: {contradiction}"));
    let lost = complete.replace(r#""lost":0"#, r#""lost":1"#);
    let without_losses = |end: &str| {
        with_lines(|lines| {
            lines.retain(|line| !line.contains(r#""record":"loss""#));
            *lines.last_mut().unwrap() = end.to_owned();
        })
    };
    assert_eq!(message(&without_losses(&lost)), format!("line 28: {contradiction}"));
    assert!(read(&*without_losses(&complete)).unwrap().end.complete);

    let after = "a record after `end`: files of several runs are merged, not concatenated, see docs/observation.md";
    for rest in [GOLDEN, b"\n", b"x"] {
        assert_eq!(message(&[GOLDEN, rest].concat()), format!("line 30: {after}"));
    }
}

#[test]
fn a_file_that_cannot_be_read() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    for (complete, expected) in [(0, "line 1"), (28, "line 29"), (29, "line 30")] {
        let begin: Vec<u8> = GOLDEN.split_inclusive(|&byte| byte == b'\n').take(complete).flatten().copied().collect();
        let error = read(io::BufReader::new(Read::chain(&*begin, Broken))).unwrap_err();
        assert_eq!(error.to_string(), format!("{expected}: cannot be read: the disk is gone"));
    }
}

#[test]
fn saved_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("observation.jsonl");
    save(&fixture(), &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), GOLDEN);
    let missing = folder.path().join("no\nfolder/file");
    assert_eq!(
        save(&fixture(), &missing).unwrap_err().to_string(),
        format!(
            "the observation cannot be written to `{}/no\\nfolder/file`: No such file or directory (os error 2)",
            folder.path().display()
        )
    );
}
