//! What differs between two runs of one image, and so says nothing about another.

use slim_probes::compare::{Mask, Side};

use super::judge::own;
use super::shown::Shown;
use crate::observe::run::{Listening, RunEnd};

/// Learnt from further runs of the image that is expected; empty at first.
#[derive(Debug, Clone, Default)]
pub struct Noise {
    /// By number of request.
    http: Vec<Mask>,
    /// By number of command.
    commands: Vec<Mask>,
    /// Of the health check.
    pub(super) health: Mask,
    /// Ports that only one of the runs listened on.
    pub(super) ports: Vec<Listening>,
    /// The exit code after the stop signal.
    pub(super) exit_code: bool,
}

impl Noise {
    /// Learns from another run. `expected` must be the run that is compared with later.
    pub fn learn(&mut self, expected: &Shown, again: &Shown) {
        let (own_expected, own_again) = (own(expected), own(again));
        fn both<'a, T>(
            expected: &'a T,
            again: &'a T,
            own: (&'a slim_probes::compare::Own, &'a slim_probes::compare::Own),
        ) -> (Side<'a, T>, Side<'a, T>) {
            (Side { record: expected, own: own.0 }, Side { record: again, own: own.1 })
        }
        let owns = (&own_expected, &own_again);
        self.http.resize_with(expected.http.len(), Mask::default);
        for (mask, (expected, again)) in self.http.iter_mut().zip(expected.http.iter().zip(&again.http)) {
            let (expected, again) = both(&expected.outcome, &again.outcome, owns);
            mask.learn_http(expected, again);
        }
        self.commands.resize_with(expected.commands.len(), Mask::default);
        for (mask, (expected, again)) in self.commands.iter_mut().zip(expected.commands.iter().zip(&again.commands)) {
            let (expected, again) = both(expected, again, owns);
            mask.learn_exec(expected, again);
        }
        if let (Some(expected), Some(again)) = (&expected.health, &again.health) {
            let (expected, again) = both(expected, again, owns);
            self.health.learn_exec(expected, again);
        }
        if let (Some(expected), Some(again)) = (&expected.course, &again.course) {
            self.ports.extend(expected.listening.symmetric_difference(&again.listening));
            self.exit_code |= exit_code(&expected.end) != exit_code(&again.end);
        }
    }

    /// Of the request with this number.
    #[must_use]
    pub fn http(&self, number: usize) -> Mask {
        self.http.get(number).cloned().unwrap_or_default()
    }

    /// Of the command with this number.
    #[must_use]
    pub fn command(&self, number: usize) -> Mask {
        self.commands.get(number).cloned().unwrap_or_default()
    }
}

fn exit_code(end: &RunEnd) -> Option<i64> {
    match end {
        RunEnd::Unknown => None,
        RunEnd::ByItself { exit_code } | RunEnd::Stopped { exit_code, .. } => Some(*exit_code),
    }
}
