//! What a plan leaves out though the original uses it: only where the plan came from a file, or was told to keep less.
//!
//! What a slim image lacks need not show as something that it looks for in vain: a name that is missing in a folder that is
//! listed is not looked for, and a program that isn't there, or whose interpreter isn't, never runs. The original's own
//! observation tells these, and so do the files of an image that could not even be started.

use std::sync::Arc;

use super::{Build, Files, Source};
use crate::cli::failure::Failure;
use crate::escape::escape;
use crate::image::tree::EntryId;
use crate::observe::observation::Observation;
use crate::plan::{Addition, Extended, Missing, Plan, Reason, missing};
use crate::report::verification::{Path, Suspect};
use crate::verify::Trial;

impl Build<'_> {
    /// The plan with what the original was seen to use; with what its programs need, where the image was not started.
    pub(super) async fn add_left_out(
        &self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        originals: &[Observation],
        trial: &Trial,
    ) -> Result<(Extended, Files), Failure> {
        let mut is_kept = vec![false; files.tree.len()];
        plan.ids(&files.tree)?.into_iter().for_each(|id| is_kept[id.0 as usize] = true);
        let is_kept = |id: EntryId| is_kept[id.0 as usize];
        let runtime = source.runtime(self.engines)?;
        let own_prefix = runtime.own_prefix().as_bytes();
        let used = originals.iter().flat_map(|observation| missing(&files.tree, observation, own_prefix, &is_kept));
        let additions: Vec<Addition> = used.filter(|used| self.belongs(used)).map(as_used).collect();
        self.extend(source, files, plan, additions, trial.observed.start_failure.is_some()).await
    }
}

fn as_used(Missing { entry, access, by, during, .. }: Missing) -> Addition {
    Addition { entry, reason: Reason::Used { access, by, during } }
}

/// What was added, for the user.
pub(super) fn suspects(files: &Files, left_out: &Extended) -> Vec<Suspect> {
    let suspect = |id: &EntryId| {
        let path = files.tree.path(*id);
        let kept = left_out.plan.entries.iter().find(|kept| kept.path == path)?;
        let reason = kept.reasons.iter().find_map(|reason| match reason {
            Reason::Used { by, during, .. } => {
                Some(format!("the plan leaves it out, and `{}` uses it in the original during {}", escape(by), during.0))
            }
            Reason::Needed { by, .. } => Some(format!("the plan leaves it out, and `{}` needs it", escape(by))),
            Reason::Link { to } => Some(format!("the plan leaves out this link on the way to `{}`", escape(to))),
            _ => None,
        });
        Some(Suspect { path: Path(path), reason: reason? })
    };
    left_out.added.iter().filter_map(suspect).collect()
}
