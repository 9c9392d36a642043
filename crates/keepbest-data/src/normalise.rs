//! From a fitted `u8` image to the network's `f32` input, by table.

use crate::augment::Placement;
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
        self.apply_placed(image, Placement::default(), out)
    }

    /// Fits the image, moves and flips it, and normalises it into `out`.
    pub(crate) fn apply_placed(
        &self,
        image: &Image,
        placement: Placement,
        out: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        let input = self.preprocessing.input;
        if out.len() != input.size() {
            return Err(PreprocessingError::OutputLength {
                expected: input.size(),
                found: out.len(),
            });
        }
        let fitted = self.preprocessing.fit(image)?;
        let pixels = fitted.pixels();
        let channels = input.channels;
        if placement == Placement::default() {
            for (out, pixel) in out
                .chunks_exact_mut(channels)
                .zip(pixels.chunks_exact(channels))
            {
                for ((out, &value), table) in out.iter_mut().zip(pixel).zip(&self.table) {
                    *out = table[usize::from(value)];
                }
            }
            return Ok(());
        }
        let stride = input.width * channels;
        for (y, out_row) in out.chunks_exact_mut(stride).enumerate() {
            let row = placement
                .row(y, input.height)
                .map(|row| &pixels[row * stride..(row + 1) * stride]);
            for (x, out) in out_row.chunks_exact_mut(channels).enumerate() {
                // Outside the image: pixel value 0, before normalisation, as torchvision's padding.
                let pixel = row.zip(placement.column(x, input.width));
                for (channel, (out, table)) in out.iter_mut().zip(&self.table).enumerate() {
                    *out =
                        table[pixel.map_or(0, |(row, x)| usize::from(row[x * channels + channel]))];
                }
            }
        }
        Ok(())
    }
}
