//! What fsck has to say.

use std::fmt;

use serde::Serialize;

use crate::layout::CheckpointName;
use crate::lock::Owner;

/// The result of an examination.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct FsckReport {
    /// What was found, in the order of examination.
    pub findings: Vec<Finding>,
    /// Checkpoints that were read and verified.
    pub verified: Vec<CheckpointName>,
    /// Who was writing during an examination without repair: files on their way are then no finding.
    pub active_writer: Option<Owner>,
}

impl FsckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether everything found was mended.
    #[must_use]
    pub fn is_mended(&self) -> bool {
        self.findings.iter().all(|finding| finding.action.is_some())
    }

    /// The bests that were lost: what is best now is not as good.
    pub fn lost_bests(&self) -> impl Iterator<Item = &Finding> {
        let lost = |finding: &&Finding| finding.kind == FindingKind::LostBest;
        self.findings.iter().filter(lost)
    }

    pub(crate) fn add(
        &mut self,
        kind: FindingKind,
        subject: impl fmt::Display,
        problem: impl Into<String>,
        action: Option<&str>,
    ) {
        self.findings.push(Finding {
            kind,
            subject: subject.to_string(),
            problem: problem.into(),
            action: action.map(str::to_owned),
        });
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// The file it is about, relative to the run.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// What was done about it; `None` when nothing was, or when nothing should be without `repair`.
    pub action: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)?;
        match &self.action {
            Some(action) => write!(f, " ({action})"),
            None => Ok(()),
        }
    }
}

/// Kinds of [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The last writer ended without letting go of the lock.
    StaleLock,
    /// The last line of the journal is incomplete.
    TornJournal,
    /// A line before the last of the journal is damaged.
    DamagedJournal,
    /// `run.toml` is gone.
    MissingConfig,
    /// A file that was never finished.
    StagedLeftover,
    /// A checkpoint that the journal calls removed is still there.
    HalfPruned,
    /// A checkpoint that the journal does not know.
    Orphan,
    /// A checkpoint that was set aside verifies after all.
    SetAside,
    /// A checkpoint that should be there is not.
    MissingCheckpoint,
    /// A checkpoint does not verify.
    DamagedCheckpoint,
    /// An archive is gone, or does not give back what the journal says it holds.
    DamagedArchive,
    /// An archive that the journal does not know holds what is nowhere else.
    UnknownArchive,
    /// The directory of the checkpoints is missing.
    MissingDirectory,
    /// The journal knows less than the files do: it was cut short.
    ShortenedJournal,
    /// Checkpoints may have been pinned in what the journal lost.
    PinsUnknown,
    /// A ref is missing.
    MissingRef,
    /// A ref is not what the journal says.
    WrongRef,
    /// A ref does not verify.
    DamagedRef,
    /// A better checkpoint is there than the one that is best, or a newer one than last: the promotion was cut short.
    UnfinishedPromotion,
    /// Nothing that verifies could take the place of best or last.
    NothingLeft,
    /// What was best is lost, and what is best now is worse, or nothing.
    LostBest,
}
