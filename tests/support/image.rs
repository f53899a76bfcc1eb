//! Images made from nothing: a layer in memory and a configuration, in a file as `docker save` writes it.
//!
//! slim's own engine runs most of them, from the file ([`Builder::build`]); where a daemon is what is tested, it is loaded
//! there ([`Builder::load`]).

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::archive::{Entries, entries, exported, layer, only_layer};
use super::{Client, digits, docker, instructions, unique};

/// What runs a test's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// slim's own.
    Embedded,
    /// The machine's daemon.
    Docker,
}

/// A test for each engine, `NAME::embedded` and `NAME::docker`, of functions that take one.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn embedded() {
                super::$name(crate::support::Engine::Embedded);
            }

            #[test]
            fn docker() {
                super::$name(crate::support::Engine::Docker);
            }
        }
    )+};
}
pub(crate) use on_both_engines;

/// An image with its slim version; both are removed when it goes out of scope.
#[derive(Debug)]
pub struct Image {
    /// Its name, with a tag.
    pub name: String,
    /// The way to its daemon, where it is in one.
    pub client: Client,
    /// Where it is a file: that, and a store of layers.
    folder: Option<tempfile::TempDir>,
}

/// An image in the making.
pub struct Builder {
    archive: tar::Builder<Vec<u8>>,
    config: Value,
}

/// The static busybox of this machine.
fn busybox_program() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox-static is installed (`tests/run` does that)")
}

/// An image with busybox under the names that shell scripts use, passwd and group files, and /tmp.
pub fn busybox() -> Builder {
    let mut image = Image::scratch()
        .file("/bin/busybox", &busybox_program(), 0o755)
        .file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\n", 0o644)
        .file("/etc/group", b"root:x:0:\nweb:x:1000:\nextra:x:2000:web\n", 0o644)
        .directory("/tmp", 0o1777)
        .directory("/root", 0o700)
        // What is only implied by what is in it gets the time of its unpacking from Docker.
        .directory("/bin", 0o755)
        .directory("/etc", 0o755);
    for name in [
        "sh", "cat", "ls", "echo", "sleep", "httpd", "id", "env", "test", "mkdir", "stat", "kill", "true", "false", "nc", "seq",
        "head", "wget",
    ] {
        image = image.link(&format!("/bin/{name}"), "busybox");
    }
    image
}

/// An image with busybox that runs a shell's script to its end.
pub fn shell(script: &str) -> Builder {
    busybox().cmd(&["sh", "-c", script])
}

/// A server on port 8080 with some pages and a declared volume.
pub fn web() -> Builder {
    web_with(&large()[..1 << 20])
}

/// The same with something to pack, so that it takes its time.
pub fn heavy_web() -> Builder {
    web_with(&large())
}

fn web_with(large: &[u8]) -> Builder {
    busybox()
        .directory("/www", 0o755)
        .file("/www/index.html", b"<a href=/large>large</a>", 0o644)
        .file("/www/large", large, 0o644)
        .file("/www/hidden", b"hidden", 0o644)
        .change("EXPOSE 8080")
        .change("VOLUME /data")
        .shell_cmd("httpd -f -p 8080 -h /www")
}

/// 16 MB, no part of which is like another.
pub fn large() -> Vec<u8> {
    (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// An image of Debian's packages (nginx, Python, Perl, strace) with programs in /opt, and what a Dockerfile says after that.
/// Its own layer is small: the packages' is there once.
pub fn debian_tools(programs: &[(&str, &[u8])], dockerfile: &str) -> Image {
    const TOOLS: &str = "slim-bench/tools:1";
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/debian-image");
    // Who comes while it is made waits for it.
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| assert!(Command::new(script).args(["tools", TOOLS]).status().unwrap().success()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("opt")).unwrap();
    for (name, content) in programs {
        let path = folder.path().join("opt").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(folder.path().join("Dockerfile"), format!("FROM {TOOLS}\nCOPY opt /opt\n{dockerfile}\n")).unwrap();
    let name = format!("{}:1", unique("image"));
    docker(&["build", "-q", "-t", &name, folder.path().to_str().unwrap()]);
    Image::named(name)
}

impl Image {
    /// An image without any file.
    pub fn scratch() -> Builder {
        Builder { archive: tar::Builder::new(vec![]), config: json!({}) }
    }

    /// One that is, or is going to be, in the machine's own daemon.
    pub fn named(name: String) -> Image {
        Image::named_in(&Client::default(), name)
    }

    /// The same in any daemon.
    pub fn named_in(client: &Client, name: String) -> Image {
        Image { name, client: client.clone(), folder: None }
    }

    /// The name that a slim version gets where none is given.
    pub fn slim_name(&self) -> String {
        let (name, tag) = self.name.rsplit_once(':').unwrap();
        format!("{name}.slim:{tag}")
    }

    /// The engine that runs it.
    pub fn engine(&self) -> Engine {
        if self.folder.is_some() { Engine::Embedded } else { Engine::Docker }
    }

    /// What slim calls it.
    pub fn source(&self) -> String {
        self.named_or_in_file(&self.name, "app.tar")
    }

    /// What slim calls its slim version, where that has no other name.
    pub fn slim_source(&self) -> String {
        self.named_or_in_file(&self.slim_name(), "app.slim.tar")
    }

    fn named_or_in_file(&self, name: &str, file: &str) -> String {
        match &self.folder {
            Some(folder) => format!("docker-archive:{}", folder.path().join(file).display()),
            None => name.to_owned(),
        }
    }

    /// A file beside the archive.
    #[track_caller]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("it is in a file").path().join(name)
    }

    /// The store of its layers, for `XDG_CACHE_HOME`.
    pub fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Others may read the archive.
    pub fn for_all(self) -> Image {
        for (path, mode) in [(self.path(""), 0o755), (self.path("app.tar"), 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        self
    }

    /// The same image in a file, as the machine's daemon saves it.
    pub fn in_file(&self) -> Image {
        let folder = tempfile::tempdir().unwrap();
        docker(&["save", "-o", folder.path().join("app.tar").to_str().unwrap(), &self.name]);
        Image { name: self.name.clone(), client: Client::default(), folder: Some(folder) }
    }

    /// The same image in the machine's daemon.
    pub fn in_docker(&self) -> Image {
        docker(&["load", "-q", "-i", self.path("app.tar").to_str().unwrap()]);
        Image::named(self.name.clone())
    }

    /// The same with what a Dockerfile says after its FROM line, in the machine's daemon.
    pub fn rebuilt(self, dockerfile: &str) -> Image {
        let dockerfile = format!("FROM {}\n{dockerfile}\n", self.name);
        feed(self.client.command().args(["build", "-q", "-t", &self.name, "-"]), dockerfile.as_bytes());
        self
    }

    /// Another image, by what a Dockerfile says after its FROM line.
    pub fn derived(&self, dockerfile: &str) -> Image {
        let name = format!("{}:1", unique("derived"));
        let dockerfile = format!("FROM {}\n{dockerfile}\n", self.name);
        feed(self.client.command().args(["build", "-q", "-t", &name, "-"]), dockerfile.as_bytes());
        Image::named_in(&self.client, name)
    }

    /// Whether there is a slim version.
    pub fn is_minified(&self) -> bool {
        match &self.folder {
            Some(folder) => folder.path().join("app.slim.tar").exists(),
            None => self.client.has_image(&self.slim_name()),
        }
    }

    /// Runs it on its engine, unwatched: options of `docker run`, and a command in place of its own.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.run_source(&self.source(), options, command)
    }

    /// Runs its slim version.
    pub fn run_slim(&self, options: &[&str], command: &[&str]) -> Output {
        self.run_source(&self.slim_source(), options, command)
    }

    fn run_source(&self, source: &str, options: &[&str], command: &[&str]) -> Output {
        match self.engine() {
            Engine::Docker => self.client.output(&[&["run", "--rm"], options, &[source], command].concat()),
            Engine::Embedded => {
                let mut slim = Command::new(env!("CARGO_BIN_EXE_slim"));
                slim.arg("run").args(options).arg(source).args(command).env("XDG_CACHE_HOME", self.cache());
                slim.stdin(Stdio::null()).output().unwrap()
            }
        }
    }

    /// Its entries.
    pub fn entries(&self) -> Entries {
        match &self.folder {
            Some(folder) => entries(&only_layer(&std::fs::read(folder.path().join("app.tar")).unwrap())[..]),
            None => exported(&self.name),
        }
    }

    /// The layer of its slim version.
    pub fn slim_layer(&self) -> Vec<u8> {
        match &self.folder {
            Some(folder) => only_layer(&std::fs::read(folder.path().join("app.slim.tar")).unwrap()),
            None => layer(&self.slim_name()),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.folder.is_some() {
            return;
        }
        // Whatever comes of it: in the middle of a failing test nothing may panic.
        let created = |image: &str| self.client.get(&format!("/images/{image}/json"))["Created"].take();
        let own = created(&self.name);
        self.client.remove_image(&self.slim_name());
        // What was built before the last time has lost its name; it has the time of its original, which no other image has but
        // for those whose time is a test's own.
        let is_unique = own.as_str().is_some_and(|time| time > "2020");
        let is_of_this = |image: &str| is_unique && created(image) == own;
        let unnamed = self.client.get("/images/json?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D");
        for image in unnamed.as_array().into_iter().flatten().filter_map(|image| image["Id"].as_str()) {
            if is_of_this(image) {
                self.client.remove_image(image);
            }
        }
        self.client.remove_image(&self.name);
    }
}

impl Builder {
    /// A header that each kind of entry begins with: owner root, a fixed time.
    pub fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        header
    }

    /// Adds any entry; `path` is absolute.
    pub fn entry(mut self, path: &str, mut header: tar::Header, content: &[u8]) -> Builder {
        header.set_size(content.len() as u64);
        self.archive.append_data(&mut header, path.trim_start_matches('/'), content).unwrap();
        self
    }

    /// The archive, for entries that need more.
    pub fn archive(&mut self) -> &mut tar::Builder<Vec<u8>> {
        &mut self.archive
    }

    pub fn file(self, path: &str, content: &[u8], mode: u32) -> Builder {
        self.entry(path, Builder::header(tar::EntryType::Regular, mode), content)
    }

    /// Programs of this machine, each at its path, with the libraries that they need.
    pub fn programs(self, paths: &[&str]) -> Builder {
        let mut files: BTreeSet<String> = paths.iter().map(|&path| path.to_owned()).collect();
        for path in paths {
            files.extend(libraries(Path::new(path)));
        }
        files.iter().fold(self, |image, file| image.file(file, &std::fs::read(file).unwrap(), 0o755))
    }

    pub fn directory(self, path: &str, mode: u32) -> Builder {
        self.entry(&format!("{path}/"), Builder::header(tar::EntryType::Directory, mode), b"")
    }

    pub fn link(mut self, path: &str, target: &str) -> Builder {
        let mut header = Builder::header(tar::EntryType::Symlink, 0o777);
        self.archive.append_link(&mut header, path.trim_start_matches('/'), target).unwrap();
        self
    }

    pub fn hard_link(mut self, path: &str, target: &str) -> Builder {
        let mut header = Builder::header(tar::EntryType::Link, 0o644);
        self.archive.append_link(&mut header, path.trim_start_matches('/'), target.trim_start_matches('/')).unwrap();
        self
    }

    /// A line of a Dockerfile that changes nothing but the configuration.
    pub fn change(mut self, line: &str) -> Builder {
        instructions::apply(&mut self.config["config"], line);
        self
    }

    /// Such lines.
    pub fn dockerfile(self, lines: &str) -> Builder {
        lines.lines().fold(self, Builder::change)
    }

    /// Its command.
    pub fn cmd(self, words: &[&str]) -> Builder {
        let words = serde_json::to_string(words).unwrap();
        self.change(&format!("CMD {words}"))
    }

    /// Its command: a line for the shell, which stops at once when it is told to.
    pub fn shell_cmd(self, line: &str) -> Builder {
        self.cmd(&["sh", "-c", &format!("trap 'exit 0' TERM; {line} & wait")])
    }

    /// Exactly this configuration, but for `rootfs`.
    pub fn config(self, config: Value) -> Builder {
        Builder { config, ..self }
    }

    /// As a file, which slim's own engine runs.
    pub fn build(self) -> Image {
        let name = format!("{}:1", unique("image"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.tar"), self.saved(&name)).unwrap();
        Image { name, client: Client::default(), folder: Some(folder) }
    }

    /// In the machine's daemon.
    pub fn load(self) -> Image {
        self.load_in(&Client::default())
    }

    /// In any daemon.
    pub fn load_in(self, client: &Client) -> Image {
        let name = format!("{}:1", unique("image"));
        feed(client.command().args(["load", "-q"]), &self.saved(&name));
        Image { name, client: client.clone(), folder: None }
    }

    /// For an engine.
    pub fn build_for(self, engine: Engine) -> Image {
        match engine {
            Engine::Embedded => self.build(),
            Engine::Docker => self.load(),
        }
    }

    /// As `docker save` writes it.
    fn saved(self, name: &str) -> Vec<u8> {
        let layer = self.archive.into_inner().unwrap();
        let mut config = self.config;
        config["rootfs"] = json!({"type": "layers", "diff_ids": [format!("sha256:{}", digits(&layer))]});
        if config.get("os").is_none() {
            config["os"] = "linux".into();
            config["architecture"] = docker_architecture().into();
            // No two images of the tests are the same: one would be removed with the other.
            config["created"] = now().into();
        }
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        let (config, manifest) = (config.to_string(), manifest.to_string());
        let files = [("layer.tar", &layer[..]), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())];
        let archive = files.iter().fold(Image::scratch(), |archive, (path, content)| archive.file(path, content, 0o644));
        archive.archive.into_inner().unwrap()
    }
}

/// The machine's architecture, as Docker names it.
pub fn docker_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn now() -> String {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// The libraries of this machine that a program needs, with the loader.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

fn feed(command: &mut Command, input: &[u8]) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
