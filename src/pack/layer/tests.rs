//! Layers read back with the `tar` crate: what is in them is what is in the tree.

use std::io::{self, Read};

use slim_sensor::wire::{Entry, Xattr};
use tar::EntryType;

use super::*;
use crate::image::tree::{TreeBuilder, fixture};
use crate::plan::{Kept, Reason};

pub(crate) fn plan(paths: &[&str]) -> Plan {
    let entries = paths.iter().map(|path| kept(path.as_bytes())).collect();
    Plan { version: Plan::VERSION, image: "sha256:feed".into(), entries, notes: vec![] }
}

fn kept(path: &[u8]) -> Kept {
    Kept { path: path.to_vec(), reasons: vec![Reason::Parent], mode: None, owner: None }
}

fn whole_plan(tree: &Tree) -> Plan {
    let mut entries: Vec<Kept> = tree.ids().map(|id| kept(&tree.path(id))).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Plan { entries, ..plan(&[]) }
}

fn entry(name: &[u8], kind: Kind) -> Entry {
    Entry {
        parent: 0,
        name: name.to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 1_600_000_000,
        mtime_nanoseconds: 0,
        size: 0,
        device: (0, 0),
        link_group: None,
        target: vec![],
        xattrs: vec![],
    }
}

/// Everything that is hard about a layer.
fn hard_tree() -> Tree {
    let mut builder = TreeBuilder::default();
    let mut push = |entry: Entry| builder.push(entry).expect("entry").0;
    push(Entry { mode: 0o755, ..entry(b"", Kind::Directory) });
    let capability =
        Xattr { name: b"security.capability".to_vec(), value: b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec() };
    let user = Xattr { name: b"user.note".to_vec(), value: b"a=b".to_vec() };
    let long = push(Entry { mode: 0o700, ..entry(&[b'd'; 255], Kind::Directory) });
    push(Entry { parent: long, size: 3, ..entry(&[b'f'; 255], Kind::File) });
    push(Entry { size: 1_000, link_group: Some(1), xattrs: vec![capability], mode: 0o4755, ..entry(b"ping", Kind::File) });
    push(Entry { size: 1_000, link_group: Some(1), mode: 0o4755, ..entry(b"a ping", Kind::File) });
    push(Entry { size: 512, ..entry(b"line\nfeed", Kind::File) });
    push(Entry { ..entry(b"not \xff\xfe utf-8", Kind::File) });
    push(Entry { target: [b't'; 300].to_vec(), mode: 0o777, ..entry(b"far", Kind::Symlink) });
    push(Entry { target: b"../\xff".to_vec(), mode: 0o777, ..entry(b"near", Kind::Symlink) });
    push(Entry { mtime: -2, mtime_nanoseconds: 500_000_000, ..entry(b"old", Kind::File) });
    push(Entry { mtime_nanoseconds: 1, xattrs: vec![user], ..entry(b"exact", Kind::File) });
    push(Entry { mode: 0o600, ..entry(b"pipe", Kind::Fifo) });
    push(Entry { device: (1, 3), ..entry(b"null", Kind::CharacterDevice) });
    push(Entry { device: (259, 1_048_575), ..entry(b"disk", Kind::BlockDevice) });
    push(Entry { mode: 0o1777, ..entry(b"tmp", Kind::Directory) });
    push(Entry { uid: 3_000_000, gid: 4_294_967_294, size: 64 << 20, ..entry(b"zeros", Kind::File) });
    builder.finish().expect("tree")
}

/// Feeds each file with its own bytes (the low byte of its number), zeros as a hole.
fn write<W: Write>(tree: &Tree, plan: &Plan, out: W) -> (W, Digest, u64) {
    let layer = Layer::new(tree, plan).expect("layer");
    let mut writer = LayerWriter::new(&layer, out).expect("writer");
    for id in layer.files() {
        let size = tree.size(id);
        if size > 1 << 20 {
            writer.hole(size).expect("hole");
        } else {
            let content = vec![id.0 as u8; size as usize];
            let (head, tail) = content.split_at(content.len() / 2);
            writer.data(head).expect("data");
            writer.data(tail).expect("data");
        }
        writer.file_end().expect("end");
    }
    let (out, digest) = writer.finish().expect("finish");
    (out, digest, layer.size())
}

fn records(entry: &mut tar::Entry<'_, impl Read>) -> Vec<(String, Vec<u8>)> {
    let Some(extensions) = entry.pax_extensions().expect("records") else { return vec![] };
    let records = extensions.map(|record| record.expect("record"));
    records.map(|record| (record.key().expect("key").into(), record.value_bytes().to_vec())).collect()
}

#[test]
fn everything_hard_reads_back() {
    let tree = hard_tree();
    let (bytes, _, size) = write(&tree, &whole_plan(&tree), vec![]);
    assert_eq!(bytes.len() as u64, size);
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut seen = vec![];
    for entry in archive.entries().expect("archive") {
        let mut entry = entry.expect("entry");
        let path = entry.path_bytes().into_owned();
        let header = entry.header();
        let trimmed = path.strip_suffix(b"/").unwrap_or(&path);
        let id = if trimmed == b"." { EntryId::ROOT } else { tree.get(trimmed).expect("in the tree") };
        assert_eq!(path.ends_with(b"/"), tree.kind(id) == Kind::Directory);
        assert_eq!(header.mode().expect("mode"), u32::from(tree.mode(id)));
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        assert_eq!(header.device_major().expect("major").unwrap_or(0), tree.device(id).0);
        assert_eq!(header.device_minor().expect("minor").unwrap_or(0), tree.device(id).1);
        let kind = header.entry_type();
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        let records = records(&mut entry);
        let mut content = vec![];
        entry.read_to_end(&mut content).expect("content");
        match tree.kind(id) {
            Kind::File if tree.name(id) == b"ping" => {
                assert_eq!((kind, &link.expect("link")[..]), (EntryType::Link, &b"a ping"[..]));
            }
            Kind::File => {
                assert_eq!((kind, content.len() as u64), (EntryType::Regular, tree.size(id)));
                let byte = if tree.size(id) > 1 << 20 { 0 } else { id.0 as u8 };
                assert!(content.iter().all(|&found| found == byte));
            }
            Kind::Directory => assert_eq!(kind, EntryType::Directory),
            Kind::Symlink => assert_eq!((kind, &link.expect("link")[..]), (EntryType::Symlink, tree.target(id))),
            Kind::Fifo => assert_eq!(kind, EntryType::Fifo),
            Kind::CharacterDevice => assert_eq!(kind, EntryType::Char),
            Kind::BlockDevice => assert_eq!(kind, EntryType::Block),
        }
        let value = |key: &str| records.iter().find(|(known, _)| known == key).map(|(_, value)| &value[..]);
        let name = tree.name(id);
        assert_eq!(value("SCHILY.xattr.security.capability").is_some(), name == b"ping");
        assert_eq!(value("SCHILY.xattr.user.note"), (name == b"exact").then_some(&b"a=b"[..]));
        assert_eq!(value("uid"), (name == b"zeros").then_some(&b"3000000"[..]));
        assert_eq!(value("gid"), (name == b"zeros").then_some(&b"4294967294"[..]));
        let time = match name {
            b"old" => Some(&b"-1.5"[..]),
            b"exact" => Some(&b"1600000000.000000001"[..]),
            _ => None,
        };
        assert_eq!(value("mtime"), time);
        seen.push(tree.path(id));
    }
    let planned: Vec<Vec<u8>> = whole_plan(&tree).entries.into_iter().map(|kept| kept.path).collect();
    assert_eq!(seen, planned);
}

/// A change here gives every slim image another id: it must be meant.
#[test]
fn the_bytes_are_fixed() {
    let tree = hard_tree();
    let (_, digest, size) = write(&tree, &whole_plan(&tree), io::sink());
    assert_eq!(size, 67_127_808);
    assert_eq!(digest.to_string(), "sha256:4fb093ba21dff9b8fcdae672d89f67ee8a73b0aabde40f83b6759a5344b7cef4");
}

#[test]
fn names_of_one_file_share_what_the_plan_changes() {
    let tree = fixture::tree(&["/a size=5 link=1", "/b size=5 link=1", "/c size=5 link=1"]);
    let mut plan = plan(&["/b", "/c"]);
    plan.entries[1].mode = Some(0o755);
    plan.entries[1].owner = Some((7, 8));
    let (bytes, _, _) = write(&tree, &plan, vec![]);
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = archive.entries().expect("archive").map(|entry| {
        let entry = entry.expect("entry");
        let header = entry.header();
        let owner = (header.uid().expect("uid"), header.gid().expect("gid"));
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        (entry.path_bytes().into_owned(), header.mode().expect("mode"), owner, link, entry.size())
    });
    assert_eq!(
        entries.collect::<Vec<_>>(),
        [(b"b".to_vec(), 0o755, (7, 8), None, 5), (b"c".to_vec(), 0o755, (7, 8), Some(b"b".to_vec()), 0)]
    );
}

#[test]
fn sizes_are_known_without_contents() {
    let size = |bytes: u64| {
        let mut builder = TreeBuilder::default();
        builder.push(entry(b"", Kind::Directory)).expect("root");
        builder.push(Entry { size: bytes, ..entry(b"f", Kind::File) }).expect("file");
        let tree = builder.finish().expect("tree");
        Layer::new(&tree, &plan(&["/f"])).map(|layer| layer.size())
    };
    let headers = 512 + 1_024;
    assert_eq!(size(0).expect("size"), headers);
    assert_eq!(size(1).expect("size"), headers + 512);
    assert_eq!(size((8 << 30) - 1).expect("size"), headers + (8 << 30));
    assert_eq!(size(8 << 30).expect("size"), headers + 1_024 + (8 << 30), "the size needs a PAX record");
    assert!(matches!(size(u64::MAX), Err(PackError::TooLarge)));
    assert!(matches!(size(i64::MAX as u64), Err(PackError::TooLarge)));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_by_name() {
    let tree = fixture::tree(&["/d/f size=1", "/d/.wh.gone", "/x"]);
    for (paths, named) in [
        (&["/d", "/d/absent"][..], "`/d/absent`"),
        (&["/d/"], "`/d/`"),
        (&["/x", "/d"], "`/d`"),
        (&["/x", "/x"], "`/x`"),
        (&["/d/f"], "`/d/f`"),
        (&["/d", "/d/.wh.gone"], "`/d/.wh.gone`"),
    ] {
        let error = Layer::new(&tree, &plan(paths)).expect_err("refused").to_string();
        assert!(error.contains(named), "{error}");
    }
    assert!(Layer::new(&tree, &plan(&["/", "/d", "/d/f", "/x"])).is_ok());
}

#[test]
fn contents_of_another_length_are_refused() {
    let tree = fixture::tree(&["/f size=10", "/g size=1"]);
    let layer = Layer::new(&tree, &plan(&["/f", "/g"])).expect("layer");
    let writer = || LayerWriter::new(&layer, io::sink()).expect("writer");
    let is_content = |result: Result<(), PackError>, bytes: u64| match result {
        Err(PackError::Content { path, expected, given }) => path == "/f" && expected == 10 && given == bytes,
        _ => false,
    };
    assert!(is_content(writer().data(&[0; 11]), 11));
    assert!(is_content(writer().hole(u64::MAX), u64::MAX));
    let mut short = writer();
    short.data(&[0; 4]).expect("data");
    short.hole(5).expect("hole");
    assert!(is_content(short.file_end(), 9));
    assert!(is_content(writer().finish().map(|_| ()), 0));
    let mut over = writer();
    for size in [10, 1] {
        over.hole(size).expect("hole");
        over.file_end().expect("end");
    }
    assert!(matches!(over.data(&[]), Err(PackError::NoFile)));
    assert!(matches!(over.file_end(), Err(PackError::NoFile)));
    assert!(over.finish().is_ok());
}
