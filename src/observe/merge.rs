//! Several observations of one image as one: of runs in other places, with other options, with other probes.
//!
//! What one run used is needed, whatever the others did, so the union is taken; processes and phases are numbered anew.
//! Mounts are the exception, since they take away: what is below one is not the image's. A program that one run started
//! with a bind mount on `/data` may have read the image's own `/data` in another, so a place is taken for the image's
//! where it was in any of the runs. That keeps a little more than needed, and never too little.

use std::collections::{BTreeMap, HashSet};

use super::observation::{Fanotify, Mount, Observation, Shows};
use crate::escape;

/// Why observations can't be merged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// There is none.
    #[error("there is no observation to merge")]
    Nothing,
    /// They are of several images.
    #[error("the observations are of different images, {0} and {1}: merge only those of one image")]
    Images(String, String),
}

/// The union of `observations`, in this order.
///
/// # Errors
/// [`MergeError`]
pub fn merge(observations: Vec<Observation>) -> Result<Observation, MergeError> {
    let mounts = merge_mounts(&observations);
    let mut rest = observations.into_iter();
    let mut merged = rest.next().ok_or(MergeError::Nothing)?;
    for other in rest {
        add(&mut merged, other)?;
    }
    merged.mounts = mounts;
    Ok(merged)
}

fn add(merged: &mut Observation, other: Observation) -> Result<(), MergeError> {
    if merged.header.image != other.header.image {
        let name = |observation: &Observation| {
            let header = &observation.header;
            format!("`{}` (`{}`)", escape::escape(header.image.as_bytes()), escape::escape(header.name.as_bytes()))
        };
        return Err(MergeError::Images(name(merged), name(&other)));
    }
    let first_process = number(merged.processes.len());
    let first_phase = number(merged.phases.len());
    merged.uses.extend(other.uses.into_iter().map(|mut path_use| {
        path_use.process += first_process;
        path_use.phase += first_phase;
        path_use
    }));
    merged.processes.extend(other.processes);
    merged.phases.extend(other.phases);
    merged.answers.extend(other.answers);
    merged.syscalls.extend(other.syscalls);

    let header = &mut merged.header;
    add_missing(&mut header.options, other.header.options);
    header.notify &= other.header.notify;
    if strength(&other.header.fanotify) < strength(&header.fanotify) {
        header.fanotify = other.header.fanotify;
    }

    let end = &mut merged.end;
    end.complete &= other.end.complete;
    end.tail_unknown |= other.end.tail_unknown;
    end.exit_code = end.exit_code.filter(|_| end.exit_code == other.end.exit_code);
    let (sum, more) = (&mut end.counters, other.end.counters);
    sum.received = sum.received.saturating_add(more.received);
    sum.resolved = sum.resolved.saturating_add(more.resolved);
    sum.opens = sum.opens.saturating_add(more.opens);
    sum.lost = sum.lost.saturating_add(more.lost);
    add_missing(&mut end.losses, other.end.losses);
    add_missing(&mut end.notes, other.end.notes);
    Ok(())
}

/// A count as the number of the next one.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("as many processes or phases fit in no memory")
}

/// Adds those of `more` that are not in `all`.
fn add_missing(all: &mut Vec<String>, more: Vec<String>) {
    let known: HashSet<&String> = all.iter().collect();
    let missing: Vec<String> = more.into_iter().filter(|text| !known.contains(text)).collect();
    all.extend(missing);
}

/// How much the second sense saw: the union is no better than the weakest.
fn strength(fanotify: &Fanotify) -> u8 {
    match fanotify {
        Fanotify::Off => 0,
        Fanotify::Refused(_) => 1,
        Fanotify::Mount => 2,
        Fanotify::Filesystem => 3,
    }
}

/// Every target of a mount, with what it shows in all runs taken together.
fn merge_mounts(observations: &[Observation]) -> Vec<Mount> {
    let runs: Vec<BTreeMap<&[u8], Shows>> = observations
        .iter()
        .map(|observation| observation.mounts.iter().map(|mount| (mount.target.as_slice(), mount.shows)).collect())
        .collect();
    let mut seen = HashSet::new();
    let targets = observations.iter().flat_map(|observation| &observation.mounts).map(|mount| &mount.target);
    targets
        .filter(|target| seen.insert(target.as_slice()))
        .map(|target| {
            let shown: Vec<Shows> = runs.iter().map(|mounts| shows(mounts, target)).collect();
            let shows = [Shows::Image, Shows::User].into_iter().find(|shows| shown.contains(shows)).unwrap_or(Shows::Engine);
            Mount { target: target.clone(), shows }
        })
        .collect()
}

/// What is to be seen at `path` under `mounts`: what the innermost mount shows that it is below, else the image.
fn shows(mounts: &BTreeMap<&[u8], Shows>, path: &[u8]) -> Shows {
    let parents = path.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'/').map(|(end, _)| &path[..end.max(1)]);
    std::iter::once(path).chain(parents).find_map(|path| mounts.get(path)).copied().unwrap_or(Shows::Image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::file::tests::fixture;

    fn mounted(mounts: &[(&str, Shows)]) -> Observation {
        let mounts = mounts.iter().map(|&(target, shows)| Mount { target: target.into(), shows }).collect();
        Observation { mounts, ..fixture() }
    }

    #[test]
    fn one_alone_stays_as_it_is() {
        assert_eq!(merge(vec![fixture()]).unwrap(), fixture());
        assert_eq!(merge(vec![]), Err(MergeError::Nothing));
    }

    #[test]
    fn numbers_are_given_anew_and_point_to_the_same() {
        let merged = merge(vec![fixture(), fixture(), fixture()]).unwrap();
        let one = fixture();
        assert_eq!(merged.uses.len(), 3 * one.uses.len());
        for (index, path_use) in merged.uses.iter().enumerate() {
            let original = &one.uses[index % one.uses.len()];
            let run = (index / one.uses.len()) as u32;
            assert_eq!(path_use.process, original.process + run * one.processes.len() as u32);
            assert_eq!(path_use.phase, original.phase + run * one.phases.len() as u32);
            assert_eq!(merged.processes[path_use.process as usize], one.processes[original.process as usize]);
            assert_eq!(merged.phases[path_use.phase as usize], one.phases[original.phase as usize]);
        }
        assert_eq!(merged.answers.len(), 3 * one.answers.len());
        assert_eq!(merged.syscalls, one.syscalls);
        assert_eq!(merged.end.counters.received, 3 * one.end.counters.received);
        assert_eq!((merged.header, merged.end.losses, merged.end.notes), (one.header, one.end.losses, one.end.notes));
    }

    #[test]
    fn the_union_is_as_good_as_its_weakest_part() {
        let mut good = fixture();
        good.header.fanotify = Fanotify::Filesystem;
        good.header.options = vec!["--user 5".into()];
        good.end = crate::observe::observation::End {
            complete: true,
            tail_unknown: false,
            counters: slim_sensor::wire::Counters { received: u64::MAX, ..Default::default() },
            losses: vec![],
            notes: vec![],
            exit_code: fixture().end.exit_code,
        };
        let mut other = good.clone();
        other.header.options.push("--network none".into());
        let merged = merge(vec![good.clone(), other]).unwrap();
        assert!(merged.end.complete && !merged.end.tail_unknown);
        assert_eq!(merged.end.exit_code, good.end.exit_code);
        assert_eq!(merged.header.options, ["--user 5", "--network none"]);
        assert_eq!(merged.end.counters.received, u64::MAX, "no overflow");

        let mut bad = fixture();
        bad.end.exit_code = None;
        bad.header.notify = false;
        for observations in [vec![good.clone(), bad.clone()], vec![bad.clone(), good.clone()]] {
            let merged = merge(observations).unwrap();
            assert!(!merged.end.complete && merged.end.tail_unknown);
            assert_eq!(merged.header.fanotify, bad.header.fanotify);
            assert!(!merged.header.notify);
            assert_eq!(merged.end.losses, bad.end.losses);
            assert_eq!(merged.end.exit_code, None);
        }
    }

    #[test]
    fn other_images_are_refused() {
        let mut other = fixture();
        other.header.image = "sha256:beef\u{1b}".into();
        other.header.name = "other".into();
        assert_eq!(
            merge(vec![fixture(), other]).unwrap_err().to_string(),
            "the observations are of different images, `sha256:c0ffee` (`app:latest`) and `sha256:beef\\x1b` (`other`): merge \
             only those of one image"
        );
    }

    #[test]
    fn a_place_is_the_images_where_it_was_in_any_run() {
        let first =
            mounted(&[("/proc", Shows::Engine), ("/data", Shows::User), ("/data/own", Shows::Image), ("/a", Shows::User)]);
        let second =
            mounted(&[("/proc", Shows::Engine), ("/data", Shows::User), ("/", Shows::User), ("/data/x/y", Shows::Engine)]);
        let third = mounted(&[("/proc", Shows::Engine), ("/data", Shows::Engine)]);
        let mut expected = mounted(&[
            ("/proc", Shows::Engine),
            ("/data", Shows::User),
            ("/data/own", Shows::Image),
            ("/a", Shows::Image),
            ("/", Shows::Image),
            ("/data/x/y", Shows::User),
        ]);
        assert_eq!(merge(vec![first.clone(), second.clone(), third]).unwrap().mounts, expected.mounts);
        // Without the third, nothing shows the image at `/a`.
        expected.mounts[3].shows = Shows::User;
        assert_eq!(merge(vec![first, second]).unwrap().mounts, expected.mounts);
    }
}
