use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::Barrier;

use ::tar::EntryType;

use super::merge::{MergeError, Merged, merge};
use super::read::LayerFiles;
use super::*;
use crate::escape::escape;
use crate::image::config::ImageConfig;
use crate::image::digest::digest_of;
use crate::image::layer::fixture::Archive;
use crate::image::read_files::{Piece, ReadFiles};
use crate::image::transport::section::Section;
use crate::image::tree::{EntryId, Tree};

/// An image of layers in memory.
fn image(layers: &[Vec<u8>]) -> LayeredImage {
    let blob = |bytes: &Vec<u8>| {
        let diff_id = digest_of(bytes);
        LayerBlob::new(diff_id, None, String::new(), Section::new(Arc::new(bytes.clone()), bytes.len() as u64))
    };
    LayeredImage {
        id: String::new(),
        config_bytes: vec![],
        config: ImageConfig::default(),
        tags: vec![],
        layers: layers.iter().map(blob).collect(),
    }
}

/// A store in a folder that holds nothing else but a file beside it.
struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        let store = Store::open(&folder.path().join("a/store")).unwrap();
        Fixture { folder, store }
    }

    fn unpack(&self, layers: &[Vec<u8>]) -> Result<Vec<StoredLayer>, String> {
        let unpacked = self.store.unpack(&image(layers), Flavour::User, 1 << 30, &|_, _| ());
        unpacked.map_err(|error| error.to_string())
    }

    fn merged(&self, layers: &[Archive]) -> (Vec<StoredLayer>, Merged) {
        let bytes: Vec<Vec<u8>> = layers.iter().map(|layer| layer.clone().finish()).collect();
        let layers = self.unpack(&bytes).unwrap();
        let merged = merge(layers.iter().map(|layer| &*layer.index), 1_500_000_000, &[]).unwrap();
        (layers, merged)
    }

    /// A layer is refused with these words, and nothing but the store was touched.
    #[track_caller]
    fn refuses(&self, layer: Archive, words: &str) {
        let said = self.unpack(&[layer.finish()]).unwrap_err();
        assert!(said.contains(words), "{said}");
        self.is_untouched();
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.folder.path()), ["a", "outside"]);
        assert_eq!(names(&self.folder.path().join("a")), ["store"]);
        assert_eq!(names(self.store.root()), ["layers"]);
        assert_eq!(fs::read(self.folder.path().join("outside")).unwrap(), b"untouched");
        let partial =
            names(&self.store.directory(Flavour::User)).into_iter().filter(|name| name.to_string_lossy().contains("partial"));
        assert_eq!(partial.count(), 0);
    }
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.walk(EntryId::ROOT).skip(1).map(|id| escape(&tree.path(id))).collect()
}

#[track_caller]
fn contents(layers: Vec<StoredLayer>, merged: Merged, path: &str) -> Vec<u8> {
    let mut content = vec![];
    let read = LayerFiles::new(layers, Arc::new(merged)).read(&[path.as_bytes().to_vec()], u64::MAX, &mut |piece| {
        match piece {
            Piece::Data(bytes) => content.extend_from_slice(bytes),
            Piece::Hole(length) => content.resize(content.len() + usize::try_from(length).unwrap(), 0),
            Piece::End => {}
        }
        Ok(())
    });
    read.unwrap();
    content
}

#[test]
fn metadata_are_those_of_the_archive_whatever_the_disk_can_hold() {
    let fixture = Fixture::new();
    let layer = Archive::default()
        .file("d/inner", b"x")
        .directory("d", 0o2500)
        .records(&[("mtime", b"-1.5"), ("SCHILY.xattr.security.capability", b"\x01\n"), ("SCHILY.xattr.user.a", b"b")])
        .member(EntryType::Regular, "program", b"bytes", |header| {
            header.set_mode(0o6755);
            header.set_uid(12);
            header.set_gid(34);
        })
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 8, 1)
        .member(EntryType::Fifo, "fifo", b"", |_| ())
        .symlink("link", "/program")
        .hard_link("other", "program");
    let (layers, merged) = fixture.merged(&[layer]);
    let tree = &merged.tree;
    assert_eq!(paths(tree), ["/d", "/d/inner", "/disk", "/fifo", "/link", "/null", "/other", "/program"]);
    let get = |path: &[u8]| tree.get(path).unwrap();
    assert_eq!(tree.mode(get(b"/d")), 0o2500);
    assert_eq!((tree.device(get(b"/null")), tree.device(get(b"/disk"))), ((1, 3), (8, 1)));
    assert_eq!(tree.target(get(b"/link")), b"/program");
    // The link's own header said something else of the file; the last one counts. Attributes add up, but for capabilities,
    // which a new owner takes away.
    let program = get(b"/program");
    assert_eq!((tree.hard_links(program).len(), tree.mode(program), tree.owner(program)), (2, 0o644, (0, 0)));
    assert_eq!(tree.xattrs(program), [crate::image::tree::Xattr { name: b"user.a".to_vec(), value: b"b".to_vec() }]);
    assert_eq!(tree.mtime(EntryId::ROOT), (1_500_000_000, 0));
    let files = &layers[0].files;
    assert!(fs::symlink_metadata(files.join("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(files.join("null")).unwrap().is_file());
    let status = fs::metadata(files.join("d")).unwrap();
    assert_eq!((status.mode() & 0o7777, status.mtime()), (0o700, 1_600_000_000));
    assert_eq!(fs::metadata(files.join("program")).unwrap().nlink(), 2);
    assert_eq!(contents(layers, merged, "/other"), b"bytes");
}

#[test]
fn times_before_the_epoch_and_fractions() {
    let fixture = Fixture::new();
    let layer = Archive::default().records(&[("mtime", b"-1.5")]).file("a", b"").directory("b", 0o755);
    let (layers, merged) = fixture.merged(&[layer]);
    assert_eq!(merged.tree.mtime(merged.tree.get(b"/a").unwrap()), (-2, 500_000_000));
    let status = fs::metadata(layers[0].files.join("a")).unwrap();
    assert_eq!((status.mtime(), status.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn whiteouts_and_opaque_directories() {
    let fixture = Fixture::new();
    let below = Archive::default().file("a/one", b"1").file("a/two", b"2").file("b/x", b"x").file("c/y", b"y").file("d", b"d");
    let above = Archive::default()
        .file("a/.wh.one", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"")
        .file(".wh.d", b"")
        .file(".wh.nothing", b"")
        .file(".wh..wh.plnk", b"");
    let (layers, merged) = fixture.merged(&[below.clone(), above]);
    assert_eq!(paths(&merged.tree), ["/a", "/a/two", "/b", "/b/new", "/c", "/c/y"]);
    let files = &layers[1].files;
    let whiteout = fs::symlink_metadata(files.join("a/one")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(!files.join("a/.wh.one").exists());
    // What the layer itself puts at the path of a whiteout stays, on either side of it; a directory hides what is below.
    let above = Archive::default()
        .file(".wh.a", b"")
        .file("a/three", b"3")
        .directory("b", 0o700)
        .file("b/z", b"z")
        .file(".wh.b", b"")
        .file("d", b"new")
        .file(".wh.d", b"")
        .file(".wh.c", b"");
    let (layers, merged) = fixture.merged(&[below.clone(), above]);
    assert_eq!(paths(&merged.tree), ["/a", "/a/three", "/b", "/b/z", "/d"]);
    assert_eq!(contents(layers, merged, "/d"), b"new");
    let (_, merged) = fixture.merged(&[below, Archive::default().file(".wh..wh..opq", b"").file("e", b"")]);
    assert_eq!(paths(&merged.tree), ["/e"]);
}

#[test]
fn one_layer_on_the_other() {
    let fixture = Fixture::new();
    let below = Archive::default()
        .directory("lib", 0o750)
        .file("lib/a", b"below")
        .file("file", b"")
        .directory("directory", 0o755)
        .file("directory/x", b"")
        .symlink("link", "lib");
    let above = Archive::default()
        .file("lib/b", b"")
        .file("directory", b"")
        .file("file/inner", b"")
        .file("link/of", b"")
        .file("lib/a", b"above");
    let (layers, merged) = fixture.merged(&[below, above]);
    let tree = &merged.tree;
    assert_eq!(paths(tree), ["/directory", "/file", "/file/inner", "/lib", "/lib/a", "/lib/b", "/link", "/link/of"]);
    // A directory that is only implied says nothing of one below.
    assert_eq!((tree.mode(tree.get(b"/lib").unwrap()), tree.mode(tree.get(b"/file").unwrap())), (0o750, 0o755));
    assert_eq!(merged.origin(tree.get(b"/lib/a").unwrap()).layer, 1);
    assert_eq!(contents(layers, merged, "/lib/a"), b"above");
}

#[test]
fn hard_links_across_layers() {
    let fixture = Fixture::new();
    let below = Archive::default().file("a", b"content").file("b", b"gone");
    // What the layer takes away is still there for its links.
    let above = Archive::default().hard_link("c", "/a").hard_link("d", "c").file(".wh.a", b"").hard_link("b", "b");
    let (layers, merged) = fixture.merged(&[below.clone(), above]);
    assert_eq!(paths(&merged.tree), ["/b", "/c", "/d"]);
    assert_eq!(merged.tree.hard_links(merged.tree.get(b"/d").unwrap()).len(), 2);
    assert_eq!(contents(layers, merged, "/d"), b"content");
    let layers = fixture.unpack(&[below.finish(), Archive::default().hard_link("c", "none").finish()]).unwrap();
    let wrong = merge(layers.iter().map(|layer| &*layer.index), 0, &[]);
    assert!(matches!(wrong, Err(MergeError::HardLink { path, target }) if (&path[..], &target[..]) == ("/c", "/none")));
}

#[test]
fn paths_below_links_of_their_own_layer() {
    let fixture = Fixture::new();
    let layer = Archive::default()
        .directory("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/a", b"a")
        .symlink("out", "../../../../outside")
        .symlink("absolute", "/usr")
        .file("absolute/b", b"")
        .file("out/c", b"")
        .symlink("up", "..")
        .file("usr/../up/d", b"")
        .hard_link("linked", "lib/a");
    let (layers, merged) = fixture.merged(&[layer]);
    let expected = [
        "/absolute",
        "/d",
        "/lib",
        "/linked",
        "/out",
        "/outside",
        "/outside/c",
        "/up",
        "/usr",
        "/usr/b",
        "/usr/lib",
        "/usr/lib/a",
    ];
    assert_eq!(paths(&merged.tree), expected);
    assert_eq!(contents(layers, merged, "/linked"), b"a");
    fixture.is_untouched();
}

#[test]
fn entries_that_are_there_twice() {
    let fixture = Fixture::new();
    let layer = Archive::default()
        .file("a", b"first")
        .hard_link("b", "a")
        .file("a", b"second")
        .file("c", b"")
        .directory("c", 0o700)
        .file("c/d/e", b"")
        .symlink("c/d", "x")
        .directory("f", 0o700)
        .file("f/g", b"")
        .directory("f/", 0o711)
        .directory(".", 0o700)
        .directory("./", 0o700);
    let (layers, merged) = fixture.merged(&[layer]);
    let tree = &merged.tree;
    assert_eq!(paths(tree), ["/a", "/b", "/c", "/c/d", "/f", "/f/g"]);
    assert_eq!((tree.mode(tree.get(b"/f").unwrap()), tree.mode(EntryId::ROOT)), (0o711, 0o755));
    assert_eq!(contents(layers.clone(), merged.clone(), "/a"), b"second");
    assert_eq!(contents(layers, merged, "/b"), b"first");
}

#[test]
fn hostile_paths_are_refused() {
    let fixture = Fixture::new();
    fixture.refuses(Archive::default().file("../outside", b"owned"), "`../outside` leads out of the image's root");
    fixture.refuses(Archive::default().file("a/../../../outside", b"owned"), "leads out of the image's root");
    fixture.refuses(Archive::default().hard_link("a", "../../../outside"), "leads out of the image's root");
    fixture.refuses(Archive::default().file("a", b"").file("a/b", b""), "`a/b` is below something that is not a directory");
    fixture.refuses(
        Archive::default().directory("a", 0o755).hard_link("b", "a"),
        "`/b` is a hard link to `a`, which is a directory",
    );
    fixture.refuses(Archive::default().symlink("a", "b").symlink("b", "a").file("a/c", b""), "too many symbolic links");
    fixture.refuses(Archive::default().symlink("a", "a/a/a/a/a").file("a/c", b""), "too many symbolic links");
    fixture.refuses(Archive::default().file(".wh.", b""), "cannot be a path");
    fixture.refuses(Archive::default().file("a/.wh...", b""), "cannot be a path");
    let long = |path: String| Archive::default().records(&[("path", path.as_bytes())]).file("x", b"");
    fixture.refuses(long("x".repeat(256)), "cannot be a path");
    fixture.refuses(long("x/".repeat(600)), "cannot be a path");
    fixture.refuses(long("x/".repeat(3000)), "cannot be a path");
    // An absolute path is one below the root of the image.
    let absolute = fixture.folder.path().join("absolute").to_str().unwrap().to_owned();
    let (_, merged) = fixture.merged(&[long(absolute.clone())]);
    assert!(merged.tree.get(absolute.as_bytes()).is_some());
    fixture.is_untouched();
}

/// A few megabytes, compressed, that would fill any memory: attributes, and paths that links make longer than the
/// archive says.
#[test]
fn what_would_fill_the_memory_is_refused() {
    let fixture = Fixture::new();
    let value = vec![b'x'; 500 << 10];
    let attributes = (0..140).fold(Archive::default(), |archive, number| {
        archive.records(&[("SCHILY.xattr.user.x", &value)]).file(&format!("f{number}"), b"")
    });
    fixture.refuses(attributes, "the extended attributes of a layer have more than 64 MiB");
    // Each link leads to a directory that is 2,000 bytes deeper than the last.
    let deep = format!("{}/", "d".repeat(200)).repeat(10);
    let mut archive = Archive::default();
    for (link, next) in [("", "a"), ("a/", "b"), ("b/", "c")] {
        let target = format!("{link}{deep}");
        archive = archive.records(&[("path", target.as_bytes())]).directory("x", 0o755);
        archive = archive.records(&[("linkpath", target.as_bytes())]).symlink(next, "x");
    }
    fixture.refuses(archive, "cannot be a path");
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let fixture = Fixture::new();
    let good = Archive::default().file("a", &[1; 5000]).finish();
    let mut cut = image(std::slice::from_ref(&good));
    cut.layers[0] =
        LayerBlob::new(cut.layers[0].diff_id.clone(), None, String::new(), Section::new(Arc::new(good.clone()), 3000));
    let said = fixture.store.unpack(&cut, Flavour::User, 1 << 30, &|_, _| ()).unwrap_err().to_string();
    assert!(said.contains("the image is damaged"), "{said}");
    let mut wrong = image(std::slice::from_ref(&good));
    wrong.layers[0].diff_id = format!("sha256:{}", "0".repeat(64));
    let said = fixture.store.unpack(&wrong, Flavour::User, 1 << 30, &|_, _| ()).unwrap_err().to_string();
    assert!(said.contains("the image is damaged"), "{said}");
    // A sparse file of 10 GB in 2 KB.
    let bomb = Archive::default()
        .records(&[("GNU.sparse.size", b"10000000000"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.name", b"bomb")])
        .file("x", b"x");
    fixture.refuses(bomb.clone(), "allow more with `--max-unpacked-size`");
    let roomy = fixture.store.unpack(&image(&[bomb.finish()]), Flavour::User, 20_000_000_000, &|_, _| ()).unwrap();
    let status = fs::metadata(roomy[0].files.join("bomb")).unwrap();
    assert!((status.len(), status.blocks() * 512 < 1 << 20) == (10_000_000_000, true), "{status:?}");
    fixture.is_untouched();
}

#[test]
fn the_limit_is_of_all_layers() {
    let fixture = Fixture::new();
    let layers = [Archive::default().file("a", &[1; 5000]).finish(), Archive::default().file("b", &[2; 5000]).finish()];
    let unpack = |limit| fixture.store.unpack(&image(&layers), Flavour::User, limit, &|_, _| ());
    assert!(unpack(10_000).is_err());
    assert!(unpack(20_000).is_ok());
}

#[test]
fn a_layer_is_unpacked_once_by_many_at_a_time() {
    let fixture = Fixture::new();
    let layers = [Archive::default().file("a", &vec![1; 3 << 20]).finish(), Archive::default().file("b", b"").finish()];
    let layers = [layers[0].clone(), layers[1].clone(), layers[0].clone()];
    let barrier = Barrier::new(4);
    let numbers: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let unpack = || {
            barrier.wait();
            let store = Store::open(fixture.store.root()).unwrap();
            let layers = store.unpack(&image(&layers), Flavour::User, 1 << 30, &|_, _| ()).unwrap();
            layers.iter().map(|layer| fs::metadata(&layer.files).unwrap().ino()).collect()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(unpack)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(numbers.iter().all(|number| *number == numbers[0] && number[0] == number[2]), "{numbers:?}");
    let names = fs::read_dir(fixture.store.directory(Flavour::User)).unwrap().count();
    assert_eq!(names, 4);
    assert_eq!(fs::metadata(fixture.store.root()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_store_that_was_open_to_all_is_not_any_more() {
    let fixture = Fixture::new();
    let layers = fixture.store.root().join("layers");
    fs::set_permissions(&layers, Permissions::from_mode(0o755)).unwrap();
    Store::open(fixture.store.root()).unwrap();
    assert_eq!(fs::metadata(&layers).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_a_crash_left_is_made_again() {
    let fixture = Fixture::new();
    let layers = [Archive::default().file("a", b"content").finish()];
    let place = |layer: &StoredLayer| layer.files.parent().unwrap().to_owned();
    let stored = fixture.unpack(&layers).unwrap();
    let whole = place(&stored[0]);
    drop(stored);
    // Killed while it unpacked.
    let partial = whole.with_extension("partial");
    fs::rename(&whole, &partial).unwrap();
    fs::remove_file(partial.join("index")).unwrap();
    fixture.unpack(&layers).unwrap();
    assert!(whole.join("index").exists() && !partial.exists());
    // A loss of power cut a file or the index off; that is seen in the first use after the boot.
    fs::write(whole.join("fs/a"), "con").unwrap();
    fixture.unpack(&layers).unwrap();
    assert_eq!(fs::read(whole.join("fs/a")).unwrap(), b"con");
    fs::write(whole.join("used"), "another boot").unwrap();
    fixture.unpack(&layers).unwrap();
    assert_eq!(fs::read(whole.join("fs/a")).unwrap(), b"content");
    let index = fs::read(whole.join("index")).unwrap();
    fs::write(whole.join("index"), &index[..index.len() - 1]).unwrap();
    fixture.unpack(&layers).unwrap();
    assert_eq!(fs::read(whole.join("index")).unwrap(), index);
}

#[test]
fn the_least_recently_used_goes_first_and_what_is_in_use_stays() {
    let fixture = Fixture::new();
    let layer = |name: &str, bytes: usize| vec![Archive::default().file(name, &vec![7; bytes]).finish()];
    // Bytes count in whole blocks.
    let (old, new, held) = (layer("old", 4096), layer("new", 5000), layer("held", 12_288));
    let held = fixture.unpack(&held).unwrap();
    let stored = [fixture.unpack(&old).unwrap(), fixture.unpack(&new).unwrap()];
    let long_ago = |layer: &StoredLayer, seconds| {
        let used = File::options().write(true).open(layer.files.parent().unwrap().join("used")).unwrap();
        used.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    };
    long_ago(&held[0], 1);
    long_ago(&stored[0][0], 2);
    drop(stored);
    let leftover = fixture.store.directory(Flavour::User).join(format!("{}.partial", "0".repeat(64)));
    fs::create_dir_all(leftover.join("fs/x")).unwrap();
    // As another version of slim would leave it: its index means nothing to us.
    let foreign = fixture.store.directory(Flavour::User).join("1".repeat(64));
    fs::create_dir_all(foreign.join("fs/x")).unwrap();
    fs::write(foreign.join("index"), b"of the future").unwrap();
    let bytes: Vec<u64> = fixture.store.layers().unwrap().iter().map(|layer| layer.bytes).collect();
    assert_eq!((bytes.len(), bytes.iter().sum::<u64>()), (3, 24_576));
    assert_eq!(fixture.store.prune(20_480).unwrap(), Pruned { layers: 1, bytes: 4096, left: 20_480, in_use: 1 });
    assert!(!leftover.exists() && !foreign.exists() && held[0].files.exists());
    assert_eq!(fixture.store.prune(0).unwrap(), Pruned { layers: 1, bytes: 8192, left: 12_288, in_use: 1 });
    drop(held);
    assert_eq!(fixture.store.prune(0).unwrap(), Pruned { layers: 1, bytes: 12_288, left: 0, in_use: 0 });
    assert_eq!(fs::read_dir(fixture.store.directory(Flavour::User)).unwrap().count(), 0);
}

/// Two remove the same layer: one is slower, and when it gets the lock that it opened, the layer is another's again.
#[test]
fn a_layer_that_was_made_again_meanwhile_is_not_removed_by_its_old_lock() {
    let fixture = Fixture::new();
    let layers = [Archive::default().file("a", b"content").finish()];
    drop(fixture.unpack(&layers).unwrap());
    let digits = image(&layers).layers[0].diff_id["sha256:".len()..].to_owned();
    let place = Place::new(fixture.store.directory(Flavour::User), &digits);
    let slow = File::options().write(true).open(&place.lock).unwrap();
    assert_eq!(fixture.store.prune(0).unwrap().layers, 1);
    let used = fixture.unpack(&layers).unwrap();
    assert!(!place.remove_by(&slow, true).unwrap());
    assert_eq!(fs::read(used[0].files.join("a")).unwrap(), b"content");
    assert!(place.lock.exists());
}

/// Several slims use the same layers, and each removes all that it can when it is done.
#[test]
fn what_is_in_use_is_not_lost_to_those_who_remove() {
    let fixture = Fixture::new();
    let layers: Vec<Vec<u8>> = (0..3).map(|number| Archive::default().file("a", &[number; 5000]).finish()).collect();
    let work = |first: usize| {
        let store = Store::open(fixture.store.root()).unwrap();
        for turn in 0..40 {
            let wanted = [layers[(first + turn) % 3].clone(), layers[(first + turn + 1) % 3].clone()];
            let stored = store.unpack(&image(&wanted), Flavour::User, 1 << 30, &|_, _| ()).unwrap();
            for (layer, archive) in stored.iter().zip(&wanted) {
                let content = fs::read(layer.files.join("a")).unwrap();
                assert_eq!((content.len(), content[0]), (5000, archive[512]));
            }
            store.prune(if turn % 2 == 0 { 0 } else { 8192 }).unwrap();
            assert!(stored.iter().all(|layer| layer.files.join("a").exists()));
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|first| drop(scope.spawn(move || work(first)))));
    fixture.store.prune(0).unwrap();
    assert_eq!(fs::read_dir(fixture.store.directory(Flavour::User)).unwrap().count(), 0);
}

#[test]
fn what_engines_make_anew_is_not_of_the_image() {
    let fixture = Fixture::new();
    let layer = Archive::default()
        .file(".dockerenv", b"")
        .file("etc/hosts", b"mine")
        .file("etc/passwd", b"")
        .directory("dev/shm", 0o1777)
        .file("dev/console", b"")
        .directory("etc/mtab", 0o755)
        .directory("var/empty", 0o755)
        .directory("srv", 0o755)
        .directory("srv/app", 0o755);
    let layers = fixture.unpack(&[layer.finish()]).unwrap();
    let made = [b"/var/empty/volume".to_vec(), b"/srv/app".to_vec(), b"/srv/other/".to_vec()];
    let merged = merge(layers.iter().map(|layer| &*layer.index), 1_500_000_000, &made).unwrap();
    let tree = &merged.tree;
    assert_eq!(paths(tree), ["/dev", "/dev/shm", "/etc", "/etc/mtab", "/etc/passwd", "/srv", "/srv/app", "/var"]);
    let time = |path: &[u8]| tree.mtime(tree.get(path).unwrap()).0;
    let times = [b"/dev" as &[u8], b"/etc", b"/srv", b"/srv/app"].map(time);
    assert_eq!(times, [1_500_000_000, 1_500_000_000, 1_500_000_000, 1_600_000_000]);
}

#[test]
fn as_root_files_are_as_in_the_image() {
    let fixture = Fixture::new();
    let layer = Archive::default()
        .records(&[("SCHILY.xattr.trusted.a", b"b"), ("SCHILY.xattr.trusted.overlay.redirect", b"/etc")])
        .member(EntryType::Regular, "a", b"", |header| {
            header.set_uid(12);
            header.set_gid(34);
            header.set_mode(0o4711);
        })
        .directory("d", 0o1500)
        .file("d/.wh..wh..opq", b"")
        .device(EntryType::Char, "null", 1, 3);
    let unpacked = fixture.store.unpack(&image(&[layer.finish()]), Flavour::Root, 1 << 30, &|_, _| ());
    if !nix::unistd::geteuid().is_root() {
        assert!(unpacked.unwrap_err().to_string().contains("Operation not permitted"));
        return fixture.is_untouched();
    }
    let files = &unpacked.unwrap()[0].files;
    let status = |name: &str| fs::symlink_metadata(files.join(name)).unwrap();
    assert_eq!((status("a").uid(), status("a").gid(), status("a").mode() & 0o7777), (12, 34, 0o4711));
    assert_eq!(status("d").mode() & 0o7777, 0o1500);
    assert_eq!(status("null").rdev(), nix::sys::stat::makedev(1, 3));
}
