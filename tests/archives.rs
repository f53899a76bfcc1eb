//! Images that no daemon has: archives, layouts and directories.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::image::{inspect, name, oddities};
use crate::support::{
    Builder, Image, NO_HTTP, Slim, config_id, digits, docker, docker_output, entries, shell, uncompressed, unique,
};

/// An image of several layers: what one has, the next takes away, hides, replaces and links.
pub fn layered() -> Image {
    let mut image = shell("cat /etc/group").directory("/opaque", 0o755).file("/opaque/old", b"old", 0o644);
    oddities(&mut image, "zoo");
    let base = image.load();
    let changes = "rm -rf /opaque /zoo/sticky /zoo/empty /zoo/deep; mkdir /opaque /zoo/empty; echo new >/opaque/new; \
                   busybox ln /zoo/owned /linked; busybox mv /zoo/when /zoo/where; echo more >>/zoo/secret; busybox chmod 700 /zoo";
    let container = unique("changes");
    docker(&["run", "--name", &container, &base.name, "sh", "-c", changes]);
    let image = Image::named(format!("{}:1", unique("layered")));
    let commit = [
        "commit",
        "--change",
        "VOLUME /data",
        "--change",
        "WORKDIR /srv/app",
        "--change",
        "USER 1000",
        "--change",
        r#"CMD ["cat", "/etc/group"]"#,
    ];
    docker(&[&commit[..], &[&container, &image.name]].concat());
    docker(&["rm", "-v", &container]);
    // In containerd, what Docker has unpacked of a commit has more in it than the layer: what it made for the container.
    let folder = tempfile::tempdir().unwrap();
    let saved = save(&image, folder.path());
    docker(&["rmi", "-f", &image.name]);
    docker(&["load", "-q", "-i", saved.to_str().unwrap()]);
    image
}

/// Builds an image of the daemon with nearly all that is in it; the plan is in its folder.
pub fn with_plan(image: &Image) -> crate::support::Run {
    // Docker unpacks what is older than 1970 as of 1970.
    let words = [NO_HTTP, "--include-path", "/**", "--exclude-pattern", "/zoo/ancient", "--write-plan", "plan"];
    Slim::keep(image, &words).run().ok()
}

/// `slim build SOURCE` by a plan; the id of what comes of it.
fn by_plan(source: &str, plan: &Path, words: &[&str]) -> (String, Image) {
    let tag = name("from-file");
    let into_daemon = ["--tag", &tag.name, "--output", "docker-daemon:"];
    let mut slim = Slim::new(&[&["build", source, "--plan", plan.to_str().unwrap()], &into_daemon[..], words].concat());
    let cache = slim.folder().join("cache");
    slim.command().env("XDG_CACHE_HOME", &cache);
    let run = slim.run().ok();
    assert!(run.path("cache/slim/layers").exists());
    (config_id(&tag.name), tag)
}

pub fn save(image: &Image, folder: &Path) -> PathBuf {
    let path = folder.join("app.tar");
    docker(&["save", "-o", path.to_str().unwrap(), &image.name]);
    path
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Makes an OCI layout of what `docker save` wrote, its layers compressed by turns, below a further index.
pub fn to_layout(saved: &Path, layout: &Path) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(saved).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), uncompressed(bytes));
    }
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        std::fs::write(layout.join("blobs/sha256").join(digits(bytes)), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{}", digits(bytes)), "size": bytes.len()})
    };
    let saved: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let file = |name: &Value| &files[name.as_str().unwrap()];
    let layer = |(number, name): (usize, &Value)| match number % 3 {
        0 => blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(file(name))),
        1 => blob("application/vnd.oci.image.layer.v1.tar+zstd", &zstd::encode_all(&file(name)[..], 1).unwrap()),
        // What it says of itself does not count.
        _ => blob("application/vnd.docker.image.rootfs.diff.tar.gzip", file(name)),
    };
    let layers: Vec<Value> = saved[0]["Layers"].as_array().unwrap().iter().enumerate().map(layer).collect();
    let config = blob("application/vnd.oci.image.config.v1+json", file(&saved[0]["Config"]));
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    let mut index = blob("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    index["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [index]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn one_plan_gives_one_image_from_wherever_it_comes() {
    let image = layered();
    let planned = with_plan(&image);
    let (plan, id) = (planned.path("plan"), config_id(&image.slim_name()));
    let folder = tempfile::tempdir().unwrap();
    let saved = save(&image, folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = std::fs::read(&saved).unwrap();
    std::fs::write(path("app.tar.gz"), gzip(&bytes)).unwrap();
    std::fs::write(path("app.tar.zst"), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    to_layout(&saved, Path::new(&path("layout")));
    let mut archive = tar::Builder::new(std::fs::File::create(path("layout.tar")).unwrap());
    archive.append_dir_all(".", path("layout")).unwrap();
    archive.into_inner().unwrap();
    let (from_archive, tag) = by_plan(&format!("docker-archive:{}", path("app.tar")), &plan, &["--check-reproducible"]);
    let layer_of = |image: &str| entries(&crate::support::layer(image)[..]);
    if from_archive != id {
        let (ours, theirs) = (layer_of(&tag.name), layer_of(&image.slim_name()));
        for (path, entry) in &theirs {
            assert_eq!(ours.get(path), Some(entry), "{}", path.escape_ascii());
        }
        assert_eq!(inspect(&tag.name, "json ."), inspect(&image.slim_name(), "json ."));
    }
    assert_eq!(from_archive, id);
    for source in [
        format!("docker-archive:{}:{}", path("app.tar.gz"), image.name),
        format!("docker-archive:{}", path("app.tar.zst")),
        format!("oci:{}:v1", path("layout")),
        format!("oci-archive:{}", path("layout.tar")),
    ] {
        assert_eq!(by_plan(&source, &plan, &[]).0, id, "{source}");
    }
}

/// What overlayfs shows of the layers is the tree that they are merged to.
#[test]
fn a_mount_of_the_layers_is_their_tree() {
    use slim::image::store::read::LayerFiles;
    use slim::image::store::{Flavour, Store, merge::merge};
    use slim::image::tree::{EntryId, Kind};

    let directory = |image: Builder, path: &str| image.directory(path, 0o755);
    let below = Image::scratch().directory("/kept", 0o711).file("/kept/a", b"a", 0o640).file("/target", b"content", 0o604);
    let below = directory(below, "/hidden").file("/hidden/x", b"", 0o644).file("/gone", b"", 0o644);
    let below = directory(below, "/new").file("/new/old", b"", 0o644).file("/file", b"", 0o644).link("/link", "kept");
    let above = Image::scratch().file("/kept/b", b"b", 0o600).hard_link("/linked", "/target").file("/.wh.gone", b"", 0o644);
    let above = above.file("/hidden/.wh..wh..opq", b"", 0o644).file("/hidden/y", b"", 0o644).file("/.wh.new", b"", 0o644);
    let above = directory(above, "/new").file("/new/z", b"", 0o644).file("/file/in", b"", 0o644).file("/link/in", b"", 0o644);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let archives = [below, above].map(|mut layer| layer.archive().get_ref().clone());
    let layers = store.unpack(&layered_image(&archives), Flavour::User, 1 << 30, &|_, _| ()).unwrap();
    let merged = std::sync::Arc::new(merge(layers.iter().map(|layer| &*layer.index), 0, &[]).unwrap());
    let patch = folder.path().join("patch");
    std::fs::create_dir(&patch).unwrap();
    assert!(LayerFiles::new(layers.clone(), std::sync::Arc::clone(&merged)).patch(Flavour::User, &patch).unwrap());

    let point = folder.path().join("point");
    std::fs::create_dir(&point).unwrap();
    let lower = [&patch, &layers[1].files, &layers[0].files].map(|path| path.to_str().unwrap().to_owned()).join(":");
    let script = "mount -t overlay overlay -o \"userxattr,lowerdir=$0\" \"$1\" && cd \"$1\" && find . -mindepth 1 '(' -type d -printf '%P %y %m 1\\n' -o -printf '%P %y %m %n\\n' ')'";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, &lower, point.to_str().unwrap()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut shown: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let tree = &merged.tree;
    let line = |id: EntryId| {
        let path = String::from_utf8(tree.path(id)).unwrap();
        let (kind, least) = match tree.kind(id) {
            Kind::Directory => ('d', 0o700),
            Kind::Symlink => ('l', 0),
            _ => ('f', 0o600),
        };
        let links = if kind == 'd' { 1 } else { tree.hard_links(id).len().max(1) };
        format!("{} {kind} {:o} {links}", &path[1..], tree.mode(id) | least)
    };
    let mut expected: Vec<String> = tree.walk(EntryId::ROOT).skip(1).map(line).collect();
    shown.sort();
    expected.sort();
    assert_eq!(shown, expected);
}

/// An image of these layers.
fn layered_image(archives: &[Vec<u8>]) -> slim::image::transport::LayeredImage {
    use slim::image::transport::{LayerBlob, LayeredImage, section::Section};
    let blob = |archive: &Vec<u8>| {
        let section = Section::new(std::sync::Arc::new(archive.clone()), archive.len() as u64);
        LayerBlob::new(format!("sha256:{}", digits(archive)), None, String::new(), section)
    };
    let layers = archives.iter().map(blob).collect();
    LayeredImage { id: String::new(), config_bytes: vec![], config: Default::default(), tags: vec![], layers }
}

#[test]
fn a_directory_is_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("root").join(name);
    std::fs::create_dir_all(at("bin")).unwrap();
    std::fs::copy("/bin/busybox", at("bin/busybox")).unwrap();
    std::fs::set_permissions(at("bin/busybox"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("busybox", at("bin/sh")).unwrap();
    std::os::unix::fs::symlink("/etc", at("out")).unwrap();
    std::fs::write(at("greeting"), "hello").unwrap();
    std::fs::write(at("left"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let paths = ["/", "/bin", "/bin/busybox", "/bin/sh", "/greeting", "/out"];
    let reason = json!([{"why": "rule", "rule": "a test"}]);
    let kept: Vec<Value> = paths.iter().map(|path| json!({"path": path, "reasons": reason})).collect();
    let plan = folder.path().join("plan");
    std::fs::write(&plan, json!({"version": 2, "image": "rootfs", "entries": kept}).to_string()).unwrap();
    let tag = name("rootfs");
    let source = format!("rootfs:{}", folder.path().join("root").display());
    let words = ["build", &source, "--tag", &tag.name, "--output", "docker-daemon:", "--plan", plan.to_str().unwrap()];
    let words =
        [&words[..], &["--cmd", r#"["sh", "-c", "busybox cat greeting; echo $A"]"#, "--workdir", "/", "--env", "A=b"]].concat();
    let run = Slim::new(&words).run().ok();
    assert_eq!(docker(&["run", "--rm", &tag.name]), "hellob");
    let report = run.report();
    assert_eq!(report["skipped"][0]["path"], "/socket");
    assert!(run.keeps("/greeting") && !run.keeps("/left"));
}

#[test]
fn what_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let image = Image::scratch().file("/a", b"a", 0o644).cmd(&["/a"]).load();
    let saved = format!("docker-archive:{}", save(&image, folder.path()).display());
    let build = |words: &[&str]| {
        let mut slim = Slim::new(&[&["build"], words].concat());
        let cache = slim.folder().join("cache");
        slim.command().env("XDG_CACHE_HOME", cache);
        slim.run()
    };
    let words = "is in no daemon, so `--engine docker` cannot run it";
    build(&[&saved, "--engine", "docker", NO_HTTP]).fails(2, words);
    build(&["docker-archive:/nonexistent"]).fails(4, "`/nonexistent` cannot be read: No such file");
    build(&[&format!("{saved}:other:1")]).fails(4, &format!("there is no image `other:1`; there is `{}`", image.name));
    // What newer daemons save is both.
    let old = Image::scratch().file("/a", b"a", 0o644).build();
    build(&[&format!("oci-archive:{}", old.path("app.tar").display())]).fails(4, "name it `docker-archive:...`");
    build(&[&saved, "--platform", "linux/s390x"]).fails(4, "there is no image `linux/s390x`; there is `linux/");
    build(&[&image.name, "--platform", "linux/s390x"]).fails(4, "not for `linux/s390x`");
    build(&[&saved, "--platform", "s390x"]).fails(2, "a platform is written");
    std::fs::write(path("plan"), r#"{"version":2,"image":"x","entries":[{"path":"/","reasons":[{"why":"parent"}]}]}"#).unwrap();
    build(&[&saved, "--plan", &path("plan"), "--max-unpacked-size", "1k"]).fails(4, "allow more with `--max-unpacked-size`");
    // A layer that is not what the configuration says.
    let mut bytes = std::fs::read(path("app.tar")).unwrap();
    let at = bytes.windows(1024).position(|window| window[0] == b'a' && window[1..100].iter().all(|&byte| byte == 0)).unwrap();
    bytes[at + 512] = b'b';
    std::fs::write(path("app.tar"), bytes).unwrap();
    build(&[&saved, "--plan", &path("plan")]).fails(4, "the image is damaged, copy or save it again");
    assert!(!docker_output(&["image", "inspect", &image.slim_name()]).status.success());
}
