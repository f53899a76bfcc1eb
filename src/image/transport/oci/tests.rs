use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::image::digest::digest_of;
use crate::image::transport::section::Section;

/// A layout in memory.
#[derive(Default)]
struct Layout(BTreeMap<String, Vec<u8>>);

impl Files for Layout {
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError> {
        Ok(self.0.get(name).map(|bytes| Section::new(Arc::new(bytes.clone()), bytes.len() as u64)))
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

impl Layout {
    /// Adds a blob; its descriptor.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest_of(bytes);
        self.0.insert(format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn image(&mut self, architecture: &str, media_type: &str) -> Value {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"layer")]}
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.blob(LAYER, b"packed");
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
        self.blob(media_type, manifest.to_string().as_bytes())
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.blob(INDEX, json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes())
    }

    fn top(&mut self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.0.insert("index.json".to_owned(), index.to_string().into_bytes());
    }

    fn read(&self, tag: Option<&str>) -> Result<LayeredImage, TransportError> {
        read(self, "layout", tag, &platform("amd64", false))
    }

    #[track_caller]
    fn says(&self, tag: Option<&str>, words: &str) {
        let said = self.read(tag).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}

fn platform(architecture: &str, is_demanded: bool) -> Platform {
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None, is_demanded }
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

fn tagged(descriptor: Value, tag: &str) -> Value {
    with(descriptor, "annotations", json!({TAG: tag}))
}

fn of_platform(descriptor: Value, os: &str, architecture: &str) -> Value {
    with(descriptor, "platform", json!({"os": os, "architecture": architecture}))
}

#[test]
fn one_image_by_oci_and_docker_types() {
    for media_type in [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"] {
        let mut layout = Layout::default();
        let image = layout.image("arm64", media_type);
        layout.top(&[tagged(image, "1")]);
        let image = layout.read(None).unwrap();
        assert_eq!((&image.tags[..], &image.config.architecture[..]), (&["1".to_owned()][..], "arm64"));
        assert_eq!(image.id, digest_of(&image.config_bytes));
        let layer = &image.layers[0];
        assert_eq!((&layer.diff_id, &layer.digest), (&digest_of(b"layer"), &Some(digest_of(b"packed"))));
        assert_eq!((&layer.media_type[..], layer.size()), (LAYER, 6));
        // A platform that was asked for counts.
        assert!(read(&layout, "layout", None, &platform("arm64", true)).is_ok());
        let said = read(&layout, "layout", None, &platform("amd64", true)).unwrap_err().to_string();
        assert_eq!(said, "there is no image `linux/amd64`; there is `linux/arm64`");
    }
}

#[test]
fn below_indexes_by_platform_without_attestations() {
    let mut layout = Layout::default();
    let (amd, arm) = (layout.image("amd64", MANIFEST), layout.image("arm64", MANIFEST));
    let attestation = of_platform(layout.image("attestation", MANIFEST), "unknown", "unknown");
    let (amd, arm) = (of_platform(amd, "linux", "amd64"), of_platform(arm, "linux", "arm64"));
    let inner = layout.index(&[attestation, arm, amd]);
    let outer = layout.index(&[inner]);
    layout.top(&[with(outer, "annotations", json!({CONTAINERD_NAME: "docker.io/library/app:1"}))]);
    let image = layout.read(Some("app:1")).unwrap();
    assert_eq!((&image.config.architecture[..], &image.tags[..]), ("amd64", &["docker.io/library/app:1".to_owned()][..]));
    let image = read(&layout, "layout", None, &platform("arm64", true)).unwrap();
    assert_eq!(image.config.architecture, "arm64");
    let said = read(&layout, "layout", None, &platform("riscv64", false)).unwrap_err().to_string();
    assert!(said.starts_with("there is no image `linux/riscv64`; there is "), "{said}");
}

#[test]
fn one_of_many_by_tag_or_digest() {
    let mut layout = Layout::default();
    let (one, two) = (layout.image("amd64", MANIFEST), layout.image("arm64", MANIFEST));
    let digest = two["digest"].as_str().unwrap().to_owned();
    layout.top(&[tagged(one, "one"), tagged(two, "two")]);
    assert_eq!(layout.read(Some("one")).unwrap().config.architecture, "amd64");
    assert_eq!(layout.read(Some(&digest)).unwrap().config.architecture, "arm64");
    layout.says(None, "there are 2 images: say which one; there is `one`, `two`");
    layout.says(Some("three"), "there is no image `three`; there is `one`, `two`");
}

#[test]
fn circles_and_depths_end() {
    let mut layout = Layout::default();
    let image = layout.image("amd64", MANIFEST);
    // A digest cannot hold itself, but the blob of a name can hold anything.
    let mut circle = layout.index(&[]);
    let name = format!("blobs/sha256/{}", &circle["digest"].as_str().unwrap()[7..]);
    let body = json!({"schemaVersion": 2, "manifests": [circle]}).to_string();
    layout.0.insert(name, body.clone().into_bytes());
    circle["size"] = json!(body.len());
    layout.top(&[circle]);
    layout.says(None, "damaged");
    // The same index many times is read once.
    let mut layered = layout.index(std::slice::from_ref(&image));
    for _ in 0..3 {
        layered = layout.index(&vec![layered; 100]);
    }
    layout.top(&[layered]);
    assert!(layout.read(None).is_ok());
    let mut deep = image;
    for _ in 0..10 {
        deep = layout.index(&[deep]);
    }
    layout.top(&[deep]);
    layout.says(None, "more than 8 indexes");
}

#[test]
fn what_is_damaged_missing_or_foreign() {
    let mut layout = Layout::default();
    layout.says(None, "it has no `index.json`");
    layout.0.insert("manifest.json".to_owned(), vec![]);
    layout.says(None, "name it `docker-archive:...`");
    layout.top(&[]);
    layout.says(None, "the image lacks `a manifest`");
    let image = layout.image("amd64", MANIFEST);
    layout.top(&[with(image.clone(), "size", json!(1))]);
    layout.says(None, "has the size");
    let name = format!("blobs/sha256/{}", &image["digest"].as_str().unwrap()[7..]);
    let good = layout.0[&name].clone();
    let bad = String::from_utf8(good.clone())
        .unwrap()
        .replace("packed", "PACKED")
        .replace("\"schemaVersion\":2", "\"schemaVersion\":3");
    layout.0.insert(name.clone(), bad.into_bytes());
    layout.top(std::slice::from_ref(&image));
    layout.says(None, "has the digest");
    layout.0.remove(&name);
    layout.says(None, "the image lacks `blobs/sha256/");
    for digest in ["sha256:../../../etc/passwd", "md5:0", "sha256:"] {
        layout.top(&[with(image.clone(), "digest", json!(digest))]);
        assert!(layout.read(None).is_err(), "{digest}");
    }
    let mut manifest: Value = serde_json::from_slice(&good).unwrap();
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let foreign = layout.blob(MANIFEST, manifest.to_string().as_bytes());
    layout.top(&[foreign]);
    layout.says(None, "is foreign");
    layout.0.insert("index.json".to_owned(), b"[]".to_vec());
    layout.says(None, "`index.json` makes no sense");
}
