//! Daemons of a test's own: Docker's with other options, and Podman's.
//!
//! Each runs in namespaces of its own: of networks, as a second bridge and its firewall rules would take the machine's own
//! daemon's; of mounts, where what it stores lies in memory; of processes, so that everything it started ends with it.
//! It ends with the thread that started it, also where that one is killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Client, until};

/// How long a daemon may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every daemon begins with: it tells its number, and hides what others on this machine would have it share.
const PREPARE: &str = "\
set -e
cd \"$1\"
read -r number rest </proc/self/stat
echo \"$number\" >number
mount -t proc none /proc
mount -t tmpfs -o mode=711 none data
mount -t tmpfs none /run
[ ! -e /var/lib/cni ] || mount -t tmpfs none /var/lib/cni
ip link set lo up
";

/// What every daemon ends with. The shell stays the first process, who must take in orphans; a daemon doesn't.
const FINISH: &str = "\
trap 'kill $!' TERM
while kill -0 $! 2>/dev/null; do wait $! || true; done
";

/// Docker's daemon of another release of Debian, whose unpacked packages are its root. That is a root in its own right: `runc
/// exec` enters the mount namespace, where a directory that was merely changed into would not count.
const NEWER_DOCKER: &str = "\
mkdir root layer
mount --make-rprivate /
mount -t tmpfs none layer
mkdir layer/upper layer/work
mount -t overlay -o \"lowerdir=$2,upperdir=layer/upper,workdir=layer/work\" none root
echo '{\"features\": {\"containerd-snapshotter\": true}}' >features.json
mount -t proc none root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs none root/run
for shared in /tmp \"${TMPDIR:-/tmp}\" \"$1\"; do
    mkdir -p \"root$shared\"
    mount --bind \"$shared\" \"root$shared\"
done
cd root
pivot_root . .old
exec /bin/sh -ec '
umount -l /.old
cd \"$1\"
mount -t tmpfs -o mode=711 none data
shift 2
dockerd --data-root $PWD/data/storage --exec-root /run/docker --pidfile /run/docker.pid \
    --exec-opt native.cgroupdriver=cgroupfs --config-file $PWD/features.json --host unix://$PWD/daemon.sock \"$@\" &
trap \"kill $!\" TERM
while kill -0 $! 2>/dev/null; do wait $! || true; done
' sh \"$@\"
";

/// Podman's service. Its containers get the limits that it has itself: it would raise them, for which root may lack
/// CAP_SYS_RESOURCE.
const PODMAN: &str = "\
cat >unlimited <<'END'
#!/bin/sh
for word; do
    case $option in
    --bundle | -b) file=$word/config.json ;;
    --process | -p) file=$word ;;
    *) file= ;;
    esac
    if [ -f \"$file\" ]; then
        jq 'del(.process.rlimits?, .rlimits?)' \"$file\" >\"$file.new\"
        mv \"$file.new\" \"$file\"
    fi
    option=$word
done
exec runc \"$@\"
END
chmod +x unlimited
cat >containers.conf <<END
[containers]
default_capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"FOWNER\", \"FSETID\", \"KILL\", \"NET_BIND_SERVICE\", \"SETFCAP\",
    \"SETGID\", \"SETPCAP\", \"SETUID\", \"SYS_CHROOT\"]
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
runtime = \"unlimited\"
[engine.runtimes]
unlimited = [\"$PWD/unlimited\"]
END
export CONTAINERS_CONF=$PWD/containers.conf
podman --root $PWD/data/storage --runroot $PWD/data/run --tmpdir $PWD/data/tmp --storage-driver overlay \
    system service --time=0 unix://$PWD/daemon.sock &
";

const DOCKER: &str = "\
shift
dockerd --data-root $PWD/data/storage --exec-root $PWD/data/run --pidfile $PWD/data/pid \
    --exec-opt native.cgroupdriver=cgroupfs --host unix://$PWD/daemon.sock \"$@\" &
";

/// Other users for the containers of Docker's daemon: as files that only it sees, which its option then names.
const OTHER_USERS: &str = "\
for file in subuid subgid; do
    printf 'nobody:100000:65536\\nnogroup:100000:65536\\n' >$file
    [ -e /etc/$file ] || touch /etc/$file
    mount --bind $file /etc/$file
done
";

/// See the module.
pub struct Daemon {
    /// The way to it.
    pub client: Client,
    /// Waits for the first process of the namespace.
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Docker's, with options. It answers at a unix socket besides.
    pub fn docker(options: &[&str]) -> Daemon {
        Daemon::start(DOCKER, options)
    }

    /// Docker's, to whose containers root is somebody else on the machine.
    pub fn docker_with_other_users() -> Daemon {
        Daemon::start(&[OTHER_USERS, DOCKER].concat(), &["--userns-remap", "nobody:nogroup"])
    }

    /// The newest Docker that Debian has, its images in containerd, as a new installation of version 29 keeps them.
    pub fn docker_with_containerd() -> Daemon {
        static ENGINES: OnceLock<PathBuf> = OnceLock::new();
        let engines = ENGINES.get_or_init(|| {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/engines/forky");
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engines/newer");
            assert!(Command::new(script).arg("forky").arg(&directory).status().unwrap().success());
            directory
        });
        Daemon::start(NEWER_DOCKER, &[engines.to_str().unwrap()])
    }

    /// Podman's.
    pub fn podman() -> Daemon {
        Daemon::start(PODMAN, &[])
    }

    fn start(script: &str, options: &[&str]) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        // Users of containers pass through.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
        command.args(["sh", "-c", &[PREPARE, script, FINISH].concat(), "sh"]).arg(folder.path()).args(options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("setpriv is installed (util-linux)");
        let host = format!("unix://{}", folder.path().join("daemon.sock").display());
        let client = Client { host: Some(host), network_of: Some(child.id()) };
        let mut daemon = Daemon { client, child, folder };
        until("the start of a daemon", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {}", daemon.log());
            daemon.client.output(&["version"]).status.success()
        });
        daemon
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
