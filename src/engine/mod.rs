//! Engines: what runs containers and keeps images.

pub mod answer;
pub mod capabilities;
pub mod container;
pub mod daemon_image;
pub mod docker;
pub mod embedded;
pub mod endpoint;
pub mod error;
pub mod inject;
pub mod kind;
pub mod options;
pub mod owner;
pub mod runtime;
mod sight;
pub(crate) mod signal;
pub mod stored;
pub mod volumes;
