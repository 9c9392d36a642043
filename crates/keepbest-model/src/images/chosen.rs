//! Which images a model is measured on, what part of them counts, and what has to be said of them: one rule for evaluating and
//! comparing (docs/guide.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use keepbest_core::Metrics;
use keepbest_core::statistics::Interval;
use keepbest_data::{DataBundle, ImageShape, Preprocessing, Subset, Unrecorded};
use serde::Serialize;

use super::choice::{ImageChoice, Part};
use super::measure::{MeasureError, MeasureOptions, check_scores, matched, measure, open};
use super::picked::{Picked, sets};
use crate::evaluate::Measured;
use crate::model::Model;
use crate::seen::SeenBefore;
use crate::watch::Watch;
use crate::words::count;

/// What programs have to know of the images that were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImagesUsed {
    /// Whether they are the images that the model was trained with.
    pub own_data: bool,
    /// What the reader of the data has to say, such as files that were left out.
    pub notes: Vec<String>,
    /// The model's classes that have no images.
    pub missing_classes: Vec<String>,
    /// Classes that the model does not know, with how many images were left out.
    pub left_out: BTreeMap<String, usize>,
    /// The number that are unlike all that the model has seen.
    pub converted: usize,
    /// The number that the model, or one it comes from, had seen; none where that is not recorded or goes without saying.
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
    /// The changes of the images since the training, where they did.
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
        // What the reader of the data has to say was said of the first model.
        let mut bundle = self.bundle.clone();
        bundle.notes.clear();
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
            bundle,
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

    /// The number of images that are measured.
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
    #[must_use]
    pub fn used(&self) -> ImagesUsed {
        ImagesUsed {
            own_data: self.own,
            notes: self.bundle.notes.clone(),
            missing_classes: self.missing.clone(),
            left_out: self.left_out.iter().cloned().collect(),
            converted: self.converted.as_ref().map_or(0, |found| found.count),
            seen_before: self.seen.clone(),
        }
    }

    /// The changes of the images since the training, in words, where they did.
    #[must_use]
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }
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

/// The number of images that the model, or one it comes from, had seen; `None` where that is not recorded or goes without saying.
fn seen(model: &Model, picked: &Picked, own: bool) -> Result<Option<SeenBefore>, MeasureError> {
    let seen = model.seen();
    // That a model was trained on its own train split goes without saying.
    let Some(seen) = seen.filter(|_| !own || picked.split != Part::Train) else {
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
