//! From a bundle to what a run needs: split, preprocessing, cache.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::shapes::Shapes;
use crate::split::{ThreeParts, class_notes, stratified, stratified_three};
use crate::{
    CacheBudget, Cached, ChannelRule, DEFAULT_CACHE_BYTES, DataBundle, DataError, Dataset,
    Fingerprint, ImageShape, PrepareError, Preprocessing, ResizeRule, Subset, Watch,
};

/// The settings of splits and preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrepareOptions {
    /// Share of the images that becomes the validation set, where the source has none of its own.
    pub val_fraction: f64,
    /// Share of the images that becomes the test set, where the source has none of its own; 0: no test set.
    pub test_fraction: f64,
    /// Seed of the split.
    pub seed: u64,
    /// Height and width to train at. Without it the images' own; where they differ, the size that more than half of them
    /// have, or else a square of the median of their shorter sides (a multiple of 4, up to 64).
    pub image_size: Option<(usize, usize)>,
    /// Channels to train with, 1 or 3. Without it the images' own, or 3 where both occur in a folder.
    pub channels: Option<usize>,
    /// The rule by which images are brought to `image_size`; without it, [`ResizeRule::Crop`] where some are of another size.
    pub resize: Option<ResizeRule>,
    /// Memory for decoded images, in bytes, shared by all splits.
    pub cache_bytes: u64,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            val_fraction: 0.1,
            test_fraction: 0.1,
            seed: 0,
            image_size: None,
            channels: None,
            resize: None,
            cache_bytes: DEFAULT_CACHE_BYTES,
        }
    }
}

/// Ready to train on: the images come out of `train`, `val` and `test` in the model's shape (still `u8`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Prepared {
    /// The source's name.
    pub name: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The training set.
    pub train: Subset,
    /// The validation set: what selection uses.
    pub val: Subset,
    /// The test set; touched once, by the best.
    pub test: Option<Subset>,
    /// The way from an image to the network's input; goes into the model file.
    pub preprocessing: Preprocessing,
    /// Notes for the user.
    pub notes: Vec<String>,
}

impl Subset {
    /// The same images in a model's shape, kept in memory up to `cache_bytes`. Those whose shape is known are checked.
    ///
    /// # Errors
    /// When the preprocessing makes no sense, or an image does not fit it.
    pub fn fitted(
        &self,
        preprocessing: &Preprocessing,
        cache_bytes: u64,
    ) -> Result<Self, PrepareError> {
        preprocessing.validate()?;
        let budget = CacheBudget::new(cache_bytes);
        let outer = fitted(self.dataset().clone(), preprocessing, &budget)?;
        Ok(Self::new(outer, self.indices().to_vec())?)
    }
}

impl Prepared {
    /// The split of that name: `train`, `val` or `test`; `None` when there is no such split.
    pub fn split(&self, name: &str) -> Option<&Subset> {
        match name {
            "train" => Some(&self.train),
            "val" => Some(&self.val),
            "test" => self.test.as_ref(),
            _ => None,
        }
    }

    /// The identity of a split; reads every image once.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn fingerprint(&self, split: &Subset) -> Result<Fingerprint, DataError> {
        Fingerprint::of(split)
    }
}

impl DataBundle {
    /// Splits, decides the model's input shape, checks every image whose shape is known against it, and computes the
    /// normalisation on the training images (which decodes them, into the cache while the budget lasts).
    ///
    /// # Errors
    /// When the split is not possible or an image cannot be read.
    pub fn prepare(&self, options: &PrepareOptions) -> Result<Prepared, PrepareError> {
        self.prepare_watched(options, Watch::none())
    }

    /// As [`prepare`](Self::prepare), watched.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare); and [`DataError::Interrupted`] when told to stop.
    pub fn prepare_watched(
        &self,
        options: &PrepareOptions,
        watch: Watch<'_>,
    ) -> Result<Prepared, PrepareError> {
        let (preprocessing, note) = self.infer_preprocessing(options)?;
        let mut prepared = self.prepare_with(options, preprocessing)?;
        prepared.notes.extend(note);
        prepared.preprocessing = prepared
            .preprocessing
            .computed_watched(&prepared.train, watch)?;
        Ok(prepared)
    }

    /// As [`prepare`](Self::prepare), with the recorded preprocessing of a model, for evaluating or training it further.
    /// The same split comes out for the same fractions and seed.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare); also when an image does not fit the preprocessing.
    pub fn prepare_with(
        &self,
        options: &PrepareOptions,
        preprocessing: Preprocessing,
    ) -> Result<Prepared, PrepareError> {
        let splits = self.split(options)?;
        self.wrapped(splits, preprocessing, options.cache_bytes)
    }

    /// As [`prepare_with`](Self::prepare_with), with nothing drawn: to measure on images that were not trained on. `train` is the
    /// source's own training set, which is all there is of a plain folder; a split that the source has not is empty.
    ///
    /// # Errors
    /// When an image cannot be read or does not fit the preprocessing.
    pub fn prepare_undrawn(
        &self,
        options: &PrepareOptions,
        preprocessing: Preprocessing,
    ) -> Result<Prepared, PrepareError> {
        let [train, val, test] = self.own_splits();
        let none = Subset::new(self.train.clone(), Vec::new())?;
        let splits = (train.unwrap_or(none.clone()), val.unwrap_or(none), test);
        self.wrapped(splits, preprocessing, options.cache_bytes)
    }

    /// These splits with their images in the model's shape.
    fn wrapped(
        &self,
        (train, val, test): (Subset, Subset, Option<Subset>),
        preprocessing: Preprocessing,
        cache_bytes: u64,
    ) -> Result<Prepared, PrepareError> {
        preprocessing.validate()?;
        let parts = [
            ("train", Some(&train)),
            ("val", Some(&val)),
            ("test", test.as_ref()),
        ];
        let notes = self.notes.iter().cloned();
        let notes = notes.chain(class_notes(self.classes(), &parts)).collect();
        let budget = CacheBudget::new(cache_bytes);
        let mut wrapped: Vec<(Arc<dyn Dataset>, Arc<dyn Dataset>)> = Vec::new();
        // Splits of one set share one cache.
        let mut wrap = |subset: Subset| -> Result<Subset, PrepareError> {
            let inner = subset.dataset().clone();
            let outer = match wrapped.iter().find(|(known, _)| Arc::ptr_eq(known, &inner)) {
                Some((_, outer)) => outer.clone(),
                None => {
                    let outer = fitted(inner.clone(), &preprocessing, &budget)?;
                    wrapped.push((inner, outer.clone()));
                    outer
                }
            };
            Ok(Subset::new(outer, subset.indices().to_vec())?)
        };
        Ok(Prepared {
            name: self.name.clone(),
            classes: self.classes().to_vec(),
            train: wrap(train)?,
            val: wrap(val)?,
            test: test.map(&mut wrap).transpose()?,
            preprocessing,
            notes,
        })
    }

    /// The sets that the source has of its own: train, val and test.
    pub fn own_splits(&self) -> [Option<Subset>; 3] {
        let own = |set: &Arc<dyn Dataset>| Some(Subset::all(set.clone()));
        let (first, val, test) = (own(&self.train), self.val.as_ref(), self.test.as_ref());
        match self.only {
            Some("test") => [None, val.and_then(own), first],
            Some(_) => [None, first, None],
            None => [first, val.and_then(own), test.and_then(own)],
        }
    }

    /// The split alone: the source's own sets where it has them, else taken out of the training set.
    ///
    /// # Errors
    /// When a fraction makes no sense or a class is too small.
    pub fn split(
        &self,
        options: &PrepareOptions,
    ) -> Result<(Subset, Subset, Option<Subset>), PrepareError> {
        let labels = || Subset::all(self.train.clone()).labels();
        let part = |indices| Subset::new(self.train.clone(), indices);
        let named = |error: crate::SplitError| error.named(self.classes());
        let own = |set: &Arc<dyn Dataset>| Subset::all(set.clone());
        let PrepareOptions {
            val_fraction,
            test_fraction,
            seed,
            ..
        } = *options;
        let splits = match (&self.val, &self.test) {
            (Some(val), Some(test)) => (own(&self.train), own(val), Some(own(test))),
            (Some(val), None) => (own(&self.train), own(val), None),
            (None, Some(test)) => {
                let (train, val) = stratified(&labels(), val_fraction, seed).map_err(named)?;
                (part(train)?, part(val)?, Some(own(test)))
            }
            (None, None) if test_fraction == 0.0 => {
                let (train, val) = stratified(&labels(), val_fraction, seed).map_err(named)?;
                (part(train)?, part(val)?, None)
            }
            (None, None) => {
                let ThreeParts { train, val, test } =
                    stratified_three(&labels(), val_fraction, test_fraction, seed)
                        .map_err(named)?;
                (
                    part(train)?,
                    part(val)?,
                    (!test.is_empty()).then(|| part(test)).transpose()?,
                )
            }
        };
        Ok(splits)
    }

    /// The model's input shape and the rules that bring the images there, no normalisation yet; and how the size was chosen
    /// where it was.
    fn infer_preprocessing(
        &self,
        options: &PrepareOptions,
    ) -> Result<(Preprocessing, Option<String>), PrepareError> {
        let sets = [Some(&self.train), self.val.as_ref(), self.test.as_ref()];
        let shapes = Shapes::of(sets.into_iter().flatten())?;
        let (height, width) = options.image_size.unwrap_or_else(|| shapes.size());
        let resize = options
            .resize
            .unwrap_or(if shapes.are_all((height, width)) {
                ResizeRule::None
            } else {
                ResizeRule::FOR_MIXED_SIZES
            });
        let channels = options
            .channels
            .unwrap_or(if shapes.colour { 3 } else { 1 });
        let channel_rule = match channels {
            3 if shapes.grey => ChannelRule::to(3),
            1 if shapes.colour => ChannelRule::to(1),
            _ => ChannelRule::None,
        };
        let preprocessing = Preprocessing::new(ImageShape::new(height, width, channels))
            .with_resize(resize)
            .with_channels(channel_rule);
        preprocessing.validate()?;
        let chosen = options.image_size.is_none().then(|| shapes.choice());
        Ok((preprocessing, chosen.flatten()))
    }
}

/// `inner` with its images in the model's shape: itself where they are already, else cached.
fn fitted(
    inner: Arc<dyn Dataset>,
    preprocessing: &Preprocessing,
    budget: &CacheBudget,
) -> Result<Arc<dyn Dataset>, PrepareError> {
    let looks = if inner.shape().is_some() {
        inner.len().min(1)
    } else {
        inner.len()
    };
    for index in 0..looks {
        if let Some(shape) = inner.image_shape(index) {
            preprocessing
                .accepts(shape)
                .map_err(|source| PrepareError::Image {
                    origin: inner.source(index),
                    source,
                })?;
        }
    }
    if inner.in_memory() && inner.shape() == Some(preprocessing.input) {
        return Ok(inner);
    }
    Ok(Arc::new(Cached::new(inner, preprocessing, budget.clone())?))
}
