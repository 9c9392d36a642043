//! Blurring with a binomial filter and taking every so many pixels (Zhang, arXiv 1904.11486).

use crate::chunks::check_activation;
use crate::per_image::{for_images, image};
use crate::shape::window_output;
use crate::{ActShape, Context, ShapeError};

/// What stands outside of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Border {
    /// Zeros.
    Zero,
    /// The map mirrored at its outermost pixels, which are not repeated.
    Reflect,
    /// The outermost pixel again and again.
    Edge,
}

/// A blur made ready for its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct BlurPool {
    input: ActShape,
    output: ActShape,
    stride: usize,
    padding: usize,
    border: Border,
    /// The filter along one axis; they add up to 1.
    taps: Vec<f32>,
}

impl BlurPool {
    /// Taps of a filter at most.
    pub const MAX_KERNEL: usize = 15;

    /// A blur of `kernel` taps each way, a step of `stride` pixels, with half the window around the map, as timm's
    /// `BlurPool2d`.
    ///
    /// # Errors
    ///
    /// When the window does not fit, or the map has too few pixels to be mirrored.
    pub fn new(
        input: ActShape,
        kernel: usize,
        stride: usize,
        border: Border,
    ) -> Result<BlurPool, ShapeError> {
        if kernel == 0 || stride == 0 {
            return Err(ShapeError::Zero {
                what: if kernel == 0 { "kernel" } else { "stride" },
            });
        }
        if kernel > Self::MAX_KERNEL || stride > 1 << 24 {
            return Err(ShapeError::TooLarge {
                what: if stride > 1 << 24 { "stride" } else { "kernel" },
            });
        }
        input.check("input")?;
        let padding = (stride - 1 + kernel - 1) / 2;
        for (axis, size) in [("high", input.h), ("wide", input.w)] {
            if border == Border::Reflect && padding >= size {
                return Err(ShapeError::Window {
                    axis,
                    window: kernel,
                    input: size,
                    padding: [padding; 2],
                });
            }
        }
        let side = |axis, size| window_output(axis, size, kernel, stride, [padding; 2], 1, false);
        let output = ActShape::new(side("high", input.h)?, side("wide", input.w)?, input.c);
        output.check("output")?;
        Ok(BlurPool {
            input,
            output,
            stride,
            padding,
            border,
            taps: binomial(kernel),
        })
    }

    /// Shape of the output.
    pub fn output(&self) -> ActShape {
        self.output
    }

    /// Step between windows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Pixels around the map.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// What stands outside of the map.
    pub fn border(&self) -> Border {
        self.border
    }

    /// The filter along one axis.
    pub fn taps(&self) -> &[f32] {
        &self.taps
    }

    /// Calls `body(input pixel, output pixel, weight)` for every tap that meets the map, window by window.
    #[inline(always)]
    fn taps_met(&self, mut body: impl FnMut(usize, usize, f32)) {
        for oy in 0..self.output.h {
            for ox in 0..self.output.w {
                for (ky, of_row) in self.taps.iter().enumerate() {
                    let Some(iy) = self.source(oy, ky, self.input.h) else {
                        continue;
                    };
                    for (kx, of_column) in self.taps.iter().enumerate() {
                        if let Some(ix) = self.source(ox, kx, self.input.w) {
                            let (from, to) = (iy * self.input.w + ix, oy * self.output.w + ox);
                            body(from, to, of_row * of_column);
                        }
                    }
                }
            }
        }
    }

    /// The coordinate that tap `k` of the window at `at` reads, along an axis of `size` pixels.
    #[inline(always)]
    fn source(&self, at: usize, k: usize, size: usize) -> Option<usize> {
        let place = (at * self.stride + k) as isize - self.padding as isize;
        let last = size as isize - 1;
        let found = match self.border {
            _ if (0..=last).contains(&place) => place,
            Border::Zero => return None,
            Border::Reflect if place < 0 => -place,
            Border::Reflect => 2 * last - place,
            Border::Edge => place.clamp(0, last),
        };
        Some(found as usize)
    }
}

/// The coefficients of `(1/2 + x/2)^(len - 1)`.
fn binomial(len: usize) -> Vec<f32> {
    let mut taps = vec![0.0f32; len];
    taps[0] = 1.0;
    for last in 1..len {
        for i in (1..=last).rev() {
            taps[i] = (taps[i] + taps[i - 1]) / 2.0;
        }
        taps[0] /= 2.0;
    }
    taps
}

multiversion! {
    fn forward_image(blur: &BlurPool, x: &[f32], y: &mut [f32]) {
        let c = blur.input.c;
        y.fill(0.0);
        blur.taps_met(|from, to, weight| {
            let (x, y) = (&x[from * c..][..c], &mut y[to * c..][..c]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x.mul_add(weight, *y);
            }
        });
    }
}

multiversion! {
    fn backward_image(blur: &BlurPool, dy: &[f32], dx: &mut [f32]) {
        let c = blur.input.c;
        dx.fill(0.0);
        blur.taps_met(|from, to, weight| {
            let (dx, dy) = (&mut dx[from * c..][..c], &dy[to * c..][..c]);
            for (dx, &dy) in dx.iter_mut().zip(dy) {
                *dx = dy.mul_add(weight, *dx);
            }
        });
    }
}

/// Blurs each channel by itself.
///
/// # Panics
///
/// When a slice is too short.
pub fn forward(ctx: &Context, n: usize, blur: &BlurPool, x: &[f32], y: &mut [f32]) {
    check_activation("x", x, n, blur.input);
    for_images(ctx, n, blur.output, y, &|index, y| {
        forward_image(ctx.isa(), blur, image(x, blur.input, index), y);
    });
}

/// Gradient of [`forward`]; overwrites `dx`.
///
/// # Panics
///
/// When a slice is too short.
pub fn backward(ctx: &Context, n: usize, blur: &BlurPool, dy: &[f32], dx: &mut [f32]) {
    check_activation("dy", dy, n, blur.output);
    for_images(ctx, n, blur.input, dx, &|index, dx| {
        backward_image(ctx.isa(), blur, image(dy, blur.output, index), dx);
    });
}
