//! Reading checkpoints back.

use std::path::Path;

use bytes::Bytes;
use keepbest_formats::map_open_file;
use keepbest_formats::model_file::{self, Kind, ModelFile, ModelFileError};
use keepbest_store::{
    BoxError, CheckpointKind, Links, NotRegular, Verified, VerifyError, open_regular,
};

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
    verified(file).map_err(VerifyError::Damaged)
}

/// Reads every byte of a checkpoint that is in memory.
///
/// # Errors
/// When it is damaged, or is not one of keepbest's.
pub(crate) fn verify_bytes(file: Bytes) -> Result<Verified, BoxError> {
    verified(ModelFile::from_bytes(file)?)
}

fn verified(file: ModelFile) -> Result<Verified, BoxError> {
    let weights = file.weights_digest();
    let digest = file.seal.as_ref().map(|seal| seal.file_digest);
    let foreign = "it was not written by keepbest: nothing in it can be verified";
    let metadata = file.metadata.ok_or(foreign)?;
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
