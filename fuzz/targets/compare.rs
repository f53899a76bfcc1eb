//! Two answers, and what is noise between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim_probes::compare::{self, Difference, Level, Mask, Own, Side};
use slim_probes::{Answer, ExecCommand, ExecRecord, Outcome, OutputCollector, Truncated};

fn compared(expected: &Outcome, got: &Outcome, mask: &Mask, own: &Own) -> Vec<Difference> {
    compare::http(Side { record: expected, own }, Side { record: got, own }, mask, Level::Strict)
}

fn has_only_noise(differences: &[Difference]) -> bool {
    differences.iter().all(|difference| difference.noise)
}

/// An answer: a byte that says how it came, a value of headers up to a NUL, and the body.
fn answer(data: &[u8]) -> Answer {
    let (how, data) = data.split_first().unwrap_or((&0, data));
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let value = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let body = parts.next().unwrap_or_default();
    let mut collector = OutputCollector::default();
    collector.push(body);
    let names = ["set-cookie", "location", "www-authenticate", "vary", "content-type"];
    let mut headers: Vec<(String, String)> = names.map(|name| (name.to_owned(), value.clone())).to_vec();
    match how % 4 {
        1 => headers.push(("content-encoding".to_owned(), "gzip".to_owned())),
        2 => headers.push(("content-encoding".to_owned(), "deflate".to_owned())),
        _ => {}
    }
    let kept = if how & 16 == 0 { body } else { &body[..body.len() / 2] };
    Answer {
        status: 200 + u16::from(how >> 6),
        headers,
        digest: collector.finish().digest,
        size: body.len() as u64,
        truncated: (how & 32 != 0).then_some(Truncated::TimedOut),
        decoded_digest: None,
        body: kept.to_vec().into(),
    }
}

fn command(data: &[u8]) -> ExecRecord {
    let collected = |data: &[u8]| {
        let mut collector = OutputCollector::default();
        collector.push(data);
        collector.finish()
    };
    let (stdout, stderr) = data.split_at(data.len() / 2);
    ExecRecord {
        command: ExecCommand::Direct(vec!["x".to_owned()]),
        exit_code: Some(0),
        milliseconds: 0,
        stdout: collected(stdout),
        stderr: collected(stderr),
    }
}

fuzz_target!(|data: &[u8]| {
    let own = Own::new([("own.name".to_owned(), "host name"), ("4915".to_owned(), "port")]);
    let mut thirds = data.splitn(3, |byte| *byte == 0xff);
    let mut next = || thirds.next().unwrap_or_default();
    let (first, second, third) = (next(), next(), next());

    let [expected, again, got] = [first, second, third].map(|data| Outcome::Answered(answer(data)));
    assert_eq!(compared(&expected, &expected, &Mask::default(), &own), []);
    let mut mask = Mask::default();
    mask.learn_http(Side { record: &expected, own: &own }, Side { record: &again, own: &own });
    let found = compared(&expected, &again, &mask, &own);
    assert!(has_only_noise(&found), "{found:#?}");
    let _ = compared(&expected, &got, &mask, &own);
    mask.learn_http(Side { record: &expected, own: &own }, Side { record: &got, own: &own });
    let _ = (compared(&expected, &got, &mask, &own), mask.coarse());

    let [expected, again] = [first, second].map(command);
    let (expected, again) = (Side { record: &expected, own: &own }, Side { record: &again, own: &own });
    assert_eq!(compare::exec(expected, expected, &Mask::default(), Level::Strict), []);
    let mut mask = Mask::default();
    mask.learn_exec(expected, again);
    let found = compare::exec(expected, again, &mask, Level::Strict);
    assert!(has_only_noise(&found), "{found:#?}");
});
