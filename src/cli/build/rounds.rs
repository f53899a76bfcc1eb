//! Rounds: the slim image is tried, and where it does something else than the original, made again with more in it.
//!
//! What it looked for in vain comes first. Where there is no such thing, the answers may differ by chance, so the original is
//! run once more to learn that; then comes what the plan leaves out though the original uses it, then the rules of [`Widening`]
//! are tried one at a time, and one that did not help is taken back.
//! The rounds end when the image does the same, when nothing is left to be tried, or when there were enough of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::packing::{Configuration, Loaded};
use super::running::ready_in;
use super::{Build, Files, Made, Product, Source};
use crate::cli::failure::Failure;
use crate::cli::meaning;
use crate::engine::volumes::Copies;
use crate::image::read_files::TreeContents;
use crate::image::source::SourceImage;
use crate::image::tree::EntryId;
use crate::observe::observation::{Access, Observation, PathUse};
use crate::observe::run::{Observed, Probes};
use crate::plan::{
    Addition, ExtendInput, Extended, Extras, KeepLookedAt, Missing, Plan, WidenInput, Widening, extend, missing, widen,
};
use crate::report::verification::{Path, Round, Verdict, Verification};
use crate::verify::{Setting, Shown, Trial, Verifier};

/// So many added paths of a round are told as examples.
const EXAMPLES: usize = 20;

/// Where the rounds are.
pub(super) struct Rounds<'a> {
    verifier: Verifier<'a>,
    /// What was seen of the original.
    pub(super) originals: Vec<Observation>,
    /// How often the original executed programs.
    pub(super) executed_before: BTreeMap<Vec<u8>, u64>,
    /// Rules that were not tried yet.
    rules: std::slice::Iter<'static, Widening>,
    /// Before the last rule: the plan, and in how many things its image differed.
    before_rule: Option<(Arc<Plan>, usize)>,
    /// What the user excluded though the image looks for it.
    pub(super) refused: Vec<(EntryId, String)>,
}

/// What is to be done after a trial.
enum Next {
    /// It does the same.
    Done,
    /// Try again with this plan.
    Try(Arc<Plan>),
    /// Nothing is left to be tried.
    GiveUp,
}

impl Build<'_> {
    /// Packs, tries and repairs until the result does what the original does.
    pub(super) async fn verified(
        &mut self,
        source: &Source,
        probes: &Probes,
        volumes: &Copies,
        runs: Vec<Observed>,
        files: Files,
        plan: Arc<Plan>,
    ) -> Made {
        let mut verification = Verification::new(self.request.verification.level);
        let mut made = Made { tree: Some(Arc::clone(&files.tree)), plan: Some(plan), ..Made::default() };
        let result = self.rounds(source, probes, volumes, runs, files, &mut made, &mut verification).await;
        self.report.verification = Some(verification);
        match result {
            Ok(product) => made.product = Some(product),
            Err(failure) => made.failure = Some(failure),
        }
        made
    }

    #[expect(clippy::too_many_arguments, reason = "all that the steps before have made")]
    async fn rounds(
        &mut self,
        source: &Source,
        probes: &Probes,
        volumes: &Copies,
        runs: Vec<Observed>,
        mut files: Files,
        made: &mut Made,
        verification: &mut Verification,
    ) -> Result<Product, Failure> {
        let Some(mut plan) = made.plan.clone() else { return Err(Failure::internal("there is no plan".to_owned())) };
        if let Some(reason) = unverifiable(volumes, &runs) {
            return self.unverified(source, files, &plan, made, verification, reason).await;
        }
        let progress = Arc::clone(self.progress);
        let tell = move |text: String| progress.step(text);
        let runtime = source.runtime(self.engines)?;
        let setting = Setting {
            runtime,
            fat: Some(&source.image),
            level: self.request.verification.level,
            options: &self.request.run,
            volumes,
            probes,
            ready: runs.first().and_then(ready_in),
            progress: &tell,
        };
        let mut shown = runs.iter().map(|run| Shown::of(run, None));
        let expected = shown.next().unwrap_or_default();
        let mut verifier = Verifier::new(setting, expected);
        shown.for_each(|again| verifier.learn(again));
        let executed_before = runs.first().map(|run| run.executed.clone()).unwrap_or_default();
        let originals = runs.into_iter().map(|run| run.observation).collect();
        let (rules, refused) = (Widening::ALL.iter(), vec![]);
        let mut rounds = Rounds { verifier, originals, executed_before, rules, before_rule: None, refused };
        let begun = Instant::now();
        let mut last: Option<Loaded> = None;
        loop {
            let round_begun = Instant::now();
            let (loaded, slim, returned) = self.pack(source, files, &plan).await?;
            if let Some(last) = last.take().filter(|last| last.id != loaded.id) {
                self.discard(source, &last).await;
            }
            let mut trial = rounds.verifier.try_image(&slim).await?;
            let (next, returned) = self.judge(source, returned, (&slim, &plan), &mut rounds, &mut trial, verification).await?;
            files = returned;
            if let Some(round) = verification.rounds.last_mut() {
                round.image = loaded.id.clone();
                round.seconds = round_begun.elapsed().as_secs_f64();
            }
            verification.noise = trial.noise;
            match next {
                Next::Done => {
                    self.report.took("verify", begun.elapsed().as_secs_f64());
                    verification.verdict = Verdict::Same;
                    let configuration = Configuration::new(source, None);
                    let (product, files) = match source.chosen.is_embedded {
                        true => self.produce(source, files, &plan, configuration).await?,
                        // It is in the daemon already.
                        false => self.store(source, files, &plan, configuration, Some(loaded)).await?,
                    };
                    self.check_reproducible(source, files, &plan, &product).await?;
                    return Ok(product);
                }
                Next::Try(extended) => {
                    plan = extended;
                    made.plan = Some(Arc::clone(&plan));
                    last = Some(loaded);
                }
                Next::GiveUp => {
                    self.report.took("verify", begun.elapsed().as_secs_f64());
                    return self.give_up(source, files, made, &rounds, trial, verification).await;
                }
            }
        }
    }

    /// Decides what follows from a trial of an image and the plan that it was made by.
    async fn judge(
        &mut self,
        source: &Source,
        files: Files,
        (slim, plan): (&SourceImage, &Arc<Plan>),
        rounds: &mut Rounds<'_>,
        trial: &mut Trial,
        verification: &mut Verification,
    ) -> Result<(Next, Files), Failure> {
        let lacking = lacking(source.runtime(self.engines)?.own_prefix(), &files, plan, trial)?;
        let mut round = Round {
            image: String::new(),
            differences: trial.findings.len(),
            example: trial.findings.first().map(ToString::to_string),
            looked_for: lacking.len(),
            added: 0,
            examples: vec![],
            rule: None,
            seconds: 0.0,
        };
        if trial.restless.is_some() {
            verification.rounds.push(round);
            return Ok((Next::GiveUp, files));
        }
        let is_same = trial.findings.is_empty();
        let end = if is_same { Next::Done } else { Next::GiveUp };
        if verification.rounds.len() >= self.request.verification.repair_rounds as usize {
            verification.rounds.push(round);
            return Ok((end, files));
        }
        // Answers are not all: what it uses the same way as the original does (a log that is a link) belongs to it.
        let additions = lacking.iter().filter(|missing| !is_same || self.belongs(missing)).map(Missing::addition);
        let additions: Vec<_> = additions.collect();
        if is_same && additions.is_empty() {
            verification.rounds.push(round);
            return Ok((end, files));
        }
        let reason = round.example.clone().unwrap_or_else(|| "it looks for what the original has".to_owned());
        self.progress.step(format!("repairing: {}", reason.lines().next().unwrap_or_default()));
        let libraries_of_all = verification.rounds.is_empty() && !self.request.sensor.senses().notify;
        let (extended, mut files) = self.extend(source, files, plan, additions, libraries_of_all).await?;
        rounds.refused.extend(extended.refused);
        if !extended.added.is_empty() {
            rounds.before_rule = None;
            note_added(&mut round, &files, &extended.added);
            verification.rounds.push(round);
            return Ok((Next::Try(Arc::new(extended.plan)), files));
        }
        if is_same {
            verification.rounds.push(round);
            return Ok((end, files));
        }
        // Nothing was looked for in vain: is it chance?
        rounds.verifier.learn_more(trial).await?;
        if trial.restless.is_none() {
            rounds.verifier.try_again(slim, trial).await?;
        }
        if trial.restless.is_none() && trial.findings.is_empty() {
            verification.rounds.push(Round { differences: 0, ..round });
            return Ok((Next::Done, files));
        }
        if trial.restless.is_some() {
            verification.rounds.push(round);
            return Ok((Next::GiveUp, files));
        }
        let (extended, returned) = self.add_left_out(source, files, plan, &rounds.originals, trial).await?;
        files = returned;
        rounds.refused.extend(extended.refused);
        if !extended.added.is_empty() {
            note_added(&mut round, &files, &extended.added);
            verification.rounds.push(round);
            return Ok((Next::Try(Arc::new(extended.plan)), files));
        }
        // A rule that did not help is taken back.
        let base = match rounds.before_rule.take() {
            Some((before, differences)) if trial.findings.len() >= differences => before,
            _ => Arc::clone(plan),
        };
        while let Some(&rule) = rounds.rules.next() {
            let (additions, returned) = self.widen(source, files, &base, rule, rounds, trial).await?;
            let (extended, returned) = self.extend(source, returned, &base, additions, false).await?;
            files = returned;
            if !extended.added.is_empty() {
                self.progress.step(format!("repairing: {}", rule.describe()));
                note_added(&mut round, &files, &extended.added);
                round.rule = Some(rule.describe().to_owned());
                rounds.before_rule = Some((base, trial.findings.len()));
                verification.rounds.push(round);
                return Ok((Next::Try(Arc::new(extended.plan)), files));
            }
        }
        while rounds.verifier.learn_more(trial).await? {
            if trial.findings.is_empty() {
                verification.rounds.push(Round { differences: 0, ..round });
                return Ok((Next::Done, files));
            }
        }
        verification.rounds.push(round);
        Ok((Next::GiveUp, files))
    }

    /// The plan with more in it.
    pub(super) async fn extend(
        &self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        additions: Vec<Addition>,
        libraries_of_all: bool,
    ) -> Result<(Extended, Files), Failure> {
        let (config, extras) = (meaning::config_view(&source.image.config), self.extras());
        let plan = Arc::clone(plan);
        let extended = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let contents = TreeContents::new(&tree, &mut *reader);
            let input =
                ExtendInput { plan: &plan, tree: &tree, config: &config, contents: &contents, extras: &extras, libraries_of_all };
            extend(&input, &additions).map(|extended| (extended, Files { reader, tree }))
        });
        Ok(extended.await.map_err(|error| Failure::internal(error.to_string()))??)
    }

    /// What a rule would add.
    async fn widen(
        &self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        rule: Widening,
        rounds: &Rounds<'_>,
        trial: &Trial,
    ) -> Result<(Vec<Addition>, Files), Failure> {
        let (plan, own) = (Arc::clone(plan), source.runtime(self.engines)?.own_prefix().to_owned());
        let mut observations = rounds.originals.clone();
        observations.push(trial.observed.observation.clone());
        let widened = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let contents = TreeContents::new(&tree, &mut *reader);
            let observations: Vec<&Observation> = observations.iter().collect();
            let own_prefix = own.as_bytes();
            let input = WidenInput { plan: &plan, tree: &tree, observations: &observations, contents: &contents, own_prefix };
            widen(rule, &input).map(|additions| (additions, Files { reader, tree }))
        });
        Ok(widened.await.map_err(|error| Failure::internal(error.to_string()))??)
    }

    /// What the plan would keep if the original had been seen to use it so.
    pub(super) fn belongs(&self, missing: &Missing) -> bool {
        let looked_at = self.request.keep.looked_at;
        !missing.by_sweep && (missing.access != Access::Lookup || looked_at != KeepLookedAt::None)
    }

    fn extras(&self) -> Extras {
        meaning::extras(&self.request.keep).0
    }

    /// Removes an image that was only tried.
    async fn discard(&self, source: &Source, image: &Loaded) {
        match (self.engines.started().filter(|_| source.chosen.is_embedded), self.engines.connected()) {
            (Some(embedded), _) => embedded.forget(&image.id),
            (None, Some(engine)) if engine.discard(&image.id, Duration::ZERO).await => self.engines.leftover.remove(&image.id),
            _ => {}
        }
    }
}

/// Why a second run would not be like the first, where that is so.
fn unverifiable(volumes: &Copies, runs: &[Observed]) -> Option<String> {
    let is_written = |target: &str| {
        let uses = runs.iter().flat_map(|run| &run.observation.uses);
        let writes = uses.filter(|path_use| matches!(path_use.access, Access::Write | Access::Change));
        writes.map(PathUse::absolute).any(|path| is_below(&path, target.as_bytes()))
    };
    let shared = volumes.shared().iter().find(|shared| is_written(&shared.target))?;
    Some(format!(
        "the program writes to `{}`, which cannot be copied for a second run ({}): give it a volume of test data, or mount it read-only",
        shared.target, shared.reason
    ))
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What the tried image looked for in vain.
pub(super) fn lacking(own_prefix: &str, files: &Files, plan: &Plan, trial: &Trial) -> Result<Vec<Missing>, Failure> {
    let mut is_kept = vec![false; files.tree.len()];
    plan.ids(&files.tree)?.into_iter().for_each(|id| is_kept[id.0 as usize] = true);
    let is_kept = |id: EntryId| is_kept[id.0 as usize];
    Ok(missing(&files.tree, &trial.observed.observation, own_prefix.as_bytes(), &is_kept))
}

fn note_added(round: &mut Round, files: &Files, added: &[EntryId]) {
    round.added = added.len();
    round.examples = added.iter().take(EXAMPLES).map(|&id| Path(files.tree.path(id))).collect();
}
