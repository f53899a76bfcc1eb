//! Answers of whole programs, and what differs between them.

use std::io::Write as _;

use flate2::Compression;

use super::*;

mod noise;
mod rules;

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
