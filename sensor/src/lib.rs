//! The program that slim puts into containers, and the wire format that it shares with the controller.

pub mod packer;
pub mod wire;
