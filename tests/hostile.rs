//! Archives and layouts that nobody means well with, given to the command line: each is refused with exit code 4 and a
//! message that says what is wrong, or does no more than it may; and nothing outside of the store is touched.
//!
//! What each reader makes of such bytes is tested beside it; here it is what the user sees.

use std::fs;

use serde_json::json;

use crate::support::ground::{Layer, base, config, docker_archive, gzip, zstandard};
use crate::support::{Archive, Ground, digits};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DAMAGED: &str = "the image is damaged, copy or save it again";

/// The bytes that are kept of a store, holes not counted.
fn stored(ground: &Ground) -> u64 {
    let output = std::process::Command::new("du").args(["-sk", "--"]).arg(ground.path("cache")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// 1 GiB of zeros in the form that `compress` gives it, in parts that are one after the other.
fn bomb(compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    std::iter::repeat_n(compress(&vec![0; 32 << 20]), 32).flatten().collect()
}

#[test]
fn paths_that_lead_out() {
    let ground = Ground::new();
    for path in ["../canary/file", "../../../../../../../tmp/owned", "a/../../b"] {
        ground.refuses(
            &ground.image(Archive::default().file(path, b"owned")),
            &[],
            &format!("`{path}` leads out of the image's root"),
        );
    }
}

#[test]
fn absolute_paths() {
    let ground = Ground::new();
    let path = format!("{}/file", ground.canary());
    let image = ground.image(Archive::default().records(&[("path", path.as_bytes())]).file("x", b"owned"));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", &path]), "owned");
}

#[test]
fn absolute_links() {
    let ground = Ground::new();
    let layer = Archive::default().records(&[("linkpath", ground.canary().as_bytes())]).symlink("link", "x");
    let image = ground.image(layer.file("link/file", b"owned").file("link/new", b""));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", &format!("{}/file", ground.canary())]), "owned");
}

#[test]
fn links_out_of_the_root() {
    let ground = Ground::new();
    let target = format!("{}{}", "../".repeat(40), ground.canary());
    let layer = Archive::default().records(&[("linkpath", target.as_bytes())]).symlink("link", "x");
    let image = ground.image(layer.file("link/file", b"owned").file("link/.wh.other", b""));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", "/link/file"]), "owned");
}

#[test]
fn hard_links_out_of_the_root() {
    let ground = Ground::new();
    let image = ground.image(Archive::default().hard_link("a", "../../canary/file"));
    ground.refuses(&image, &[], "`../../canary/file` leads out of the image's root");
    // What follows would be written into the file of this machine.
    let path = format!("{}/file", ground.canary());
    let layer = Archive::default().records(&[("linkpath", path.as_bytes())]).hard_link("a", "x").file("a", b"owned");
    assert_eq!(ground.runs(&ground.image(layer.clone()), &["/busybox", "cat", "/a"]), "owned");
    let layer = Archive::default().records(&[("linkpath", path.as_bytes())]).hard_link("a", "x");
    ground.refuses(&ground.image(layer), &[], &format!("`/a` is a hard link to `{path}`, which the image does not have"));
}

#[test]
fn a_directory_that_becomes_a_link() {
    let ground = Ground::new();
    let layer = Archive::default().directory("d", 0o755).file("d/inner", b"");
    let layer = layer.records(&[("linkpath", ground.canary().as_bytes())]).symlink("d", "x").file("d/file", b"owned");
    let image = ground.image(layer.directory("d", 0o755).file("d/file", b"inside"));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", "/d/file"]), "inside");
}

#[test]
fn a_path_through_a_link_of_another_layer() {
    let ground = Ground::new();
    let below = Archive::default().records(&[("linkpath", ground.canary().as_bytes())]).symlink("d", "x");
    let above = Archive::default().file("d/file", b"owned").file("d/.wh.other", b"");
    let layers = [base(), Layer::new(below.finish()), Layer::new(above.finish())];
    let image = ground.save(&docker_archive(&layers));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", "/d/file"]), "owned");
}

#[test]
fn links_in_circles() {
    let ground = Ground::new();
    let layer = Archive::default().symlink("a", "b").symlink("b", "a").file("a/c", b"");
    ground.refuses(&ground.image(layer), &[], "`a/c` is behind too many symbolic links");
}

#[test]
fn a_file_and_a_path_through_it() {
    let ground = Ground::new();
    let layer = Archive::default().file("a", b"").file("a/b", b"");
    ground.refuses(&ground.image(layer), &[], "`a/b` is below something that is not a directory");
    let layer = Archive::default().file("a", b"").hard_link("b", "a/c");
    ground.refuses(&ground.image(layer), &[], "`a/c` is below something that is not a directory");
}

#[test]
fn entries_that_are_there_twice() {
    let ground = Ground::new();
    let layer = Archive::default().file("a", b"first").hard_link("b", "a").file("a", b"second").directory("c", 0o755);
    let image = ground.image(layer.file("c/d", b"").file("c", b" third"));
    assert_eq!(ground.runs(&image, &["/busybox", "cat", "/b", "/a", "/c"]), "firstsecond third");
}

#[test]
fn a_sparse_file_of_10_gb() {
    let ground = Ground::new();
    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.size", b"10000000000"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.name", b"bomb")];
    let image = ground.image(Archive::default().records(&records).file("x", b"x"));
    let words = "the image has more than 1073 MB unpacked: allow more with `--max-unpacked-size`";
    ground.refuses(&image, &["--max-unpacked-size", "1g"], words);
    // Who allows it gets a hole.
    assert_eq!(ground.runs(&image, &["/busybox", "stat", "-c", "%s", "/bomb"]), "10000000000\n");
    assert!(stored(&ground) < 8 << 20);
}

#[test]
fn a_gzip_bomb() {
    a_layer_is_a_bomb(bomb(gzip));
}

#[test]
fn a_zstd_bomb() {
    a_layer_is_a_bomb(bomb(zstandard));
}

fn a_layer_is_a_bomb(blob: Vec<u8>) {
    let ground = Ground::new();
    let layers = [base(), Layer { blob, diff_id: format!("sha256:{}", "0".repeat(64)) }];
    ground.refuses(
        &ground.save(&docker_archive(&layers)),
        &["--max-unpacked-size", "10m"],
        "the image has more than 10 MB unpacked",
    );
    assert!(stored(&ground) < 20 << 20);
}

#[test]
fn a_bomb_that_is_the_whole_archive() {
    let ground = Ground::new();
    ground.refuses(&ground.save(&bomb(gzip)), &["--max-unpacked-size", "10m"], "the image has more than 10 MB unpacked");
    assert!(stored(&ground) < 1 << 20);
}

#[test]
fn attributes_that_would_fill_the_memory() {
    let ground = Ground::new();
    let value = vec![b'x'; 500 << 10];
    let layer = (0..200).fold(Archive::default(), |archive, number| {
        archive.records(&[("SCHILY.xattr.user.x", &value)]).file(&format!("f{number}"), b"")
    });
    let layers = [base(), Layer::compressed(&layer.finish(), gzip)];
    ground.refuses(&ground.save(&docker_archive(&layers)), &[], "the extended attributes of a layer have more than 64 MiB");
}

#[test]
fn an_archive_that_is_cut_off() {
    let ground = Ground::new();
    let whole = docker_archive(&[base()]);
    for length in [whole.len() - 1500, whole.len() / 2, 700] {
        ground.refuses(&ground.save(&whole[..length]), &[], "the archive is cut off");
    }
    ground.refuses(&ground.save(&gzip(&whole)[..100_000]), &[], "image.tar` cannot be read");
    ground.refuses(&ground.save(b""), &[], "is not an archive of `docker save`");
}

#[test]
fn a_layer_that_is_cut_off() {
    let ground = Ground::new();
    let archive = base().blob;
    // Its digest is that of what was cut off: the archive itself must tell.
    let half = Layer::new(archive[..archive.len() / 2].to_vec());
    ground.refuses(&ground.save(&docker_archive(&[half])), &[], "the archive is cut off");
    for compress in [gzip, zstandard] {
        let whole = Layer::compressed(&archive, compress);
        let cut = Layer { blob: whole.blob[..whole.blob.len() - 20].to_vec(), ..whole };
        ground.refuses(&ground.save(&docker_archive(&[cut])), &[], "cannot be unpacked: ");
    }
}

#[test]
fn wrong_digests() {
    let ground = Ground::new();
    // Of a layer's content.
    let wrong = Layer { diff_id: format!("sha256:{}", "0".repeat(64)), ..base() };
    ground.refuses(&ground.save(&docker_archive(&[wrong])), &[], DAMAGED);
    // Of the configuration, whose digest is its name.
    let archive = String::from_utf8_lossy(&config(&[base()])).replace("true", "evil");
    let name = format!("{}.json", digits(&config(&[base()])));
    let manifest = json!([{"Config": name, "Layers": ["0/layer.tar"]}]).to_string();
    let archive = Archive::default().file("manifest.json", manifest.as_bytes()).file(&name, archive.as_bytes());
    ground.refuses(&ground.save(&archive.file("0/layer.tar", &base().blob).finish()), &[], DAMAGED);
    // Of every blob of a layout.
    let image = ground.layout(&[ground.manifest(&[base()])]);
    ground.runs(&image, &[]);
    fs::remove_dir_all(ground.layers()).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(ground.path("layout/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        // The last byte of a document is its brace, before it is a digit or a quote; a layer ends with zeros.
        let at = bad.len() - if bad.starts_with(b"{") { 5 } else { 1 };
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        ground.refuses(&image, &[], DAMAGED);
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        ground.refuses(&image, &[], DAMAGED);
        fs::write(&path, &good).unwrap();
        count += 1;
    }
    assert_eq!(count, 3);
    ground.runs(&image, &[]);
}

#[test]
fn digests_that_are_paths() {
    let ground = Ground::new();
    let mut manifest = ground.manifest(&[base()]);
    manifest["digest"] = json!("sha256:../../../canary/file");
    ground.refuses(&ground.layout(&[manifest]), &[], "`index.json` makes no sense: ");
    let layer = Layer { diff_id: "sha256:../../../../canary/file".to_owned(), ..base() };
    ground.refuses(&ground.save(&docker_archive(&[layer])), &[], "is not `sha256:` and 64 hexadecimal digits");
}

#[test]
fn indexes_in_a_circle() {
    let ground = Ground::new();
    // A digest cannot be that of what holds it, but a file can have any name.
    let mut circle = ground.blob(INDEX, b"{}");
    let body = json!({"schemaVersion": 2, "manifests": [circle]}).to_string();
    circle["size"] = json!(body.len());
    fs::write(ground.path("layout/blobs/sha256").join(digits(b"{}")), &body).unwrap();
    ground.refuses(&ground.layout(&[circle]), &[], DAMAGED);
    // One that holds itself by another name each time is only deep.
    let mut deep = ground.manifest(&[base()]);
    for _ in 0..10 {
        deep = ground.blob(INDEX, json!({"schemaVersion": 2, "manifests": [deep]}).to_string().as_bytes());
    }
    ground.refuses(&ground.layout(&[deep]), &[], "more than 8 indexes lead to an image");
}

#[test]
fn indexes_without_end() {
    let ground = Ground::new();
    let index = |content: Vec<serde_json::Value>, number: usize| {
        let annotations = json!({"number": number.to_string()});
        let index = json!({"schemaVersion": 2, "manifests": content, "annotations": annotations});
        ground.blob(INDEX, index.to_string().as_bytes())
    };
    let many: Vec<_> = (0..1100).map(|number| index(vec![], number)).collect();
    let image = ground.layout(&[index(many, 0)]);
    ground.refuses(&image, &[], "or there are more than 1000");
    // The same one over and over is read once.
    let inner = ground.manifest(&[base()]);
    let layered = (0..6).fold(inner, |inner, number| index(vec![inner; 500], number));
    ground.runs(&ground.layout(&[layered]), &[]);
}

#[test]
fn links_of_an_archive_that_lead_out_or_in_circles() {
    let ground = Ground::new();
    let config = config(&[base()]);
    let manifest = json!([{"Config": "config", "Layers": ["layer"]}]).to_string();
    let archive = Archive::default().file("manifest.json", manifest.as_bytes()).file("config", &config);
    let out = archive.clone().symlink("layer", "../canary/file");
    ground.refuses(&ground.save(&out.finish()), &[], "the image lacks `layer`");
    let circle = archive.symlink("layer", "other").symlink("other", "layer");
    ground.refuses(&ground.save(&circle.finish()), &[], "its links go in circles");
}

#[test]
fn a_pipe_in_the_place_of_a_blob() {
    let ground = Ground::new();
    let manifest = ground.manifest(&[base()]);
    let layer = ground.path("layout/blobs/sha256").join(digits(&base().blob));
    fs::remove_file(&layer).unwrap();
    nix::unistd::mkfifo(&layer, nix::sys::stat::Mode::S_IRWXU).unwrap();
    ground.refuses(&ground.layout(&[manifest]), &[], "it is not a regular file");
}
