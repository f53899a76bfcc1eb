//! What lies in the files, member by member, and what stays of a failure: nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::image::config::{self, ImageConfig};
use crate::pack::archive::Packed;
use crate::pack::compression::Compression;
use crate::pack::store::Blob;

const LAYER: &[u8] = b"not really a layer";

/// An image; with what Docker adds to OCI's configuration or without.
fn stored(is_docker_only: bool) -> Stored {
    let mut config = config::tests::source();
    if !is_docker_only {
        let run = config.config.get_or_insert_default();
        (run.healthcheck, run.shell, run.on_build) = (None, None, Some(vec![]));
    }
    stored_of(config)
}

fn stored_of(config: ImageConfig) -> Stored {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, LAYER).unwrap();
    let packed = Packed { id: digest_of(&config.to_json()), diff_id: digest_of(b"unpacked"), layer_size: 1, content_size: 1 };
    let blob = Blob { compression: Compression::Gzip(6), digest: digest_of(LAYER), size: LAYER.len() as u64 };
    Stored { packed, blob, config, file }
}

fn names() -> Vec<Reference> {
    vec![Reference::parse("app.slim:1").unwrap()]
}

fn output(path: PathBuf, shape: Shape) -> FileOutput {
    FileOutput { path, shape }
}

fn written(image: &Stored, output: &FileOutput) -> Written {
    write(image, output, &names(), &Cancel::default()).unwrap()
}

/// The members of an archive in their order.
fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let member = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.mode().unwrap()), (0, 0, 0o644));
        let mut content = vec![];
        entry.read_to_end(&mut content).unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content)
    };
    archive.entries().unwrap().map(member).collect()
}

/// The files of a layout, with their contents.
fn layout_files(folder: &Path) -> BTreeMap<String, String> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let file = |path: PathBuf| (name(&path), fs::read_to_string(&path).unwrap());
    let list = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    [list(folder), list(&folder.join(BLOBS))].concat().into_iter().filter(|path| path.is_file()).map(file).collect()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_docker_archive_is_a_layout_too() {
    let folder = tempfile::tempdir().unwrap();
    let image = stored(false);
    let output = output(folder.path().join("app.tar"), Shape::DockerArchive(None));
    let told = written(&image, &output);
    let members = members(&output.path);
    let found: Vec<&str> = members.iter().map(|(name, _)| &name[..]).collect();
    let manifest = image.manifest().unwrap();
    let blobs = [&image.packed.id, &image.blob.digest, &digest_of(&manifest)].map(blob_name);
    let mut expected: Vec<&str> =
        blobs.iter().map(|name| &name[..]).chain(["index.json", "manifest.json", "oci-layout"]).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let content: BTreeMap<String, Vec<u8>> = members.into_iter().collect();
    assert_eq!(content[&blobs[0]], image.config.to_json());
    assert_eq!(content[&blobs[1]], LAYER);
    assert_eq!(content[&blobs[2]], manifest);
    assert_eq!(content["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    assert_eq!(
        json_of(&content["manifest.json"]),
        json!([{"Config": blobs[0], "RepoTags": ["app.slim:1"], "Layers": [blobs[1]]}])
    );
    let index = json_of(&content["index.json"]);
    assert_eq!(index["manifests"][0]["digest"], digest_of(&manifest).to_string());
    assert_eq!(
        index["manifests"][0]["annotations"],
        json!({"io.containerd.image.name": "docker.io/library/app.slim:1", "org.opencontainers.image.ref.name": "1"})
    );
    assert_eq!(told, Written { names: vec!["app.slim:1".into()], manifest: Some(digest_of(&manifest)) });
}

#[test]
fn what_oci_has_no_words_for_is_written_for_docker_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tar");
    let image = stored(true);
    let told = written(&image, &output(path.clone(), Shape::DockerArchive(Reference::parse_tag("other").ok())));
    assert_eq!(told, Written { names: vec!["other:latest".into()], manifest: None });
    let members = members(&path);
    assert_eq!(members.len(), 3);
    assert_eq!(json_of(&members[2].1)[0]["RepoTags"], json!(["other:latest"]));
    for lost in [
        RunConfig { shell: Some(vec!["sh".into()]), ..RunConfig::default() },
        RunConfig { on_build: Some(vec!["RUN true".into()]), ..RunConfig::default() },
    ] {
        let image = stored_of(ImageConfig { config: Some(lost), ..ImageConfig::default() });
        assert_eq!(written(&image, &output(path.clone(), Shape::DockerArchive(None))).manifest, None);
    }
}

#[test]
fn an_oci_archive_has_nothing_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.tar");
    for (tag, name) in [("v1", Some("docker.io/library/app.slim:v1")), ("team/app:1", None)] {
        let told = written(&stored(true), &output(path.clone(), Shape::OciArchive(Some(tag.into()))));
        assert_eq!(told.names, [tag]);
        let members: BTreeMap<_, _> = members(&path).into_iter().collect();
        assert!(members.len() == 5 && !members.contains_key("manifest.json"));
        let annotations = &json_of(&members["index.json"])["manifests"][0]["annotations"];
        assert_eq!((annotations[TAG].as_str(), annotations["io.containerd.image.name"].as_str()), (Some(tag), name));
    }
}

#[test]
fn a_layout_is_made_and_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let tagged = |tag: &str| output(path.clone(), Shape::OciDirectory(Some(tag.into())));
    let (one, other) = (stored(false), stored(true));
    written(&one, &tagged("1"));
    let of_one = layout_files(&path);
    assert_eq!(of_one.len(), 5);
    written(&one, &tagged("1"));
    assert_eq!(layout_files(&path), of_one, "the same again");

    // What others wrote into the index stays.
    let mut index = json_of(of_one["index.json"].as_bytes());
    index["annotations"] = json!({"theirs": "yes"});
    index["manifests"].as_array_mut().unwrap().push(json!({"digest": "sha256:0", "size": 3, "mediaType": "x"}));
    fs::write(path.join(INDEX), index.to_string()).unwrap();
    written(&other, &tagged("2"));
    let both = layout_files(&path);
    assert_eq!(both.len(), 7, "one layer, two of the others");
    let index = json_of(both["index.json"].as_bytes());
    let tags: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|entry| entry["annotations"][TAG].as_str()).collect();
    assert_eq!(tags, [Some("1"), None, Some("2")]);
    assert_eq!(index["annotations"]["theirs"], "yes");

    written(&other, &tagged("1"));
    let index = json_of(layout_files(&path)["index.json"].as_bytes());
    let digests: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].clone()).collect();
    let digest = json!(digest_of(&other.manifest().unwrap()).to_string());
    assert_eq!(digests, [json!("sha256:0"), digest.clone(), digest], "the tag has moved");

    // An empty directory becomes a layout.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    written(&one, &output(empty.clone(), Shape::OciDirectory(Some("1".into()))));
    assert_eq!(layout_files(&empty), of_one);
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
    assert_eq!(mode(&empty), mode(&path.join("blobs")), "as the umask says");
}

#[test]
fn nothing_is_left_of_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let cancelled = Cancel::default();
    drop(cancelled.guard());
    let layout = folder.path().join("layout");
    written(&stored(false), &output(layout.clone(), Shape::OciDirectory(None)));
    let before = layout_files(&layout);
    fs::write(folder.path().join("old.tar"), "old").unwrap();
    for (name, shape) in [
        ("old.tar", Shape::DockerArchive(None)),
        ("new.tar", Shape::OciArchive(None)),
        ("new", Shape::OciDirectory(None)),
        ("layout", Shape::OciDirectory(Some("2".into()))),
    ] {
        let output = output(folder.path().join(name), shape);
        let error = write(&stored(true), &output, &names(), &cancelled).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{output}`: interrupted"));
    }
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["layout", "old.tar"]);
    assert_eq!(fs::read(folder.path().join("old.tar")).unwrap(), b"old");
    assert_eq!(layout_files(&layout), before);
}

#[test]
fn what_cannot_be_written_is_known_before() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/file"), "").unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, shape, said) in [
        ("full", Shape::OciArchive(None), "it is a directory"),
        (
            "full",
            Shape::OciDirectory(None),
            "the directory holds something else than an OCI layout: name another one, or an empty one",
        ),
        ("file", Shape::OciDirectory(None), "Not a directory (os error 20)"),
        (
            "missing/app.tar",
            Shape::DockerArchive(None),
            &format!("`{}`: No such file or directory (os error 2)", at("missing").display()),
        ),
    ] {
        let output = output(at(name), shape);
        let error = check(&output).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot write `{output}`: {said}")), "{error}");
    }
    assert_eq!(check(&output(at("new"), Shape::OciDirectory(None))).unwrap(), folder.path());
    assert_eq!(check(&output(at("file"), Shape::DockerArchive(None))).unwrap(), folder.path());
    assert_eq!(check(&output("/dev/null".into(), Shape::DockerArchive(None))).unwrap(), std::env::temp_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn an_index_that_is_none_is_refused() {
    for (index, said) in [
        ("[", "EOF while parsing"),
        ("{}", "it has no `manifests`"),
        (r#"{"manifests":{}}"#, "it has no `manifests`"),
        ("7", "it has no `manifests`"),
    ] {
        let error = with_entry(index.as_bytes(), "1", &json!({})).unwrap_err().to_string();
        assert!(error.contains(said) && error.starts_with("its `index.json` is not that of an OCI layout: "), "{error}");
    }
    assert_eq!(
        with_entry(br#"{"manifests":[7,{"annotations":3}]}"#, "1", &json!(1)).unwrap(),
        br#"{"manifests":[7,{"annotations":3},1]}"#
    );
}
