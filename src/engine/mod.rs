//! Engines: what runs containers, and how it is told to.

pub mod capabilities;
pub mod options;
