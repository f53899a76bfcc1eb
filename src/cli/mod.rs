//! The command line: what can be typed ([`args`]), and what it means ([`request`]).
//!
//! The two are different types on purpose. What was typed is strings and numbers, checked one by one by clap; what it
//! means is ready objects, checked against each other, with the files that were named read. So the steps of the pipeline
//! never see a string that could still be wrong, and help, errors and parsing come from one place.

pub mod args;
pub mod build;
pub mod cache;
pub mod continue_after;
pub mod doctor;
mod engines;
pub mod failure;
pub mod meaning;
mod output_flags;
pub mod progress;
pub mod request;
mod run;
pub mod run_image;
mod sources;
pub mod style;
pub mod summary;
pub mod told;
mod values;
mod verification_flags;
pub mod verify;
pub mod words;

pub use args::Cli;
pub use run::run;
