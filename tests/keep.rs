//! What is kept, and why.

mod extras;
mod paths;
mod programs;

use crate::support::{Image, NO_HTTP, Run, Slim};

/// Builds the slim image with no other words than these; what it does then is the test's to see.
#[track_caller]
pub(super) fn slim(image: &Image, words: &[&str]) -> Run {
    Slim::keep(image, &[&[NO_HTTP], words].concat()).run().ok()
}

/// What the slim image writes.
#[track_caller]
pub(super) fn slim_says(image: &Image, command: &[&str]) -> String {
    let output = image.run_slim(&[], command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
