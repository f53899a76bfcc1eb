//! The worker process: starts a thread for each thing there is to watch, and takes sessions from the guard.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use nix::sys::socket::{Shutdown, shutdown};

use super::arrival::Arrival;
use super::listening::Listening;
use super::opens::Opens;
use super::telling::Telling;
use super::watch::Watch;
use super::{MAX_SESSIONS, Options};
use super::{place, process};
use crate::handshake::{self, Message};
use crate::kernel;
use crate::kernel::Slots;
use crate::wire::{Control, EndReason, Fanotify, FrameReader, Record, VERSION};

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) telling: Telling,
    pub(super) opens: Option<Opens>,
    pub(super) listening: Listening,
    pub(super) arrival: Arrival,
    pub(super) slots: Slots,
    /// Calls with paths are trapped.
    pub(super) notify: bool,
}

impl Shared {
    /// Tells everything that is known so far, and that this was it.
    pub(super) fn end(&self, reason: EndReason) {
        if let Some(opens) = &self.opens {
            opens.drain(&self.telling);
        }
        self.telling.end(reason);
    }
}

/// Runs until the container ends, which kills us where we are in it; without the guard, until no process has a filter any more.
pub(super) fn run(options: &Options, slots: Slots, from_guard: &OwnedFd) -> i32 {
    let telling = Telling::default();
    let (fanotify, opens) = if options.senses.fanotify { Opens::start() } else { (Fanotify::Off, None) };
    telling.tell(&Record::Hello { version: VERSION, fanotify });
    let shared = Arc::new(Shared {
        telling,
        opens,
        listening: Listening::default(),
        arrival: Arrival::default(),
        slots,
        notify: options.senses.notify,
    });
    for task in [follow_opens, follow_listening, follow_controller] {
        let shared = Arc::clone(&shared);
        thread::spawn(move || task(&shared));
    }
    let (mut watches, no_more) = (vec![], from_guard.as_raw_fd());
    while let Ok(Some(Message { bytes, descriptors, .. })) = handshake::receive(from_guard.as_fd()) {
        let Some((session, pid, name)) = parse_session(&bytes) else { continue };
        let mut descriptors = descriptors.into_iter();
        let (Some(listener), Some(connection)) = (descriptors.next(), descriptors.next()) else { continue };
        if session as usize >= MAX_SESSIONS {
            // Dropping the connection makes the stub give up: a clear failure instead of an unseen program.
            shared.telling.lose(&format!("`{name}` was not observed: more than {MAX_SESSIONS} programs were started"));
            continue;
        }
        if kernel::set_synchronous_wake_up(listener.as_fd()).is_err() {
            shared.telling.note_once("this kernel has no synchronous wake-up for seccomp (before 6.6): the target runs slower");
        }
        if let Some(reason) = kernel::memory_refusal(pid) {
            shared.telling.tell(&Record::Blind(reason));
        }
        shared.telling.tell(&Record::Session { session: session + 1, name, pid: place::number_inside(pid) });
        let shared = Arc::clone(&shared);
        watches.push(thread::spawn(move || {
            // Else the thread that is let go on often runs before this one waits again, which looks as if its CPU had too much
            // to do: what it executes is sent to another CPU, and this after it. That costs more than all that is done here.
            let _ = kernel::take_short_turns();
            // The stub has read /etc/passwd: told later, when it has become the program, that would be the program's doing.
            if let Some(opens) = &shared.opens {
                opens.drain(&shared.telling);
            }
            // The stub goes on as soon as somebody serves its calls.
            let _ = handshake::send(connection.as_fd(), b"ready", &[]);
            drop(connection);
            Watch::new(&shared, session, pid, listener).serve();
            if place::is_outside() && session == 0 {
                // The container is over, and we are not killed with it.
                let _ = shutdown(no_more, Shutdown::Read);
            }
        }));
    }
    // No stub comes any more (the guard may have been killed), but who is watched would fail without us.
    for watch in watches {
        let _ = watch.join();
    }
    0
}

/// What the guard says of a stub: its number, its process, its name.
fn parse_session(message: &[u8]) -> Option<(u32, i32, String)> {
    let (session, rest) = message.split_first_chunk()?;
    let (pid, name) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*session), i32::from_le_bytes(*pid), String::from_utf8_lossy(name).into_owned()))
}

fn follow_opens(shared: &Shared) {
    if let Some(opens) = &shared.opens {
        opens.follow(&shared.telling, !shared.notify);
    }
}

fn follow_listening(shared: &Shared) {
    shared.listening.follow(&shared.telling);
}

/// Follows the controller's orders. Their end only means that it says nothing more.
fn follow_controller(shared: &Shared) {
    read_orders(shared);
    shared.arrival.settle();
}

/// Reads the controller's frames from standard input.
fn read_orders(shared: &Shared) {
    let stdin = std::io::stdin();
    let input: BorrowedFd<'_> = stdin.as_fd();
    let Ok(mut input) = input.try_clone_to_owned().map(std::fs::File::from) else { return };
    let (mut frames, mut buffer) = (FrameReader::default(), [0; 4096]);
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => frames.feed(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        loop {
            match frames.next_frame().and_then(|frame| frame.map(|frame| frame.message::<Control>()).transpose()) {
                Ok(Some(Control::Phase(phase))) => {
                    // What was opened until now belongs to the phase that ends.
                    if let Some(opens) = &shared.opens {
                        opens.drain(&shared.telling);
                    }
                    shared.telling.tell(&Record::Phase(phase));
                }
                Ok(Some(Control::End)) => shared.end(EndReason::Asked),
                Ok(Some(Control::EndArrived)) => shared.arrival.settle(),
                Ok(Some(Control::Signals)) => {
                    shared.telling.tell(&Record::Signals(process::heeded_signals(place::first())));
                }
                Ok(None) => break,
                Err(error) => {
                    shared.telling.lose(&format!("the controller sent what is no order: {error}"));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_are_nothing_that_is_refused() {
        assert_eq!(thread::spawn(kernel::take_short_turns).join().expect("thread"), Ok(()));
    }

    #[test]
    fn a_short_message_is_no_session() {
        assert_eq!(parse_session(&[1, 0, 0, 0, 7, 0, 0, 0, b'a']), Some((1, 7, "a".into())));
        assert_eq!(parse_session(&[1, 0, 0, 0, 7]), None);
    }
}
