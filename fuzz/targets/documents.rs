//! Manifests, indexes and configurations: each of them any bytes, all the others as they should be, digests too.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use slim::image::config::ImageConfig;
use slim::image::transport::files::Files;
use slim::image::transport::platform::Platform;
use slim::image::transport::section::Section;
use slim::image::transport::{TransportError, docker_archive, oci};
use slim::pack::digest_of;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

#[derive(Default)]
struct Documents(BTreeMap<String, Vec<u8>>);

impl Files for Documents {
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError> {
        Ok(self.0.get(name).map(|bytes| Section::new(Arc::new(bytes.clone()), bytes.len() as u64)))
    }
}

impl Documents {
    fn with(mut self, name: &str, bytes: &[u8]) -> Documents {
        self.0.insert(name.to_owned(), bytes.to_vec());
        self
    }

    /// Adds a blob; its descriptor.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes).to_string();
        self.0.insert(format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
    }

    fn read(&self) {
        for platform in [Platform::of_host(), Platform { is_demanded: true, ..Platform::of_host() }] {
            for wanted in [None, Some("app:1"), Some("@1")] {
                let _ = docker_archive::read(self, "archive", wanted, &platform);
                let _ = oci::read(self, "layout", wanted, &platform);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(data) {
        let written = config.to_json();
        let again: ImageConfig = serde_json::from_slice(&written).expect("a written configuration can be read");
        assert_eq!(again.to_json(), written);
    }
    let layers = format!(r#"["sha256:{}"]"#, "0".repeat(64));
    let config = format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{layers}}}}}"#);
    let items = br#"[{"Config":"c","RepoTags":["app:1"],"Layers":["l"]},{"Config":"c","Layers":[]}]"#;
    let archive = || Documents::default().with("c", config.as_bytes()).with("l", b"").with("manifest.json", items);
    archive().with("manifest.json", data).read();
    archive().with("c", data).read();

    // A layout from the bottom up; at one height the fuzzer's bytes take the place of a document.
    for height in 0..4 {
        let mut layout = Documents::default();
        let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", b"");
        let config = layout.blob(CONFIG, if height == 0 { data } else { config.as_bytes() });
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let manifest = layout.blob(MANIFEST, if height == 1 { data } else { manifest.as_bytes() });
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
        let index = layout.blob(INDEX, if height == 2 { data } else { index.as_bytes() });
        let top = format!(r#"{{"schemaVersion":2,"manifests":[{index}]}}"#);
        layout.with("index.json", if height == 3 { data } else { top.as_bytes() }).read();
    }
});
