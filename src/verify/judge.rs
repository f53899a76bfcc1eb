//! The comparison of two runs: pure, on what both showed.
//!
//! The answers themselves are compared by the crate of the probes; here it is which belong together, and what else shows:
//! whether the program still ran or how it ended, how it took its stop signal, where it listened. An answer that is missing
//! because the run broke off is told once, with the reason, not once for each probe.

use std::time::Duration;

use serde::Serialize;
use slim_probes::compare::{self, Difference, Mask, Own, Side, What};
use slim_probes::{ExecRecord, HttpRecord};

use super::Level;
use super::clock::only_time_passed;
use super::noise::Noise;
use super::shown::Shown;
use crate::observe::run::{Course, RunEnd};
use crate::observe::target::How;

/// So many differences are told in full.
pub(super) const MAX_FINDINGS: usize = 100;
/// A program may need so much longer to stop than the other one.
const STOP_FACTOR: u32 = 3;
/// And so much on top, for a busy machine.
const STOP_SLACK: Duration = Duration::from_secs(3);

/// Something in which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The request, the command, `health check` or `program`.
    pub probe: String,
    /// What of it: `status`, `body`, `exit code`.
    pub what: String,
    /// Where in it, such as `line 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Of the one.
    pub expected: String,
    /// Of the other.
    pub got: String,
    /// The expected side differs from itself here.
    pub noise: bool,
    /// Something that was said, not something that happened.
    #[serde(skip)]
    is_text: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place.as_ref().map(|place| format!(", {place}")).unwrap_or_default();
        write!(f, "{}: {}{place}: expected `{}`, got `{}`", self.probe, self.what, self.expected, self.got)
    }
}

impl Finding {
    fn new(probe: String, difference: Difference) -> Finding {
        let Difference { what, place, expected, got, noise } = difference;
        let is_text = matches!(what, What::Body | What::Header(_) | What::Stdout | What::Stderr);
        Finding { probe, what: what.to_string(), place, expected, got, noise, is_text }
    }

    fn of_program(what: &str, expected: impl ToString, got: impl ToString) -> Finding {
        let (expected, got) = (expected.to_string(), got.to_string());
        Finding::happened("program".to_owned(), what, expected, got)
    }

    pub(super) fn happened(probe: String, what: &str, expected: String, got: String) -> Finding {
        Finding { probe, what: what.to_owned(), place: None, expected, got, noise: false, is_text: false }
    }

    /// Whether both are of the same part of the same answer.
    pub(super) fn is_of_the_same(&self, other: &Finding) -> bool {
        (&self.probe, &self.what) == (&other.probe, &other.what)
    }

    /// Whether only what clocks show differs.
    pub(super) fn is_of_time(&self) -> bool {
        self.is_text && only_time_passed(&self.expected, &self.got)
    }

    /// Whether only what was said differs.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_text
    }
}

/// How `got` differs from `expected`, noise included, but marked as such.
#[must_use]
pub fn judge(expected: &Shown, got: &Shown, noise: &Noise, level: Level) -> Vec<Finding> {
    let mut findings = vec![];
    if let Some(failure) = &got.failure {
        findings.push(Finding::of_program("run", "to run and to be probed", failure));
    }
    let strictness = match level {
        Level::Strict => compare::Level::Strict,
        Level::Run | Level::Off => compare::Level::Run,
    };
    let (own_expected, own_got) = (own(expected), own(got));
    let compared = Compared { own: (&own_expected, &own_got), level: strictness };
    for (number, record) in expected.http.iter().enumerate() {
        match got.http.get(number) {
            Some(other) => findings.extend(compared.http(record, other, &noise.http(number))),
            None if got.failure.is_some() => break,
            None => findings.push(missing(name(record), &record.outcome.to_string())),
        }
    }
    for (number, record) in expected.commands.iter().enumerate() {
        let probe = format!("`{}`", record.command);
        match got.commands.get(number) {
            Some(other) => findings.extend(compared.exec(probe, record, other, &noise.command(number))),
            None if got.failure.is_some() => break,
            None => findings.push(missing(probe, &format!("exit code {:?}", record.exit_code))),
        }
    }
    // One that failed in the fat image shows nothing.
    if let Some(record) = expected.health.as_ref().filter(|record| record.exit_code == Some(0)) {
        match &got.health {
            Some(other) => findings.extend(compared.exec("health check".to_owned(), record, other, &noise.health)),
            None if got.failure.is_some() => {}
            None => findings.push(missing("health check".to_owned(), "exit code 0")),
        }
    }
    if let (Some(expected), Some(got), None) = (&expected.course, &got.course, &got.failure) {
        findings.extend(compare_courses(expected, got, noise, level));
    }
    findings.truncate(MAX_FINDINGS);
    findings
}

/// What two comparisons have in common.
struct Compared<'a> {
    own: (&'a Own, &'a Own),
    level: compare::Level,
}

impl Compared<'_> {
    fn sides<'s, T>(&'s self, expected: &'s T, got: &'s T) -> (Side<'s, T>, Side<'s, T>) {
        (Side { record: expected, own: self.own.0 }, Side { record: got, own: self.own.1 })
    }

    fn http(&self, expected: &HttpRecord, got: &HttpRecord, mask: &Mask) -> Vec<Finding> {
        let (one, other) = self.sides(&expected.outcome, &got.outcome);
        let differences = compare::http(one, other, mask, self.level);
        differences.into_iter().map(|difference| Finding::new(name(expected), difference)).collect()
    }

    fn exec(&self, probe: String, expected: &ExecRecord, got: &ExecRecord, mask: &Mask) -> Vec<Finding> {
        let (one, other) = self.sides(expected, got);
        let differences = compare::exec(one, other, mask, self.level);
        differences.into_iter().map(|difference| Finding::new(probe.clone(), difference)).collect()
    }
}

/// The texts that are a container's own.
pub(super) fn own(shown: &Shown) -> Own {
    let Some(course) = &shown.course else { return Own::default() };
    let hostname = (!course.hostname.is_empty()).then(|| (course.hostname.clone(), "hostname"));
    Own::new(hostname.into_iter().chain(course.addresses.iter().map(|address| (address.clone(), "address"))))
}

fn name(record: &HttpRecord) -> String {
    format!("{} {} on port {}", record.method, record.resource, record.port)
}

fn missing(probe: String, expected: &str) -> Finding {
    Finding::happened(probe, "outcome", expected.to_owned(), "it was not asked".to_owned())
}

fn compare_courses(expected: &Course, got: &Course, noise: &Noise, level: Level) -> Vec<Finding> {
    let mut findings = vec![];
    if level == Level::Strict {
        for port in expected.listening.symmetric_difference(&got.listening) {
            let words = |is_there| if is_there { format!("port {port}") } else { "nothing there".to_owned() };
            let both = [&expected.listening, &got.listening].map(|ports| words(ports.contains(port)));
            let finding = Finding::of_program("listens", &both[0], &both[1]);
            findings.push(Finding { noise: noise.ports.contains(port), ..finding });
        }
    }
    let ends = [&expected.end, &got.end];
    match ends {
        [RunEnd::Unknown, _] => {}
        [RunEnd::ByItself { exit_code: one }, RunEnd::ByItself { exit_code: other }] => {
            if one != other && (level == Level::Strict || (*one == 0) != (*other == 0)) {
                let finding = Finding::of_program("exit code", one, other);
                findings.push(Finding { noise: noise.exit_code, ..finding });
            }
        }
        [
            RunEnd::Stopped { how, exit_code, milliseconds },
            RunEnd::Stopped { how: how2, exit_code: code2, milliseconds: time2 },
        ] => {
            let patience = Duration::from_millis(*milliseconds).saturating_mul(STOP_FACTOR) + STOP_SLACK;
            if how != how2 && *how2 != How::Ended {
                findings.push(Finding::of_program("end after the stop signal", in_words(*how), in_words(*how2)));
            } else if level == Level::Strict && how == how2 && exit_code != code2 {
                let finding = Finding::of_program("exit code after the stop signal", exit_code, code2);
                findings.push(Finding { noise: noise.exit_code, ..finding });
            } else if level == Level::Strict && Duration::from_millis(*time2) > patience {
                let seconds = |time: u64| format!("{:.1} s", time as f64 / 1000.0);
                findings.push(Finding::of_program("time to stop", seconds(*milliseconds), seconds(*time2)));
            }
        }
        [one, other] => findings.push(Finding::of_program("end", end_in_words(one), end_in_words(other))),
    }
    findings
}

fn in_words(how: How) -> &'static str {
    match how {
        How::Ended => "it ended by itself",
        How::Killed => "it had to be killed",
        How::Deaf => "it does not handle the signal",
    }
}

fn end_in_words(end: &RunEnd) -> String {
    match end {
        RunEnd::Unknown => "unknown".to_owned(),
        RunEnd::ByItself { exit_code } => format!("it ended by itself with exit code {exit_code}"),
        RunEnd::Stopped { .. } => "it ran until it was stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::run::Listening;

    fn course(end: RunEnd, ports: &[u16]) -> Shown {
        let listening = ports.iter().map(|&port| Listening { port, is_local: false }).collect();
        Shown { course: Some(Course { listening, end, ..Course::default() }), ..Shown::default() }
    }

    fn stopped(how: How, exit_code: i64, milliseconds: u64) -> RunEnd {
        RunEnd::Stopped { how, exit_code, milliseconds }
    }

    #[test]
    fn how_a_program_ends_is_compared() {
        let ended = |exit_code| RunEnd::ByItself { exit_code };
        for (expected, got, level, what) in [
            (ended(0), ended(0), Level::Strict, &[][..]),
            (ended(0), ended(3), Level::Strict, &["exit code"]),
            (ended(2), ended(3), Level::Strict, &["exit code"]),
            (ended(2), ended(3), Level::Run, &[]),
            (ended(0), ended(3), Level::Run, &["exit code"]),
            (stopped(How::Ended, 0, 10), ended(1), Level::Run, &["end"]),
            (ended(0), stopped(How::Ended, 0, 10), Level::Strict, &["end"]),
            (stopped(How::Ended, 0, 10), stopped(How::Ended, 143, 10), Level::Strict, &["exit code after the stop signal"]),
            (stopped(How::Ended, 0, 10), stopped(How::Ended, 143, 10), Level::Run, &[]),
            (stopped(How::Ended, 0, 10), stopped(How::Killed, 137, 10_000), Level::Run, &["end after the stop signal"]),
            (stopped(How::Ended, 0, 10), stopped(How::Deaf, 137, 0), Level::Run, &["end after the stop signal"]),
            // better than before is no difference
            (stopped(How::Killed, 137, 10_000), stopped(How::Ended, 0, 10), Level::Strict, &[]),
            (stopped(How::Ended, 0, 100), stopped(How::Ended, 0, 3_200), Level::Strict, &[]),
            (stopped(How::Ended, 0, 100), stopped(How::Ended, 0, 3_400), Level::Strict, &["time to stop"]),
            (RunEnd::Unknown, ended(1), Level::Strict, &[]),
        ] {
            let findings = judge(&course(expected, &[]), &course(got, &[]), &Noise::default(), level);
            let found: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
            assert_eq!(found, what, "{expected:?} {got:?} {level:?}");
        }
    }

    #[test]
    fn ports_are_compared_but_for_those_that_differ_anyway() {
        let (expected, again) = (course(RunEnd::Unknown, &[80, 40_001]), course(RunEnd::Unknown, &[80, 40_002]));
        let mut noise = Noise::default();
        noise.learn(&expected, &again);
        let judge = |ports: &[u16]| {
            let findings = judge(&expected, &course(RunEnd::Unknown, ports), &noise, Level::Strict);
            findings.into_iter().filter(|finding| !finding.noise).map(|finding| finding.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(judge(&[80, 40_002]), [""; 0]);
        assert_eq!(judge(&[40_001]), ["program: listens: expected `port 80`, got `nothing there`"]);
        assert_eq!(judge(&[80, 9000]), ["program: listens: expected `nothing there`, got `port 9000`"]);
    }

    #[test]
    fn a_run_that_broke_off_is_told_once() {
        let record = ExecRecord {
            command: slim_probes::ExecCommand::Shell("x".into()),
            exit_code: Some(0),
            milliseconds: 1,
            stdout: slim_probes::OutputCollector::default().finish(),
            stderr: slim_probes::OutputCollector::default().finish(),
        };
        let expected = Shown { commands: vec![record.clone(), record.clone()], health: Some(record), ..Shown::default() };
        let broken = Shown { failure: Some("it died".into()), ..Shown::default() };
        let found = judge(&expected, &broken, &Noise::default(), Level::Strict);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["program: run: expected `to run and to be probed`, got `it died`"]
        );
        let silent = judge(&expected, &Shown::default(), &Noise::default(), Level::Run);
        assert_eq!(silent.len(), 3, "without a reason each missing answer is one");
    }
}
