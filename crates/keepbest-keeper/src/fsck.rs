//! Finding and mending what a crash left in a run.

use std::path::Path;

use bytes::Bytes;
use keepbest_formats::model_file::ModelFile;
use keepbest_store::{
    ArchivedCheckpoint, BoxError, CheckpointName, FsckReport, OpenError, RunReader, SavedEvent,
    Testimony, Verified, Verifier, VerifyError,
};

use crate::archive::{give_back, lost_in_archive, members};
use crate::best_copy;
use crate::open::{map_own, verify_checkpoint};
use crate::stamp;

/// Examines a run and, with `repair`, mends it: [`keepbest_store::fsck`] with every tensor verified, in archives too, and
/// [the other form of best](crate::CopyFormat) in step with best.
///
/// # Errors
/// When there is no run, or, with `repair`, another process writes to it; when something cannot be read, and then nothing was changed.
pub fn fsck(run: &Path, repair: bool) -> Result<FsckReport, OpenError> {
    let mut report = keepbest_store::fsck(run, repair, &ModelFiles)?;
    // Without a journal nobody knows what the other form is to follow.
    if RunReader::open(run).is_ok() {
        best_copy::check(run, repair, &mut report)?;
    }
    Ok(report)
}

/// Verifies model files and archives of them.
pub(crate) struct ModelFiles;

impl Verifier for ModelFiles {
    fn checkpoint(&self, path: &Path) -> Result<Verified, VerifyError> {
        verify_checkpoint(path)
    }

    fn testimony(&self, path: &Path) -> Result<Testimony, BoxError> {
        testimony(map_own(path)?)
    }

    fn archived(&self, path: &Path) -> Option<Vec<CheckpointName>> {
        members(path)
    }

    fn give_back(&self, path: &Path, longest: u64) -> Result<Vec<ArchivedCheckpoint>, BoxError> {
        give_back(path, longest)
    }

    fn archive(
        &self,
        path: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, BoxError> {
        lost_in_archive(path, members)
    }
}

/// What a model file that verified says about its run.
///
/// # Errors
/// When it has no header.
pub(crate) fn testimony(file: Bytes) -> Result<Testimony, BoxError> {
    let mut testimony = Testimony::default();
    // It verified before: its header alone is read.
    let file = ModelFile::from_bytes_unverified(file)?;
    let Some(metadata) = file.metadata else {
        return Ok(testimony);
    };
    testimony.events = stamp::events(&metadata);
    // What another program put there is no testimony.
    let read = |value: Option<serde_json::Value>| value.unwrap_or_default();
    testimony.history =
        serde_json::from_value(read(metadata.attachments.history)).unwrap_or_default();
    testimony.evaluation = serde_json::from_value(read(metadata.attachments.evaluation)).ok();
    Ok(testimony)
}
