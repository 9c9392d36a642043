//! Finding and mending what a crash, or a disk, left behind.

mod archives;
mod check;
mod promotions;
mod report;
mod salvage;

use std::path::Path;

use keepbest_core::{FileDigest, WeightsDigest};

pub use report::{Finding, FindingKind, FsckReport};

use crate::error::{BoxError, OpenError};
use crate::fs::{RealFileSystem, SharedFileSystem};
use crate::journal::SavedEvent;
use crate::layout::{CheckpointKind, CheckpointName};
use crate::lock::active_writer;
use crate::reader::RunReader;
use crate::writer::RunWriter;

/// What a verifier found in a checkpoint file whose every byte it has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Step of the snapshot.
    pub step: u64,
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// What the file holds.
    pub kind: CheckpointKind,
    /// The identity of its weights.
    pub weights: WeightsDigest,
    /// The identity of the whole file, where it has one.
    pub file: Option<FileDigest>,
}

/// Checks every byte of a file. The store knows bytes, not tensors, so the caller brings it.
pub trait Verifier {
    /// What a checkpoint file holds.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    fn checkpoint(&self, path: &Path) -> Result<Verified, BoxError>;

    /// Those of `members` that do not come back from an archive as they were saved, each with the reason.
    fn archive(&self, path: &Path, members: &[SavedEvent]) -> Vec<(CheckpointName, String)>;
}

/// How much is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What best and last point at, and what the journal does not know.
    Refs,
    /// Every checkpoint.
    All,
}

/// Examines a run and, with `repair`, mends it.
///
/// Found are: a lock whose owner died, a torn or damaged journal, staged leftovers, checkpoints that the journal does not
/// know, lacks, or calls pruned, checkpoints that do not verify or do not come back from their archive, refs that are missing,
/// stale or damaged. A best that does not
/// verify is set aside and the next best that does takes its place. Nothing that could still be of use is deleted: damaged
/// files stay, under a name that ends in `.damaged`.
///
/// # Errors
/// [`OpenError`]: there is no run, or, with `repair`, another process is writing to it. What is wrong inside the run is in
/// the report, not an error.
pub fn fsck(path: &Path, repair: bool, verify: &dyn Verifier) -> Result<FsckReport, OpenError> {
    fsck_on(RealFileSystem::shared(), path, repair, verify)
}

/// [`fsck`] on a given file system.
///
/// # Errors
/// As there.
pub fn fsck_on(
    fs: SharedFileSystem,
    path: &Path,
    repair: bool,
    verify: &dyn Verifier,
) -> Result<FsckReport, OpenError> {
    let mut report = FsckReport::default();
    if repair {
        let mut writer = match RunWriter::open_on(SharedFileSystem::clone(&fs), path) {
            Err(OpenError::Journal(crate::JournalError::Damaged { .. })) => {
                salvage::salvage(&fs, path, &mut report)?;
                RunWriter::open_on(fs, path)?
            }
            other => other?,
        };
        writer.recover_into(Depth::All, verify, &mut report)?;
        return Ok(report);
    }
    let reader = RunReader::open_on(SharedFileSystem::clone(&fs), path)?;
    report.active_writer = active_writer(path)?;
    check::examine(&fs, &reader, verify, &mut report)?;
    Ok(report)
}

impl RunWriter {
    /// Mends what can be mended, as [`fsck`] with repair does, before anything else is written.
    ///
    /// # Errors
    /// When the run cannot be read, or a repair cannot be written.
    pub fn recover(
        &mut self,
        depth: Depth,
        verify: &dyn Verifier,
    ) -> Result<FsckReport, OpenError> {
        let mut report = FsckReport::default();
        self.recover_into(depth, verify, &mut report)?;
        Ok(report)
    }

    fn recover_into(
        &mut self,
        depth: Depth,
        verify: &dyn Verifier,
        report: &mut FsckReport,
    ) -> Result<(), OpenError> {
        if let Some(owner) = self.stale_owner() {
            report.add(
                FindingKind::StaleLock,
                crate::layout::LOCK_FILE,
                format!("{owner} ended without letting go"),
                Some("taken over"),
            );
        }
        if let Some(torn) = self.torn_tail() {
            report.add(
                FindingKind::TornJournal,
                crate::layout::JOURNAL_FILE,
                format!("line {} is incomplete: {}", torn.line, torn.problem),
                Some("cut"),
            );
        }
        check::mend(self, depth, verify, report)
    }
}
