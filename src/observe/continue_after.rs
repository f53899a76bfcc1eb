//! What an observation waits for before the target is stopped (`--continue-after`).

use std::time::Duration;

/// What is waited for: all that is set. Probes and commands that were asked for run in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContinueAfter {
    /// The HTTP probes are done.
    pub probe: bool,
    /// The commands are done.
    pub exec: bool,
    /// So much time has passed after everything else.
    pub timeout: Option<Duration>,
    /// The target has ended by itself.
    pub app_exit: bool,
}
