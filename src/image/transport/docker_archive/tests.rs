use serde_json::json;

use super::*;
use crate::image::digest::digest_of;
use crate::image::layer::fixture::Archive;
use crate::image::transport::TransportError;
use crate::image::transport::files;
use crate::image::transport::section::Section;

fn read(files: &dyn Files, archive: &str, wanted: Option<&str>) -> Result<LayeredImage, TransportError> {
    super::read(files, archive, wanted, &Platform::of_host())
}

fn open(archive: Archive) -> files::Archive {
    let bytes = archive.finish();
    let size = bytes.len() as u64;
    files::Archive::read(Section::new(std::sync::Arc::new(bytes), size)).unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string().into_bytes()
}

fn manifest(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn contents(image: &LayeredImage) -> Vec<Vec<u8>> {
    let content = |layer: &crate::image::transport::LayerBlob| {
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut layer.open(), &mut bytes).unwrap();
        bytes
    };
    image.layers.iter().map(content).collect()
}

#[test]
fn layers_that_are_links() {
    let config = config(&[b"one", b"one"]);
    let name = format!("{}.json", &digest_of(&config)[7..]);
    let items = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let archive = Archive::default()
        .directory("a/", 0o755)
        .file("a/layer.tar", b"one")
        .symlink("b/layer.tar", "../a/layer.tar")
        .file(&name, &config)
        .file("manifest.json", &manifest(&items));
    let image = read(&open(archive), "app.tar", None).unwrap();
    assert_eq!((image.id, &image.tags[..]), (digest_of(&config), &["app:1".to_owned()][..]));
    assert_eq!(image.config_bytes, config);
}

#[test]
fn layers_with_sources() {
    let config = config(&[b"one"]);
    let (config_name, layer) = (format!("blobs/sha256/{}", &digest_of(&config)[7..]), digest_of(b"packed"));
    let layer_name = format!("blobs/sha256/{}", &layer[7..]);
    let sources = json!({digest_of(b"one"): {"mediaType": "application/x", "size": 6, "digest": layer}});
    let mut item = json!({"Config": config_name, "RepoTags": null, "Layers": [layer_name], "LayerSources": sources});
    let archive = |item: &serde_json::Value| {
        let archive = Archive::default().file(&config_name, &config).file(&layer_name, b"packed");
        open(archive.file("./manifest.json", &manifest(&json!([item]))).file("index.json", b"{}"))
    };
    let image = read(&archive(&item), "app.tar", Some("@0")).unwrap();
    assert_eq!((&image.layers[0].digest, &image.layers[0].media_type[..]), (&Some(layer.clone()), "application/x"));
    assert_eq!(contents(&image), [b"packed"]);
    // Without sources, the name of a blob is its digest.
    item["LayerSources"] = json!(null);
    assert_eq!(read(&archive(&item), "app.tar", None).unwrap().layers[0].digest, Some(layer));
}

#[test]
fn one_of_many() {
    let item = |tags: &[&str]| json!({"Config": "c", "RepoTags": tags, "Layers": []});
    let items = json!([item(&["a:1", "b:latest"]), item(&[]), item(&["reg:5000/c:2"])]);
    let archive = Archive::default().file("c", &config(&[])).file("manifest.json", &manifest(&items));
    let files = open(archive);
    for (wanted, tags) in [("a:1", 2), ("b", 2), ("docker.io/library/b", 2), ("@1", 0), ("reg:5000/c:2", 1)] {
        assert_eq!(read(&files, "app.tar", Some(wanted)).unwrap().tags.len(), tags, "{wanted}");
    }
    let said = |wanted| read(&files, "app.tar", wanted).unwrap_err().to_string();
    assert_eq!(said(None), "there are 3 images: say which one; there is `a:1`, `@1`, `reg:5000/c:2`");
    assert_eq!(said(Some("a")), "there is no image `a`; there is `a:1`, `@1`, `reg:5000/c:2`");
    assert!(matches!(read(&files, "app.tar", Some("@3")), Err(TransportError::NoImage { .. })));
}

#[test]
fn what_is_no_image() {
    let said = |archive: Archive| read(&open(archive), "app.tar", None).unwrap_err().to_string();
    assert_eq!(said(Archive::default()), "`app.tar` is not an archive of `docker save`: it has no `manifest.json`");
    assert!(said(Archive::default().file("index.json", b"{}")).contains("name it `oci-archive:...`"));
    assert!(said(Archive::default().file("repositories", b"{}")).contains("older than 1.10"));
    let with = |config: &[u8], layers: &[&str], more: &[&str]| {
        let items = json!([{"Config": "c", "Layers": layers}]);
        let archive = Archive::default().file("c", config).file("manifest.json", &manifest(&items));
        said(more.iter().fold(archive, |archive, name| archive.file(name, b"")))
    };
    let good = config(&[b"one"]);
    assert_eq!(with(&good, &["l"], &[]), "the image lacks `l`: it is incomplete, copy or save it again");
    assert!(with(&good, &[], &[]).contains("it names 1 layers, but the image has 0"));
    assert!(with(b"{", &[], &[]).contains("`c` makes no sense"));
    let windows = String::from_utf8(good.clone()).unwrap().replace("linux", "windows");
    assert_eq!(with(windows.as_bytes(), &["l"], &["l"]), "the image is for `windows`, and slim minifies images for `linux` only");
    let odd = String::from_utf8(good.clone()).unwrap().replace("sha256:", "sha256:../");
    assert!(with(odd.as_bytes(), &["l"], &["l"]).contains("hexadecimal"));
    // The name of a configuration is its digest.
    let name = format!("{}.json", "0".repeat(64));
    let items = manifest(&json!([{"Config": name, "Layers": []}]));
    assert!(said(Archive::default().file(&name, &good).file("manifest.json", &items)).contains("damaged"));
    let sources = json!({digest_of(b"one"): {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}});
    let items = manifest(&json!([{"Config": "c", "Layers": ["l"], "LayerSources": sources}]));
    let archive = Archive::default().file("c", &good).file("manifest.json", &items);
    assert!(said(archive).contains("`l` is foreign"));
}

#[test]
fn names_that_lead_out_or_in_circles() {
    let archive = Archive::default().symlink("a", "b").symlink("b", "a").symlink("out", "../../etc/passwd").file("../x", b"");
    let files = open(archive);
    assert!(files.find("a").unwrap_err().to_string().contains("circles"));
    for name in ["out", "../x", "x", "/etc/passwd", "../../etc/passwd"] {
        assert!(files.find(name).unwrap().is_none(), "{name}");
    }
}
