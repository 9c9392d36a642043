//! Which images a model is measured on, what part of them counts, and what has to be said of them: one rule for evaluating and
//! comparing (docs/guide.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use keepbest_core::Metrics;
use keepbest_core::statistics::Interval;
use keepbest_data::{
    DEFAULT_CACHE_BYTES, DataBundle, Fingerprint, ImageShape, Joined, PrepareError, Preprocessing,
    Subset, Unrecorded,
};
use serde::Serialize;

use super::{ImageSource, MeasureError, MeasureOptions, check_scores, matched, measure, open};
use crate::evaluate::Measured;
use crate::model::Model;
use crate::provenance::{DataRecord, SplitRecord};
use crate::seen::SeenBefore;
use crate::watch::Watch;
use crate::words::count;

/// A part of the data, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was trained on.
    Train,
    /// What the best was chosen on.
    Val,
    /// What nothing was chosen on.
    Test,
    /// All of it.
    All,
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
            Self::All => "all",
        }
    }
}

/// Which images to measure on.
#[derive(Debug, Clone, Default)]
pub struct ImageChoice {
    /// Where they lie; by default those of the training.
    pub source: ImageSource,
    /// Which part of them. By default test where the data has one, and else val of the data the model was trained on and all of any
    /// other.
    pub split: Option<Part>,
    /// Whether images of classes that the model does not know are left out.
    pub skip_extra_classes: bool,
    /// Whether images of a size or kind that the model has not seen are refused instead of converted.
    pub strict: bool,
}

/// What programs have to know of the images that were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImagesUsed {
    /// Whether they are the images that the model was trained with.
    pub own_data: bool,
    /// The model's classes that have no images.
    pub missing_classes: Vec<String>,
    /// Classes that the model does not know, with how many images were left out.
    pub left_out: BTreeMap<String, usize>,
    /// How many are unlike all that the model has seen.
    pub converted: usize,
    /// How many the model, or one it comes from, had seen; none where that is not recorded or goes without saying.
    pub seen_before: Option<SeenBefore>,
}

/// Why two models cannot be measured on the same images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SameImagesError {
    /// They tell other classes apart.
    #[error(
        "{} and {} tell other classes apart: {}, {}",
        first.0.display(), second.0.display(), first.1.join(", "), second.1.join(", ")
    )]
    Classes {
        /// The first model and its classes.
        first: (PathBuf, Vec<String>),
        /// The other model and its classes.
        second: (PathBuf, Vec<String>),
    },
    /// One was trained on what the other is measured on.
    #[error(
        "the {} images of {second} are not those of {first}: it was trained on another split of {data}",
        split.name(), first = first.display(), second = second.display()
    )]
    OtherSplit {
        /// The first model.
        first: PathBuf,
        /// The other model.
        second: PathBuf,
        /// The split to measure on.
        split: Part,
        /// The data's name.
        data: String,
        /// Whether the data has a test split of its own.
        fixed_test: bool,
    },
    /// The images cannot be had.
    #[error(transparent)]
    Measure(#[from] MeasureError),
}

impl SameImagesError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Classes { .. } => None,
            Self::OtherSplit {
                split, fixed_test, ..
            } => Some(
                if *split != Part::Test && *fixed_test {
                    "models can only be compared on the same images: try `--split test`, which no seed changes"
                } else {
                    "models can only be compared on images that none was trained on: name some with --data"
                }
                .into(),
            ),
            Self::Measure(error) => error.hint(),
        }
    }
}

/// A model with the images it is measured on.
#[derive(Debug)]
pub struct ChosenImages<'m> {
    /// The model.
    pub model: &'m Model,
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
    /// How the images changed since the training, where they did.
    changed: Option<String>,
}

/// Images that are unlike all that the model has seen.
#[derive(Debug)]
struct Converted {
    count: usize,
    first: (String, ImageShape),
    differ: Unrecorded,
}

impl<'m> ChosenImages<'m> {
    /// Opens the images that were named, or those of the training, and picks what counts: the recorded split where they are the
    /// recorded images; of any others their own test split, or all of them.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn open(
        model: &'m Model,
        choice: &ImageChoice,
        watch: Watch<'_>,
    ) -> Result<Self, MeasureError> {
        let bundle = open(model, &choice.source, watch)?;
        let found = matched(model, &bundle, choice.skip_extra_classes)?;
        let bundle = found.bundle;
        let recorded = model.provenance.as_ref().map(|of| &of.data);
        let how = preprocessing(model, choice.strict);
        let picked = match recorded {
            Some(recorded) => {
                let named = choice.source.data.is_some();
                Picked::recorded(&bundle, recorded, &how, choice.split, named)?
            }
            None => None,
        };
        let own = picked.is_some();
        let picked = match picked {
            Some(picked) => picked,
            None => Picked::whole(&bundle, &how, choice.split)?,
        };
        Ok(Self {
            seen: seen(model, &picked, own)?,
            converted: converted(&bundle, &model.preprocessing),
            split: picked.split,
            own,
            changed: picked.changed,
            raw: picked.raw,
            images: picked.images,
            missing: found.missing,
            left_out: found.left_out,
            bundle,
            model,
        })
    }

    /// Another model on the same images, as long as it was not trained on the same data split in another way.
    ///
    /// # Errors
    /// [`SameImagesError`].
    pub fn with<'n>(
        &self,
        model: &'n Model,
        choice: &ImageChoice,
    ) -> Result<ChosenImages<'n>, SameImagesError> {
        if model.names_its_classes()
            && self.model.names_its_classes()
            && model.classes != self.model.classes
        {
            return Err(SameImagesError::Classes {
                first: (self.model.path.clone(), self.model.classes.clone()),
                second: (model.path.clone(), model.classes.clone()),
            });
        }
        let how = preprocessing(model, choice.strict);
        let recorded = model.provenance.as_ref().map(|of| &of.data);
        let its_own = match recorded {
            Some(recorded) => {
                let split = Some(self.split);
                Picked::recorded(&self.bundle, recorded, &how, split, true)?
            }
            None => None,
        };
        let own = its_own.is_some();
        let picked = match its_own {
            Some(its_own) => {
                self.check_same(model, &its_own)?;
                its_own
            }
            None => Picked::new(self.split, self.raw.clone(), &how)?,
        };
        Ok(ChosenImages {
            seen: seen(model, &picked, own)?,
            converted: converted(&self.bundle, &model.preprocessing),
            split: picked.split,
            own,
            changed: picked.changed,
            raw: picked.raw,
            images: picked.images,
            missing: self.missing.clone(),
            left_out: self.left_out.clone(),
            bundle: self.bundle.clone(),
            model,
        })
    }

    fn check_same(&self, model: &Model, other: &Picked) -> Result<(), SameImagesError> {
        let digests = |images: &Subset| images.digests().map_err(MeasureError::from);
        if digests(&self.images)? == digests(&other.images)? {
            return Ok(());
        }
        Err(SameImagesError::OtherSplit {
            first: self.model.path.clone(),
            second: model.path.clone(),
            split: self.split,
            data: self.bundle.name.clone(),
            fixed_test: self.bundle.test.is_some(),
        })
    }

    /// Measures the model; scores that are no numbers are an error that names the first image with one.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn measure(
        &self,
        options: MeasureOptions,
        watch: Watch<'_>,
    ) -> Result<Measured, MeasureError> {
        let options = MeasureOptions {
            keep_outcomes: true,
            ..options
        };
        let measured = measure(self.model, &self.images, options, watch)?;
        check_scores(self.model, &measured, &self.images)?;
        Ok(measured)
    }

    /// How many images are measured.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there are none to measure.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// The data's name.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.bundle.name
    }

    /// The classes in the order of the labels.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.bundle.classes()
    }

    /// `the test split of photos` or `all of photos`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.split {
            Part::All => format!("all of {}", self.data()),
            split => format!("the {} split of {}", split.name(), self.data()),
        }
    }

    /// What the reader of the figures has to know, a line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
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
    #[must_use]
    pub fn used(&self) -> ImagesUsed {
        ImagesUsed {
            own_data: self.own,
            missing_classes: self.missing.clone(),
            left_out: self.left_out.iter().cloned().collect(),
            converted: self.converted.as_ref().map_or(0, |found| found.count),
            seen_before: self.seen.clone(),
        }
    }

    /// How the images changed since the training, in words, where they did.
    #[must_use]
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }
}

/// Which images count.
struct Picked {
    split: Part,
    raw: Subset,
    images: Subset,
    changed: Option<String>,
}

impl Picked {
    fn new(split: Part, raw: Subset, how: &Preprocessing) -> Result<Self, MeasureError> {
        let images = raw.fitted(how, DEFAULT_CACHE_BYTES)?;
        Ok(Self {
            split,
            raw,
            images,
            changed: None,
        })
    }

    /// The recorded split, when these are the images that the model was trained with; `None` when they are others. Those that were
    /// not named must be: they are said to be.
    fn recorded(
        bundle: &DataBundle,
        recorded: &DataRecord,
        how: &Preprocessing,
        split: Option<Part>,
        named: bool,
    ) -> Result<Option<Self>, MeasureError> {
        let prints = &recorded.fingerprints;
        let splits = match bundle.split(&SplitRecord::options(&recorded.split)) {
            _ if bundle.only.is_some() => None,
            Ok((train, val, test)) => Some([Some(train), Some(val), test]),
            Err(PrepareError::Split(_)) => None,
            Err(error) => return Err(error.into()),
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
            return Err(MeasureError::OtherImages {
                data: bundle.name.clone(),
                source_name: recorded.source.clone(),
                found: sets(bundle).map(|set| set.len() as u64).sum(),
                recorded: prints.values().map(|print| print.count).sum(),
            });
        };
        let split = split.unwrap_or(if splits[2].is_some() {
            Part::Test
        } else {
            Part::Val
        });
        let raw = part(split, splits.clone()).ok_or_else(|| none(bundle, split))?;
        let mut picked = Self::new(split, raw, how)?;
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
        let found = Fingerprint::of(&shown)?;
        if let Some(expected) = prints.get(name).filter(|expected| **expected != found) {
            if named {
                return Ok(None);
            }
            picked.changed = Some(format!(
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
    ) -> Result<Self, MeasureError> {
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

fn none(bundle: &DataBundle, split: Part) -> MeasureError {
    MeasureError::NoOwnSplit {
        data: bundle.name.clone(),
        split,
    }
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
fn seen(model: &Model, picked: &Picked, own: bool) -> Result<Option<SeenBefore>, MeasureError> {
    let seen = model.seen();
    let Some(seen) = seen.filter(|_| !own || matches!(picked.split, Part::Val | Part::Test)) else {
        return Ok(None);
    };
    let digests = picked.images.digests()?;
    let mut found = seen.among(picked.split.name(), &digests);
    if own && picked.split == Part::Val {
        // The best was chosen by them: that is what val is.
        found.chosen = 0;
    }
    Ok(Some(found))
}

/// The metrics that need images of every class.
const OF_ALL_CLASSES: [&str; 2] = ["roc_auc_ovr", "average_precision"];

/// Takes out what has no meaning where classes have no images; tells whether there was any.
pub(crate) fn leave_out_meaningless(
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
