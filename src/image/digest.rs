//! SHA-256 digests, as images and registries write them: `sha256:` and 64 lower-case hexadecimal digits.

use sha2::{Digest, Sha256};

/// The digits of the digest of `bytes`.
#[must_use]
pub fn digits_of(bytes: &[u8]) -> String {
    digits(Sha256::new_with_prefix(bytes))
}

/// The digest of `bytes`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

/// The digest of what was hashed.
#[must_use]
pub fn digest(hasher: Sha256) -> String {
    format!("sha256:{}", digits(hasher))
}

/// The digits of the digest of what was hashed.
#[must_use]
pub fn digits(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_in_lower_case() {
        // FIPS 180-2, appendix B.1.
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((digits_of(b"abc"), digest_of(b"abc")), (digits.to_owned(), format!("sha256:{digits}")));
    }
}
