//! The first sense: one session's trapped calls, served one after the other.
//!
//! A trapped call waits until it is answered, so the caller stands still while its path is read from its memory and its
//! directory from /proc: the path is what the call will use. (Another thread could still change that memory before the
//! kernel reads it; only a program that wants to deceive does so, and the second sense sees the open then.)

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::arrival::PATIENCE;
use super::emulate;
use super::memory::Memory;
use super::opens::is_own;
use super::telling::{Program, Used, User};
use super::threads::{Threads, note_change};
use super::worker::Shared;
use super::{place, process};
use crate::calls::paths::{PathArgument, Use, opened_as};
use crate::calls::{Abi, Call, HERE, Role, SOCKET_BIND, SOCKET_LISTEN};
use crate::kernel::{Answer, Notification, answer, is_waiting, read_memory};
use crate::wire::{Access, EndReason, Record, Sense};

/// A path is at most this long with its NUL; the kernel answers ENAMETOOLONG to more.
const PATH_MAX: usize = 4096;
/// `RESOLVE_IN_ROOT` of openat2(2): the directory is the root.
const RESOLVE_IN_ROOT: u64 = 0x10;

/// How long a thread that was let end may take to do so: looked at this often, ...
const END_LOOKS: u32 = 100;
/// ... this far apart.
const END_PAUSE: Duration = Duration::from_millis(1);

/// Once a process has changed its root, each call's root is looked up (all sessions: roots are inherited).
static ROOTS_DIFFER: AtomicBool = AtomicBool::new(false);
/// A process has mounted something: a mount may be gone as soon as it, or its last process, is.
static MOUNTS_DIFFER: AtomicBool = AtomicBool::new(false);

/// One session.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    shared: &'a Shared,
    session: u32,
    /// The process that was the stub.
    first: i32,
    listener: OwnedFd,
    /// The stub has become the program. Where that isn't seen, as execve(2) isn't trapped, neither is what the stub does.
    started: bool,
    ended: bool,
    threads: Threads,
    /// Threads of the first process that were let end.
    ending: HashSet<i32>,
    path: Box<[u8; PATH_MAX]>,
    memory: Memory,
    /// Who runs what isn't known.
    nobody: Program,
}

/// Why a path could not be read.
enum Unread {
    /// The process gave a bad pointer; the kernel will answer EFAULT, and nothing was used.
    BadPointer,
    /// The process was killed meanwhile.
    Gone,
    /// Too long to name anything.
    TooLong,
    /// We may not look.
    Refused(std::io::Error),
}

impl<'a> Watch<'a> {
    pub(super) fn new(shared: &'a Shared, session: u32, first: i32, listener: OwnedFd) -> Watch<'a> {
        let path = Box::new([0; PATH_MAX]);
        Watch {
            shared,
            session,
            first,
            listener,
            started: !shared.notify,
            ended: false,
            threads: Threads::default(),
            ending: HashSet::new(),
            path,
            memory: Memory::default(),
            nobody: shared.telling.program(b""),
        }
    }

    /// Serves until no process with this filter is left.
    pub(super) fn serve(mut self) {
        let slot = self.session as usize;
        while self.wait() {
            let call = match self.shared.slots.receive(slot, self.listener.as_fd()) {
                Ok(call) => call,
                // The caller was killed before we took its call.
                Err(Errno::EINTR | Errno::ENOENT) if !self.is_closed() => continue,
                Err(_) => break,
            };
            let reply = self.handle(&call);
            // ENOENT: killed while we looked, which is normal.
            let _ = answer(self.listener.as_fd(), call.id, reply);
            self.shared.slots.clear(slot);
        }
        self.finish(None);
    }

    /// Before Linux 6.11 a receive does not return when the last process is gone, so it must not be begun then.
    fn wait(&self) -> bool {
        static RECEIVE_ENDS: OnceLock<bool> = OnceLock::new();
        if *RECEIVE_ENDS.get_or_init(|| kernel_version().is_some_and(|version| version >= (6, 11))) {
            return true;
        }
        let mut ready = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ready, PollTimeout::NONE);
        !ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    fn is_closed(&self) -> bool {
        let mut ready = [PollFd::new(self.listener.as_fd(), PollFlags::empty())];
        poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Looks at a call, tells what it uses, and says how it goes on.
    fn handle(&mut self, call: &Notification) -> Answer {
        let abi = HERE.abi(call.architecture);
        let unfolded = if abi.is_32_bit() { unfolded(call, abi) } else { None };
        let call = unfolded.as_ref().unwrap_or(call);
        // A call that is newer than this program takes its chance with the other sense.
        const NEW: Call = Call { name: "", role: Role::Other, paths: &[] };
        let Call { role, paths, .. } = *abi.call(call.number).unwrap_or(&NEW);
        match role {
            Role::Exit | Role::ExitGroup => {
                self.exit(call, abi, role);
                return Answer::Continue;
            }
            // What the stub does before it is the program is not the program's.
            _ if !self.started && role != Role::Exec => return Answer::Continue,
            Role::NewRoot => {
                ROOTS_DIFFER.store(true, Ordering::Relaxed);
                note_change(b"/");
            }
            Role::Mount => {
                note_change(b"/");
                MOUNTS_DIFFER.store(true, Ordering::Relaxed);
                self.drain_opens();
            }
            Role::Listen => self.shared.listening.expect(),
            // From outside, nobody there could hit us.
            Role::Kill if !place::is_outside() => {
                let instead = emulate::kill(call.thread, call.arguments[0] as i32, call.arguments[1] as i32);
                if let Some(result) = instead {
                    self.shared.telling.count(abi, call.number, true);
                    return Answer::Return(result);
                }
            }
            Role::Kill | Role::Exec | Role::SocketCall | Role::Other => {}
        }
        let mut resolved = true;
        let mut common = None;
        for argument in paths {
            match self.tell_path(call, abi, *argument) {
                Some(length) => common = length,
                None => resolved = false,
            }
        }
        self.shared.telling.count(abi, call.number, resolved);
        if role == Role::Exec {
            self.executes(call.thread, common);
        }
        Answer::Continue
    }

    /// Tells the use of one path argument; `None`: it was lost. Else the length of the path, where it means the same to
    /// everybody.
    fn tell_path(&mut self, call: &Notification, abi: Abi, argument: PathArgument) -> Option<Option<usize>> {
        let address = call.arguments[usize::from(argument.path)];
        let read = match argument.used {
            Use::SocketAddress(length) => self.read_socket_path(call.thread, address, call.arguments[usize::from(length)]),
            _ => self.read_path(call.thread, address),
        };
        let length = match read {
            // An empty path means the descriptor itself: no name is used.
            Ok(0) | Err(Unread::BadPointer | Unread::Gone | Unread::TooLong) => return Some(None),
            Ok(length) => length,
            Err(Unread::Refused(error)) => {
                self.shared.telling.lose(&format!("a path of process {} cannot be read: {error}", call.thread));
                return None;
            }
        };
        let (access, in_root) = match argument.used {
            Use::As(access) => (access, false),
            Use::SocketAddress(_) => (Access::Change, false),
            Use::OpenFlags(at) => (opened_as(call.arguments[usize::from(at)], abi), false),
            Use::OpenHow(at) => match open_how(call.thread, call.arguments[usize::from(at)]) {
                Some((flags, resolve)) => (opened_as(flags, abi), resolve & RESOLVE_IN_ROOT != 0),
                None => return Some(None),
            },
        };
        if matches!(access, Access::Change | Access::Write) {
            note_change(&self.path[..length]);
        }
        let mut root = match ROOTS_DIFFER.load(Ordering::Relaxed) {
            true => process::link(call.thread, "root").filter(|root| root != b"/").unwrap_or_default(),
            false => vec![],
        };
        let mut base = vec![];
        if self.path[0] != b'/' || in_root {
            let directory = argument.directory.map(|at| call.arguments[usize::from(at)] as i32);
            let name = match directory.filter(|&directory| directory != libc::AT_FDCWD) {
                Some(descriptor) => format!("fd/{descriptor}"),
                None => "cwd".to_owned(),
            };
            // A bad descriptor: the kernel will answer EBADF, and nothing was used.
            let Some(directory) = process::link(call.thread, &name) else { return Some(None) };
            if in_root {
                root = directory;
            } else {
                base = directory
                    .strip_prefix(root.as_slice())
                    .filter(|rest| rest.is_empty() || rest[0] == b'/')
                    .map_or(directory.clone(), |rest| if rest.is_empty() { b"/".to_vec() } else { rest.to_vec() });
            }
        }
        let used = (access, root, base);
        self.tell_used(call, used, length);
        let is_common =
            self.path[0] == b'/' && !in_root && !ROOTS_DIFFER.load(Ordering::Relaxed) && !MOUNTS_DIFFER.load(Ordering::Relaxed);
        Some(is_common.then_some(length))
    }

    fn tell_used(&mut self, call: &Notification, (access, root, base): (Access, Vec<u8>, Vec<u8>), length: usize) {
        let session = self.session + 1;
        let (process, program) = match self.threads.of(call.thread, &self.shared.telling, self.shared.opens.as_ref()) {
            // The first program is executed by the engine, so to say.
            _ if !self.started => (self.first, &self.nobody),
            Some(thread) => (thread.process, &thread.program),
            None => (call.thread, &self.nobody),
        };
        let user = User { session, process, program };
        let used = Used { access, sense: Sense::Notify, root: &root, base: &base, path: &self.path[..length] };
        // If the caller was killed meanwhile, its number may be another's by now, and so what was read.
        self.shared.telling.used(user, used, || is_waiting(self.listener.as_fd(), call.id));
    }

    /// Reads a NUL-ended path of a thread into `self.path`; its length without the NUL.
    fn read_path(&mut self, thread: i32, address: u64) -> Result<usize, Unread> {
        const PAGE: u64 = 4096;
        // Most paths are short; a read across the end of a mapping would fail as a whole.
        const FIRST: usize = 256;
        let mut got = 0;
        while got < PATH_MAX {
            let at = address.wrapping_add(got as u64);
            let to_page_end = (PAGE - at % PAGE) as usize;
            let wanted = to_page_end.min(if got == 0 { FIRST } else { PATH_MAX }).min(PATH_MAX - got);
            match self.memory.read(thread, at, &mut self.path[got..got + wanted]) {
                Ok(0) => return Err(Unread::BadPointer),
                Ok(length) => {
                    if let Some(end) = self.path[got..got + length].iter().position(|&byte| byte == 0) {
                        return Ok(got + end);
                    }
                    got += length;
                }
                Err(error) => return Err(unread(error)),
            }
        }
        Err(Unread::TooLong)
    }

    /// Reads the path of a `struct sockaddr_un` into `self.path`; 0 where the address is another kind or has no path.
    fn read_socket_path(&mut self, thread: i32, address: u64, length: u64) -> Result<usize, Unread> {
        const FAMILY: usize = size_of::<libc::sa_family_t>();
        let mut bytes = [0; size_of::<libc::sockaddr_un>()];
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let got = read_memory(thread, address, &mut bytes[..length]).map_err(unread)?;
        let Some((family, path)) = bytes[..got].split_first_chunk::<FAMILY>() else { return Ok(0) };
        if i32::from(libc::sa_family_t::from_ne_bytes(*family)) != libc::AF_UNIX {
            return Ok(0);
        }
        // An abstract name begins with NUL; a full path has none.
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
        self.path[..end].copy_from_slice(&path[..end]);
        Ok(end)
    }

    fn executes(&mut self, thread: i32, length: Option<usize>) {
        self.memory.forget();
        let process = self.threads.executes(thread, length.map(|length| &self.path[..length]));
        if let Some((opens, process)) = self.shared.opens.as_ref().zip(process) {
            opens.running.changes(process);
        }
        self.started |= process == Some(self.first);
    }

    /// A thread or process ends. Where it is the session's first process, everything is told before it does.
    fn exit(&mut self, call: &Notification, abi: Abi, role: Role) {
        self.shared.telling.count(abi, call.number, true);
        if MOUNTS_DIFFER.load(Ordering::Relaxed) {
            self.drain_opens();
        }
        self.memory.forget();
        if role == Role::ExitGroup && self.shared.opens.is_some() {
            // It may have made no call that is trapped, but opened files.
            self.threads.of(call.thread, &self.shared.telling, self.shared.opens.as_ref());
        }
        let process = match role {
            Role::ExitGroup => self.threads.forget_process(call.thread),
            _ => self.threads.forget(call.thread),
        };
        if process != Some(self.first) {
            if let Some((opens, process)) = self.shared.opens.as_ref().zip(process).filter(|_| role == Role::ExitGroup) {
                opens.running.ends(process);
            }
            return;
        }
        if role == Role::ExitGroup || self.is_last_thread(call.thread) {
            self.finish(Some((call.arguments[0] & 0xff) as i32));
        } else {
            self.ending.insert(call.thread);
        }
    }

    /// Whether all other threads of the first process have ended. Who was let end is waited for, as it will soon be gone;
    /// if it stays, another thread has taken its number.
    fn is_last_thread(&self, thread: i32) -> bool {
        for _ in 0..END_LOOKS {
            let others: Vec<i32> = process::threads(self.first).filter(|&other| other != thread).collect();
            if others.iter().any(|other| !self.ending.contains(other)) {
                return false;
            }
            if others.iter().all(|&other| process::has_ended(other)) {
                return true;
            }
            std::thread::sleep(END_PAUSE);
        }
        false
    }

    /// Tells what fanotify has seen, as long as it can be told as what it is.
    fn drain_opens(&self) {
        if let Some(opens) = &self.shared.opens {
            opens.drain(&self.shared.telling);
        }
    }

    fn finish(&mut self, status: Option<i32>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.drain_opens();
        let is_stub = process::link(self.first, "exe").is_some_and(|executable| is_own(&executable));
        let start_failed = status.is_some() && is_stub;
        self.shared.telling.tell(&Record::SessionEnd { session: self.session + 1, status, start_failed });
        if self.session == 0 {
            self.shared.end(EndReason::TargetExit);
            // It is about to end, not gone already.
            if status.is_some() {
                self.shared.arrival.wait(PATIENCE);
            }
        }
    }
}

fn unread(error: std::io::Error) -> Unread {
    match error.raw_os_error() {
        Some(libc::EFAULT) => Unread::BadPointer,
        Some(libc::ESRCH) => Unread::Gone,
        _ => Unread::Refused(error),
    }
}

/// The call that a socketcall(2) stands for, whose arguments are an array in memory; `None` for any other call, and where
/// the array can't be read: the kernel will answer EFAULT.
fn unfolded(call: &Notification, abi: Abi) -> Option<Notification> {
    if abi.call(call.number)?.role != Role::SocketCall {
        return None;
    }
    let name = match call.arguments[0] as u32 {
        SOCKET_BIND => "bind",
        SOCKET_LISTEN => "listen",
        _ => return None,
    };
    let mut bytes = [0; 12];
    (read_memory(call.thread, call.arguments[1], &mut bytes).ok()? == bytes.len()).then_some(())?;
    let word = |at: usize| u64::from(u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    let arguments = [word(0), word(4), word(8), 0, 0, 0];
    Some(Notification { number: *abi.numbers().get(name)?, arguments, ..*call })
}

/// Flags and resolve flags of a `struct open_how` (three u64: flags, mode, resolve).
fn open_how(thread: i32, address: u64) -> Option<(u64, u64)> {
    let mut how = [0; 24];
    (read_memory(thread, address, &mut how).ok()? == how.len()).then_some(())?;
    let word = |at: usize| how[at..at + 8].try_into().map(u64::from_ne_bytes).ok();
    Some((word(0)?, word(16)?))
}

/// Major and minor of the running kernel.
fn kernel_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut numbers = name.release().to_str()?.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
