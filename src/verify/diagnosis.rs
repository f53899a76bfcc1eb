//! Why a slim image fails, in words: from what the engine, the log and the observation of its run say.
//!
//! A message alone is no evidence: programs log that a module is not found and go on without it, in the original image as
//! well. So what a message names is looked for in the image: only what the original has, and the slim one lacks (or
//! lacks what is around it), is told, with the option of the build that keeps it. What processes looked for in vain speaks
//! for itself where its path says what it is for: name services, character sets, locales, time zones, certificates.
//!
//! Where nothing is known, the exit code is told with what it usually means.

mod image;
mod messages;

use std::collections::BTreeMap;

use self::image::Image;
use self::messages::Said;
use crate::escape::escape;
use crate::image::tree::Tree;
use crate::plan::{Kept, Missing, Plan};

/// So much of the log is read, from its end.
const MAX_LOG: usize = 64 << 10;
/// A longer line is no message.
const MAX_LINE: usize = 4096;
/// A longer name is not repeated in full.
const MAX_NAME: usize = 200;
/// So many messages are looked into: each may cost a walk through the tree.
const MAX_MESSAGES: usize = 32;
/// More diagnoses than this don't help.
const MAX_DIAGNOSES: usize = 8;
/// A program that is started so many times more than in the original image is in a loop.
const LOOP: u64 = 3;

/// What is known of a failed run.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What is in the original image.
    pub tree: &'a Tree,
    /// What the slim image has of it.
    pub plan: &'a Plan,
    /// Why the engine could not start the program.
    pub start_error: Option<&'a str>,
    /// The program's exit code, where it ended by itself.
    pub exit_code: Option<i64>,
    /// The end of the log.
    pub log: &'a [u8],
    /// What its processes looked for in vain.
    pub missing: &'a [Missing],
    /// How often each program was executed in the original image, by its path.
    pub executed_before: &'a BTreeMap<Vec<u8>, u64>,
    /// The same in the slim image.
    pub executed: &'a BTreeMap<Vec<u8>, u64>,
}

/// What is the matter, in words, the likeliest first; nothing where nothing is known. The same facts give the same words.
#[must_use]
pub fn diagnose(facts: &Facts) -> Vec<String> {
    let log = String::from_utf8_lossy(&facts.log[facts.log.len().saturating_sub(MAX_LOG)..]).into_owned();
    let lines: Vec<&str> = facts.start_error.into_iter().chain(log.lines()).filter(|line| line.len() <= MAX_LINE).collect();
    let missing: Vec<Vec<u8>> = facts.missing.iter().map(|missing| facts.tree.path(missing.entry)).collect();
    let messages = lines.iter().filter_map(|line| messages::read(line));
    let mut said: Vec<Said> = vec![];
    for message in messages.chain(missing.iter().filter_map(|path| image::purpose(path))) {
        if said.len() < MAX_MESSAGES && !said.contains(&message) {
            said.push(message);
        }
    }
    let image = Image::new(facts.tree, facts.plan);
    let of_messages = said.into_iter().filter_map(|said| image.explain(said));
    let mut diagnoses: Vec<String> = vec![];
    for diagnosis in of_messages.chain(changed_permissions(facts.plan, &lines)).chain(loops(facts)) {
        if diagnoses.len() < MAX_DIAGNOSES && !diagnoses.contains(&diagnosis) {
            diagnoses.push(diagnosis);
        }
    }
    if diagnoses.is_empty() {
        diagnoses.extend(facts.exit_code.and_then(of_exit_code));
    }
    diagnoses
}

/// Paths that were given other permissions, and of which the log says that somebody may not use them.
fn changed_permissions(plan: &Plan, lines: &[&str]) -> impl Iterator<Item = String> {
    let denied = lines.iter().filter(|line| DENIED.iter().any(|words| line.contains(words)));
    let denied: Vec<&str> = denied.copied().take(MAX_MESSAGES).collect();
    let changed = plan.entries.iter().filter(|kept| (kept.mode, kept.owner) != (None, None));
    changed.filter_map(move |Kept { path, mode, owner, .. }| {
        let name = std::str::from_utf8(path).ok()?;
        denied.iter().find(|line| line.contains(name))?;
        let mode = mode.map(|mode| format!("mode {mode:04o}"));
        let owner = owner.map(|(uid, gid)| format!("owner {uid}:{gid}"));
        let (path, changes) = (shown(path), mode.into_iter().chain(owner).collect::<Vec<_>>().join(" and "));
        Some(format!("somebody may not use `{path}`, which has {changes} in the slim image by the plan: check `--path-perms`"))
    })
}

const DENIED: [&str; 5] = ["ermission denied", "EACCES", "peration not permitted", "EPERM", "AccessDeniedException"];

#[cfg(fuzzing)]
pub(crate) fn fuzz_log(log: &[u8]) {
    String::from_utf8_lossy(log).lines().for_each(|line| {
        let _ = (messages::read(line), image::purpose(line.as_bytes()));
    });
}

/// Programs that are started again and again.
fn loops<'a>(facts: &'a Facts) -> impl Iterator<Item = String> + use<'a> {
    facts.executed.iter().filter_map(|(program, &count)| {
        let before = facts.executed_before.get(program).copied().unwrap_or_default();
        (count >= before.saturating_mul(2).max(before.saturating_add(LOOP))).then(|| {
            let program = shown(program);
            format!(
                "`{program}` was started {count} times, and {before} times in the original image: it ends, and something starts it again; its log says why, or it lacks a library (`--include-bin {program}`)"
            )
        })
    })
}

/// What an exit code means where nothing else is known.
fn of_exit_code(code: i64) -> Option<String> {
    let meaning = match code {
        126 => {
            "something that was to be run is not executable: `--path-perms PATH:0755` changes that, `--include-shell` keeps a shell for scripts"
        }
        127 => {
            "something that was to be run was not found: `--include-exe NAME` keeps a program, `--include-shell` a shell with basic tools"
        }
        132 | 134 | 135 | 136 | 139 => {
            "a signal for a fault of the program itself, often in code that takes a library or a file for granted: `--include-path` keeps its folder, `--keep-looked-at listed` more of what it looks at"
        }
        _ => return None,
    };
    Some(format!("the program ended with {code}: {meaning}"))
}

/// A name from somewhere else as part of a message.
fn shown(name: &[u8]) -> String {
    match name.get(..MAX_NAME) {
        Some(beginning) => format!("{}...", escape(beginning)),
        None => escape(name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::image::tree::fixture;
    use crate::observe::observation::Access;
    use crate::plan::{PhaseName, Reason};

    /// An image, and a plan that keeps only `/app/run` and `/srv/data` of it, the latter with other permissions.
    static IMAGE: LazyLock<(Tree, Plan)> = LazyLock::new(|| {
        let tree =
            fixture::tree(&["/app/run mode=755", "/bin/sh mode=755", "/etc/localtime", "/srv/data", "/usr/lib/libssl.so.3"]);
        let kept = |path: &str| Kept { path: path.into(), mode: None, owner: None, reasons: vec![Reason::Parent] };
        let data = Kept { mode: Some(0o600), owner: Some((7, 8)), ..kept("/srv/data") };
        let entries = vec![kept("/"), kept("/app"), kept("/app/run"), kept("/srv"), data];
        (tree, Plan { version: Plan::VERSION, image: String::new(), notes: vec![], entries })
    });
    static NEVER: BTreeMap<Vec<u8>, u64> = BTreeMap::new();

    /// A run of which nothing is known.
    fn nothing() -> Facts<'static> {
        Facts {
            tree: &IMAGE.0,
            plan: &IMAGE.1,
            start_error: None,
            exit_code: None,
            log: b"",
            missing: &[],
            executed_before: &NEVER,
            executed: &NEVER,
        }
    }

    fn told_of_log(log: &[u8]) -> Vec<String> {
        diagnose(&Facts { log, ..nothing() })
    }

    #[test]
    fn every_kind_of_evidence_is_heard() {
        let entry = IMAGE.0.get(b"/etc/localtime").expect("entry");
        let during = PhaseName("start".into());
        let diagnoses = diagnose(&Facts {
            start_error: Some("exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown"),
            log: b"starting\nrun: error while loading shared libraries: libssl.so.3: cannot open shared object file\n",
            missing: &[Missing { entry, access: Access::Open, by: b"/app/run".to_vec(), during, by_sweep: false }],
            exit_code: Some(127),
            ..nothing()
        });
        let words = ["--include-shell", "--include-bin /usr/lib/libssl.so.3", "--include-zoneinfo"];
        assert_eq!(diagnoses.len(), words.len(), "{diagnoses:?}");
        assert!(diagnoses.iter().zip(words).all(|(diagnosis, word)| diagnosis.contains(word)), "{diagnoses:?}");
    }

    #[test]
    fn permissions_that_the_plan_changed_are_told_of() {
        for line in [
            "cat: /srv/data: Permission denied",
            "PermissionError: [Errno 13] Permission denied: '/srv/data'",
            "Error: EACCES: permission denied, open '/srv/data'",
            "chmod: changing permissions of '/srv/data': Operation not permitted",
        ] {
            let diagnoses = told_of_log(line.as_bytes());
            assert_eq!(diagnoses.len(), 1, "{line}");
            assert!(diagnoses[0].contains("`/srv/data`, which has mode 0600 and owner 7:8"), "{diagnoses:?}");
            assert!(diagnoses[0].contains("--path-perms"), "{diagnoses:?}");
        }
        assert!(told_of_log(b"cat: /app/run: Permission denied").is_empty(), "the image's own permissions");
        assert!(told_of_log(b"GET /srv/data 200").is_empty());
    }

    #[test]
    fn crash_loops_are_told_of() {
        let counts = |count| BTreeMap::from([(b"/app/run".to_vec(), count)]);
        for (before, count, is_loop) in
            [(1, 4, true), (1, 3, false), (0, 3, true), (10, 20, true), (10, 19, false), (1, 1, false)]
        {
            let (before_counts, counts) = (counts(before), counts(count));
            let diagnoses = diagnose(&Facts { executed_before: &before_counts, executed: &counts, ..nothing() });
            assert_eq!(!diagnoses.is_empty(), is_loop, "{before} {count}");
            let expected = format!("`/app/run` was started {count} times, and {before} times in the original image");
            assert!(diagnoses.iter().all(|diagnosis| diagnosis.contains(&expected)), "{diagnoses:?}");
        }
    }

    #[test]
    fn exit_codes_speak_where_nothing_else_does() {
        for (code, option) in [(126, "--path-perms"), (127, "--include-exe"), (139, "--keep-looked-at"), (132, "--include-path")]
        {
            let diagnoses = diagnose(&Facts { exit_code: Some(code), ..nothing() });
            assert!(
                diagnoses.len() == 1 && diagnoses[0].contains(option) && diagnoses[0].contains(&code.to_string()),
                "{diagnoses:?}"
            );
        }
        for code in [0, 1, 137, -1, i64::MAX] {
            assert!(diagnose(&Facts { exit_code: Some(code), ..nothing() }).is_empty(), "{code}");
        }
        assert!(diagnose(&nothing()).is_empty());
    }

    #[test]
    fn any_log_is_read_within_bounds() {
        let line = "run: error while loading shared libraries: libssl.so.3: cannot open shared object file\n";
        let early = [line.as_bytes(), &vec![b'.'; MAX_LOG]].concat();
        assert!(told_of_log(&early).is_empty(), "too long ago");
        let long = [&vec![b'.'; MAX_LINE], line.as_bytes()].concat();
        assert!(told_of_log(&long).is_empty(), "too long a line");
        let many = (0..1000).map(|number| format!("exec /app/run{number}: exec format error\n")).collect::<String>();
        assert_eq!(told_of_log(many.as_bytes()).len(), MAX_DIAGNOSES);
        assert_eq!(told_of_log(line.repeat(100).as_bytes()).len(), 1);
        let name = format!("exec {}\u{1b}[2J{}: exec format error", "é".repeat(90), "x".repeat(300));
        let diagnoses = told_of_log(name.as_bytes());
        assert!(diagnoses[0].len() < 600 && !diagnoses[0].contains('\u{1b}'), "{diagnoses:?}");
        let bytes: Vec<u8> = (0..MAX_LOG * 2).map(|number| (number * 31 % 251) as u8).collect();
        told_of_log(&bytes);
    }
}
