//! The monitor: sees what the stubs' programs do, and tells the controller before they go on.
//!
//! It runs beside the target in its container, started by the engine's exec, and is two processes:
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
mod emulate;
mod listening;
mod memory;
mod mounted;
mod opens;
mod origin;
mod process;
mod running;
mod telling;
mod threads;
mod watch;
mod worker;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, accept4, getsockopt, socketpair, sockopt};
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
    /// Name of the abstract socket for stubs.
    pub socket: String,
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
    let stubs = handshake::serve(&options.socket).map_err(system("listen for stubs"))?;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (guard_end, worker_end) = pair.map_err(system("make a socket pair"))?;
    match kernel::fork_single_threaded().map_err(system("fork"))? {
        ForkResult::Child => {
            drop((guard_end, stubs));
            Ok(worker::run(options, slots, &worker_end))
        }
        ForkResult::Parent { child } => {
            drop(worker_end);
            Ok(guard(child, &guard_end, &stubs, &slots))
        }
    }
}

/// The guard's life: hand each stub to the worker; if the worker dies, let all calls pass.
fn guard(worker: Pid, to_worker: &OwnedFd, stubs: &OwnedFd, slots: &Slots) -> i32 {
    let mut listeners: Vec<OwnedFd> = vec![];
    loop {
        let mut ready = [PollFd::new(stubs.as_fd(), PollFlags::POLLIN), PollFd::new(to_worker.as_fd(), PollFlags::empty())];
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            continue;
        }
        let events = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        let (stub, worker_left) = (events(&ready[0]).contains(PollFlags::POLLIN), !events(&ready[1]).is_empty());
        if worker_left {
            return match waitpid(worker, Some(WaitPidFlag::empty())) {
                Ok(WaitStatus::Exited(_, 0)) => 0,
                status => {
                    let pending = (0..listeners.len()).filter_map(|slot| slots.pending(slot).map(|id| (slot, id)));
                    for (slot, id) in pending {
                        let _ = kernel::answer(listeners[slot].as_fd(), id, Answer::Continue);
                    }
                    tell_death(&status);
                    pass_through(listeners, stubs);
                    WORKER_DIED
                }
            };
        }
        if stub && let Some((pid, name, listener, connection)) = accept_stub(stubs.as_fd()) {
            let session = listeners.len();
            let head = [(session as u32).to_le_bytes(), pid.to_le_bytes()].concat();
            let descriptors = [listener.as_raw_fd(), connection.as_raw_fd()];
            // A failure means that the worker is gone: the next poll says so, and the connection's end tells the stub.
            let _ = handshake::send(to_worker.as_fd(), &[head, name].concat(), &descriptors);
            listeners.push(listener);
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

/// Takes a stub's connection and its listener. Only root in our container can be one.
fn accept_stub(stubs: BorrowedFd<'_>) -> Option<(i32, Vec<u8>, OwnedFd, OwnedFd)> {
    let connection = kernel::owned(accept4(stubs.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?)?;
    let peer = getsockopt(&connection, sockopt::PeerCredentials).ok().filter(|peer| peer.uid() == 0 && peer.pid() > 0)?;
    let (name, descriptors) = handshake::receive(connection.as_fd()).ok()??;
    let listener = descriptors.into_iter().next()?;
    Some((peer.pid(), name, listener, connection))
}

/// Without a worker: every trapped call goes on unseen, until no process has a filter any more.
fn pass_through(mut listeners: Vec<OwnedFd>, stubs: &OwnedFd) {
    let Ok(slots) = Slots::new(1) else { return };
    while !listeners.is_empty() {
        let mut ready: Vec<PollFd<'_>> = listeners.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        ready.push(PollFd::new(stubs.as_fd(), PollFlags::POLLIN));
        if poll(&mut ready, PollTimeout::NONE).is_err() {
            continue;
        }
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
        if events.last().is_some_and(|events| events.contains(PollFlags::POLLIN))
            && let Some((_, _, listener, connection)) = accept_stub(stubs.as_fd())
        {
            let _ = handshake::send(connection.as_fd(), b"unseen", &[]);
            listeners.push(listener);
        }
    }
}
