//! Errors of settings, and the places that settings come from.

use std::fmt;
use std::path::{Path, PathBuf};

use keepbest_model::OtherLoop;

/// The place that a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// By a program that uses this library.
    Code,
    /// In a file, at this line (from 1).
    File {
        /// From 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--"),
            Self::Code => Ok(()),
            Self::File { line } => write!(f, "line {line}: "),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No setting has this name.
    #[error("{origin}{key} is no setting")]
    UnknownKey {
        /// As given.
        key: String,
        /// The known one that is meant, maybe.
        nearest: Option<&'static str>,
        /// The place where it was given.
        origin: Origin,
    },
    /// A value of another kind, or out of range.
    #[error("{origin}{key} must be {expected}, found {found:?}")]
    Value {
        /// The setting.
        key: &'static str,
        /// The given text.
        found: String,
        /// In words.
        expected: String,
        /// The place where it was given.
        origin: Origin,
    },
    /// Not TOML.
    #[error("line {line}: not TOML: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A file that cannot be read.
    #[error("cannot read settings from {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file with something wrong in it.
    #[error("{path}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        source: Box<SettingsError>,
    },
    /// Those of another training loop, which had the keeper keep its best.
    #[error(
        "they are not settings of `keepbest train`, but of {by}: network, images and loop are that program's"
    )]
    OtherLoop {
        /// Whose.
        by: OtherLoop,
    },
    /// Two settings that exclude each other, or one that needs another.
    #[error("{message}")]
    Conflict {
        /// In words.
        message: String,
        /// Advice, in words.
        hint: Option<String>,
    },
}

impl SettingsError {
    /// Advice on what to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                nearest: Some(nearest),
                origin: Origin::Flag,
                ..
            } => Some(format!("did you mean --{nearest}?")),
            Self::UnknownKey {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean {nearest}?")),
            Self::UnknownKey { nearest: None, .. } => {
                Some("keepbest train --help lists all settings".into())
            }
            Self::InFile { path, source } => match &**source {
                Self::OtherLoop { by } => {
                    Some(by.resume_hint(path.parent().unwrap_or(Path::new("."))))
                }
                source => source.hint(),
            },
            Self::Conflict { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}
