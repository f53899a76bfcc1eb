//! A slim image is tried as its original was: what is broken is caught, repaired or told; what is noise is not.

mod failing;
mod kinds;
mod noise;
mod plans;
mod removal;
mod state;
mod verb;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::JoinHandle;

use serde_json::Value;

use crate::support::{Builder, Client, Engine, Image, Run, Slim, busybox, digits, docker_output, saved_config, unique};

/// A name for a result, and where slim's own engine puts it; it is removed with what has it.
struct Tag {
    name: String,
    engine: Engine,
    /// For a file.
    folder: tempfile::TempDir,
}

impl Tag {
    fn of(image: &Image) -> Tag {
        Tag { name: format!("{}:1", unique("result")), engine: image.engine(), folder: tempfile::tempdir().unwrap() }
    }

    /// Options that have the result go there.
    fn words(&self) -> Vec<String> {
        let mut words = vec!["--tag".to_owned(), self.name.clone()];
        if self.engine == Engine::Embedded {
            words.extend(["--output".to_owned(), self.source()]);
        }
        words
    }

    /// What slim calls the result.
    fn source(&self) -> String {
        match self.engine {
            Engine::Embedded => format!("docker-archive:{}", self.file().display()),
            Engine::Docker => self.name.clone(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("result.tar")
    }

    fn is_there(&self) -> bool {
        match self.engine {
            Engine::Embedded => self.file().exists(),
            Engine::Docker => Client::default().has_image(&self.name),
        }
    }

    /// The result's id and configuration.
    fn config(&self) -> (String, Value) {
        let archive = match self.engine {
            Engine::Embedded => std::fs::read(self.file()).unwrap(),
            Engine::Docker => docker_output(&["save", &self.name]).stdout,
        };
        let config = saved_config(&archive);
        (format!("sha256:{}", digits(&config)), serde_json::from_slice(&config).unwrap())
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        if self.engine == Engine::Docker {
            Client::default().remove_image(&self.name);
        }
    }
}

/// A plan in a file, to be changed by hand.
struct PlanFile {
    folder: tempfile::TempDir,
    plan: Value,
}

impl PlanFile {
    /// What an unverified build with these words decides to keep.
    #[track_caller]
    fn of(image: &Image, words: &[&str]) -> PlanFile {
        let run = tagged(image, &Tag::of(image), &[&["--verify=off", "--write-plan", "plan.json"], words].concat()).run().ok();
        let plan = serde_json::from_slice(&std::fs::read(run.path("plan.json")).unwrap()).unwrap();
        PlanFile { folder: tempfile::tempdir().unwrap(), plan }
    }

    /// The same with one thing changed.
    #[track_caller]
    fn with(&self, change: &Change) -> PlanFile {
        let mut plan = self.plan.clone();
        let entries = plan["entries"].as_array_mut().unwrap();
        let path = change.path();
        let number = entries.iter().position(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{path} is not kept"));
        match change {
            Change::Remove(_) => drop(entries.remove(number)),
            Change::Mode(_, mode) => entries[number]["mode"] = (*mode).into(),
            Change::Owner(_, user, group) => entries[number]["owner"] = vec![*user, *group].into(),
        }
        PlanFile { folder: tempfile::tempdir().unwrap(), plan }
    }

    /// Where it is.
    fn path(&self) -> PathBuf {
        let path = self.folder.path().join("plan.json");
        std::fs::write(&path, self.plan.to_string()).unwrap();
        path
    }
}

/// What is done to a plan that was good.
enum Change {
    Remove(&'static str),
    Mode(&'static str, &'static str),
    Owner(&'static str, u32, u32),
}

impl Change {
    fn path(&self) -> &'static str {
        match self {
            Change::Remove(path) | Change::Mode(path, _) | Change::Owner(path, ..) => path,
        }
    }
}

/// `slim build IMAGE --tag TAG`, followed by words.
fn tagged(image: &Image, tag: &Tag, words: &[&str]) -> Slim {
    let tag = tag.words();
    Slim::build(image, &[&tag.iter().map(String::as_str).collect::<Vec<_>>()[..], words].concat())
}

/// `slim build IMAGE --plan PLAN --tag TAG`, followed by words.
fn build_of_plan(image: &Image, plan: &PlanFile, tag: &Tag, words: &[&str]) -> Slim {
    tagged(image, tag, &[&["--plan", plan.path().to_str().unwrap()], words].concat())
}

/// What the report says of the verification.
#[track_caller]
fn verification(run: &Run) -> Value {
    run.report()["verification"].clone()
}

/// Nothing has the name, and none of the images that were tried is left.
#[track_caller]
fn assert_nothing_is_left(run: &Run, tag: &Tag) {
    assert!(!tag.is_there(), "{} is there", tag.source());
    let verification = verification(run);
    let rounds = verification["rounds"].as_array().unwrap();
    assert!(!rounds.is_empty());
    for round in rounds {
        let image = round["image"].as_str().unwrap();
        assert!(image.starts_with("sha256:"), "{round}");
        if tag.engine == Engine::Docker {
            assert!(!Client::default().has_image(image), "{image} is left");
        }
    }
}

/// A server of one page.
fn page() -> Builder {
    let pages = busybox().directory("/www", 0o755).file("/www/index.html", b"index", 0o644);
    pages.change("EXPOSE 8080").shell_cmd("httpd -f -p 8080 -h /www")
}

/// State that no volume holds: a server on this machine's loopback that tells how often it was asked.
struct Outside {
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Outside {
    fn new() -> Outside {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            for number in 1.. {
                let mut stream = listener.accept().unwrap().0;
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                // A caller who hangs up without a word is the end.
                if lines.by_ref().take_while(|line| !line.is_empty()).count() == 0 {
                    break;
                }
                write!(stream, "HTTP/1.0 200 OK\r\n\r\n{number}").unwrap();
            }
        });
        Outside { address, serving: Some(serving) }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        self.serving.take().into_iter().for_each(|serving| drop(serving.join()));
    }
}

/// Does a job for each, a few at a time: they mostly wait for containers.
fn for_each_beside<T: Send>(items: impl IntoIterator<Item = T>, job: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter().collect::<VecDeque<_>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(item) = { items.lock().unwrap().pop_front() } {
                    job(item);
                }
            });
        }
    });
}
