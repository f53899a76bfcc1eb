//! The standard streams of a process in a container, as the controller holds their other ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

/// The other ends of standard streams.
#[derive(Debug)]
pub struct Streams {
    /// Standard input, where it was asked for. Dropped, the process sees its end (a terminal has none).
    pub input: Option<pipe::Sender>,
    /// Standard output, or all that a terminal shows.
    pub output: Output,
    /// Standard error; `None` with a terminal.
    pub errors: Option<Output>,
}

/// Bytes that a process writes, until nobody can write any more.
#[derive(Debug)]
pub struct Output(pipe::Receiver);

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            // The kernel says it so when the last process of a terminal has closed it.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}

/// Our ends of pipes, and the process's: standard input, output and error.
pub(super) fn pipes(with_input: bool) -> io::Result<(Streams, Vec<OwnedFd>)> {
    let (input, their_input) = if with_input {
        let (reader, writer) = io::pipe()?;
        (Some(pipe::Sender::from_owned_fd(writer.into())?), OwnedFd::from(reader))
    } else {
        (None, File::open("/dev/null")?.into())
    };
    let (output, their_output) = io::pipe()?;
    let (errors, their_errors) = io::pipe()?;
    let ours = |reader: io::PipeReader| pipe::Receiver::from_owned_fd(reader.into()).map(Output);
    let streams = Streams { input, output: ours(output)?, errors: Some(ours(errors)?) };
    Ok((streams, vec![their_input, their_output.into(), their_errors.into()]))
}

/// Both directions of a terminal's outer end.
pub(super) fn terminal(master: OwnedFd) -> io::Result<Streams> {
    let flags = OFlag::from_bits_retain(fcntl(master.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(master.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let input = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    Ok(Streams { input: Some(input), output: Output(pipe::Receiver::from_owned_fd_unchecked(master)?), errors: None })
}
