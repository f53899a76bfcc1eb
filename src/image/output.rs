//! Where a result goes (`--output`), in skopeo's spelling.
//!
//! ```text
//! docker-daemon:[NAME[:TAG]]           the engine, which gives it that name
//! docker-archive:PATH[:NAME[:TAG]]     a file for `docker load`
//! oci-archive:PATH[:TAG]               an OCI layout in a file
//! oci:DIRECTORY[:TAG]                  an OCI layout in a directory, beside the images that are in it
//! docker://NAME[:TAG]                  a registry
//! ```
//!
//! As in skopeo a path ends at the first colon, so none can hold one. What has no name here gets those of the result
//! (`--tag`, else the source's with `.slim`); but what goes to a registry is always named here, as others see it there.

use std::fmt;
use std::path::PathBuf;

use super::reference::{Reference, ReferenceError};

/// The most bytes of a tag in an OCI layout; the specification has no limit.
const TAG_LIMIT: usize = 255;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The engine.
    Daemon(Option<Reference>),
    /// A file or a directory.
    File(FileOutput),
    /// A registry.
    Registry(Reference),
}

/// A file or a directory that holds the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOutput {
    /// Where.
    pub path: PathBuf,
    /// In which shape.
    pub shape: Shape,
}

/// How an image lies in files, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `docker-archive:`
    DockerArchive(Option<Reference>),
    /// `oci-archive:`
    OciArchive(Option<String>),
    /// `oci:`
    OciDirectory(Option<String>),
}

/// What is wrong with an output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// None, or an unknown one.
    #[error(
        "it must begin with where the result goes: `docker-daemon:NAME`, `docker-archive:PATH`, `oci-archive:PATH`, \
         `oci:DIRECTORY` or `docker://NAME`"
    )]
    Transport,
    /// A registry without its slashes.
    #[error("a registry is written with two slashes: `docker://NAME`")]
    Slashes,
    /// No path.
    #[error("the path is empty")]
    NoPath,
    /// The name.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// The tag.
    #[error("`{0}` is not a tag: letters and digits, with `-`, `.`, `_`, `:`, `@`, `+` or `/` between them")]
    Tag(String),
}

impl Output {
    /// See the module.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn parse(text: &str) -> Result<Output, OutputError> {
        let (transport, rest) = text.split_once(':').ok_or(OutputError::Transport)?;
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name)),
            None => (rest, None),
        };
        let shape = match transport {
            "docker-daemon" if rest.is_empty() => return Ok(Output::Daemon(None)),
            "docker-daemon" => return Ok(Output::Daemon(Some(Reference::parse_tag(rest)?))),
            "docker-archive" => Shape::DockerArchive(name.map(Reference::parse_tag).transpose()?),
            "oci-archive" => Shape::OciArchive(name.map(tag).transpose()?),
            "oci" => Shape::OciDirectory(name.map(tag).transpose()?),
            "docker" => {
                let name = rest.strip_prefix("//").ok_or(OutputError::Slashes)?;
                return Ok(Output::Registry(Reference::parse_tag(name)?));
            }
            _ => return Err(OutputError::Transport),
        };
        if path.is_empty() {
            return Err(OutputError::NoPath);
        }
        Ok(Output::File(FileOutput { path: path.into(), shape }))
    }

    /// Whether both go to one file, or to one tag of a layout or a registry.
    #[must_use]
    pub fn overwrites(&self, other: &Output) -> bool {
        match (self, other) {
            (Output::File(one), Output::File(other)) => match (&one.shape, &other.shape) {
                (Shape::OciDirectory(tag), Shape::OciDirectory(other_tag)) => one.path == other.path && tag == other_tag,
                _ => one.path == other.path,
            },
            (Output::Registry(one), Output::Registry(other)) => one == other,
            _ => false,
        }
    }
}

/// Skopeo's grammar: it could not name the image otherwise.
fn tag(text: &str) -> Result<String, OutputError> {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_component = |component: &str| component.replace("--", "-").split(['-', '.', '_', ':', '@', '+']).all(is_word);
    let is_tag = text.len() <= TAG_LIMIT && text.split('/').all(is_component);
    if is_tag { Ok(text.to_owned()) } else { Err(OutputError::Tag(text.to_owned())) }
}

impl Shape {
    /// Skopeo's word for it.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match self {
            Shape::DockerArchive(_) => "docker-archive",
            Shape::OciArchive(_) => "oci-archive",
            Shape::OciDirectory(_) => "oci",
        }
    }
}

impl fmt::Display for FileOutput {
    /// Without the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shape.transport(), self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, shape: Shape) -> Output {
        Output::File(FileOutput { path: path.into(), shape })
    }

    #[test]
    fn each_transport() {
        let name = |text: &str| Some(Reference::parse_tag(text).unwrap());
        for (text, output) in [
            ("docker-daemon:", Output::Daemon(None)),
            ("docker-daemon:app", Output::Daemon(name("app:latest"))),
            ("docker-daemon:reg:5000/app:1", Output::Daemon(name("reg:5000/app:1"))),
            ("docker-archive:a.tar", file("a.tar", Shape::DockerArchive(None))),
            ("docker-archive:/d/a.tar:reg:5000/app:1", file("/d/a.tar", Shape::DockerArchive(name("reg:5000/app:1")))),
            ("oci-archive:a.tar", file("a.tar", Shape::OciArchive(None))),
            ("oci-archive:a.tar:v1", file("a.tar", Shape::OciArchive(Some("v1".into())))),
            ("oci:d e/f", file("d e/f", Shape::OciDirectory(None))),
            ("oci:d:team/app:1.2--x", file("d", Shape::OciDirectory(Some("team/app:1.2--x".into())))),
            ("docker://reg:5000/team/app:1", Output::Registry(name("reg:5000/team/app:1").unwrap())),
            ("docker://app", Output::Registry(name("app:latest").unwrap())),
        ] {
            assert_eq!(Output::parse(text), Ok(output), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        let transport = "it must begin with where the result goes: `docker-daemon:NAME`, `docker-archive:PATH`, `oci-archive:PATH`, \
             `oci:DIRECTORY` or `docker://NAME`";
        let tag = |text: &str| {
            format!("`{text}` is not a tag: letters and digits, with `-`, `.`, `_`, `:`, `@`, `+` or `/` between them")
        };
        for (text, message) in [
            ("", transport),
            ("app.tar", transport),
            ("tarball:x", transport),
            ("rootfs:/x", transport),
            ("docker:app", "a registry is written with two slashes: `docker://NAME`"),
            ("docker://", "the name of the image is empty"),
            ("oci:", "the path is empty"),
            ("docker-archive::app", "the path is empty"),
            ("oci:d:", &tag("")),
            ("oci:d:-x", &tag("-x")),
            ("oci:d:a---b", &tag("a---b")),
            ("oci-archive:a:b c", &tag("b c")),
            (
                "docker-archive:a:b@sha256:00",
                "`b@sha256:00` is not the name of an image: the digest `sha256:00` must be like `sha256:` and 64 hexadecimal digits",
            ),
        ] {
            assert_eq!(Output::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        assert!(matches!(Output::parse("docker-daemon:A"), Err(OutputError::Name(_))));
    }
}
