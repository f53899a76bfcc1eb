//! Daemons of a test's own: engines of releases of Debian, each in namespaces (`tests/engines/start`).
//!
//! A daemon ends with the thread that started it, also where that one is killed.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::{Client, DEV};
use super::newer_api;
use super::until;

/// The release with the newest engines; those of `tests/run` are from there.
pub const NEWEST: &str = "forky";

/// Docker 29, as far as it can be had: 28 with its defaults (images in containerd, no API before 1.44), its answers rewritten.
const LIKE_29: &str = "docker-like-29";

/// How long a daemon may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub struct Daemon {
    /// The way to it.
    pub client: Client,
    /// What it is, such as `rootless-docker`.
    pub kind: String,
    /// Waits for the first process of the namespace.
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Docker's, its images in its storage driver, with options. It answers at a unix socket besides.
    pub fn docker(options: &[&str]) -> Daemon {
        Daemon::start(NEWEST, "docker", options)
    }

    /// Docker's as a new installation of version 29 has it: its images in containerd.
    pub fn docker_with_containerd() -> Daemon {
        Daemon::start(NEWEST, "docker-containerd", &[])
    }

    /// Podman's.
    pub fn podman() -> Daemon {
        Daemon::start(NEWEST, "podman", &[])
    }

    /// An engine of a release of Debian; kinds are in `tests/engines/start`.
    pub fn start(release: &str, kind: &str, options: &[&str]) -> Daemon {
        unpack(release);
        let folder = tempfile::tempdir().unwrap();
        // Users of containers pass through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines/start");
        let mut command = Command::new("setpriv");
        let started = if kind == LIKE_29 { "docker-containerd" } else { kind };
        command.args(["--pdeathsig", "KILL", script]).arg(folder.path()).args([release, started]).args(options);
        let mut socket = folder.path().join("daemon.sock");
        if kind == LIKE_29 {
            command.env("DOCKER_MIN_API_VERSION", "1.44");
            let rewritten = folder.path().join("rewritten.sock");
            newer_api::serve(&rewritten, &socket);
            socket = rewritten;
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("setpriv is installed (util-linux)");
        let host = format!("unix://{}", socket.display());
        let rootless = kind.starts_with("rootless-").then(|| copy_for_dev(folder.path()));
        let client = Client { host: Some(host), network_of: Some(child.id()), rootless };
        let mut daemon = Daemon { client, kind: kind.to_owned(), child, folder };
        until("the start of a daemon", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {}", daemon.log());
            daemon.client.ask("GET", "/version").0 == 200
        });
        daemon
    }

    /// It is a user's, not root's.
    pub fn is_rootless(&self) -> bool {
        self.client.rootless.is_some()
    }

    /// It is Podman's service.
    pub fn is_podman(&self) -> bool {
        self.kind.ends_with("podman")
    }

    /// Where it has its socket; a test can put files there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// No container and no volume is left in it.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.client.docker(&["ps", "-aq"]), "", "containers are left");
        assert_eq!(self.client.docker(&["volume", "ls", "-q"]), "", "volumes are left");
    }
}

/// Unpacks a release's engines, once.
fn unpack(release: &str) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines/unpack");
    assert!(Command::new(script).arg(release).status().unwrap().success(), "the engines of {release} cannot be had");
}

/// The executable under test where `dev` may read it: the build directory may be nobody's but root's.
fn copy_for_dev(folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("slim");
    std::fs::copy(env!("CARGO_BIN_EXE_slim"), &copy).unwrap();
    nix::unistd::chown(&copy, Some(DEV.into()), Some(DEV.into())).unwrap();
    copy
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let number = std::fs::read_to_string(self.folder.path().join("number")).ok();
        if let Some(number) = number.and_then(|number| number.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
