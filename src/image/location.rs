//! Where an image is, as the user names it.
//!
//! A bare name, or one after `docker-daemon:`, is an image of the Docker daemon; the others are the transports of skopeo's
//! spelling: files, directories and registries.

use std::fmt;
use std::path::PathBuf;

use super::reference::{ImageName, Reference, ReferenceError};

/// An archive or a layout, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// What `docker save` writes.
    DockerArchive {
        /// The archive.
        path: PathBuf,
        /// Which of its images: a name, or `@` and a number.
        reference: Option<String>,
    },
    /// An OCI layout in a directory.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// An OCI layout in an archive.
    OciArchive {
        /// The archive.
        path: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
}

/// Where an image is, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A bare name: of the daemon, or where there is none, of its registry.
    Named(ImageName),
    /// In the daemon.
    Daemon(ImageName),
    /// In a file, or a directory that is a layout.
    File(FileSource),
    /// A directory that is an image.
    Rootfs(PathBuf),
    /// In its registry.
    Registry(Reference),
}

impl ImageSource {
    /// What was typed: a name for the daemon, or a transport and a path. As in skopeo's names, a path ends at the first
    /// colon, but for `rootfs:`, where nothing can follow it.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<ImageSource, ReferenceError> {
        let split = |rest: &str| {
            let (path, which) = rest.split_once(':').map_or((rest, None), |(path, which)| (path, Some(which)));
            let which = which.filter(|which| !which.is_empty()).map(str::to_owned);
            if path.is_empty() { Err(ReferenceError::NoPath(text.to_owned())) } else { Ok((PathBuf::from(path), which)) }
        };
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return split(rest).map(|(path, reference)| ImageSource::File(FileSource::DockerArchive { path, reference }));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return split(rest).map(|(path, tag)| ImageSource::File(FileSource::Oci { path, tag }));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return split(rest).map(|(path, tag)| ImageSource::File(FileSource::OciArchive { path, tag }));
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            return Reference::parse(rest).map(ImageSource::Registry);
        }
        match text.strip_prefix("rootfs:") {
            Some("") => Err(ReferenceError::NoPath(text.to_owned())),
            Some(path) => Ok(ImageSource::Rootfs(PathBuf::from(path))),
            None if text.starts_with("docker-daemon:") => ImageName::parse(text).map(ImageSource::Daemon),
            None => ImageName::parse(text).map(ImageSource::Named),
        }
    }
}

impl fmt::Display for ImageSource {
    /// As it was typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, which) = match self {
            ImageSource::Daemon(name) | ImageSource::Named(name) => return name.fmt(f),
            ImageSource::Registry(reference) => return write!(f, "docker://{reference}"),
            ImageSource::Rootfs(path) => ("rootfs", path, &None),
            ImageSource::File(FileSource::DockerArchive { path, reference }) => ("docker-archive", path, reference),
            ImageSource::File(FileSource::Oci { path, tag }) => ("oci", path, tag),
            ImageSource::File(FileSource::OciArchive { path, tag }) => ("oci-archive", path, tag),
        };
        write!(f, "{transport}:{}", path.display())?;
        which.as_ref().map_or(Ok(()), |which| write!(f, ":{which}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_image_is() {
        let file = |text: &str| match ImageSource::parse(text).unwrap() {
            ImageSource::File(file) => file,
            other => panic!("{other:?}"),
        };
        let path = PathBuf::from("/a b/app.tar");
        let reference = Some("reg:5000/app:1".to_owned());
        assert_eq!(file("docker-archive:/a b/app.tar:reg:5000/app:1"), FileSource::DockerArchive { path, reference });
        assert_eq!(file("oci:layout"), FileSource::Oci { path: "layout".into(), tag: None });
        assert_eq!(file("oci-archive:a.tar:1"), FileSource::OciArchive { path: "a.tar".into(), tag: Some("1".into()) });
        assert_eq!(ImageSource::parse("rootfs:/a:b"), Ok(ImageSource::Rootfs("/a:b".into())));
        assert_eq!(ImageSource::parse("app:1"), ImageName::parse("app:1").map(ImageSource::Named));
        assert_eq!(ImageSource::parse("docker-daemon:app:1"), ImageName::parse("app:1").map(ImageSource::Daemon));
        assert_eq!(ImageSource::parse("docker://reg:5000/a:1"), Reference::parse("reg:5000/a:1").map(ImageSource::Registry));
        for text in ["docker-archive:a.tar:app:1", "oci:layout", "oci-archive:a.tar:1", "rootfs:/", "app:1", "docker://app:1"] {
            assert_eq!(ImageSource::parse(text).unwrap().to_string(), text);
        }
        for text in ["docker-archive:", "oci::1", "oci-archive:", "rootfs:"] {
            assert_eq!(ImageSource::parse(text), Err(ReferenceError::NoPath(text.to_owned())));
        }
        assert_eq!(ImageSource::parse("docker://"), Err(ReferenceError::Empty));
        assert!(matches!(ImageSource::parse("docker://App"), Err(ReferenceError::Component { .. })));
    }
}
