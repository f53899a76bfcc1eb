//! How a stub and the monitor meet: a unix socket, over which the stub sends its filter's listener.
//!
//! Where the monitor is in the stub's container, the socket is an abstract one. Its name is random and secret to the target
//! (it is in the stub's arguments, which the exec replaces), the network namespace may be the host's: the kernel tells the
//! monitor who connects, and only root is accepted.
//!
//! Where the monitor is outside, each stub inherits its connection. The other end has `SO_PASSCRED` set, so that the kernel
//! tells the monitor which process the stub is, by the monitor's own numbers.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    connect, listen, recvmsg, sendmsg, socket,
};

use serde::{Deserialize, Serialize};

use crate::kernel::owned;

/// Longest name of a session; both ends of a message are one packet.
const MAX_NAME: usize = 256;

/// Where a stub and the monitor meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meeting {
    /// At the abstract socket of this name: the monitor is in the stub's container.
    Named(String),
    /// Over the packet socket that the stub has under this number. The monitor is given the other ends over such a socket,
    /// its standard input, whose first packet brings what is its standard input from then on. It is outside of the
    /// container, whose first process is the first stub.
    Given(i32),
}

/// A socket that keeps the bounds of messages.
fn packets() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// Listens for stubs.
pub(crate) fn serve(name: &str) -> nix::Result<OwnedFd> {
    let socket = packets()?;
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// Connects to the monitor; ECONNREFUSED while there is none.
pub(crate) fn reach(name: &str) -> nix::Result<OwnedFd> {
    let socket = packets()?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    Ok(socket)
}

/// What came in one packet.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The process that sent it, where the socket asks the kernel for that.
    pub(crate) sender: Option<i32>,
}

/// Sends a message with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8], descriptors: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    let message = &message[..message.len().min(MAX_NAME)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives a message with its descriptors; `None` when the other end is closed.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<Message>> {
    let mut buffer = [0; MAX_NAME];
    let mut control = nix::cmsg_space!([RawFd; 4], UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let (mut descriptors, mut sender) = (vec![], None);
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmRights(numbers) => descriptors.extend(numbers.into_iter().filter_map(owned)),
            ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials.pid()),
            _ => {}
        }
    }
    let length = message.bytes;
    Ok((length > 0).then(|| Message { bytes: buffer[..length].to_vec(), descriptors, sender }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_and_work() {
        let name = format!("slim-test-{}", std::process::id());
        assert_eq!(reach(&name).map(drop), Err(Errno::ECONNREFUSED));
        let server = serve(&name).expect("serve");
        let client = reach(&name).expect("reach");
        let connection = owned(nix::sys::socket::accept(server.as_raw_fd()).expect("accept")).expect("fd");
        let (reader, writer) = std::io::pipe().expect("pipe");
        send(client.as_fd(), b"target", &[reader.as_raw_fd()]).expect("send");
        let Message { bytes, mut descriptors, sender } = receive(connection.as_fd()).expect("receive").expect("message");
        assert_eq!((bytes.as_slice(), descriptors.len(), sender), (&b"target"[..], 1, None));
        (&writer).write_all(b"x").expect("write");
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(descriptors.remove(0)).read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
        drop(client);
        assert!(receive(connection.as_fd()).expect("end").is_none());
    }

    #[test]
    fn the_kernel_names_the_sender() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("pair");
        nix::sys::socket::setsockopt(&theirs, nix::sys::socket::sockopt::PassCred, &true).expect("option");
        send(ours.as_fd(), b"x", &[]).expect("send");
        let message = receive(theirs.as_fd()).expect("receive").expect("message");
        assert_eq!(message.sender, Some(std::process::id() as i32));
    }
}
