//! Which program each process runs, as the first sense tells the second.
//!
//! fanotify names the process of an event, which may be gone when the event is read; and the first look at a process in /proc
//! costs as much as reading several events. The first sense has looked already, knows when a process becomes another program,
//! and when it ends. A process is kept until the events that it left are read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All are dropped at this size: processes that were killed stay in it.
const MAX_PROCESSES: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Running {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    executables: HashMap<i32, Arc<[u8]>>,
    ended: Vec<i32>,
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process runs this.
    pub(super) fn runs(&self, process: i32, executable: Arc<[u8]>) {
        let mut state = self.state();
        if state.executables.len() >= MAX_PROCESSES {
            state.executables.clear();
        }
        state.executables.insert(process, executable);
    }

    /// A process is about to become another program.
    pub(super) fn changes(&self, process: i32) {
        self.state().executables.remove(&process);
    }

    /// A process is about to end.
    pub(super) fn ends(&self, process: i32) {
        let mut state = self.state();
        if state.executables.contains_key(&process) {
            state.ended.push(process);
        }
    }

    /// What a process runs or has run to its end, where that is known.
    pub(super) fn executable(&self, process: i32) -> Option<Arc<[u8]>> {
        self.state().executables.get(&process).cloned()
    }

    /// The processes that have ended until now: their events can all be read.
    pub(super) fn take_ended(&self) -> Vec<i32> {
        std::mem::take(&mut self.state().ended)
    }

    /// The events of these were read.
    pub(super) fn forget(&self, processes: &[i32]) {
        let mut state = self.state();
        for process in processes {
            state.executables.remove(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_its_events_are_read() {
        let running = Running::default();
        running.runs(7, (*b"/bin/a").into());
        running.runs(8, (*b"/bin/b").into());
        running.ends(7);
        running.ends(9);
        let ended = running.take_ended();
        running.ends(8);
        assert_eq!(ended, [7]);
        assert_eq!(running.executable(7).as_deref(), Some(&b"/bin/a"[..]));
        running.forget(&ended);
        assert_eq!((running.executable(7), running.take_ended()), (None, vec![8]));
        running.changes(8);
        assert_eq!(running.executable(8), None);
    }
}
