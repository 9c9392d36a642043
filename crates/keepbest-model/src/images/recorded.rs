//! The images of a model's training, split as they were.

use keepbest_data::{Joined, PrepareOptions, Prepared, Subset};

use super::changed::ChangedSplit;
use super::choice::{ImageSource, Part};
use super::measure::{MeasureError, MeasureOptions, matched, measure, open};
use crate::evaluate::Measured;
use crate::model::Model;
use crate::provenance::SplitRecord;
use crate::watch::Watch;

/// A model with the images of its training, split as recorded.
#[derive(Debug)]
pub struct RecordedImages<'m> {
    /// The model.
    pub model: &'m Model,
    /// The images, ready for it.
    pub data: Prepared,
}

impl<'m> RecordedImages<'m> {
    /// Prepares the images; `given` says where they lie now. Of a model that does not record its images, those that were
    /// named: val is theirs, or all there are.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn open(
        model: &'m Model,
        given: &ImageSource,
        watch: Watch<'_>,
    ) -> Result<Self, MeasureError> {
        let bundle = matched(model, &open(model, given, watch)?, Some(Part::All), false)?.bundle;
        let recorded = model.provenance.as_ref().map(|provenance| &provenance.data);
        let preprocessing = model.preprocessing.clone().converting();
        let data = match recorded {
            Some(recorded) => {
                bundle.prepare_with(&SplitRecord::options(&recorded.split), preprocessing)?
            }
            None => {
                let options = PrepareOptions::default();
                let mut data = bundle.prepare_undrawn(&options, preprocessing)?;
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
    ///
    /// # Errors
    /// [`MeasureError::NoSplit`].
    pub fn split(&self, split: &str) -> Result<&Subset, MeasureError> {
        self.data.split(split).ok_or_else(|| MeasureError::NoSplit {
            data: self.data.name.clone(),
            split: split.to_owned(),
        })
    }

    /// The first of the splits whose images are not those recorded.
    ///
    /// # Errors
    /// [`MeasureError`] when images cannot be read.
    pub fn changed_split(
        &self,
        splits: &[&'static str],
    ) -> Result<Option<ChangedSplit>, MeasureError> {
        let recorded = self
            .model
            .provenance
            .as_ref()
            .map(|provenance| &provenance.data.fingerprints);
        for &name in splits {
            let Some(expected) = recorded.and_then(|recorded| recorded.get(name)) else {
                continue;
            };
            let found = self.data.fingerprint(self.split(name)?)?;
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

    /// Checks that the images of the splits are those recorded; `why` they have to be, in words.
    ///
    /// # Errors
    /// [`MeasureError::Changed`], and others when images cannot be read.
    pub fn check_splits(
        &self,
        splits: &[&'static str],
        why: &'static str,
    ) -> Result<(), MeasureError> {
        match self.changed_split(splits)? {
            None => Ok(()),
            Some(changed) => Err(MeasureError::Changed {
                changed: Box::new(changed),
                why,
            }),
        }
    }

    /// Measures the model on a split, as [`measure`] does.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn measure(
        &self,
        split: &str,
        options: MeasureOptions,
        watch: Watch<'_>,
    ) -> Result<Measured, MeasureError> {
        measure(self.model, self.split(split)?, options, watch)
    }
}
