//! How slim's program gets into a container.
//!
//! A directory with a random name holds a copy of this executable. Where the daemon runs on our host it is mounted
//! read-only, which costs nothing; that the daemon finds a name that nobody could guess proves that it sees our files
//! (Podman finds whatever it is asked for: see `sight.rs`).
//! Where it doesn't, the program is uploaded into an anonymous volume (which also works where the root is read-only).
//!
//! The packer's mount has a socket besides; the target's has not, so that it can't talk to us.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::models::{ContainerCreateBody, Mount, MountType};
use bytes::Bytes;

use super::container::Container;
use super::docker::Engine;
use super::error::EngineError;
use super::kind::Kind;
use super::sight;
use crate::workspace::Workspace;

/// Our executable, ready to be put into containers.
#[derive(Debug)]
pub struct Program {
    /// Removed at the end of the run.
    directory: Workspace,
    /// Absolute path of our directory inside containers.
    pub inside: String,
    must_upload: AtomicBool,
}

/// Why there is no program to put in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Files.
    #[error("cannot prepare slim's program in `{}`: {source}", path.display())]
    Prepare {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It would need the image's libraries.
    #[error(
        "this build of slim is not static, so it cannot run inside images: build it where the C library's static archive is installed (`libc6-dev`)"
    )]
    NotStatic,
    /// It runs on another processor.
    #[error("the image is for `{image}`, this slim is for `{own}`: use a slim that was built for `{image}`, on such a machine")]
    Architecture {
        /// The image's.
        image: String,
        /// Ours.
        own: &'static str,
    },
}

/// This machine's architecture, in the words of images.
#[must_use]
pub fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Program {
    /// Copies this executable into a fresh directory. `executable`: the file that runs now.
    ///
    /// # Errors
    /// [`ProgramError`]: also where it could not run in an image of `architecture`.
    pub fn prepare(executable: &Path, run: &str, architecture: &str) -> Result<Program, ProgramError> {
        let own = own_architecture();
        if architecture != own {
            return Err(ProgramError::Architecture { image: architecture.to_owned(), own });
        }
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ProgramError::Prepare { path, source }
        };
        if !is_static(executable).map_err(at(executable))? {
            return Err(ProgramError::NotStatic);
        }
        let parent = std::env::temp_dir();
        let directory = Workspace::create(&parent).map_err(at(&parent))?;
        let program = directory.path().join("program");
        for path in [&program, &directory.path().join("socket")] {
            std::fs::create_dir(path).map_err(at(path))?;
        }
        let copy = program.join("slim");
        std::fs::copy(executable, &copy).map_err(at(&copy))?;
        for (path, mode) in [(directory.path(), 0o711), (&program, 0o755), (&copy, 0o755)] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).map_err(at(path))?;
        }
        let no_exec =
            nix::sys::statvfs::statvfs(&program).is_ok_and(|info| info.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC));
        Ok(Program { directory, inside: format!("/.slim-{run}"), must_upload: AtomicBool::new(no_exec) })
    }

    /// Path of the executable inside containers.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/program/slim", self.inside)
    }

    /// Our directory for sockets, and its path inside containers that are created with it.
    #[must_use]
    pub fn socket_directory(&self) -> (PathBuf, String) {
        (self.directory.path().join("socket"), format!("{}/socket", self.inside))
    }

    /// Where the run notes the images that it makes, see [`Workspace::images`].
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.directory.images()
    }

    /// Creates a container that has the program in it. The second value: the daemon sees our files (and the socket
    /// directory, where asked for).
    ///
    /// # Errors
    /// [`EngineError`]
    pub async fn create(
        &self,
        engine: &Engine,
        role: &str,
        body: &ContainerCreateBody,
        with_socket: bool,
    ) -> Result<(Container, bool), EngineError> {
        let program = self.directory.path().join("program/slim");
        if engine.kind == Kind::Podman && !sight::listener_sees(engine.host(), &program) {
            self.must_upload.store(true, Ordering::Relaxed);
        }
        if !self.must_upload.load(Ordering::Relaxed) {
            match engine.create(role, self.mounted(body, with_socket)).await {
                Ok(container) => return Ok((container, true)),
                // The daemon's words for a path that its host does not have.
                Err(EngineError::Refused { reason, .. }) if reason.contains("bind source path does not exist") => {
                    self.must_upload.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        let mut body = body.clone();
        let target = format!("{}/program", self.inside);
        let volume = Mount { typ: Some(MountType::VOLUME), target: Some(target.clone()), ..Mount::default() };
        body.host_config.get_or_insert_default().mounts.get_or_insert_default().push(volume);
        let container = engine.create(role, body).await?;
        container.upload(&target, self.archive()?).await?;
        Ok((container, false))
    }

    fn mounted(&self, body: &ContainerCreateBody, with_socket: bool) -> ContainerCreateBody {
        let mut body = body.clone();
        let mounts = body.host_config.get_or_insert_default().mounts.get_or_insert_default();
        let names: &[&str] = if with_socket { &["program", "socket"] } else { &["program"] };
        mounts.extend(names.iter().map(|name| Mount {
            typ: Some(MountType::BIND),
            source: Some(self.directory.path().join(name).display().to_string()),
            target: Some(format!("{}/{name}", self.inside)),
            read_only: Some(true),
            ..Mount::default()
        }));
        body
    }

    fn archive(&self) -> Result<Bytes, EngineError> {
        let build = || -> std::io::Result<Vec<u8>> {
            let program = std::fs::read(self.directory.path().join("program/slim"))?;
            let mut archive = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
            let mut header = tar::Header::new_ustar();
            header.set_size(program.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, "slim", program.as_slice())?;
            archive.into_inner()
        };
        build()
            .map(Bytes::from)
            .map_err(|error| EngineError::Refused { action: "get slim's program".to_owned(), reason: error.to_string() })
    }
}

/// Whether an executable needs no loader.
fn is_static(executable: &Path) -> std::io::Result<bool> {
    use object::read::elf::{FileHeader, ProgramHeader};
    use std::io::Read;
    // Program headers follow the file header at once in what every linker writes.
    let mut head = vec![];
    std::fs::File::open(executable)?.take(64 << 10).read_to_end(&mut head)?;
    let parse = || -> object::read::Result<bool> {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(head.as_slice())?;
        let endian = header.endian()?;
        Ok(header.program_headers(endian, head.as_slice())?.iter().all(|part| part.p_type(endian) != object::elf::PT_INTERP))
    };
    parse().map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_architectures_and_dynamic_programs_are_refused_before_anything_starts() {
        let own = std::env::current_exe().unwrap();
        let other = if own_architecture() == "arm64" { "amd64" } else { "arm64" };
        assert!(matches!(Program::prepare(&own, "1", other), Err(ProgramError::Architecture { .. })));
        // The shell is dynamic on every distribution that this is tested on.
        let shell = Path::new("/bin/bash");
        assert!(matches!(Program::prepare(shell, "1", own_architecture()), Err(ProgramError::NotStatic)));
    }
}
