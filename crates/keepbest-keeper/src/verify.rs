//! Reading checkpoints back.

use std::path::Path;

use keepbest_formats::model_file::{Kind, ModelFile};
use keepbest_store::{
    BoxError, CheckpointKind, CheckpointName, FsckReport, OpenError, SavedEvent, Verified, Verifier,
};

use crate::also;
use crate::archive::lost_in_archive;

/// Reads every byte of a checkpoint against the digests it carries.
///
/// # Errors
/// When the file cannot be read, is damaged (the error names the tensor), or is not one of keepbest's.
pub fn verify_checkpoint(path: &Path) -> Result<Verified, BoxError> {
    let file = ModelFile::open(path)?;
    let weights = file.weights_digest();
    let digest = file.seal.as_ref().map(|seal| seal.file_digest);
    let metadata = file
        .metadata
        .ok_or("it was not written by keepbest: nothing in it can be verified")?;
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
/// When there is no run, or, with `repair`, another process writes to it.
pub fn fsck(run: &Path, repair: bool) -> Result<FsckReport, OpenError> {
    let mut report = keepbest_store::fsck(run, repair, &ModelFiles)?;
    also::check(run, repair, &mut report)?;
    Ok(report)
}

/// Verifies model files and archives of them.
pub(crate) struct ModelFiles;

impl Verifier for ModelFiles {
    fn checkpoint(&self, path: &Path) -> Result<Verified, BoxError> {
        verify_checkpoint(path)
    }

    fn archive(&self, path: &Path, members: &[SavedEvent]) -> Vec<(CheckpointName, String)> {
        lost_in_archive(path, members)
    }
}
