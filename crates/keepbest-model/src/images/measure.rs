//! Opening images for a model, and measuring it on them.

use std::path::PathBuf;

use keepbest_core::ObjectiveError;
use keepbest_core::classification::{ClassificationOptions, DecisionMetric};
use keepbest_data::{
    DataBundle, DataError, Matched, PrepareError, PreprocessingError, Subset, UnknownClasses,
};
use keepbest_nn::CPU;

use super::changed::ChangedSplit;
use super::choice::{ImageSource, Part};
use crate::error::ModelError;
use crate::evaluate::{EvaluateError, Evaluator, Measured};
use crate::model::Model;
use crate::outcomes::{Outcomes, OutcomesError, Resampled};
use crate::place::NotThere;
use crate::provenance::{DataRecord, Provenance};
use crate::watch::{Event, Watch};
use crate::words::count;

/// Options for measuring.
#[derive(Debug, Clone, Default)]
pub struct MeasureOptions {
    /// Images at a time, 64 by default; figures do not depend on it.
    pub batch_size: Option<usize>,
    /// Threads, one a core by default; figures do not depend on it.
    pub threads: Option<usize>,
    /// What computes, the CPU by default.
    pub device: Option<String>,
    /// Metrics beside the standard ones.
    pub classification: ClassificationOptions,
    /// Whether to keep how each image came out, for intervals and tests.
    pub keep_outcomes: bool,
    /// The metric to tune thresholds for, and to measure by those.
    pub tune: Option<DecisionMetric>,
}

/// Why a model could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The model does not say what it was trained on, and no images were named.
    #[error("{path} does not record which images it was trained on", path = path.display())]
    NotRecorded {
        /// The model's file.
        path: PathBuf,
    },
    /// The images of the training are no longer there.
    #[error(transparent)]
    NotThere(#[from] NotThere),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The images cannot be split or brought to the model's input.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The model's own preprocessing makes no sense.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// The images are of classes that the model does not know.
    #[error(transparent)]
    Classes(#[from] UnknownClasses),
    /// There is no such split.
    #[error("{data} has no {split} split")]
    NoSplit {
        /// The data's name.
        data: String,
        /// The split.
        split: String,
    },
    /// The data has no such split of its own, and was not split before.
    #[error("{data} has no {split} split of its own", split = split.name())]
    NoOwnSplit {
        /// The data's name.
        data: String,
        /// The split.
        split: Part,
    },
    /// The images are not those that figures or thresholds belong to.
    #[error("{}", changed.words())]
    Changed {
        /// The split that holds others.
        changed: Box<ChangedSplit>,
        /// What depends on them, in words.
        why: &'static str,
    },
    /// What is there is not what the model was trained with, and nothing else was named.
    #[error(
        "the images of {data} are not those the model was trained with: {} are there, {recorded} were",
        count(*found, "image")
    )]
    OtherImages {
        /// The data's name.
        data: String,
        /// The place where it lies, as recorded.
        source_name: String,
        /// The number of images that are there.
        found: u64,
        /// The number that it was trained with.
        recorded: u64,
    },
    /// Scores are no numbers.
    #[error(
        "{path} cannot be measured: its scores of {bad} of {} are not finite{}",
        count(*images, "image"),
        such.as_ref().map_or_else(String::new, |image| format!(", such as {image}")),
        path = path.display()
    )]
    NotFinite {
        /// The model's file.
        path: PathBuf,
        /// The number of images that have such scores.
        bad: u64,
        /// The number that were measured.
        images: u64,
        /// The first of them.
        such: Option<String>,
    },
    /// The model cannot be put to use.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The images and the model do not go together, or cannot be loaded.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Intervals cannot be had.
    #[error(transparent)]
    Outcomes(#[from] OutcomesError),
    /// What best means cannot be told from the record.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// Whoever watched said to stop.
    #[error("interrupted before all was measured")]
    Interrupted,
}

impl MeasureError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRecorded { .. } => Some("name them: --data".into()),
            Self::NotThere(error) => Some(error.hint()),
            Self::Data(error) => error.hint(),
            Self::Prepare(error) => error.hint(),
            Self::Classes(error) => error.hint(),
            Self::NoOwnSplit { .. } => Some("--split all measures all of it".into()),
            Self::Changed { why, .. } => Some(format!("{why}: --data says where they lie now")),
            Self::OtherImages { source_name, .. } => Some(format!(
                "to measure on what is there now: --data {}",
                keepbest_core::text::shell_word(source_name)
            )),
            Self::Model(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted | Self::Outcomes(OutcomesError::Interrupted) => true,
            Self::Data(DataError::Interrupted) => true,
            Self::Prepare(error) => error.is_interrupted(),
            _ => false,
        }
    }
}

impl Model {
    /// The record of the model's making.
    ///
    /// # Errors
    /// [`MeasureError::NotRecorded`].
    pub fn recorded(&self) -> Result<&Provenance, MeasureError> {
        self.provenance
            .as_ref()
            .ok_or_else(|| MeasureError::NotRecorded {
                path: self.path.clone(),
            })
    }
}

/// Measures a model on images, by the criterion it was trained with (plain cross entropy where none is recorded) and the thresholds
/// that it decides by.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(
    model: &Model,
    images: &Subset,
    options: MeasureOptions,
    watch: Watch<'_>,
) -> Result<Measured, MeasureError> {
    let recorded = model.provenance.as_ref();
    let criterion = recorded
        .map(|provenance| provenance.criterion.criterion())
        .unwrap_or_default();
    // Memory is taken for a whole batch, also where there are fewer images.
    let batch_size = options.batch_size.unwrap_or(64).min(images.len().max(1));
    let mut predictor = model.predictor_on(
        options.device.as_deref().unwrap_or(CPU),
        batch_size,
        options.threads,
    )?;
    let preprocessing = model.preprocessing.clone().converting();
    let evaluator = Evaluator {
        batch_size,
        options: options
            .classification
            .with_thresholds(model.decision().cloned()),
        keep_outcomes: options.keep_outcomes,
        tune: options.tune,
        ..Evaluator::new(&criterion, &preprocessing)
    };
    evaluator
        .measure(&mut *predictor, images, |done| {
            watch.measured(done, images.len())
        })?
        .ok_or(MeasureError::Interrupted)
}

/// Checks that all scores are numbers: others are no measurement.
///
/// # Errors
/// [`MeasureError::NotFinite`], which names the first image with another.
pub fn check_scores(
    model: &Model,
    measured: &Measured,
    images: &Subset,
) -> Result<(), MeasureError> {
    use keepbest_data::Dataset as _;
    let bad = measured.report.non_finite();
    if bad == 0 {
        return Ok(());
    }
    let outcomes = measured.outcomes.as_ref();
    let first = outcomes.and_then(|outcomes| outcomes.decided().position(|of| of.is_none()));
    Err(MeasureError::NotFinite {
        path: model.path.clone(),
        bad,
        images: images.len() as u64,
        such: first.map(|first| images.source(first)),
    })
}

/// All metrics, of the images and of draws of them.
pub(crate) fn resample(
    outcomes: &Outcomes,
    split: &str,
    watch: Watch<'_>,
) -> Result<Resampled, MeasureError> {
    let mut go_on = || watch.tell(Event::Working);
    Ok(outcomes.resample_while(split, &mut go_on)?)
}

/// Opens the images that were named, or those that the model was trained with.
pub(crate) fn open(
    model: &Model,
    given: &ImageSource,
    watch: Watch<'_>,
) -> Result<DataBundle, MeasureError> {
    let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
    let (source, dir) = locate(model, given)?;
    let unreadable = recorded.map_or_else(Default::default, DataRecord::unreadable);
    let bundle = watch.reading(|watch| {
        keepbest_data::open_to_measure(&source, dir.as_deref(), unreadable, watch)
    });
    Ok(bundle?)
}

/// The images under the model's classes, which are found by their names; `split` is the one to be measured, by default their own test
/// split, or all of them.
pub(crate) fn matched(
    model: &Model,
    bundle: &DataBundle,
    split: Option<Part>,
    leave_out: bool,
) -> Result<Matched, MeasureError> {
    // A file from elsewhere may name no classes: then as many are taken for the same.
    let own = bundle.classes();
    let classes = if !model.names_its_classes() && own.len() == model.classes.len() {
        own
    } else {
        &model.classes
    };
    let split = split.unwrap_or(Part::Test).name();
    Ok(bundle.labelled_by(classes, leave_out, Some(split))?)
}

/// The images that were named, or where those of the training lie now: what [`keepbest_data::open_with`] takes.
pub(crate) fn locate(
    model: &Model,
    given: &ImageSource,
) -> Result<(String, Option<PathBuf>), MeasureError> {
    if let Some(data) = &given.data {
        let recorded = model.provenance.iter().map(|provenance| &provenance.data);
        // The same set by its name lies where it lay.
        let mut same = recorded.filter(|recorded| recorded.source == *data);
        let dir = same
            .next()
            .and_then(|same| same.locate(&model.path).ok()?.1);
        return Ok((data.clone(), given.dir.clone().or(dir)));
    }
    let recorded = &model.recorded()?.data;
    if given.dir.is_some() && keepbest_data::is_named(&recorded.source) {
        return Ok((recorded.source.clone(), given.dir.clone()));
    }
    Ok(recorded.locate(&model.path)?)
}
