//! End to end: real containers, made of busybox and small programs, minified by the real executable.
//!
//! slim's own engine runs them, from files, unless a daemon is what is tested; what an engine can do in its own way is tested
//! with both (`on_both_engines!`). A test of what is seen or kept doesn't pay for a
//! verification (`Slim::observe`, `Slim::keep`).
//!
//! They need root, a Docker daemon, its client, `busybox` (static) and a C compiler; `tests/run` sees to all of that. A test
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
