//! One file: encoded, written under a hidden name, read back and committed.

use keepbest_core::{EvaluationRecord, History, WeightsDigest};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{
    self, EncodeError, Kind, ModelFile, ModelImage, ModelMetadata, Seal,
};
use keepbest_store::{
    BoxError, CheckpointKind, CommitError, Committed, RefName, RunWriter, StagedCheckpoint,
};
use serde_json::Value;
use thiserror::Error;

use crate::config::{ModelConstants, SaveMode};

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

/// What goes into a file.
pub(crate) struct Content<'a> {
    pub step: u64,
    pub epoch: u64,
    pub weights: &'a StateDict,
    pub training_state: &'a StateDict,
    pub record: Option<&'a EvaluationRecord>,
    /// The evaluations before this one.
    pub history: &'a History,
    pub training: &'a Value,
}

/// A file under a hidden name of which nothing is written yet. It shares the memory of the snapshot.
pub(crate) struct Begun {
    staged: StagedCheckpoint,
    image: ModelImage,
    pub refs: Vec<RefName>,
}

/// A file that is written, under a hidden name.
#[derive(Debug)]
pub(crate) struct Written {
    staged: StagedCheckpoint,
    seal: Seal,
    pub weights: WeightsDigest,
    pub refs: Vec<RefName>,
}

/// Digests the tensors, makes the header, and opens the file if there is room for it.
pub(crate) fn begin(
    run: &RunWriter,
    constants: &ModelConstants,
    mode: SaveMode,
    content: &Content<'_>,
    refs: Vec<RefName>,
) -> Result<Begun, WriteError> {
    let metadata = metadata(constants, mode, content)?;
    let (kind, image) = match mode {
        SaveMode::Full => (
            CheckpointKind::Full,
            model_file::encode(content.weights, content.training_state, &metadata)?,
        ),
        SaveMode::Params => (
            CheckpointKind::Params,
            model_file::encode(content.weights, &StateDict::new(), &metadata.into_params())?,
        ),
    };
    let name = run.free_name(content.step, &image.weights_digest(), kind);
    Ok(Begun {
        staged: run.stage(name, image.total_len())?,
        image,
        refs,
    })
}

impl Begun {
    /// The identity of the weights.
    pub fn weights(&self) -> WeightsDigest {
        self.image.weights_digest()
    }

    /// Writes the file and lets go of the snapshot's memory.
    pub fn write(mut self) -> Result<Written, WriteError> {
        self.image
            .write_to(&mut self.staged)
            .map_err(|source| WriteError::Write {
                name: self.staged.name().to_string(),
                source,
            })?;
        Ok(Written {
            weights: self.weights(),
            seal: self.image.seal().clone(),
            staged: self.staged,
            refs: self.refs,
        })
    }
}

fn metadata(
    constants: &ModelConstants,
    mode: SaveMode,
    content: &Content<'_>,
) -> Result<ModelMetadata, serde_json::Error> {
    let training = match content.training {
        Value::Null => None,
        training => Some(training.clone()),
    };
    Ok(ModelMetadata {
        kind: match mode {
            SaveMode::Full => Kind::Full,
            SaveMode::Params => Kind::Params,
        },
        step: content.step,
        epoch: content.epoch,
        model: constants.model.clone(),
        classes: constants.classes.clone(),
        preprocessing: constants.preprocessing.clone(),
        training,
        evaluation: content.record.map(serde_json::to_value).transpose()?,
        history: Some(serde_json::to_value(content.history)?),
        provenance: constants.provenance.clone(),
    })
}

impl Written {
    /// Syncs the file, reads it back and names it.
    pub fn commit(self) -> Result<Committed, CommitError> {
        let seal = self.seal;
        let (committed, ()) = self.staged.commit(|path| {
            let file = ModelFile::open(path)?;
            if file.seal.as_ref() == Some(&seal) {
                Ok(())
            } else {
                Err(BoxError::from("it holds other weights than were written"))
            }
        })?;
        Ok(committed)
    }
}
