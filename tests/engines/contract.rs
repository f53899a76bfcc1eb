//! What slim does on every engine that speaks Docker's API: one row for each promise.
//!
//! The newest engines are held to it each time. `tests/engines/run` holds all that can be had to it, and prints a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::rows;
use crate::support::{Builder, Client, Daemon, Image, NEWEST, Run, Slim, web};

/// An engine, and an image of a web server in it.
pub(super) struct Ground {
    pub(super) daemon: Daemon,
    pub(super) web: Image,
}

/// What is promised, and how it is tried.
type Row = (&'static str, fn(&Ground));

const ROWS: &[Row] = &[
    ("the doctor says yes", rows::doctor),
    ("a build is verified", rows::verified),
    ("the result gives the page", rows::serves),
    ("the name is like the source's", rows::name),
    ("the same name again", rows::again),
    ("a plan, and one image of it", rows::plan),
    ("one configuration, from files too", rows::one_configuration),
    ("nothing of the engine's is in it", rows::only_the_image),
    ("the verb verify", rows::verify),
    ("files, and back again", rows::files),
    ("layers, whiteouts, hard links", rows::layers),
    ("zstd", rows::zstd),
    ("a health check", rows::health_check),
    ("an image without history", rows::no_history),
    ("an image of slim's own", rows::own_image),
    ("a volume is copied", rows::volume),
    ("a volume of somebody else's", rows::volume_of_a_user),
    ("read-only", rows::read_only),
    ("a user", rows::user),
    ("no capabilities", rows::no_capabilities),
    ("the host's network", rows::host_network),
    ("no network", rows::no_network),
    ("an exit code", rows::exit_code),
    ("signals", rows::signals),
    ("the target can't tell", rows::cannot_tell),
    ("slim's own engine", rows::own_engine),
    ("a daemon that doesn't see our files", rows::elsewhere),
    ("an image that isn't there", rows::no_image),
    ("a program that isn't there", rows::no_program),
    ("a broken result", rows::broken),
    ("interrupted", rows::interrupted),
    ("killed, and another", rows::killed),
    ("pulled: an index, an attestation", rows::index),
    ("pulled: of other platforms only", rows::other_platforms),
    ("nothing is left", rows::nothing_left),
];

#[test]
fn the_newest_docker_keeps_the_contract() {
    keep(&format!("{NEWEST}/docker-containerd"));
}

#[test]
fn the_newest_podman_keeps_the_contract() {
    keep(&format!("{NEWEST}/podman"));
}

/// SLIM_TEST_ENGINES: their names, as `RELEASE/KIND`, with commas between them. SLIM_TEST_TABLE: the file for the table.
#[test]
#[ignore = "`tests/engines/run` runs it"]
fn every_engine_keeps_the_contract() {
    keep(&std::env::var("SLIM_TEST_ENGINES").unwrap());
}

#[track_caller]
fn keep(engines: &str) {
    // Containers are waited for most of the time, so two engines at a time.
    let (names, columns) = (engines.split(',').collect::<Vec<_>>(), Mutex::new(BTreeMap::new()));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(engine) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let column = column(engine);
                    columns.lock().unwrap().insert(*engine, column);
                }
            });
        }
    });
    let mut columns = columns.into_inner().unwrap();
    let table: Vec<_> = names.iter().filter_map(|engine| Some(((*engine).to_owned(), columns.remove(engine)?))).collect();
    let text = text(&table);
    if let Ok(path) = std::env::var("SLIM_TEST_TABLE") {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(table.len(), names.len(), "an engine did not start");
    let is_green = table.iter().all(|(_, (_, cells))| cells.iter().all(Result::is_ok));
    assert!(is_green, "{text}{}", words(&table));
}

/// An engine's version, and for each row the seconds or what went wrong.
type Column = (String, Vec<Result<f64, String>>);

fn column(engine: &str) -> Column {
    let (release, kind) = engine.split_once('/').expect("an engine is RELEASE/KIND");
    let begun = Instant::now();
    let daemon = Daemon::start(release, kind, &[]);
    let version = format!("{} up in {:.1} s", version(&daemon.client), begun.elapsed().as_secs_f64());
    let ground = Ground { web: server().load_in(&daemon.client), daemon };
    let only = std::env::var("SLIM_TEST_ROW").unwrap_or_default();
    let tried = ROWS.iter().map(|(name, row)| {
        if !name.contains(&only) {
            return Ok(0.0);
        }
        let begun = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| row(&ground)));
        panicked.map(|()| begun.elapsed().as_secs_f64()).map_err(|reason| {
            let text = reason.downcast_ref::<String>().cloned();
            text.or_else(|| reason.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
        })
    });
    (version, tried.collect())
}

/// The web server. No container shows its table of hosts.
pub(super) fn server() -> Builder {
    loadable(web()).file("/etc/hosts", b"10.1.2.3 of-image\n", 0o644)
}

/// An engine makes up what an archive only implies: the root directory, and others by what is in them.
pub(super) fn loadable(image: Builder) -> Builder {
    image.directory("/.", 0o755)
}

fn version(client: &Client) -> String {
    let (version, info) = (client.get("/version"), client.get("/info"));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let component = word(&version["Components"][0]["Name"]);
    let store = word(&info["Driver"]);
    format!("{component} {}, API {}, {store}", word(&version["Version"]), word(&version["ApiVersion"]))
}

/// One line for each row, one column for each engine.
fn text(table: &[(String, Column)]) -> String {
    let mut text = String::new();
    for (number, (engine, (version, _))) in table.iter().enumerate() {
        let _ = writeln!(text, "{} {engine}: {version}", number + 1);
    }
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let _ = write!(text, "{name:<40}");
        for (_, (_, cells)) in table {
            let _ = match &cells[row] {
                Ok(seconds) => write!(text, " {seconds:5.1}"),
                Err(_) => write!(text, "   RED"),
            };
        }
        text.push('\n');
    }
    text
}

/// What went wrong.
fn words(table: &[(String, Column)]) -> String {
    let mut text = String::new();
    for (engine, (_, cells)) in table {
        for ((name, _), cell) in ROWS.iter().zip(cells) {
            if let Err(words) = cell {
                let _ = writeln!(text, "{engine}: {name}: {words}");
            }
        }
    }
    text
}

impl Ground {
    pub(super) fn client(&self) -> &Client {
        &self.daemon.client
    }

    /// A build of the web server under a name of its own.
    #[track_caller]
    pub(super) fn build(&self, tag: &str, words: &[&str]) -> Run {
        let named = [&["--http-probe", "--tag", tag], words].concat();
        Slim::build(&self.web, &named).run().ok()
    }

    /// The ids of all images, with names and without.
    pub(super) fn images(&self) -> BTreeSet<String> {
        let listed = self.client().get("/images/json?all=1");
        listed.as_array().unwrap().iter().map(|image| image["Id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs a container to its end; what it wrote.
    #[track_caller]
    pub(super) fn run(&self, words: &[&str]) -> String {
        self.client().docker(&[&["run", "--rm"], words].concat())
    }

    pub(super) fn load(&self, image: Builder) -> Image {
        loadable(image).load_in(self.client())
    }
}
