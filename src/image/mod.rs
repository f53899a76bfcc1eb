//! What an image is: its tree of entries and its configuration.

pub mod reference;
pub mod tree;
