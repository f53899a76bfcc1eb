//! Whether the last record has arrived at the controller. The target's end is the container's, and an engine may cut the
//! streams of a container that ends (Podman does, where input is on its way), so the target is let end only then.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long the target's end is held at most: the controller may have been stopped. It answers within milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// It has, or nobody is there to say so.
    is_settled: Mutex<bool>,
    changed: Condvar,
}

impl Arrival {
    /// The controller says so, or says nothing more.
    pub(super) fn settle(&self) {
        *self.is_settled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until that is settled, but not for longer than this.
    pub(super) fn wait(&self, patience: Duration) {
        let is_settled = self.is_settled.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.changed.wait_timeout_while(is_settled, patience, |is_settled| !*is_settled);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn is_waited_for_but_not_for_ever() {
        let arrival = Arrival::default();
        let short = Duration::from_millis(20);
        let begun = Instant::now();
        arrival.wait(short);
        assert!(begun.elapsed() >= short);
        let (arrival, long) = (&arrival, Duration::from_secs(600));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| arrival.wait(long));
            scope.spawn(|| arrival.settle());
        });
        // And once more, after the fact.
        arrival.wait(long);
        assert!(begun.elapsed() < long);
    }
}
