//! Layers: two of them, cut out of any bytes, become directories of the store, one tree, and nothing else.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use slim::image::config::ImageConfig;
use slim::image::read_files::ReadFiles;
use slim::image::store::index::Index;
use slim::image::store::merge::merge;
use slim::image::store::read::LayerFiles;
use slim::image::store::{Flavour, Store};
use slim::image::transport::section::Section;
use slim::image::transport::{LayerBlob, LayeredImage};
use slim::image::tree::{EntryId, Kind};
use slim::pack::digest_of;

fuzz_target!(|data: &[u8]| {
    let _ = Index::from_bytes(data).map(|index| merge([&index, &index].into_iter(), 0, &[]));
    // In memory, for speed; what comes out of the store would be seen beside it.
    let folder = tempfile::tempdir_in("/dev/shm").expect("a temporary folder");
    let store = Store::open(&folder.path().join("store")).expect("the store can be opened");
    let (one, other) = data.split_at(data.len() / 1024 * 512);
    let blob = |bytes: &[u8]| {
        let section = Section::new(Arc::new(bytes.to_vec()), bytes.len() as u64);
        LayerBlob::new(digest_of(bytes).to_string(), None, String::new(), section)
    };
    let (id, config) = (String::new(), ImageConfig::default());
    let layers = vec![blob(one), blob(other)];
    let image = LayeredImage { id, config_bytes: vec![], config, tags: vec![], layers };
    if let Ok(layers) = store.unpack(&image, Flavour::User, 1 << 24, &|_, _| ()) {
        for layer in &layers {
            assert_eq!(Index::from_bytes(&layer.index.to_bytes()).expect("an index can be read"), *layer.index);
        }
        if let Ok(merged) = merge(layers.iter().map(|layer| &*layer.index), 0, &[b"/a/b".to_vec()]) {
            let tree = merged.tree.clone();
            let is_file = |id: &EntryId| tree.kind(*id) == Kind::File;
            let paths: Vec<Vec<u8>> = tree.walk(EntryId::ROOT).filter(is_file).map(|id| tree.path(id)).collect();
            let mut files = LayerFiles::new(layers, Arc::new(merged));
            files.read(&paths, u64::MAX, &mut |_| Ok(())).expect("every file of the tree can be read");
        }
    }
    store.prune(0).expect("nothing stands in the way");
    let names = std::fs::read_dir(folder.path()).expect("the folder is there");
    assert_eq!(names.count(), 1, "something is beside the store");
});
