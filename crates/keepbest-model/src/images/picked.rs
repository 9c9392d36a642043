//! What part of the data counts: the recorded split where these are the images of the training, and else what was not trained on.

use keepbest_data::{
    DEFAULT_CACHE_BYTES, DataBundle, Fingerprint, Joined, PrepareError, Preprocessing, Subset,
};

use super::choice::Part;
use super::measure::MeasureError;
use crate::provenance::{DataRecord, SplitRecord};

/// Which images count.
pub(super) struct Picked {
    pub split: Part,
    /// As they are read.
    pub raw: Subset,
    /// As the model takes them.
    pub images: Subset,
    /// The changes since the training, in words.
    pub changed: Option<String>,
}

impl Picked {
    pub(super) fn new(split: Part, raw: Subset, how: &Preprocessing) -> Result<Self, MeasureError> {
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
    pub(super) fn recorded(
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
    pub(super) fn whole(
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

/// The sets that the data has of its own.
pub(super) fn sets(
    bundle: &DataBundle,
) -> impl Iterator<Item = &std::sync::Arc<dyn keepbest_data::Dataset>> {
    [
        Some(&bundle.train),
        bundle.val.as_ref(),
        bundle.test.as_ref(),
    ]
    .into_iter()
    .flatten()
}
