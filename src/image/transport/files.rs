//! The files of a layout: in a directory, or as members of an archive.
//!
//! An archive is passed over once, header by header, for where its members are; nothing is unpacked. What cannot be
//! passed over so (a compressed archive, a pipe) goes to a file without a name first. Links between members are
//! followed within the archive: Docker once wrote equal layers as links.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::section::Section;
use super::{MAX_DOCUMENT, TransportError};
use crate::image::layer::compression::{Compression, LayerError, decompressed};
use crate::image::layer::tar::{TarError, TarReader, Type};
use crate::image::tree::Kind;

/// The most members of an archive: a document and a layer are two or three each.
const MAX_MEMBERS: usize = 100_000;
/// The most links from a member to its content.
const MAX_LINKS: usize = 8;
/// Longer names are nobody's that we look for, and 100,000 of them would fill the memory.
const MAX_NAME: usize = 4096;

/// Gives files by their relative names.
pub trait Files {
    /// A file's bytes; `None` where there is no such file.
    ///
    /// # Errors
    /// [`TransportError`]
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError>;

    /// A file that must be there.
    ///
    /// # Errors
    /// [`TransportError`], with [`TransportError::Missing`].
    fn open(&self, name: &str) -> Result<Section, TransportError> {
        self.find(name)?.ok_or_else(|| TransportError::Missing(name.to_owned()))
    }

    /// All bytes of a document.
    ///
    /// # Errors
    /// [`TransportError`]
    fn document(&self, name: &str) -> Result<Vec<u8>, TransportError> {
        let mut section = self.open(name)?;
        if section.size() > MAX_DOCUMENT {
            return Err(TransportError::document(name, format!("it has {} bytes", section.size())));
        }
        let mut bytes = vec![];
        let read = section.read_to_end(&mut bytes);
        read.map_err(|reason| TransportError::Read { name: name.to_owned(), reason })?;
        Ok(bytes)
    }
}

/// Files in a directory.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Files for Directory {
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError> {
        let path = self.0.join(name);
        let failed = |reason| TransportError::Read { name: path.display().to_string(), reason };
        // A pipe in the place of a file would hold us forever.
        match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Ok(file) if file.metadata().is_ok_and(|status| status.is_file()) => Section::of_file(file).map(Some).map_err(failed),
            Ok(_) => Err(failed(io::Error::other("it is not a regular file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Where the content of a member is.
#[derive(Debug, Clone)]
enum Place {
    Here {
        position: u64,
        size: u64,
    },
    /// The name of another member.
    Link(String),
}

/// Members of an archive.
#[derive(Debug)]
pub struct Archive {
    whole: Section,
    members: HashMap<String, Place>,
}

impl Archive {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// [`TransportError`]
    pub fn open(path: &Path, max_unpacked_size: u64) -> Result<Archive, TransportError> {
        let failed = |reason| TransportError::Read { name: path.display().to_string(), reason };
        let whole = seekable(path, max_unpacked_size).map_err(failed)?;
        Archive::read(whole).map_err(|reason| TransportError::Archive { name: path.display().to_string(), reason })
    }

    /// Finds the members of an archive.
    ///
    /// # Errors
    /// [`TarError`]
    pub fn read(whole: Section) -> Result<Archive, TarError> {
        let mut reader = TarReader::new(whole.clone());
        let mut members = HashMap::new();
        while let Some(member) = reader.next_member()? {
            if member.path.len() > MAX_NAME || member.link.len() > MAX_NAME {
                continue;
            }
            // Neither are names that are no text.
            let Ok(path) = String::from_utf8(member.path) else { continue };
            let Some(name) = join("", &path) else { continue };
            let link = || String::from_utf8(member.link.clone()).ok();
            let place = match member.kind {
                Type::Entry(Kind::File) => Some(Place::Here { position: member.position, size: member.size }),
                Type::Entry(Kind::Symlink) => {
                    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    link().and_then(|target| join(directory, &target)).map(Place::Link)
                }
                Type::HardLink => link().and_then(|target| join("", &target)).map(Place::Link),
                Type::Entry(_) => None,
            };
            members.extend(place.map(|place| (name, place)));
            if members.len() > MAX_MEMBERS {
                return Err(TarError::Io(io::Error::other(format!("it has more than {MAX_MEMBERS} members"))));
            }
        }
        Ok(Archive { whole, members })
    }
}

impl Files for Archive {
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError> {
        let Some(mut name) = join("", name) else { return Ok(None) };
        for _ in 0..=MAX_LINKS {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name.clone_from(target),
                Some(&Place::Here { position, size }) => {
                    let cut = || TransportError::document(&name, "the archive is cut off in it");
                    return self.whole.part(position, size).map(Some).ok_or_else(cut);
                }
            }
        }
        Err(TransportError::document(&name, "its links go in circles"))
    }
}

/// A path seen from a directory, without `.` and `..`; `None` where it leaves the archive.
fn join(directory: &str, path: &str) -> Option<String> {
    let mut names: Vec<&str> = directory.split('/').filter(|name| !name.is_empty()).collect();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// An archive whose members can be found by passing over contents.
fn seekable(path: &Path, max_unpacked_size: u64) -> io::Result<Section> {
    let mut file = File::open(path)?;
    let status = file.metadata()?;
    if status.is_dir() {
        return Err(io::Error::other("it is a directory (`oci:` reads a layout in a directory)"));
    }
    if status.is_file() {
        let whole = Section::of_file(file.try_clone()?)?;
        let mut first = vec![];
        whole.clone().take(4).read_to_end(&mut first)?;
        if Compression::of(&first)? == Compression::None {
            return Ok(whole);
        }
        file.rewind()?;
    }
    let mut spool = tempfile::tempfile()?;
    let unpacked = io::copy(&mut decompressed(file)?.take(max_unpacked_size.saturating_add(1)), &mut spool)?;
    if unpacked > max_unpacked_size {
        return Err(LayerError::TooLarge(max_unpacked_size).into());
    }
    Section::of_file(spool)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::image::layer::fixture;

    #[test]
    fn a_pipe_or_a_device_in_a_layout_is_an_error_and_waits_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("index.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("oci-layout")).unwrap();
        let files = Directory(folder.path().to_owned());
        for name in ["index.json", "oci-layout"] {
            assert!(files.document(name).unwrap_err().to_string().contains("it is not a regular file"), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_passed_over_goes_to_a_file_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fixture::Archive::default().file("large", &[7; 5000]).file("name", b"content").finish();
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        let gzip = gzip.finish().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for content in [&bytes, &gzip] {
            let opened = std::thread::scope(|scope| {
                scope.spawn(|| std::fs::write(&pipe, content).unwrap());
                Archive::open(&pipe, 1 << 20)
            });
            assert_eq!(opened.unwrap().document("name").unwrap(), b"content");
            let file = folder.path().join("file");
            std::fs::write(&file, content).unwrap();
            assert_eq!(Archive::open(&file, 1 << 20).unwrap().document("name").unwrap(), b"content");
        }
        let said = Archive::open(&folder.path().join("file"), 5000).unwrap_err().to_string();
        assert!(said.contains("--max-unpacked-size"), "{said}");
        assert!(Archive::open(folder.path(), 1).unwrap_err().to_string().contains("it is a directory"));
    }
}
