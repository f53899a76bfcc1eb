//! Reading tar archives, as a stream: POSIX (ustar and PAX), GNU and what came before.
//!
//! The `tar` crate takes a line end in a PAX value for the end of the record, hides what an archive really says behind
//! path types, and leaves GNU's newer sparse files as they are; a layer needs exact bytes, so this reader is our own. It
//! gives members with all that their headers say, and contents as data and holes. It bounds what it keeps in memory, and
//! knows nothing of what paths mean: `..` is a name like any other here.

use std::io::{self, Read};

use super::pax::{self, Extensions};
use super::sparse::{self, Stretch};
use super::{numbers, pax::SparseRecords};
use crate::escape::escape;
use crate::image::tree::{Kind, Xattr};

/// Size of a block; headers and contents fill whole ones.
pub(super) const BLOCK: usize = 512;
/// The most bytes of records, or of a long name, before one member.
const MAX_EXTENSION: u64 = 1 << 20;
/// The most headers in a row that only extend the next one.
const MAX_EXTENSIONS: usize = 16;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream.
    #[error(transparent)]
    Io(io::Error),
    /// It ends within a member.
    #[error("the archive is cut off")]
    Cut,
    /// A checksum is wrong.
    #[error("it is not a tar archive, or damaged: the header at byte {0} has a wrong checksum")]
    Checksum(u64),
    /// A number in a header.
    #[error("`{path}` has a header with a wrong {field}")]
    Field {
        /// The member.
        path: String,
        /// Which number.
        field: &'static str,
    },
    /// The form of PAX records.
    #[error("a PAX header holds something else than records")]
    Records,
    /// What a PAX record says.
    #[error("the PAX record `{0}` has a value that makes no sense")]
    Record(String),
    /// Too many or too long extensions.
    #[error("a PAX header or a long name has more than 1 MiB")]
    Extension,
    /// A sparse file.
    #[error("a sparse file's map of its data makes no sense")]
    Sparse,
    /// A kind of member that no file system has.
    #[error("`{path}` is of the unknown type `{kind}`")]
    Kind {
        /// The member.
        path: String,
        /// The type's byte.
        kind: String,
    },
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Cut,
            _ => TarError::Io(error),
        }
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An entry with its own kind.
    Entry(Kind),
    /// Another name of an earlier member, which is [`Member::link`].
    HardLink,
}

/// A member, without its content. Path and link are as the archive has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Type,
    /// Where a symbolic link points, or the path of the other name.
    pub link: Vec<u8>,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of a regular file, holes included.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Where in the archive the content is, where it is no sparse file.
    pub position: u64,
}

/// The next part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// So many bytes were put into the buffer.
    Data(usize),
    /// So many zeros come here.
    Hole(u64),
    /// There is no more.
    End,
}

/// A stream that can pass over bytes.
pub trait Skip: Read {
    /// Passes over so many bytes.
    ///
    /// # Errors
    /// As [`Read::read`]; also where there are not so many.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// A stream that is passed over by reading.
#[derive(Debug)]
pub struct Forward<R>(pub R);

impl<R: Read> Read for Forward<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Forward<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())? {
            read if read == bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct TarReader<S> {
    source: S,
    position: u64,
    /// Of the present content: the stretches of data that are still to come, the first of them last.
    stretches: Vec<Stretch>,
    /// Where in the file we are, and its size.
    at: u64,
    size: u64,
    /// Stored bytes that were not read, and those that fill the last block.
    stored: u64,
    padding: u64,
}

/// One whole block.
pub(super) fn read_block(source: &mut impl Read) -> Result<[u8; BLOCK], TarError> {
    let mut block = [0; BLOCK];
    source.read_exact(&mut block)?;
    Ok(block)
}

impl<S: Skip> TarReader<S> {
    /// Reads the archive in `source`.
    pub fn new(source: S) -> TarReader<S> {
        TarReader { source, position: 0, stretches: vec![], at: 0, size: 0, stored: 0, padding: 0 }
    }

    /// The source, from behind the last thing that was read.
    pub fn into_inner(self) -> S {
        self.source
    }

    /// The next member; `None` at the end. What was not read of the last content is passed over.
    ///
    /// # Errors
    /// [`TarError`]
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.pass_content()?;
        let mut extensions = Extensions::default();
        let (mut long_path, mut long_link) = (None, None);
        for _ in 0..MAX_EXTENSIONS {
            let header_at = self.position;
            let Some(header) = self.header()? else { return Ok(None) };
            // A fuzzer would spend its time on sums.
            if !cfg!(fuzzing) && !is_checksum_right(&header) {
                return Err(TarError::Checksum(header_at));
            }
            let stored = number(&header, 124..136, "size")?;
            match header[156] {
                b'x' | b'X' => pax::read(&self.extension(stored)?, &mut extensions)?,
                b'L' => long_path = Some(until_nul(&self.extension(stored)?).to_vec()),
                b'K' => long_link = Some(until_nul(&self.extension(stored)?).to_vec()),
                // Of all members that follow: comments of whoever made it; Docker ignores them too.
                b'g' => self.begin_passing(stored)?,
                _ => {
                    extensions.path = extensions.path.or(long_path);
                    extensions.link = extensions.link.or(long_link);
                    return self.member(&header, extensions).map(Some);
                }
            }
        }
        Err(TarError::Extension)
    }

    /// Reads the next part of the content of the last member.
    ///
    /// # Errors
    /// [`TarError`]
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<Content, TarError> {
        let next = self.stretches.last_mut();
        let start = next.as_ref().map_or(self.size, |stretch| stretch.offset);
        if start > self.at {
            let length = start - self.at;
            self.at = start;
            return Ok(Content::Hole(length));
        }
        let Some(stretch) = next else { return Ok(Content::End) };
        let want = usize::try_from(stretch.length).map_or(buffer.len(), |length| length.min(buffer.len()));
        let read = loop {
            match self.source.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if read == 0 && want > 0 {
            return Err(TarError::Cut);
        }
        stretch.offset += read as u64;
        stretch.length -= read as u64;
        let is_done = stretch.length == 0;
        if is_done {
            self.stretches.pop();
        }
        self.at += read as u64;
        self.stored -= read as u64;
        self.position += read as u64;
        Ok(Content::Data(read))
    }

    /// The next header that is not empty; `None` at the end of the archive, which may lack its two empty blocks.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Cut),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += BLOCK as u64;
        Ok((block != [0; BLOCK]).then_some(block))
    }

    /// The content of a header that extends the next one.
    fn extension(&mut self, stored: u64) -> Result<Vec<u8>, TarError> {
        if stored > MAX_EXTENSION {
            return Err(TarError::Extension);
        }
        let mut bytes = vec![];
        self.source.by_ref().take(stored).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != stored {
            return Err(TarError::Cut);
        }
        self.position += stored;
        self.padding = padding(stored);
        self.pass_content()?;
        Ok(bytes)
    }

    fn begin_passing(&mut self, stored: u64) -> Result<(), TarError> {
        (self.stored, self.padding) = (stored, padding(stored));
        self.pass_content()
    }

    fn pass_content(&mut self) -> Result<(), TarError> {
        let rest = self.stored.checked_add(self.padding).ok_or(TarError::Cut)?;
        self.source.skip(rest)?;
        self.position = self.position.checked_add(rest).ok_or(TarError::Cut)?;
        (self.stored, self.padding, self.at, self.size) = (0, 0, 0, 0);
        self.stretches.clear();
        Ok(())
    }

    fn member(&mut self, header: &[u8; BLOCK], extensions: Extensions) -> Result<Member, TarError> {
        let Extensions { path, link, size, uid, gid, mtime, mut xattrs, sparse } = extensions;
        let path = sparse.name.clone().or(path).unwrap_or_else(|| header_path(header));
        let wrong = |field| TarError::Field { path: escape(&path), field };
        let link = link.unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        let stored = size.map_or_else(|| number(header, 124..136, "size"), Ok)?;
        if i64::try_from(stored).is_err() {
            return Err(wrong("size"));
        }
        let kind = match header[156] {
            // Before there were types, a slash at the end made a directory.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Type::Entry(Kind::Directory),
            b'0' | 0 | b'7' | b'S' => Type::Entry(Kind::File),
            b'1' => Type::HardLink,
            b'2' => Type::Entry(Kind::Symlink),
            b'3' => Type::Entry(Kind::CharacterDevice),
            b'4' => Type::Entry(Kind::BlockDevice),
            b'5' => Type::Entry(Kind::Directory),
            b'6' => Type::Entry(Kind::Fifo),
            other => return Err(TarError::Kind { path: escape(&path), kind: escape(&[other]) }),
        };
        let is_file = kind == Type::Entry(Kind::File);
        // Only files have a content; Go's writer leaves the size of a file in the header of its hard links.
        let stored = if is_file { stored } else { 0 };
        if is_file {
            self.begin_content(header, stored, &sparse)?;
        }
        let owner = |record: Option<u64>, range, field| {
            let value = record.map_or_else(|| number(header, range, field), Ok)?;
            u32::try_from(value).map_err(|_| wrong(field))
        };
        let is_device = matches!(kind, Type::Entry(Kind::CharacterDevice | Kind::BlockDevice));
        let device = |range| match is_device {
            true => number(header, range, "device number").and_then(|it| u32::try_from(it).map_err(|_| wrong("device number"))),
            false => Ok(0),
        };
        let time = || numbers::field(&header[136..148]).map(|seconds| (seconds, 0)).ok_or_else(|| wrong("time"));
        xattrs.sort_unstable();
        Ok(Member {
            kind,
            link,
            mode: match kind {
                // Whatever is said of a link, Linux gives it this.
                Type::Entry(Kind::Symlink) => 0o777,
                _ => (number(header, 100..108, "mode")? & 0o7777) as u16,
            },
            uid: owner(uid, 108..116, "owner")?,
            gid: owner(gid, 116..124, "group")?,
            mtime: mtime.map_or_else(time, Ok)?,
            size: if is_file { self.size } else { 0 },
            device: (device(329..337)?, device(337..345)?),
            xattrs,
            position: self.position,
            path,
        })
    }

    /// Gets ready for the content of a file of which `stored` bytes are in the archive.
    fn begin_content(&mut self, header: &[u8; BLOCK], stored: u64, records: &SparseRecords) -> Result<(), TarError> {
        self.padding = padding(stored);
        self.stored = stored;
        let is_old = header[156] == b'S';
        if !is_old && !records.has_map && records.version != Some((1, 0)) {
            self.size = stored;
            self.stretches.extend((stored > 0).then_some(Stretch { offset: 0, length: stored }));
            return Ok(());
        }
        let numbers = if is_old {
            let (numbers, bytes) = sparse::old_map(header, &mut self.source)?;
            self.position += bytes;
            self.size = number(header, 483..495, "size")?;
            numbers
        } else {
            self.size = records.real_size.filter(|&size| i64::try_from(size).is_ok()).ok_or(TarError::Sparse)?;
            match records.version {
                Some((1, 0)) => {
                    let (numbers, bytes) = sparse::leading_map(stored, &mut self.source)?;
                    self.position += bytes;
                    self.stored = stored.checked_sub(bytes).ok_or(TarError::Sparse)?;
                    numbers
                }
                _ => records.map.clone(),
            }
        };
        self.stretches = sparse::stretches(&numbers, self.size, self.stored)?;
        self.stretches.reverse();
        Ok(())
    }
}

fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

/// A number of a header that cannot be negative.
fn number(header: &[u8; BLOCK], range: std::ops::Range<usize>, field: &'static str) -> Result<u64, TarError> {
    let value = numbers::field(&header[range]).and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| TarError::Field { path: escape(until_nul(&header[..100])), field })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|&byte| byte == 0).map_or(bytes, |end| &bytes[..end])
}

/// The path in a header; POSIX archives have the beginning of a long one in a field of its own.
fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    match until_nul(&header[345..500]) {
        prefix if &header[257..263] == b"ustar\0" && !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

/// The sum of all bytes, with the field of the sum itself taken for blanks; some programs of old added signed bytes.
fn is_checksum_right(header: &[u8; BLOCK]) -> bool {
    let Some(told) = numbers::field(&header[148..156]) else { return false };
    let others = || header[..148].iter().chain(&[b' '; 8]).chain(&header[156..]);
    let unsigned: i64 = others().map(|&byte| i64::from(byte)).sum();
    told == unsigned || told == others().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>()
}

#[cfg(test)]
mod tests;
