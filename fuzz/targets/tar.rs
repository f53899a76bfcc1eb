//! The tar reader, with PAX records and sparse maps: an archive is the same whether what nobody wants is read or passed over.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use slim::image::layer::tar::{Content, Forward, Member, Skip, TarReader};
use slim::image::transport::section::Section;

/// The members of an archive; contents are read, at most `limit` parts of each, or passed over. The error as text.
fn members<S: Skip>(source: S, limit: usize) -> (Vec<Member>, Option<String>) {
    let (mut reader, mut members, mut buffer) = (TarReader::new(source), vec![], [0; 700]);
    loop {
        match reader.next_member() {
            Ok(Some(member)) => {
                let mut length = 0_u64;
                for _ in 0..limit {
                    match reader.read_content(&mut buffer) {
                        Ok(Content::Data(read)) => length += read as u64,
                        Ok(Content::Hole(hole)) => length += hole,
                        Ok(Content::End) => {
                            assert_eq!(length, member.size);
                            break;
                        }
                        Err(error) => return (members, Some(error.to_string())),
                    }
                }
                members.push(member);
            }
            Ok(None) => return (members, None),
            Err(error) => return (members, Some(error.to_string())),
        }
    }
}

fn same(archive: &[u8]) {
    let section = || Section::new(Arc::new(archive.to_vec()), archive.len() as u64);
    let (passed, error) = members(section(), 0);
    assert_eq!(members(Forward(archive), 0), (passed.clone(), error.clone()));
    // A content that is cut off is noticed earlier by who reads it.
    let (read, read_error) = members(Forward(archive), usize::MAX);
    assert!(read == passed || read_error.is_some() && passed.starts_with(&read));
}

/// A header without a checksum, which this build does not ask for.
fn header(kind: u8, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    header[..1].copy_from_slice(b"x");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

fuzz_target!(|data: &[u8]| {
    same(data);
    // The same bytes as PAX records of a file, and as the beginning of that file, where a sparse map may be.
    let (records, content) = data.split_at(data.len() / 2);
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let file = [&header(b'0', content.len())[..], &padded(content)].concat();
    same(&[&header(b'x', records.len())[..], &padded(records), &file, &[0; 1024]].concat());
});
