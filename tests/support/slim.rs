//! The executable under test, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use slim::observe::observation::Observation;

use super::times::begin;
use super::{Client, Engine, Image};

/// Where no daemon is.
pub const NOWHERE: &str = "unix:///nonexistent/docker.sock";

/// A command line of slim; the report goes to its folder.
pub struct Slim {
    folder: tempfile::TempDir,
    /// A store of layers, where its image has none.
    cache: tempfile::TempDir,
    command: Command,
}

/// What came of it.
pub struct Run {
    /// Where it ran; holds `slim.report.json`.
    folder: tempfile::TempDir,
    output: Output,
}

impl Slim {
    /// `slim build IMAGE`, followed by words.
    pub fn build(image: &Image, words: &[&str]) -> Slim {
        let slim = Slim::with(&image.client, &[&["build", &image.source()], words].concat());
        if image.engine() == Engine::Docker {
            return slim;
        }
        slim.env("XDG_CACHE_HOME", image.cache().to_str().unwrap()).env("DOCKER_HOST", NOWHERE)
    }

    /// The same for tests of what is kept, which don't pay for a verification.
    pub fn keep(image: &Image, words: &[&str]) -> Slim {
        Slim::build(image, &[&["--verify=off"], words].concat())
    }

    /// The same for tests of what is seen, which don't pay for a result in a daemon either.
    pub fn observe(image: &Image, words: &[&str]) -> Slim {
        Slim::keep(image, &[&["--output", "docker-archive:result.tar", "--compression", "none"], words].concat())
    }

    /// Any command line.
    pub fn new(words: &[&str]) -> Slim {
        Slim::with(&Client::default(), words)
    }

    /// Any command line, with a daemon.
    pub fn with(client: &Client, words: &[&str]) -> Slim {
        Slim::of(client, client.slim(), words)
    }

    /// As [`Slim::build`], where the daemon does not see slim's temporary files.
    pub fn build_elsewhere(image: &Image, words: &[&str]) -> Slim {
        let slim = Slim::of(&image.client, image.client.slim_elsewhere(), &[&["build", &image.name], words].concat());
        let temporary = slim.folder().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        image.client.give(&temporary);
        slim.env("TMPDIR", temporary.to_str().unwrap())
    }

    fn of(client: &Client, mut command: Command, words: &[&str]) -> Slim {
        begin();
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        [&folder, &cache].iter().for_each(|directory| client.give(directory.path()));
        command.args(words).current_dir(folder.path()).stdin(Stdio::null()).env_remove("SOURCE_DATE_EPOCH");
        command.env("XDG_CACHE_HOME", cache.path());
        Slim { folder, cache, command }
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Slim {
        self.command.env(name, value);
        self
    }

    /// The folder that it runs in, to put files there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command, to be started by hand.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Run {
        let output = self.command.output().unwrap();
        drop(self.cache);
        Run { folder: self.folder, output }
    }
}

impl Run {
    /// Its exit code.
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Everything is well, or the test ends with what it said.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!(self.code(), 0, "{}{}", self.stdout(), self.stderr());
        self
    }

    /// It ended with this code and said this.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Run {
        let said = self.stderr();
        assert!(
            self.code() == code && said.contains(text),
            "exit code {} (not {code}), or not said {text:?}:\n{said}",
            self.code()
        );
        self
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An observation that it wrote to its folder.
    pub fn observation(&self, name: &str) -> Observation {
        slim::observe::file::read(std::io::BufReader::new(std::fs::File::open(self.path(name)).unwrap())).unwrap()
    }

    /// The report.
    pub fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("slim.report.json")).unwrap()).unwrap()
    }

    /// The HTTP requests that were made: port, request, status.
    pub fn requests(&self) -> Vec<(u64, String, Option<u64>)> {
        let report = self.report();
        let records = report["probes"]["http"]["records"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let request = |record: &Value| format!("{} {}", text(&record["method"]), text(&record["resource"]));
        let status = |record: &Value| record["outcome"]["answered"]["status"].as_u64();
        records.iter().map(|record| (record["port"].as_u64().unwrap(), request(record), status(record))).collect()
    }

    /// The seconds that a step took.
    pub fn seconds(&self, step: &str) -> f64 {
        let report = self.report();
        let steps = report["seconds"].as_array().unwrap();
        steps
            .iter()
            .find(|row| row[0] == step)
            .and_then(|row| row[1].as_f64())
            .unwrap_or_else(|| panic!("no {step} in {steps:?}"))
    }

    /// What the user was warned of.
    pub fn warnings(&self) -> Vec<String> {
        let report = self.report();
        report["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
    }

    /// Whether a path is kept because of a use in a phase, by a program, of a kind: `GET / (/bin/busybox, open)`.
    pub fn is_used(&self, path: &str, text: &str) -> bool {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reasons = self.reasons(path);
        let used = reasons.iter().filter(|reason| reason["why"] == "used");
        let mut told =
            used.map(|reason| format!("{} ({}, {})", word(&reason["during"]), word(&reason["by"]), word(&reason["access"])));
        told.any(|told| told == text)
    }

    /// The reasons of a kept path; empty where it isn't kept.
    pub fn reasons(&self, path: &str) -> Vec<Value> {
        let report = self.report();
        let kept = report["kept"].as_array().unwrap();
        let row = kept.iter().find(|row| row["path"] == path);
        row.map(|row| row["reasons"].as_array().unwrap().clone()).unwrap_or_default()
    }

    pub fn keeps(&self, path: &str) -> bool {
        !self.reasons(path).is_empty()
    }
}
