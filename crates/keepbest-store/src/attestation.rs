//! A run in one line, to be kept where the run cannot be changed: digests without a key prove nothing to whoever can write them all.

use std::fmt;
use std::str::FromStr;

use keepbest_core::FileDigest;

use crate::error::IoError;
use crate::layout::{CONFIG_FILE, JOURNAL_FILE};
use crate::reader::RunReader;

/// What the line begins with; its last part is the version.
const HEAD: &str = "keepbest-run-1";

/// What a run was: so much of its journal, its `run.toml`, and its best. As text it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    lines: u64,
    journal: FileDigest,
    config: FileDigest,
    best: Option<FileDigest>,
}

/// The difference between a run and the one that was attested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAttested {
    /// Lines of the journal are gone.
    #[error("the journal has {found} lines, {attested} were attested")]
    Shorter {
        /// Lines there are.
        found: u64,
        /// Lines there were.
        attested: u64,
    },
    /// A line of the journal is another.
    #[error("the first {lines} lines of the journal are not those attested")]
    Journal {
        /// Lines that were attested.
        lines: u64,
    },
    /// The settings are others.
    #[error("{CONFIG_FILE} is not the one attested")]
    Config,
}

/// A text that is no attestation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no line of `keepbest attest`, which begins with {HEAD} and has lines, journal, config and best"
)]
pub struct ParseAttestationError {
    /// The text.
    pub found: String,
}

impl Attestation {
    /// That of a run as it stands, with the digest of its best.
    ///
    /// # Errors
    /// When its journal or its `run.toml` cannot be read.
    pub fn of(run: &RunReader, best: Option<FileDigest>) -> Result<Self, IoError> {
        let journal = run.bytes(JOURNAL_FILE)?;
        let lines = newlines(&journal).count() as u64;
        Ok(Self {
            lines,
            journal: first_lines(&journal, lines),
            config: digest(&run.bytes(CONFIG_FILE)?),
            best,
        })
    }

    /// The number of lines of the journal that it is about.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The digest of the best, where there was one.
    #[must_use]
    pub fn best(&self) -> Option<FileDigest> {
        self.best
    }

    /// The first difference of a run. That its journal has grown is no difference; where best has moved since, the journal says so.
    ///
    /// # Errors
    /// When its journal or its `run.toml` cannot be read.
    pub fn differences(&self, run: &RunReader) -> Result<Vec<NotAttested>, IoError> {
        let mut found = Vec::new();
        let journal = run.bytes(JOURNAL_FILE)?;
        let lines = newlines(&journal).count() as u64;
        if lines < self.lines {
            found.push(NotAttested::Shorter {
                found: lines,
                attested: self.lines,
            });
        } else if first_lines(&journal, self.lines) != self.journal {
            found.push(NotAttested::Journal { lines: self.lines });
        }
        if digest(&run.bytes(CONFIG_FILE)?) != self.config {
            found.push(NotAttested::Config);
        }
        Ok(found)
    }
}

/// The ends of the lines of a journal. A torn last line has no end.
fn newlines(journal: &[u8]) -> impl Iterator<Item = usize> {
    let bytes = journal.iter().enumerate();
    bytes.filter_map(|(at, byte)| (*byte == b'\n').then_some(at + 1))
}

fn first_lines(journal: &[u8], lines: u64) -> FileDigest {
    let last = usize::try_from(lines)
        .ok()
        .and_then(|lines| lines.checked_sub(1));
    let end = last.and_then(|last| newlines(journal).nth(last));
    digest(&journal[..end.unwrap_or(0)])
}

fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest(*blake3::hash(bytes).as_bytes())
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lines,
            journal,
            config,
            best,
        } = self;
        write!(
            f,
            "{HEAD} lines={lines} journal={journal} config={config} best="
        )?;
        match best {
            Some(best) => best.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for Attestation {
    type Err = ParseAttestationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut words = text.split_whitespace();
            let mut next = |key: &str| match key {
                "" => words.next(),
                key => words.next()?.strip_prefix(key)?.strip_prefix('='),
            };
            if next("")? != HEAD {
                return None;
            }
            let found = Self {
                lines: next("lines")?.parse().ok()?,
                journal: next("journal")?.parse().ok()?,
                config: next("config")?.parse().ok()?,
                best: match next("best")? {
                    "none" => None,
                    digest => Some(digest.parse().ok()?),
                },
            };
            next("").is_none().then_some(found)
        };
        read().ok_or_else(|| ParseAttestationError { found: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_that_reads_back() {
        for best in [None, Some(FileDigest([7; 32]))] {
            let attested = Attestation {
                lines: 12,
                journal: digest(b"journal"),
                config: digest(b"config"),
                best,
            };
            let line = attested.to_string();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(line.parse(), Ok(attested));
        }
    }

    #[test]
    fn what_is_no_attestation_is_refused() {
        let line = format!(
            "{HEAD} lines=1 journal={0} config={0} best=none",
            digest(b"x")
        );
        assert!(line.parse::<Attestation>().is_ok());
        for other in [
            String::new(),
            line.replace("-1 ", "-2 "),
            line.replace("lines=1", "lines=-1"),
            line.replace(" config=", " "),
            line.replace("none", "abc"),
            format!("{line} more"),
            line[..40].to_owned(),
        ] {
            let error = other.parse::<Attestation>().unwrap_err();
            assert_eq!(error.found, other);
        }
    }
}
