//! A model's figures on images, with their intervals: what `keepbest evaluate` tells.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keepbest_core::classification::{ClassMetrics, ClassificationOptions};
use keepbest_core::statistics::Interval;
use keepbest_core::{ClassificationReport, Metrics, WeightsDigest};
use serde::Serialize;

use crate::images::{
    ChosenImages, ImageChoice, ImagesUsed, MeasureError, MeasureOptions, leave_out_meaningless,
    resample,
};
use crate::model::Model;
use crate::outcomes::ClassIntervals;
use crate::thresholds::TunedThresholds;
use crate::watch::Watch;

/// What to evaluate on, and how.
#[derive(Debug, Clone, Default)]
pub struct EvaluateOptions {
    /// The images.
    pub images: ImageChoice,
    /// Metrics beside the standard ones.
    pub classification: ClassificationOptions,
    /// Images at a time, 64 by default; figures do not depend on it.
    pub batch_size: Option<usize>,
    /// Threads, one a core by default; figures do not depend on it.
    pub threads: Option<usize>,
    /// What computes, the CPU by default.
    pub device: Option<String>,
}

impl EvaluateOptions {
    pub(crate) fn measure(&self) -> MeasureOptions {
        MeasureOptions {
            batch_size: self.batch_size,
            threads: self.threads,
            device: self.device.clone(),
            classification: self.classification.clone(),
            keep_outcomes: true,
            tune: None,
        }
    }
}

/// The figures of a model. As JSON they are what `keepbest evaluate --json` prints.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct EvaluateReport {
    /// The model's file.
    pub model: PathBuf,
    /// Identity of its weights.
    pub digest: WeightsDigest,
    /// The data's name.
    pub data: String,
    /// The part of it that was measured.
    pub split: &'static str,
    /// The number of images measured.
    pub images: u64,
    /// The thresholds that the model decides by, if not for the likeliest class.
    pub thresholds: Option<TunedThresholds>,
    /// Every metric by name, the split in front.
    pub metrics: Metrics,
    /// Intervals of the metrics that have one.
    pub intervals: BTreeMap<String, Interval>,
    /// What has to be known of the images.
    pub images_of: ImagesUsed,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The metrics of each class.
    pub per_class: Vec<ClassMetrics>,
    /// Their intervals.
    pub per_class_intervals: Vec<ClassIntervals>,
    /// Rows are labels, columns predictions.
    pub confusion: Vec<Vec<u64>>,
    /// The whole report, for tables.
    #[serde(skip)]
    pub report: ClassificationReport,
    /// The images in words: `the test split of photos`.
    #[serde(skip)]
    pub images_words: String,
    /// The changes of the images since the training, where they did.
    #[serde(skip)]
    pub changed: Option<String>,
    /// What else the reader of the figures has to know, a line each.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Measures a model on images.
///
/// # Errors
/// [`MeasureError`].
pub fn evaluate(
    model: &Model,
    options: &EvaluateOptions,
    watch: Watch<'_>,
) -> Result<EvaluateReport, MeasureError> {
    let images = ChosenImages::open(model, &options.images, watch)?;
    let split = images.split.name();
    let measured = images.measure(options.measure(), watch)?;
    let mut metrics = measured.metrics(split);
    let mut intervals = resample(measured.kept_outcomes()?, split, watch)?.intervals();
    let left_out = leave_out_meaningless(&measured, &mut metrics, &mut intervals.metrics);
    Ok(EvaluateReport {
        model: model.path.clone(),
        digest: model.file.weights_digest(),
        data: images.data().to_owned(),
        split,
        images: measured.report.count(),
        thresholds: model.thresholds.clone(),
        metrics,
        intervals: intervals.metrics,
        images_of: images.used(),
        classes: images.classes().to_vec(),
        per_class: measured.report.classes().to_vec(),
        per_class_intervals: intervals.classes,
        confusion: measured.report.confusion().rows(),
        images_words: images.words(),
        changed: images.changed().map(Into::into),
        notes: images.notes().into_iter().chain(left_out).collect(),
        report: measured.report,
    })
}
