//! Images made from nothing: a tar in memory, imported into the daemon with a configuration.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::archive::hexadecimal;
use super::{Client, docker, unique};

/// An image in the daemon, removed with its slim version when it goes out of scope.
#[derive(Debug)]
pub struct Image {
    /// Its name, with a tag.
    pub name: String,
    /// The way to its daemon.
    pub client: Client,
}

/// An image in the making.
pub struct Builder {
    archive: tar::Builder<Vec<u8>>,
    changes: Vec<String>,
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
        .directory("/root", 0o700);
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

/// A server on port 8080 with some pages, a declared volume, and a few megabytes to pack.
pub fn web() -> Builder {
    busybox()
        .file("/www/index.html", b"<a href=/large>large</a>", 0o644)
        .file("/www/large", &large(), 0o644)
        .file("/www/hidden", b"hidden", 0o644)
        .change("EXPOSE 8080")
        .change("VOLUME /data")
        .shell_cmd("httpd -f -p 8080 -h /www")
}

pub fn large() -> Vec<u8> {
    (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// An image of Debian's packages (nginx, Python, Perl, strace) with programs in /opt, and what a Dockerfile says after that.
/// Its own layer is small: the packages' is there once.
pub fn debian_tools(programs: &[(&str, &[u8])], dockerfile: &str) -> Image {
    const TOOLS: &str = "slim-bench/tools:1";
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/debian-image");
    assert!(Command::new(script).args(["tools", TOOLS]).status().unwrap().success());
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
        Builder { archive: tar::Builder::new(vec![]), changes: vec![] }
    }

    /// One that is, or is going to be, in the machine's own daemon.
    pub fn named(name: String) -> Image {
        Image { name, client: Client::default() }
    }

    /// The name that a slim version gets where none is given.
    pub fn slim_name(&self) -> String {
        let (name, tag) = self.name.rsplit_once(':').unwrap();
        format!("{name}.slim:{tag}")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Whatever comes of it: in the middle of a failing test nothing may panic.
        let said = |arguments: &[&str]| String::from_utf8_lossy(&self.client.output(arguments).stdout).trim().to_owned();
        let id = said(&["image", "inspect", "-f", "{{.Id}}", &self.name]);
        said(&["rmi", "-f", &self.slim_name()]);
        // What was built before the last time has lost its name; the history says what it was built from.
        for image in said(&["images", "-q", "--filter", "dangling=true"]).lines() {
            if !id.is_empty() && said(&["history", "--no-trunc", "--format", "{{.Comment}}", image]).contains(&id) {
                said(&["rmi", image]);
            }
        }
        said(&["rmi", "-f", &self.name]);
    }
}

impl Builder {
    /// A header that each kind of entry begins with: owner root, a fixed time.
    pub fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
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

    /// A line of a Dockerfile that `docker import --change` takes: CMD, ENTRYPOINT, ENV, EXPOSE, USER, VOLUME, WORKDIR,
    /// ONBUILD. For all else see [`Builder::build_with`].
    pub fn change(mut self, line: &str) -> Builder {
        self.changes.push(line.to_owned());
        self
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

    /// Imports it.
    pub fn build(self) -> Image {
        self.build_with("")
    }

    /// Imports it, then adds what a Dockerfile says after its FROM line (LABEL, HEALTHCHECK, STOPSIGNAL, SHELL; no RUN).
    pub fn build_with(self, dockerfile: &str) -> Image {
        self.build_in(&Client::default(), dockerfile)
    }

    /// As [`Builder::build_with`], into any daemon.
    pub fn build_in(self, client: &Client, dockerfile: &str) -> Image {
        let name = format!("{}:1", unique("image"));
        let archive = self.archive.into_inner().unwrap();
        let mut import = client.command();
        import.arg("import");
        for change in &self.changes {
            import.args(["--change", change]);
        }
        feed(import.args(["-", &name]), &archive);
        if !dockerfile.is_empty() {
            let dockerfile = format!("FROM {name}\n{dockerfile}\n");
            feed(client.command().args(["build", "-q", "-t", &name, "-"]), dockerfile.as_bytes());
        }
        Image { name, client: client.clone() }
    }

    /// Loads it with exactly this configuration, but for `rootfs`: what no Dockerfile can say.
    pub fn load(self, mut config: serde_json::Value) -> Image {
        let name = format!("{}:1", unique("image"));
        let layer = self.archive.into_inner().unwrap();
        let digest = hexadecimal(&Sha256::digest(&layer));
        config["rootfs"] = json!({"type": "layers", "diff_ids": [format!("sha256:{digest}")]});
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        let (config, manifest) = (config.to_string(), manifest.to_string());
        let mut archive = Image::scratch();
        for (path, content) in
            [("layer.tar", &layer[..]), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
        {
            archive = archive.file(path, content, 0o644);
        }
        feed(Client::default().command().arg("load"), &archive.archive.into_inner().unwrap());
        Image::named(name)
    }
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
