//! The stub: what the engine starts in place of the program, and which then becomes it.
//!
//! It connects to the monitor, installs the filter, hands over the listener and waits until the monitor serves it. Then
//! it gives up everything that a plain run would not have (user, groups, capabilities, the bounding set), and executes
//! the original command. So the program is the process that the engine started: PID 1 in its container, with its own
//! identity and environment; only the filter tells the difference.
//!
//! Order matters twice: between filter and answer only calls that are never trapped may be made, as nobody would serve
//! them; and the bounding set needs CAP_SETPCAP, so it goes before the user id.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use crate::calls::HERE;
use crate::filter::{Denials, Version, parse_version, program};
use crate::handshake::Meeting;
use crate::identity::{self, IdentityError};
use crate::wire::Senses;
use crate::{handshake, kernel};

/// How long the stub waits for the monitor to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the controller tells the stub, as JSON in its first argument; the command follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StubSpec {
    /// Where the monitor is met.
    pub meeting: Meeting,
    /// Name of this session, for the monitor's records.
    pub session: String,
    /// The user, as the image or the user of slim gave it; empty is root.
    pub user: String,
    /// The capabilities of a plain run, by number, where the container has them.
    pub capabilities: u64,
    /// Deny again what the sensor's capabilities opened in the engine's default seccomp profile.
    pub deny: bool,
    /// By whose rules a plain run goes.
    pub engine: Engine,
    /// How the program is watched.
    pub senses: Senses,
    /// The environment has a HOME by itself, not by the engine's look at root's entry.
    pub home_is_set: bool,
}

/// An engine, as far as a process in its containers can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker in a version, such as `20.10.24+dfsg1`.
    Docker(String),
    /// Podman in a version.
    Podman(String),
}

impl Engine {
    /// Whether a process that isn't root's has its capabilities until it executes the program, which then gets the file's without
    /// being taken for one with more rights than before. Seen with Docker 26.1 and not with 20.10.24; what is between is as new.
    fn keeps_capabilities(&self) -> bool {
        matches!(self, Engine::Docker(version) if parse_version(version) >= KEEPING)
    }
}

/// What can keep the stub from becoming the program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StubError {
    /// Nobody listens on the socket.
    #[error("the monitor did not appear: {0}")]
    NoMonitor(Errno),
    /// The kernel refuses the filter.
    #[error("cannot install the seccomp filter: {0}")]
    Filter(Errno),
    /// The monitor went away.
    #[error("the monitor did not answer: {0}")]
    Handshake(Errno),
    /// There is no such user.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// A privilege could not be set as in a plain run.
    #[error("cannot {0}: {1}")]
    Privilege(&'static str, Errno),
    /// The command's word names no program: as the engine says it.
    #[error("exec: \"{0}\": {1}")]
    LookUp(String, String),
    /// The kernel doesn't execute the file.
    #[error("exec {0}: {reason}", reason = .1.desc().to_lowercase())]
    Exec(String, Errno),
}

impl StubError {
    /// The status to exit with; an engine uses the same for a program that it can't start.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self {
            StubError::LookUp(_, reason) if reason.contains("not found") || reason.contains("no such file") => 127,
            StubError::Exec(_, Errno::ENOENT) => 127,
            StubError::LookUp(..) | StubError::Exec(..) => 126,
            _ => 125,
        }
    }
}

/// See [`Engine::keeps_capabilities`].
const KEEPING: Version = (23, 0, 0);

/// Becomes the program; returns only the reason why that could not be.
#[must_use]
pub fn run(spec: &StubSpec, command: &[CString]) -> StubError {
    match become_program(spec, command) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn become_program(spec: &StubSpec, command: &[CString]) -> Result<std::convert::Infallible, StubError> {
    let socket = connect(&spec.meeting).map_err(StubError::NoMonitor)?;
    let identity = identity::resolve(&spec.engine, &spec.user, &small_file("/etc/passwd"), &small_file("/etc/group"))?;

    let denials = spec.deny.then_some(Denials { capabilities: spec.capabilities, engine: &spec.engine });
    let listener = kernel::install_filter(&program(HERE, denials, spec.senses.notify)).map_err(StubError::Filter)?;
    let sent = handshake::send(socket.as_fd(), spec.session.as_bytes(), &[listener.as_raw_fd()]);
    sent.map_err(StubError::Handshake)?;
    drop(listener);
    match handshake::receive(socket.as_fd()) {
        Ok(Some(_)) => drop(socket),
        Ok(None) => return Err(StubError::Handshake(Errno::EPIPE)),
        Err(errno) => return Err(StubError::Handshake(errno)),
    }

    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    own_standard_streams(uid);
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(|errno| StubError::Privilege("set the groups", errno))?;
    // An engine may give less by default than Docker, or have less itself.
    let limited = kernel::limit_bounding_set(spec.capabilities);
    let present = limited.map_err(|errno| StubError::Privilege("limit the capabilities", errno))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(|errno| StubError::Privilege("set the group", errno))?;
    let keeps = uid.is_root() || spec.engine.keeps_capabilities();
    nix::sys::prctl::set_keepcaps(keeps).map_err(|errno| StubError::Privilege("keep the capabilities", errno))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(|errno| StubError::Privilege("set the user", errno))?;
    if matches!(spec.meeting, Meeting::Given(_)) && nix::unistd::getpid().as_raw() == 1 {
        // The first process ends with the helper that started it, which the kernel forgets when ids change.
        let bound = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        bound.map_err(|errno| StubError::Privilege("bind it to the helper", errno))?;
    }
    let set = || kernel::set_capabilities(if keeps { present & kernel::permitted_capabilities()? } else { 0 });
    set().map_err(|errno| StubError::Privilege("set the capabilities", errno))?;

    let environment = environment(spec, &identity.home);
    kernel::default_signal(libc::SIGPIPE);
    let word = command.first().map(|word| word.as_bytes()).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let file = look_up(word, std::env::var_os("PATH").as_deref()).map_err(|reason| StubError::LookUp(text(word), reason))?;
    match nix::unistd::execve(&file, command, &environment) {
        Ok(never) => Ok(never),
        Err(errno) => Err(StubError::Exec(text(file.as_bytes()), errno)),
    }
}

fn connect(meeting: &Meeting) -> nix::Result<std::os::fd::OwnedFd> {
    let name = match meeting {
        Meeting::Named(name) => name,
        Meeting::Given(number) => return kernel::inherited(*number),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match handshake::reach(name) {
            Err(Errno::ECONNREFUSED) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            other => return other,
        }
    }
}

/// A file of the image's /etc, empty where it cannot be read; bounded, as anybody could have made it.
fn small_file(path: &str) -> Vec<u8> {
    const LIMIT: u64 = 16 << 20;
    let mut contents = vec![];
    if let Ok(file) = File::open(path)
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
        && file.take(LIMIT).read_to_end(&mut contents).is_err()
    {
        contents.clear();
    }
    contents
}

/// The engine gave standard input and output to the user it was told, root; give them to the program's user, as it
/// would have. /dev/null is everybody's. A failure leaves what a failing engine would leave.
pub(crate) fn own_standard_streams(uid: Uid) {
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let is_null = nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_rdev == nix::sys::stat::makedev(1, 3));
        if !is_null {
            let _ = nix::unistd::fchown(fd, Some(uid), None);
        }
    }
}

/// Our environment, which is the program's, but for the HOME that the engine chose for root.
fn environment(spec: &StubSpec, home: &[u8]) -> Vec<CString> {
    let mut words: Vec<Vec<u8>> = vec![];
    for (name, value) in std::env::vars_os() {
        if name == "HOME" && !spec.home_is_set {
            continue;
        }
        words.push([name.as_bytes(), b"=", value.as_bytes()].concat());
    }
    if !spec.home_is_set {
        words.push([b"HOME=", home].concat());
    }
    words.into_iter().filter_map(|word| CString::new(word).ok()).collect()
}

/// The file of a command word, found as the engine's runtime finds it (Go's `exec.LookPath`): through PATH unless the
/// word has a slash, but never in the working directory.
pub(crate) fn look_up(word: &[u8], path: Option<&OsStr>) -> Result<CString, String> {
    let c_string = |path: PathBuf| CString::new(path.into_os_string().as_bytes()).map_err(|_| "invalid argument".to_owned());
    let word = Path::new(OsStr::from_bytes(word));
    if word.as_os_str().as_bytes().contains(&b'/') {
        return match is_executable(word) {
            Ok(true) => c_string(word.to_owned()),
            Ok(false) => Err("permission denied".to_owned()),
            Err(errno) => Err(format!("stat {}: {}", word.display(), errno.desc().to_lowercase())),
        };
    }
    let path = path.filter(|path| !path.is_empty());
    let directories = path.map(|path| path.as_bytes().split(|&byte| byte == b':')).into_iter().flatten();
    for directory in directories {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate = Path::new(OsStr::from_bytes(directory)).join(word);
        if is_executable(&candidate).unwrap_or(false) {
            if candidate.is_relative() {
                return Err("cannot run executable found relative to current directory".to_owned());
            }
            return c_string(candidate);
        }
    }
    Err("executable file not found in $PATH".to_owned())
}

fn is_executable(path: &Path) -> nix::Result<bool> {
    let stat = nix::sys::stat::stat(path)?;
    Ok(stat.st_mode & libc::S_IFMT != libc::S_IFDIR && stat.st_mode & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn commands_are_found_as_by_the_runtime() {
        let folder = tempfile::tempdir().expect("folder");
        let bin = folder.path().join("bin");
        std::fs::create_dir_all(bin.join("tool-dir")).expect("dir");
        for (name, mode) in [("tool", 0o755), ("data", 0o644)] {
            std::fs::write(bin.join(name), "").expect("file");
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(mode)).expect("mode");
        }
        let path = format!("/nonexistent:{}", bin.display());
        let look_in = |path: Option<&str>, word: &str| {
            look_up(word.as_bytes(), path.map(OsStr::new)).map(|file| file.into_string().expect("text"))
        };
        let look = |word: &str| look_in(Some(&path), word);
        let error = |reason: &str| Err(reason.to_owned());
        let (tool, data) = (bin.join("tool").display().to_string(), bin.join("data").display().to_string());
        assert_eq!(look("tool"), Ok(tool.clone()));
        assert_eq!(look(&tool), Ok(tool));
        assert_eq!(look("data"), error("executable file not found in $PATH"));
        assert_eq!(look("tool-dir"), error("executable file not found in $PATH"));
        assert_eq!(look(&data), error("permission denied"));
        assert_eq!(look("/no/such"), error("stat /no/such: no such file or directory"));
        assert_eq!(look(&format!("{data}/x")), error(&format!("stat {data}/x: not a directory")));
        assert_eq!(look(""), error("executable file not found in $PATH"));
        assert_eq!(look_in(None, "tool"), error("executable file not found in $PATH"));
        assert_eq!(look_in(Some(""), "tool"), error("executable file not found in $PATH"));
        // A relative path from wherever the test runs.
        let up = "../".repeat(std::env::current_dir().expect("directory").components().count());
        let relative = format!("{up}{}", bin.display());
        assert_eq!(look_in(Some(&relative), "tool"), error("cannot run executable found relative to current directory"));
    }

    #[test]
    fn statuses_are_the_engines() {
        let look_up = |reason: &str| StubError::LookUp("x".into(), reason.into()).status();
        assert_eq!(look_up("executable file not found in $PATH"), 127);
        assert_eq!(look_up("stat x: no such file or directory"), 127);
        assert_eq!(look_up("permission denied"), 126);
        let exec = |errno| StubError::Exec("/x".into(), errno);
        assert_eq!((exec(Errno::ENOENT).status(), exec(Errno::ENOEXEC).status()), (127, 126));
        assert_eq!(exec(Errno::ENOEXEC).to_string(), "exec /x: exec format error");
        assert_eq!(StubError::NoMonitor(Errno::ECONNREFUSED).status(), 125);
    }
}
