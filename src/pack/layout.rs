//! The documents around a layer: OCI's manifest and index, and the `manifest.json` of docker-archives.
//!
//! The configuration is under its digest in all of them, so the image's id is the same everywhere. Names stand in the
//! index as annotations: the tag for OCI's tools, the whole name for containerd and Podman, who would otherwise make up one.

use std::collections::BTreeMap;

use oci_spec::image::Digest;
use serde::Serialize;

use super::digest_of;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;

/// The marker of a layout, and its content.
pub(super) const LAYOUT: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The names in a layout.
pub(super) const INDEX: &str = "index.json";
/// The names in a docker-archive.
pub(super) const DOCKER_MANIFEST: &str = "manifest.json";
/// Where a layout has its contents.
pub(super) const BLOBS: &str = "blobs/sha256";
/// The annotation that holds a tag.
pub(super) const TAG: &str = "org.opencontainers.image.ref.name";

/// The annotation that holds a whole name.
const NAME: &str = "io.containerd.image.name";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What OCI's manifest is.
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// A reference to a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: &'static str,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

/// The one element of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest<'a> {
    config: &'a str,
    repo_tags: Option<&'a [String]>,
    layers: [&'a str; 1],
}

/// What an image is called in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: String,
    pub(super) name: Option<Reference>,
}

/// The bytes of OCI's manifest.
pub(super) fn manifest(config: &[u8], layer: Descriptor) -> serde_json::Result<Vec<u8>> {
    let config = descriptor(CONFIG_TYPE, digest_of(config), config.len() as u64);
    serde_json::to_vec(&Manifest { schema_version: 2, media_type: MANIFEST_TYPE, config, layers: [layer] })
}

/// A reference to a content of a type.
pub(super) fn descriptor(media_type: &'static str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type, digest, size, annotations: BTreeMap::new(), platform: None }
}

/// What an index says of a manifest that is called so.
pub(super) fn index_entry(manifest: &[u8], config: &ImageConfig, entry: &Entry) -> Descriptor {
    let mut annotations = BTreeMap::from([(TAG, entry.tag.clone())]);
    annotations.extend(entry.name.as_ref().map(|name| (NAME, full_name(name))));
    Descriptor { annotations, ..unnamed_entry(manifest, config) }
}

/// What an index says of a manifest without a name.
pub(super) fn unnamed_entry(manifest: &[u8], config: &ImageConfig) -> Descriptor {
    let ImageConfig { architecture, os, variant, .. } = config.clone();
    let platform = Some(Platform { architecture, os, variant });
    Descriptor { platform, ..descriptor(MANIFEST_TYPE, digest_of(manifest), manifest.len() as u64) }
}

/// The bytes of an index, its fields in the order that they have also after one was added to.
pub(super) fn index(manifests: &[Descriptor]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&serde_json::to_value(Index { schema_version: 2, media_type: INDEX_TYPE, manifests })?)
}

/// The bytes of `manifest.json`. Without `tags` the image is loaded without a name.
pub(super) fn docker_manifest(config: &str, tags: &[String], layer: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&[DockerManifest { config, repo_tags: (!tags.is_empty()).then_some(tags), layers: [layer] }])
}

/// A name with its registry, as Docker completes it.
fn full_name(name: &Reference) -> String {
    match name.name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_string(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    fn text(bytes: serde_json::Result<Vec<u8>>) -> String {
        String::from_utf8(bytes.unwrap()).unwrap().replace(&"a".repeat(64), "AA")
    }

    /// A change here gives every image another digest in registries: it must be meant.
    #[test]
    fn the_manifest_is_fixed() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", digest('a'), 7);
        assert_eq!(
            text(manifest(b"{}", layer)),
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:AA","size":7}]}"#
        );
    }

    #[test]
    fn the_index_has_a_tag_a_name_and_the_platform() {
        let config = ImageConfig {
            architecture: "arm64".into(),
            os: "linux".into(),
            variant: Some("v8".into()),
            ..ImageConfig::default()
        };
        let entry = Entry { tag: "v1".into(), name: Some(Reference::parse("app:v1").unwrap()) };
        assert_eq!(
            text(index(&[index_entry(b"{}", &config, &entry)])),
            r#"{"manifests":[{"annotations":{"io.containerd.image.name":"docker.io/library/app:v1","org.opencontainers.image.ref.name":"v1"},"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"arm64","os":"linux","variant":"v8"},"size":2}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#
        );
    }

    #[test]
    fn dockers_manifest() {
        let tags = ["app:1".to_owned(), "app:2".to_owned()];
        assert_eq!(text(docker_manifest("c", &tags, "l")), r#"[{"Config":"c","RepoTags":["app:1","app:2"],"Layers":["l"]}]"#);
        assert_eq!(text(docker_manifest("c", &[], "l")), r#"[{"Config":"c","RepoTags":null,"Layers":["l"]}]"#);
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        for (name, full) in [
            ("app:1", "docker.io/library/app:1"),
            ("team/app:1", "docker.io/team/app:1"),
            ("reg.example/app:1", "reg.example/app:1"),
            ("localhost/app:1", "localhost/app:1"),
            ("reg:5000/team/app:1", "reg:5000/team/app:1"),
        ] {
            assert_eq!(full_name(&Reference::parse(name).unwrap()), full);
        }
    }
}
