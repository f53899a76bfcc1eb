//! The embedded engine's runner: containers without a daemon, made by this executable alone.
//!
//! [`Runner::start`] executes the executable again as a helper (`slim_sensor::container`), hands it a
//! [`ContainerSpec`](slim_sensor::container::spec::ContainerSpec) and the standard streams, and gives a [`Running`]: wait,
//! kill, exec, connect. No image is known there: the root is layers or a directory.
//! [`Embedded`] makes an engine of it: containers of images, watched by a monitor ([`ObservedContainer`]).
//!
//! What a machine allows differs, so there are tiers ([`Tier`]), tried in order by really making a container: as root;
//! in a user namespace with subordinate ids; in one with a single id. [`probe_tiers`] tells what each gives and why not.
//!
//! Nothing outlives the controller, however it ends: the helper notices the end of its socket.

mod engine;
mod ids;
mod link;
mod log;
mod monitor;
mod observed;
mod root;
mod runner;
mod running;
mod specify;
mod streams;
mod tiers;

pub use self::engine::{Embedded, EmbeddedError};
pub use self::ids::IdsError;
pub use self::observed::{ObservedContainer, ObservedStart, StubOptions};
pub use self::root::ImageRoot;
pub use self::runner::{Runner, RunnerError};
pub use self::running::{Command, Running};
pub use self::specify::refuse_what_is_not_known;
pub use self::streams::{Output, Streams};
pub use self::tiers::{Tier, TierReport, probe_tiers};
