//! The end without a good image: what is told of it, and what is tagged all the same where that was asked for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::packing::Configuration;
use super::rounds::{Rounds, lacking};
use super::{Build, Files, Made, Product, Source, left_out};
use crate::cli::failure::Failure;
use crate::escape::escape;
use crate::exit::Exit;
use crate::image::tree::EntryId;
use crate::observe::observation::PathUse;
use crate::observe::run::{Observed, RunEnd};
use crate::plan::{Missing, Plan};
use crate::report::verification::{Path, Suspect, Verdict, Verification};
use crate::verify::diagnosis::{Facts, diagnose};
use crate::verify::{Finding, Trial};

/// So many differences are told in the message of a failure.
const TOLD: usize = 5;
/// So many suspects are told in the report.
const MAX_SUSPECTS: usize = 100;

impl Build<'_> {
    /// Tells why there is no good image; tags it all the same where that was asked for.
    pub(super) async fn give_up(
        &mut self,
        source: &Source,
        files: Files,
        made: &mut Made,
        rounds: &Rounds<'_>,
        trial: Trial,
        verification: &mut Verification,
    ) -> Result<Product, Failure> {
        let Some(plan) = made.plan.clone() else { return Err(Failure::internal("there is no plan".to_owned())) };
        let (left_out, files) = self.add_left_out(source, files, &plan, &rounds.originals, &trial).await?;
        let lacking = lacking(source.runtime(self.engines)?.own_prefix(), &files, &plan, &trial)?;
        verification.verdict = Verdict::Differs;
        verification.suspects = suspects(&files, &plan, &lacking, &rounds.refused, &trial);
        verification.suspects.extend(left_out::suspects(&files, &left_out));
        let mut told = HashSet::new();
        verification.suspects.retain(|suspect| told.insert(suspect.path.0.clone()));
        verification.suspects.truncate(MAX_SUSPECTS);
        verification.diagnosis = diagnosis(&files, &plan, &lacking, &rounds.executed_before, &trial);
        let message = match &trial.restless {
            Some(change) => format!(
                "the image cannot be verified: the original itself does something else when it is run again; {change}\n\
                 give it the state that it needs with `--volume`, or compare less with `--verify=run`"
            ),
            None => difference_in_words(&trial.findings, verification),
        };
        verification.differences = trial.restless.clone().into_iter().chain(trial.findings).collect();
        self.keep_unverified(source, files, &plan, made, "differs").await?;
        Err(Failure { exit: Exit::Differs, message })
    }

    async fn keep_unverified(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        made: &mut Made,
        why: &str,
    ) -> Result<(), Failure> {
        if self.request.verification.keep_unverified {
            let (product, _) = self.produce(source, files, plan, Configuration::new(source, Some(why.to_owned()))).await?;
            made.product = Some(product);
        }
        Ok(())
    }

    /// The result of a build that can't be verified: named all the same, as nothing is known to be wrong with it, but where
    /// verification was asked for in so many words.
    pub(super) async fn unverified(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        made: &mut Made,
        verification: &mut Verification,
        reason: String,
    ) -> Result<Product, Failure> {
        verification.reason = Some(reason.clone());
        if self.request.verification.is_demanded {
            self.keep_unverified(source, files, plan, made, "cannot be verified").await?;
            let message = format!("the image cannot be verified: {reason}");
            return Err(Failure { exit: Exit::Differs, message });
        }
        self.warn(format!("the result is unverified: {reason}"));
        self.produced(source, files, plan).await
    }
}

/// What may be the cause, the likeliest first.
fn suspects(files: &Files, plan: &Plan, lacking: &[Missing], refused: &[(EntryId, String)], trial: &Trial) -> Vec<Suspect> {
    let path = |id: EntryId| Path(files.tree.path(id));
    let looked_for = |missing: &Missing| {
        let excluded = refused.iter().find(|(id, _)| *id == missing.entry);
        let excluded = excluded.map(|(_, option)| format!("; `{option}` excludes it")).unwrap_or_default();
        let reason = format!("`{}` looks for it during {}{excluded}", escape(&missing.by), missing.during.0);
        Suspect { path: path(missing.entry), reason }
    };
    let changed = changed_and_used(files, plan, trial).into_iter();
    let changed = changed.map(|path| Suspect { path: Path(path), reason: "the plan changes its mode or its owner".to_owned() });
    lacking.iter().map(looked_for).chain(changed).collect()
}

/// Entries with other permissions than in the original.
fn changed_and_used(files: &Files, plan: &Plan, trial: &Trial) -> Vec<Vec<u8>> {
    let is_changed = |kept: &&crate::plan::Kept| kept.mode.is_some() || kept.owner.is_some();
    let mut changed: Vec<Vec<u8>> = plan.entries.iter().filter(is_changed).map(|kept| kept.path.clone()).collect();
    let used: HashSet<Vec<u8>> = trial.observed.observation.uses.iter().map(PathUse::absolute).collect();
    // Those that were used come first.
    changed.sort_by_key(|path| (!used.contains(path), files.tree.get(path)));
    changed
}

/// What it probably means.
fn diagnosis(
    files: &Files,
    plan: &Plan,
    lacking: &[Missing],
    executed_before: &BTreeMap<Vec<u8>, u64>,
    trial: &Trial,
) -> Vec<String> {
    let Observed { course, log, executed, start_failure, .. } = &trial.observed;
    let exit_code = match course.end {
        RunEnd::ByItself { exit_code } => Some(exit_code),
        RunEnd::Unknown | RunEnd::Stopped { .. } => None,
    };
    diagnose(&Facts {
        tree: &files.tree,
        plan,
        start_error: start_failure.as_deref(),
        exit_code,
        log: log.join("\n").as_bytes(),
        missing: lacking,
        executed_before,
        executed,
    })
}

fn difference_in_words(findings: &[Finding], verification: &Verification) -> String {
    let tried = verification.rounds.len();
    let tries = if tried == 1 { "as it is".to_owned() } else { format!("after {tried} rounds") };
    let mut text = format!("the slim image does not do what the original does, {tries}: {} differences", findings.len());
    for finding in findings.iter().take(TOLD) {
        text.push_str(&format!("\n  {finding}"));
    }
    for suspect in verification.suspects.iter().take(TOLD) {
        text.push_str(&format!("\nit may lack `{}`: {}", escape(&suspect.path.0), suspect.reason));
    }
    for diagnosis in &verification.diagnosis {
        text.push_str(&format!("\n{diagnosis}"));
    }
    text.push_str("\nit has no name; keep what it needs with `--include-path`, or name it all the same with `--keep-unverified`");
    text
}
