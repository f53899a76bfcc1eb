//! Gathers what monitors tell into one observation.
//!
//! A run may have several containers (a command that is probed after the target has ended gets one of its own), each with
//! a monitor that numbers processes by itself; the observation numbers them all anew. Phases are numbered here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slim_sensor::calls::{Abi, HERE};
use slim_sensor::wire::Record;

use super::observation::{Access, Counters, End, Fanotify, Header, Mount, Observation, PathUse, Phase, PhaseKind, Process};

/// See the module. Clones share what they gather.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    phases: Vec<Phase>,
    processes: Vec<Process>,
    uses: Vec<PathUse>,
    mounts: Vec<Mount>,
    answers: Vec<serde_json::Value>,
    syscalls: BTreeSet<u32>,
    compat_syscalls: BTreeSet<u32>,
    counters: Counters,
    losses: Vec<String>,
    notes: BTreeSet<String>,
    fanotify: Option<Fanotify>,
    tail_unknown: bool,
    executed: BTreeMap<Vec<u8>, u64>,
    exit_code: Option<i64>,
}

/// The records of one monitor on their way into the recorder.
#[derive(Debug)]
pub struct Feed {
    recorder: Recorder,
    /// This monitor's numbers of processes, as indexes of ours.
    processes: HashMap<u32, u32>,
    phase: u32,
}

impl Recorder {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a new phase.
    pub fn phase(&self, kind: PhaseKind, name: &str) -> u32 {
        let mut gathered = self.gathered();
        gathered.phases.push(Phase { kind, name: name.to_owned() });
        gathered.phases.len() as u32 - 1
    }

    /// A way in for the records of one monitor, which is in `phase`.
    #[must_use]
    pub fn feed(&self, phase: u32) -> Feed {
        Feed { recorder: self.clone(), processes: HashMap::new(), phase }
    }

    /// Says what is mounted in the observed container.
    pub fn mounts(&self, mounts: Vec<Mount>) {
        self.gathered().mounts = mounts;
    }

    /// Adds the answer of a probe.
    pub fn answer(&self, answer: serde_json::Value) {
        self.gathered().answers.push(answer);
    }

    /// Says that evidence was lost.
    pub fn lose(&self, what: String) {
        self.gathered().losses.push(what);
    }

    /// Says that the target's last moment is unknown to the second sense.
    pub fn tail_unknown(&self) {
        self.gathered().tail_unknown = true;
    }

    /// Says how the target ended.
    pub fn exit_code(&self, code: i64) {
        self.gathered().exit_code = Some(code);
    }

    /// What was lost so far, in words.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        self.gathered().losses.clone()
    }

    /// How often each program was executed, by the path as it was written.
    #[must_use]
    pub fn executed(&self) -> BTreeMap<Vec<u8>, u64> {
        let gathered = self.gathered();
        // A monitor tells the number only where it is more than one.
        let once = gathered.uses.iter().filter(|path_use| path_use.access == Access::Exec);
        let mut executed: BTreeMap<Vec<u8>, u64> = once.map(|path_use| (path_use.path.clone(), 1)).collect();
        executed.extend(gathered.executed.clone());
        executed
    }

    /// The observation; the recorder is empty then.
    #[must_use]
    pub fn finish(&self, header: impl FnOnce(Fanotify) -> Header) -> Observation {
        let gathered = std::mem::take(&mut *self.gathered());
        let header = header(gathered.fanotify.unwrap_or(Fanotify::Off));
        let mut syscalls = BTreeSet::new();
        if header.notify {
            syscalls.extend(HERE.native.hot_names().map(str::to_owned));
            syscalls.extend(names(HERE.native, &gathered.syscalls));
            // No program ends without a call that is trapped: where there is none, no 32-bit program ran.
            if !gathered.compat_syscalls.is_empty() {
                syscalls.extend(HERE.compat.hot_names().map(str::to_owned));
                syscalls.extend(names(HERE.compat, &gathered.compat_syscalls));
            }
        }
        Observation {
            header,
            phases: gathered.phases,
            processes: gathered.processes,
            uses: gathered.uses,
            mounts: gathered.mounts,
            answers: gathered.answers,
            syscalls,
            end: End {
                complete: gathered.losses.is_empty() && gathered.counters.lost == 0,
                tail_unknown: gathered.tail_unknown,
                counters: gathered.counters,
                losses: gathered.losses,
                notes: gathered.notes.into_iter().collect(),
                exit_code: gathered.exit_code,
            },
        }
    }
}

impl Feed {
    /// Takes a record.
    pub fn record(&mut self, record: &Record) {
        let recorder = self.recorder.clone();
        let mut gathered = recorder.gathered();
        match record {
            Record::Hello { fanotify, .. } => {
                if let Fanotify::Refused(reason) = fanotify {
                    gathered.notes.insert(format!("fanotify is refused here ({reason}): what only the kernel opens is not seen"));
                }
                gathered.fanotify.get_or_insert_with(|| fanotify.clone());
            }
            Record::Process { id, pid, parent, executable, command, .. } => {
                let words = command.split(|&byte| byte == 0).filter(|word| !word.is_empty());
                let command = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                let (pid, parent, executable) = (*pid, *parent, executable.clone());
                gathered.processes.push(Process { pid, parent, executable, command });
                self.processes.insert(*id, gathered.processes.len() as u32 - 1);
            }
            Record::Path { process, access, sense, root, base, path } => {
                let Some(&process) = self.processes.get(process) else {
                    gathered.losses.push(format!("a path was used by process {process}, which was never told"));
                    return;
                };
                gathered.uses.push(PathUse {
                    path: path.clone(),
                    base: base.clone(),
                    root: root.clone(),
                    access: *access,
                    sense: *sense,
                    process,
                    phase: self.phase,
                });
            }
            Record::Executed { path, times } => *gathered.executed.entry(path.clone()).or_default() += times,
            Record::Phase(phase) => self.phase = (*phase).min(gathered.phases.len().saturating_sub(1) as u32),
            Record::Note(note) => drop(gathered.notes.insert(note.clone())),
            Record::Lost(what) => gathered.losses.push(what.clone()),
            Record::Call { number, is_compat: false } => drop(gathered.syscalls.insert(*number)),
            Record::Call { number, is_compat: true } => drop(gathered.compat_syscalls.insert(*number)),
            Record::End { counters, .. } => {
                let sum = &mut gathered.counters;
                sum.received += counters.received;
                sum.resolved += counters.resolved;
                sum.opens += counters.opens;
                sum.lost += counters.lost;
            }
            Record::Listening(_) | Record::Signals(_) | Record::Blind(_) | Record::Session { .. } | Record::SessionEnd { .. } => {
            }
        }
    }
}

/// Names of calls; the number where there is none.
fn names(abi: Abi, numbers: &BTreeSet<u32>) -> impl Iterator<Item = String> {
    numbers.iter().map(move |&number| abi.name(number).map_or_else(|| number.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::observation::{Access, Sense};
    use slim_sensor::wire::EndReason;

    fn header(fanotify: Fanotify) -> Header {
        let text = String::new;
        Header { tool: text(), image: text(), name: text(), architecture: text(), options: vec![], notify: true, fanotify }
    }

    #[test]
    fn two_monitors_make_one_observation() {
        let recorder = Recorder::default();
        let start = recorder.phase(PhaseKind::Start, "");
        let probe = recorder.phase(PhaseKind::Exec, "ls");
        let process = |executable: &str| Record::Process {
            id: 1,
            pid: 1,
            parent: 0,
            session: 1,
            executable: executable.into(),
            command: b"a\0b c\0".to_vec(),
        };
        let path = |process| Record::Path {
            process,
            access: Access::Open,
            sense: Sense::Notify,
            root: vec![],
            base: vec![],
            path: b"/x".to_vec(),
        };
        let number = |abi: Abi, name| (0..1000).find(|&number| abi.name(number) == Some(name)).unwrap();
        let end =
            |lost| Record::End { reason: EndReason::TargetExit, counters: Counters { received: 2, resolved: 2, opens: 1, lost } };
        let call = Record::Call { number: number(HERE.native, "openat"), is_compat: false };
        let compat_call = Record::Call { number: number(HERE.compat, "stat64"), is_compat: true };
        let mut first = recorder.feed(start);
        let mut second = recorder.feed(start);
        [process("/a"), path(1), Record::Phase(probe), path(1), end(0)].iter().for_each(|record| first.record(record));
        [process("/b"), path(1), call, compat_call, end(0)].iter().for_each(|record| second.record(record));
        let observation = recorder.finish(header);
        let uses: Vec<_> = observation.uses.iter().map(|path| (path.process, path.phase)).collect();
        assert_eq!(uses, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(observation.processes[1].command, ["a", "b c"]);
        assert_eq!(observation.end.counters.received, 4);
        assert!(observation.end.complete);
        assert!(observation.syscalls.contains("openat") && observation.syscalls.contains("read"));
        assert!(["stat64", "_llseek"].iter().all(|&name| observation.syscalls.contains(name)), "of 32-bit programs");

        let mut feed = recorder.feed(0);
        feed.record(&path(9));
        assert!(!recorder.finish(header).end.complete, "a path without its process");
        recorder.feed(0).record(&end(1));
        assert!(!recorder.finish(header).end.complete, "a counted loss");

        recorder.feed(0).record(&Record::Call { number: number(HERE.native, "openat"), is_compat: false });
        let blind = recorder.finish(|fanotify| Header { notify: false, ..header(fanotify) });
        assert_eq!(blind.syscalls, BTreeSet::new(), "calls that were not watched are not known");
    }
}
