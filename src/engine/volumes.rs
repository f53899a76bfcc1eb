//! The user's writable volumes, as they were before the first run: each later run starts with a copy of them.
//!
//! A run changes what it writes to, so the second would find another state than the first, and answer otherwise for that
//! alone. The first run has the volumes themselves, as the user asked; before it starts, slim's own program reads what is in them
//! in a container of the image, and sends an archive, so it works with a daemon anywhere. The
//! later runs get anonymous volumes in their place, filled from that. With slim's own engine, the volumes are
//! directories of this machine, and so are the copies.
//!
//! What cannot be copied (a single file, a socket, too much) the later runs share with the first. That is sound as long
//! as the first did not write there, which the observation tells: see [`Copies::shared`].

use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions};
use futures_util::StreamExt;
use slim_sensor::container::copy_directory;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::container::Container;
use super::error::EngineError;
use super::inject::Program;
use super::options::RunOptions;
use super::options::mounts::{Bind, MountRequest};
use super::runtime::Runtime;
use crate::hidden;
use crate::workspace::Workspace;

/// Most bytes of one volume that are copied: test data, not somebody's database.
const MAX_COPY: u64 = 1 << 30;

/// See the module.
#[derive(Debug, Default)]
pub struct Copies {
    copies: Vec<Copy>,
    shared: Vec<Shared>,
    directory: Option<Workspace>,
}

/// What was in one volume.
#[derive(Debug)]
struct Copy {
    target: String,
    archive: PathBuf,
}

/// A writable mount that all runs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Where it is mounted.
    pub target: String,
    /// Why it was not copied.
    pub reason: String,
}

impl Copies {
    /// Copies what is in the writable volumes and binds of `options`, for containers of `image`.
    ///
    /// # Errors
    /// [`EngineError`]; also where our own disk is full.
    pub async fn take(runtime: Runtime<'_>, image: &str, options: &RunOptions) -> Result<Copies, EngineError> {
        let mut copies = Copies::default();
        let writable: Vec<&MountRequest> = options.mounts.iter().filter(|request| writable_target(request).is_some()).collect();
        if writable.is_empty() {
            return Ok(copies);
        }
        let directory = Workspace::create(&std::env::temp_dir()).map_err(own_disk)?;
        let Runtime::Docker(engine, program) = runtime else {
            let bind = |request: &MountRequest| Some((writable_source(request)?, writable_target(request)?));
            let binds: Vec<_> = writable.into_iter().filter_map(bind).collect();
            let taken = tokio::task::spawn_blocking(move || Copies::take_here(binds, directory)).await;
            return taken.map_err(|error| own_disk(std::io::Error::other(error)));
        };
        let only_mounts = RunOptions { mounts: writable.into_iter().cloned().collect(), ..RunOptions::default() };
        for target in only_mounts.mounts.iter().filter_map(writable_target) {
            let archive = directory.path().join(format!("volume-{}", copies.copies.len()));
            let body = reader(image, program, &target, &only_mounts);
            let (container, _) = program.create(engine, "volumes", &body, false).await?;
            match copy(&container, &archive).await? {
                Ok(()) => copies.copies.push(Copy { target, archive }),
                Err(reason) => copies.shared.push(Shared { target, reason }),
            }
            container.remove().await?;
        }
        copies.directory = Some(directory);
        Ok(copies)
    }

    /// Copies directories of this machine, which are mounted at the targets.
    fn take_here(binds: Vec<(PathBuf, String)>, directory: Workspace) -> Copies {
        let mut copies = Copies::default();
        let aside = directory.path().join("aside");
        for (source, target) in binds {
            let copy = directory.path().join(format!("volume-{}", copies.copies.len() + copies.shared.len()));
            let copied = check_size(&source).and_then(|()| {
                let made = std::fs::create_dir_all(&aside).and_then(|()| copy_directory(&source, &copy, &aside));
                made.map_err(|error| error.to_string())
            });
            match copied {
                Ok(()) => copies.copies.push(Copy { target, archive: copy }),
                Err(reason) => copies.shared.push(Shared { target, reason }),
            }
        }
        copies.directory = Some(directory);
        copies
    }

    /// Where slim's own engine finds the copies: for each target a directory.
    #[must_use]
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        self.copies.iter().map(|copy| (copy.target.clone(), copy.archive.clone())).collect()
    }

    /// The options for a later run: fresh volumes where there are copies.
    #[must_use]
    pub fn in_place(&self, options: &RunOptions) -> RunOptions {
        let mounts = options.mounts.iter().map(|request| match writable_target(request) {
            Some(target) if self.replaces(target.as_bytes()) => MountRequest::Mount(Box::new(Mount {
                typ: Some(MountType::VOLUME),
                target: Some(target),
                // The image's own files there are not what the first run found.
                volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
                ..Mount::default()
            })),
            _ => request.clone(),
        });
        RunOptions { mounts: mounts.collect(), ..options.clone() }
    }

    /// Fills the fresh volumes of a container that was created with [`Copies::in_place`], before it starts.
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn fill(&self, container: &Container) -> Result<(), EngineError> {
        for Copy { target, archive } in &self.copies {
            let file = File::open(archive).await.map_err(own_disk)?;
            container.fill_volume(target, ReaderStream::with_capacity(file, 256 << 10)).await?;
        }
        Ok(())
    }

    /// Whether a later run has a copy there.
    #[must_use]
    pub fn replaces(&self, target: &[u8]) -> bool {
        self.copies.iter().any(|copy| copy.target.as_bytes() == target)
    }

    /// The writable mounts that could not be copied.
    #[must_use]
    pub fn shared(&self) -> &[Shared] {
        &self.shared
    }
}

/// Whether a directory can be copied, else why not.
fn check_size(source: &Path) -> Result<(), String> {
    if !source.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    let (mut size, mut left) = (0, vec![source.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| error.to_string())? {
            let entry = entry.map_err(|error| error.to_string())?;
            let metadata = std::fs::symlink_metadata(entry.path()).map_err(|error| error.to_string())?;
            if metadata.is_dir() {
                left.push(entry.path());
            } else {
                size += metadata.len();
            }
            if size > MAX_COPY {
                return Err(format!("it holds more than {} MB", MAX_COPY >> 20));
            }
        }
    }
    Ok(())
}

/// Where a bind of this machine is.
fn writable_source(request: &MountRequest) -> Option<PathBuf> {
    match request {
        MountRequest::Bind(bind) => Some(PathBuf::from(Bind::of(bind).source)),
        MountRequest::Mount(mount) => mount.source.clone().map(PathBuf::from),
        MountRequest::Anonymous(_) => None,
    }
}

/// A container of `image` in which slim's own program writes an archive of what is mounted at `target`. (No engine's own archive
/// will do: Podman's has no owners.)
fn reader(image: &str, program: &Program, target: &str, mounts: &RunOptions) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![program.path()]),
        cmd: Some(vec![hidden::ARCHIVE.to_owned(), target.to_owned()]),
        user: Some("0".to_owned()),
        working_dir: Some("/".to_owned()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..mounts.host_config()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Runs such a container, and writes its archive to a file; the inner error: why there is none.
async fn copy(container: &Container, archive: &PathBuf) -> Result<Result<(), String>, EngineError> {
    let mut file = File::options().write(true).create_new(true).open(archive).await.map_err(own_disk)?;
    let mut attached = container.attach().await?;
    container.start().await?;
    let mut size = 0;
    while let Some(part) = attached.output.next().await {
        let bytes = part.map_err(own_disk)?;
        size += bytes.len() as u64;
        if size > MAX_COPY {
            return Ok(Err(format!("it holds more than {} MB", MAX_COPY >> 20)));
        }
        file.write_all(&bytes).await.map_err(own_disk)?;
    }
    file.flush().await.map_err(own_disk)?;
    Ok(match container.wait().await? {
        0 => Ok(()),
        _ => Err(attached.complaints.text().trim_start_matches("slim: ").to_owned()),
    })
}

/// Where something is mounted that the program can change and that is not fresh for each container anyway.
fn writable_target(request: &MountRequest) -> Option<String> {
    match request {
        MountRequest::Anonymous(_) => None,
        MountRequest::Bind(bind) => {
            let bind = Bind::of(bind);
            (!bind.read_only).then(|| bind.target.to_owned())
        }
        MountRequest::Mount(mount) => {
            let is_kept = match mount.typ {
                Some(MountType::BIND) => true,
                Some(MountType::VOLUME) => mount.source.as_ref().is_some_and(|source| !source.is_empty()),
                _ => false,
            };
            mount.target.clone().filter(|_| is_kept && mount.read_only != Some(true))
        }
    }
}

fn own_disk(error: std::io::Error) -> EngineError {
    EngineError::Refused {
        action: "copy the volumes into the directory for temporary files".to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::options::mounts::{parse_mount, parse_volume};

    #[test]
    fn what_a_run_could_change_is_copied() {
        for (text, expected) in [
            ("/data", None),
            ("/host:/data", Some("/data")),
            ("name:/data:rw,z", Some("/data")),
            ("name:/data:ro", None),
            ("/host:/data:z,ro", None),
        ] {
            assert_eq!(writable_target(&parse_volume(text).unwrap()).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("type=bind,source=/host,target=/data", Some("/data")),
            ("type=bind,source=/host,target=/data,readonly", None),
            ("type=volume,source=name,target=/data", Some("/data")),
            ("type=volume,target=/data", None),
            ("type=tmpfs,target=/data", None),
        ] {
            assert_eq!(writable_target(&parse_mount(text).unwrap()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn later_runs_get_fresh_volumes_in_place_of_copied_ones() {
        let copy = Copy { target: "/data".to_owned(), archive: PathBuf::new() };
        let copies = Copies { copies: vec![copy], ..Copies::default() };
        let mounts = ["/host:/data", "/host:/other", "/fresh"].map(|text| parse_volume(text).unwrap());
        let options = RunOptions { mounts: mounts.to_vec(), ..RunOptions::default() };
        let later = copies.in_place(&options);
        assert_eq!(later.mounts[1..], mounts[1..]);
        let MountRequest::Mount(mount) = &later.mounts[0] else { panic!("{:?}", later.mounts) };
        assert_eq!((mount.target.as_deref(), mount.source.as_deref()), (Some("/data"), None));
    }
}
