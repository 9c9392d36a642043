//! API keys: which requests are let in.

use std::path::{Path, PathBuf};

use blake3::Hash;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The shortest key that is taken: what is shorter can be tried out.
const SHORTEST: usize = 16;

/// The keys that requests must bring one of. Kept as digests alone, whose comparison takes the same time wherever they differ.
#[derive(Clone)]
pub struct Keys(Vec<Hash>);

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It holds no key.
    #[error("{path} holds no key: there is one a line, # begins a comment", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A key can be guessed, or not be sent.
    #[error(
        "line {line} of {path} is no key: one has {SHORTEST} visible ASCII characters or more, and no blanks",
        path = path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Keys {
    /// Reads a file with a key a line. Blank lines, and those that begin with `#`, are left out.
    ///
    /// # Errors
    /// [`KeyFileError`], which never repeats a key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let text = std::fs::read_to_string(path).map_err(|source| KeyFileError::Read {
            path: path.into(),
            source,
        })?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() < SHORTEST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(KeyFileError::Key {
                    path: path.into(),
                    line: index + 1,
                });
            }
            keys.push(blake3::hash(key.as_bytes()));
        }
        match keys.is_empty() {
            true => Err(KeyFileError::Empty { path: path.into() }),
            false => Ok(Self(keys)),
        }
    }

    /// Whether these headers bring a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    pub(crate) fn let_in(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, key) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
        });
        let plain = headers.get("x-api-key").map(|value| value.as_bytes());
        bearer.into_iter().chain(plain).any(|key| self.has(key))
    }

    fn has(&self, key: &[u8]) -> bool {
        let digest = blake3::hash(key.trim_ascii());
        // Every key is looked at, and `Hash` compares in constant time.
        let found = self.0.iter().map(|known| *known == digest);
        found.fold(false, |any, is| any | is)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

    use super::*;

    #[test]
    fn a_file_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Keys::read(&path)
        };
        let keys = read("# whose\n0123456789abcdef\n\n  fedcba9876543210  \n").unwrap();
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            keys.let_in(&headers)
        };
        assert!(with("authorization", "Bearer 0123456789abcdef"));
        assert!(with("authorization", "bearer fedcba9876543210"));
        assert!(with("x-api-key", "0123456789abcdef"));
        assert!(!with("authorization", "Basic 0123456789abcdef"));
        assert!(!with("x-api-key", "0123456789abcdeF"));
        assert!(!with("x-api-key", ""));
        assert!(!keys.let_in(&HeaderMap::new()));
        assert!(matches!(read("# none\n"), Err(KeyFileError::Empty { .. })));
        let short = read("0123456789abcdef\nshort\n").unwrap_err();
        assert!(matches!(short, KeyFileError::Key { line: 2, .. }));
        assert!(!short.to_string().contains("short"));
    }
}
