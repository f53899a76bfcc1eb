//! Which process each thread that makes calls belongs to, and which program that runs.
//!
//! /proc tells both, but the first look at a process there costs more than all else that is done about a short-lived one.
//! So it is looked at only where neither of two ways leads to what is known already:
//!
//! * Who was never seen before has executed nothing (that is trapped), so it runs what its parent ran ([`Origins`]).
//! * Who has executed a path runs what the last one ran who did, as long as nothing can have changed what the path means:
//!   no file was written, made, renamed or removed, nothing mounted, no root changed. All these calls are trapped. They
//!   take effect only after they were seen, so a path's meaning is learnt only when the last of them is long ago; and it
//!   must be a binary (what runs a script is in its text). Where an execution fails, the mark of the old program is still
//!   there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::opens::Opens;
use super::origin::{Mark, Origins};
use super::process;
use super::telling::{Program, Telling};

/// What is known is dropped at this size: ids of threads that were killed stay in it.
const MAX_THREADS: usize = 1 << 16;
/// Of so many paths the meaning is known.
const MAX_MEANINGS: usize = 1 << 10;
/// A call that changes files has had its effect after this.
const SETTLED: Duration = Duration::from_secs(1);

/// Of all sessions: what one changes another may execute.
static CHANGES: Changes = Changes { count: AtomicU64::new(0), last: AtomicU64::new(0) };
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Threads {
    known: HashMap<i32, Thread>,
    /// Processes that have made no call since they were about to become another program.
    executing: HashMap<i32, Executing>,
    meanings: HashMap<Box<[u8]>, Meaning>,
    origins: Origins,
}

/// What is known of a thread until its process executes something.
#[derive(Debug, Clone)]
pub(super) struct Thread {
    pub(super) process: i32,
    pub(super) program: Program,
    mark: Option<Mark>,
}

#[derive(Debug)]
struct Executing {
    before: Option<Thread>,
    next: Next,
}

/// What is known of the program that a process becomes.
#[derive(Debug)]
enum Next {
    Unknown,
    /// This, if nothing is changed until it has become it.
    Known {
        program: Program,
        changes: u64,
    },
    /// Nothing yet, but it can be learnt what the path means.
    Learnt {
        path: Box<[u8]>,
        changes: u64,
    },
}

/// What a path executes.
#[derive(Debug)]
struct Meaning {
    /// `None`: it's not a binary.
    program: Option<Program>,
    /// It was so after so many changes.
    changes: u64,
}

/// The calls so far that may have changed what a path means.
#[derive(Debug)]
struct Changes {
    count: AtomicU64,
    /// When the last was, in milliseconds since the beginning; 0: never.
    last: AtomicU64,
}

impl Changes {
    fn note(&self) {
        self.last.store(BEGUN.elapsed().as_millis() as u64 + 1, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Whether all of them have had their effect.
    fn are_settled(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        last.is_zero() || BEGUN.elapsed() > last + SETTLED
    }
}

/// A call is about to change what is at this path, or below it.
pub(super) fn note_change(path: &[u8]) {
    // Where shell scripts write to all the time.
    if path != b"/dev/null" {
        CHANGES.note();
    }
}

impl Threads {
    /// What is known of a thread, now at the latest; it waits in a call. `None`: it is gone.
    pub(super) fn of(&mut self, id: i32, telling: &Telling, opens: Option<&Opens>) -> Option<&Thread> {
        if !self.known.contains_key(&id) {
            let thread = match self.executing.remove(&id) {
                Some(executing) => self.after_execution(id, executing, telling),
                None => self.first_seen(id, telling)?,
            };
            if let Some(opens) = opens {
                opens.running.runs(thread.process, thread.program.clone());
            }
            if self.known.len() >= MAX_THREADS {
                self.known.clear();
            }
            self.known.insert(id, thread);
        }
        self.known.get(&id)
    }

    fn first_seen(&mut self, id: i32, telling: &Telling) -> Option<Thread> {
        if let Some((program, mark)) = self.origins.find(id) {
            return Some(Thread { process: process::process_of(id)?, program, mark: Some(mark) });
        }
        let program = executed(id, telling);
        let process = process::process_of(id)?;
        let mark = self.origins.learn(id, &program);
        Some(Thread { process, program, mark })
    }

    fn after_execution(&mut self, process: i32, executing: Executing, telling: &Telling) -> Thread {
        let has_failed = executing.before.as_ref().and_then(|before| before.mark?.is_in(process));
        if let Some(before) = executing.before.filter(|_| has_failed == Some(true)) {
            return before;
        }
        let program = match executing.next {
            Next::Known { program, changes } if has_failed == Some(false) && changes == CHANGES.count() => program,
            Next::Learnt { path, changes } => {
                let program = executed(process, telling);
                let is_binary = is_executed(process, &path);
                if changes == CHANGES.count() {
                    if self.meanings.len() >= MAX_MEANINGS {
                        self.meanings.clear();
                    }
                    let meaning = Meaning { program: is_binary.then(|| program.clone()), changes };
                    self.meanings.insert(path, meaning);
                }
                program
            }
            _ => executed(process, telling),
        };
        Thread { process, program, mark: None }
    }

    /// The process of a thread.
    pub(super) fn process_of(&self, id: i32) -> Option<i32> {
        match self.known.get(&id) {
            Some(thread) => Some(thread.process),
            None if self.executing.contains_key(&id) => Some(id),
            None => process::process_of(id),
        }
    }

    /// A thread is about to make its process another program, by this path where it means the same to all. The process.
    pub(super) fn executes(&mut self, id: i32, path: Option<&[u8]>) -> Option<i32> {
        let before = self.known.get(&id).cloned();
        let process = self.forget_process(id)?;
        // Of another thread than the first, the number ends with the old program.
        if process == id {
            if self.executing.len() >= MAX_THREADS {
                self.executing.clear();
            }
            let next = path.map_or(Next::Unknown, |path| self.next(path));
            self.executing.insert(process, Executing { before, next });
        }
        Some(process)
    }

    fn next(&self, path: &[u8]) -> Next {
        // There a path means what somebody else runs.
        if path.starts_with(b"/proc/") {
            return Next::Unknown;
        }
        let changes = CHANGES.count();
        match self.meanings.get(path).filter(|meaning| meaning.changes == changes) {
            Some(meaning) => meaning.program.clone().map_or(Next::Unknown, |program| Next::Known { program, changes }),
            None if CHANGES.are_settled() => Next::Learnt { path: path.into(), changes },
            None => Next::Unknown,
        }
    }

    /// A thread ends; its process.
    pub(super) fn forget(&mut self, id: i32) -> Option<i32> {
        let process = self.process_of(id);
        self.known.remove(&id);
        self.executing.remove(&id);
        process
    }

    /// The process of a thread; what is known of all its threads is about to be wrong.
    pub(super) fn forget_process(&mut self, id: i32) -> Option<i32> {
        let process = self.process_of(id)?;
        self.executing.remove(&process);
        self.known.retain(|_, thread| thread.process != process);
        Some(process)
    }
}

/// The program of a process, as /proc tells it.
fn executed(process: i32, telling: &Telling) -> Program {
    telling.program(&process::link(process, "exe").unwrap_or_default())
}

/// Whether a path of a process is that of the file that it runs.
fn is_executed(process: i32, path: &[u8]) -> bool {
    let file = |path: PathBuf| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let folder = PathBuf::from(format!("/proc/{process}"));
    let named = folder.join("root").join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
    file(folder.join("exe")).is_some_and(|executed| file(named) == Some(executed))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Child, ChildStdin, Command, Stdio};

    use super::*;

    /// A shell that becomes `cat` when it is told to.
    fn shell() -> (Child, ChildStdin, i32) {
        let mut shell = Command::new("/bin/sh");
        let shell = shell.args(["-c", "echo; read line; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("sh");
        let (input, id) = (shell.stdin.take().expect("input"), shell.id() as i32);
        // Until it runs.
        shell.stdout.as_mut().expect("output").read_exact(&mut [0]).expect("line");
        (shell, input, id)
    }

    #[test]
    fn a_program_is_known_after_the_first_of_its_path() {
        let (mut threads, telling) = (Threads::default(), Telling::default());
        let cat = ["/usr/bin/cat", "/bin/cat"].into_iter().find(|path| std::fs::exists(path).is_ok_and(|is| is)).expect("cat");
        let mut ways = vec![];
        for (changes, executes) in [(false, true), (false, true), (false, false), (true, true), (false, true)] {
            let (mut child, mut input, id) = shell();
            let before = threads.of(id, &telling, None).expect("shell").clone();
            threads.origins = Origins::default();
            assert_eq!((before.process, before.mark.is_some()), (id, true));
            if changes {
                note_change(b"/etc/passwd");
            }
            assert_eq!(threads.executes(id, Some(cat.as_bytes())), Some(id));
            ways.push(match threads.executing[&id].next {
                Next::Unknown => "unknown",
                Next::Known { .. } => "known",
                Next::Learnt { .. } => "learnt",
            });
            if executes {
                let shell = process::link(id, "exe");
                input.write_all(b"\n").expect("write");
                while process::link(id, "exe") == shell {
                    std::thread::yield_now();
                }
            }
            let after = threads.of(id, &telling, None).expect("known").clone();
            let really = process::link(id, "exe").expect("exe");
            assert_eq!((after.process, after.program.executable()), (id, really.as_slice()));
            assert_eq!(threads.forget_process(id), Some(id));
            drop(input);
            child.wait().expect("end");
        }
        assert_eq!(ways, ["learnt", "known", "known", "unknown", "unknown"]);
        assert!(matches!(threads.next(b"/proc/1/exe"), Next::Unknown));
    }
}
