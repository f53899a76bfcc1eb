//! Where the monitor is: in the container that it watches, or outside of it.
//!
//! An engine that is another program starts it inside, by its exec. There it sees the container as its processes do, but the
//! kernel kills it with their first. The embedded engine starts it outside of the container's pid namespace: it outlives
//! them all, numbers them as this machine does, and reaches the container's files through its first process.
//!
//! A monitor watches one container, so this is known of the whole process, from the first stub on.

use std::sync::OnceLock;

use super::process;

/// The container's first process, where the monitor is outside.
static OUTSIDE_OF: OnceLock<i32> = OnceLock::new();

/// The monitor is outside of the container whose first process this is.
pub(super) fn set_outside_of(first: i32) {
    // Only the first stub is the first process.
    let _ = OUTSIDE_OF.set(first);
}

pub(super) fn is_outside() -> bool {
    OUTSIDE_OF.get().is_some()
}

/// The container's first process.
pub(super) fn first() -> i32 {
    OUTSIDE_OF.get().copied().unwrap_or(1)
}

/// A process whose mounts are the container's.
pub(super) fn inhabitant() -> i32 {
    OUTSIDE_OF.get().copied().unwrap_or_else(|| std::process::id() as i32)
}

/// The path, for us, of an absolute path in the container.
pub(super) fn path(inside: &str) -> String {
    match OUTSIDE_OF.get() {
        Some(first) => format!("/proc/{first}/root{inside}"),
        None => inside.to_owned(),
    }
}

/// The container's processes.
pub(super) fn processes() -> Vec<i32> {
    let mut all = process::all();
    if let Some(first) = OUTSIDE_OF.get() {
        let namespace = |id: i32| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let own = namespace(*first);
        all.retain(|&id| own.is_some() && namespace(id) == own);
    }
    all
}

/// The container has a network of its own, whose sockets are nobody's but its processes'.
pub(super) fn has_own_network() -> bool {
    let network = |id: i32| process::link(id, "ns/net");
    OUTSIDE_OF.get().is_some_and(|first| network(*first).is_some_and(|own| Some(own) != network(std::process::id() as i32)))
}

/// What a process is called in the container.
pub(super) fn number_inside(id: i32) -> i32 {
    if is_outside() { process::status(id).map_or(0, |status| status.innermost) } else { id }
}
