//! End to end: real containers on a real daemon, made of busybox and small programs, minified by the real executable.
//!
//! They need a Docker daemon, its client, `busybox` (static) and a C compiler; `tests/run` sees to all of that. A test
//! whose engine is missing fails. Everything that a test makes in the daemon carries the name of its process, and is
//! removed when the test ends, also when it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "nothing here is an interface")]

mod archives;
mod build;
mod cache;
mod daemon;
mod embedded;
mod engines;
mod failures;
mod hostile;
mod image;
mod keep;
mod leftovers;
mod options;
mod outputs;
mod probing;
mod pull;
mod registry;
mod run_image;
mod sensor;
mod support;
mod verify;
