//! What is kept, and why.

mod extras;
mod paths;
mod programs;

use crate::support::{Image, NO_HTTP, Run, Slim};

/// Builds the slim image with no other words than these.
#[track_caller]
pub(super) fn slim(image: &Image, words: &[&str]) -> Run {
    Slim::build(image, &[&[NO_HTTP], words].concat()).run().ok()
}

#[track_caller]
pub(super) fn keeps(run: &Run, kept: &[&str], removed: &[&str]) {
    for path in kept {
        assert!(run.keeps(path), "{path} is not kept");
    }
    for path in removed {
        assert!(!run.keeps(path), "{path} is kept: {:?}", run.reasons(path));
    }
}
