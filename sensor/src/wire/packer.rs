//! What the controller and a packer say to each other: the tree of an image, and the bytes of its files.

use serde::{Deserialize, Serialize};

/// What kind of file a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

/// Controller → packer, first of all: what it has to know of its container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackerSetup {
    /// Absolute paths that slim put in, with everything below them: not the image's.
    #[serde(with = "paths")]
    pub own: Vec<Vec<u8>>,
    /// When the container was created, by the engine's clock: seconds since 1970 and nanoseconds.
    pub container_created: (i64, u32),
    /// When the image was created, in seconds since 1970.
    pub image_created: i64,
    /// Directories that the engine makes where the image has none: VOLUMEs and the working directory.
    #[serde(with = "paths")]
    pub made_by_engine: Vec<Vec<u8>>,
}

/// Controller → packer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackerRequest {
    /// List the whole tree; answered by [`PackerReply::Entry`] for each, parents first, then [`PackerReply::Listed`].
    List,
    /// Send the content of files, one after the other, each as data frames and [`PackerReply::Hole`]s, closed by
    /// [`PackerReply::FileEnd`].
    Read {
        /// Absolute paths; no component may be a symbolic link (paths come from the listing).
        #[serde(with = "paths")]
        paths: Vec<Vec<u8>>,
        /// At most so many bytes of each, from the beginning.
        limit: u64,
    },
}

/// Packer → controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackerReply {
    /// The first message: the packer runs, and speaks our version.
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// One entry of the tree.
    Entry(Entry),
    /// What cannot be in a layer (a socket) or could not be read; told to the user.
    Skipped {
        /// Absolute path.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// Why, in words.
        reason: String,
    },
    /// The listing is complete.
    Listed {
        /// How many [`PackerReply::Entry`] were sent.
        entries: u32,
    },
    /// So many zero bytes come here.
    Hole {
        /// In bytes.
        length: u64,
    },
    /// The file that was being sent is complete; `error` says that it could not be read (to its end).
    FileEnd {
        /// In words, with the system's reason.
        error: Option<String>,
    },
}

/// One entry of an image's tree, as the packer lists it. Entries are numbered in the order they are sent, from 0, the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the directory it is in; the root is its own parent.
    pub parent: u32,
    /// The last component of its path; empty for the root.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky (`07777`).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970, negative before.
    pub mtime: i64,
    /// The rest of the modification time, in nanoseconds.
    pub mtime_nanoseconds: u32,
    /// Bytes, for regular files; 0 otherwise.
    pub size: u64,
    /// Major and minor number of a device; zeros otherwise.
    pub device: (u32, u32),
    /// The same number for all names of one file, where it has more than one.
    pub link_group: Option<u64>,
    /// Where a symbolic link points.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// With its name space, such as `security.capability`.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Any bytes.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// Lists of byte strings, each as one run of bytes rather than a sequence of numbers.
mod paths {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paths: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| serde_bytes::Bytes::new(path)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<serde_bytes::ByteBuf>::deserialize(deserializer)?.into_iter().map(serde_bytes::ByteBuf::into_vec).collect())
    }
}
