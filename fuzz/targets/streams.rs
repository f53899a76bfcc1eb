//! The stream of a layer's blob: any bytes, and bytes that were compressed in parts.
#![no_main]

use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use slim::image::layer::compression::{Budget, Compression, Expected, LayerStream};
use slim::pack::digest_of;

const LIMIT: u64 = 4 << 20;

fn read(blob: Vec<u8>, expected: Expected) -> std::io::Result<Vec<u8>> {
    let mut stream = LayerStream::open(Cursor::new(blob), expected, Arc::new(Budget::new(LIMIT)))?;
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes)?;
    assert!(bytes.len() as u64 <= LIMIT);
    Ok(bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

fuzz_target!(|data: &[u8]| {
    let _ = read(data.to_vec(), Expected::default());
    // With the first bytes of what is compressed, which the fuzzer would have to guess.
    let _ = read([&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], data].concat(), Expected::default());
    let _ = read([&[0x28, 0xb5, 0x2f, 0xfd][..], data].concat(), Expected::default());
    let (one, other) = data.split_at(data.len() / 3);
    for compress in [gzip, zstandard] {
        let blob = [compress(one), compress(other)].concat();
        let digest = |bytes: &[u8]| Some(digest_of(bytes).to_string());
        let expected = Expected { digest: digest(&blob), diff_id: digest(data) };
        assert_eq!(read(blob.clone(), expected.clone()).expect("what was compressed can be read"), data);
        assert!(read(blob[..blob.len() - 1].to_vec(), expected.clone()).is_err(), "the last byte is missing");
        let wrong = Expected { diff_id: digest(&blob), ..expected };
        assert!(read(blob, wrong).is_err(), "it has another digest");
    }
    // What begins like a compressed stream is taken for one.
    if Compression::of(data).is_ok_and(|compression| compression == Compression::None) {
        assert_eq!(read(data.to_vec(), Expected::default()).expect("nothing can be wrong"), data);
    }
});
