//! An image in files: a docker-archive, an OCI layout in an archive, or one in a directory.
//!
//! A docker-archive is an OCI layout at the same time, as Docker's own are since version 25: its `manifest.json` points to
//! the layout's blobs. So every tool takes it, and those that know layouts keep the manifest's digest. But OCI's
//! configuration has no health check, shell or ONBUILD, and Podman, which reads such a file as OCI, drops them: an image that
//! has any of these is written without the layout's index, and Podman reads it as Docker does.
//!
//! Members are sorted, and have no time and no owner: the same image is the same bytes. Each file is written under a temporary
//! name and renamed. Into a layout that is there already the image is added: what it lacks is written, then the index is
//! replaced by one in which the image takes the place of the one with the same tag, if any.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::Digest;
use serde_json::Value;

use super::archive::{write_end, write_member};
use super::digest_of;
use super::layout::{self, BLOBS, DOCKER_MANIFEST, Entry, INDEX, LAYOUT, TAG};
use super::store::{Cancel, Cancellable, Stored};
use crate::files::write_file_atomically;
use crate::image::config::RunConfig;
use crate::image::output::{FileOutput, Shape};
use crate::image::reference::Reference;

/// The most bytes of an index that is there already.
const INDEX_LIMIT: u64 = 16 << 20;

/// Why a file of the image is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{output}`: {reason}")]
pub struct FileError {
    /// Transport and path.
    output: String,
    reason: String,
}

/// Where a temporary file can lie beside an output, if it can: to be asked before any work is done.
///
/// # Errors
/// [`FileError`]
pub fn check(output: &FileOutput) -> Result<PathBuf, FileError> {
    let wrong = |reason: String| FileError { output: output.to_string(), reason };
    if let Shape::OciDirectory(_) = &output.shape {
        state(&output.path).map_err(|error| wrong(error.to_string()))?;
    } else if output.path.is_dir() {
        return Err(wrong("it is a directory".to_owned()));
    }
    // A FIFO or a device is written to as it is, and lies where files don't belong.
    let is_special = fs::metadata(&output.path).is_ok_and(|known| !known.is_file() && !known.is_dir());
    let folder = if is_special { std::env::temp_dir() } else { folder(&output.path) };
    match tempfile::tempfile_in(&folder) {
        Ok(_) => Ok(folder),
        Err(error) => Err(wrong(format!("`{}`: {error}", folder.display()))),
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What the image is called there: names in a docker-archive, else its tag.
    pub names: Vec<String>,
    /// Of OCI's manifest, where there is one.
    pub manifest: Option<Digest>,
}

/// Writes `image` to `output`, under its name, or else under `names`.
///
/// # Errors
/// [`FileError`]; nothing is left then.
pub fn write(image: &Stored, output: &FileOutput, names: &[Reference], cancel: &Cancel) -> Result<Written, FileError> {
    let path = &output.path;
    let written = match &output.shape {
        Shape::DockerArchive(name) => {
            let names = name.as_ref().map_or(names, std::slice::from_ref);
            write_docker_archive(image, path, names, cancel)
        }
        Shape::OciArchive(tag) => write_oci_archive(image, path, &entry(tag.as_deref(), names), cancel),
        Shape::OciDirectory(tag) => write_directory(image, path, &entry(tag.as_deref(), names), cancel),
    };
    written.map_err(|error| FileError { output: output.to_string(), reason: error.to_string() })
}

/// The folder that a path is in.
fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned)
}

/// What an image is called in a layout: the tag that was asked for, in place of that of its name.
fn entry(tag: Option<&str>, names: &[Reference]) -> Entry {
    let name = names.first();
    let tag = tag.or_else(|| name?.tag.as_deref()).unwrap_or("latest").to_owned();
    let name = name.and_then(|name| Reference::parse_tag(&format!("{}:{tag}", name.name)).ok());
    Entry { tag, name }
}

/// Whether Podman would drop some of it when it reads it as OCI.
fn has_more_than_oci(run: &RunConfig) -> bool {
    let is_there = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    run.healthcheck.is_some() || is_there(&run.shell) || is_there(&run.on_build)
}

/// A file of an archive: its name, and its content where that is not the layer.
type Member = (String, Option<Vec<u8>>);

fn write_docker_archive(image: &Stored, path: &Path, names: &[Reference], cancel: &Cancel) -> io::Result<Written> {
    let mut members = contents(image);
    let (config, layer) = (blob_name(&image.packed.id), blob_name(&image.blob.digest));
    let tags: Vec<String> = names.iter().map(ToString::to_string).collect();
    members.push((DOCKER_MANIFEST.to_owned(), Some(layout::docker_manifest(&config, &tags, &layer)?)));
    let mut manifest = None;
    if !image.config.config.as_ref().is_some_and(has_more_than_oci) {
        let entries = names.iter().map(|name| entry(None, std::slice::from_ref(name)));
        manifest = Some(add_layout(image, &entries.collect::<Vec<_>>(), &mut members)?);
    }
    write_archive(image, path, members, cancel)?;
    Ok(Written { names: tags, manifest })
}

fn write_oci_archive(image: &Stored, path: &Path, entry: &Entry, cancel: &Cancel) -> io::Result<Written> {
    let mut members = contents(image);
    let manifest = add_layout(image, std::slice::from_ref(entry), &mut members)?;
    write_archive(image, path, members, cancel)?;
    Ok(Written { names: vec![entry.tag.clone()], manifest: Some(manifest) })
}

fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.digest())
}

/// What every archive has.
fn contents(image: &Stored) -> Vec<Member> {
    vec![(blob_name(&image.packed.id), Some(image.config.to_json())), (blob_name(&image.blob.digest), None)]
}

/// What makes an archive a layout; the digest of its manifest. Without entries it has no name there.
fn add_layout(image: &Stored, entries: &[Entry], members: &mut Vec<Member>) -> io::Result<Digest> {
    let manifest = image.manifest()?;
    let digest = digest_of(&manifest);
    let mut described: Vec<_> = entries.iter().map(|entry| layout::index_entry(&manifest, &image.config, entry)).collect();
    if described.is_empty() {
        described.push(layout::unnamed_entry(&manifest, &image.config));
    }
    members.push((INDEX.to_owned(), Some(layout::index(&described)?)));
    members.push((LAYOUT.0.to_owned(), Some(LAYOUT.1.to_owned())));
    members.push((blob_name(&digest), Some(manifest)));
    Ok(digest)
}

fn write_archive(image: &Stored, path: &Path, members: Vec<Member>, cancel: &Cancel) -> io::Result<()> {
    write_file_atomically(path, |out| write_members(image, members, Cancellable { out, cancel }))
}

fn write_members(image: &Stored, mut members: Vec<Member>, mut out: impl Write) -> io::Result<()> {
    members.sort();
    for (name, content) in &members {
        match content {
            Some(content) => write_member(&mut out, name, content.len() as u64, &content[..])?,
            None => write_member(&mut out, name, image.blob.size, content_of(image)?)?,
        }
    }
    write_end(&mut out)?;
    out.flush()
}

/// Writes the archive that a daemon loads into containerd, without a name. It is a layout in any case: then the image's id there
/// is the digest of [`Stored::manifest`], which is known before it is loaded.
pub(super) fn write_for_containerd(image: &Stored, out: impl Write) -> io::Result<()> {
    let mut members = contents(image);
    let (config, layer) = (blob_name(&image.packed.id), blob_name(&image.blob.digest));
    members.push((DOCKER_MANIFEST.to_owned(), Some(layout::docker_manifest(&config, &[], &layer)?)));
    add_layout(image, &[], &mut members)?;
    write_members(image, members, out)
}

/// The compressed layer, from its beginning.
fn content_of(image: &Stored) -> io::Result<impl Read + '_> {
    let mut file = &image.file;
    file.rewind()?;
    Ok(file)
}

/// What is at the path of a layout.
enum State {
    Nothing,
    /// Also where the directory is empty.
    Layout,
}

fn state(path: &Path) -> io::Result<State> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Nothing),
        Err(error) => Err(error),
        Ok(mut entries) => match (path.join(LAYOUT.0).is_file(), entries.next()) {
            (true, _) => Ok(State::Layout),
            (false, None) => Ok(State::Nothing),
            (false, Some(_)) => {
                Err(io::Error::other("the directory holds something else than an OCI layout: name another one, or an empty one"))
            }
        },
    }
}

fn write_directory(image: &Stored, path: &Path, entry: &Entry, cancel: &Cancel) -> io::Result<Written> {
    let manifest = image.manifest()?;
    let written = Written { names: vec![entry.tag.clone()], manifest: Some(digest_of(&manifest)) };
    let described = layout::index_entry(&manifest, &image.config, entry);
    if let State::Layout = state(path)? {
        return add_to(image, path, entry, &manifest, &serde_json::to_value(described)?, cancel).map(|()| written);
    }
    let temporary = tempfile::Builder::new().prefix(".slim-").suffix(".tmp").tempdir_in(folder(path))?;
    // A directory of its own in there, as the temporary one has the mode of a secret.
    let new = temporary.path().join("layout");
    fs::create_dir_all(new.join(BLOBS))?;
    write_blobs(image, &new, &manifest, cancel, &mut vec![])?;
    fs::write(new.join(INDEX), layout::index(&[described])?)?;
    fs::write(new.join(LAYOUT.0), LAYOUT.1)?;
    // Also onto an empty directory.
    fs::rename(new, path).map(|()| written)
}

/// Adds the image to a layout.
fn add_to(image: &Stored, path: &Path, entry: &Entry, manifest: &[u8], described: &Value, cancel: &Cancel) -> io::Result<()> {
    // Two that add at the same time would each write an index without the other's image.
    let marker = File::open(path.join(LAYOUT.0))?;
    marker.lock()?;
    let index_path = path.join(INDEX);
    let index = with_entry(&read_index(&index_path)?, &entry.tag, described)?;
    fs::create_dir_all(path.join(BLOBS))?;
    let mut made = vec![];
    let written = write_blobs(image, path, manifest, cancel, &mut made)
        .and_then(|()| write_file_atomically(&index_path, |out| out.write_all(&index)));
    if written.is_err() {
        made.iter().for_each(|blob| drop(fs::remove_file(blob)));
    }
    written
}

fn read_index(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    File::open(path)?.take(INDEX_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INDEX_LIMIT {
        return Err(io::Error::other(format!("its `{INDEX}` is larger than {} MiB", INDEX_LIMIT >> 20)));
    }
    Ok(bytes)
}

/// An index in which the image takes the place of the one with its tag.
fn with_entry(index: &[u8], tag: &str, described: &Value) -> io::Result<Vec<u8>> {
    let wrong = |reason: &str| io::Error::other(format!("its `{INDEX}` is not that of an OCI layout: {reason}"));
    let mut index: Value = serde_json::from_slice(index).map_err(|error| wrong(&error.to_string()))?;
    let manifests = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(|| wrong("it has no `manifests`"))?;
    manifests.retain(|known| known["annotations"][TAG] != tag);
    manifests.push(described.clone());
    Ok(serde_json::to_vec(&index)?)
}

/// Writes what a layout lacks of the image; the paths of what was `made`, also where it fails.
fn write_blobs(image: &Stored, layout: &Path, manifest: &[u8], cancel: &Cancel, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let config = image.config.to_json();
    let blobs: [(String, u64, Box<dyn Read + '_>); 3] = [
        (image.packed.id.digest().to_owned(), config.len() as u64, Box::new(&config[..])),
        (digest_of(manifest).digest().to_owned(), manifest.len() as u64, Box::new(manifest)),
        (image.blob.digest.digest().to_owned(), image.blob.size, Box::new(content_of(image)?)),
    ];
    for (name, size, mut content) in blobs {
        let path = layout.join(BLOBS).join(name);
        if fs::metadata(&path).is_ok_and(|known| known.is_file() && known.len() == size) {
            continue;
        }
        write_file_atomically(&path, |out| io::copy(&mut content, &mut Cancellable { out, cancel }).map(drop))?;
        made.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
