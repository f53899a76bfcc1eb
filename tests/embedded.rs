//! The embedded engine's runner, through the library: containers of a busybox directory, made without any daemon.
//!
//! The tests run as root. What is to be run by somebody else, or killed, is this executable again with a part of the
//! test to play ([`part`]).

mod build;
mod contract;
mod directory;
mod endings;
mod files;
mod nested;
mod network;
mod rootless;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use slim::engine::capabilities::CapabilitySet;
use slim::engine::embedded::{Runner, RunnerError, Streams, Tier};
use slim_sensor::container::spec::{ContainerSpec, Root};
use tokio::io::AsyncReadExt;

/// `slim` itself, which becomes the helper.
const SLIM: &str = env!("CARGO_BIN_EXE_slim");
/// Says which part of a test this process plays.
const PART: &str = "SLIM_TEST_PART";

/// A root directory with busybox in it, and room for the state of containers. Gone when dropped.
struct Ground {
    folder: tempfile::TempDir,
    count: AtomicU32,
    tier: Tier,
}

impl Ground {
    fn new() -> Ground {
        let folder = tempfile::Builder::new().prefix("slim-embedded-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("root");
        for directory in ["bin", "etc", "tmp", "root"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed (`tests/run` does that)");
        let applets = [
            "sh", "cat", "ls", "echo", "sleep", "httpd", "id", "env", "test", "mkdir", "stat", "kill", "true", "false", "nc",
            "mount", "ps", "hostname", "readlink", "tty", "touch", "grep", "wget", "pwd", "chown", "ip", "stty", "rm", "mknod",
            "head", "wc", "su",
        ];
        for name in applets {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n").unwrap();
        Ground { folder, count: AtomicU32::new(0), tier: Tier::Root }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A container of the directory as its only layer.
    fn spec(&self, argv: &[&str]) -> ContainerSpec {
        let state = self.path(&format!("state-{}", self.count.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&state).unwrap();
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        ContainerSpec::new(Root::Layers(vec![self.root()]), state, CapabilitySet::DOCKER_DEFAULT.mask(), argv)
    }

    fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    fn runner(&self) -> Runner {
        Runner::new(SLIM.into(), self.tier)
    }

    /// Runs a container to its end: exit code, standard output, standard error.
    async fn run(&self, spec: &ContainerSpec) -> (i32, String, String) {
        let (running, streams) = self.runner().start(spec, &[]).await.unwrap();
        let (output, errors) = all(streams).await;
        let code = running.wait().await.unwrap();
        assert_eq!(std::fs::read_dir(&spec.state).unwrap().count(), 0, "the state directory is empty at the end");
        (code, output, errors)
    }

    /// What a script writes; it must succeed.
    #[track_caller]
    fn says(&self, spec: &ContainerSpec) -> String {
        let (code, output, errors) = block(self.run(spec));
        assert_eq!(code, 0, "{output}{errors}");
        output
    }

    /// Why a container cannot be started.
    async fn refusal(&self, spec: &ContainerSpec) -> (i32, String) {
        match self.runner().start(spec, &[]).await {
            Err(RunnerError::Start(failure)) => {
                assert_eq!(std::fs::read_dir(&spec.state).unwrap().count(), 0, "the state directory is empty");
                (failure.status, failure.reason)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Everything that comes out of streams, their input closed.
async fn all(streams: Streams) -> (String, String) {
    let Streams { input, mut output, errors } = streams;
    drop(input);
    let (mut text, mut complaints) = (vec![], vec![]);
    let errors = async {
        if let Some(mut errors) = errors {
            errors.read_to_end(&mut complaints).await.unwrap();
        }
    };
    let (read, ()) = tokio::join!(output.read_to_end(&mut text), errors);
    read.unwrap();
    (String::from_utf8_lossy(&text).into_owned(), String::from_utf8_lossy(&complaints).into_owned())
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(future)
}

/// The part that this process plays in a test; `None` for the test itself.
fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// This executable again, to play a part in the test `name`.
fn again(executable: &Path, name: &str, part: &str) -> Command {
    let mut command = Command::new(executable);
    command.args([&format!("embedded::{name}"), "--exact", "--nocapture", "--test-threads=1"]).env(PART, part);
    command
}

/// Waits, for a while, until something is so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn is_alive(pid: i32) -> bool {
    // A zombie is not.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
