//! Containers without an engine: the helper that makes one, stays outside of it, and ends with it.
//!
//! The controller starts the executable again as a process with one thread, whose standard input is a socket: namespaces and
//! forks belong into no process that has threads. Over the socket come the [`spec`] and later requests; back go
//! events and descriptors ([`message`]).
//!
//! The [`helper`] enters the container's user, pid, network, IPC and UTS namespaces and forks. The child, which is process 1
//! of the new pid namespace, takes a mount namespace, makes the [`root`] with its [`mounts`] and [`devices`], enters it,
//! and becomes the program ([`process`]). The helper keeps this machine's view of files; it reaps, forks further
//! commands into the container, makes sockets in its network, and at the end empties the state directory. When its
//! socket is closed, however the controller ended, it kills process 1; the kernel then ends all others, and with the last
//! one the mounts are gone.

mod copy;
mod devices;
mod failure;
mod helper;
mod inside;
pub mod message;
mod mounts;
mod owners;
mod parts;
mod process;
mod profile;
mod root;
pub mod spec;
mod tree;

pub use self::copy::directory as copy_directory;
pub use self::helper::run;
pub use self::profile::ENGINE as SECCOMP_PROFILE;
pub use crate::kernel::kill_process;
