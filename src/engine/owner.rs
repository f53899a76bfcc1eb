//! Whose a container is: the labels by which a later run finds, and removes, what a dead one left.
//!
//! A run that is killed cannot clean up. Its containers carry who made them: machine, boot, pid namespace, process id and start
//! time of the process. Only where all of that proves that the process is gone (another boot of this very machine, or no such
//! process with that start time) is the container anybody's to remove; in doubt it stays.

use std::collections::HashMap;

/// Label that marks a container as ours; its value is the run.
pub const RUN: &str = "slim.run";
const MACHINE: &str = "slim.machine";
const BOOT: &str = "slim.boot";
const NAMESPACE: &str = "slim.pid-namespace";
const PROCESS: &str = "slim.process";

/// A running slim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Random: names this run.
    pub run: String,
    machine: String,
    boot: String,
    namespace: String,
    /// Process id and start time.
    process: String,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn this_process() -> std::io::Result<Owner> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let pid = std::process::id();
        Ok(Owner {
            run: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            machine: word("/etc/machine-id"),
            boot: word("/proc/sys/kernel/random/boot_id"),
            namespace: namespace(),
            process: format!("{pid}@{}", start_time(pid).unwrap_or_default()),
        })
    }

    /// The labels of this run's containers.
    #[must_use]
    pub fn labels(&self) -> HashMap<String, String> {
        [(RUN, &self.run), (MACHINE, &self.machine), (BOOT, &self.boot), (NAMESPACE, &self.namespace), (PROCESS, &self.process)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }

    /// Whether the run that made a container with these labels is provably over.
    #[must_use]
    pub fn is_dead(&self, labels: &HashMap<String, String>) -> bool {
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        let same_machine = !self.machine.is_empty() && label(MACHINE) == self.machine;
        if !same_machine || label(BOOT).is_empty() || self.boot.is_empty() {
            return false;
        }
        if label(BOOT) != self.boot {
            return true;
        }
        if label(NAMESPACE).is_empty() || label(NAMESPACE) != self.namespace {
            return false;
        }
        let Some((pid, started)) = label(PROCESS).split_once('@') else { return false };
        let (Ok(pid), Ok(started)) = (pid.parse(), started.parse::<u64>()) else { return false };
        start_time(pid) != Some(started)
    }
}

fn word(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

/// When a process started, in clock ticks since boot; `None` where there is no such process, or only its exit status.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of /proc/PID/stat. The second one, the program's name, may hold anything, spaces and brackets too; behind it is
/// the state, `Z` for who is dead and was not yet waited for.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let is_alive = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    if is_alive { fields.nth(18)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_provably_dead_are_dead() {
        let own = Owner { machine: "m".into(), ..Owner::this_process().unwrap() };
        let labels = own.labels();
        assert!(!own.is_dead(&labels), "we live");
        let with = |changes: &[(&str, &str)]| {
            let mut labels = labels.clone();
            changes.iter().for_each(|(name, value)| drop(labels.insert((*name).into(), (*value).into())));
            own.is_dead(&labels)
        };
        let recycled = format!("{}@1", std::process::id());
        assert!(with(&[(PROCESS, &recycled)]), "another process has the id now");
        assert!(with(&[(PROCESS, "4194304@7")]), "no such process");
        assert!(with(&[(BOOT, "another")]));
        assert!(!with(&[(BOOT, "another"), (MACHINE, "another")]));
        assert!(!with(&[(NAMESPACE, "pid:[1]"), (PROCESS, "4194304@7")]), "another pid namespace says nothing");
        for nonsense in ["", "x", "7", "7@", "@7"] {
            assert!(!with(&[(PROCESS, nonsense)]), "{nonsense:?}");
        }
        assert!(!own.is_dead(&HashMap::new()));
    }

    #[test]
    fn names_with_brackets_are_no_fields() {
        let stat = format!("7 (a) b (c) S {}", (4..30).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
        assert_eq!(parse_start_time(&stat), Some(22));
        assert_eq!(parse_start_time(&stat.replace(") S ", ") Z ")), None, "a process that nobody waited for");
        assert_eq!(parse_start_time("7 (x"), None);
    }
}
