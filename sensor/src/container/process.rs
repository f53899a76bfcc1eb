//! A process of the container that becomes its program: the first one, or a command beside it.
//!
//! It runs inside already; what is left is what the program inherits: session and terminal, limits, directory, filters,
//! identity, descriptors. The order is the kernel's: filters need capabilities, so they come before the identity; the bounding
//! set needs CAP_SETPCAP, so it comes before the user; the signal at the parent's death is forgotten when ids change, so
//! it comes last.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, execveat, setgroups, setresgid, setresuid, setsid};

use super::failure::{During, SetUpError};
use super::message::Failure;
use super::spec::{CapabilitySets, Ids, OWN_EXECUTABLE, ProcessSpec, ResourceLimit};
use super::{devices, profile};
use crate::calls::HERE;
use crate::{kernel, stub};

/// What a process reports before it executes its program.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Report {
    /// The container is made. Descriptor: its mount namespace.
    Made(Vec<String>),
    /// A terminal is made. Descriptor: its outer end.
    Terminal,
    /// It cannot become its program.
    Failed(Failure),
}

/// What a child has of the helper; closed when the program is executed.
#[derive(Debug)]
pub(super) struct OfHelper {
    /// Where reports go.
    pub(super) reports: OwnedFd,
    /// Our own executable.
    pub(super) executable: OwnedFd,
}

impl OfHelper {
    pub(super) fn send(&self, report: &Report, descriptors: &[i32]) -> nix::Result<()> {
        super::message::send(self.reports.as_fd(), report, descriptors)
    }
}

impl From<SetUpError> for Failure {
    fn from(error: SetUpError) -> Failure {
        Failure { status: 125, reason: error.to_string() }
    }
}

/// Which process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    First,
    Command,
}

/// Becomes the program. `descriptors`: the standard streams unless it has a terminal, then the further ones.
pub(super) fn become_program(
    spec: &ProcessSpec,
    ids: Ids,
    role: Role,
    descriptors: Vec<OwnedFd>,
    of_helper: &mut OfHelper,
) -> Result<Infallible, Failure> {
    let (environment, argv) = words(spec)?;
    setsid().during(|| "begin a session")?;
    let mut descriptors = descriptors;
    if spec.terminal {
        descriptors.splice(0..0, terminal(spec, role, of_helper)?);
    } else {
        descriptors.iter_mut().take(3).try_for_each(own_null)?;
    }
    set_surroundings(spec)?;
    place(descriptors, &spec.descriptors, of_helper)?;
    // The target and what it executes may open their streams again, by /dev/stdout.
    stub::own_standard_streams(Uid::from_raw(spec.uid));
    if spec.seccomp {
        let bounding = if spec.stub.is_empty() { spec.capabilities.bounding } else { spec.stub_capabilities };
        let filter = profile::default(HERE, bounding);
        kernel::install_plain_filter(&filter).during(|| "install the seccomp profile")?;
    }
    if ids == Ids::Single {
        kernel::install_plain_filter(&profile::fake_ids(HERE)).during(|| "install the filter that fakes ids")?;
    }
    take_identity(spec, ids)?;
    if spec.no_new_privileges {
        prctl::set_no_new_privs().during(|| "forbid new privileges")?;
    }
    if role == Role::First {
        // The kernel ends the rest when the first process dies.
        prctl::set_pdeathsig(Signal::SIGKILL).during(|| "be bound to the helper")?;
    }
    let Some(word) = argv.first() else { std::process::exit(0) };
    if spec.stub.first().is_some_and(|word| word == OWN_EXECUTABLE) {
        reset_signals();
        let executed = execveat(&of_helper.executable, c"", &argv, &environment, AtFlags::AT_EMPTY_PATH);
        return executed.during(|| "execute slim's own program").map_err(Failure::from);
    }
    let path = spec.env.iter().find_map(|variable| variable.strip_prefix("PATH=")).map(std::ffi::OsStr::new);
    let file = stub::look_up(word.as_bytes(), path)
        .map_err(|reason| failure(&stub::StubError::LookUp(word.to_string_lossy().into_owned(), reason)))?;
    reset_signals();
    nix::unistd::execve(&file, &argv, &environment)
        .map_err(|errno| failure(&stub::StubError::Exec(file.to_string_lossy().into_owned(), errno)))
}

fn failure(error: &stub::StubError) -> Failure {
    Failure { status: error.status(), reason: error.to_string() }
}

/// Environment and command, the stub before it.
fn words(spec: &ProcessSpec) -> Result<(Vec<CString>, Vec<CString>), Failure> {
    let c_strings = |words: &mut dyn Iterator<Item = &String>| {
        let words: Result<Vec<_>, _> = words.map(|word| CString::new(word.as_bytes())).collect();
        words.map_err(|_| Failure { status: 125, reason: "a word of the command or its environment holds a zero byte".into() })
    };
    Ok((c_strings(&mut spec.env.iter())?, c_strings(&mut spec.stub.iter().chain(&spec.argv))?))
}

/// A new terminal as standard streams; its outer end goes to the controller.
fn terminal(spec: &ProcessSpec, role: Role, of_helper: &OfHelper) -> Result<Vec<OwnedFd>, SetUpError> {
    let (master, slave, path) = devices::terminal(spec.uid)?;
    let step = || "use the terminal";
    of_helper.send(&Report::Terminal, &[master.as_raw_fd()]).during(step)?;
    kernel::take_terminal(slave.as_fd()).during(step)?;
    if role == Role::First {
        devices::console(&path)?;
    }
    let copies = [slave.try_clone().during(step)?, slave.try_clone().during(step)?];
    Ok([slave].into_iter().chain(copies).collect())
}

/// In place of this machine's /dev/null, which the program could change, the container's.
fn own_null(descriptor: &mut OwnedFd) -> Result<(), SetUpError> {
    let step = || "open `/dev/null`";
    if nix::sys::stat::fstat(&*descriptor).during(step)?.st_rdev == nix::sys::stat::makedev(1, 3) {
        *descriptor = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).during(step)?;
    }
    Ok(())
}

fn set_surroundings(spec: &ProcessSpec) -> Result<(), SetUpError> {
    umask(Mode::from_bits_truncate(0o022));
    if let Some(score) = spec.oom_score_adjustment {
        let written = fs::write("/proc/self/oom_score_adj", score.to_string());
        let advice = "a value below the present one needs CAP_SYS_RESOURCE";
        written.during(|| format!("set the OOM score to {score}")).map_err(|error| error.advice(advice))?;
    }
    spec.limits.iter().try_for_each(limit)?;
    let step = || format!("change to the working directory `{}`", spec.cwd);
    nix::unistd::chdir(spec.cwd.as_str()).during(step)
}

fn limit(limit: &ResourceLimit) -> Result<(), SetUpError> {
    let ResourceLimit { name, soft, hard } = limit;
    let step = || format!("set the limit `{name}` to {soft}:{hard}");
    let resource = match name.as_str() {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return Err(SetUpError::new(step(), Errno::EINVAL).advice("there is no such limit")),
    };
    let set = setrlimit(resource, *soft, *hard).during(step);
    set.map_err(|error| error.advice("more than the present limit needs CAP_SYS_RESOURCE"))
}

/// Gives the descriptors their numbers: 0, 1 and 2, then those in `numbers`. What is the helper's moves out of their way.
fn place(descriptors: Vec<OwnedFd>, numbers: &[i32], of_helper: &mut OfHelper) -> Result<(), SetUpError> {
    let step = || "hand on the descriptors";
    let numbers: Vec<i32> = [0, 1, 2].iter().chain(numbers).copied().collect();
    let valid = numbers.len() == descriptors.len() && numbers[3..].iter().all(|number| (3..1 << 16).contains(number));
    if !valid {
        return Err(SetUpError::new(step(), Errno::EBADF).advice("give each further one a number from 3 on"));
    }
    let above = numbers.iter().max().map_or(3, |highest| highest + 1);
    let away = |descriptor: &OwnedFd| -> Result<OwnedFd, SetUpError> {
        let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(above)).during(step)?;
        kernel::owned(copy).ok_or_else(|| SetUpError::new(step(), Errno::EBADF))
    };
    let moved = descriptors.iter().map(away).collect::<Result<Vec<_>, _>>()?;
    of_helper.reports = away(&of_helper.reports)?;
    of_helper.executable = away(&of_helper.executable)?;
    // Closed only now: from here on nothing has a number that is to be given away.
    drop(descriptors);
    for (descriptor, number) in moved.iter().zip(numbers) {
        kernel::hand_on(descriptor.as_fd(), number).during(step)?;
    }
    Ok(())
}

/// Bounding set, groups, group, user, capabilities. A stub stays root.
fn take_identity(spec: &ProcessSpec, ids: Ids) -> Result<(), SetUpError> {
    let has_stub = !spec.stub.is_empty();
    let (uid, gid, groups) = if has_stub { (0, 0, &[0][..]) } else { (spec.uid, spec.gid, &spec.groups[..]) };
    let mut sets = if has_stub { CapabilitySets::docker(spec.stub_capabilities) } else { spec.capabilities };
    kernel::limit_bounding_set(sets.bounding).during(|| "limit the capabilities")?;
    if ids == Ids::Single {
        // There is one id, which is taken already. If it isn't root's, programs have to inherit what a stub needs.
        if has_stub && spec.uid != 0 {
            sets = CapabilitySets { inheritable: spec.stub_capabilities, ambient: spec.stub_capabilities, ..sets };
        }
        return set_capabilities(sets);
    }
    let advice = "this user may not have that id in a user namespace: see subuid(5)";
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).during(|| format!("take the groups {groups:?}")).map_err(|error| error.advice(advice))?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(group, group, group).during(|| format!("take the group {gid}")).map_err(|error| error.advice(advice))?;
    prctl::set_keepcaps(true).during(|| "keep the capabilities")?;
    setresuid(user, user, user).during(|| format!("take the user {uid}")).map_err(|error| error.advice(advice))?;
    set_capabilities(sets)
}

/// What isn't there to be had (in a container, or a kernel before it) is left out, as engines do.
fn set_capabilities(sets: CapabilitySets) -> Result<(), SetUpError> {
    let step = || "set the capabilities";
    let present = kernel::permitted_capabilities().during(step)?;
    let (permitted, inheritable) = (sets.permitted & present, sets.inheritable & present);
    kernel::set_capability_sets(sets.effective & permitted, permitted, inheritable).during(step)?;
    kernel::raise_ambient_capabilities(sets.ambient & permitted & inheritable).during(step)
}

/// What the program would inherit of the controller's and the helper's handling of signals.
fn reset_signals() {
    kernel::default_signals();
    // A valid set cannot be refused.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_as_in_ulimit() {
        let error = limit(&ResourceLimit { name: "files".into(), soft: 1, hard: 1 }).expect_err("no such limit");
        assert_eq!(error.to_string(), "cannot set the limit `files` to 1:1: invalid argument; there is no such limit");
        let (soft, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).expect("limit");
        limit(&ResourceLimit { name: "core".into(), soft, hard }).expect("what it is already");
    }
}
