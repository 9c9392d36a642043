//! The seal: digests of every tensor and of the header, which together cover every byte.

use std::collections::BTreeMap;

use keepbest_core::{FileDigest, WeightsDigest};

use super::ModelFileError;
use crate::TensorDigest;

/// What a file written by keepbest says of its own bytes. Computed by [`encode`](super::encode),
/// checked by [`ModelFile::open`](super::ModelFile::open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Schema of the metadata.
    pub schema: u32,
    /// Who wrote the file, such as `keepbest 0.1.0`.
    pub producer: String,
    /// The model's identity, over the weights without training state.
    pub weights_digest: WeightsDigest,
    /// Digest of each tensor by its name in the file, training state included.
    pub tensors: BTreeMap<String, TensorDigest>,
    /// Digest of the header, which has all of the above: it stands for every byte of the file.
    pub file_digest: FileDigest,
}

/// The beginning of every header that keepbest writes. The digest follows: 64 lower-case hexadecimal
/// digits at a fixed place, so that it can be checked before anything is parsed.
const HEADER_START: &[u8] = br#"{"__metadata__":{"keepbest_header_digest":""#;
const DIGEST_LEN: usize = 64;

/// What stands for the digest while it is computed.
pub(super) const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The place of the digest in the header, if keepbest wrote it.
fn place(header: &[u8]) -> Option<std::ops::Range<usize>> {
    let end = HEADER_START.len() + DIGEST_LEN;
    (header.starts_with(HEADER_START) && header.get(end) == Some(&b'"'))
        .then_some(HEADER_START.len()..end)
}

/// BLAKE3 of `header`, padding included, with its own digest blanked out.
fn digest(header: &[u8], place: &std::ops::Range<usize>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..place.start]);
    hasher.update(BLANK.as_bytes());
    hasher.update(&header[place.end..]);
    hasher.finalize().to_hex().to_string()
}

/// Puts the digest into a header that was made with [`BLANK`] in its place, and returns it. Does nothing to a
/// header that has no place for one.
pub(super) fn sign(header: &mut [u8]) -> Option<String> {
    let place = place(header)?;
    let digest = digest(header, &place);
    header[place].copy_from_slice(digest.as_bytes());
    Some(digest)
}

/// Whether keepbest wrote this header (its digest is where keepbest puts it).
pub(super) fn is_sealed(header: &[u8]) -> bool {
    place(header).is_some()
}

/// Checks the digest of a header that keepbest wrote; any other passes.
///
/// # Errors
/// When a bit of the header is not what was written.
pub(super) fn check(header: &[u8]) -> Result<(), ModelFileError> {
    let Some(place) = place(header) else {
        return Ok(());
    };
    let found = digest(header, &place);
    let expected = &header[place];
    if expected == found.as_bytes() {
        Ok(())
    } else {
        Err(ModelFileError::HeaderDamaged {
            expected: expected.escape_ascii().to_string(),
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_start_is_made_of_the_documented_keys() {
        let start = format!(
            "{{\"{}\":{{\"{}\":\"",
            crate::safetensors::METADATA_KEY,
            super::super::HEADER_DIGEST_KEY
        );
        assert_eq!(start.as_bytes(), HEADER_START);
        assert_eq!(BLANK.len(), DIGEST_LEN);
    }

    #[test]
    fn signs_and_checks() {
        let mut header = [HEADER_START, BLANK.as_bytes(), b"\"}}   "].concat();
        assert!(is_sealed(&header));
        assert!(check(&header).is_err());
        sign(&mut header);
        check(&header).unwrap();
        for at in 0..header.len() {
            let mut damaged = header.clone();
            damaged[at] ^= 1;
            assert!(
                !is_sealed(&damaged) || check(&damaged).is_err(),
                "byte {at}"
            );
        }
    }
}
