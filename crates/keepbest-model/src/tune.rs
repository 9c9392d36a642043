//! Tuning the thresholds of a model on the images that it was chosen by: what `keepbest thresholds` does.

use std::path::PathBuf;

use keepbest_core::classification::DecisionMetric;
use keepbest_core::{EvaluationRecord, ObjectiveError, WeightsDigest};
use keepbest_formats::model_file::{
    self, Attachments, EncodeError, Kind, ModelImage, ModelMetadata,
};
use serde::Serialize;

use crate::evaluate::Measured;
use crate::images::{ImageSource, MeasureError, MeasureOptions, RecordedImages, check_scores};
use crate::model::Model;
use crate::thresholds::TunedThresholds;
use crate::watch::Watch;

/// The split that thresholds are tuned on.
const SPLIT: &str = "val";

/// What to tune for, and on which images.
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// The metric to make highest.
    pub metric: DecisionMetric,
    /// The place where the images of the training lie now.
    pub images: ImageSource,
    /// Threads, one a core by default.
    pub threads: Option<usize>,
}

/// Why thresholds could not be tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The model cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// What was recorded cannot be read, or what was found cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The objective cannot judge the new figures.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The model cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Tuning gave nothing.
    #[error("nothing was tuned")]
    Nothing,
}

impl TuneError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Measure(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Measure(error) if error.is_interrupted())
    }
}

/// Tuned thresholds, and the model with them.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Tuning {
    /// The file of the model without them.
    pub model: PathBuf,
    /// Identity of its weights.
    pub digest: WeightsDigest,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The thresholds, and how they came about.
    pub thresholds: TunedThresholds,
    /// The same model with the thresholds, and with the evaluation that they give.
    #[serde(skip)]
    pub file: ModelImage,
}

/// Tunes thresholds on val.
///
/// # Errors
/// [`TuneError`].
pub fn tune(model: &Model, options: &TuneOptions, watch: Watch<'_>) -> Result<Tuning, TuneError> {
    model.check_finite().map_err(MeasureError::from)?;
    let images = RecordedImages::open(model, &options.images, watch)?;
    images.check_splits(
        &[SPLIT],
        "thresholds are tuned on the images that the model was chosen by",
    )?;
    let measure = MeasureOptions {
        threads: options.threads,
        tune: Some(options.metric),
        keep_outcomes: true,
        ..MeasureOptions::default()
    };
    let measured = images.measure(SPLIT, measure, watch)?;
    check_scores(model, &measured, images.split(SPLIT)?)?;
    let tuned = measured.tuned.clone().ok_or(TuneError::Nothing)?;
    let thresholds = TunedThresholds::new(tuned, options.metric, SPLIT);
    Ok(Tuning {
        model: model.path.clone(),
        digest: model.file.weights_digest(),
        classes: model.classes.clone(),
        file: encode(model, &thresholds, &measured)?,
        thresholds,
    })
}

fn encode(
    model: &Model,
    thresholds: &TunedThresholds,
    measured: &Measured,
) -> Result<ModelImage, TuneError> {
    let own = model.file.metadata.clone().unwrap_or_default();
    let recorded: Option<EvaluationRecord> = own
        .evaluation
        .clone()
        .map(serde_json::from_value)
        .transpose()?;
    // What was measured of other images, or of what the model costs, is as it was.
    let mut metrics = recorded
        .as_ref()
        .map(|record| record.metrics.clone())
        .unwrap_or_default();
    metrics.extend(measured.metrics(SPLIT));
    let record = match (recorded, &model.provenance) {
        (Some(record), Some(provenance)) => {
            let judgement = provenance.objective()?.judge(None, &metrics)?;
            Some(EvaluationRecord {
                digest: record.digest,
                weights: record.weights,
                ..EvaluationRecord::new(own.step, own.epoch, metrics, judgement)
            })
        }
        _ => None,
    };
    let metadata = ModelMetadata {
        kind: Kind::Full,
        attachments: Attachments {
            model: Some(model.spec.to_json()),
            classes: model.classes.clone(),
            preprocessing: Some(serde_json::to_value(&model.preprocessing)?),
            thresholds: Some(thresholds.to_json()),
            evaluation: record.map(serde_json::to_value).transpose()?,
            ..own.attachments
        },
        ..own
    };
    Ok(model_file::encode(
        &model.file.weights,
        &model.file.training,
        &metadata,
    )?)
}
