//! /dev as Docker makes it: a small tmpfs with the devices that every program may have, terminals, and shared memory.
//!
//! The directory itself takes no devices: those that there are lie in a file system that nobody else sees, and are bound.
//! So a program that may call mknod(2) makes nothing that it could open. Who may not make devices (in a user
//! namespace nobody may) gets this machine's.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::pty::{PtyMaster, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Uid;

use super::failure::{During, SetUpError};
use super::inside::{Inside, Kind};
use super::mounts::{NO_SETUID_DEVICE_EXECUTION, mount_at};
use super::root::NONE;
use super::spec::ContainerSpec;

const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Makes /dev.
pub(super) fn make(inside: &Inside, spec: &ContainerSpec, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    let target = Path::new("/dev");
    let place = inside.make(target, Kind::Directory).during(|| "make `/dev`")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_STRICTATIME;
    mount_at(&place, "tmpfs", flags, "mode=755,size=65536k").during(|| "mount `/dev`")?;
    let new = inside.find(target).during(|| "open `/dev`")?;
    let directory = new.path();
    let hidden = spec.state.join("devices");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let mounted = fs::create_dir(&hidden).during(|| "make a place for devices").and_then(|()| {
        mount(Some("tmpfs"), &hidden, Some("tmpfs"), flags, Some("mode=755,size=64k")).during(|| "mount memory for devices")
    });
    mounted?;
    for (name, major, minor) in DEVICES {
        let made = device(&hidden.join(name), &directory.join(name), name, makedev(major, minor));
        made.during(|| format!("make `/dev/{name}`"))?;
    }
    for (name, link_target) in LINKS {
        // A kernel may be without it.
        if name == "core" && inside.find(Path::new(link_target)).is_err() {
            continue;
        }
        symlink(link_target, directory.join(name)).during(|| format!("make `/dev/{name}`"))?;
    }
    let terminals = make_below(inside, "/dev/pts", |path| {
        // In a user namespace there may be no such group.
        let with_group = "newinstance,ptmxmode=0666,mode=0620,gid=5";
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(Some("devpts"), path, Some("devpts"), flags, Some(with_group))
            .or_else(|_| mount(Some("devpts"), path, Some("devpts"), flags, Some("newinstance,ptmxmode=0666,mode=0620")))
    });
    let memory = format!("mode=1777,size={}", spec.shared_memory);
    let shared = make_below(inside, "/dev/shm", |path| {
        mount(Some("shm"), path, Some("tmpfs"), NO_SETUID_DEVICE_EXECUTION, Some(memory.as_str()))
    });
    let queues =
        make_below(inside, "/dev/mqueue", |path| mount(Some("mqueue"), path, Some("mqueue"), NO_SETUID_DEVICE_EXECUTION, NONE));
    shared.during(|| "mount `/dev/shm`")?;
    if spec.process.terminal {
        terminals.during(|| "mount `/dev/pts`")?;
    } else if let Err(errno) = terminals {
        fallbacks.push(format!("`/dev/pts` is empty ({})", errno.desc().to_lowercase()));
    }
    if let Err(errno) = queues {
        fallbacks.push(format!("`/dev/mqueue` is empty ({})", errno.desc().to_lowercase()));
    }
    Ok(())
}

fn make_below(inside: &Inside, path: &str, mount: impl FnOnce(&Path) -> nix::Result<()>) -> nix::Result<()> {
    let place = inside.make(Path::new(path), Kind::Directory)?;
    mount(&place.path())
}

/// Makes a device at `hidden` and binds it to `path`.
fn device(hidden: &Path, path: &Path, name: &str, number: u64) -> nix::Result<()> {
    let raw = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    File::create(path).map_err(raw)?;
    let made = mknod(hidden, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), number);
    let source = if made.is_ok() {
        fs::set_permissions(hidden, fs::Permissions::from_mode(0o666)).map_err(raw)?;
        hidden.to_owned()
    } else {
        Path::new("/dev").join(name)
    };
    mount(Some(&source), path, NONE, MsFlags::MS_BIND, NONE)
}

/// A terminal of the container's own: its outer end, and its inner one. To be called inside.
pub(super) fn terminal(uid: u32) -> Result<(PtyMaster, OwnedFd, PathBuf), SetUpError> {
    let step = || "make a terminal";
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).during(step)?;
    unlockpt(&master).during(step)?;
    let path = PathBuf::from(ptsname_r(&master).during(step)?);
    let slave = open(&path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty()).during(step)?;
    // As Docker: the group stays that of terminals. An id that has no place in the namespace leaves it ours.
    let _ = nix::unistd::fchown(&slave, Some(Uid::from_raw(uid)), None);
    Ok((master, slave, path))
}

/// Makes the first process's terminal the console.
pub(super) fn console(terminal: &Path) -> Result<(), SetUpError> {
    let console = Path::new("/dev/console");
    File::create(console).during(|| "make `/dev/console`")?;
    mount(Some(terminal), console, NONE, MsFlags::MS_BIND, NONE).during(|| "mount `/dev/console`")
}
