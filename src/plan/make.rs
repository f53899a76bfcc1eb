//! From evidence to plan, step by step.

use super::extras::Extras;
use super::format::Plan;
use super::looked_at::{self, KeepLookedAt};
use super::{ConfigView, PlanError, always, closure, config, draft::Draft, observed};
use crate::image::read_files::Contents;
use crate::image::tree::Tree;
use crate::observe::observation::Observation;

/// All that a plan is made of.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "a reader of contents has no text of its own")]
pub struct PlanInput<'a> {
    /// The image's id, `sha256:...`.
    pub image: &'a str,
    /// What is in the image.
    pub tree: &'a Tree,
    /// That is the root of a machine, not of an image.
    pub is_machine: bool,
    /// Its configuration.
    pub config: &'a ConfigView,
    /// What was seen of its runs, all of this image.
    pub observations: &'a [Observation],
    /// What the user asked for.
    pub extras: &'a Extras,
    /// What happens to what was merely looked at.
    pub keep_looked_at: KeepLookedAt,
    /// Contents of its files.
    pub contents: &'a dyn Contents,
    /// Directory of slim's own program in the observed containers: what that used counts for nothing. May be empty.
    pub own_prefix: &'a [u8],
}

/// Makes the plan. The same input gives the same plan.
///
/// # Errors
/// [`PlanError`]: an observation of another image, or an extra that matches nothing or is not usable.
pub fn make(input: &PlanInput) -> Result<Plan, PlanError> {
    let mut draft = Draft::new(input.tree);
    for observation in input.observations {
        if observation.header.image != input.image {
            let (observed, image) = (observation.header.image.clone(), input.image.to_string());
            return Err(PlanError::OtherImage { observed, image });
        }
        observed::keep(&mut draft, observation, input.keep_looked_at, input.own_prefix);
    }
    config::keep(&mut draft, input.config);
    always::keep(&mut draft, input.is_machine);
    input.extras.keep(&mut draft, input.config, input.contents)?;
    closure::keep(&mut draft, input.config, input.contents);
    looked_at::keep_listed(&mut draft, input.keep_looked_at);
    input.extras.exclude_and_close(&mut draft)?;
    let notes = std::mem::take(&mut draft.notes);
    let mut entries = draft.into_entries();
    input.extras.change_permissions(input.tree, &mut entries);
    Ok(Plan { version: Plan::VERSION, image: input.image.to_string(), notes, entries })
}
