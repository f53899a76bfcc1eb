//! What has been told: records to the controller, each use of a path once.
//!
//! Programs use the same paths in the same way over and over. A use is told the first time that a *program* (an
//! executable, in however many processes) uses that path in that way; later ones cost a look into a set. One lock keeps
//! the order: who returns from here has its record written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::{HashMap, HashSet};

use super::{place, process};
use crate::calls::{Abi, HERE};
use crate::wire::{Access, Counters, EndReason, Record, Sense, put_message};

/// No kernel has so many calls: numbers beyond have no meaning, and are not told.
const MAX_CALLS: usize = 4096;
/// So many paths are counted by their executions: a program that is restarted over and over is among the first.
const MAX_EXECUTED: usize = 4096;
/// So many of them are told.
const MAX_EXECUTED_TOLD: usize = 64;

/// A use of a path by a thread of some process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used<'a> {
    pub(super) access: Access,
    pub(super) sense: Sense,
    pub(super) root: &'a [u8],
    pub(super) base: &'a [u8],
    pub(super) path: &'a [u8],
}

/// Who uses it.
#[derive(Debug, Clone, Copy)]
pub(super) struct User<'a> {
    pub(super) session: u32,
    pub(super) process: i32,
    pub(super) program: &'a Program,
}

/// An executable, numbered.
#[derive(Debug, Clone)]
pub(super) struct Program {
    number: u32,
    executable: Arc<[u8]>,
}

impl Program {
    /// Its path.
    pub(super) fn executable(&self) -> &[u8] {
        &self.executable
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Telling {
    state: Mutex<State>,
    // Of these no order has to be kept.
    received: AtomicU64,
    resolved: AtomicU64,
    opens: AtomicU64,
    called: Called,
}

/// The calls that were told, a bit for each number of each ABI.
#[derive(Debug)]
struct Called([[AtomicU64; MAX_CALLS / 64]; 4]);

impl Default for Called {
    fn default() -> Called {
        Called(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Called {
    /// Where a call's bit is, and which.
    fn bit(&self, abi: Abi, number: u32) -> Option<(&AtomicU64, u64)> {
        let word = self.0[abi as usize].get(number as usize / 64)?;
        Some((word, 1 << (number % 64)))
    }
}

#[derive(Debug, Default)]
struct State {
    /// Standard output; `None` before the first record, and again when the controller is gone.
    output: Option<File>,
    broken: bool,
    buffer: Vec<u8>,
    key: Vec<u8>,
    seen: HashSet<Box<[u8]>>,
    /// Executables, and their numbers.
    programs: HashMap<Arc<[u8]>, u32>,
    /// The record of a program in a process.
    processes: HashMap<(i32, u32), u32>,
    notes: BTreeSet<&'static str>,
    /// How often each path was executed, as far as they are few.
    executed: HashMap<Box<[u8]>, u64>,
    lost: u64,
    ended: bool,
}

impl Telling {
    /// A thread that panicked has at worst cut its own record; the others must go on, or the target would stand still.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record.
    pub(super) fn tell(&self, record: &Record) {
        self.state().write(record);
    }

    /// Counts a trapped call.
    pub(super) fn count(&self, abi: Abi, number: u32, resolved: bool) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.resolved.fetch_add(u64::from(resolved), Ordering::Relaxed);
        let Some((word, bit)) = self.called.bit(abi, number) else { return };
        if word.load(Ordering::Acquire) & bit == 0 {
            // Told at once: a program that is killed may take us with it before the end. The bit says that it was told.
            let mut state = self.state();
            if word.load(Ordering::Acquire) & bit == 0 {
                state.write(&Record::Call { number, is_compat: abi == HERE.compat });
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    /// Counts an event of fanotify.
    pub(super) fn count_open(&self) {
        self.opens.fetch_add(1, Ordering::Relaxed);
    }

    /// A program by its executable.
    pub(super) fn program(&self, executable: &[u8]) -> Program {
        self.state().program(executable)
    }

    /// Tells that evidence was lost.
    pub(super) fn lose(&self, what: &str) {
        let mut state = self.state();
        state.lost += 1;
        state.write(&Record::Lost(what.to_owned()));
    }

    /// Tells something about this kernel that is no loss, once.
    pub(super) fn note_once(&self, note: &'static str) {
        let mut state = self.state();
        if state.notes.insert(note) {
            state.write(&Record::Note(note.to_owned()));
        }
    }

    /// Tells a use, unless the same was told of the same program; a new one only where it `is_true`.
    pub(super) fn used(&self, user: User<'_>, used: Used<'_>, is_true: impl FnOnce() -> bool) {
        let mut state = self.state();
        if used.access == Access::Exec && used.sense == Sense::Notify {
            state.executed(used.path);
        }
        let mut key = std::mem::take(&mut state.key);
        key.clear();
        key.extend_from_slice(&user.program.number.to_le_bytes());
        key.extend_from_slice(&[used.access as u8, used.sense as u8]);
        for part in [used.root, used.base, used.path] {
            key.extend_from_slice(part);
            key.push(0);
        }
        if !state.seen.contains(key.as_slice()) && is_true() {
            state.seen.insert(key.as_slice().into());
            let process = state.process(user);
            state.write(&Record::Path {
                process,
                access: used.access,
                sense: used.sense,
                root: used.root.to_vec(),
                base: used.base.to_vec(),
                path: used.path.to_vec(),
            });
        }
        state.key = key;
    }

    /// Writes the last record; only the first call does.
    pub(super) fn end(&self, reason: EndReason) {
        let mut state = self.state();
        if !state.ended {
            state.ended = true;
            let counters = Counters {
                received: self.received.load(Ordering::Relaxed),
                resolved: self.resolved.load(Ordering::Relaxed),
                opens: self.opens.load(Ordering::Relaxed),
                lost: state.lost,
            };
            let mut executed: Vec<_> = std::mem::take(&mut state.executed).into_iter().filter(|(_, times)| *times > 1).collect();
            executed.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
            for (path, times) in executed.into_iter().take(MAX_EXECUTED_TOLD) {
                state.write(&Record::Executed { path: path.into(), times });
            }
            state.write(&Record::End { reason, counters });
        }
    }
}

impl State {
    /// Counts an execution.
    fn executed(&mut self, path: &[u8]) {
        if let Some(times) = self.executed.get_mut(path) {
            *times += 1;
        } else if self.executed.len() < MAX_EXECUTED {
            self.executed.insert(path.into(), 1);
        }
    }

    fn program(&mut self, executable: &[u8]) -> Program {
        if let Some((executable, &number)) = self.programs.get_key_value(executable) {
            return Program { number, executable: Arc::clone(executable) };
        }
        let program = Program { number: self.programs.len() as u32, executable: executable.into() };
        self.programs.insert(Arc::clone(&program.executable), program.number);
        program
    }

    /// The record number of a program in a process; told when it is new.
    fn process(&mut self, user: User<'_>) -> u32 {
        let key = (user.process, user.program.number);
        if let Some(&id) = self.processes.get(&key) {
            return id;
        }
        let id = self.processes.len() as u32 + 1;
        self.processes.insert(key, id);
        // A stub that becomes the program: its own command line and parent are ours, not the program's.
        let (command, parent) = match user.program.executable() {
            [] => (vec![], 0),
            _ => (process::command_line(user.process), process::status(user.process).map_or(0, |status| status.parent)),
        };
        let (pid, parent, session) = (place::number_inside(user.process), place::number_inside(parent), user.session);
        self.write(&Record::Process { id, pid, parent, session, executable: user.program.executable.to_vec(), command });
        id
    }

    /// Writes and, as standard output is a pipe, hands over to the engine. Nobody reading any more is no reason to stop
    /// serving the target.
    fn write(&mut self, record: &Record) {
        if self.broken {
            return;
        }
        if self.output.is_none() {
            self.output = std::io::stdout().as_fd().try_clone_to_owned().ok().map(File::from);
        }
        self.buffer.clear();
        put_message(&mut self.buffer, record);
        self.broken = self.output.as_mut().is_none_or(|output| output.write_all(&self.buffer).is_err());
    }
}
