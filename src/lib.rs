//! `slim`: container images with only what the application was seen to need.
//!
//! One pipeline: resolve the image, observe its container while probes exercise it, plan what is kept and why, pack it
//! into a single layer, report. A step never calls a later one.

pub mod escape;
pub mod image;
pub mod observe;
pub mod pack;
pub mod plan;
