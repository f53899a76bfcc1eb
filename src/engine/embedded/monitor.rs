//! The monitor of a container of slim's own: a process beside it, outside of its namespaces.
//!
//! It is this executable once more, the controller's child, so whatever becomes of the container, it tells the rest. Each
//! stub and the monitor are given the two ends of a socket, see [`Meeting::Given`](slim_sensor::Meeting::Given).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt};
use slim_sensor::wire::Senses;
use slim_sensor::{Meeting, monitor};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use crate::engine::container::{Attached, Complaints};
use crate::hidden;

/// Bytes of a pipe for records: the target waits while it is full.
const PIPE: i32 = 1 << 20;

/// The way by which the monitor is given its ends of sockets. It ends with this, once its container has ended.
#[derive(Debug)]
pub(super) struct Door(OwnedFd);

/// A monitor that has been started.
pub(super) struct StartedMonitor {
    pub(super) door: Door,
    pub(super) attached: Attached,
    /// Its exit code, once it has ended.
    pub(super) exit_code: watch::Receiver<Option<i64>>,
}

fn packets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

impl Door {
    /// A new connection to the monitor, for a stub.
    pub(super) fn connection(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = packets()?;
        // The kernel tells the monitor who speaks to it.
        setsockopt(&theirs, sockopt::PassCred, &true)?;
        self.give(theirs)?;
        Ok(ours)
    }

    fn give(&self, descriptor: OwnedFd) -> io::Result<()> {
        let rights = [descriptor.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(self.0.as_raw_fd(), &[io::IoSlice::new(b"x")], &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

/// Starts a monitor for a container that is about to be made.
pub(super) fn start(executable: &Path, senses: Senses) -> io::Result<StartedMonitor> {
    let options = monitor::Options { meeting: Meeting::Given(0), senses };
    let (ours, theirs) = packets()?;
    let (orders, input) = io::pipe()?;
    let (output, records) = io::pipe()?;
    // A smaller one works too.
    let _ = nix::fcntl::fcntl(records.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE));
    let (errors, said) = io::pipe()?;
    let (variable, value) = hidden::MONITOR_VARIABLE;
    let mut command = Command::new(executable);
    command.arg(hidden::MONITOR).arg(hidden::to_json(&options)).env_clear().env(variable, value);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::from(records)).stderr(Stdio::from(said));
    let mut child = command.spawn()?;
    // The child's ends are nobody's but the child's.
    drop(command);
    let door = Door(ours);
    door.give(orders.into())?;
    let (tell, exit_code) = watch::channel(None);
    tokio::task::spawn_blocking(move || {
        let code = child.wait().ok().and_then(|status| status.code()).map_or(-1, i64::from);
        tell.send_replace(Some(code));
    });
    let complaints = Complaints::default();
    let errors = pipe::Receiver::from_owned_fd(errors.into())?;
    tokio::spawn(complaints.clone().follow(errors));
    let attached = Attached {
        output: Box::pin(ReaderStream::with_capacity(pipe::Receiver::from_owned_fd(output.into())?, 64 << 10)),
        input: Box::pin(pipe::Sender::from_owned_fd(input.into())?),
        complaints,
    };
    Ok(StartedMonitor { door, attached, exit_code })
}
