//! Digests of 32 bytes: the identity of a model's weights, and of a model file.
//!
//! This crate owns the types; how they are computed is the business of `keepbest-formats`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A BLAKE3 digest (32 bytes) over names, dtypes, shapes and bytes of a state dict.
///
/// Shown, parsed and serialised as 64 hexadecimal digits.
///
/// ```
/// use keepbest_core::WeightsDigest;
///
/// let digest = WeightsDigest([0xab; 32]);
/// assert_eq!(digest.short(), "abababab");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightsDigest(pub [u8; 32]);

/// The header digest of a model file. The header has the digest of every tensor, so this one stands for every byte.
///
/// Shown, parsed and serialised as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDigest(pub [u8; 32]);

macro_rules! digest {
    ($name:ident) => {
        impl $name {
            /// The first 8 hexadecimal digits.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }

            /// The 32 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest!(WeightsDigest);
digest!(FileDigest);

/// The text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// The text has another length than 64 bytes.
    #[error("a digest has 64 hexadecimal digits, found {found} bytes")]
    Length {
        /// Bytes in the text.
        found: usize,
    },
    /// The text holds something that is no hexadecimal digit.
    #[error("a digest has 64 hexadecimal digits, byte {position} is none")]
    Digit {
        /// Position in the text, in bytes.
        position: usize,
    },
}

fn parse(text: &str) -> Result<[u8; 32], ParseDigestError> {
    if text.len() != 64 {
        return Err(ParseDigestError::Length { found: text.len() });
    }
    let mut bytes = [0u8; 32];
    for (position, digit) in text.bytes().enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return Err(ParseDigestError::Digit { position }),
        };
        bytes[position / 2] = bytes[position / 2] << 4 | value;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_round_trip() {
        let mut bytes = [0u8; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i * 37 + 5) as u8;
        }
        let digest = WeightsDigest(bytes);
        assert_eq!(digest.to_string().len(), 64);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{digest}\""));
        assert_eq!(
            serde_json::from_str::<WeightsDigest>(&json).unwrap(),
            digest
        );
    }

    #[test]
    fn a_file_digest_reads_and_tells_its_kind() {
        let digest = FileDigest([0x1f; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), format!("FileDigest({digest})"));
    }

    #[test]
    fn malformed_text_is_refused() {
        assert_eq!(
            "abc".parse::<WeightsDigest>(),
            Err(ParseDigestError::Length { found: 3 })
        );
        let mut text = "0".repeat(64);
        text.replace_range(10..11, "g");
        assert_eq!(
            text.parse::<WeightsDigest>(),
            Err(ParseDigestError::Digit { position: 10 })
        );
        // 64 bytes, but not 64 characters.
        let text = "é".repeat(32);
        assert_eq!(
            text.parse::<WeightsDigest>(),
            Err(ParseDigestError::Digit { position: 0 })
        );
    }
}
