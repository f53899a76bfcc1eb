//! Docker as a new installation has it: its images in containerd, where an image's id is the digest of its manifest, and layers
//! stay as they came. (The rest is in [`super::contract`].)

use serde_json::Value;

use super::built;
use crate::support::{Client, Daemon, web};

/// The media types and sizes of the layers of an image, by its manifest, as `docker save` writes that.
fn layers(client: &Client, image: &str) -> Vec<(String, u64)> {
    let archive = client.output(&["save", image]).stdout;
    let mut manifests = vec![];
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let manifest: Value = serde_json::from_reader(entry.unwrap()).unwrap_or_default();
        manifests.extend(manifest["layers"].as_array().cloned());
    }
    assert_eq!(manifests.len(), 1, "{image}: {manifests:?}");
    let of = |layer: &Value| (layer["mediaType"].as_str().unwrap().to_owned(), layer["size"].as_u64().unwrap());
    manifests[0].iter().map(of).collect()
}

#[test]
fn what_a_push_sends_is_compressed() {
    let daemon = Daemon::docker_with_containerd();
    let image = web().load_in(&daemon.client);
    let run = built(&image, &[]);
    let (report, slim) = (run.report(), daemon.client.get(&format!("/images/{}/json", image.slim_name())));
    assert_eq!(report["result"]["id_in_engine"], slim["Id"], "the engine's id is told, too");
    let layers = layers(&daemon.client, &image.slim_name());
    let unpacked = report["result"]["size"].as_u64().unwrap();
    assert!(layers.len() == 1 && layers[0].0.ends_with("+gzip") && layers[0].1 < unpacked, "{layers:?}");
    daemon.assert_nothing_is_left();
}
