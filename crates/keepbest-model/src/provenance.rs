//! The origin of a model, as its file records it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keepbest_core::{Direction, Objective, ObjectiveError, WeightsDigest};
use keepbest_data::{Fingerprint, PrepareOptions, Unreadable};
use keepbest_nn::OptimizerConfig;
use serde::{Deserialize, Serialize};

use crate::criterion::Criterion;
use crate::environment::Environment;
use crate::place::{NotThere, Place, Places, find, recorded, run_around};
use crate::seen::{Seen, SeenBefore};

/// The part of a model file that says how it came about: enough to measure it again on the same images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of keepbest that trained it.
    pub keepbest: String,
    /// The network's name; params-only files have it here alone.
    pub network: String,
    /// The images.
    pub data: DataRecord,
    /// The training criterion.
    pub criterion: CriterionRecord,
    /// Seed of everything random.
    pub seed: u64,
    /// Optimizer, schedule and length, in words.
    pub recipe: String,
    /// The optimizer and its settings, as `keepbest-nn`'s `OptimizerConfig`; earlier files do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerConfig>,
    /// The model it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The models whose weights it is the mean of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub averaged: Vec<Parent>,
    /// The images that it and the models it comes from have seen; earlier files do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The images that its run measures on, as far as it was trained on or chosen by them, or a model it comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_before: Vec<SeenBefore>,
    /// Every setting, as `run.toml` has them.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub config: toml::Table,
    /// Program, machine and working directory, when training began; earlier files do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

impl Provenance {
    /// What better meant when the model was chosen; of several objectives the first.
    ///
    /// # Errors
    /// When the recorded settings name no objective that there is.
    pub fn objective(&self) -> Result<Objective, ObjectiveError> {
        let text = |key: &str| self.config.get(key).and_then(toml::Value::as_str);
        let direction = match text("mode") {
            Some("max") => Some(Direction::Maximise),
            Some("min") => Some(Direction::Minimise),
            _ => None,
        };
        let monitor = match self.config.get("monitor") {
            Some(toml::Value::Array(all)) => all.first().and_then(toml::Value::as_str),
            other => other.and_then(toml::Value::as_str),
        };
        let objective = Objective::build(monitor.unwrap_or("val/accuracy"), direction)?;
        match text("tie-break") {
            Some(metric) if metric != "none" => objective.with_tie_break(metric, None),
            _ => Ok(objective),
        }
    }

    /// The places of everything, for the journal.
    #[must_use]
    pub fn places(&self) -> Places {
        Places {
            data: self.data.place.clone(),
            from: self
                .parent
                .as_ref()
                .map(|parent| parent.place.clone())
                .unwrap_or_default(),
        }
    }
}

/// The images a model was trained on and chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// A set's name, or a folder.
    pub source: String,
    /// The place of a named set, when not at its usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The place where they lay: the folder of a named set that was not at its usual place. Earlier files do not have it.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
    /// The split of the set.
    pub split: SplitRecord,
    /// Identity of each split.
    pub fingerprints: BTreeMap<String, Fingerprint>,
    /// Image files that were left out because they cannot be read, each with why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

impl DataRecord {
    /// Takes down where the images lie that a run at `run` has: what the user wrote counts from the directory that he was in.
    pub fn settle(&mut self, data: &str, run: &Path) {
        let at = match keepbest_data::is_named(data) {
            true => self.dir.as_deref(),
            false => Some(Path::new(data)),
        };
        self.place = at.map_or_else(Place::default, |at| Place::of(at, Some(run)));
    }

    /// The place where the images lie now, for a model file or run at `at`: what [`keepbest_data::open_with`] takes.
    ///
    /// # Errors
    /// [`NotThere`], which says where they were looked for.
    pub fn locate(&self, at: &Path) -> Result<(String, Option<PathBuf>), NotThere> {
        let run = run_around(at);
        // The journal knows where they were when the run was last taken up.
        let latest = run.as_deref().map(recorded).unwrap_or_default().data;
        let find = |written: &str| find(written, &[&latest, &self.place], run.as_deref());
        if !keepbest_data::is_named(&self.source) {
            return Ok((find(&self.source)?.display().to_string(), None));
        }
        let dir = self.dir.as_deref().and_then(Path::to_str);
        Ok((self.source.clone(), dir.map(find).transpose()?))
    }

    /// What becomes of unreadable files when the images are opened again.
    pub fn unreadable(&self) -> Unreadable {
        if self.skipped.is_empty() {
            Unreadable::Refuse
        } else {
            Unreadable::Skip
        }
    }
}

/// The split of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// Part of the training images that became the val split, where the data has none.
    pub val_fraction: f64,
    /// Part of the training images that became the test split, where the data has none.
    pub test_fraction: f64,
    /// Seed of the draw.
    pub seed: u64,
}

impl SplitRecord {
    /// As the data crate takes it.
    pub fn options(&self) -> PrepareOptions {
        let Self {
            val_fraction,
            test_fraction,
            seed,
        } = *self;
        PrepareOptions {
            val_fraction,
            test_fraction,
            seed,
            ..PrepareOptions::default()
        }
    }
}

/// The criterion that `loss` means.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CriterionRecord {
    /// Part of the target spread over all classes.
    pub label_smoothing: f64,
    /// A weight for each class; all 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
}

impl CriterionRecord {
    /// To compute with.
    pub fn criterion(&self) -> Criterion {
        let Self {
            label_smoothing,
            class_weights,
        } = self.clone();
        Criterion {
            label_smoothing,
            class_weights,
        }
    }
}

impl Parent {
    /// The record of a model with these weights, in the file at `path`.
    #[must_use]
    pub fn new(path: &Path, digest: WeightsDigest) -> Self {
        Self {
            digest,
            place: Place::of(path, None),
            path: path.to_owned(),
        }
    }

    /// The place where the model lies now, for a model file or run at `at` that started from it.
    ///
    /// # Errors
    /// [`NotThere`], which says where it was looked for.
    pub fn locate(&self, at: &Path) -> Result<PathBuf, NotThere> {
        let run = run_around(at);
        let latest = run.as_deref().map(recorded).unwrap_or_default().from;
        let written = self.path.to_string_lossy();
        find(&written, &[&latest, &self.place], run.as_deref())
    }
}

/// The model that a run started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parent {
    /// Its file.
    pub path: PathBuf,
    /// Identity of its weights.
    pub digest: WeightsDigest,
    /// The place where the file lay; earlier files do not have it.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
}
