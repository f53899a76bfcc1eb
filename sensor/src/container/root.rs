//! The root file system of a container: layers under a writable one, or a plain directory; and the step into it.
//!
//! Every step is tried, and where the machine refuses it the next best is done and noted: an overlay whose writable layer
//! cannot be where it should (a state directory on an overlay itself, as in a container, or on NFS) has it in memory;
//! where something is mounted below a directory, it is laid over in parts ([`parts`]); where there is no overlay at all the
//! layers are copied; where pivot_root(2) is refused (Docker's seccomp profile does)
//! the root is moved over the old one.
//!
//! Docker keeps a container from this machine's disks by the devices control group. There are no control groups here, so
//! device files work in /dev alone: what a program makes elsewhere by mknod(2) cannot be opened.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::failure::{During, SetUpError};
use super::parts::{self, Points};
use super::spec::{ContainerSpec, Ids, Root};
use super::{copy, mounts};

/// No source, type or data.
pub(super) const NONE: Option<&str> = None;

/// Mounts the root below the container's state directory; where.
pub(super) fn make(spec: &ContainerSpec, fallbacks: &mut Vec<String>) -> Result<PathBuf, SetUpError> {
    // What is mounted from here on is nobody else's.
    let private = mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).during(|| "make the mounts private");
    private.map_err(|error| error.advice("in a chroot, bind its directory onto itself first"))?;
    let merged = spec.state.join("root");
    directory(&merged)?;
    match &spec.root {
        Root::Directory(path) => {
            bind_without_devices(path, &merged).during(|| format!("use `{}` as root", path.display()))?;
        }
        Root::Layers(layers) => overlay(spec, layers, &merged, fallbacks)?,
    }
    Ok(merged)
}

fn overlay(spec: &ContainerSpec, layers: &[PathBuf], merged: &Path, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    let open = |path: &PathBuf| open_directory(path).during(|| format!("open the layer `{}`", path.display()));
    let opened = layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let attributes = if spec.ids == Ids::Same && is_initial_user_namespace() { "" } else { ",userxattr" };
    let try_in = |state: &Path| -> Result<(), SetUpError> {
        let (upper, work) = (state.join("upper"), state.join("work"));
        directory(&upper)?;
        directory(&work)?;
        mount_overlay(&opened, &upper, &work, merged, attributes).during(|| "mount the layers")
    };
    let Err(on_disk) = try_in(&spec.state) else { return Ok(()) };
    let memory = spec.state.join("memory");
    directory(&memory)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &memory, Some("tmpfs"), flags, Some("mode=755")).during(|| "mount memory for the writable layer")?;
    let Err(in_memory) = try_in(&memory) else {
        fallbacks.push(format!("the writable layer is in memory ({on_disk})"));
        return Ok(());
    };
    if let [layer] = layers
        && in_memory.errno == Errno::EINVAL
        && let points = Points::below(layer).during(|| "list what is mounted")?
        && !points.is_empty()
    {
        let lay_in = |state: &Path| -> Result<usize, SetUpError> {
            let (laid, parts) = (state.join("laid"), state.join("parts"));
            directory(&laid)?;
            directory(&parts)?;
            let count = parts::lay(layer, &points, &laid, &parts, attributes)?;
            bind_without_devices(&laid, merged).during(|| "use the parts as root").map(|()| count)
        };
        let (count, place) = match lay_in(&spec.state) {
            Ok(count) => (count, ""),
            Err(_) => (lay_in(&memory)?, " in memory"),
        };
        let reason = format!("as something is mounted below it ({in_memory})");
        fallbacks.push(format!("the root is laid together of {count} parts{place}, {reason}"));
        return Ok(());
    }
    let copied = spec.state.join("upper");
    directory(&copied)?;
    let aside = spec.state.join("aside");
    directory(&aside)?;
    copy::layers(layers, &copied, &aside)?;
    bind_without_devices(&copied, merged).during(|| "use the copied layers as root")?;
    fallbacks.push(format!("the layers are copied ({in_memory})"));
    Ok(())
}

/// Mounts an overlay of `layers`, the topmost first. `attributes`: further options.
pub(super) fn mount_overlay(layers: &[OwnedFd], upper: &Path, work: &Path, place: &Path, attributes: &str) -> nix::Result<()> {
    // The options have to fit into a page, so layers are named by descriptors; that spares escaping too.
    let name = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
    let (upper, work) = (open_directory(upper)?, open_directory(work)?);
    let layers = layers.iter().map(name).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={layers},upperdir={},workdir={}{attributes}", name(&upper), name(&work));
    mount(Some("overlay"), place, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
}

/// A directory, to be named only.
pub(super) fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Whatever is there, to be named only.
pub(super) fn open(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Whether all ids are what they are outside. Only there may overlays keep their marks where no user can forge them.
fn is_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Mounts a directory with what is mounted below it. Device files in it cannot be used.
fn bind_without_devices(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    let present = mounts::kept_flags(&open(target)?);
    mount(NONE, target, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NODEV | present, NONE)
}

/// Makes a directory with the permissions of a root.
fn directory(path: &Path) -> Result<(), SetUpError> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    let permitted = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    permitted.during(|| format!("make `{}`", path.display()))
}

/// Makes `root` the root directory, and forgets the old one.
pub(super) fn enter(root: &Path, fallbacks: &mut Vec<String>) -> Result<(), SetUpError> {
    let step = || "change the root directory";
    nix::unistd::chdir(root).during(step)?;
    match nix::unistd::pivot_root(".", ".") {
        // The old root lies on top of the new one now, at the same path.
        Ok(()) => umount2(".", MntFlags::MNT_DETACH).during(|| "leave the old root directory")?,
        Err(errno @ (Errno::EPERM | Errno::EINVAL | Errno::ENOSYS)) => {
            mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).during(step)?;
            nix::unistd::chroot(".").during(step)?;
            fallbacks.push(format!("the root is moved over the old one (pivot_root: {})", errno.desc().to_lowercase()));
        }
        Err(errno) => return Err(SetUpError::new(step(), errno)),
    }
    nix::unistd::chdir("/").during(step)
}
