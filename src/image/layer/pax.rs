//! The records of a PAX header: `LENGTH NAME=VALUE\n` each. Values are any bytes, line ends too; an empty value takes
//! back what the header itself says.

use super::numbers;
use super::tar::TarError;
use crate::image::tree::Xattr;

/// The most bytes of extended attributes of one entry, names included: what a frame of the index has room for.
const MAX_XATTRS: usize = 512 << 10;

/// What records can say of the entry that follows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: SparseRecords,
}

/// What records say of a sparse file, in the three ways that GNU tar has had.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SparseRecords {
    /// 1 and 0: the map is in front of the content.
    pub(super) version: Option<(u64, u64)>,
    /// `OFFSET,LENGTH,OFFSET,LENGTH...` (0.1), also put together from single records (0.0).
    pub(super) map: Vec<u64>,
    pub(super) has_map: bool,
    pub(super) real_size: Option<u64>,
    /// The file's name; that of the member is made up.
    pub(super) name: Option<Vec<u8>>,
}

/// Reads the records in `bytes` into `extensions`.
pub(super) fn read(mut bytes: &[u8], extensions: &mut Extensions) -> Result<(), TarError> {
    while !bytes.is_empty() {
        let (record, rest) = split(bytes).ok_or(TarError::Records)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(TarError::Records)?;
        take(&record[..equals], &record[equals + 1..], extensions)?;
        bytes = rest;
    }
    Ok(())
}

/// The first record without its length and line end, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(numbers::decimal(&bytes[..blank])?).ok()?;
    let record = bytes.get(blank + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &bytes[length..]))
}

fn take(name: &[u8], value: &[u8], extensions: &mut Extensions) -> Result<(), TarError> {
    let wrong = || TarError::Record(crate::escape::escape(name));
    let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
    let number = || if value.is_empty() { Ok(None) } else { numbers::decimal(value).map(Some).ok_or_else(wrong) };
    if value.contains(&0) && matches!(name, b"path" | b"linkpath" | b"GNU.sparse.name") {
        return Err(wrong());
    }
    let sparse = &mut extensions.sparse;
    match name {
        b"path" => extensions.path = text(),
        b"linkpath" => extensions.link = text(),
        b"size" => extensions.size = number()?,
        b"uid" => extensions.uid = number()?,
        b"gid" => extensions.gid = number()?,
        b"mtime" if value.is_empty() => extensions.mtime = None,
        b"mtime" => extensions.mtime = Some(numbers::time(value).ok_or_else(wrong)?),
        b"GNU.sparse.major" => sparse.version = Some((number()?.unwrap_or(0), sparse.version.map_or(0, |version| version.1))),
        b"GNU.sparse.minor" => sparse.version = Some((sparse.version.map_or(0, |version| version.0), number()?.unwrap_or(0))),
        b"GNU.sparse.name" => sparse.name = text(),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.real_size = number()?,
        b"GNU.sparse.numblocks" => sparse.has_map = true,
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            let is_offset = name == b"GNU.sparse.offset";
            if is_offset != sparse.map.len().is_multiple_of(2) {
                return Err(wrong());
            }
            sparse.map.push(number()?.ok_or_else(wrong)?);
        }
        b"GNU.sparse.map" => {
            sparse.has_map = true;
            let numbers = value.split(|&byte| byte == b',').filter(|number| !number.is_empty() || value.len() > 1);
            sparse.map = numbers.map(|number| numbers::decimal(number).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        }
        _ => {
            if let Some(name) = name.strip_prefix(b"SCHILY.xattr.") {
                return xattr(name, value, &mut extensions.xattrs);
            }
        }
    }
    Ok(())
}

fn xattr(name: &[u8], value: &[u8], xattrs: &mut Vec<Xattr>) -> Result<(), TarError> {
    if !super::is_xattr_of_image(name) {
        return Ok(());
    }
    xattrs.retain(|xattr| xattr.name != name);
    let total: usize = xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
    if name.is_empty() || name.len() > 255 || name.contains(&0) || total + name.len() + value.len() > MAX_XATTRS {
        return Err(TarError::Record(crate::escape::escape(&[b"SCHILY.xattr.", name].concat())));
    }
    xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::fixture::record;

    #[test]
    fn values_are_any_bytes() {
        let bytes = [
            record("path", b"a\nb=c/\xff"),
            record("SCHILY.xattr.user.x", b"1\n22 path=oops\n\0"),
            record("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            record("mtime", b"-1.5"),
            record("uid", b"4000000000"),
            record("linkpath", b"x"),
            record("linkpath", b""),
            record("something.else", b"ignored"),
        ];
        let mut extensions = Extensions::default();
        read(&bytes.concat(), &mut extensions).unwrap();
        let xattr = Xattr { name: b"user.x".to_vec(), value: b"1\n22 path=oops\n\0".to_vec() };
        let expected = Extensions {
            path: Some(b"a\nb=c/\xff".to_vec()),
            mtime: Some((-2, 500_000_000)),
            uid: Some(4_000_000_000),
            xattrs: vec![xattr],
            ..Extensions::default()
        };
        assert_eq!(extensions, expected);
    }

    #[test]
    fn what_is_no_record() {
        let mut cases: Vec<Vec<u8>> = [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b\n\n",
            b"99999999999999999999999 a=b\n",
            b"3 a=b\n",
            b"0 a=b\n",
            b"6 abc\n",
            b"-6 a=b\n",
            b" a=b\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        cases.extend([
            record("size", b"-1"),
            record("size", b"99999999999999999999"),
            record("mtime", b"soon"),
            record("path", b"a\0b"),
            record("SCHILY.xattr.", b"x"),
            record("SCHILY.xattr.user.x", &vec![0; MAX_XATTRS]),
            record("GNU.sparse.map", b"1,x"),
            record("GNU.sparse.numbytes", b"1"),
        ]);
        for bytes in cases {
            assert!(read(&bytes, &mut Extensions::default()).is_err(), "{}", bytes[..bytes.len().min(40)].escape_ascii());
        }
    }
}
