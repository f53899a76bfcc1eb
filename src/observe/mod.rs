//! Watching an image's container while it is exercised, and the [`observation`] that comes of it.

pub mod continue_after;
pub mod file;
pub mod merge;
pub mod monitor;
pub mod observation;
pub mod probing;
pub mod recorder;
pub mod run;
pub mod scene;
pub mod sensor;
pub mod target;
