//! Images made by hand, byte by byte, and the ground around them, which nobody may touch.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::digits;
use super::fixture::Archive;

/// A folder with a store, a directory for temporary files, images, and files that are nobody's business.
pub struct Ground {
    folder: tempfile::TempDir,
}

/// What is to be seen of a file: kind and mode, inode, size, time, content.
type Seen = (u32, u64, u64, (i64, i64), Vec<u8>);

/// A layer as it is stored, and what is said of it.
pub struct Layer {
    pub blob: Vec<u8>,
    pub diff_id: String,
}

impl Layer {
    pub fn new(archive: Vec<u8>) -> Layer {
        Layer { diff_id: format!("sha256:{}", digits(&archive)), blob: archive }
    }

    pub fn compressed(archive: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Layer {
        Layer { blob: compress(archive), ..Layer::new(archive.to_vec()) }
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A configuration of these layers; its command is `busybox true`.
pub fn config(layers: &[Layer]) -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<&str> = layers.iter().map(|layer| &layer.diff_id[..]).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let run = json!({"Cmd": ["/busybox", "true"]});
    json!({"architecture": architecture, "os": "linux", "config": run, "rootfs": rootfs}).to_string().into_bytes()
}

/// A layer with nothing but busybox.
pub fn base() -> Layer {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed (`tests/run` does that)");
    Layer::new(Archive::default().member(tar::EntryType::Regular, "busybox", &busybox, |header| header.set_mode(0o755)).finish())
}

/// What `docker save` would write of these layers.
pub fn docker_archive(layers: &[Layer]) -> Vec<u8> {
    let config = config(layers);
    let config_name = format!("{}.json", digits(&config));
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": ["hand:made"], "Layers": names}]).to_string();
    let archive = Archive::default().file("manifest.json", manifest.as_bytes()).file(&config_name, &config);
    names.iter().zip(layers).fold(archive, |archive, (name, layer)| archive.file(name, &layer.blob)).finish()
}

impl Ground {
    pub fn new() -> Ground {
        let ground = Ground { folder: tempfile::tempdir().unwrap() };
        for directory in ["cache", "temporary", "canary"] {
            fs::create_dir(ground.path(directory)).unwrap();
        }
        fs::write(ground.path("canary/file"), "untouched").unwrap();
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The absolute path of the canary's directory, as text.
    pub fn canary(&self) -> String {
        self.path("canary").to_str().unwrap().to_owned()
    }

    /// Where the layers are.
    pub fn layers(&self) -> PathBuf {
        self.path("cache/slim/layers")
    }

    /// An archive of an image; its name for slim.
    pub fn save(&self, bytes: &[u8]) -> String {
        fs::write(self.path("image.tar"), bytes).unwrap();
        format!("docker-archive:{}", self.path("image.tar").display())
    }

    /// An image of busybox and one more layer.
    pub fn image(&self, layer: Archive) -> String {
        self.save(&docker_archive(&[base(), Layer::new(layer.finish())]))
    }

    /// A blob of the layout in `layout`; its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let folder = self.path("layout/blobs/sha256");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(digits(bytes)), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{}", digits(bytes)), "size": bytes.len()})
    }

    /// The top index of the layout; its name for slim.
    pub fn layout(&self, manifests: &[Value]) -> String {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        fs::write(self.path("layout/index.json"), index).unwrap();
        format!("oci:{}", self.path("layout").display())
    }

    /// A manifest of these layers in the layout; its descriptor.
    pub fn manifest(&self, layers: &[Layer]) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", &config(layers));
        let blob = |layer: &Layer| self.blob("application/vnd.oci.image.layer.v1.tar", &layer.blob);
        let layers: Vec<Value> = layers.iter().map(blob).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    /// Any command line of slim, with the store of this ground.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.args(words).current_dir(self.path("canary")).stdin(Stdio::null()).env_remove("SLIM_CACHE_SIZE");
        command.env("XDG_CACHE_HOME", self.path("cache")).env("TMPDIR", self.path("temporary"));
        command
    }

    /// Runs it; whatever comes of it, nothing but the store is touched.
    #[track_caller]
    pub fn slim(&self, words: &[&str]) -> Output {
        let before = self.seen();
        let output = self.command(words).output().unwrap();
        assert_eq!(self.seen(), before, "{}", String::from_utf8_lossy(&output.stderr));
        let in_cache = names(&self.path("cache"));
        assert!(in_cache.is_empty() || in_cache == ["slim"], "{in_cache:?}");
        for flavour in ["root", "user"] {
            let directory = self.layers().join(flavour).join("sha256");
            let stored = if directory.exists() { names(&directory) } else { vec![] };
            let is_layer = |name: &String| name.split('.').next().is_some_and(|digits| digits.len() == 64);
            assert!(stored.iter().all(|name| is_layer(name) && !name.ends_with("partial")), "{stored:?}");
        }
        output
    }

    /// `slim run` ends with what the program in the image writes.
    #[track_caller]
    pub fn runs(&self, image: &str, command: &[&str]) -> String {
        let output = self.slim(&[&["run", image], command].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `slim run` says that the image cannot be used, and why.
    #[track_caller]
    pub fn refuses(&self, image: &str, options: &[&str], words: &str) {
        let output = self.slim(&[&["run"], options, &[image]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(4) && said.starts_with("error: ") && said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    /// All that there is but the store.
    fn seen(&self) -> BTreeMap<PathBuf, Seen> {
        let mut seen = BTreeMap::new();
        let mut ahead = vec![self.folder.path().to_owned()];
        while let Some(path) = ahead.pop() {
            let status = fs::symlink_metadata(&path).unwrap();
            let content = if status.is_file() { fs::read(&path).unwrap() } else { vec![] };
            if status.is_dir() && path != self.path("cache") {
                ahead.extend(names(&path).iter().map(|name| path.join(name)));
            }
            // What is made and removed again changes a directory's time.
            let time = if status.is_dir() { (0, 0) } else { (status.mtime(), status.mtime_nsec()) };
            let size = if status.is_dir() { 0 } else { status.size() };
            seen.insert(path, (status.mode(), status.ino(), size, time, content));
        }
        seen
    }
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}
