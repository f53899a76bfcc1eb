//! What an image is: its tree of entries and its configuration.

pub mod config;
pub mod tree;
