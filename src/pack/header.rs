//! The headers of a tar archive: POSIX ustar, with PAX records for what does not fit.
//!
//! PAX records are written only where they are needed, so that most entries cost one block. Their values are raw bytes:
//! the standard wants UTF-8, but file names are bytes, and what reads layers (Go's `archive/tar` above all) takes any
//! bytes but NUL.

use slim_sensor::wire::Xattr;
use tar::{EntryType, Header};

/// Size of a block; headers and contents fill whole ones.
pub(super) const BLOCK: usize = 512;
/// The largest number in a field of 7 octal digits.
const MAX_OCTAL_7: u32 = 0o7_777_777;
/// The largest number in a field of 11 octal digits.
const MAX_OCTAL_11: u64 = 0o77_777_777_777;

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// Content of so many bytes follows.
    File(u64),
    /// Another name of this earlier entry.
    HardLink(&'a [u8]),
    Symlink(&'a [u8]),
    Directory,
    Fifo,
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
}

/// An entry of an archive, without its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// Without a slash at the beginning; a directory ends in one.
    pub(super) path: &'a [u8],
    pub(super) body: Body<'a>,
    pub(super) mode: u16,
    pub(super) owner: (u32, u32),
    /// Seconds since 1970, and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: &'a [Xattr],
}

/// Appends the header of `member`; an error says in words what cannot be written.
pub(super) fn append(out: &mut Vec<u8>, member: &Member<'_>) -> Result<(), String> {
    let mut header = Header::new_ustar();
    let mut records = vec![];

    if let Some((prefix, name)) = split(member.path) {
        set_names(&mut header, prefix, name);
    } else {
        set_names(&mut header, b"", &member.path[..100]);
        record(&mut records, b"path", member.path);
    }

    let (kind, link) = match member.body {
        Body::File(_) => (EntryType::Regular, &b""[..]),
        Body::HardLink(target) => (EntryType::Link, target),
        Body::Symlink(target) => (EntryType::Symlink, target),
        Body::Directory => (EntryType::Directory, &b""[..]),
        Body::Fifo => (EntryType::Fifo, &b""[..]),
        Body::CharacterDevice(..) => (EntryType::Char, &b""[..]),
        Body::BlockDevice(..) => (EntryType::Block, &b""[..]),
    };
    header.set_entry_type(kind);
    header.as_old_mut().linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    if link.len() > 100 {
        record(&mut records, b"linkpath", link);
    }

    let size = if let Body::File(size) = member.body { size } else { 0 };
    header.set_size(if size <= MAX_OCTAL_11 { size } else { 0 });
    if size > MAX_OCTAL_11 {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    header.set_mode(u32::from(member.mode));
    let (uid, gid) = member.owner;
    header.set_uid(u64::from(if uid <= MAX_OCTAL_7 { uid } else { 0 }));
    if uid > MAX_OCTAL_7 {
        record(&mut records, b"uid", uid.to_string().as_bytes());
    }
    header.set_gid(u64::from(if gid <= MAX_OCTAL_7 { gid } else { 0 }));
    if gid > MAX_OCTAL_7 {
        record(&mut records, b"gid", gid.to_string().as_bytes());
    }
    let (seconds, nanoseconds) = member.mtime;
    let whole = u64::try_from(seconds).ok().filter(|&seconds| seconds <= MAX_OCTAL_11);
    header.set_mtime(whole.unwrap_or(0));
    if whole.is_none() || nanoseconds != 0 {
        record(&mut records, b"mtime", decimal(seconds, nanoseconds).as_bytes());
    }
    let (major, minor) = match member.body {
        Body::CharacterDevice(major, minor) | Body::BlockDevice(major, minor) => (major, minor),
        _ => (0, 0),
    };
    if major > MAX_OCTAL_7 || minor > MAX_OCTAL_7 {
        return Err(format!("its device number {major}:{minor} is too large"));
    }
    header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(|error| error.to_string())?;
    for xattr in member.xattrs {
        if xattr.name.contains(&b'=') {
            let name = crate::escape::escape(&xattr.name);
            return Err(format!("the name of its extended attribute `{name}` contains `=`"));
        }
        record(&mut records, &[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
    }

    if !records.is_empty() {
        let mut extension = Header::new_ustar();
        set_names(&mut extension, b"", b"././@PaxHeader");
        extension.set_entry_type(EntryType::XHeader);
        extension.set_mode(0o644);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_size(records.len() as u64);
        extension.set_cksum();
        out.extend_from_slice(extension.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(records.len() as u64), 0);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    Ok(())
}

/// How many zeros follow a content of `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// Splits a path into the two fields of ustar, of up to 155 and 100 bytes with a slash between; `None` if it can't be.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    let first = path.len() - 101;
    let slash = first + path[first..path.len() - 1].iter().position(|&byte| byte == b'/')?;
    (1..=155).contains(&slash).then(|| (&path[..slash], &path[slash + 1..]))
}

fn set_names(header: &mut Header, prefix: &[u8], name: &[u8]) {
    let fields = header.as_ustar_mut().expect("the header was made as ustar");
    fields.prefix[..prefix.len()].copy_from_slice(prefix);
    fields.name[..name.len()].copy_from_slice(name);
}

/// Appends a PAX record: `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A time as a decimal number: seconds before 1970 with nanoseconds that count upwards are `-2` and `500000000` in the
/// file system, `-1.5` here.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    let (sign, whole, fraction) = match seconds < 0 {
        true => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        false => ("", seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member<'a>(path: &'a [u8], body: Body<'a>) -> Member<'a> {
        Member { path, body, mode: 0o644, owner: (0, 0), mtime: (1, 0), xattrs: &[] }
    }

    fn blocks(member: &Member<'_>) -> usize {
        let mut out = vec![];
        append(&mut out, member).expect("header");
        assert_eq!(out.len() % BLOCK, 0);
        out.len() / BLOCK
    }

    #[test]
    fn times() {
        for (time, text) in [
            ((0, 5), "0.000000005"),
            ((7, 120_000_000), "7.12"),
            ((-1, 0), "-1"),
            ((-1, 900_000_000), "-0.1"),
            ((-2, 500_000_000), "-1.5"),
            ((i64::MIN, 1), "-9223372036854775807.999999999"),
        ] {
            assert_eq!(decimal(time.0, time.1), text);
        }
    }

    #[test]
    fn records_count_themselves() {
        for length in 0..1_200 {
            let mut records = vec![];
            record(&mut records, b"key", &vec![b'v'; length]);
            let digits = records.split(|&byte| byte == b' ').next().expect("length");
            assert_eq!(str::from_utf8(digits).expect("digits").parse(), Ok(records.len()));
        }
    }

    #[test]
    fn long_paths_use_the_prefix_where_they_can() {
        let join =
            |parts: &[usize]| -> Vec<u8> { parts.iter().map(|&length| vec![b'n'; length]).collect::<Vec<_>>().join(&b'/') };
        for (parts, split_at) in [
            (&[100][..], Some(0)),
            (&[50, 50], Some(50)),
            (&[155, 100], Some(155)),
            (&[1, 100], Some(1)),
            (&[0, 100], None),
            (&[156, 100], None),
            (&[155, 101], None),
            (&[101], None),
            (&[150, 3, 60], Some(150)),
            (&[60, 99, 0], Some(60)),
            (&[60, 100, 0], None),
        ] {
            let path = join(parts);
            assert_eq!(split(&path).map(|(prefix, _)| prefix.len()), split_at, "{parts:?}");
            assert_eq!(blocks(&member(&path, Body::File(0))), if split_at.is_some() { 1 } else { 3 }, "{parts:?}");
        }
    }

    #[test]
    fn records_only_where_they_are_needed() {
        let plain = member(b"x", Body::File(0));
        let target = [b't'; 101];
        for (member, expected) in [
            (plain, 1),
            (Member { body: Body::File(MAX_OCTAL_11), ..plain }, 1),
            (Member { body: Body::File(MAX_OCTAL_11 + 1), ..plain }, 3),
            (Member { body: Body::Symlink(&target[..100]), ..plain }, 1),
            (Member { body: Body::Symlink(&target), ..plain }, 3),
            (Member { owner: (MAX_OCTAL_7, MAX_OCTAL_7), ..plain }, 1),
            (Member { owner: (MAX_OCTAL_7 + 1, 0), ..plain }, 3),
            (Member { owner: (0, u32::MAX), ..plain }, 3),
            (Member { mtime: (MAX_OCTAL_11 as i64, 0), ..plain }, 1),
            (Member { mtime: (MAX_OCTAL_11 as i64 + 1, 0), ..plain }, 3),
            (Member { mtime: (-1, 0), ..plain }, 3),
            (Member { mtime: (1, 1), ..plain }, 3),
            (Member { body: Body::CharacterDevice(MAX_OCTAL_7, 0), ..plain }, 1),
        ] {
            assert_eq!(blocks(&member), expected, "{member:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let xattrs = [Xattr { name: b"user.a=b".to_vec(), value: vec![] }];
        for refused in [Member { xattrs: &xattrs, ..member(b"x", Body::File(0)) }, member(b"x", Body::BlockDevice(0, u32::MAX))] {
            assert!(append(&mut vec![], &refused).is_err(), "{refused:?}");
        }
    }
}
