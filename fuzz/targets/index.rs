//! The store's own index of a layer, which a crash may have left in any state: what can be read can be written again, put
//! together with others, and never leads to anything but its own records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::image::store::index::Index;
use slim::image::store::merge::merge;

fuzz_target!(|data: &[u8]| {
    let Ok(index) = Index::from_bytes(data) else { return };
    assert_eq!(Index::from_bytes(&index.to_bytes()).expect("a written index can be read"), index);
    for number in 0..index.records.len() as u32 {
        let path = index.path(number);
        assert!(!path.split(|&byte| byte == b'/').any(|name| name == b".."), "{}", path.escape_ascii());
    }
    let _ = merge([&index].into_iter(), 0, &[]);
    let _ = merge([&index, &index].into_iter(), 0, &[b"/a/b".to_vec(), b"/".to_vec()]);
});
