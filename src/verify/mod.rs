//! Whether the slim image does what the original does, and what is the matter where it doesn't.
//!
//! [`diagnosis`] puts into words what evidence of a failed run says about its cause.

pub mod diagnosis;
