//! One file: encoded, written under a hidden name, read back and committed.

use std::io::Write;

use keepbest_core::{EvaluationRecord, History, WeightsDigest};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{self, EncodeError, Kind, ModelFile, ModelImage, ModelMetadata};
use keepbest_store::{
    BoxError, CheckpointKind, CommitError, Committed, RefName, RunWriter, StagedCheckpoint,
};
use serde_json::Value;
use thiserror::Error;

use crate::config::{ModelConstants, SaveMode};
use crate::stamp;

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
    /// What decided in the evaluation.
    pub thresholds: Option<&'a Value>,
}

/// A file under a hidden name of which nothing is written yet. It shares the memory of the snapshot.
pub(crate) struct Begun {
    staged: StagedCheckpoint,
    image: ModelImage,
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
    let metadata = metadata(run, constants, mode, content)?;
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
    let name = run
        .free_name(content.step, &image.weights_digest(), kind)
        .map_err(CommitError::Io)?;
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

    /// Writes the file and reads it back meanwhile, syncs it and names it.
    pub fn commit(self) -> Result<Committed, WriteError> {
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

fn metadata(
    run: &RunWriter,
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
        thresholds: content.thresholds.cloned(),
        training,
        evaluation: content.record.map(serde_json::to_value).transpose()?,
        history: Some(serde_json::to_value(content.history)?),
        provenance: stamp::add(constants.provenance.clone(), run.events()),
    })
}
