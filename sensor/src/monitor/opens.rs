//! The second sense: fanotify tells what the kernel opens and executes.
//!
//! It sees what no argument names: the loader of a program, the interpreter of a script, opens through io_uring. In
//! return its paths are resolved ones, and it knows nothing of look-ups.
//!
//! A mark on the whole file system works in any mount namespace, but only a root on an overlay has a file system of its
//! own: on any other root (vfs, a directory of the host) it would watch the host, so there it is a mark on the mount, as
//! it is on volumes. The queue is unlimited: a bounded one loses a quarter of a busy program's events.
//!
//! Each event brings an open descriptor, so the buffer is small: everything read at once is open at once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fanotify::low_level::{
    FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_MARK_MOUNT, FAN_NONBLOCK, FAN_ONDIR, FAN_OPEN,
    FAN_OPEN_EXEC, FAN_Q_OVERFLOW, FAN_UNLIMITED_MARKS, FAN_UNLIMITED_QUEUE, O_CLOEXEC, O_LARGEFILE, O_RDONLY, fanotify_init,
    fanotify_mark,
};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::mounted::Mounts;
use super::running::Running;
use super::telling::{Program, Telling, Used, User};
use super::{place, process};
use crate::kernel;
use crate::mountinfo::Mount;
use crate::wire::{Access, Fanotify, Sense};

/// `struct fanotify_event_metadata` (linux/fanotify.h): event_len u32, vers u8, reserved u8, metadata_len u16, mask u64,
/// fd i32, pid i32.
const EVENT: usize = 24;
/// Events are left to wait for so long. Where the first sense knows what runs, it is a matter of cost alone; ...
const PAUSE: Duration = Duration::from_millis(4);
/// ... without it, it must be less than most processes live, as their programs are to be told.
const PAUSE_ALONE: Duration = Duration::from_micros(200);
/// Events read at once.
const BATCH: usize = 170;

/// File systems whose files are made by the kernel: never content of an image.
const VIRTUAL: [&[u8]; 12] = [
    b"proc",
    b"sysfs",
    b"tmpfs",
    b"devpts",
    b"devtmpfs",
    b"mqueue",
    b"cgroup",
    b"cgroup2",
    b"securityfs",
    b"debugfs",
    b"tracefs",
    b"bpf",
];

/// See the module.
#[derive(Debug)]
pub(super) struct Opens {
    group: OwnedFd,
    mounts: Mounts,
    /// Held from reading events to having told them, so that a drain waits for who is in the middle of it.
    reading: Mutex<()>,
    /// What the first sense knows of the processes.
    pub(super) running: Running,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What happened, and on what.
    pub mask: u64,
    /// The open file; negative where there is none.
    pub descriptor: i32,
    /// The process, in the reader's pid namespace; 0 outside of it.
    pub process: i32,
}

/// Takes the events out of what was read; stops at the first that isn't whole.
pub fn walk(buffer: &[u8]) -> impl Iterator<Item = Event> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let head = rest.first_chunk::<EVENT>()?;
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        if length < EVENT || length > rest.len() {
            return None;
        }
        rest = &rest[length..];
        let mut mask = [0; 8];
        mask.copy_from_slice(&head[8..16]);
        Some(Event {
            mask: u64::from_ne_bytes(mask),
            descriptor: i32::from_ne_bytes(word(16)),
            process: i32::from_ne_bytes(word(20)),
        })
    })
}

impl Opens {
    /// Begins to watch; what it sees, or why nothing.
    pub(super) fn start() -> (Fanotify, Option<Opens>) {
        match Opens::try_start() {
            Ok((sees, opens)) => (sees, Some(opens)),
            Err(error) => (Fanotify::Refused(error.to_string()), None),
        }
    }

    fn try_start() -> io::Result<(Fanotify, Opens)> {
        let flags = FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS;
        let group = fanotify_init(flags, (O_RDONLY | O_CLOEXEC | O_LARGEFILE) as u32)?;
        let group = kernel::owned(group).ok_or_else(io::Error::last_os_error)?;
        let mask = FAN_OPEN | FAN_OPEN_EXEC | FAN_ONDIR;
        let mark = |what: u32, path: &str| {
            let path = place::path(path);
            fanotify_mark(group.as_raw_fd(), FAN_MARK_ADD | what, mask, nix::libc::AT_FDCWD, path.as_str()).map(drop)
        };
        let on_overlay = statfs(place::path("/").as_str()).is_ok_and(|root| root.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
        let sees = if on_overlay {
            mark(FAN_MARK_FILESYSTEM, "/")?;
            Fanotify::Filesystem
        } else {
            mark(FAN_MARK_MOUNT, "/")?;
            Fanotify::Mount
        };
        let mounts = Mounts::now();
        let is_directory = |path: &&str| std::fs::metadata(place::path(path)).is_ok_and(|metadata| metadata.is_dir());
        for target in mounts.iter().filter_map(real_below_root).filter(is_directory) {
            // A volume that cannot be marked is seen by the other sense.
            let _ = mark(FAN_MARK_MOUNT, target);
        }
        Ok((sees, Opens { group, mounts, reading: Mutex::new(()), running: Running::default() }))
    }

    /// Tells events as they come, for ever. `alone`: there is no first sense.
    pub(super) fn follow(&self, telling: &Telling, alone: bool) {
        let pause = if alone { PAUSE_ALONE } else { PAUSE };
        loop {
            let mut ready = [PollFd::new(self.group.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::NONE);
            // To wake up for each event costs more than the event, and equal ones become one while they wait.
            std::thread::sleep(pause);
            self.drain(telling);
        }
    }

    /// Tells all events that there are. When it returns, every open that was made before is told.
    pub(super) fn drain(&self, telling: &Telling) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.running.take_ended();
        let mut buffer = [0; EVENT * BATCH];
        loop {
            match nix::unistd::read(&self.group, &mut buffer) {
                Ok(0) | Err(nix::errno::Errno::EAGAIN) => break,
                Ok(length) => {
                    let mut last = None;
                    walk(&buffer[..length]).for_each(|event| self.tell(event, &mut last, telling));
                    // There were no more.
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    telling.lose(&format!("events of fanotify: {errno}"));
                    break;
                }
            }
        }
        self.running.forget(&ended);
    }

    fn tell(&self, event: Event, last: &mut Last, telling: &Telling) {
        if event.mask & FAN_Q_OVERFLOW != 0 {
            return telling.lose("fanotify's queue overflowed");
        }
        let Some(file) = kernel::owned(event.descriptor) else {
            return telling.lose(&format!("an event of fanotify came without its file (error {})", -event.descriptor));
        };
        // Outside of the container: the engine itself, looking at its files.
        if event.process == 0 {
            return;
        }
        telling.count_open();
        let known = last.take().filter(|(process, _)| *process == event.process).map(|(_, program)| program);
        let known = known.or_else(|| self.running.program(event.process));
        let program = known.unwrap_or_else(|| telling.program(&process::link(event.process, "exe").unwrap_or_default()));
        let (_, program) = last.insert((event.process, program));
        if is_runtime(program.executable()) {
            return;
        }
        let nobody;
        let program = match is_own(program.executable()) {
            false => &*program,
            // A stub that is about to become the program, and not yet known as that.
            true if event.mask & FAN_OPEN_EXEC != 0 => {
                nobody = telling.program(b"");
                &nobody
            }
            true => return,
        };
        let (Some(path), Ok(opened)) = (resolved(file.as_fd()), kernel::opened(file.as_fd())) else {
            return telling.lose("the path of an opened file is unknown");
        };
        let path = match opened.mount {
            Some(mount) => self.mounts.in_image(mount, event.process, path),
            None => path,
        };
        let access = match event.mask {
            mask if mask & FAN_OPEN_EXEC != 0 => Access::Exec,
            _ if opened.is_directory => Access::List,
            _ => Access::Open,
        };
        let user = User { session: 0, process: event.process, program };
        telling.used(user, Used { access, sense: Sense::Fanotify, root: b"", base: b"", path: &path }, || true);
        // It is about to be another program.
        if access == Access::Exec {
            *last = None;
        }
    }
}

/// Whose the last event was. Many come from one process in a row, whose program is looked up once.
type Last = Option<(i32, Program)>;

/// The path of an open file.
fn resolved(file: BorrowedFd<'_>) -> Option<Vec<u8>> {
    // Kept open, as the way to it is half of the cost.
    static OWN: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let way = || nix::fcntl::open("/proc/self/fd", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
    let own = OWN.get_or_init(way).as_ref()?;
    nix::fcntl::readlinkat(own, file.as_raw_fd().to_string().as_str()).ok().map(OsStringExt::into_vec)
}

/// Whether this is the program that we are too: a stub before it becomes the target.
pub(super) fn is_own(executable: &[u8]) -> bool {
    static OWN: OnceLock<Vec<u8>> = OnceLock::new();
    executable == OWN.get_or_init(|| process::link(std::process::id() as i32, "exe").unwrap_or_default())
}

/// Whether this is the engine's own runtime, about to execute what it was asked to: runc executes itself from a mount without
/// a place, or from memory. (It looks at the root directory; kept for that, it would be the run's doing, not the image's.)
fn is_runtime(executable: &[u8]) -> bool {
    executable == b"/" || executable.starts_with(b"/memfd:runc_cloned:")
}

/// Where a mount is that shows real files below the root. (A name that isn't UTF-8 is seen by the other sense.)
fn real_below_root(mount: &Mount) -> Option<&str> {
    let shows_files = mount.point != b"/" && !VIRTUAL.contains(&mount.kind.as_slice());
    shows_files.then(|| str::from_utf8(&mount.point).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: u32, mask: u64, descriptor: i32, process: i32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([3, 0, 24, 0]);
        bytes.extend(mask.to_ne_bytes());
        bytes.extend(descriptor.to_ne_bytes());
        bytes.extend(process.to_ne_bytes());
        bytes.resize(length.max(24) as usize, 0xaa);
        bytes
    }

    #[test]
    fn events_are_as_long_as_they_say() {
        let buffer = [event(24, 0x20, 7, 9), event(40, 0x1000, 8, 10), event(24, 0x4000, -1, 0)].concat();
        let events: Vec<Event> = walk(&buffer).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[1], Event { mask: 0x1000, descriptor: 8, process: 10 });
        assert_eq!(events[2], Event { mask: FAN_Q_OVERFLOW, descriptor: -1, process: 0 });
    }

    #[test]
    fn damage_ends_the_walk() {
        assert_eq!(walk(&event(24, 1, 1, 1)[..23]).count(), 0);
        assert_eq!(walk(&event(3, 1, 1, 1)).count(), 0);
        assert_eq!(walk(&[event(24, 1, 1, 1), event(4000, 1, 1, 1)[..100].to_vec()].concat()).count(), 1);
        assert_eq!(walk(&[0xff; 100]).count(), 0);
    }

    #[test]
    fn only_real_mounts_are_marked() {
        let text = b"1 0 8:1 / / rw - overlay overlay rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 8:1 /v /usr rw master:1 - ext4 /dev/vda rw\n4 1 8:1 /h /a\\040b rw - ext4 /dev/vda rw\nbroken\n";
        let mounts = crate::mountinfo::parse(text);
        assert_eq!(mounts.iter().filter_map(real_below_root).collect::<Vec<_>>(), ["/usr", "/a b"]);
    }
}
