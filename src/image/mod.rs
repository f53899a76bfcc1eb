//! What an image is: its name, its configuration, its tree of entries and their bytes.

pub mod config;
pub mod output;
pub mod packer;
pub mod reference;
pub mod source;
pub mod tree;
