//! Docker as a new installation has it: its images in containerd, where an image's id is the digest of its manifest, and layers
//! stay as they came.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::built;
use crate::support::{
    Client, Daemon, Image, NO_HTTP, NOWHERE, Running, Slim, digits, docker_architecture, heavy_web, saved_config, shell, web,
};

/// The ids of all images, with names and without.
fn images(client: &Client) -> BTreeSet<String> {
    let listed = client.get("/images/json?all=1");
    listed.as_array().unwrap().iter().map(|image| image["Id"].as_str().unwrap().to_owned()).collect()
}

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
fn an_image_in_containerd_is_built_tried_and_named() {
    let daemon = Daemon::docker_with_containerd();
    let client = &daemon.client;
    // Docker makes up the times of directories that an archive only implies.
    let image = ["/bin", "/etc", "/www"].iter().fold(web(), |image, path| image.directory(path, 0o755)).load_in(client);
    let run = built(&image, &[]);
    let (report, slim) = (run.report(), client.get(&format!("/images/{}/json", image.slim_name())));
    assert_eq!(report["verification"]["verdict"], "same");
    // Both ids are told: the engine's, and the one that is the same everywhere.
    assert_eq!(report["result"]["id_in_engine"], slim["Id"]);
    let config = saved_config(&client.output(&["save", &image.slim_name()]).stdout);
    assert_eq!(report["result"]["id"], format!("sha256:{}", digits(&config)));
    // Sizes are of the same kind: what is in the files.
    let sizes = [&report["image"]["size"], &report["result"]["size"]].map(|size| size.as_u64().unwrap());
    assert!(sizes[0] > sizes[1] && sizes[1] > 1 << 20, "{sizes:?}");
    let layers = layers(client, &image.slim_name());
    assert_eq!(layers.len(), 1);
    assert!(layers[0].0.ends_with("+gzip") && layers[0].1 < sizes[1], "what a push sends is compressed: {layers:?}");
    assert_eq!(images(client).len(), 2, "the original, and one slim image");

    // One plan, one configuration, wherever the image was.
    let plan = Slim::build(&image, &["--http-probe", "--write-plan", "plan.json"]).run().ok();
    let (plan, archive) = (plan.path("plan.json"), plan.path("app.tar"));
    client.docker(&["save", "-o", archive.to_str().unwrap(), &image.name]);
    let source = format!("docker-archive:{}", archive.display());
    let words = ["build", &source, "--plan", plan.to_str().unwrap(), "--output", "oci:layout:1"];
    let of_file = Slim::new(&words).env("DOCKER_HOST", NOWHERE).run().ok();
    assert_eq!(of_file.report()["result"]["id"], report["result"]["id"]);
    daemon.assert_nothing_is_left();
}

#[test]
fn nothing_unnamed_stays_in_containerd() {
    let daemon = Daemon::docker_with_containerd();
    let client = &daemon.client;
    let image = heavy_web().load_in(client);
    let before = images(client);
    let host = client.host.clone().unwrap();
    // A build that fails after its trial.
    let words = ["--http-probe", "--exclude-pattern", "/www/large", "--repair-rounds", "0", "--verify=strict"];
    Slim::build(&image, &words).run().fails(8, "/large");
    assert_eq!(images(client), before);
    for moment in ["packing", "verifying, slim image: starting", "verifying, slim image: probing"] {
        let mut command = client.slim();
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        command.args(["build", &image.name, "--http-probe"]).current_dir(folder.path());
        command.env("TMPDIR", &temporary).env("DOCKER_HOST", &host);
        let mut run = Running::spawn(command, temporary, folder);
        run.until_it_says(moment);
        run.send(Signal::SIGINT);
        assert_eq!(run.end(), 130, "{}", run.said());
        assert_eq!(images(client), before, "{moment}\n{}", run.said());
    }
    daemon.assert_nothing_is_left();
}

/// Regression: Docker's containerd store says `null` of an image without a history.
#[test]
fn an_image_without_history_has_none() {
    let daemon = Daemon::docker_with_containerd();
    let config = json!({"architecture": docker_architecture(), "os": "linux", "config": {"Cmd": ["cat", "/etc/group"]}});
    let image = shell("").config(config).load_in(&daemon.client);
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    assert!(run.keeps("/etc/group"));
    let again = Image::named_in(&daemon.client, image.slim_name());
    Slim::build(&again, &[NO_HTTP]).run().fails(4, "was made by slim already");
}
