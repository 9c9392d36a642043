//! Names inside a run directory.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use keepbest_core::{Expression, WeightsDigest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::IoError;
use crate::fs::FileSystem;

/// The newest format of a run directory that this version knows, and the one that it writes.
pub const RUN_FORMAT: u32 = 1;
/// The resolved configuration; never changes after the run starts.
pub const CONFIG_FILE: &str = "run.toml";
/// The training loop's copy of the model file that the run is trained from, where there was one.
pub const MODEL_FILE: &str = "model.toml";
/// The append-only journal.
pub const JOURNAL_FILE: &str = "journal.jsonl";
/// The directory in which the training loop tells how each val image came out.
pub const OUTCOMES_DIR: &str = "outcomes";
/// The lock of the one writer.
pub const LOCK_FILE: &str = "lock";
/// The directory of the checkpoints.
pub const CHECKPOINTS_DIR: &str = "checkpoints";
/// The beginning of the name of a file that is still being written.
pub const STAGED_PREFIX: &str = ".staged-";
/// The end of the name of a file that no longer verifies, followed by `.2`, `.3`, ... where there was one before; such files are set
/// aside, not deleted.
pub const DAMAGED_SUFFIX: &str = ".damaged";

/// The first free name for a file that is set aside: nothing that was set aside before is replaced.
///
/// # Errors
/// When the file system does not say whether a name is taken.
pub fn free_aside(fs: &dyn FileSystem, path: &Path) -> Result<PathBuf, IoError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 1_u32;
    loop {
        let aside = path.with_file_name(match number {
            1 => format!("{name}{DAMAGED_SUFFIX}"),
            number => format!("{name}{DAMAGED_SUFFIX}.{number}"),
        });
        let stat = fs.stat(&aside).map_err(IoError::at("examine", &aside))?;
        if stat.is_none() {
            return Ok(aside);
        }
        number += 1;
    }
}

/// The name that a file had before it was set aside.
pub(crate) fn name_before_aside(name: &str) -> Option<&str> {
    let (before, number) = name.split_once(DAMAGED_SUFFIX)?;
    let numbered = || {
        let number = number.strip_prefix('.')?;
        number.parse::<u32>().ok().filter(|number| *number > 1)
    };
    (number.is_empty() || numbered().is_some()).then_some(before)
}

/// A name that always points at one whole checkpoint: `last`, `best`, and `best:<monitor>` for each further objective of the run.
///
/// ```
/// use keepbest_store::RefName;
///
/// let by_loss = RefName::best_by(&"val/loss".parse()?);
/// assert_eq!(by_loss.to_string(), "best:val/loss");
/// assert_eq!(by_loss.file_name(), "best.val-loss.safetensors");
/// assert_eq!(RefName::BEST.file_name(), "best.safetensors");
/// # Ok::<(), keepbest_core::ExpressionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(Cow<'static, str>);

/// Text that names no ref.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name:?} is not the name of a ref: best, last, or best: with what is monitored")]
#[non_exhaustive]
pub struct RefNameError {
    /// The text as given.
    pub name: String,
}

/// What the names of the bests by further objectives begin with.
const BEST_BY: &str = "best:";

/// The longest part of a monitored expression in a file's name.
const LONGEST_PART: usize = 100;

impl RefName {
    /// The best model so far, by the run's first objective.
    pub const BEST: Self = Self(Cow::Borrowed("best"));
    /// The resume point.
    pub const LAST: Self = Self(Cow::Borrowed("last"));

    /// The best by a further objective, which monitors this.
    #[must_use]
    pub fn best_by(monitor: &Expression) -> Self {
        Self(Cow::Owned(format!("{BEST_BY}{monitor}")))
    }

    /// Whether it points at a best.
    #[must_use]
    pub fn is_best(&self) -> bool {
        *self != Self::LAST
    }

    /// What a further objective monitors.
    #[must_use]
    pub fn monitor(&self) -> Option<&str> {
        self.0.strip_prefix(BEST_BY)
    }

    /// The file's name in the run directory. No two refs share one: in `best.<monitor>.safetensors`, `/` is written `-`, and all but
    /// letters, digits, `_` and `.` as `%` and two hex digits a byte; what is longer than 100 of them is cut and ends in a digest.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Some(monitor) = self.monitor() else {
            return format!("{self}.safetensors");
        };
        let mut part = String::new();
        for byte in monitor.bytes() {
            match byte {
                b'/' => part.push('-'),
                b'_' | b'.' => part.push(byte.into()),
                byte if byte.is_ascii_alphanumeric() => part.push(byte.into()),
                byte => {
                    let _ = write!(part, "%{byte:02X}");
                }
            }
        }
        if part.len() > LONGEST_PART {
            part.truncate(LONGEST_PART);
            let _ = write!(
                part,
                "~{}",
                &blake3::hash(monitor.as_bytes()).to_hex()[..16]
            );
        }
        format!("best.{part}.safetensors")
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self, run: &Path) -> PathBuf {
        run.join(self.file_name())
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RefName {
    type Error = RefNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let further = |name: &str| name.strip_prefix(BEST_BY).is_some_and(|by| !by.is_empty());
        match name.as_str() {
            "best" => Ok(Self::BEST),
            "last" => Ok(Self::LAST),
            other if further(other) => Ok(Self(Cow::Owned(name))),
            _ => Err(RefNameError { name }),
        }
    }
}

impl From<RefName> for String {
    fn from(name: RefName) -> Self {
        name.0.into_owned()
    }
}

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// Everything needed to predict or to go on training.
    Full,
    /// The state dict alone.
    Params,
}

/// The name of a checkpoint: `<step>-<digest8>[.<copy>][.params].safetensors`.
///
/// The step has at least eight digits, so that names sort by step; `digest8` is the first eight hex digits of the weights
/// digest; `copy` (2, 3, ...) tells apart files with the same weights but another training state, since a named file is
/// never written again.
///
/// ```
/// use keepbest_core::WeightsDigest;
/// use keepbest_store::{CheckpointKind, CheckpointName};
///
/// let name = CheckpointName::new(1200, &WeightsDigest([0xab; 32]), CheckpointKind::Full);
/// assert_eq!(name.to_string(), "00001200-abababab.safetensors");
/// assert_eq!("00001200-abababab.safetensors".parse(), Ok(name));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckpointName {
    step: u64,
    digest8: String,
    copy: u32,
    kind: CheckpointKind,
}

/// A file name that is not a checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name:?} is not the name of a checkpoint")]
#[non_exhaustive]
pub struct CheckpointNameError {
    /// The name as given.
    pub name: String,
}

impl CheckpointName {
    /// The first name for these weights at this step.
    #[must_use]
    pub fn new(step: u64, digest: &WeightsDigest, kind: CheckpointKind) -> Self {
        Self {
            step,
            digest8: digest.to_string()[..8].to_owned(),
            copy: 1,
            kind,
        }
    }

    /// The next name for the same weights, to use when this one is taken.
    #[must_use]
    pub fn next_copy(&self) -> Self {
        Self {
            copy: self.copy + 1,
            ..self.clone()
        }
    }

    /// The step whose weights it holds.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The first eight hex digits of the weights digest.
    #[must_use]
    pub fn digest8(&self) -> &str {
        &self.digest8
    }

    /// Whether it holds a full model or parameters alone.
    #[must_use]
    pub fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self, run: &Path) -> PathBuf {
        run.join(CHECKPOINTS_DIR).join(self.to_string())
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{}", self.step, self.digest8)?;
        if self.copy > 1 {
            write!(f, ".{}", self.copy)?;
        }
        if self.kind == CheckpointKind::Params {
            f.write_str(".params")?;
        }
        f.write_str(".safetensors")
    }
}

impl FromStr for CheckpointName {
    type Err = CheckpointNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let stem = name.strip_suffix(".safetensors")?;
            let (stem, kind) = match stem.strip_suffix(".params") {
                Some(stem) => (stem, CheckpointKind::Params),
                None => (stem, CheckpointKind::Full),
            };
            let (stem, copy) = match stem.split_once('.') {
                Some((stem, copy)) => (stem, copy.parse().ok()?),
                None => (stem, 1),
            };
            let (step, digest8) = stem.split_once('-')?;
            Some(Self {
                step: step.parse().ok()?,
                digest8: digest8.to_owned(),
                copy,
                kind,
            })
        };
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        parse()
            // Only the canonical spelling, so that name and file correspond one to one.
            .filter(|parsed: &Self| parsed.digest8.len() == 8 && parsed.digest8.chars().all(hex))
            .filter(|parsed| parsed.to_string() == name)
            .ok_or_else(|| CheckpointNameError {
                name: name.to_owned(),
            })
    }
}

impl TryFrom<String> for CheckpointName {
    type Error = CheckpointNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<CheckpointName> for String {
    fn from(name: CheckpointName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_written() {
        let digest = WeightsDigest([0x0f; 32]);
        for kind in [CheckpointKind::Full, CheckpointKind::Params] {
            for step in [0, 1, 99_999_999, 100_000_000, u64::MAX] {
                let name = CheckpointName::new(step, &digest, kind);
                assert_eq!(name.to_string().parse(), Ok(name.clone()));
                let copy = name.next_copy();
                assert_ne!(copy, name);
                assert_eq!(copy.to_string().parse(), Ok(copy));
            }
        }
    }

    #[test]
    fn each_ref_has_a_file_of_its_own() {
        let long = format!("val/{}", "f1_".repeat(60));
        let monitors = [
            "val/loss",
            "val/f1_macro",
            "0.5*val/accuracy + 0.5*val/f1_macro",
            "0.5*val/accuracy - 0.5*val/f1_macro",
            &long,
            &format!("{long}x"),
        ];
        let mut refs = vec![RefName::BEST, RefName::LAST];
        refs.extend(monitors.map(|monitor| RefName::best_by(&monitor.parse().unwrap())));
        let files: std::collections::BTreeSet<String> =
            refs.iter().map(RefName::file_name).collect();
        assert_eq!(files.len(), refs.len(), "{files:?}");
        for (name, file) in refs.iter().zip(refs.iter().map(RefName::file_name)) {
            let json = serde_json::to_string(name).unwrap();
            assert_eq!(serde_json::from_str::<RefName>(&json).unwrap(), *name);
            assert!(
                file.len() < 150 && !file.contains(['/', ' ', '*']),
                "{file}"
            );
        }
        for name in ["", "best:", "first", "best.safetensors"] {
            assert!(RefName::try_from(name.to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "best.safetensors",
            "12-abababab.safetensors",
            "00000012-abababa.safetensors",
            "00000012-ABABABAB.safetensors",
            "00000012-abababab.1.safetensors",
            "00000012-abababab.02.safetensors",
            "00000012-abababab.params",
            "../00000012-abababab.safetensors",
            "00000012-../../aa.safetensors",
            "00000012-abababab.safetensors.damaged",
        ] {
            assert!(name.parse::<CheckpointName>().is_err(), "{name}");
        }
    }
}
