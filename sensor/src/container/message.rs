//! What the controller and the helper say to each other, and how it gets across.
//!
//! One packet of a SOCK_SEQPACKET socket holds one message and the descriptors that belong to it. A message that is too
//! long for a packet (a large environment) lies in a memory file, whose descriptor comes first. Both ends are the same
//! executable, but a command inside the container can never reach this socket: it is closed before anything is executed.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::spec::{ContainerSpec, ProcessSpec};
use crate::kernel::owned;

/// Most descriptors of a message: the kernel's own limit.
pub const MAX_DESCRIPTORS: usize = 250;
/// Longest message in a packet.
const MAX_PACKET: usize = 32 << 10;
/// Longest message at all: arguments and environment have limits of the kernel's below this.
const MAX_MESSAGE: u64 = 16 << 20;

const IN_PACKET: u8 = 0;
const IN_FILE: u8 = 1;

/// What the controller asks for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first: make the container. Descriptors: standard input, output and error unless it has a terminal, then those
    /// that [`ProcessSpec::descriptors`] numbers.
    Start(Box<ContainerSpec>),
    /// The id maps that [`Event::MapIds`] asked for are written.
    IdsMapped,
    /// A command beside the first process, with descriptors as for [`Request::Start`].
    Exec(u64, Box<ProcessSpec>),
    /// Sends a signal to a command, or to the first process.
    Signal(Option<u64>, i32),
    /// A TCP socket inside the container's network.
    Socket(u64, Family),
}

/// Kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the helper tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The helper is in a user namespace whose ids are to be mapped.
    MapIds,
    /// The first process executes its program. Descriptors: the tables of TCP sockets of its network, v4 and where there
    /// is one v6; its terminal, last, where it has one.
    Started {
        /// Its number on this machine.
        pid: i32,
        /// What was done otherwise than intended, in words.
        fallbacks: Vec<String>,
    },
    /// It could not be made. Nothing of it is left.
    Failed(Failure),
    /// A command executes its program. Descriptor: its terminal, where it has one.
    ExecStarted(u64, i32),
    /// A command could not be started.
    ExecFailed(u64, Failure),
    /// A command has ended.
    ExecEnded(u64, i32),
    /// The socket that was asked for; the number of the error where there is none.
    Socket(u64, i32),
    /// The first process has ended, and with it everything else.
    Ended(i32),
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// 126 and 127 as shells and engines use them, 125 where the container is the cause.
    pub status: i32,
    /// In words.
    pub reason: String,
}

/// What came over a socket.
pub type Received<T> = (T, Vec<OwnedFd>);

/// Sends a message with descriptors.
///
/// # Errors
/// Of the kernel; EMSGSIZE for a message of absurd length.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, descriptors: &[RawFd]) -> nix::Result<()> {
    let body = postcard::to_extend(message, vec![IN_PACKET]).map_err(|_| Errno::EINVAL)?;
    if body.len() <= MAX_PACKET {
        return send_packet(socket, &body, descriptors);
    }
    let mut file = File::from(memfd_create("slim-message", MFdFlags::MFD_CLOEXEC)?);
    let written = file.write_all(&body[1..]).and_then(|()| file.rewind());
    written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let descriptors: Vec<RawFd> = [&[file.as_raw_fd()], descriptors].concat();
    send_packet(socket, &[IN_FILE], &descriptors)
}

fn send_packet(socket: BorrowedFd<'_>, body: &[u8], descriptors: &[RawFd]) -> nix::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(body)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives a message with its descriptors; `None` when the other end is closed.
///
/// # Errors
/// Of the kernel (EAGAIN from a socket that does not block); EBADMSG for what is no message.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> nix::Result<Option<Received<T>>> {
    let mut buffer = vec![0; MAX_PACKET + 1];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS + 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            // The other end was closed with something unread in it.
            Err(Errno::ECONNRESET) => return Ok(None),
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
    let value = match buffer[..length].split_first() {
        None => return Ok(None),
        Some((&IN_PACKET, body)) => postcard::from_bytes(body),
        Some((&IN_FILE, [])) if !descriptors.is_empty() => postcard::from_bytes(&contents(descriptors.remove(0))?),
        Some(_) => return Err(Errno::EBADMSG),
    };
    Ok(Some((value.map_err(|_| Errno::EBADMSG)?, descriptors)))
}

fn contents(file: OwnedFd) -> nix::Result<Vec<u8>> {
    let file = File::from(file);
    let raw = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let length = file.metadata().map_err(raw)?.len();
    if length > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(raw)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::container::spec::Root;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a pair of sockets")
    }

    #[test]
    fn messages_of_any_length_arrive_with_their_descriptors() {
        let (here, there) = pair();
        for length in [0, 100, MAX_PACKET, 1 << 20] {
            let mut spec = ContainerSpec::new(Root::Directory("/".into()), "/state".into(), 0, vec![]);
            spec.process.env = vec!["x".repeat(length)];
            let (reader, mut writer) = std::io::pipe().expect("pipe");
            send(here.as_fd(), &Request::Start(Box::new(spec.clone())), &[reader.as_raw_fd()]).expect("send");
            let received = receive::<Request>(there.as_fd()).expect("receive").expect("a message");
            let (Request::Start(got), mut descriptors) = received else { panic!("another message") };
            assert_eq!((*got == spec, descriptors.len()), (true, 1), "{length}");
            writer.write_all(b"x").expect("write");
            drop(writer);
            let mut text = String::new();
            File::from(descriptors.remove(0)).read_to_string(&mut text).expect("read");
            assert_eq!(text, "x");
        }
        drop(here);
        assert!(receive::<Request>(there.as_fd()).expect("the end").is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (here, there) = pair();
        for packet in [&[][..], &[9], &[IN_PACKET], &[IN_PACKET, 200], &[IN_FILE], &[IN_FILE, 1]] {
            send_packet(here.as_fd(), packet, &[]).expect("send");
            let received = receive::<Event>(there.as_fd());
            let wanted = if packet.is_empty() { Ok(true) } else { Err(Errno::EBADMSG) };
            assert_eq!(received.map(|received| received.is_none()), wanted, "{packet:?}");
        }
    }
}
