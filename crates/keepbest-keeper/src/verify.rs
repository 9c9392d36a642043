//! Reading checkpoints back.

use std::path::Path;

use keepbest_formats::model_file::{Kind, ModelFile};
use keepbest_store::{BoxError, CheckpointKind, FsckReport, OpenError, Verified};

/// Reads every byte of a checkpoint against the digests it carries.
///
/// # Errors
/// When the file cannot be read, is damaged (the error names the tensor), or is not one of keepbest's.
pub fn verify_checkpoint(path: &Path) -> Result<Verified, BoxError> {
    let file = ModelFile::open(path)?;
    let weights = file.weights_digest();
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
    })
}

/// Examines a run and, with `repair`, mends it: [`keepbest_store::fsck`] with every tensor verified.
///
/// # Errors
/// When there is no run, or, with `repair`, another process writes to it.
pub fn fsck(run: &Path, repair: bool) -> Result<FsckReport, OpenError> {
    keepbest_store::fsck(run, repair, &verify_checkpoint)
}
