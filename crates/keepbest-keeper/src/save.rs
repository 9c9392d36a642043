//! One file: encoded, written under a hidden name, read back and committed.

use std::io::Write;

use keepbest_core::WeightsDigest;
use keepbest_formats::model_file::{self, EncodeError, ModelFile, ModelImage, ModelMetadata};
use keepbest_formats::{SnapshotHandle, StateDict};
use keepbest_store::{
    BoxError, CheckpointKind, CommitError, Committed, RefName, RunWriter, StagedCheckpoint,
};
use thiserror::Error;

use crate::config::SaveMode;

/// Why a file could not be written.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("cannot encode the model")]
    Encode(#[from] EncodeError),
    #[error("cannot write the metadata as JSON")]
    Metadata(#[from] serde_json::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("cannot write checkpoint {name}")]
    Write {
        name: String,
        source: std::io::Error,
    },
}

/// A file under a hidden name of which nothing is written yet. It shares the memory of the snapshot.
pub(crate) struct Begun {
    staged: StagedCheckpoint,
    image: ModelImage,
    pub refs: Vec<RefName>,
}

/// The tensors of a snapshot.
pub(crate) struct Tensors {
    pub weights: StateDict,
    pub training: StateDict,
}

impl Tensors {
    pub(crate) fn of(snapshot: &SnapshotHandle) -> Self {
        Self {
            weights: snapshot.weights(),
            training: snapshot.training_state(),
        }
    }
}

/// Digests the tensors, makes the header, and opens the file if there is room for it. `metadata` is that of a full model.
pub(crate) fn begin(
    run: &RunWriter,
    mode: SaveMode,
    tensors: &Tensors,
    metadata: ModelMetadata,
    refs: Vec<RefName>,
) -> Result<Begun, WriteError> {
    let step = metadata.step;
    let (kind, image) = match mode {
        SaveMode::Full => (
            CheckpointKind::Full,
            model_file::encode(&tensors.weights, &tensors.training, &metadata)?,
        ),
        SaveMode::Params => (
            CheckpointKind::Params,
            model_file::encode(&tensors.weights, &StateDict::new(), &metadata.into_params())?,
        ),
    };
    let name = run
        .free_name(step, &image.weights_digest(), kind)
        .map_err(CommitError::Io)?;
    Ok(Begun {
        staged: run.stage(name, image.total_len())?,
        image,
        refs,
    })
}

impl Begun {
    /// The identity of the weights.
    pub(crate) fn weights(&self) -> WeightsDigest {
        self.image.weights_digest()
    }

    /// Writes the file and reads it back meanwhile, syncs it and names it.
    pub(crate) fn commit(self) -> Result<Committed, WriteError> {
        let image = self.image;
        let name = self.staged.name().clone();
        let write = |out: &mut dyn Write| {
            image.write_to(out).map_err(|source| WriteError::Write {
                name: name.to_string(),
                source,
            })
        };
        let (committed, ()) = self.staged.commit(write, |mut back| {
            image.compare(&mut back)?;
            // That it opens is seen as a user's program would see it.
            let file = ModelFile::open_unverified(back.path()?)?;
            match file.seal.as_ref() == Some(image.seal()) {
                true => Ok(()),
                false => Err(BoxError::from("it holds other weights than were written")),
            }
        })?;
        Ok(committed.with_file(Some(image.seal().file_digest)))
    }
}
