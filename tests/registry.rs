//! Images in registries: built from and pushed to without a daemon having them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::archives::{layered, save, to_layout, with_plan};
use crate::image::inspect;
use crate::support::{Image, NO_HTTP, Passage, Registry, Run, Slim, digits, large, shell};

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
        let id = inspect(&image.slim_name(), ".Id");
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

/// An index with an attestation, an image that is for another machine, and one that is for this one, in a registry: its digest.
fn push_index(image: &Image, registry: &Registry) -> String {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    to_layout(&save(image, folder.path()), &layout);
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
    other["config"] = add(&layout, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let mut other = add(&layout, manifest_type, other.to_string().as_bytes());
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let mut attestation = ours.clone();
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [attestation, other, ours]});
    let index = add(&layout, "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    let digest = index["digest"].as_str().unwrap().to_owned();
    std::fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [index]}).to_string()).unwrap();
    let target = format!("docker://{}/team/index:1", registry.address);
    let source = format!("oci:{}", layout.display());
    tool(&["skopeo", "copy", "--insecure-policy", "--all", "--preserve-digests", "--dest-tls-verify=false", &source, &target]);
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
    assert_eq!(inspect(&tag.name, ".Id"), planned.id);

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
    let planned = Planned::new(shell("cat /etc/group").file("/large", &large(), 0o644).build());
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
    let planned = Planned::new(shell("cat /etc/group").build());
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
    with_helper().fails(4, "the account that docker stored cannot be used (`test` failed: locked)");
}

#[test]
fn what_a_registry_cannot_do_is_told() {
    let planned = Planned::new(shell("cat /etc/group").build());
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
    Slim::new(&["build", &format!("docker://{name}"), "--tag", "x", NO_HTTP])
        .run()
        .fails(2, "is in no daemon, and cannot be run");
}
