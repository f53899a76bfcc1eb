//! The docker client, and slim, with words for one daemon.

use std::process::{Command, Output};

/// A way to a daemon; by default the machine's own, as the environment names it.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Its address, where it is another.
    pub host: Option<String>,
    /// A process in whose network namespace the daemon publishes ports.
    pub network_of: Option<u32>,
}

impl Client {
    /// The docker client.
    pub fn command(&self) -> Command {
        self.directed(Command::new("docker"))
    }

    /// The executable under test.
    pub fn slim(&self) -> Command {
        self.directed(self.in_network(&[env!("CARGO_BIN_EXE_slim")]))
    }

    /// The executable under test with another directory at `TMPDIR` than the daemon has.
    pub fn slim_elsewhere(&self) -> Command {
        let line = "mount -t tmpfs none \"$TMPDIR\" && exec \"$0\" \"$@\"";
        self.directed(self.in_network(&["unshare", "--mount", "sh", "-c", line, env!("CARGO_BIN_EXE_slim")]))
    }

    fn in_network(&self, words: &[&str]) -> Command {
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

    /// What a container does: exit code, standard output, standard error.
    pub fn behaviour(&self, image: &str) -> (Option<i32>, String, String) {
        let output = self.output(&["run", "--rm", image]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}
