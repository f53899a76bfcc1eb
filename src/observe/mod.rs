//! Watching an image's container while it is exercised, and the [`observation`] that comes of it.

pub mod continue_after;
pub mod observation;
