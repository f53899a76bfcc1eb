//! The program that slim puts into containers, and the wire format that it shares with the controller.
//!
//! It is the same executable as `slim` itself, started with a hidden verb: the [`stub`] that becomes the target, the
//! [`monitor`] that sees what the target does, the [`packer`] that lists and reads the image's tree, the [`relay`] that
//! connects a probe to a port which is not published. Where there is no engine, the helper of [`container`] makes the
//! container itself. Nothing here knows the controller; they meet in [`wire`] and [`container::message`].

pub mod calls;
pub mod container;
mod filter;
mod handshake;
pub mod identity;
mod kernel;
pub mod machine;
pub mod monitor;
mod mountinfo;
pub mod packer;
pub mod relay;
pub mod stub;
pub mod wire;

pub use handshake::Meeting;

/// Parsers that nobody else needs, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// As /proc/net/tcp, /proc/net/tcp6 and /proc/self/mountinfo.
    pub fn proc_tables(bytes: &[u8]) {
        crate::monitor::fuzz_tables(bytes);
        drop(crate::mountinfo::parse(bytes));
    }
}
