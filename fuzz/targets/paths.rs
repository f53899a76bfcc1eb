//! Paths: their text, and where they lead in a tree with links of every kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::escape::{escape, unescape};
use slim::image::tree::{Entry, Kind, Tree, TreeBuilder};
use slim::observe::observation::Spelling;
use slim::plan::resolve::View;

/// A tree of links, from the fuzzer's own bytes: each run up to a zero is a link's target.
fn tree(data: &[u8]) -> Tree {
    let entry = |name: &[u8], kind, target: &[u8]| Entry {
        parent: 0,
        name: name.to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_nanoseconds: 0,
        size: 0,
        device: (0, 0),
        link_group: None,
        target: target.to_vec(),
        xattrs: vec![],
    };
    let mut builder = TreeBuilder::default();
    builder.push(entry(b"", Kind::Directory, b"")).expect("root");
    let directory = builder.push(entry(b"d", Kind::Directory, b"")).expect("directory");
    for (number, target) in data.split(|&byte| byte == 0).take(26).enumerate() {
        let mut link = entry(&[b'A' + number as u8], Kind::Symlink, target);
        link.parent = if number % 2 == 0 { 0 } else { directory.0 };
        builder.push(link).expect("link");
    }
    builder.finish().expect("tree")
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(unescape(&escape(data)).as_deref(), Some(data));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = unescape(text);
    }
    let (links, path) = data.split_at(data.len() / 2);
    let (base, path) = path.split_at(path.len() / 2);
    let tree = tree(links);
    for root in [&b""[..], b"/d"] {
        for follow in [true, false] {
            let _ = View::of(&tree).resolve(Spelling { root, base, path }, follow);
        }
    }
});
