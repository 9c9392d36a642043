//! Which images a model is measured on, what part of them counts, and what has to be said of them: one rule for `evaluate` and
//! `compare` (docs/guide.md).

use std::collections::BTreeMap;

use keepbest_core::Metrics;
use keepbest_core::statistics::Interval;
use keepbest_core::text::shell_word;
use keepbest_data::{
    DEFAULT_CACHE_BYTES, DataBundle, Dataset as _, Fingerprint, ImageShape, Joined, PrepareError,
    Preprocessing, Subset, Unrecorded,
};
use keepbest_train::{DataRecord, Measured, Model, SeenBefore, SplitRecord};
use serde_json::{Value, json};

use crate::cli::args::{Images, Part, Unlike};
use crate::cli::failure::{Exit, Failure};
use crate::cli::measure::{How, matched, measure, opened};
use crate::cli::terminal::Terminal;
use crate::cli::words::count;

/// A model with the images it is measured on.
pub struct Chosen {
    pub model: Model,
    /// What part of the data it is.
    pub split: Part,
    /// The data, under the model's classes.
    bundle: DataBundle,
    /// Whether these are the images that the model was trained with.
    own: bool,
    /// The images as they are read, and as the model takes them.
    raw: Subset,
    images: Subset,
    missing: Vec<String>,
    left_out: Vec<(String, usize)>,
    converted: Option<Converted>,
    seen: Option<SeenBefore>,
}

/// Images that are unlike all that the model has seen.
struct Converted {
    count: usize,
    first: (String, ImageShape),
    differ: Unrecorded,
}

impl Chosen {
    /// Opens the images that were named, or those of the training, and picks what counts: the recorded split where they are the
    /// recorded images; of any others their own test split, or all of them.
    pub fn new(
        model: Model,
        given: &Images,
        unlike: &Unlike,
        split: Option<Part>,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        let bundle = opened(&model, given.data.as_deref(), &given.sets)?;
        let found = matched(&model, bundle, unlike.skip_extra_classes)?;
        let bundle = found.bundle;
        let recorded = model.provenance.as_ref().map(|of| &of.data);
        let how = preprocessing(&model, unlike.strict);
        let picked = match recorded {
            Some(recorded) => {
                let named = given.data.is_some();
                Picked::recorded(&bundle, recorded, &how, split, named, terminal)?
            }
            None => None,
        };
        let own = picked.is_some();
        let picked = match picked {
            Some(picked) => picked,
            None => Picked::whole(&bundle, &how, split)?,
        };
        Ok(Self {
            seen: seen(&model, &picked, own)?,
            converted: converted(&bundle, &model.preprocessing),
            split: picked.split,
            own,
            raw: picked.raw,
            images: picked.images,
            missing: found.missing,
            left_out: found.left_out,
            bundle,
            model,
        })
    }

    /// Another model on the same images, as long as it was not trained on the same data split in another way.
    pub fn with(
        &self,
        model: Model,
        unlike: &Unlike,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        if model.names_its_classes()
            && self.model.names_its_classes()
            && model.classes != self.model.classes
        {
            let message = format!(
                "{} and {} tell other classes apart: {}, {}",
                self.model.path.display(),
                model.path.display(),
                self.model.classes.join(", "),
                model.classes.join(", "),
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        let how = preprocessing(&model, unlike.strict);
        let recorded = model.provenance.as_ref().map(|of| &of.data);
        let its_own = match recorded {
            Some(recorded) => {
                let split = Some(self.split);
                Picked::recorded(&self.bundle, recorded, &how, split, true, terminal)?
            }
            None => None,
        };
        let own = its_own.is_some();
        let picked = match its_own {
            Some(its_own) => {
                self.check_same(&model, &its_own)?;
                its_own
            }
            None => Picked::new(self.split, self.raw.clone(), &how)?,
        };
        // What the reader of the data has to say was said of the first model.
        let mut bundle = self.bundle.clone();
        bundle.notes.clear();
        Ok(Self {
            seen: seen(&model, &picked, own)?,
            converted: converted(&self.bundle, &model.preprocessing),
            split: picked.split,
            own,
            raw: picked.raw,
            images: picked.images,
            missing: self.missing.clone(),
            left_out: self.left_out.clone(),
            bundle,
            model,
        })
    }

    fn check_same(&self, model: &Model, other: &Picked) -> Result<(), Failure> {
        let digests = |images: &Subset| {
            images
                .digests()
                .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))
        };
        let (first, second) = (digests(&self.images)?, digests(&other.images)?);
        if first == second {
            return Ok(());
        }
        let name = self.split.name();
        let message = format!(
            "the {name} images of {} are not those of {}: it was trained on another split of {}",
            model.path.display(),
            self.model.path.display(),
            self.bundle.name,
        );
        let hint = if self.split != Part::Test && self.bundle.test.is_some() {
            "models can only be compared on the same images: try `--split test`, which no seed changes"
        } else {
            "models can only be compared on images that none was trained on: name some with --data"
        };
        Err(Failure::new(Exit::Failed, message).with_hint(hint.to_owned()))
    }

    /// Measures the model; scores that are no numbers are an error that names the first image with one.
    pub fn measure(&self, how: How) -> Result<Measured, Failure> {
        let how = How {
            keep_outcomes: true,
            ..how
        };
        let measured = measure(&self.model, &self.images, how)?;
        check_finite(&self.model, &measured, &self.images)?;
        Ok(measured)
    }

    /// How many images are measured.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The data's name.
    pub fn data(&self) -> &str {
        &self.bundle.name
    }

    /// The classes in the order of the labels.
    pub fn classes(&self) -> &[String] {
        self.bundle.classes()
    }

    /// `the test split of photos` or `all of photos`.
    pub fn words(&self) -> String {
        match self.split {
            Part::All => format!("all of {}", self.data()),
            split => format!("the {} split of {}", split.name(), self.data()),
        }
    }

    /// What the reader of the figures has to know, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.bundle.notes.clone();
        let of: usize = sets(&self.bundle).map(|set| set.len()).sum();
        if !self.own && self.split != Part::All && self.len() < of {
            notes.push(format!(
                "{} of {of}; --split all measures all of them",
                count(self.len() as u64, "image"),
            ));
        }
        if !self.missing.is_empty() {
            notes.push(format!(
                "no images of {} of the model's {} classes: {}; averages are over the classes that occur",
                self.missing.len(),
                self.model.classes.len(),
                self.missing.join(", ")
            ));
        }
        if !self.left_out.is_empty() {
            let images: usize = self.left_out.iter().map(|(_, images)| images).sum();
            let names: Vec<&str> = self.left_out.iter().map(|(name, _)| &**name).collect();
            notes.push(format!(
                "left out {} of classes that the model does not know: {}",
                count(images as u64, "image"),
                names.join(", ")
            ));
        }
        if let Some(found) = &self.converted {
            let (source, shape) = &found.first;
            let how = self
                .model
                .preprocessing
                .clone()
                .converting()
                .conversion_words(found.differ)
                .unwrap_or_default();
            notes.push(format!(
                "{} of {} are unlike all that the model has seen, {}, such as {source} ({shape}): {how}; --strict refuses",
                found.count,
                count(of as u64, "image"),
                self.model.preprocessing.input
            ));
        }
        notes.extend(self.seen.as_ref().filter(|found| found.any()).map(|found| {
            format!(
                "{}, or a model it comes from, was {found}: the figures flatter it",
                self.model.path.display()
            )
        }));
        notes
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let left_out: BTreeMap<&str, usize> = self
            .left_out
            .iter()
            .map(|(name, images)| (&**name, *images))
            .collect();
        json!({
            "own_data": self.own,
            "notes": self.bundle.notes,
            "missing_classes": self.missing,
            "left_out": left_out,
            "converted": self.converted.as_ref().map_or(0, |found| found.count),
            "seen_before": self.seen,
        })
    }
}

/// Which images count.
struct Picked {
    split: Part,
    raw: Subset,
    images: Subset,
}

impl Picked {
    fn new(split: Part, raw: Subset, how: &Preprocessing) -> Result<Self, Failure> {
        let images = raw
            .fitted(how, DEFAULT_CACHE_BYTES)
            .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
        Ok(Self { split, raw, images })
    }

    /// The recorded split, when these are the images that the model was trained with; `None` when they are others. Those that were
    /// not named must be: they are said to be.
    fn recorded(
        bundle: &DataBundle,
        recorded: &DataRecord,
        how: &Preprocessing,
        split: Option<Part>,
        named: bool,
        terminal: &Terminal,
    ) -> Result<Option<Self>, Failure> {
        let prints = &recorded.fingerprints;
        let splits = match bundle.split(&SplitRecord::options(&recorded.split)) {
            _ if bundle.only.is_some() => None,
            Ok((train, val, test)) => Some([Some(train), Some(val), test]),
            Err(PrepareError::Split(_)) => None,
            Err(error) => return Err(Failure::of(Exit::Failed, &error).with_hint(error.hint())),
        };
        let counts = |splits: &[Option<Subset>; 3]| {
            NAMES.iter().zip(splits).all(|(name, split)| {
                let images = split.as_ref().map_or(0, Subset::len) as u64;
                images == prints.get(*name).map_or(0, |print| print.count)
            })
        };
        let Some(splits) = splits.filter(counts) else {
            if named {
                return Ok(None);
            }
            let (found, trained) = (
                sets(bundle).map(|set| set.len() as u64).sum(),
                prints.values().map(|print| print.count).sum::<u64>(),
            );
            let message = format!(
                "the images of {} are not those the model was trained with: {} are there, {trained} were",
                bundle.name,
                count(found, "image"),
            );
            let hint = format!(
                "to measure on what is there now: --data {}",
                shell_word(&recorded.source)
            );
            return Err(Failure::new(Exit::Failed, message).with_hint(hint));
        };
        let split = split.unwrap_or(if splits[2].is_some() {
            Part::Test
        } else {
            Part::Val
        });
        let raw = part(split, splits.clone()).ok_or_else(|| none(bundle, split))?;
        let picked = Self::new(split, raw, how)?;
        // That all is as it was shows in the part that is measured, or in val of all.
        let (name, shown) = match split {
            Part::All => (
                "val",
                part(Part::Val, splits).ok_or_else(|| none(bundle, split))?,
            ),
            _ => (split.name(), picked.raw.clone()),
        };
        let shown = match split {
            Part::All => Self::new(Part::Val, shown, how)?.images,
            _ => picked.images.clone(),
        };
        let found = Fingerprint::of(&shown)
            .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
        if let Some(expected) = prints.get(name).filter(|expected| **expected != found) {
            if named {
                return Ok(None);
            }
            terminal.note(&format!(
                "the {name} images of {} changed since the training: {found}, recorded were {expected}",
                bundle.name
            ));
        }
        Ok(Some(picked))
    }

    /// Images that were not trained on: the split that was asked for, or their own test split, or all of them.
    fn whole(
        bundle: &DataBundle,
        how: &Preprocessing,
        split: Option<Part>,
    ) -> Result<Self, Failure> {
        let splits = bundle.own_splits();
        let split = split.unwrap_or(if splits[2].is_some() {
            Part::Test
        } else {
            Part::All
        });
        let raw = part(split, splits).ok_or_else(|| none(bundle, split))?;
        Self::new(split, raw, how)
    }
}

const NAMES: [&str; 3] = ["train", "val", "test"];

fn part(split: Part, [train, val, test]: [Option<Subset>; 3]) -> Option<Subset> {
    let part = match split {
        Part::Train => train,
        Part::Val => val,
        Part::Test => test,
        Part::All => Joined::all([train, val, test].into_iter().flatten()),
    };
    part.filter(|images| !images.is_empty())
}

fn none(bundle: &DataBundle, split: Part) -> Failure {
    let message = format!("{} has no {} split of its own", bundle.name, split.name());
    Failure::new(Exit::Failed, message).with_hint("--split all measures all of it".to_owned())
}

fn sets(bundle: &DataBundle) -> impl Iterator<Item = &std::sync::Arc<dyn keepbest_data::Dataset>> {
    [
        Some(&bundle.train),
        bundle.val.as_ref(),
        bundle.test.as_ref(),
    ]
    .into_iter()
    .flatten()
}

/// From an image to the network's input: by the recorded rules, and else by those that training would have recorded.
fn preprocessing(model: &Model, strict: bool) -> Preprocessing {
    let recorded = model.preprocessing.clone();
    if strict {
        recorded
    } else {
        recorded.converting()
    }
}

/// The images that no recorded rule brings to the model's shape.
fn converted(bundle: &DataBundle, recorded: &Preprocessing) -> Option<Converted> {
    let mut found: Option<Converted> = None;
    for set in sets(bundle) {
        for index in 0..set.len() {
            let Some(shape) = set.image_shape(index) else {
                continue;
            };
            let differs = recorded.unrecorded(shape);
            if differs.any() {
                let found = found.get_or_insert_with(|| Converted {
                    count: 0,
                    first: (set.source(index), shape),
                    differ: Unrecorded::default(),
                });
                found.count += 1;
                found.differ.size |= differs.size;
                found.differ.channels |= differs.channels;
            }
        }
    }
    found
}

/// How many of the images the model, or one it comes from, had seen; `None` where that is not recorded or goes without saying.
fn seen(model: &Model, picked: &Picked, own: bool) -> Result<Option<SeenBefore>, Failure> {
    let seen = model.provenance.as_ref().and_then(|of| of.seen.as_ref());
    // That a model was trained on its own train split goes without saying.
    let Some(seen) = seen.filter(|_| !own || picked.split != Part::Train) else {
        return Ok(None);
    };
    let digests = picked
        .images
        .digests()
        .map_err(|error| Failure::of(Exit::Failed, &error).with_hint(error.hint()))?;
    let mut found = seen.among(picked.split.name(), &digests);
    if own && picked.split == Part::Val {
        // The best was chosen by them: that is what val is.
        found.chosen = 0;
    }
    Ok(Some(found))
}

/// Scores that are no numbers are no measurement.
pub fn check_finite(model: &Model, measured: &Measured, images: &Subset) -> Result<(), Failure> {
    let bad = measured.report.non_finite();
    if bad == 0 {
        return Ok(());
    }
    let outcomes = measured.outcomes.as_ref();
    let first = outcomes.and_then(|outcomes| outcomes.decided().position(|of| of.is_none()));
    let such = first.map_or_else(String::new, |first| {
        format!(", such as {}", images.source(first))
    });
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{} cannot be measured: its scores of {bad} of {} are not finite{such}",
            model.path.display(),
            count(images.len() as u64, "image"),
        ),
    ))
}

/// The metrics that need images of every class.
const OF_ALL_CLASSES: [&str; 2] = ["roc_auc_ovr", "average_precision"];

/// Takes out what has no meaning where classes have no images; tells whether there was any.
pub fn leave_out_meaningless(
    measured: &Measured,
    metrics: &mut Metrics,
    intervals: &mut BTreeMap<String, Interval>,
) -> Option<String> {
    if measured.report.classes().iter().all(|of| of.support > 0) {
        return None;
    }
    let meaningless = |name: &str| {
        let bare = name.rsplit('/').next().unwrap_or(name);
        OF_ALL_CLASSES.contains(&bare)
    };
    *metrics = metrics
        .iter()
        .filter(|(name, _)| !meaningless(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    intervals.retain(|name, _| !meaningless(name));
    Some(format!(
        "{} need images of every class and are left out",
        OF_ALL_CLASSES.join(" and ")
    ))
}
