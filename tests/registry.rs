//! Images in registries: built from and pushed to without a daemon having them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::archives::{layered, save, to_layout, with_plan};
use crate::support::{
    Answer, Fake, Image, NO_HTTP, Passage, Registry, Run, Slim, busybox, config_id, digits, docker, large, shell,
};

/// Runs a tool that is not slim; its standard output.
#[track_caller]
fn tool(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it is installed (`tests/run` does that)");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `slim build SOURCE` with a store of its own.
fn build(source: &str, plan: &Path, words: &[&str]) -> Slim {
    let slim = Slim::new(&[&["build", source, "--plan", plan.to_str().unwrap()], words].concat());
    let cache = slim.folder().join("cache");
    slim.env("XDG_CACHE_HOME", cache.to_str().unwrap()).env("DOCKER_CONFIG", "/nonexistent")
}

fn id(run: &Run) -> String {
    run.report()["result"]["id"].as_str().unwrap().to_owned()
}

/// An image of a server, a plan for it, and the id of what the plan makes of it.
struct Planned {
    image: Image,
    run: Run,
    id: String,
}

impl Planned {
    fn new(image: Image) -> Planned {
        let words = [NO_HTTP, "--verify=off", "--include-path", "/**", "--write-plan", "plan"];
        let run = Slim::build(&image, &words).run().ok();
        // Of the daemon's image Docker itself makes up the time of `/bin`.
        let folder = tempfile::tempdir().unwrap();
        let source = format!("docker-archive:{}", save(&image, folder.path()).display());
        let id = id(&build(&source, &run.path("plan"), &["--output", "oci:layout:v1"]).run().ok());
        Planned { image, run, id }
    }

    fn of(image: Image, run: Run) -> Planned {
        let id = config_id(&image.slim_name());
        Planned { image, run, id }
    }

    fn plan(&self) -> std::path::PathBuf {
        self.run.path("plan")
    }
}

/// Writes an image by hand to an OCI layout; its reference in an index.
fn add(layout: &Path, media_type: &str, content: &[u8]) -> Value {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(digits(content)), content).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{}", digits(content)), "size": content.len()})
}

/// Makes an OCI layout of what `docker save` wrote: an index with an attestation, an image that is for another machine, and
/// one that is for this one. Its digest.
pub fn to_index(saved: &Path, layout: &Path) -> String {
    to_layout(saved, layout);
    let read = |digest: &Value| -> Value {
        let digits = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice(&std::fs::read(layout.join("blobs/sha256").join(digits)).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut ours = read(&index["manifests"][0]["digest"])["manifests"][0].clone();
    let manifest = read(&ours["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    ours["platform"] = json!({"os": "linux", "architecture": config["architecture"]});
    config["architecture"] = json!("s390x");
    let mut other = manifest.clone();
    other["config"] = add(layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let mut other = add(layout, manifest_type, other.to_string().as_bytes());
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    // As BuildKit makes them: an image of no platform, whose layer is a statement.
    let statement = add(layout, "application/vnd.in-toto+json", b"{}");
    let nothing = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}});
    let nothing = add(layout, "application/vnd.oci.image.config.v1+json", nothing.to_string().as_bytes());
    let attestation = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": nothing, "layers": [statement]});
    let mut attestation = add(layout, manifest_type, attestation.to_string().as_bytes());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] =
        json!({"vnd.docker.reference.digest": ours["digest"], "vnd.docker.reference.type": "attestation-manifest"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [attestation, other, ours]});
    let index = add(layout, "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    let digest = index["digest"].as_str().unwrap().to_owned();
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [index]}).to_string()).unwrap();
    digest
}

/// Puts such an index into a registry: its digest.
fn push_index(image: &Image, registry: &Registry) -> String {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let digest = to_index(&save(image, folder.path()), &layout);
    registry.push_layout(&layout);
    digest
}

#[test]
fn one_plan_gives_one_image_from_a_registry_too() {
    let planned = layered();
    let run = with_plan(&planned);
    let planned = Planned::of(planned, run);
    let registry = Registry::start(None);
    let name = registry.push_copy(&planned.image, None);
    let plan = planned.plan();
    let words = ["--output", "oci:layout:v1", "--check-reproducible"];
    let by_tag = build(&format!("docker://{name}"), &plan, &words).run().ok();
    assert_eq!(id(&by_tag), planned.id);
    assert_eq!(by_tag.report()["image"]["name"], format!("docker://{name}"));
    assert!(by_tag.path("cache/slim/layers").exists());
    // A tag for the daemon.
    let tag = crate::image::name("from-registry");
    build(&format!("docker://{name}"), &plan, &["--tag", &tag.name]).run().ok();
    assert_eq!(config_id(&tag.name), planned.id);

    let digest = tool(&["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")]);
    let (repository, _) = name.rsplit_once(':').unwrap();
    for reference in [format!("{repository}@{digest}"), format!("{name}@{digest}")] {
        assert_eq!(id(&build(&format!("docker://{reference}"), &plan, &words).run().ok()), planned.id);
    }

    let index = push_index(&planned.image, &registry);
    for reference in ["index:1".to_owned(), format!("index@{index}")] {
        let source = format!("docker://{}/team/{reference}", registry.address);
        assert_eq!(id(&build(&source, &plan, &words).run().ok()), planned.id);
        let other = build(&source, &plan, &[&words[..], &["--platform", "linux/s390x"]].concat()).run();
        other.fails(4, "the image is for `s390x`");
        let none = build(&source, &plan, &[&words[..], &["--platform", "linux/arm/v7"]].concat()).run();
        none.fails(4, "there is no image `linux/arm/v7`; there is `sha256:").fails(4, "(linux/s390x)");
    }
}

#[test]
fn what_is_in_the_store_is_not_fetched_and_what_is_cut_goes_on() {
    let planned = Planned::new(shell("cat /etc/group").file("/large", &large(), 0o644).load());
    let registry = Registry::start(None);
    registry.push_copy(&planned.image, None);
    let passage = Passage::to(&registry.address);
    let source = format!("docker://{}/team/app:1", passage.address);
    // The one layer has 4 MB: it is cut three times.
    passage.cut(3);
    let mut slim = build(&source, &planned.plan(), &["--output", "oci:layout:v1"]);
    let folder = tempfile::tempdir().unwrap();
    slim.command().env("XDG_CACHE_HOME", folder.path());
    assert_eq!(id(&slim.run().ok()), planned.id);
    assert_eq!(passage.cuts_left(), 0);
    // The configuration, the layer, and three times more of it.
    assert_eq!(passage.count("GET /v2/team/app/blobs/"), 5, "{:?}", passage.take_requests());
    passage.take_requests();

    let mut slim = build(&source, &planned.plan(), &["--output", "oci:layout:v1"]);
    slim.command().env("XDG_CACHE_HOME", folder.path());
    assert_eq!(id(&slim.run().ok()), planned.id);
    assert_eq!(passage.count("GET /v2/team/app/blobs/"), 1, "{:?}", passage.take_requests());
    // Nothing but the store is left in it.
    let left: Vec<_> = std::fs::read_dir(folder.path().join("slim")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["layers"]);
    // Nobody there any more.
    drop(registry);
    let said = format!("the registry `{}` cannot be reached: ", passage.address);
    build(&source, &planned.plan(), &["--output", "oci:layout:v1"]).run().fails(4, &said);
}

#[test]
fn accounts_of_registries() {
    let registry = Registry::start(Some(("me", "secret")));
    let config = tempfile::tempdir().unwrap();
    // "me:secret" in base64.
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, registry.address);
    std::fs::write(config.path().join("config.json"), auths).unwrap();
    let planned = Planned::new(shell("cat /etc/group").load());
    let name = registry.push_copy(&planned.image, Some(config.path()));
    let (source, plan) = (format!("docker://{name}"), planned.plan());
    let build = |words: &[&str]| build(&source, &plan, &[&["--output", "oci:layout:v1"], words].concat());
    let path = format!("{}/team/app", registry.address);
    let login = format!("`docker login {}`, or `--registry-account` and `--registry-secret`", registry.address);
    let nobody = build(&[]).run().fails(4, &format!("the registry refuses `{path}`: authentication required: "));
    nobody.fails(4, &format!("it is not there, or needs an account: {login}"));
    let wrong = build(&["--registry-account", "me", "--registry-secret", "wrong-secret"]).run();
    let wrong = wrong.fails(4, "the account `me` may not, or its secret is wrong");
    assert!(!wrong.stderr().contains("wrong-secret"));
    let ids = [
        build(&["--registry-account", "me", "--registry-secret", "secret"]).run().ok(),
        build(&[]).env("DOCKER_CONFIG", config.path().to_str().unwrap()).run().ok(),
        build(&[]).env("SLIM_REGISTRY_ACCOUNT", "me").env("SLIM_REGISTRY_SECRET", "secret").run().ok(),
    ];
    assert_eq!(ids.map(|run| id(&run)), [(); 3].map(|()| planned.id.clone()));

    // A helper program.
    let helper = config.path().join("docker-credential-test");
    let script = r#"#!/bin/sh
cat >/dev/null; echo '{"ServerURL": "x", "Username": "me", "Secret": "secret"}'
"#;
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(config.path().join("config.json"), format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.address))
        .unwrap();
    let with_helper = || {
        let path = format!("{}:{}", config.path().display(), std::env::var("PATH").unwrap());
        build(&[]).env("DOCKER_CONFIG", config.path().to_str().unwrap()).env("PATH", &path).run()
    };
    with_helper().ok();
    std::fs::write(&helper, "#!/bin/sh\ncat >/dev/null; echo locked; exit 1\n").unwrap();
    with_helper().fails(
        4,
        "it needs an account (the one that docker stored cannot be used: `docker-credential-test` failed: locked): `docker login",
    );
}

#[test]
fn what_a_registry_cannot_do_is_told() {
    let planned = Planned::new(shell("cat /etc/group").load());
    let registry = Registry::start(None);
    let name = registry.push_copy(&planned.image, None);
    let plan = planned.plan();
    let build = |source: &str, words: &[&str]| build(source, &plan, &[&["--output", "oci:layout:v1"], words].concat()).run();
    let host = &registry.address;
    build(&format!("docker://{host}/team/app:2"), &[]).fails(4, &format!("the image `2` is not in `{host}/team/app`"));
    build(&format!("docker://{host}/team/none"), &[]).fails(4, &format!("the image `latest` is not in `{host}/team/none`"));
    let missing = format!("sha256:{}", digits(b"missing"));
    build(&format!("docker://{name}@{missing}"), &[]).fails(4, &format!("the image `{missing}` is not in `{host}/team/app`"));
    build("docker://127.0.0.1:9/app", &[]).fails(4, "the registry `127.0.0.1:9` cannot be reached: Connection refused");
    build(&format!("docker://{name}"), &["--max-unpacked-size", "1k"]).fails(4, "allow more with `--max-unpacked-size`");
    build(&format!("docker://{name}"), &["--platform", "linux/s390x"]).fails(4, "there is no image `linux/s390x`");
    let words = Slim::new(&["build", &format!("docker://{name}")]).run();
    words.fails(2, "say where the result goes: `--output oci-archive:FILE`");
}

/// What the report says of the registries that the image went to.
fn pushed(run: &Run) -> Vec<Value> {
    let report = run.report();
    let outputs = report["result"]["outputs"].as_array().unwrap();
    outputs.iter().filter(|output| output["transport"] == "docker").cloned().collect()
}

#[test]
fn a_result_is_pushed_and_what_the_registry_has_is_not_sent_again() {
    let planned = Planned::new(shell("cat /etc/group").file("/large", &large(), 0o644).load());
    let registry = Registry::start(None);
    let passage = Passage::to(&registry.address);
    let folder = tempfile::tempdir().unwrap();
    let source = format!("docker-archive:{}", save(&planned.image, folder.path()).display());
    let [one, two] = ["team/slim:1", "other/slim:2"].map(|name| format!("{}/{name}", passage.address));
    let [to_one, to_two] = [&one, &two].map(|name| format!("docker://{name}"));
    // The layer is sent three times.
    passage.cut(2);
    let words = ["--output", &to_one, "--output", "oci:layout:v1", "--output", &to_two];
    let run = build(&source, &planned.plan(), &words).run().ok();
    assert_eq!((id(&run), passage.cuts_left()), (planned.id.clone(), 0));
    let requests = passage.take_requests();
    let count = |words: &str| requests.iter().filter(|(line, _)| line.starts_with(words)).map(|(_, count)| count).sum::<usize>();
    assert_eq!(count("PUT /v2/team/slim/blobs/uploads/"), 4, "{requests:?}");
    assert_eq!(count("PUT /v2/other/slim/blobs/uploads/"), 0, "mounted: {requests:?}");

    let layout = format!("oci:{}:v1", run.path("layout").display());
    let digest = tool(&["skopeo", "inspect", "--format", "{{.Digest}}", &layout]);
    let told = pushed(&run);
    assert_eq!([&told[0]["names"], &told[1]["names"]], [&json!([one]), &json!([two])]);
    for (name, told) in [(&one, &told[0]), (&two, &told[1])] {
        assert_eq!(told["manifest"], digest);
        let inspect = |words: &[&str]| {
            tool(&[&["skopeo", "inspect", "--tls-verify=false"], words, &[&format!("docker://{name}")]].concat())
        };
        assert_eq!(inspect(&["--format", "{{.Digest}}"]), digest);
        let manifest: Value = serde_json::from_str(&inspect(&["--raw"])).unwrap();
        assert_eq!(manifest["config"]["digest"], planned.id);
    }
    passage.take_requests();

    // From the registry that it goes to, without a daemon: nothing is sent but the manifest.
    let again = build(&source, &planned.plan(), &["--output", &to_one]).run().ok();
    assert_eq!(pushed(&again)[0]["manifest"], digest);
    let requests = passage.take_requests();
    let lines = requests.iter().filter(|(line, _)| !line.starts_with("GET /v2/ ") && !line.starts_with("GET /v2/"));
    let methods: Vec<_> = lines.map(|(line, count)| (line.split(' ').next().unwrap(), *count)).collect();
    // That an upload would be taken is asked before.
    assert_eq!(methods, [("DELETE", 1), ("HEAD", 1), ("HEAD", 1), ("POST", 1), ("PUT", 1)], "{requests:?}");

    // It does what it did, for who pulls it.
    docker(&["pull", "-q", &one]);
    let ran = docker(&["run", "--rm", &one]);
    docker(&["rmi", &one]);
    assert!(ran.contains("root:x:0:"), "{ran}");
}

#[test]
fn a_push_that_is_refused_is_known_before_anything_is_done() {
    let registry = Registry::start(Some(("me", "secret")));
    let planned = Planned::new(shell("cat /etc/group").load());
    let folder = tempfile::tempdir().unwrap();
    let source = format!("docker-archive:{}", save(&planned.image, folder.path()).display());
    let name = format!("docker://{}/team/slim:1", registry.address);
    let push = |words: &[&str]| build(&source, &planned.plan(), &[&["--output", &name], words].concat()).run();
    let refused = push(&[]).fails(4, &format!("cannot push `{name}`: the registry refuses `{}/team/slim`", registry.address));
    assert!(!refused.stderr().contains("listing"), "{}", refused.stderr());
    // The daemon's image is called as if it were in another registry.
    let account = ["--registry-account", "me", "--registry-secret", "secret"];
    let plan = planned.plan();
    let elsewhere = [&["build", &planned.image.name, "--plan", plan.to_str().unwrap(), "--output", &name], &account[..]].concat();
    let elsewhere = Slim::new(&elsewhere).env("DOCKER_CONFIG", "/nonexistent").run();
    elsewhere.fails(4, "it needs an account (the one that was given is for `docker.io`)");
    let run = push(&["--registry-account", "me", "--registry-secret", "secret"]).ok();
    assert_eq!(pushed(&run)[0]["names"], json!([format!("{}/team/slim:1", registry.address)]));
    let said = "cannot push `docker://127.0.0.1:9/app:latest`: the registry `127.0.0.1:9` cannot be reached";
    build(&source, &planned.plan(), &["--output", "docker://127.0.0.1:9/app"]).run().fails(4, said);
}

#[test]
fn an_image_is_built_and_verified_from_its_registry_without_a_daemon() {
    let registry = Registry::start(None);
    let source = format!("docker://{}", registry.push(&shell("cat /etc/group").load(), None));
    let folder = tempfile::tempdir().unwrap();
    let slim = |words: &[&str]| {
        let slim = Slim::new(words).env("DOCKER_HOST", "unix:///nonexistent").env("DOCKER_CONFIG", "/nonexistent");
        slim.env("XDG_CACHE_HOME", folder.path().to_str().unwrap()).run()
    };
    let result = format!("docker://{}/team/app.slim:1", registry.address);
    let run = slim(&["build", &source, NO_HTTP, "--output", &result]).ok();
    assert!(run.keeps("/etc/group"));
    assert_eq!(pushed(&run)[0]["names"], json!([result.strip_prefix("docker://").unwrap()]));
    let config = tool(&["skopeo", "inspect", "--tls-verify=false", "--config", &result]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([run.report()["result"]["layer"]]));
    slim(&["verify", &result, "--against", &source, NO_HTTP]).ok();
    slim(&["build", &source, NO_HTTP, "--engine", "docker", "--output", &result]).fails(2, "is in no daemon");
}

#[test]
fn an_image_runs_from_its_registry() {
    let registry = Registry::start(None);
    let image = busybox().cmd(&["sh", "-c", "echo hello; exit 3"]).load();
    let name = registry.push_copy(&image, None);
    let slim = |words: &[&str]| {
        let slim = Slim::new(&[&["run"], words].concat());
        let cache = slim.folder().join("cache");
        slim.env("XDG_CACHE_HOME", cache.to_str().unwrap()).run()
    };
    let run = slim(&[&format!("docker://{name}")]);
    assert_eq!((run.code(), &*run.stdout()), (3, "hello\n"), "{}", run.stderr());
    slim(&[&format!("docker://{name}2")]).fails(4, "the image `12` is not in");
}

const OK: &str = "200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json";

/// `slim run` of an image of a server that answers so.
fn run_from(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Run {
    let fake = Fake::start(answer);
    let slim = Slim::new(&["run", &format!("docker://{}/a:1", fake.address)]);
    let cache = slim.folder().join("cache");
    slim.env("XDG_CACHE_HOME", cache.to_str().unwrap()).env("DOCKER_CONFIG", "/nonexistent").run()
}

/// An image whose layer is a file `a`, told of so: manifest, configuration, layer.
fn small(size_of_layer: u64) -> [Vec<u8>; 3] {
    let mut archive = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    archive.append_data(&mut header, "a", &b"a"[..]).unwrap();
    let layer = archive.into_inner().unwrap();
    let architecture = crate::image::architecture();
    let diff_ids = json!([format!("sha256:{}", digits(&layer))]);
    let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {"Cmd": ["/a"]}});
    let config = config.to_string().into_bytes();
    let reference = |media_type: &str, bytes: &[u8], size: u64| json!({"mediaType": media_type, "digest": format!("sha256:{}", digits(bytes)), "size": size});
    let manifest = json!({
        "schemaVersion": 2,
        "config": reference("application/vnd.oci.image.config.v1+json", &config, config.len() as u64),
        "layers": [reference("application/vnd.oci.image.layer.v1.tar", &layer, if size_of_layer == 0 { layer.len() as u64 } else { size_of_layer })],
    });
    [manifest.to_string().into_bytes(), config, layer]
}

/// Answers with an image, its layer changed.
fn serve(head: &str, [manifest, config, layer]: &[Vec<u8>; 3], change: impl Fn(Vec<u8>) -> Vec<u8>) -> Answer {
    let is_of = |bytes: &[u8]| head.contains(&digits(bytes));
    match () {
        () if head.contains("/manifests/") => (OK.to_owned(), manifest.clone()),
        () if is_of(config) => (OK.to_owned(), config.clone()),
        () if is_of(layer) => (OK.to_owned(), change(layer.clone())),
        () => ("200 OK".to_owned(), vec![]),
    }
}

#[test]
fn what_hostile_registries_send_is_refused() {
    let image = small(0);
    let changed = run_from(move |_, head| {
        serve(head, &image, |mut layer| {
            layer[512] = b'b';
            layer
        })
    });
    changed.fails(4, "the image is damaged");
    let image = small(0);
    run_from(move |_, head| serve(head, &image, |layer| [&layer[..], b"more"].concat())).fails(4, "is longer than the");
    let image = small(u64::MAX);
    run_from(move |_, head| serve(head, &image, |layer| layer)).fails(4, "allow more with `--max-unpacked-size`");
    // A configuration that is another one.
    let image = small(0);
    let other = run_from(move |_, head| {
        let [manifest, config, layer] = &image;
        let spoiled = [manifest.clone(), config.clone(), layer.clone()];
        match serve(head, &spoiled, |layer| layer) {
            (headers, body) if body == *config => (headers, [&config[..config.len() - 1], b" "].concat()),
            other => other,
        }
    });
    other.fails(4, "has the digest `sha256:");
    // A manifest without an end.
    let endless = |_: &str, head: &str| match head.contains("/manifests/") {
        true => (OK.to_owned(), vec![b' '; 17 << 20]),
        false => ("200 OK".to_owned(), vec![]),
    };
    run_from(endless).fails(4, "the image `1` is longer than the 16777216 bytes that it may have");
    run_from(|_, _| ("200 OK\r\nContent-Type: text/html".to_owned(), b"<html>".to_vec()))
        .fails(4, "it is no image, but `text/html`");
    // Elsewhere, without TLS; and round and round.
    let elsewhere = |_: &str, head: &str| match head.contains("/manifests/") {
        true => ("307 Temporary Redirect\r\nLocation: http://registry.example/x".to_owned(), vec![]),
        false => ("200 OK".to_owned(), vec![]),
    };
    run_from(elsewhere).fails(4, "it leads to an address without TLS");
    let round = |own: &str, head: &str| match head.contains("/manifests/") {
        true => (format!("307 Temporary Redirect\r\nLocation: http://{own}/v2/a/manifests/1"), vec![]),
        false => ("200 OK".to_owned(), vec![]),
    };
    run_from(round).fails(4, "it leads from one address to the next without an end");
    // Terminals are not to be moved.
    let moving = |_: &str, _: &str| ("400 Bad".to_owned(), br#"{"errors":[{"code":"X","message":"\u001b[2Jgone"}]}"#.to_vec());
    run_from(moving).fails(4, "refuses the image `1` (400 Bad Request): \\x1b[2Jgone");
}

#[test]
fn tokens_are_fetched_and_fetched_again() {
    let image = small(0);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let run = run_from(move |own, head| {
        if head.starts_with("GET /token?scope=repository%3Aa%3Apull&service=s ") {
            let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return ("200 OK".to_owned(), format!(r#"{{"token":"t{number}"}}"#).into_bytes());
        }
        // The second token is for the layer: the first one is too old by then.
        let wanted = if head.contains(&digits(&image[2])) { "t1" } else { "t0" };
        if head.to_lowercase().contains(&format!("authorization: bearer {wanted}\r\n")) {
            return serve(head, &image, |layer| layer);
        }
        (format!("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"s\""), vec![])
    });
    // The layer is there: what is in it is no program.
    run.fails(5, "/a");
    let elsewhere =
        |_: &str, _: &str| ("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://token.example/\"".to_owned(), vec![]);
    run_from(elsewhere).fails(4, "leads to an address without TLS: http://token.example/");
}

#[test]
fn certificates_are_verified_on_loopback_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let names =
        ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    let files = ["-keyout", &path("key"), "-out", &path("certificate")];
    tool(&[&["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"], &names[..], &files].concat());
    let registry = Registry::start_with(&format!("tls: {{certificate: {}, key: {}}}", path("certificate"), path("key")));
    let image = format!("docker://{}/a:1", registry.address);
    let run = |certificates: &str| {
        let slim = Slim::new(&["run", "--insecure-registry", &registry.address, &image]);
        slim.env("SSL_CERT_FILE", certificates).env("DOCKER_CONFIG", "/nonexistent").run()
    };
    run(&path("certificate")).fails(4, "the image `1` is not in");
    run("/etc/ssl/certs/ca-certificates.crt").fails(4, "invalid peer certificate");
    // Who has no authorities needs none for plain HTTP, and is told of them elsewhere.
    let plain = Registry::start(None);
    let none = |host: &str| {
        let slim = Slim::new(&["run", &format!("docker://{host}/a:1")]).env("SSL_CERT_DIR", "/nonexistent");
        slim.env("SSL_CERT_FILE", "/nonexistent").env("DOCKER_CONFIG", "/nonexistent").run()
    };
    none(&plain.address).fails(4, "the image `1` is not in");
    none("registry.example").fails(4, "TLS cannot be spoken").fails(4, "`ca-certificates`");
}

#[test]
fn plain_http_is_not_spoken_to_others() {
    // An address of this machine that is not loopback by its name.
    let addresses = tool(&["hostname", "-I"]);
    let Some(address) = addresses.split(' ').find(|address| address.contains('.')) else { return };
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let said = std::thread::spawn(move || {
        let mut first = vec![];
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut byte = [0];
            // Who only looks whether somebody is there says nothing.
            if !matches!(std::io::Read::read(&mut client, &mut byte), Ok(1)) {
                continue;
            }
            first.push(byte[0]);
            if byte[0] != 0x16 {
                let _ = std::io::Write::write_all(
                    &mut client,
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                break;
            }
        }
        first
    });
    let image = format!("docker://{host}/a:1");
    let hint = "(one that does not know TLS must be named: `--insecure-registry HOST`)";
    Slim::new(&["run", &image]).run().fails(4, hint);
    // Now it is asked so; until here all was TLS.
    Slim::new(&["run", "--insecure-registry", &host, &image]).run().fails(4, "the image `1` is not in");
    let first = said.join().unwrap();
    assert_eq!(first.iter().position(|&byte| byte != 0x16), Some(first.len() - 1), "{first:?}");
}
