//! The monitor: sees what the stubs' programs do, and tells the controller before they go on.
//!
//! It runs beside the target in its container, started by the engine's exec, or outside of the container ([`place`]), and is
//! two processes:
//!
//! * The **worker** serves the calls that the filters trap ([`watch`]), reads fanotify ([`opens`]), follows the listening
//!   sockets ([`listening`]), and writes records to standard output. A record is written before the call that it tells
//!   of goes on, so whatever kills the container, what was done was told.
//! * The **guard** accepts the stubs and keeps a copy of each filter's listener. A trapped call of which nobody holds the
//!   listener any more fails with ENOSYS, which would break the target in ways that no log explains. If the worker dies,
//!   the guard lets every call pass from then on, the one that was being served included ([`crate::kernel::Slots`]),
//!   and tells that this was a loss. If the guard dies, the worker goes on, and nothing is lost.
//!
//! Both ignore the signals that a program may send to everybody.

mod arrival;
mod door;
mod emulate;
mod listening;
mod memory;
mod mounted;
mod opens;
mod origin;
mod place;
mod process;
mod running;
mod telling;
mod threads;
mod watch;
mod worker;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use serde::{Deserialize, Serialize};

pub use listening::read_table as listening_sockets;
pub use opens::walk as walk_fanotify_events;
pub use process::parse_status;

#[cfg(fuzzing)]
pub(crate) fn fuzz_tables(bytes: &[u8]) {
    listening::fuzz(bytes);
}

use self::door::{Door, Stub};
use crate::handshake::Meeting;
use crate::kernel::{Answer, Slots};
use crate::wire::{Record, Senses, put_message};
use crate::{handshake, kernel};

/// Stubs in one container: the target, its health check, and the commands. A stub beyond that is let pass unseen, and said to be lost.
const MAX_SESSIONS: usize = 1024;

/// Exit status of a monitor whose worker died: what came after is unknown.
pub const WORKER_DIED: i32 = 70;

/// Records are shorter than this: the longest has three paths of 4 KiB.
const MAX_RECORD: usize = 1 << 16;

/// What the monitor is to do, as JSON in its argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where stubs come.
    pub meeting: Meeting,
    /// With which senses.
    pub senses: Senses,
}

/// What keeps the monitor from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// A system call that cannot fail did.
    #[error("cannot {0}: {1}")]
    System(&'static str, Errno),
}

fn system(what: &'static str) -> impl FnOnce(Errno) -> MonitorError {
    move |errno| MonitorError::System(what, errno)
}

/// Runs the monitor until the container ends; the status to exit with where it ends before that. The process must have
/// one thread.
///
/// # Errors
/// [`MonitorError`], where it could not begin.
pub fn run(options: &Options) -> Result<i32, MonitorError> {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2] {
        kernel::ignore_signal(signal);
    }
    // Each fanotify event takes a descriptor. It stays as it is where raising it is not allowed.
    if let Ok((_, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
    }
    let slots = Slots::new(MAX_SESSIONS).map_err(system("share memory"))?;
    let mut door = Door::open(&options.meeting).map_err(system("listen for stubs"))?;
    // From outside, nothing can be watched before there is a container.
    let mut first = None;
    if let Meeting::Given(_) = options.meeting {
        let Some(stub) = door.first() else { return Ok(0) };
        place::set_outside_of(stub.process);
        first = Some(stub);
    }
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (guard_end, worker_end) = pair.map_err(system("make a socket pair"))?;
    match kernel::fork_single_threaded().map_err(system("fork"))? {
        ForkResult::Child => {
            drop((guard_end, door, first));
            Ok(worker::run(options, slots, &worker_end))
        }
        ForkResult::Parent { child } => {
            drop(worker_end);
            Ok(guard(child, &guard_end, door, first, &slots))
        }
    }
}

/// The guard's life: hand each stub to the worker; if the worker dies, let all calls pass.
fn guard(worker: Pid, to_worker: &OwnedFd, mut door: Door, first: Option<Stub>, slots: &Slots) -> i32 {
    let mut listeners: Vec<OwnedFd> = vec![];
    let mut arrived = first;
    loop {
        if let Some(stub) = arrived.take() {
            let session = listeners.len();
            let head = [(session as u32).to_le_bytes(), stub.process.to_le_bytes()].concat();
            let descriptors = [stub.listener.as_raw_fd(), stub.connection.as_raw_fd()];
            // A failure means that the worker is gone: the next look says so, and the connection's end tells the stub.
            let _ = handshake::send(to_worker.as_fd(), &[head, stub.name].concat(), &descriptors);
            listeners.push(stub.listener);
        }
        let was_open = door.is_open();
        let mut left = [PollFd::new(to_worker.as_fd(), PollFlags::empty())];
        arrived = door.wait(&mut left);
        if left[0].any().unwrap_or(false) {
            return match waitpid(worker, Some(WaitPidFlag::empty())) {
                Ok(WaitStatus::Exited(_, 0)) => 0,
                status => {
                    let pending = (0..listeners.len()).filter_map(|slot| slots.pending(slot).map(|id| (slot, id)));
                    for (slot, id) in pending {
                        let _ = kernel::answer(listeners[slot].as_fd(), id, Answer::Continue);
                    }
                    tell_death(&status);
                    pass_through(listeners, door);
                    WORKER_DIED
                }
            };
        }
        if was_open && !door.is_open() {
            // No more will come: the worker ends with those that it has.
            let _ = shutdown(to_worker.as_raw_fd(), Shutdown::Write);
        }
    }
}

/// Tells the controller that the worker died, and that nothing follows: the engine keeps the stream open as long as this
/// process lives, so it is ended by what can't be a frame. That also ends a record in the middle of which the worker died.
fn tell_death(status: &nix::Result<WaitStatus>) {
    let mut last = vec![];
    put_message(&mut last, &Record::Lost(format!("the sensor died while the program ran ({status:?})")));
    last.resize(last.len() + MAX_RECORD, 0);
    // It may be the stream's end that the worker died of.
    let _ = std::io::stdout().write_all(&last);
}

/// Without a worker: every trapped call goes on unseen, until no process has a filter any more.
fn pass_through(mut listeners: Vec<OwnedFd>, mut door: Door) {
    let Ok(slots) = Slots::new(1) else { return };
    while !listeners.is_empty() {
        let mut ready: Vec<PollFd<'_>> = listeners.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        let arrived = door.wait(&mut ready);
        let events: Vec<PollFlags> = ready.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        for (listener, events) in listeners.iter().zip(&events) {
            if events.contains(PollFlags::POLLIN)
                && let Ok(call) = slots.receive(0, listener.as_fd())
            {
                let _ = kernel::answer(listener.as_fd(), call.id, Answer::Continue);
            }
        }
        let mut state = events.iter();
        listeners.retain(|_| state.next().is_some_and(|events| !events.contains(PollFlags::POLLHUP)));
        if let Some(stub) = arrived {
            let _ = handshake::send(stub.connection.as_fd(), b"unseen", &[]);
            listeners.push(stub.listener);
        }
    }
}
