//! What is kept, and why: a pure function from the image's tree, observations and declared extras to a [`Plan`].
//!
//! [`make`] goes from evidence to consequence: what processes used (`observed`, with what they merely looked at by the
//! policy of `looked_at`), what the image's configuration names (`config`), what every image has (`always`), what the user
//! asked for (`extras`), what those files need to run (`closure`), then the directories above all of it. Paths are resolved
//! as the process saw them by [`resolve`]; the set in the making is a `draft`.
//!
//! When the slim image turns out not to do what the original does, [`missing`] tells from its observation what it looked
//! for in vain, [`widen`] what else it could need where that is nothing, and [`extend`] makes a plan with more from the
//! plan that was too small.
//!
//! Nothing here does I/O or runs anything: file contents come through [`Contents`], and everything in an image or an
//! observation is treated as if it was made to break this program.

pub mod resolve;

mod always;
mod closure;
mod config;
mod draft;
mod elf;
mod extend;
mod extras;
mod format;
mod language_package;
mod library_cache;
mod library_search;
mod looked_at;
mod make;
mod observed;
mod packages;
mod repair;
mod runs;
#[cfg(test)]
mod testing;
mod widen;

pub use config::ConfigView;
pub use extend::{Addition, ExtendInput, Extended, extend};
pub use extras::{Extras, PathPermissions};
pub use format::{Edge, Kept, PhaseName, Plan, Reason, Widening, path_order};
pub use looked_at::KeepLookedAt;
pub use make::{PlanInput, make};
pub use repair::{Missing, missing};
pub use runs::seen_by_some;
pub use widen::{WidenInput, widen};

#[cfg(test)]
pub(crate) fn observation_of_nothing() -> crate::observe::observation::Observation {
    testing::observation(&[])
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_file(bytes: &[u8]) {
    let _ = (elf::interpreter(bytes), elf::parse(bytes), library_cache::parse(bytes));
    closure::fuzz(bytes);
    packages::fuzz(bytes);
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// An observation of another image.
    #[error("an observation is of the image `{observed}`, not of `{image}`: observe this image, or build from that one")]
    OtherImage {
        /// What was observed.
        observed: String,
        /// What is to be built.
        image: String,
    },
    /// A declared extra that the image does not have.
    #[error("`{option}` matches nothing in the image: check its spelling, or leave it out")]
    Nothing {
        /// The option with its value.
        option: String,
    },
    /// A declared extra that cannot be understood.
    #[error("`{option}` is not usable: {problem}")]
    Option {
        /// The option with its value.
        option: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Not a plan at all.
    #[error("the plan cannot be read: {0}")]
    Json(serde_json::Error),
    /// Another version of the format.
    #[error("the plan has version {0} of its format, this program reads versions 1 to {version}: write it again with this program", version = Plan::VERSION)]
    Version(u32),
    /// An entry that cannot be in a plan.
    #[error("the plan's entry `{path}` is not valid: {problem}")]
    Entry {
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry that the image does not have.
    #[error("the plan keeps `{0}`, which is not in the image: it was made of another image")]
    NotInImage(String),
}
