//! What the words say of how the result is checked, and of a plan that is given.

use super::args::VerificationArgs;
use super::request::{KeepFlags, UsageError, wrong};
use crate::verify::Level;

/// How the result is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationFlags {
    /// How much must be as in the original.
    pub level: Level,
    /// The level was asked for: what cannot be verified is an error then.
    pub is_demanded: bool,
    /// Rounds of repair at most.
    pub repair_rounds: u32,
    /// Also what could not be verified gets its name.
    pub keep_unverified: bool,
    /// Runs of the original.
    pub runs: u32,
    /// Pack twice.
    pub check_reproducible: bool,
}

/// Makes sense of them.
pub(super) fn verification_flags(args: &VerificationArgs, with_plan: bool) -> VerificationFlags {
    VerificationFlags {
        level: args.verify.unwrap_or(if with_plan { Level::Off } else { Level::Strict }),
        is_demanded: args.verify.is_some_and(|level| level != Level::Off),
        repair_rounds: args.repair_rounds,
        keep_unverified: args.keep_unverified.unwrap_or(false),
        runs: args.runs,
        check_reproducible: args.check_reproducible.unwrap_or(false),
    }
}

/// A plan is all that there is to say of what is kept.
pub(super) fn nothing_but_the_plan(keep: &KeepFlags) -> Result<(), UsageError> {
    let given = [
        ("--include-path", !keep.paths.is_empty()),
        ("--include-bin", !keep.binaries.is_empty()),
        ("--include-exe", !keep.executables.is_empty()),
        ("--include-shell", keep.shell),
        ("--include-zoneinfo", keep.zoneinfo),
        ("--include-workdir", keep.working_directory),
        ("--exclude-pattern", !keep.exclude.is_empty()),
        ("--path-perms", !keep.permissions.is_empty()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(wrong("--plan", "...", format!("the plan says what is kept: leave `{option}` out, or edit the plan")))
        }
        None => Ok(()),
    }
}
