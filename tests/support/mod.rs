//! What the tests share: images made from nothing, the executable under test, and the daemon's client.

mod archive;
mod client;
mod daemon;
#[path = "../../src/image/layer/fixture.rs"]
#[allow(dead_code, reason = "it is for the unit tests too")]
mod fixture;
pub mod ground;
mod image;
mod instructions;
mod newer_api;
mod proxy;
mod registry;
mod running;
mod shared;
mod slim;
mod times;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

pub use archive::{Entries, config_id, digits, entries, exported, layer, saved_config, uncompressed};
pub use client::Client;
pub use daemon::{Daemon, NEWEST};
pub(crate) use fixture::Archive;
pub use ground::Ground;
pub(crate) use image::on_both_engines;
pub use image::{Builder, Engine, Image, busybox, debian_tools, docker_architecture, heavy_web, large, shell, web};
pub use proxy::Proxy;
pub use registry::{Answer, Fake, Passage, Registry};
pub use running::{Running, until};
pub use shared::Shared;
pub use slim::{NOWHERE, Run, Slim};
pub use times::{heavy, nightly};

/// For jobs that end by themselves, which need no probe.
pub const NO_HTTP: &str = "--http-probe=false";

/// A name for something in the daemon that no other test has, also not of another process.
pub fn unique(kind: &str) -> String {
    times::begin();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("slim-test-{}-{}-{kind}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs the docker client; its standard output.
///
/// # Panics
/// Where it fails: with what it said.
pub fn docker(arguments: &[&str]) -> String {
    Client::default().docker(arguments)
}

/// Runs the docker client, whatever comes of it.
pub fn docker_output(arguments: &[&str]) -> Output {
    Client::default().output(arguments)
}

/// What a container did: exit code, standard output, standard error.
pub fn behaviour(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The slim image does what its original does.
#[track_caller]
pub fn same_behaviour(image: &Image) {
    let fat = behaviour(&image.run(&[], &[]));
    assert_eq!(fat.0, Some(0), "the original fails: {fat:?}");
    assert_eq!(behaviour(&image.run_slim(&[], &[])), fat);
}

/// Compiles a C program, statically, once a run; the executable's bytes.
pub fn compile(source: &str) -> Vec<u8> {
    compile_with(source, &["-static"])
}

/// Compiles a C program or library with options, once a run; its bytes.
pub fn compile_with(source: &str, options: &[&str]) -> Vec<u8> {
    static COMPILED: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let key = format!("{options:?} {source}");
    let known = COMPILED.lock().unwrap().get(&key).cloned();
    known.unwrap_or_else(|| {
        let program = compile_anew(source, options);
        COMPILED.lock().unwrap().insert(key, program.clone());
        program
    })
}

fn compile_anew(source: &str, options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (code, program) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(&code, source).unwrap();
    let output = Command::new("cc").args(["-O1", "-pthread", "-w", "-o"]).arg(&program).arg(&code).args(options).output();
    let output = output.expect("a C compiler is installed (`tests/run` does that)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(program).unwrap()
}
