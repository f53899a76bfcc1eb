//! The sensor: the target can't tell that it is observed, and nothing of what it does is lost.

pub mod alike;
mod calls;
mod lossless;
mod mounts;
mod senses;
mod signals;
mod ways;
