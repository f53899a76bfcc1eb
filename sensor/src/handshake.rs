//! How a stub and the monitor meet: an abstract unix socket, over which the stub sends its filter's listener.
//!
//! The socket's name is random and secret to the target (it is in the stub's arguments, which the exec replaces), the
//! network namespace may be the host's: the kernel tells the monitor who connects, and only root is accepted.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen,
    recvmsg, sendmsg, socket,
};

use crate::kernel::owned;

/// Longest name of a session; both ends of a message are one packet.
const MAX_NAME: usize = 256;

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

/// Sends a message with descriptors.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8], descriptors: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    let message = &message[..message.len().min(MAX_NAME)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(message)], rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives a message with its descriptors; `None` when the other end is closed.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut buffer = [0; MAX_NAME];
    let mut control = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = vec![];
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            descriptors.extend(numbers.into_iter().filter_map(owned));
        }
    }
    let length = message.bytes;
    Ok((length > 0).then(|| (buffer[..length].to_vec(), descriptors)))
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
        let (message, mut descriptors) = receive(connection.as_fd()).expect("receive").expect("message");
        assert_eq!((message.as_slice(), descriptors.len()), (&b"target"[..], 1));
        (&writer).write_all(b"x").expect("write");
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(descriptors.remove(0)).read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
        drop(client);
        assert!(receive(connection.as_fd()).expect("end").is_none());
    }
}
