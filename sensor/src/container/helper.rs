//! The process beside a container: makes it, serves the controller, and ends with either of them.
//!
//! One loop over few descriptors: the controller's socket, the deaths of children, and what children report while they
//! become their programs. Nothing in it waits for a child or for the controller alone, so that the end of each is
//! always noticed.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid};

use super::failure::{During, SetUpError};
use super::inside::{Inside, Kind};
use super::message::{Event, Failure, Family, Request, receive, send};
use super::process::{OfHelper, Report, Role, become_program};
use super::spec::{ContainerSpec, Ids, Network, ProcessSpec};
use super::{devices, mounts, owners, root, tree};
use crate::{kernel, machine};

/// Exit status where the container is the cause.
const FAILED: i32 = 125;

/// Makes the container that comes over standard input, and stays until it has ended.
///
/// # Errors
/// What keeps it from even talking with the controller.
pub fn run() -> Result<(), String> {
    let control = take_control().map_err(|error| error.to_string())?;
    let received = receive::<Request>(control.as_fd()).map_err(|errno| format!("cannot read the order: {errno}"))?;
    let Some((Request::Start(spec), descriptors)) = received else { return Err("the first request is no order".to_owned()) };
    let state = spec.state.clone();
    let mut helper = Helper::start(&control, *spec, descriptors);
    let ended = match &mut helper {
        Ok(helper) => helper.serve(),
        Err(error) => Event::Failed(Failure { status: FAILED, reason: error.to_string() }),
    };
    empty(&state);
    // The mount namespace goes with the helper, which takes the kernel a while: the news come first.
    // The controller may be gone: then there is nobody to tell.
    let _ = send(control.as_fd(), &ended, &[]);
    Ok(())
}

/// The controller's socket, as a descriptor that nothing which is executed inherits.
fn take_control() -> Result<OwnedFd, SetUpError> {
    let step = || "take the controller's socket";
    kernel::close_from(3).during(step).map_err(|error| error.advice("this needs Linux 5.9 or newer"))?;
    let control = std::io::stdin().as_fd().try_clone_to_owned().during(step)?;
    nix::unistd::dup2_stdin(File::open("/dev/null").during(step)?).during(step)?;
    // What a terminal sends to the controller's group is for the controller to act upon.
    let _ = nix::unistd::setsid();
    nix::unistd::chdir("/").during(step)?;
    Ok(control)
}

/// A process of the container that the helper started.
#[derive(Debug)]
struct Child {
    pid: Pid,
    /// The number of a command; `None` for the first process.
    command: Option<u64>,
    /// Open until the child has become its program or failed.
    reports: Option<OwnedFd>,
    /// The outer end of its terminal.
    terminal: Option<OwnedFd>,
    failure: Option<Failure>,
}

struct Helper<'a> {
    control: &'a OwnedFd,
    signals: SignalFd,
    ids: Ids,
    fallbacks: Vec<String>,
    /// The container's tables of TCP sockets.
    tables: Vec<File>,
    /// The first process.
    first: Option<OwnedFd>,
    /// The container's mount namespace, once it is made.
    mounts: Option<OwnedFd>,
    children: Vec<Child>,
    /// The controller is gone and everything is killed.
    is_over: bool,
}

impl<'a> Helper<'a> {
    /// Enters the namespaces and forks the first process.
    fn start(control: &'a OwnedFd, mut spec: ContainerSpec, descriptors: Vec<OwnedFd>) -> Result<Helper<'a>, SetUpError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().during(|| "watch for the ends of processes")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).during(|| "watch for the ends of processes")?;
        enter_user_namespace(control, &spec)?;
        let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        // A user namespace can be had and give no rights.
        let advice = || match spec.ids {
            Ids::Same => "run as root, in a container with `--cap-add SYS_ADMIN`".to_owned(),
            Ids::Single | Ids::Mapped => machine::user_namespaces(),
        };
        unshare(flags).during(|| "make namespaces").map_err(|error| error.advice(advice()))?;
        let mut fallbacks = vec![];
        enter_network(&mut spec, &mut fallbacks)?;
        nix::unistd::sethostname(&spec.hostname).during(|| format!("take the host name `{}`", spec.hostname))?;
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().filter_map(|path| File::open(path).ok()).collect();
        let ids = spec.ids;
        let (first, mounts, children) = (None, None, vec![]);
        let mut helper = Helper { control, signals, ids, fallbacks, tables, first, mounts, children, is_over: false };
        let step = || "start the first process";
        let pid = helper.fork(None, |of_helper| become_first(&spec, descriptors, of_helper)).during(step)?;
        helper.first = Some(kernel::open_process(pid.as_raw()).during(step)?);
        Ok(helper)
    }

    /// Forks a child that becomes a program by `become_it`, which only returns where that fails.
    fn fork(&mut self, command: Option<u64>, become_it: impl FnOnce(&mut OfHelper) -> Failure) -> nix::Result<Pid> {
        let (ours, reports) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // The one that runs, also where its file was replaced meanwhile.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let executable = nix::fcntl::open("/proc/self/exe", flags, nix::sys::stat::Mode::empty())?;
        match kernel::fork_single_threaded()? {
            ForkResult::Parent { child } => {
                let reports = Some(ours);
                self.children.push(Child { pid: child, command, reports, terminal: None, failure: None });
                Ok(child)
            }
            ForkResult::Child => {
                drop(ours);
                let mut of_helper = OfHelper { reports, executable };
                let failure = become_it(&mut of_helper);
                let _ = of_helper.send(&Report::Failed(failure), &[]);
                std::process::exit(FAILED)
            }
        }
    }

    /// Until the first process has ended; what there is to tell then.
    fn serve(&mut self) -> Event {
        loop {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Event::Failed(SetUpError::new("wait for the container", errno).into()),
            };
            for index in 0..self.children.len() {
                if ready.reports[index] {
                    self.hear(index);
                }
            }
            if ready.signal
                && let Some(last) = self.reap()
            {
                return last;
            }
            if ready.control && !self.obey() {
                self.is_over = true;
                self.kill_all();
            }
        }
    }

    /// Waits until something happened.
    fn wait(&self) -> nix::Result<Ready> {
        let watch = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut watched = vec![watch(self.signals.as_fd())];
        let with_reports: Vec<usize> = (0..self.children.len()).filter(|&at| self.children[at].reports.is_some()).collect();
        watched.extend(with_reports.iter().filter_map(|&at| self.children[at].reports.as_ref()).map(|fd| watch(fd.as_fd())));
        let with_control = watched.len();
        if !self.is_over {
            watched.push(watch(self.control.as_fd()));
        }
        poll(&mut watched, PollTimeout::NONE)?;
        let is_ready = |at: usize| watched.get(at).is_some_and(|watched| watched.any().unwrap_or(true));
        let mut reports = vec![false; self.children.len()];
        for (at, &child) in with_reports.iter().enumerate() {
            reports[child] = is_ready(1 + at);
        }
        Ok(Ready { control: is_ready(with_control), signal: is_ready(0), reports })
    }

    /// Takes one report of a child; the end of its reports means that it has become its program, or failed.
    fn hear(&mut self, index: usize) {
        let child = &mut self.children[index];
        let Some(reports) = &child.reports else { return };
        match receive::<Report>(reports.as_fd()) {
            Ok(Some((Report::Made(fallbacks), mut descriptors))) => {
                self.fallbacks.extend(fallbacks);
                self.mounts = descriptors.pop();
            }
            Ok(Some((Report::Terminal, mut descriptors))) => child.terminal = descriptors.pop(),
            Ok(Some((Report::Failed(failure), _))) => child.failure = Some(failure),
            Ok(None) | Err(_) => {
                child.reports = None;
                self.tell_start(index);
            }
        }
    }

    fn tell_start(&mut self, index: usize) {
        let child = &mut self.children[index];
        let terminal = child.terminal.take();
        let was_made = self.mounts.is_some();
        if child.failure.is_none() && !was_made {
            let reason = "the process that makes the container ended before it was made".to_owned();
            child.failure = Some(Failure { status: FAILED, reason });
        }
        let pid = child.pid.as_raw();
        let terminal_number = terminal.as_ref().map(AsRawFd::as_raw_fd);
        match (child.command, child.failure.clone()) {
            // Told when nothing of it is left.
            (None, Some(_)) => {}
            (None, None) => {
                let first = self.first.as_ref().map(AsRawFd::as_raw_fd);
                let tables = self.tables.iter().map(AsRawFd::as_raw_fd);
                let descriptors: Vec<i32> = first.into_iter().chain(terminal_number).chain(tables).collect();
                let fallbacks = std::mem::take(&mut self.fallbacks);
                self.tell(&Event::Started { pid, fallbacks }, &descriptors);
            }
            (Some(number), Some(failure)) => self.tell(&Event::ExecFailed(number, failure), &[]),
            (Some(number), None) => self.tell(&Event::ExecStarted(number, pid), terminal_number.as_slice()),
        }
    }

    /// A controller that is gone is noticed by its socket, not here.
    fn tell(&self, event: &Event, descriptors: &[i32]) {
        let _ = send(self.control.as_fd(), event, descriptors);
    }

    /// Takes the ended children; what there is to tell at last, once the first process is among them.
    fn reap(&mut self) -> Option<Event> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, status),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return None,
                Ok(_) => continue,
            };
            let Some(index) = self.children.iter().position(|child| child.pid == pid) else { continue };
            // It may have reported right before.
            while self.children[index].reports.is_some() {
                self.hear(index);
            }
            let child = self.children.swap_remove(index);
            match (child.command, child.failure) {
                // All others ended before: the kernel holds a first process back until they are reaped.
                (None, Some(failure)) => return Some(Event::Failed(failure)),
                (None, None) => return Some(Event::Ended(status)),
                (Some(_), Some(_)) => {}
                (Some(number), None) => self.tell(&Event::ExecEnded(number, status), &[]),
            }
        }
    }

    /// Does what the controller asks for; false when it is gone.
    fn obey(&mut self) -> bool {
        let Ok(Some((request, descriptors))) = receive::<Request>(self.control.as_fd()) else { return false };
        match request {
            Request::Exec(number, process) => self.exec(number, &process, descriptors),
            Request::Signal(command, signal) => {
                if let Some(child) = self.children.iter().find(|child| child.command == command) {
                    // It may be on its way out.
                    let _ = kernel::send_signal(child.pid.as_raw(), signal);
                }
            }
            Request::Socket(number, family) => self.make_socket(number, family),
            Request::Start(_) | Request::IdsMapped => return false,
        }
        true
    }

    fn exec(&mut self, number: u64, process: &ProcessSpec, descriptors: Vec<OwnedFd>) {
        let ids = self.ids;
        let Some(mounts) = self.mounts.as_ref().and_then(|mounts| mounts.try_clone().ok()) else {
            let failure = Failure { status: FAILED, reason: "the container is not made yet".to_owned() };
            return self.tell(&Event::ExecFailed(number, failure), &[]);
        };
        let command = |of_helper: &mut OfHelper| -> Failure {
            let entered = setns(mounts, CloneFlags::CLONE_NEWNS).during(|| "enter the container's files");
            let entered = entered.map_err(Failure::from);
            match entered.and_then(|()| become_program(process, ids, Role::Command, descriptors, of_helper)) {
                Ok(never) => match never {},
                Err(failure) => failure,
            }
        };
        if let Err(errno) = self.fork(Some(number), command) {
            let failure = SetUpError::new("start a process in the container", errno).into();
            self.tell(&Event::ExecFailed(number, failure), &[]);
        }
    }

    fn make_socket(&self, number: u64, family: Family) {
        let family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        match socket(family, SockType::Stream, flags, None) {
            Ok(made) => self.tell(&Event::Socket(number, 0), &[made.as_raw_fd()]),
            Err(errno) => self.tell(&Event::Socket(number, errno as i32), &[]),
        }
    }

    fn kill_all(&self) {
        for child in &self.children {
            let _ = kernel::send_signal(child.pid.as_raw(), libc::SIGKILL);
        }
    }
}

/// What happened.
struct Ready {
    control: bool,
    signal: bool,
    /// For each child.
    reports: Vec<bool>,
}

/// The first process: makes the container around itself and becomes the program.
fn become_first(spec: &ContainerSpec, descriptors: Vec<OwnedFd>, of_helper: &mut OfHelper) -> Failure {
    let made = make(spec, of_helper).map_err(Failure::from);
    let become_it = || become_program(&spec.process, spec.ids, Role::First, descriptors, of_helper);
    match made.and_then(|()| become_it()) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// Everything that needs this machine's files, up to the step inside.
fn make(spec: &ContainerSpec, of_helper: &OfHelper) -> Result<(), SetUpError> {
    unshare(CloneFlags::CLONE_NEWNS).during(|| "make a mount namespace")?;
    // Where it is refused, the process sees the name of its control group: that is all.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let mut fallbacks = vec![];
    let path = root::make(spec, &mut fallbacks)?;
    let inside = Inside::open(&path).during(|| "open the root")?;
    owners::set(&inside, &spec.owners)?;
    mounts::proc(&inside, &mut fallbacks)?;
    devices::make(&inside, spec, &mut fallbacks)?;
    mounts::sys(&inside, &mut fallbacks)?;
    mounts::names(&inside, spec)?;
    mounts::given(&inside, spec)?;
    mounts::cover(&inside, spec)?;
    let directory = inside.make(Path::new(&spec.process.cwd), Kind::Directory);
    directory.during(|| format!("make the working directory `{}`", spec.process.cwd))?;
    if spec.read_only {
        mounts::protect(&inside, Path::new("/")).during(|| "protect the root from being written")?;
    }
    let namespace = File::open("/proc/self/ns/mnt").during(|| "name the mount namespace")?;
    drop(inside);
    root::enter(&path, &mut fallbacks)?;
    let made = of_helper.send(&Report::Made(fallbacks), &[namespace.as_raw_fd()]);
    made.during(|| "report that the container is made")
}

/// A namespace in which we are root, for whoever is not.
fn enter_user_namespace(control: &OwnedFd, spec: &ContainerSpec) -> Result<(), SetUpError> {
    let refused = |error: SetUpError| error.advice(machine::user_namespaces());
    let enter = || unshare(CloneFlags::CLONE_NEWUSER).during(|| "make a user namespace").map_err(refused);
    let (uid, gid) = (Uid::effective(), Gid::effective());
    match spec.ids {
        Ids::Same => return Ok(()),
        Ids::Single => {
            enter()?;
            let step = || "map the id of this user";
            fs::write("/proc/self/setgroups", "deny").during(step)?;
            fs::write("/proc/self/gid_map", format!("{} {gid} 1", spec.process.gid)).during(step)?;
            fs::write("/proc/self/uid_map", format!("{} {uid} 1", spec.process.uid)).during(step)?;
        }
        Ids::Mapped => {
            enter()?;
            let step = || "have the ids of this user mapped";
            send(control.as_fd(), &Event::MapIds, &[]).during(step)?;
            let answer = receive::<Request>(control.as_fd()).during(step)?;
            let Some((Request::IdsMapped, _)) = answer else { return Err(SetUpError::new(step(), Errno::EPROTO)) };
            let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
            nix::unistd::setgroups(&[group]).during(step)?;
            nix::unistd::setresgid(group, group, group).during(step)?;
            nix::unistd::setresuid(user, user, user).during(step)?;
        }
    }
    // Other ids made what is in our /proc directory somebody else's.
    prctl::set_dumpable(true).during(|| "own the process")
}

/// A network with nothing but the loopback interface; this machine's where that is refused.
fn enter_network(spec: &mut ContainerSpec, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    if spec.network == Network::Host {
        return Ok(());
    }
    let step = || "make a network";
    let before = File::open("/proc/self/ns/net").during(step)?;
    let made = unshare(CloneFlags::CLONE_NEWNET).and_then(|()| {
        let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        kernel::loopback_up(any.as_fd())
    });
    if let Err(errno) = made {
        setns(before, CloneFlags::CLONE_NEWNET).during(step)?;
        spec.network = Network::Host;
        fallbacks.push(format!("the network is this machine's (one of its own: {})", errno.desc().to_lowercase()));
        return Ok(());
    }
    // As Docker has them: anybody may use low ports and ping. Where they can't be set, it is as without Docker.
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    Ok(())
}

/// Removes what the container left in its state directory. The mounts were seen by nobody here.
fn empty(state: &Path) {
    let aside = state.join("aside");
    // What can't be removed is found, and named, by who removes the directory.
    let _ = fs::create_dir(&aside);
    for made in ["upper", "work", "laid", "parts", "volumes"] {
        let _ = tree::remove(&state.join(made), &aside);
    }
    for directory in ["root", "memory", "devices", "aside"] {
        let _ = fs::remove_dir(state.join(directory));
    }
    for file in ["hostname", "hosts", "resolv.conf"] {
        let _ = fs::remove_file(state.join(file));
    }
}
