//! What a layer says, entry by entry: the truth of owners, modes, times, attributes, devices, sizes and links.
//!
//! The files that were unpacked are not asked for any of it, since a file system may refuse or change it (an unprivileged
//! user owns everything). On the disk it is a sequence of frames in the encoding of our wire: one head, then the records,
//! parents before what they hold. The head tells how many there are, so an index that was cut off is none.

use serde::{Deserialize, Serialize};
use slim_sensor::wire::{Frame, FrameReader, WireError, put_message};

use crate::image::tree::{Entry, Kind};

/// Changes with what is on the disk; a layer with another version is unpacked again.
const VERSION: u32 = 3;

/// The head of an index is within so many bytes of its beginning.
pub(super) const HEAD_ROOM: u64 = 64;

/// What a layer does at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// It puts an entry there; a directory is merged with the one below.
    Put,
    /// It puts a directory there that hides what is below.
    PutOpaque,
    /// Something is put in a directory that the layer does not describe: one below keeps its metadata.
    Implied,
    /// As [`Effect::Implied`], and what is below is hidden.
    ImpliedOpaque,
    /// It takes away what is there.
    Whiteout,
    /// It gives another name to a file of a layer below, whose absolute path is the entry's target.
    LinkBelow,
}

/// One path of a layer. The entry's parent is the number of a record before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What is there; of a whiteout and of a link below only the place counts, and the link's target.
    pub entry: Entry,
    /// What the layer does with it.
    pub effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
    records: u32,
    bytes: u64,
}

/// What a layer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The root first.
    pub records: Vec<Record>,
    /// Bytes that the contents take on a disk, holes included: see [`bytes_on_disk`].
    pub bytes: u64,
}

/// Bytes that a file of `size` bytes takes where blocks have 4 KiB, as nearly everywhere: a bound for many small files
/// would be far off otherwise.
#[must_use]
pub fn bytes_on_disk(size: u64) -> u64 {
    size.saturating_add(4095) & !4095
}

/// Why an index cannot be used: the layer has to be unpacked again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Not our frames.
    #[error("the index of a layer cannot be understood: {0}")]
    Wire(#[from] WireError),
    /// Of another version.
    #[error("the index of a layer is of version {0}")]
    Version(u32),
    /// Cut off, or with more than it says.
    #[error("the index of a layer is damaged")]
    Damaged,
}

impl Index {
    /// The absolute path of a record.
    #[must_use]
    pub fn path(&self, record: u32) -> Vec<u8> {
        let (mut names, mut at) = (vec![], record);
        while at != 0 {
            let entry = &self.records[at as usize].entry;
            names.push(&entry.name);
            at = entry.parent;
        }
        names.iter().rev().flat_map(|name| [b"/", &name[..]].concat()).collect()
    }

    /// As it is written to the disk.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        let records = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        put_message(&mut bytes, &Head { version: VERSION, records, bytes: self.bytes });
        self.records.iter().for_each(|record| put_message(&mut bytes, record));
        bytes
    }

    /// As it was written to the disk.
    ///
    /// # Errors
    /// [`IndexError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Index, IndexError> {
        const CHUNK: usize = 1 << 20;
        let mut frames = FrameReader::default();
        let mut head: Option<Head> = None;
        let mut records = vec![];
        for chunk in bytes.chunks(CHUNK) {
            frames.feed(chunk);
            while let Some(frame) = frames.next_frame()? {
                match head {
                    None => head = Some(Head::of(&frame)?),
                    Some(_) => records.push(frame.message()?),
                }
            }
        }
        let head = head.filter(|head| !frames.is_cut() && head.records as usize == records.len());
        let head = head.ok_or(IndexError::Damaged)?;
        if !are_sound(&records) {
            return Err(IndexError::Damaged);
        }
        Ok(Index { records, bytes: head.bytes })
    }

    /// [`Index::bytes`] of an index of which only the beginning was read.
    ///
    /// # Errors
    /// [`IndexError`]
    pub(super) fn bytes_of_beginning(beginning: &[u8]) -> Result<u64, IndexError> {
        let mut frames = FrameReader::default();
        frames.feed(beginning);
        let frame = frames.next_frame()?.ok_or(IndexError::Damaged)?;
        Ok(Head::of(&frame)?.bytes)
    }
}

impl Head {
    fn of(frame: &Frame<'_>) -> Result<Head, IndexError> {
        let head: Head = frame.message()?;
        if head.version == VERSION { Ok(head) } else { Err(IndexError::Version(head.version)) }
    }
}

/// Whether parents come before what they hold and are directories, and names are names.
fn are_sound(records: &[Record]) -> bool {
    let is_root = |record: &Record| record.entry.name.is_empty() && record.entry.kind == Kind::Directory;
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0);
    let holds =
        |record: &Record| record.entry.kind == Kind::Directory && !matches!(record.effect, Effect::Whiteout | Effect::LinkBelow);
    let is_below = |(at, record): (usize, &Record)| {
        let parent = record.entry.parent as usize;
        parent < at && is_name(&record.entry.name) && holds(&records[parent])
    };
    records.first().is_some_and(is_root) && records.iter().enumerate().skip(1).all(is_below)
}

/// An entry of which nothing but its place is known yet.
#[must_use]
pub fn blank(parent: u32, name: &[u8], kind: Kind, mode: u16) -> Entry {
    Entry {
        parent,
        name: name.to_vec(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_nanoseconds: 0,
        size: 0,
        device: (0, 0),
        link_group: None,
        target: vec![],
        xattrs: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_not() {
        let record = |parent, name: &[u8], kind, effect| Record { entry: blank(parent, name, kind, 0o755), effect };
        let index = Index {
            records: vec![
                record(0, b"", Kind::Directory, Effect::Implied),
                record(0, b"a", Kind::Directory, Effect::PutOpaque),
                record(1, b"b\xff", Kind::File, Effect::LinkBelow),
                record(0, b"d", Kind::File, Effect::Whiteout),
            ],
            bytes: 7,
        };
        let bytes = index.to_bytes();
        assert_eq!(Index::from_bytes(&bytes).unwrap(), index);
        let beginning = &bytes[..bytes.len().min(HEAD_ROOM as usize)];
        assert_eq!(Index::bytes_of_beginning(beginning).unwrap(), 7);
        assert!(Index::bytes_of_beginning(&bytes[..3]).is_err());
        for length in 0..bytes.len() {
            assert!(Index::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let unsound = |change: fn(&mut Vec<Record>)| {
            let mut index = index.clone();
            change(&mut index.records);
            assert!(Index::from_bytes(&index.to_bytes()).is_err(), "{index:?}");
        };
        unsound(|records| records[1].entry.parent = 1);
        unsound(|records| records[1].entry.parent = 3);
        unsound(|records| records[2].entry.parent = 3);
        unsound(|records| records[2].entry.name = b"..".to_vec());
        unsound(|records| records[2].entry.name = b"x/y".to_vec());
        unsound(|records| records[0].entry.kind = Kind::File);
        unsound(Vec::clear);
    }
}
