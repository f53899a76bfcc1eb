//! A container that runs, and commands in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use slim_sensor::container::kill_process;
use slim_sensor::container::message::{Event, Failure, Family, Request};
use slim_sensor::container::spec::ProcessSpec;
use slim_sensor::monitor::listening_sockets;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use super::link::Link;
use super::runner::{Begun, Helper, RunnerError};
use super::streams::{self, Streams};

/// Most bytes that are read of a table of sockets.
const MAX_TABLE: usize = 1 << 20;

/// A container with its first process. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    process: ProcessSpec,
    pid: i32,
    fallbacks: Vec<String>,
    /// The container's /proc/net/tcp, and tcp6 where there is one.
    tables: Vec<File>,
    ended: watch::Receiver<Option<i32>>,
}

/// A command beside the first process. It goes on when this is dropped, and ends with the container.
#[derive(Debug)]
pub struct Command {
    shared: Arc<Shared>,
    number: u64,
    pid: i32,
    ended: oneshot::Receiver<i32>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// A command's number on this machine and its terminal; or why it could not be started.
type Start = Result<(i32, Option<OwnedFd>), Failure>;

/// Who waits for an event about a number. All are dropped, and so hear of it, when the helper is gone.
#[derive(Debug, Default)]
struct Waiting {
    sockets: HashMap<u64, oneshot::Sender<io::Result<OwnedFd>>>,
    starts: HashMap<u64, oneshot::Sender<Start>>,
    ends: HashMap<u64, oneshot::Sender<i32>>,
    is_over: bool,
}

impl Running {
    pub(super) fn new(link: Link, helper: Helper, process: ProcessSpec, begun: Begun) -> Running {
        let shared = Arc::new(Shared { link, next: AtomicU64::new(0), waiting: Mutex::default() });
        let (tell, ended) = watch::channel(None);
        let Begun { pid, first, fallbacks, tables } = begun;
        tokio::spawn(listen(shared.clone(), helper, first, tell));
        let tables = tables.into_iter().map(File::from).collect();
        Running { shared, process, pid, fallbacks, tables, ended }
    }

    /// The first process's number on this machine.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What was done otherwise than intended, in words.
    #[must_use]
    pub fn fallbacks(&self) -> &[String] {
        &self.fallbacks
    }

    /// Waits until the first process has ended, and everything else with it; its exit code, 128 and the signal where one
    /// killed it.
    ///
    /// # Errors
    /// [`RunnerError::Gone`]
    pub async fn wait(&self) -> Result<i32, RunnerError> {
        let mut ended = self.ended.clone();
        let code = ended.wait_for(Option::is_some).await.map_err(|_| RunnerError::Gone)?;
        code.ok_or(RunnerError::Gone)
    }

    /// Kills what is left, and waits until that is done.
    pub async fn end(&self) {
        self.shared.link.close();
        let mut ended = self.ended.clone();
        // Without a word from the helper, it is gone.
        let _ = ended.wait_for(Option::is_some).await;
    }

    /// Sends a signal to the first process. It may have ended before.
    ///
    /// # Errors
    /// [`RunnerError::Talk`]
    pub async fn kill(&self, signal: i32) -> Result<(), RunnerError> {
        self.shared.signal(None, signal).await
    }

    /// A command with the first process's environment, directory and identity, as an engine's `exec` has it.
    #[must_use]
    pub fn command(&self, argv: Vec<String>) -> ProcessSpec {
        ProcessSpec { argv, terminal: false, input: false, stub: vec![], descriptors: vec![], ..self.process.clone() }
    }

    /// Starts a command in the container; `descriptors` are handed to it under the numbers in its specification.
    ///
    /// # Errors
    /// [`RunnerError`]
    pub async fn exec(&self, process: &ProcessSpec, descriptors: &[OwnedFd]) -> Result<(Command, Streams), RunnerError> {
        let (pipes, theirs) = if process.terminal {
            (None, vec![])
        } else {
            let (ours, theirs) = streams::pipes(process.input)?;
            (Some(ours), theirs)
        };
        let number = self.shared.number();
        let (tell_start, start) = oneshot::channel();
        let (tell_end, ended) = oneshot::channel();
        self.shared.expect(|waiting| {
            waiting.starts.insert(number, tell_start);
            waiting.ends.insert(number, tell_end);
        })?;
        let numbers: Vec<_> = theirs.iter().chain(descriptors).map(AsFd::as_fd).collect();
        self.shared.link.send(&Request::Exec(number, Box::new(process.clone())), &numbers).await?;
        drop(theirs);
        let (pid, terminal) = start.await.map_err(|_| RunnerError::Gone)?.map_err(RunnerError::Start)?;
        let streams = match pipes {
            Some(pipes) => pipes,
            None => streams::terminal(terminal.ok_or(RunnerError::Gone)?)?,
        };
        Ok((Command { shared: self.shared.clone(), number, pid, ended }, streams))
    }

    /// A connection from inside the container's network.
    ///
    /// # Errors
    /// [`RunnerError::Gone`], and what connecting gives: such as nobody listens.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream, RunnerError> {
        let number = self.shared.number();
        let (tell, socket) = oneshot::channel();
        self.shared.expect(|waiting| drop(waiting.sockets.insert(number, tell)))?;
        let family = if address.is_ipv6() { Family::V6 } else { Family::V4 };
        self.shared.link.send(&Request::Socket(number, family), &[]).await?;
        let socket = socket.await.map_err(|_| RunnerError::Gone)??;
        Ok(TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(address).await?)
    }

    /// A connection to a port on the loopback interface, IPv4 first.
    ///
    /// # Errors
    /// As [`Running::connect`].
    pub async fn connect_port(&self, port: u16) -> Result<TcpStream, RunnerError> {
        let address = |ip: IpAddr| SocketAddr::new(ip, port);
        match self.connect(address(Ipv4Addr::LOCALHOST.into())).await {
            Err(RunnerError::Talk(first)) => {
                let second = self.connect(address(Ipv6Addr::LOCALHOST.into())).await;
                second.map_err(|_| RunnerError::Talk(first))
            }
            other => other,
        }
    }

    /// The TCP addresses that somebody listens on in the container's network.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn listening(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = vec![];
        for (table, is_six) in self.tables.iter().zip([false, true]) {
            let text = contents(table)?;
            let listening = listening_sockets(BufReader::new(&text[..]), is_six);
            addresses.extend(listening.into_iter().map(|(_, address, port)| SocketAddr::new(address, port)));
        }
        Ok(addresses)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.link.close();
    }
}

/// A table of the kernel's from its beginning: each read at 0 makes it anew.
fn contents(table: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![];
    let mut part = [0; 16 << 10];
    while text.len() < MAX_TABLE {
        let count = table.read_at(&mut part, text.len() as u64)?;
        if count == 0 {
            break;
        }
        text.extend_from_slice(&part[..count]);
    }
    Ok(text)
}

impl Command {
    /// Its number on this machine.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it has ended; its exit code, 128 and the signal where one killed it.
    ///
    /// # Errors
    /// [`RunnerError::Gone`], also where the container ended first.
    pub async fn wait(self) -> Result<i32, RunnerError> {
        self.ended.await.map_err(|_| RunnerError::Gone)
    }

    /// Sends it a signal. It may have ended before.
    ///
    /// # Errors
    /// [`RunnerError::Talk`]
    pub async fn kill(&self, signal: i32) -> Result<(), RunnerError> {
        self.shared.signal(Some(self.number), signal).await
    }
}

impl Shared {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes who waits, unless there is nothing to wait for any more.
    fn expect(&self, note: impl FnOnce(&mut Waiting)) -> Result<(), RunnerError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_over {
            return Err(RunnerError::Gone);
        }
        note(&mut waiting);
        Ok(())
    }

    async fn signal(&self, command: Option<u64>, signal: i32) -> Result<(), RunnerError> {
        match self.link.send(&Request::Signal(command, signal), &[]).await {
            // The helper is gone, and so is whom it was for.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }

    fn tell(&self, event: Event, mut descriptors: Vec<OwnedFd>) -> Option<i32> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited may have gone away: a socket or terminal is closed then.
        match event {
            Event::Socket(number, error) => {
                let waiter = waiting.sockets.remove(&number)?;
                let _ = waiter.send(descriptors.pop().ok_or_else(|| io::Error::from_raw_os_error(error)));
            }
            Event::ExecStarted(number, pid) => {
                let _ = waiting.starts.remove(&number)?.send(Ok((pid, descriptors.pop())));
            }
            Event::ExecFailed(number, failure) => {
                waiting.ends.remove(&number);
                let _ = waiting.starts.remove(&number)?.send(Err(failure));
            }
            Event::ExecEnded(number, code) => {
                let _ = waiting.ends.remove(&number)?.send(code);
            }
            Event::Ended(code) => return Some(code),
            Event::MapIds | Event::Started { .. } | Event::Failed(_) => {}
        }
        None
    }
}

/// Hears the helper until it is gone, and takes it out of the table of processes.
async fn listen(shared: Arc<Shared>, helper: Helper, first: OwnedFd, ended: watch::Sender<Option<i32>>) {
    while let Ok(Some((event, descriptors))) = shared.link.receive().await {
        if let Some(code) = shared.tell(event, descriptors) {
            ended.send_replace(Some(code));
        }
    }
    shared.link.close();
    if ended.borrow().is_none() {
        // Somebody killed the helper. The first process dies of that, unless it changed its ids since. It may be dead.
        let _ = kill_process(first.as_fd());
    }
    {
        let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Waiting { is_over: true, ..Waiting::default() };
    }
    helper.end().await;
}
