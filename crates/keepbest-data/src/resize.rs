//! Bilinear resizing with anti-aliasing, as Pillow's `Image.resize(size, BILINEAR)` on 8-bit images does it (and so
//! torchvision's `Resize` on a PIL image): a triangle filter widened by the scale when shrinking, coefficients in 22-bit
//! fixed point, the width first, then the height, rounded to 8 bits between the two. Each of the two passes is Pillow's bit
//! for bit. (Since version 13 Pillow takes the height first where that is much less work; its result can then differ by
//! one level. Here the order never changes.) Whole-number arithmetic on the pixels and plain IEEE arithmetic on the
//! coefficients, so the result is the same on every machine.
//!
//! Reference: Pillow, `src/libImaging/Resample.c`.

use std::ops::Range;

/// Fractional bits of a coefficient: 32 minus 8 for the pixel minus 2 for the sum.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// For every output position: where its window starts, and its coefficients.
struct Coefficients {
    windows: Vec<(usize, Vec<i32>)>,
}

impl Coefficients {
    /// For the positions `part` of `output`.
    fn bilinear(input: usize, output: usize, part: Range<usize>) -> Self {
        let scale = input as f64 / output as f64;
        // When enlarging, the filter keeps its width of one input pixel to each side.
        let support = scale.max(1.0);
        let windows = part.map(|position| {
            let centre = (position as f64 + 0.5) * scale;
            // As C's conversion to int: towards zero.
            let start = ((centre - support + 0.5).max(0.0)) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights: Vec<f64> = (start..end)
                .map(|x| {
                    let distance = ((x as f64 - centre + 0.5) * (1.0 / support)).abs();
                    if distance < 1.0 { 1.0 - distance } else { 0.0 }
                })
                .collect();
            let total: f64 = weights.iter().sum();
            let fixed = weights
                .iter()
                .map(|&weight| {
                    let normalised = if total == 0.0 { weight } else { weight / total };
                    (0.5 + normalised * f64::from(1u32 << PRECISION_BITS)) as i32
                })
                .collect();
            (start, fixed)
        });
        Self {
            windows: windows.collect(),
        }
    }

    /// The input positions that any window covers.
    fn span(&self) -> Range<usize> {
        let start = self.windows.first().map_or(0, |(start, _)| *start);
        let end = self
            .windows
            .last()
            .map_or(0, |(start, weights)| start + weights.len());
        start..end
    }
}

fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes `pixels` (`[from.0, from.1, channels]`, dense) to `(height, width) = to`. No side may be 0.
pub(crate) fn resize_bilinear(
    pixels: &[u8],
    from: (usize, usize),
    channels: usize,
    to: (usize, usize),
) -> Vec<u8> {
    resize_part(pixels, from, channels, to, (0..to.0, 0..to.1))
}

/// The part `(rows, columns)` of what [`resize_bilinear`] gives. Only what it depends on is computed, so that a long, thin
/// image costs no more than it holds.
pub(crate) fn resize_part(
    pixels: &[u8],
    from: (usize, usize),
    channels: usize,
    to: (usize, usize),
    part: (Range<usize>, Range<usize>),
) -> Vec<u8> {
    const HALF: i32 = 1 << (PRECISION_BITS - 1);
    let ((in_height, in_width), (height, width)) = (from, to);
    let (part_rows, part_columns) = part;
    let stride = part_columns.len() * channels;
    let lines =
        (in_height != height).then(|| Coefficients::bilinear(in_height, height, part_rows.clone()));
    let needed = lines.as_ref().map_or(part_rows, Coefficients::span);

    let mut rows = Vec::with_capacity(needed.len() * stride);
    let in_rows = pixels
        .chunks_exact(in_width * channels)
        .skip(needed.start)
        .take(needed.len());
    if in_width == width {
        let kept = part_columns.start * channels..part_columns.end * channels;
        in_rows.for_each(|row| rows.extend_from_slice(&row[kept.clone()]));
    } else {
        let columns = Coefficients::bilinear(in_width, width, part_columns);
        for row in in_rows {
            for (start, coefficients) in &columns.windows {
                for channel in 0..channels {
                    let values = row[start * channels + channel..].iter().step_by(channels);
                    let sum = values
                        .zip(coefficients)
                        .map(|(&v, &k)| i32::from(v) * k)
                        .sum::<i32>();
                    rows.push(to_u8(HALF + sum));
                }
            }
        }
    }
    let Some(lines) = lines else {
        return rows;
    };

    let mut out = Vec::with_capacity(lines.windows.len() * stride);
    let mut sums = vec![0i32; stride];
    for (start, coefficients) in &lines.windows {
        sums.fill(HALF);
        for (row, &k) in rows[(start - needed.start) * stride..]
            .chunks_exact(stride)
            .zip(coefficients)
        {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * k;
            }
        }
        out.extend(sums.iter().map(|&sum| to_u8(sum)));
    }
    out
}

/// The size, in the aspect ratio of `from`, that just covers `to`: one side equal, the other rounded down but not below.
pub(crate) fn shorter_side(from: (usize, usize), to: (usize, usize)) -> (usize, usize) {
    let (from_height, from_width) = (from.0 as u128, from.1 as u128);
    let (height, width) = (to.0 as u128, to.1 as u128);
    if height * from_width >= width * from_height {
        (to.0, (height * from_width / from_height) as usize)
    } else {
        ((width * from_height / from_width) as usize, to.1)
    }
}

/// The middle `to` of `from` positions; half pixels are rounded to even, as torchvision's `CenterCrop` does.
pub(crate) fn centre(from: usize, to: usize) -> Range<usize> {
    let (half, odd) = ((from - to) / 2, (from - to) % 2 == 1);
    let start = if odd && half % 2 == 1 { half + 1 } else { half };
    start..start + to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_image_stays_constant() {
        for (from, to) in [
            ((7, 5), (3, 9)),
            ((1, 1), (4, 4)),
            ((31, 17), (8, 8)),
            ((2, 300), (5, 7)),
        ] {
            let out = resize_bilinear(&vec![201; from.0 * from.1 * 3], from, 3, to);
            assert_eq!(out, vec![201; to.0 * to.1 * 3], "{from:?} {to:?}");
        }
    }

    #[test]
    fn halving_uses_the_widened_triangle() {
        // Window of output 0: pixels 0 to 2 at distances 0.25, 0.25, 0.75 of the support: weights 3 : 3 : 1.
        assert_eq!(
            resize_bilinear(&[0, 70, 140, 210], (1, 4), 1, (1, 2)),
            [50, 160]
        );
    }

    #[test]
    fn sizes_that_cover() {
        assert_eq!(shorter_side((100, 200), (32, 32)), (32, 64));
        assert_eq!(shorter_side((201, 100), (32, 32)), (64, 32));
        assert_eq!(shorter_side((10, 10), (32, 16)), (32, 32));
        assert_eq!(shorter_side((3, 1000), (32, 32)), (32, 10666));
        for from in [(7, 9), (9, 7), (5, 5), (1, 13)] {
            for to in [(3, 3), (3, 8), (8, 3)] {
                let covered = shorter_side(from, to);
                assert!(
                    covered.0 >= to.0
                        && covered.1 >= to.1
                        && (covered.0 == to.0 || covered.1 == to.1)
                );
            }
        }
    }

    #[test]
    fn the_crop_is_central_and_rounds_to_even() {
        assert_eq!(centre(8, 4), 2..6);
        assert_eq!(centre(7, 4), 2..6); // 1.5 -> 2
        assert_eq!(centre(5, 4), 0..4); // 0.5 -> 0
    }

    #[test]
    fn a_part_is_that_part_of_the_whole() {
        let from = (23, 17);
        let pixels: Vec<u8> = (0..from.0 * from.1 * 3)
            .map(|i| (i * i % 251) as u8)
            .collect();
        for to in [(23, 17), (7, 17), (23, 40), (50, 9), (6, 5)] {
            let whole = resize_bilinear(&pixels, from, 3, to);
            let (rows, columns) = (centre(to.0, 5), centre(to.1, 4));
            let expected: Vec<u8> = rows
                .clone()
                .flat_map(|y| {
                    let row = y * to.1;
                    whole[(row + columns.start) * 3..(row + columns.end) * 3].to_vec()
                })
                .collect();
            let part = resize_part(&pixels, from, 3, to, (rows, columns));
            assert_eq!(part, expected, "{to:?}");
        }
    }
}
