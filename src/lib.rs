//! `slim`: container images with only what the application was seen to need.
//!
//! One pipeline: resolve the image, observe its container while probes exercise it, plan what is kept and why, pack it
//! into a single layer, report. A step never calls a later one.

pub mod cli;
pub mod engine;
pub mod escape;
pub mod exit;
pub mod files;
pub mod hidden;
pub mod image;
pub mod observe;
pub mod pack;
pub mod plan;
pub mod report;
#[cfg(test)]
mod rooms;
pub mod verify;
pub mod workspace;

/// Parsers that nobody else needs, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// As an executable, a script, a loader's cache, a database of packages.
    pub fn image_file(bytes: &[u8]) {
        crate::plan::fuzz_file(bytes);
    }

    /// As the log of a program that failed.
    pub fn log(bytes: &[u8]) {
        crate::verify::diagnosis::fuzz_log(bytes);
    }
}
