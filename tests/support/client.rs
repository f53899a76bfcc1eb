//! The docker client, and slim, with words for one daemon.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Who has the engines without root.
pub const DEV: u32 = 1000;

/// A way to a daemon; by default the machine's own, as the environment names it.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Its address, where it is another.
    pub host: Option<String>,
    /// A process in whose network namespace the daemon publishes ports.
    pub network_of: Option<u32>,
    /// Where the daemon is `dev`'s: the executable under test, which `dev` then runs.
    pub rootless: Option<PathBuf>,
}

impl Client {
    /// The docker client.
    pub fn command(&self) -> Command {
        self.directed(Command::new("docker"))
    }

    /// The executable under test.
    pub fn slim(&self) -> Command {
        let words = self.slim_words();
        self.directed(self.in_network(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// The executable under test with another directory at `TMPDIR` than the daemon has.
    pub fn slim_elsewhere(&self) -> Command {
        let line = "mount -t tmpfs -o mode=1777 none \"$TMPDIR\" && exec \"$0\" \"$@\"";
        let words = self.slim_words();
        let words = ["unshare", "--mount", "sh", "-c", line].into_iter().chain(words.iter().map(String::as_str));
        self.directed(self.in_network(&words.collect::<Vec<_>>()))
    }

    /// The executable under test, by whom it is to be run.
    fn slim_words(&self) -> Vec<String> {
        match &self.rootless {
            None => vec![env!("CARGO_BIN_EXE_slim").to_owned()],
            Some(slim) => {
                let ids = format!("setpriv --reuid {DEV} --regid {DEV} --clear-groups");
                ids.split(' ').map(str::to_owned).chain([slim.display().to_string()]).collect()
            }
        }
    }

    /// Gives a directory to who runs slim.
    pub fn give(&self, directory: &Path) {
        if self.rootless.is_some() {
            nix::unistd::chown(directory, Some(DEV.into()), Some(DEV.into())).unwrap();
        }
    }

    /// A command where the daemon publishes its ports.
    pub fn in_network(&self, words: &[&str]) -> Command {
        let enter = self.network_of.map(|process| ["nsenter".to_owned(), format!("--net=/proc/{process}/ns/net")]);
        let mut words = enter.into_iter().flatten().chain(words.iter().map(|&word| word.to_owned()));
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
    }

    fn directed(&self, mut command: Command) -> Command {
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// Runs the docker client, whatever comes of it.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the docker client is installed (`tests/run` does that)")
    }

    /// Runs the docker client; its standard output.
    ///
    /// # Panics
    /// Where it fails: with what it said.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Asks its API; the status, 0 where it is gone, and what it answers. This takes a tenth of what a start of the docker
    /// client does, so it is for what is asked over and over.
    ///
    /// # Panics
    /// Where the daemon is not at a Unix socket.
    pub fn ask(&self, method: &str, path: &str) -> (u16, Vec<u8>) {
        let host = self.host.as_deref().unwrap_or("unix:///var/run/docker.sock");
        let Ok(mut stream) = UnixStream::connect(host.strip_prefix("unix://").unwrap()) else { return (0, vec![]) };
        // A daemon that hangs up early has said all.
        let _ = write!(stream, "{method} {path} HTTP/1.0\r\nHost: daemon\r\n\r\n");
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let body = answer.split_off(end);
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_default(), body)
    }

    /// What its API says; null where it has no such thing.
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.ask("GET", path).1).unwrap_or_default()
    }

    /// The containers with a label, whether they run or not.
    pub fn labelled(&self, label: &str) -> Vec<Value> {
        let filters = escaped(&json!({"label": [label]}).to_string());
        self.get(&format!("/containers/json?all=1&filters={filters}")).as_array().cloned().unwrap_or_default()
    }

    /// Whether it has an image of this name or id.
    pub fn has_image(&self, name: &str) -> bool {
        self.ask("GET", &format!("/images/{name}/json")).0 == 200
    }

    /// Removes a name of an image, and the image where that was the last.
    pub fn remove_image(&self, name: &str) {
        self.ask("DELETE", &format!("/images/{name}?force=1"));
    }
}

/// As a part of an address.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
