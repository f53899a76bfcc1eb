//! Files of the result: who takes them, what is in them, that they are the same each time, and never there in part.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{
    Image, NO_HTTP, Run, Running, Slim, behaviour, config_id, docker, docker_output, entries, heavy_web, shell, unique, web,
};

/// Runs a tool that is not slim; its standard output.
#[track_caller]
fn tool(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("it is installed (`tests/run` does that)");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Podman or Buildah with a storage of its own.
struct Storage {
    folder: tempfile::TempDir,
}

impl Storage {
    fn new() -> Storage {
        Storage { folder: tempfile::tempdir().unwrap() }
    }

    #[track_caller]
    fn run(&self, program: &str, words: &[&str]) -> String {
        let [root, run] = ["root", "run"].map(|name| self.folder.path().join(name).display().to_string());
        tool(&[&[program, "--root", &root, "--runroot", &run, "--storage-driver", "vfs"], words].concat())
    }
}

/// What the report says of an output.
fn output(run: &Run, transport: &str) -> Value {
    let report = run.report();
    let outputs = report["result"]["outputs"].as_array().unwrap();
    outputs.iter().find(|output| output["transport"] == transport).unwrap().clone()
}

fn at(run: &Run, transport: &str, name: &str) -> String {
    format!("{transport}:{}", run.path(name).display())
}

fn digest(image: &str) -> String {
    tool(&["skopeo", "inspect", "--format", "{{.Digest}}", image])
}

fn exists(image: &str) -> bool {
    docker_output(&["image", "inspect", image]).status.success()
}

/// The bytes of a file, or of all files of a directory.
fn bytes(path: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    if path.is_file() {
        return BTreeMap::from([("".into(), std::fs::read(path).unwrap())]);
    }
    let below = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        bytes(&entry.path()).into_iter().map(move |(path, bytes)| (Path::new(&name).join(path), bytes)).collect::<Vec<_>>()
    };
    std::fs::read_dir(path).unwrap().map(Result::unwrap).flat_map(below).collect()
}

#[test]
fn every_tool_takes_what_is_written() {
    let image = shell("cat /etc/group").change("LABEL a=b").load();
    let name = Image::named(format!("{}:v1", unique("file")));
    let words = ["--output", "docker-archive:d.tar", "--output", "oci-archive:o.tar", "--output", "oci:layout:one", "--output"];
    let words = [&words[..], &["oci:layout:two", "--tag", &name.name, NO_HTTP]].concat();
    let run = Slim::build(&image, &words).run().ok();
    let id = run.report()["result"]["id"].as_str().unwrap().to_owned();
    assert!(!exists(&name.name) && !exists(&image.slim_name()) && !exists(&id), "the daemon was not asked to keep it");
    assert_eq!(run.report()["result"]["tags"], json!([]));
    assert!(run.report()["result"]["size"].as_u64().unwrap() > 500_000, "busybox alone is more");
    let mut left: Vec<_> = std::fs::read_dir(run.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["d.tar", "layout", "o.tar", "slim.report.json"]);

    let [docker_archive, as_oci] = ["docker-archive", "oci-archive"].map(|transport| at(&run, transport, "d.tar"));
    let oci_archive = at(&run, "oci-archive", "o.tar");
    let [one, two] = ["layout:one", "layout:two"].map(|name| at(&run, "oci", name));
    let told = output(&run, "oci-archive");
    let manifest = told["manifest"].as_str().unwrap();
    for image in [&as_oci, &oci_archive, &one, &two] {
        assert_eq!(digest(image), manifest, "{image}");
        let labels = tool(&["skopeo", "inspect", "--format", "{{.Labels.a}} {{.Architecture}}", image]);
        assert_eq!(labels, format!("b {}", super::image::architecture()));
    }
    assert_eq!(told["names"], json!(["v1"]));
    assert_eq!(output(&run, "docker-archive")["names"], json!([name.name]));
    let names = tool(&["skopeo", "list-tags", &docker_archive]);
    assert!(names.contains(&name.name), "{names}");
    for (number, source) in [&docker_archive, &oci_archive, &two].into_iter().enumerate() {
        let copy = at(&run, "oci", &format!("copy:{number}"));
        tool(&["skopeo", "copy", "--insecure-policy", source, &copy]);
        let config: Value = serde_json::from_str(&tool(&["skopeo", "inspect", "--config", &copy])).unwrap();
        assert_eq!(config["config"]["Labels"], json!({"a": "b"}));
        assert_eq!(config["rootfs"]["diff_ids"], json!([run.report()["result"]["layer"]]));
    }
    assert_eq!(digest(&at(&run, "oci", "copy:1")), manifest, "a copy is the same to the last byte");

    let loaded = docker(&["load", "--input", run.path("d.tar").to_str().unwrap()]);
    assert_eq!(loaded, format!("Loaded image: {}", name.name));
    assert_eq!(config_id(&name.name), id);
    assert_eq!(behaviour(&name.run(&[], &[])), behaviour(&image.run(&[], &[])));

    let bundle = run.path("bundle");
    let layout = format!("{}:one", run.path("layout").display());
    tool(&["umoci", "unpack", "--image", &layout, bundle.to_str().unwrap()]);
    assert_eq!(std::fs::read(bundle.join("rootfs/bin/busybox")).unwrap(), std::fs::read("/bin/busybox").unwrap());

    let storage = Storage::new();
    storage.run("buildah", &["pull", &oci_archive]);
    assert_eq!(storage.run("buildah", &["images", "--quiet", "--no-trunc"]), id);
    for (file, told_name) in [("d.tar", &name.name), ("o.tar", &name.name)] {
        let storage = Storage::new();
        let said = storage.run("podman", &["load", "--input", run.path(file).to_str().unwrap()]);
        assert!(said.ends_with(&format!("/{told_name}")), "{said}");
        assert_eq!(storage.run("podman", &["images", "--quiet", "--no-trunc"]), id);
    }
}

#[test]
fn podman_keeps_the_health_check() {
    let image = shell("cat /etc/group").change("HEALTHCHECK --interval=7s CMD test -e /etc/group").load();
    let run = Slim::keep(&image, &[NO_HTTP, "--output", "docker-archive:d.tar"]).run().ok();
    assert_eq!(output(&run, "docker-archive").get("manifest"), None);
    let storage = Storage::new();
    storage.run("podman", &["load", "--input", run.path("d.tar").to_str().unwrap()]);
    let checked = storage.run("podman", &["image", "inspect", "--format", "{{.HealthCheck.Interval}}", &image.slim_name()]);
    assert_eq!(checked, "7s");
    docker(&["load", "--input", run.path("d.tar").to_str().unwrap()]);
    assert_eq!(docker(&["image", "inspect", "-f", "{{.Config.Healthcheck.Interval}}", &image.slim_name()]), "7s");
}

#[test]
fn the_files_are_the_same_each_time() {
    let image = web().load();
    let plan = tempfile::tempdir().unwrap();
    let plan = plan.path().join("plan.json").display().to_string();
    let name = Image::named(format!("{}:v1", unique("daemon")));
    let daemon = format!("docker-daemon:{}", name.name);
    let words = ["--http-probe", "--write-plan", &plan, "--output", &daemon, "--output", "docker-archive:gzip.tar"];
    let first = Slim::keep(&image, &words).run().ok();
    let id = config_id(&name.name);
    assert_eq!(first.report()["result"]["tags"], json!([name.name]));
    assert!(!exists(&image.slim_name()), "it has the name that was asked for");

    // On one processor, and on all.
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let processor = (0..CpuSet::count()).find(|&number| allowed.is_set(number).unwrap()).unwrap().to_string();
    let layer = first.report()["result"]["layer"].as_str().unwrap().to_owned();
    for compression in ["gzip", "gzip:1", "zstd", "none"] {
        let file = format!("{}.tar", compression.replace(':', "-"));
        let build = |pinned: bool| {
            let words = ["--plan", &plan, "--compression", compression, "--check-reproducible", "--output"];
            let archive = format!("docker-archive:{file}");
            let mut slim = Slim::build(&image, &[&words[..], &[&archive, "--output", "oci:layout:v1"]].concat());
            if pinned {
                let folder = slim.folder().to_owned();
                let words: Vec<_> = slim.command().get_args().map(ToOwned::to_owned).collect();
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &processor, env!("CARGO_BIN_EXE_slim")]).args(words).current_dir(folder);
                *slim.command() = command;
            }
            slim.run().ok()
        };
        let (one, all) = (build(true), build(false));
        assert_eq!(all.report()["result"]["id"], id, "{compression}");
        assert_eq!(all.report()["reproducible"], true);
        for name in [&file, "layout"] {
            assert!(bytes(&one.path(name)) == bytes(&all.path(name)), "{compression}: {name}");
        }
        if compression == "gzip" {
            // Names differ, so the digest is compared.
            assert_eq!(output(&all, "docker-archive")["manifest"], output(&first, "docker-archive")["manifest"]);
        }
        // Whoever reads it finds the layer.
        let copy = at(&all, "dir", "copy");
        tool(&["skopeo", "copy", "--insecure-policy", "--dest-decompress", &at(&all, "oci", "layout:v1"), &copy]);
        let unpacked = all.path("copy").join(layer.strip_prefix("sha256:").unwrap());
        assert!(entries(std::fs::File::open(unpacked).unwrap()).contains_key(&b"www/index.html"[..]), "{compression}");
        let warned = all.warnings().iter().any(|warning| warning.contains("Docker before version 23 cannot load"));
        assert_eq!(warned, compression == "zstd");
        let storage = Storage::new();
        storage.run("podman", &["load", "--input", all.path(&file).to_str().unwrap()]);
        assert_eq!(storage.run("podman", &["images", "--quiet", "--no-trunc"]), id);
    }
    assert!(!exists(&image.slim_name()));
}

#[test]
fn nothing_is_there_in_part_after_an_interruption() {
    let image = heavy_web().load();
    for moment in ["packing", "compressing", "writing files"] {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old.tar");
        std::fs::write(&old, "old").unwrap();
        let [archive, layout] = [("docker-archive", "old.tar"), ("oci", "layout")]
            .map(|(transport, name)| format!("{transport}:{}", folder.path().join(name).display()));
        let words = ["build", &image.name, "--http-probe", "--compression", "gzip:9", "--output", &archive, "--output", &layout];
        let mut run = Running::start(&words, &[]);
        run.until_it_says(moment);
        run.send(Signal::SIGINT);
        let code = run.end();
        assert!(code == 130 || (code == 0 && moment == "writing files"), "{moment}: {code}\n{}", run.said());
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        if names == ["layout", "old.tar"] {
            assert_eq!(moment, "writing files");
            digest(&layout);
        } else {
            assert_eq!(names, ["old.tar"], "{moment}");
        }
        if std::fs::read(&old).unwrap() != b"old" {
            assert_eq!(moment, "writing files");
            digest(&archive);
        }
        run.assert_nothing_is_left(&std::collections::BTreeSet::new());
        assert!(!exists(&image.slim_name()));
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_started() {
    let image = shell("cat /etc/group").load();
    for (words, said) in [
        (&["app.tar"][..], "`--output app.tar`: it must begin with where the result goes"),
        (&["docker-archive:missing/app.tar"], "cannot write `docker-archive:missing/app.tar`: `missing`: No such file"),
        (&["oci:."], "cannot write `oci:.`: the directory holds something else than an OCI layout"),
        (&["oci-archive:a", "--output", "docker-archive:a"], "another `--output` goes to the same path"),
        (&["oci:a", "--compression", "xz"], "a compression is `gzip`, `zstd` or `none`"),
    ] {
        let slim = Slim::build(&image, &[&[NO_HTTP, "--output"], words].concat());
        std::fs::write(slim.folder().join("file"), "").unwrap();
        let run = slim.run().fails(2, said);
        assert!(!run.stderr().contains("starting"), "{}", run.stderr());
    }
}
