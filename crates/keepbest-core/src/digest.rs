//! The identity of a model: a 32-byte digest of its weights.
//!
//! This crate owns the type; how the digest is computed from a state dict is the business of `keepbest-formats`.

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

impl WeightsDigest {
    /// The first 8 hexadecimal digits, as used in the names of checkpoints.
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

impl From<[u8; 32]> for WeightsDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for WeightsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for WeightsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeightsDigest({self})")
    }
}

/// The text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// The text has another length than 64 bytes.
    #[error("a weights digest has 64 hexadecimal digits, found {found} bytes")]
    Length {
        /// Bytes in the text.
        found: usize,
    },
    /// The text holds something that is no hexadecimal digit.
    #[error("a weights digest has 64 hexadecimal digits, byte {position} is none")]
    Digit {
        /// Position in the text, in bytes.
        position: usize,
    },
}

impl FromStr for WeightsDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
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
        Ok(Self(bytes))
    }
}

impl Serialize for WeightsDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WeightsDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
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
