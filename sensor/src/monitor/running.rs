//! Which program each process runs, as the first sense tells the second.
//!
//! fanotify names the process of an event, which may be gone when the event is read; and the first look at a process in /proc
//! costs as much as reading several events. The first sense has looked already, knows when a process becomes another program,
//! and when it ends. A process is kept until the events that it left are read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use super::telling::Program;

/// All are dropped at this size: processes that were killed stay in it.
const MAX_PROCESSES: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Running {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    programs: HashMap<i32, Program>,
    ended: Vec<i32>,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process runs this.
    pub(super) fn runs(&self, process: i32, program: Program) {
        let mut state = self.state();
        if state.programs.len() >= MAX_PROCESSES {
            state.programs.clear();
        }
        state.programs.insert(process, program);
    }

    /// A process is about to become another program.
    pub(super) fn changes(&self, process: i32) {
        self.state().programs.remove(&process);
    }

    /// A process is about to end.
    pub(super) fn ends(&self, process: i32) {
        let mut state = self.state();
        if state.programs.contains_key(&process) {
            state.ended.push(process);
        }
    }

    /// What a process runs or has run to its end, where that is known.
    pub(super) fn program(&self, process: i32) -> Option<Program> {
        self.state().programs.get(&process).cloned()
    }

    /// The processes that have ended until now: their events can all be read.
    pub(super) fn take_ended(&self) -> Vec<i32> {
        std::mem::take(&mut self.state().ended)
    }

    /// The events of these were read.
    pub(super) fn forget(&self, processes: &[i32]) {
        let mut state = self.state();
        for process in processes {
            state.programs.remove(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::telling::Telling;
    use super::*;

    #[test]
    fn a_process_is_known_until_its_events_are_read() {
        let (running, telling) = (Running::default(), Telling::default());
        let known = |process| running.program(process).map(|program| program.executable().to_vec());
        running.runs(7, telling.program(b"/bin/a"));
        running.runs(8, telling.program(b"/bin/b"));
        running.ends(7);
        running.ends(9);
        let ended = running.take_ended();
        running.ends(8);
        assert_eq!(ended, [7]);
        assert_eq!(known(7).as_deref(), Some(&b"/bin/a"[..]));
        running.forget(&ended);
        assert_eq!((known(7), running.take_ended()), (None, vec![8]));
        running.changes(8);
        assert_eq!(known(8), None);
    }
}
