//! What is mounted in a container besides its root: /proc, /sys, /etc/hosts and its like, binds, volumes, memory; and what
//! of it is hidden or protected.
//!
//! As Docker does it, option by option. What a machine refuses is done in the next best way and noted: in a container
//! whose own /proc is partly hidden the kernel gives no new one, so the old one is bound.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::copy;
use super::failure::{During, SetUpError};
use super::inside::{Inside, Kind, Place};
use super::root::NONE;
use super::spec::{ContainerSpec, Mount, Mounted, Network};

/// Longest file that is taken from this machine's /etc.
const MAX_FILE: u64 = 64 << 10;

pub(super) const NO_SETUID_DEVICE_EXECUTION: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts a file system of the kernel's at a place.
pub(super) fn mount_at(place: &Place, kind: &str, flags: MsFlags, data: &str) -> nix::Result<()> {
    mount(Some(kind), &place.path(), Some(kind), flags, Some(data))
}

/// Mounts a file or directory of this machine at a place, with what is mounted below.
pub(super) fn bind(source: &Path, place: &Place) -> nix::Result<()> {
    mount(Some(source), &place.path(), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
}

/// Adds flags to what is mounted at a path. Those that it has stay: in a user namespace none can be taken away.
pub(super) fn restrict(inside: &Inside, path: &Path, flags: MsFlags) -> nix::Result<()> {
    let place = inside.find(path)?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags | kept_flags(place.as_fd());
    mount(NONE, &place.path(), NONE, flags, NONE)
}

/// Makes what is mounted at a path unwritable.
pub(super) fn protect(inside: &Inside, path: &Path) -> nix::Result<()> {
    restrict(inside, path, MsFlags::MS_RDONLY)
}

/// The flags of a mount that stay when it is mounted again.
pub(super) fn kept_flags(place: &OwnedFd) -> MsFlags {
    let present = fstatvfs(place).map_or(FsFlags::empty(), |status| status.flags());
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    pairs.into_iter().filter(|(flag, _)| present.contains(*flag)).map(|(_, flag)| flag).collect()
}

/// /proc, of this process's pid namespace.
pub(super) fn proc(inside: &Inside, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    let place = inside.make(Path::new("/proc"), Kind::Directory).during(|| "make `/proc`")?;
    let Err(errno) = mount_at(&place, "proc", NO_SETUID_DEVICE_EXECUTION, "") else { return Ok(()) };
    bind(Path::new("/proc"), &place).during(|| "mount `/proc`")?;
    fallbacks.push(format!("`/proc` shows all processes of this machine (a new one: {})", errno.desc().to_lowercase()));
    Ok(())
}

/// /sys, unwritable, and without the control groups of this machine.
pub(super) fn sys(inside: &Inside, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    let path = Path::new("/sys");
    let place = inside.make(path, Kind::Directory).during(|| "make `/sys`")?;
    let flags = NO_SETUID_DEVICE_EXECUTION | MsFlags::MS_RDONLY;
    if let Err(errno) = mount_at(&place, "sysfs", flags, "") {
        let bound = bind(path, &place).and_then(|()| protect(inside, path));
        match bound {
            Ok(()) => fallbacks.push(format!("`/sys` is this machine's (a new one: {})", errno.desc().to_lowercase())),
            Err(errno) => fallbacks.push(format!("`/sys` is empty ({})", errno.desc().to_lowercase())),
        }
        return Ok(());
    }
    let is_unified = statfs("/sys/fs/cgroup").is_ok_and(|status| status.filesystem_type() == CGROUP2_SUPER_MAGIC);
    // Not there in a kernel without control groups.
    if let Ok(groups) = inside.find(Path::new("/sys/fs/cgroup")) {
        let unified = is_unified && mount_at(&groups, "cgroup2", flags, "").is_ok();
        if !unified {
            mount_at(&groups, "tmpfs", flags, "mode=755").during(|| "hide the control groups of this machine")?;
        }
    }
    Ok(())
}

/// /etc/hostname, /etc/hosts and /etc/resolv.conf.
pub(super) fn names(inside: &Inside, spec: &ContainerSpec) -> Result<(), SetUpError> {
    let resolv_conf = spec.resolv_conf.clone().unwrap_or_else(|| of_this_machine("/etc/resolv.conf"));
    let own_hosts = if spec.network == Network::Host { of_this_machine("/etc/hosts") } else { String::new() };
    let hostname = format!("{}\n", spec.hostname);
    for (name, contents) in [("hostname", hostname), ("hosts", hosts(spec, own_hosts)), ("resolv.conf", resolv_conf)] {
        let file = spec.state.join(name);
        fs::write(&file, contents).during(|| format!("write `{}`", file.display()))?;
        let target = Path::new("/etc").join(name);
        let place = inside.make(&target, Kind::File);
        let mounted = place.and_then(|place| bind(&file, &place));
        mounted.during(|| format!("mount `{}`", target.display()))?;
    }
    Ok(())
}

/// What this machine has; nothing where it cannot be read.
fn of_this_machine(path: &str) -> String {
    let mut bytes = vec![];
    let _ = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As Docker writes it: in this machine's network what this machine has, else the names of a container; whose address is
/// the loopback's, as it has no other.
fn hosts(spec: &ContainerSpec, of_this_machine: String) -> String {
    let has_own = spec.network == Network::Loopback;
    let mut text = of_this_machine;
    if has_own {
        text += "127.0.0.1\tlocalhost\n\
                 ::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::\tip6-localnet\n\
                 ff00::\tip6-mcastprefix\n\
                 ff02::1\tip6-allnodes\n\
                 ff02::2\tip6-allrouters\n";
    } else if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (address, names) in &spec.hosts {
        text += &format!("{address}\t{names}\n");
    }
    if has_own {
        text += &format!("127.0.0.1\t{}\n", spec.hostname);
    }
    text
}

/// What the user mounts, outer before inner.
pub(super) fn given(inside: &Inside, spec: &ContainerSpec) -> Result<(), SetUpError> {
    let mut mounts: Vec<&Mount> = spec.mounts.iter().collect();
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    for (number, mount) in mounts.into_iter().enumerate() {
        let target = Path::new(&mount.target);
        let mut flags = if mount.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        match &mount.what {
            Mounted::Bind(source) => {
                let step = || format!("mount `{}` at `{}`", source.display(), mount.target);
                let source_kind = fs::metadata(source).during(step)?;
                let kind = if source_kind.is_dir() { Kind::Directory } else { Kind::File };
                let place = inside.make(target, kind).during(step)?;
                if place.is_directory() != source_kind.is_dir() {
                    let error = SetUpError::new(step(), Errno::ENOTDIR);
                    return Err(error.advice("mount a directory on a directory, and a file on a file"));
                }
                bind(source, &place).during(step)?;
                if source_kind.is_dir() {
                    flags |= MsFlags::MS_NODEV;
                }
            }
            Mounted::Volume(source) => {
                let step = || format!("make a volume at `{}`", mount.target);
                let place = inside.make(target, Kind::Directory).during(step)?;
                let (volumes, aside) = (spec.state.join("volumes"), spec.state.join("aside"));
                let volume = volumes.join(number.to_string());
                let made = fs::create_dir_all(&volumes).and_then(|()| fs::create_dir_all(&aside));
                let source = source.clone().unwrap_or_else(|| place.path());
                made.and_then(|()| copy::directory(&source, &volume, &aside)).during(step)?;
                bind(&volume, &place).during(step)?;
                flags |= MsFlags::MS_NODEV;
            }
            Mounted::Tmpfs(options) => {
                let step = || format!("mount memory at `{}`", mount.target);
                let place = inside.make(target, Kind::Directory).during(step)?;
                let (own_flags, data) = tmpfs_options(options, place.mode());
                let mounted = mount_at(&place, "tmpfs", own_flags, &data).during(step);
                mounted.map_err(|error| error.advice(format!("its options were `{}`", options.join(","))))?;
            }
        }
        if !flags.is_empty() {
            restrict(inside, target, flags).during(|| format!("restrict what `{}` allows", mount.target))?;
        }
    }
    Ok(())
}

/// Splits options into flags and what tmpfs itself takes. Without a mode it has that of the directory below.
fn tmpfs_options(options: &[String], mode_below: u32) -> (MsFlags, String) {
    let mut flags = NO_SETUID_DEVICE_EXECUTION;
    let mut data: Vec<&str> = vec![];
    for word in options.iter().flat_map(|option| option.split(',')).filter(|word| !word.is_empty()) {
        match word {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "exec" => flags -= MsFlags::MS_NOEXEC,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "suid" => flags -= MsFlags::MS_NOSUID,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "dev" => flags -= MsFlags::MS_NODEV,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            other => data.push(other),
        }
    }
    let mode = format!("mode={mode_below:o}");
    if !data.iter().any(|word| word.starts_with("mode=")) {
        data.push(&mode);
    }
    (flags, data.join(","))
}

/// Hides and protects parts of /proc and /sys. What isn't there needs neither.
pub(super) fn cover(inside: &Inside, spec: &ContainerSpec) -> Result<(), SetUpError> {
    for path in &spec.read_only_paths {
        let Ok(place) = inside.find(Path::new(path)) else { continue };
        let source: PathBuf = place.path();
        let protected = bind(&source, &place).and_then(|()| protect(inside, Path::new(path)));
        protected.during(|| format!("protect `{path}` from being written"))?;
    }
    // The container's own: this machine's would be in reach, to be changed.
    let null = inside.find(Path::new("/dev/null")).during(|| "open `/dev/null`")?;
    for path in &spec.masked_paths {
        let Ok(place) = inside.find(Path::new(path)) else { continue };
        let covered =
            if place.is_directory() { mount_at(&place, "tmpfs", MsFlags::MS_RDONLY, "") } else { bind(&null.path(), &place) };
        covered.during(|| format!("hide `{path}`"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::Root;

    #[test]
    fn options_of_memory_are_split() {
        let split = |words: &[&str], mode| tmpfs_options(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), mode);
        let all = NO_SETUID_DEVICE_EXECUTION;
        assert_eq!(split(&[], 0o1777), (all, "mode=1777".to_owned()));
        assert_eq!(split(&["size=64m,mode=700", "exec"], 0o755), (all - MsFlags::MS_NOEXEC, "size=64m,mode=700".to_owned()));
        assert_eq!(split(&["ro,,suid,dev"], 0o755), (MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY, "mode=755".to_owned()));
    }

    #[test]
    fn hosts_end_with_the_container_itself() {
        let mut spec = ContainerSpec::new(Root::Layers(vec![]), "/state".into(), 0, vec![]);
        spec.hosts = vec![("10.0.0.1".to_owned(), "db".to_owned())];
        let text = hosts(&spec, String::new());
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"), "{text}");
        assert!(text.ends_with("ff02::2\tip6-allrouters\n10.0.0.1\tdb\n127.0.0.1\tslim\n"), "{text}");
        spec.network = Network::Host;
        assert_eq!(hosts(&spec, "127.0.0.1 machine".to_owned()), "127.0.0.1 machine\n10.0.0.1\tdb\n");
    }
}
