//! Fixed chunks of pixels for reductions over images and pixels: their sizes depend on the shape alone.

use std::ops::Range;

use crate::shape::ActShape;

/// Values a chunk aims at: 64 KiB stay in the second-level cache between two passes.
const TARGET: usize = 16384;

/// The pixels of `n` images, cut into chunks: parts of one image, or several whole small images.
#[derive(Clone, Copy)]
pub(crate) struct PixelChunks {
    n: usize,
    shape: ActShape,
    images: usize,
    parts: usize,
}

impl PixelChunks {
    pub(crate) fn new(n: usize, shape: ActShape) -> PixelChunks {
        let values = shape.values().max(1);
        let (images, parts) = if values >= TARGET {
            (1, values.div_ceil(TARGET).min(shape.pixels()))
        } else {
            // Never more than 512 pixels, so that sums within a chunk keep their precision.
            ((TARGET / values).min(512 / shape.pixels().max(1)).max(1), 1)
        };
        PixelChunks {
            n,
            shape,
            images,
            parts,
        }
    }

    pub(crate) fn count(&self) -> usize {
        if self.parts > 1 {
            self.n * self.parts
        } else {
            self.n.div_ceil(self.images)
        }
    }

    /// Pixels in `chunk`.
    pub(crate) fn pixels(&self, chunk: usize) -> usize {
        self.spans(chunk).map(|span| span.len()).sum::<usize>() / self.shape.c.max(1)
    }

    /// Floats of the longest span.
    pub(crate) fn longest_span(&self) -> usize {
        self.shape.pixels().div_ceil(self.parts) * self.shape.c
    }

    /// The float ranges of `chunk`, each of whole pixels.
    pub(crate) fn spans(&self, chunk: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let shape = self.shape;
        let (images, first, last) = if self.parts > 1 {
            let (image, part) = (chunk / self.parts, chunk % self.parts);
            let pixels = shape.pixels();
            (
                image..image + 1,
                pixels * part / self.parts,
                pixels * (part + 1) / self.parts,
            )
        } else {
            let start = chunk * self.images;
            (start..self.n.min(start + self.images), 0, shape.pixels())
        };
        images.map(move |image| {
            let base = image * shape.image_stride();
            base + first * shape.c..base + last * shape.c
        })
    }
}

/// Panics unless `slice` holds `n` images of `shape` (the gap after the last image may be missing).
#[track_caller]
pub(crate) fn check_activation(name: &str, slice: &[f32], n: usize, shape: ActShape) {
    let needed = activation_len(n, shape);
    assert!(
        slice.len() >= needed,
        "{name}: {} floats, {n} images of {shape:?} need {needed}",
        slice.len()
    );
}

/// Floats from the start of the first of `n` images to the last value of the last.
pub(crate) fn activation_len(n: usize, shape: ActShape) -> usize {
    if n == 0 {
        0
    } else {
        (n - 1)
            .checked_mul(shape.image_stride())
            .expect("activation too large")
            + shape.values()
    }
}

/// Panics unless `slice` holds at least `needed` values.
#[track_caller]
pub(crate) fn check_len<T>(name: &str, slice: &[T], needed: usize) {
    assert!(
        slice.len() >= needed,
        "{name}: {} values, {needed} needed",
        slice.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_pixel_once() {
        for (n, shape) in [
            (3, ActShape::new(32, 32, 64)),
            (17, ActShape::new(4, 4, 512)),
            (5, ActShape::new(1, 1, 3)),
            (600, ActShape::new(1, 1, 3)),
            (2, ActShape::new(7, 5, 700)),
            (1, ActShape::new(1, 1, 40000)),
        ] {
            let chunks = PixelChunks::new(n, shape);
            let mut seen = vec![0; shape.len(n)];
            let mut pixels = 0;
            for chunk in 0..chunks.count() {
                assert!(chunks.pixels(chunk) > 0);
                pixels += chunks.pixels(chunk);
                for span in chunks.spans(chunk) {
                    assert!(span.len().is_multiple_of(shape.c));
                    seen[span].iter_mut().for_each(|s| *s += 1);
                }
            }
            assert_eq!(pixels, n * shape.pixels());
            for image in 0..n {
                let start = image * shape.image_stride();
                assert!(seen[start..start + shape.values()].iter().all(|&s| s == 1));
            }
        }
    }
}
