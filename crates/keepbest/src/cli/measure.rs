//! A model and the images to measure it on: what `evaluate`, `compare`, `verify` and `report` have in common.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use keepbest_core::classification::{ClassificationOptions, DecisionMetric};
use keepbest_data::{
    DataBundle, Fingerprint, Joined, Matched, PrepareError, PrepareOptions, Prepared, Reading,
    Subset, Watch,
};
use keepbest_model::{DataRecord, Evaluator, Measured, Model, Outcomes, Resampled, SplitRecord};

use crate::cli::args::{Compute, DataDir};
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::Gauge;
use crate::cli::model::provenance;
use crate::cli::terminal::Terminal;

/// How to measure.
#[derive(Debug, Clone, Default)]
pub struct How {
    pub batch_size: Option<usize>,
    pub threads: Option<usize>,
    pub options: ClassificationOptions,
    pub keep_outcomes: bool,
    /// Tune thresholds for this metric, and measure by those.
    pub tune: Option<DecisionMetric>,
}

impl From<&Compute> for How {
    fn from(compute: &Compute) -> Self {
        Self {
            batch_size: Some(compute.batch_size.into()),
            threads: compute.threads.count(),
            ..Self::default()
        }
    }
}

/// A model with its images.
pub struct Subject {
    pub model: Model,
    pub data: Prepared,
}

impl Subject {
    /// Prepares the images of the training, split as recorded; `data` says where they lie now. Of a model that does not record
    /// its images, those that were named: val is theirs, or all there are.
    pub fn new(model: Model, data: Option<&str>, sets: &DataDir) -> Result<Self, Failure> {
        let bundle = matched(&model, opened(&model, data, sets)?, false)?.bundle;
        let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
        let failed =
            |error: PrepareError| Failure::of(Exit::Failed, &error).with_hint(error.hint());
        let preprocessing = model.preprocessing.clone().converting();
        let data = match recorded {
            Some(recorded) => bundle
                .prepare_with(&SplitRecord::options(&recorded.split), preprocessing)
                .map_err(failed)?,
            None => {
                let options = PrepareOptions::default();
                let mut data = bundle
                    .prepare_undrawn(&options, preprocessing)
                    .map_err(failed)?;
                if data.val.is_empty() {
                    let splits = [Some(data.train.clone()), data.test.clone()];
                    data.val = Joined::all(splits.into_iter().flatten()).unwrap_or(data.val);
                }
                data
            }
        };
        Ok(Self { model, data })
    }

    /// The images of a split.
    pub fn images(&self, split: &str) -> Result<&Subset, Failure> {
        self.data.split(split).ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                format!("{} has no {split} split", self.data.name),
            )
        })
    }

    /// The first of the splits whose images are not those recorded.
    pub fn changed_split(&self, splits: &[&'static str]) -> Result<Option<ChangedSplit>, Failure> {
        let recorded = self
            .model
            .provenance
            .as_ref()
            .map(|provenance| &provenance.data.fingerprints);
        for &name in splits {
            let Some(expected) = recorded.and_then(|recorded| recorded.get(name)) else {
                continue;
            };
            let images = self.images(name)?;
            let found = self
                .data
                .fingerprint(images)
                .map_err(|error| Failure::of(Exit::Failed, &error))?;
            if found != *expected {
                return Ok(Some(ChangedSplit {
                    name,
                    data: self.data.name.clone(),
                    found,
                    recorded: expected.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// Measures the model on a split, by the criterion it was trained with (plain cross entropy where none is recorded) and the
    /// thresholds that it decides by.
    pub fn measure(&self, split: &str, how: How) -> Result<Measured, Failure> {
        measure(&self.model, self.images(split)?, how)
    }
}

/// The images that were named, or those that the model was trained with.
pub fn opened(model: &Model, data: Option<&str>, sets: &DataDir) -> Result<DataBundle, Failure> {
    let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
    let (source, dir) = located(model, data, sets)?;
    let unreadable = recorded.map_or_else(Default::default, DataRecord::unreadable);
    let gauge = RefCell::new(Gauge::new(&Terminal::detect()));
    let told = |reading: Reading| {
        let what = reading.stage.to_string();
        gauge.borrow_mut().tell(&what, reading.done, reading.of);
        true
    };
    let watch = Watch::new(&told);
    keepbest_data::open_to_measure(&source, dir.as_deref(), unreadable, watch)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))
}

/// The images under the model's classes, which are found by their names.
pub fn matched(model: &Model, bundle: DataBundle, leave_out: bool) -> Result<Matched, Failure> {
    // A file from elsewhere may name no classes: then as many are taken for the same.
    let own = bundle.classes().to_vec();
    let classes = if !model.names_its_classes() && own.len() == model.classes.len() {
        &own
    } else {
        &model.classes
    };
    bundle.labelled_by(classes, leave_out).map_err(|error| {
        let hint = match error.known {
            0 => None,
            _ => Some("--skip-extra-classes leaves them out".to_owned()),
        };
        Failure::of(Exit::Failed, &error).with_hint(hint)
    })
}

/// Measures a model on images, by the criterion it was trained with (plain cross entropy where none is recorded) and the thresholds
/// that it decides by.
pub fn measure(model: &Model, images: &Subset, how: How) -> Result<Measured, Failure> {
    let recorded = model.provenance.as_ref();
    let criterion = recorded
        .map(|provenance| provenance.criterion.criterion())
        .unwrap_or_default();
    // Memory is taken for a whole batch, also where there are fewer images.
    let batch_size = how.batch_size.unwrap_or(64).min(images.len().max(1));
    let mut predictor = model.predictor(batch_size, how.threads)?;
    let preprocessing = model.preprocessing.clone().converting();
    let evaluator = Evaluator {
        batch_size,
        options: how.options.with_thresholds(model.decision().cloned()),
        keep_outcomes: how.keep_outcomes,
        tune: how.tune,
        ..Evaluator::new(&criterion, &preprocessing)
    };
    let mut gauge = Gauge::new(&Terminal::detect());
    evaluator
        .measure(&mut *predictor, images, |done| {
            gauge.tell("measuring", done, images.len());
            true
        })?
        .ok_or_else(|| Failure::new(Exit::Failed, "nothing was measured"))
}

/// The images that were named, or where those of the training lie now: what [`keepbest_data::open_with`] takes.
pub fn located(
    model: &Model,
    data: Option<&str>,
    sets: &DataDir,
) -> Result<(String, Option<PathBuf>), Failure> {
    let given = sets.path().map(Path::to_owned);
    if let Some(data) = data {
        let recorded = model.provenance.iter().map(|provenance| &provenance.data);
        // The same set by its name lies where it lay.
        let mut same = recorded.filter(|recorded| recorded.source == data);
        let dir = same
            .next()
            .and_then(|same| same.locate(&model.path).ok()?.1);
        return Ok((data.to_owned(), given.or(dir)));
    }
    let recorded = &provenance(model)?.data;
    if given.is_some() && keepbest_data::is_named(&recorded.source) {
        return Ok((recorded.source.clone(), given));
    }
    recorded
        .locate(&model.path)
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))
}

/// A split that holds other images, labels or classes than those recorded.
pub struct ChangedSplit {
    pub name: &'static str,
    /// Where they were read from.
    pub data: String,
    pub found: Fingerprint,
    pub recorded: Fingerprint,
}

impl ChangedSplit {
    pub fn words(&self) -> String {
        format!(
            "the {} images are not those recorded: {} in {}, recorded were {}",
            self.name, self.found, self.data, self.recorded
        )
    }
}

/// All metrics, of the images and of draws of them.
pub fn resample(outcomes: &Outcomes, split: &str) -> Result<Resampled, Failure> {
    outcomes
        .resample(split)
        .map_err(|error| Failure::of(Exit::Failed, &error))
}
