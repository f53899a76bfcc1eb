//! Size, digest and beginning of bytes that pass by, so that an answer or an output of any length is told in little room.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Counts and digests what is pushed, and keeps the first bytes of it.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    hasher: Sha256,
    size: u64,
    head: Vec<u8>,
    keep: usize,
}

impl Tally {
    /// An empty one, which will keep at most `keep` bytes.
    pub(crate) fn new(keep: usize) -> Self {
        Self { hasher: Sha256::new(), size: 0, head: Vec::new(), keep }
    }

    /// The next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        let room = self.keep - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// How many bytes have passed.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The digest, as `sha256:` and hexadecimal digits, and the bytes that were kept.
    pub(crate) fn finish(self) -> (String, Vec<u8>) {
        let mut digest = String::from("sha256:");
        for byte in self.hasher.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        (digest, self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_head_and_digests_all() {
        let mut tally = Tally::new(4);
        tally.push(b"ab");
        tally.push(b"");
        tally.push(b"c");
        assert_eq!(tally.size(), 3);
        let (digest, head) = tally.clone().finish();
        assert_eq!(digest, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(head, b"abc");
        tally.push(b"defg");
        assert_eq!(tally.size(), 7);
        assert_eq!(tally.finish().1, b"abcd");
    }
}
