//! What an image is: its name, its configuration, its tree of entries and their bytes.

pub mod config;
pub mod digest;
pub mod layer;
pub mod local;
pub mod location;
pub mod output;
pub mod packer;
pub mod read_files;
pub mod reference;
pub mod source;
pub mod store;
pub mod transport;
pub mod tree;
