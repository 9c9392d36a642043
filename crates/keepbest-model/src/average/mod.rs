//! Averages of models' weights: the mean of several, and the greedy soup of a run: what `keepbest average` does.

mod averager;

use std::path::PathBuf;

use keepbest_core::{EvaluationRecord, Metrics, Objective, ObjectiveError};
use keepbest_data::{DataError, Prepared};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{self, Attachments, EncodeError, ModelImage, ModelMetadata};
use keepbest_keeper::RunView;
use serde::Serialize;

use crate::error::ModelError;
use crate::images::{ImageSource, MeasureError, RecordedImages};
use crate::model::Model;
use crate::seen::{Seen, SeenBefore};
use crate::watch::Watch;

pub use averager::{AverageError, Averager, Measurement, better, statistics_batches};

/// What to make of the models, and on which images.
#[derive(Debug, Clone, Default)]
pub struct AverageOptions {
    /// Whether each model after the first is added only where that is better on val (the greedy soup); models come best first.
    pub soup: bool,
    /// The place where the images of the training lie now.
    pub images: ImageSource,
    /// Threads, one a core by default.
    pub threads: Option<usize>,
}

/// Why no average was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AverageModelsError {
    /// There are no models.
    #[error("there are no models to average")]
    Nothing,
    /// Two models are not of one kind.
    #[error(
        "{} and {} differ in {part}: their mean is no model",
        first.display(), second.display()
    )]
    Differ {
        /// The first model.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// In what they differ.
        part: &'static str,
    },
    /// A model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The images are not there, or are others.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// An image cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The weights cannot be averaged or measured.
    #[error(transparent)]
    Average(#[from] AverageError),
    /// The objective cannot judge the figures.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The record cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The model cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl AverageModelsError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Measure(error) => error.hint(),
            Self::Data(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Average(AverageError::Interrupted) => true,
            Self::Measure(error) => error.is_interrupted(),
            _ => false,
        }
    }
}

/// One of the models that an average was made of.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Its file.
    pub path: PathBuf,
    /// Whether it is in the average.
    pub member: bool,
    /// Its figures on val, by the likeliest class.
    pub metrics: Metrics,
}

/// An average of models.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AverageReport {
    /// The models it was made of.
    pub models: Vec<Member>,
    /// Its figures on val.
    pub average: Metrics,
    /// The number of val images.
    #[serde(skip)]
    pub images: usize,
    /// What its figures are flattered by: images that a model of it had seen.
    #[serde(skip)]
    pub seen_before: Vec<SeenBefore>,
    /// The average as a model; none of a soup of one, which is the best itself.
    #[serde(skip)]
    pub file: Option<ModelImage>,
}

/// A run's checkpoints with a score that are on disk, at most `top`, the best first.
#[must_use]
pub fn ranked_checkpoints(run: &RunView, top: usize) -> Vec<PathBuf> {
    let ranked = run.state().ranked(0).into_iter();
    let paths = ranked.map(|(checkpoint, ..)| checkpoint.saved.checkpoint.path(run.path()));
    paths.take(top).collect()
}

/// Averages models of one network that were trained on the same images; the first says how to measure.
///
/// # Errors
/// [`AverageModelsError`].
pub fn average(
    models: &[Model],
    options: &AverageOptions,
    watch: Watch<'_>,
) -> Result<AverageReport, AverageModelsError> {
    let first = models.first().ok_or(AverageModelsError::Nothing)?;
    check_alike(first, &models[1..])?;
    for model in models {
        model.check_finite()?;
    }
    let recorded = first.recorded()?;
    let objective = recorded.objective()?;
    let images = RecordedImages::open(first, &options.images, watch)?;
    images.check_splits(
        &["train", "val"],
        "the average is chosen by the images that its models were chosen by",
    )?;
    let data = &images.data;
    let criterion = recorded.criterion.criterion();
    let averager = Averager::new(&first.spec, data, criterion, options.threads)?;
    let mut averager = averager.watched(watch);
    let mut measured: Vec<Metrics> = Vec::new();
    for model in models {
        measured.push(averager.measure(&model.file.weights)?);
    }
    let weights: Vec<&StateDict> = models.iter().map(|model| &model.file.weights).collect();
    let (result, members) = if options.soup {
        averager.soup(&weights, &objective)?
    } else {
        (averager.average(&weights)?, (0..models.len()).collect())
    };
    // A soup of one is the best itself: nothing was gained, and there is nothing to write.
    let chosen: Vec<&Model> = members.iter().map(|&member| &models[member]).collect();
    let (seen_before, file) = match chosen.len() {
        0 | 1 => (Vec::new(), None),
        _ => {
            let seen = seen_before(&chosen, data)?;
            let file = encode(&chosen, &seen, &result, &objective)?;
            (seen, Some(file))
        }
    };
    let models = models.iter().zip(measured).enumerate();
    Ok(AverageReport {
        models: models
            .map(|(i, (model, metrics))| Member {
                path: model.path.clone(),
                member: members.contains(&i),
                metrics,
            })
            .collect(),
        average: result.metrics,
        images: data.val.len(),
        seen_before,
        file,
    })
}

/// Averages are of models that began as one: of the same network, at least, with the same classes and preprocessing.
fn check_alike(first: &Model, others: &[Model]) -> Result<(), AverageModelsError> {
    let differs = |model: &Model| {
        if model.spec.layers != first.spec.layers {
            Some("network")
        } else if model.classes != first.classes {
            Some("classes")
        } else if model.preprocessing != first.preprocessing {
            Some("preprocessing")
        } else {
            None
        }
    };
    let mut found = others
        .iter()
        .filter_map(|model| Some((model, differs(model)?)));
    found.next().map_or(Ok(()), |(model, part)| {
        Err(AverageModelsError::Differ {
            first: first.path.clone(),
            second: model.path.clone(),
            part,
        })
    })
}

/// The images of val and test that a model of the average had seen.
fn seen_before(models: &[&Model], data: &Prepared) -> Result<Vec<SeenBefore>, DataError> {
    let seen = Seen::together(models.iter().map(|model| model.seen()));
    let mut found = Vec::new();
    for split in ["val", "test"] {
        let Some(images) = data.split(split) else {
            continue;
        };
        let mut of_split = seen.among(split, &images.digests()?);
        if split == "val" {
            // By these the average is chosen, too.
            of_split.chosen = 0;
        }
        found.extend(of_split.any().then_some(of_split));
    }
    Ok(found)
}

fn encode(
    members: &[&Model],
    seen_before: &[SeenBefore],
    result: &Measurement,
    objective: &Objective,
) -> Result<ModelImage, AverageModelsError> {
    let first = members[0];
    let own = first.file.metadata.as_ref();
    let (step, epoch) = own.map_or((0, 0), |own| (own.step, own.epoch));
    let judgement = objective.judge(None, &result.metrics)?;
    let record = EvaluationRecord::new(step, epoch, result.metrics.clone(), judgement);
    let mut recorded = first.recorded()?.clone();
    recorded.averaged = members.iter().map(|model| model.as_parent()).collect();
    recorded.seen = Some(Seen::together(members.iter().map(|model| model.seen())));
    recorded.seen_before = seen_before.to_vec();
    let metadata = ModelMetadata {
        step,
        epoch,
        attachments: Attachments {
            model: Some(first.spec.to_json()),
            classes: first.classes.clone(),
            preprocessing: Some(serde_json::to_value(&first.preprocessing)?),
            evaluation: Some(serde_json::to_value(&record)?),
            provenance: Some(serde_json::to_value(&recorded)?),
            ..Attachments::default()
        },
        ..ModelMetadata::default()
    };
    Ok(model_file::encode(
        &result.weights,
        &StateDict::new(),
        &metadata,
    )?)
}
