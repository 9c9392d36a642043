//! From a fitted `u8` image to the network's `f32` input, by table.

use crate::{Image, Preprocessing, PreprocessingError};

/// A [`Preprocessing`] with its 256 possible values of each channel computed once.
#[derive(Debug, Clone)]
pub struct Normaliser {
    preprocessing: Preprocessing,
    /// `[channel][pixel value]`.
    table: Vec<[f32; 256]>,
}

impl Normaliser {
    /// Computes the tables.
    ///
    /// # Errors
    /// When a field of `preprocessing` makes no sense.
    pub fn new(preprocessing: &Preprocessing) -> Result<Self, PreprocessingError> {
        preprocessing.validate()?;
        let channels = preprocessing.mean.iter().zip(&preprocessing.std);
        let table = channels
            .map(|(mean, std)| {
                std::array::from_fn(|pixel| (pixel as f32 / preprocessing.divide_by - mean) / std)
            })
            .collect();
        Ok(Self {
            preprocessing: preprocessing.clone(),
            table,
        })
    }

    /// What this was made from.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// As [`Preprocessing::apply`], without computing the tables again.
    ///
    /// # Errors
    /// When the image or `out` does not fit.
    pub fn apply(&self, image: &Image, out: &mut [f32]) -> Result<(), PreprocessingError> {
        let input = self.preprocessing.input;
        if out.len() != input.size() {
            return Err(PreprocessingError::OutputLength {
                expected: input.size(),
                found: out.len(),
            });
        }
        let fitted = self.preprocessing.fit(image)?;
        self.normalise(&fitted, out);
        Ok(())
    }

    /// An image of the model's shape, as the network takes it.
    pub(crate) fn normalise(&self, fitted: &Image, out: &mut [f32]) {
        let channels = self.preprocessing.input.channels;
        let pixels = fitted.pixels().chunks_exact(channels);
        for (out, pixel) in out.chunks_exact_mut(channels).zip(pixels) {
            for ((out, &value), table) in out.iter_mut().zip(pixel).zip(&self.table) {
                *out = table[usize::from(value)];
            }
        }
    }
}
