//! Models on the same images, in pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use keepbest_core::statistics::{Interval, PairedDifference};
use keepbest_core::{Metrics, WeightsDigest};
use keepbest_keeper::RunView;
use serde::Serialize;

use crate::evaluation::EvaluateOptions;
use crate::images::{
    ChosenImages, ImagesUsed, MeasureError, SameImagesError, leave_out_meaningless, resample,
};
use crate::model::{Model, OpenReferenceError};
use crate::model_ref::{ModelPlace, find_model};
use crate::outcomes::{Outcomes, OutcomesError, Resampled};
use crate::watch::{Event, Watch};

/// A model to compare, as it was named.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// The model.
    pub model: Model,
    /// The run it is of, where it was named by one.
    pub run: Option<PathBuf>,
}

impl Contender {
    /// Opens the model that a reference means, as [`Model::open_reference`] does.
    ///
    /// # Errors
    /// [`OpenReferenceError`].
    pub fn open(
        reference: &str,
        runs_dir: &Path,
        network: Option<&str>,
    ) -> Result<Self, OpenReferenceError> {
        let place = find_model(reference, runs_dir)?;
        let model = Model::open_place(&place, network)?;
        let run = match place {
            ModelPlace::Run { run, .. } => Some(run),
            ModelPlace::File(_) => None,
        };
        Ok(Self {
            name: reference.to_owned(),
            model,
            run,
        })
    }
}

/// Why models could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// There are not at least two.
    #[error("there is nothing to compare")]
    Nothing,
    /// A model cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// Two models cannot be measured on the same images.
    #[error(transparent)]
    Images(#[from] SameImagesError),
    /// Two models do not pair.
    #[error(transparent)]
    Outcomes(#[from] OutcomesError),
    /// A run cannot be read.
    #[error(transparent)]
    Run(#[from] keepbest_store::OpenError),
    /// A run's settings cannot be read.
    #[error(transparent)]
    Settings(#[from] keepbest_store::IoError),
    /// A run's settings are no TOML.
    #[error("{path} is not TOML: {what}", path = path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
}

impl CompareError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Measure(error) => error.hint(),
            Self::Images(error) => error.hint(),
            _ => None,
        }
    }

    /// Whether whoever watched said to stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Measure(error) | Self::Images(SameImagesError::Measure(error)) => {
                error.is_interrupted()
            }
            Self::Outcomes(OutcomesError::Interrupted) => true,
            _ => false,
        }
    }
}

/// Models side by side. As JSON it is what `keepbest compare --json` prints.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CompareReport {
    /// The part of the data that was measured.
    pub split: &'static str,
    /// The number of images compared on.
    pub images: usize,
    /// The models, in the order given.
    pub models: Vec<Side>,
    /// The first model against each of the others.
    pub pairs: Vec<Pair>,
    /// The keys of `run.toml` in which the runs differ, with each run's value; empty unless all models are of runs.
    pub settings: BTreeMap<String, Vec<String>>,
}

/// A model, measured.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Side {
    /// The model, as it was named.
    #[serde(rename = "model")]
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Identity of its weights.
    pub digest: WeightsDigest,
    /// Every metric by name, the split in front.
    pub metrics: Metrics,
    /// Intervals of the metrics that have one.
    pub intervals: BTreeMap<String, Interval>,
    /// What has to be known of its images.
    pub images_of: ImagesUsed,
    #[serde(skip)]
    outcomes: Outcomes,
    #[serde(skip)]
    resampled: Resampled,
}

/// The first model against another.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Pair {
    /// The first model, as it was named.
    pub first: String,
    /// The other.
    pub second: String,
    /// The number of images that both get right.
    pub both_right: u64,
    /// The number that only the first gets right.
    pub only_first_right: u64,
    /// The number that only the other gets right.
    pub only_second_right: u64,
    /// The number that neither gets right.
    pub both_wrong: u64,
    /// McNemar's exact two-sided p-value that they are equally often right.
    pub mcnemar_p: f64,
    /// First minus second, of each metric that both have.
    pub differences: BTreeMap<String, PairedDifference>,
}

impl Side {
    fn measured(
        name: &str,
        images: &ChosenImages<'_>,
        options: &EvaluateOptions,
        watch: Watch<'_>,
    ) -> Result<Self, MeasureError> {
        let split = images.split.name();
        let measured = images.measure(options.measure(), watch)?;
        let mut metrics = measured.metrics(split);
        let outcomes = measured.kept_outcomes()?.clone();
        let resampled = resample(&outcomes, split, watch)?;
        let mut intervals = resampled.intervals().metrics;
        leave_out_meaningless(&measured, &mut metrics, &mut intervals);
        Ok(Self {
            name: name.to_owned(),
            path: images.model.path.clone(),
            digest: images.model.file.weights_digest(),
            images_of: images.used(),
            metrics,
            intervals,
            outcomes,
            resampled,
        })
    }
}

impl Pair {
    fn of(first: &Side, second: &Side) -> Result<Self, OutcomesError> {
        let counts = first.outcomes.compare(&second.outcomes)?;
        let mut differences = first.resampled.minus(&second.resampled)?;
        differences.retain(|name, _| first.metrics.contains(name) && second.metrics.contains(name));
        Ok(Self {
            first: first.name.clone(),
            second: second.name.clone(),
            both_right: counts.both_right,
            only_first_right: counts.only_first,
            only_second_right: counts.only_second,
            both_wrong: counts.both_wrong,
            mcnemar_p: counts.mcnemar_p,
            differences,
        })
    }
}

/// Measures models on the same images, and the first against each of the others in pairs. Each model has its own
/// preprocessing; the images are those of the first.
///
/// # Errors
/// [`CompareError`].
pub fn compare(
    models: &[Contender],
    options: &EvaluateOptions,
    watch: Watch<'_>,
) -> Result<CompareReport, CompareError> {
    let [first, others @ ..] = models else {
        return Err(CompareError::Nothing);
    };
    let images = ChosenImages::open(&first.model, &options.images, watch)?;
    let measured = |name: &str, images: &ChosenImages<'_>| {
        let notes: Vec<String> = images
            .changed()
            .map(Into::into)
            .into_iter()
            .chain(images.notes())
            .collect();
        let begun = Event::Begun {
            model: name,
            images: images.len(),
            notes: &notes,
        };
        match watch.tell(begun) {
            true => Side::measured(name, images, options, watch),
            false => Err(MeasureError::Interrupted),
        }
    };
    let mut sides = vec![measured(&first.name, &images)?];
    for other in others {
        let same = images.with(&other.model, &options.images)?;
        sides.push(measured(&other.name, &same)?);
    }
    let pairs = sides[1..].iter().map(|other| Pair::of(&sides[0], other));
    Ok(CompareReport {
        split: images.split.name(),
        images: sides[0].outcomes.len(),
        pairs: pairs.collect::<Result<_, _>>()?,
        settings: different_settings(models)?,
        models: sides,
    })
}

fn different_settings(models: &[Contender]) -> Result<BTreeMap<String, Vec<String>>, CompareError> {
    let mut all: Vec<BTreeMap<String, String>> = Vec::new();
    for contender in models {
        let Some(run) = &contender.run else {
            return Ok(BTreeMap::new());
        };
        let text = RunView::open(run)?.config()?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| CompareError::NotToml {
            path: run.join("run.toml"),
            what: error.message().trim().replace('\n', ", "),
        })?;
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        all.push(keys);
    }
    let names: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    Ok(names
        .into_iter()
        .map(|name| {
            let values: Vec<String> = all
                .iter()
                .map(|keys| keys.get(name).cloned().unwrap_or_else(|| "-".into()))
                .collect();
            (name.clone(), values)
        })
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect())
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, out),
            toml::Value::String(text) => drop(out.insert(format!("{prefix}{key}"), text.clone())),
            other => drop(out.insert(format!("{prefix}{key}"), other.to_string())),
        }
    }
}
