use ::tar::EntryType;

use super::*;
use crate::image::layer::fixture::Archive;

/// The members, each with its content; a hole is so many zeros.
fn read(archive: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(Forward(archive));
    let (mut members, mut buffer) = (vec![], [0; 100]);
    while let Some(member) = reader.next_member()? {
        let mut content = vec![];
        loop {
            match reader.read_content(&mut buffer)? {
                Content::Data(length) => content.extend_from_slice(&buffer[..length]),
                Content::Hole(length) => content.resize(content.len() + usize::try_from(length).unwrap(), 0),
                Content::End => break,
            }
        }
        assert_eq!(content.len() as u64, member.size);
        members.push((member, content));
    }
    Ok(members)
}

fn paths(archive: &[u8]) -> Vec<String> {
    read(archive).unwrap().into_iter().map(|(member, _)| escape(&member.path)).collect()
}

#[test]
fn what_headers_say() {
    let archive = Archive::default()
        .member(EntryType::Regular, "file", &[7; 700], |header| {
            header.set_mode(0o104_755);
            header.set_uid(1);
            header.set_gid(2);
        })
        .directory("directory/", 0o1777)
        .file("old-directory/", b"")
        .symlink("link", "../target")
        .hard_link("hard", "file")
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 8, 1)
        .member(EntryType::Fifo, "fifo", b"", |_| ())
        .finish();
    let members = read(&archive).unwrap();
    let kinds: Vec<_> = members.iter().map(|(member, _)| (escape(&member.path), member.kind, escape(&member.link))).collect();
    let entry = |path: &str, kind, link: &str| (path.to_owned(), Type::Entry(kind), link.to_owned());
    let expected = [
        entry("file", Kind::File, ""),
        entry("directory/", Kind::Directory, ""),
        entry("old-directory/", Kind::Directory, ""),
        entry("link", Kind::Symlink, "../target"),
        ("hard".to_owned(), Type::HardLink, "file".to_owned()),
        entry("null", Kind::CharacterDevice, ""),
        entry("disk", Kind::BlockDevice, ""),
        entry("fifo", Kind::Fifo, ""),
    ];
    assert_eq!(kinds, expected);
    let (file, content) = &members[0];
    assert_eq!((file.mode, file.uid, file.gid, file.mtime, file.position), (0o4755, 1, 2, (1_600_000_000, 0), 512));
    assert_eq!(content, &[7; 700]);
    assert_eq!((members[1].0.mode, members[5].0.device, members[6].0.device), (0o1777, (1, 3), (8, 1)));
}

#[test]
fn long_names_and_records() {
    let long = "x".repeat(300);
    let archive = Archive::default()
        .member(EntryType::GNULongName, "././@LongLink", format!("{long}\0").as_bytes(), |_| ())
        .member(EntryType::GNULongLink, "././@LongLink", format!("{long}/target\0").as_bytes(), |_| ())
        .symlink("short", "short")
        .records(&[("path", b"line\nend"), ("mtime", b"-1.5"), ("uid", b"4000000000"), ("SCHILY.xattr.user.a", b"1\n2")])
        .file("short", b"x")
        .member(EntryType::XGlobalHeader, "pax_global_header", b"13 comment=x\n", |_| ())
        .member(EntryType::Regular, "name", b"", |header| {
            header.as_ustar_mut().unwrap().prefix[..6].copy_from_slice(b"prefix");
        })
        .finish();
    let members = read(&archive).unwrap();
    assert_eq!(members[0].0.path, long.as_bytes());
    assert_eq!(members[0].0.link, format!("{long}/target").as_bytes());
    let (member, _) = &members[1];
    assert_eq!((&member.path[..], member.mtime, member.uid), (&b"line\nend"[..], (-2, 500_000_000), 4_000_000_000));
    assert_eq!(member.xattrs, [Xattr { name: b"user.a".to_vec(), value: b"1\n2".to_vec() }]);
    assert_eq!(members[2].0.path, b"prefix/name");
}

#[test]
fn sparse_files_of_every_age() {
    // Data at 1000..1003 and 5000..5005 of 9000 bytes.
    let mut expected = vec![0; 9000];
    expected[1000..1003].copy_from_slice(b"abc");
    expected[5000..5005].copy_from_slice(b"defgh");
    let old = Archive::default().member(EntryType::GNUSparse, "sparse", b"abcdefgh", |header| {
        let bytes = header.as_mut_bytes();
        bytes[257..265].copy_from_slice(b"ustar  \0");
        for (at, number) in [1000, 3, 5000, 5].into_iter().enumerate() {
            bytes[386 + 12 * at..397 + 12 * at].copy_from_slice(format!("{number:011o}").as_bytes());
        }
        bytes[483..494].copy_from_slice(format!("{:011o}", 9000).as_bytes());
    });
    let single = Archive::default()
        .records(&[
            ("GNU.sparse.size", b"9000"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"1000"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.offset", b"5000"),
            ("GNU.sparse.numbytes", b"5"),
        ])
        .file("sparse", b"abcdefgh");
    let map = Archive::default()
        .records(&[("GNU.sparse.name", b"sparse"), ("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"1000,3,5000,5")])
        .file("GNUSparseFile.1/sparse", b"abcdefgh");
    let mut content = b"2\n1000\n3\n5000\n5\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"abcdefgh");
    let newest = Archive::default()
        .records(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"9000"),
        ])
        .file("GNUSparseFile.1/sparse", &content);
    for archive in [old, single, map, newest] {
        let members = read(&archive.file("next", b"x").finish()).unwrap();
        assert_eq!(members[0].0.path, b"sparse");
        assert!(members[0].1 == expected);
        assert_eq!((&members[1].0.path[..], &members[1].1[..]), (&b"next"[..], &b"x"[..]));
    }
}

#[test]
fn maps_that_lie() {
    let map = |map: &[u8], size: &[u8]| {
        let records = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        read(&Archive::default().records(&records).file("sparse", b"abcdefgh").finish())
    };
    assert!(map(b"0,8", b"8").is_ok());
    for (text, size) in [("0,9", "9"), ("0,7", "9"), ("8,8", "9"), ("4,4,0,4", "8"), ("0", "8"), ("", "8"), ("0,8", "-1")] {
        assert!(map(text.as_bytes(), size.as_bytes()).is_err(), "{text} {size}");
    }
    let many = [b"0,8,".to_vec(), b"8,0,".repeat(100_000), b"8,0".to_vec()].concat();
    assert!(map(&many, b"8").is_err());
    for content in [&b""[..], b"9999999999\n", b"1\n0\n", b"x\n", &[b'1'; 2000]] {
        let records: [(&str, &[u8]); 3] = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
        assert!(read(&Archive::default().records(&records).file("sparse", content).finish()).is_err());
    }
}

#[test]
fn the_end_is_where_it_is_and_not_before() {
    let archive = Archive::default().file("a", &[1; 600]).file("b", b"");
    assert_eq!(paths(&archive.clone().finish()), ["a", "b"]);
    assert_eq!(paths(&archive.0), ["a", "b"]);
    assert_eq!(paths(b""), [""; 0]);
    for length in [1, 511, 512, 600, 1111, 1112, 1535, 1536 + 100] {
        assert!(matches!(read(&archive.0[..length]), Err(TarError::Cut)), "{length}");
    }
}

#[test]
fn what_no_archive_says() {
    let one = |change: fn(&mut Header)| read(&Archive::default().member(EntryType::Regular, "a", b"", change).finish());
    use ::tar::Header;
    assert!(matches!(one(|header| header.as_mut_bytes()[100] = b'9'), Err(TarError::Field { field: "mode", .. })));
    assert!(matches!(one(|header| header.set_uid(1 << 40)), Err(TarError::Field { field: "owner", .. })));
    assert!(matches!(one(|header| header.as_mut_bytes()[156] = b'!'), Err(TarError::Kind { .. })));
    let huge = |header: &mut Header| header.set_size(u64::MAX / 2);
    assert!(read(&Archive::default().member(EntryType::Regular, "a", b"", huge).finish()).is_err());
    assert!(matches!(read(&Archive::default().member(EntryType::XHeader, "a", b"", huge).finish()), Err(TarError::Extension)));
    let mut damaged = Archive::default().file("a", b"").finish();
    damaged[0] = b'b';
    assert!(matches!(read(&damaged), Err(TarError::Checksum(0))));
    let headers = (0..20).fold(Archive::default(), |archive, _| archive.records(&[("path", b"x")]));
    assert!(matches!(read(&headers.file("a", b"").finish()), Err(TarError::Extension)));
}
