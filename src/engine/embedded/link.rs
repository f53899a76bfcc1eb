//! The controller's end of the helper's socket, on the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as BlockingSocket;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use slim_sensor::container::message::{Event, Received, Request, receive, send};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// See the module. To the runtime a socket that keeps the bounds of messages is a datagram socket.
#[derive(Debug)]
pub(super) struct Link(UnixDatagram);

impl Link {
    /// A link, and the other end for the helper.
    pub(super) fn new() -> io::Result<(Link, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let ours = BlockingSocket::from(ours);
        // Of this end, not of the pair: the helper's calls wait.
        ours.set_nonblocking(true)?;
        Ok((Link(UnixDatagram::from_std(ours)?), theirs))
    }

    /// Sends a request with descriptors.
    pub(super) async fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        self.0.async_io(Interest::WRITABLE, || Ok(send(self.0.as_fd(), request, &numbers)?)).await
    }

    /// The next event; `None` when the helper is gone.
    pub(super) async fn receive(&self) -> io::Result<Option<Received<Event>>> {
        self.0.async_io(Interest::READABLE, || Ok(receive(self.0.as_fd())?)).await
    }

    /// Tells the helper that it is over.
    pub(super) fn close(&self) {
        // It may be gone already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}
