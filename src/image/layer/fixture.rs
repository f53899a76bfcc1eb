//! Archives for tests: exactly the headers that a test asks for, also those that no well-meaning program writes.

use tar::{EntryType, Header};

/// An archive in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

/// A record of a PAX header.
pub(crate) fn record(name: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", name.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

impl Archive {
    /// Any member; the name must fit.
    pub(crate) fn member(mut self, kind: EntryType, path: &str, content: &[u8], change: impl FnOnce(&mut Header)) -> Archive {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    /// Bytes, and what fills their last block.
    pub(crate) fn content(mut self, content: &[u8]) -> Archive {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Archive {
        self.member(EntryType::Regular, path, content, |_| ())
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Archive {
        self.member(EntryType::Directory, path, b"", |header| header.set_mode(mode))
    }

    pub(crate) fn link(self, kind: EntryType, path: &str, target: &str) -> Archive {
        self.member(kind, path, b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Archive {
        self.link(EntryType::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Archive {
        self.link(EntryType::Link, path, target)
    }

    pub(crate) fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Archive {
        self.member(kind, path, b"", |header| {
            header.set_device_major(major).expect("ustar");
            header.set_device_minor(minor).expect("ustar");
        })
    }

    /// Records for the next member.
    pub(crate) fn records(self, records: &[(&str, &[u8])]) -> Archive {
        let records: Vec<u8> = records.iter().flat_map(|(name, value)| record(name, value)).collect();
        self.member(EntryType::XHeader, "PaxHeader", &records, |_| ())
    }

    /// With the two empty blocks at its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
