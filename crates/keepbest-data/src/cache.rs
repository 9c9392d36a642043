//! A data set whose images are decoded and fitted once, within a memory budget.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::{DataError, Dataset, Image, ImageShape, Preprocessing, PreprocessingError};

/// The default budget for decoded images: 1 GiB (some 7,000 images of 224x224x3, or 350,000 of 32x32x3).
pub const DEFAULT_CACHE_BYTES: u64 = 1 << 30;

/// What one cached image takes beside its pixels: its slot and the allocator's and the reference count's bookkeeping.
const OVERHEAD: u64 = 96;

/// Bytes left for decoded images; clones share them, so several sets can live off one budget.
#[derive(Debug, Clone)]
pub struct CacheBudget(Arc<AtomicU64>);

impl CacheBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Bytes not used yet.
    pub fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .is_ok()
    }
}

/// Wraps a data set: images come out fitted (channel and resize rule applied, still `u8`), and stay in memory while the
/// budget lasts. What does not fit into it is decoded again each time. The images are the same either way.
pub struct Cached {
    inner: Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    slots: Vec<OnceLock<Image>>,
    /// The digests of the images as they were read, known once they were.
    digests: Vec<OnceLock<u64>>,
    budget: CacheBudget,
}

impl Cached {
    /// Wraps `inner`; of `preprocessing` only input shape, resize rule and channel rule matter.
    ///
    /// # Errors
    /// When `preprocessing` makes no sense.
    pub fn new(
        inner: Arc<dyn Dataset>,
        preprocessing: &Preprocessing,
        budget: CacheBudget,
    ) -> Result<Self, PreprocessingError> {
        preprocessing.validate()?;
        let slots = (0..inner.len()).map(|_| OnceLock::new()).collect();
        let digests = (0..inner.len()).map(|_| OnceLock::new()).collect();
        Ok(Self {
            inner,
            preprocessing: preprocessing.clone(),
            slots,
            digests,
            budget,
        })
    }

    /// The number of images that are in memory now.
    pub fn cached(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.get().is_some())
            .count()
    }
}

impl Dataset for Cached {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.inner.label(index)
    }

    /// The fitted image. One that does not fit is handed out as it is, so that whoever normalises it reports it.
    fn image(&self, index: usize) -> Result<Image, DataError> {
        if let Some(image) = self.slots.get(index).and_then(OnceLock::get) {
            return Ok(image.clone());
        }
        let image = self.inner.image(index)?;
        if let Some(digest) = self.digests.get(index) {
            digest.get_or_init(|| image.digest());
        }
        if self.preprocessing.shorter_side.is_some() {
            // A fitted image would be resized and cut from once more by whoever normalises it.
            return Ok(image);
        }
        let Ok(fitted) = self.preprocessing.fit(&image) else {
            return Ok(image);
        };
        if let Some(slot) = self.slots.get(index)
            && self.budget.take(fitted.pixels().len() as u64 + OVERHEAD)
        {
            // Two threads at once: both have the same image, one of them is kept.
            let _ = slot.set(fitted.clone());
        }
        Ok(fitted)
    }

    fn shape(&self) -> Option<ImageShape> {
        match self.preprocessing.shorter_side {
            Some(_) => self.inner.shape(),
            None => Some(self.preprocessing.input),
        }
    }

    fn digest(&self, index: usize) -> Result<u64, DataError> {
        match self.digests.get(index).and_then(OnceLock::get) {
            Some(digest) => Ok(*digest),
            None => self.inner.digest(index),
        }
    }

    fn source(&self, index: usize) -> String {
        self.inner.source(index)
    }
}
