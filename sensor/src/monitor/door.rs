//! Where stubs come to the monitor, each with the listener of its filter.
//!
//! A connection is there some time before what the stub says over it (from outside, before there is a container), so those
//! that wait are watched like everything else: nobody keeps the others from being served.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};

use crate::handshake::{self, Meeting, Message};
use crate::kernel;

/// A stub that waits to be served.
#[derive(Debug)]
pub(super) struct Stub {
    /// Its process, as we number it.
    pub(super) process: i32,
    /// The name of its session.
    pub(super) name: Vec<u8>,
    /// Of its filter.
    pub(super) listener: OwnedFd,
    /// An answer lets it go on.
    pub(super) connection: OwnedFd,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Door {
    source: Source,
    /// Connections over which nothing was said yet.
    waiting: Vec<OwnedFd>,
}

#[derive(Debug)]
enum Source {
    Listening(OwnedFd),
    Given(OwnedFd),
    Closed,
}

impl Door {
    pub(super) fn open(meeting: &Meeting) -> nix::Result<Door> {
        let source = match meeting {
            Meeting::Named(name) => Source::Listening(handshake::serve(name)?),
            Meeting::Given(_) => Source::Given(take_source()?),
        };
        Ok(Door { source, waiting: vec![] })
    }

    /// Whether more stubs may come.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.source, Source::Closed) || !self.waiting.is_empty()
    }

    /// Waits for the first stub; `None` where none will come.
    pub(super) fn first(&mut self) -> Option<Stub> {
        while self.is_open() {
            let stub = self.wait(&mut []);
            if stub.is_some() {
                return stub;
            }
        }
        None
    }

    /// Waits until something happens here or to the `others`; the stub that has come, if one has.
    pub(super) fn wait(&mut self, others: &mut [PollFd<'_>]) -> Option<Stub> {
        let (source, waiting) = self.look(others);
        if source {
            self.admit();
        }
        let connection = self.waiting.remove(waiting?);
        let Ok(Some(Message { bytes, descriptors, sender })) = handshake::receive(connection.as_fd()) else { return None };
        let listener = descriptors.into_iter().next()?;
        let process = match self.source {
            // Only root in our container can be a stub.
            Source::Listening(_) => {
                getsockopt(&connection, sockopt::PeerCredentials).ok().filter(|peer| peer.uid() == 0).map(|peer| peer.pid())
            }
            Source::Given(_) | Source::Closed => sender,
        };
        let process = process.filter(|&process| process > 0)?;
        Some(Stub { process, name: bytes, listener, connection })
    }

    /// Whether there is a new connection, and which of those that wait has something to say.
    fn look(&self, others: &mut [PollFd<'_>]) -> (bool, Option<usize>) {
        let source = match &self.source {
            Source::Listening(source) | Source::Given(source) => Some(source),
            Source::Closed => None,
        };
        let mut watched: Vec<PollFd<'_>> = self.waiting.iter().chain(source).map(|fd| watch(fd)).collect();
        let own = watched.len();
        watched.extend(others.iter().map(|other| PollFd::new(other.as_fd(), other.events())));
        if poll(&mut watched, PollTimeout::NONE).is_err() {
            return (false, None);
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let waiting = watched[..self.waiting.len()].iter().position(is_ready);
        let has_new = source.is_some() && is_ready(&watched[own - 1]);
        drop(watched);
        // What the kernel finds of the others belongs into what the caller gave.
        let _ = poll(others, PollTimeout::ZERO);
        (has_new, waiting)
    }

    fn admit(&mut self) {
        match &self.source {
            Source::Listening(source) => {
                let connection = accept4(source.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok().and_then(kernel::owned);
                self.waiting.extend(connection);
            }
            Source::Given(source) => match handshake::receive(source.as_fd()) {
                Ok(Some(Message { descriptors, .. })) => self.waiting.extend(descriptors),
                _ => self.source = Source::Closed,
            },
            Source::Closed => {}
        }
    }
}

/// The socket over which connections come is our standard input; its first packet brings what is to be that.
fn take_source() -> nix::Result<OwnedFd> {
    let source = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| Errno::EBADF)?;
    let orders = handshake::receive(source.as_fd())?.and_then(|message| message.descriptors.into_iter().next());
    nix::unistd::dup2_stdin(orders.ok_or(Errno::EPIPE)?)?;
    Ok(source)
}

fn watch(fd: &OwnedFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}
