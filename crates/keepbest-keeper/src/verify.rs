//! Reading checkpoints back.

use std::path::Path;

use bytes::Bytes;
use keepbest_formats::map_open_file;
use keepbest_formats::model_file::{self, Kind, ModelFile, ModelFileError};
use keepbest_store::{
    BoxError, CheckpointKind, CheckpointName, FsckReport, Links, NotRegular, OpenError, RunReader,
    SavedEvent, Testimony, Verified, Verifier, VerifyError, open_regular,
};

use crate::also;
use crate::archive::{lost_in_archive, members};
use crate::stamp;

/// Opens and verifies a model file in a run, where no link is followed.
pub(crate) fn open_model(path: &Path) -> Result<ModelFile, model_file::OpenError> {
    let file = open_regular(path, Links::Refuse);
    let file = file.map_err(|source| model_file::OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    ModelFile::read_open(path, &file)
}

/// Maps a file in a run, where no link is followed.
pub(crate) fn map_own(path: &Path) -> std::io::Result<Bytes> {
    map_open_file(&open_regular(path, Links::Refuse)?)
}

/// Whether a model file could not be read, which says nothing about what it holds.
pub(crate) fn is_unread(error: &model_file::OpenError) -> bool {
    match error {
        model_file::OpenError::Io { source, .. } => !is_refused(source),
        model_file::OpenError::Model { source, .. } => {
            matches!(source, ModelFileError::TensorUnreadable { .. })
        }
        // Of a kind that is not known here: nothing was refuted.
        _ => true,
    }
}

/// Whether something was not read because it is no regular file.
pub(crate) fn is_refused(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<NotRegular>())
}

/// Reads every byte of a checkpoint against the digests it carries.
///
/// # Errors
/// When the file cannot be read; when it is damaged (the error names the tensor), or is not one of keepbest's.
pub fn verify_checkpoint(path: &Path) -> Result<Verified, VerifyError> {
    let file = open_model(path).map_err(|error| match is_unread(&error) {
        true => VerifyError::Unread(error.into()),
        false => VerifyError::Damaged(error.into()),
    })?;
    let weights = file.weights_digest();
    let digest = file.seal.as_ref().map(|seal| seal.file_digest);
    let foreign = || {
        let problem = "it was not written by keepbest: nothing in it can be verified";
        VerifyError::Damaged(problem.into())
    };
    let metadata = file.metadata.ok_or_else(foreign)?;
    Ok(Verified {
        step: metadata.step,
        epoch: metadata.epoch,
        kind: match metadata.kind {
            Kind::Full => CheckpointKind::Full,
            Kind::Params => CheckpointKind::Params,
        },
        weights,
        file: digest,
    })
}

/// Examines a run and, with `repair`, mends it: [`keepbest_store::fsck`] with every tensor verified, in archives too, and
/// [the other form of best](crate::Also) in step with best.
///
/// # Errors
/// When there is no run, or, with `repair`, another process writes to it; when something cannot be read, and then nothing was changed.
pub fn fsck(run: &Path, repair: bool) -> Result<FsckReport, OpenError> {
    let mut report = keepbest_store::fsck(run, repair, &ModelFiles)?;
    // Without a journal nobody knows what the other form is to follow.
    if RunReader::open(run).is_ok() {
        also::check(run, repair, &mut report)?;
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
        let mut testimony = Testimony::default();
        // It verified before: its header alone is read.
        let file = ModelFile::from_bytes_unverified(map_own(path)?)?;
        let Some(metadata) = file.metadata else {
            return Ok(testimony);
        };
        testimony.events = stamp::events(&metadata);
        // What another program put there is no testimony.
        let read = |value: Option<serde_json::Value>| value.unwrap_or_default();
        testimony.history = serde_json::from_value(read(metadata.history)).unwrap_or_default();
        testimony.evaluation = serde_json::from_value(read(metadata.evaluation)).ok();
        Ok(testimony)
    }

    fn archived(&self, path: &Path) -> Option<Vec<CheckpointName>> {
        members(path)
    }

    fn archive(
        &self,
        path: &Path,
        members: &[SavedEvent],
    ) -> Result<Vec<(CheckpointName, String)>, BoxError> {
        lost_in_archive(path, members)
    }
}
