//! A build that is watched while it runs, and what it leaves.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use slim::observe::observation::Observation;

use super::{Client, docker_output};

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} takes more than a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A build that is watched while it runs.
pub struct Running {
    pub child: Child,
    /// Where it keeps its temporary files.
    temporary: PathBuf,
    folder: tempfile::TempDir,
    said: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts slim, its temporary files in a folder of its own.
    pub fn start(words: &[&str], variables: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.args(words).current_dir(folder.path()).env("TMPDIR", &temporary).envs(variables.iter().copied());
        Running::spawn(command, temporary, folder)
    }

    /// Starts a command that becomes slim.
    pub fn spawn(mut command: Command, temporary: PathBuf, folder: tempfile::TempDir) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&said));
        let listen = move || lines.map_while(Result::ok).for_each(|line| *heard.lock().unwrap() += &(line + "\n"));
        Running { child, temporary, folder, said, listening: Some(std::thread::spawn(listen)) }
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn until_it_says(&mut self, words: &str) {
        let (said, child) = (Arc::clone(&self.said), &mut self.child);
        until(&format!("saying {words:?}"), || {
            said.lock().unwrap().contains(words) || {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "it ended with {ended:?}:\n{}", said.lock().unwrap());
                false
            }
        });
    }

    pub fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Its exit code.
    pub fn end(&mut self) -> i32 {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // So all of its words are there.
        self.listening.take().into_iter().for_each(|listening| listening.join().unwrap());
        status.unwrap().code().unwrap_or(-1)
    }

    pub fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join("slim.report.json")).unwrap()).unwrap()
    }

    /// An observation that it wrote.
    pub fn observation(&self, name: &str) -> Observation {
        slim::observe::file::read(BufReader::new(std::fs::File::open(self.folder.path().join(name)).unwrap())).unwrap()
    }

    /// What the daemon says of its containers.
    fn listed(&self) -> Vec<Value> {
        let own = format!("{}@", self.child.id());
        let is_own =
            |container: &Value| container["Labels"]["slim.process"].as_str().is_some_and(|process| process.starts_with(&own));
        Client::default().labelled("slim.run").into_iter().filter(is_own).collect()
    }

    /// Its containers in the daemon.
    pub fn containers(&self) -> Vec<String> {
        self.listed().iter().map(|container| container["Id"].as_str().unwrap().to_owned()).collect()
    }

    /// The volumes that its containers have now.
    pub fn volumes(&self) -> BTreeSet<String> {
        let listed = self.listed();
        let mounts = listed.iter().flat_map(|container| container["Mounts"].as_array().into_iter().flatten());
        mounts.filter(|mount| mount["Type"] == "volume").map(|mount| mount["Name"].as_str().unwrap().to_owned()).collect()
    }

    /// Where its temporary files are.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    pub fn temporary_files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[track_caller]
    pub fn assert_nothing_is_left(&self, volumes: &BTreeSet<String>) {
        assert_eq!(self.containers(), [""; 0], "containers are left:\n{}", self.said());
        for volume in volumes {
            assert_eq!(Client::default().get(&format!("/volumes/{volume}"))["Name"], Value::Null, "volume {volume} is left");
        }
        assert_eq!(self.temporary_files(), Vec::<PathBuf>::new(), "temporary files are left");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for id in self.containers() {
            docker_output(&["rm", "-f", "-v", &id]);
        }
    }
}
