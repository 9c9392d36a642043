//! The shape of a convolution.

use super::axis::Axis;
use crate::shape::window_output;
use crate::{ActShape, Padding, ShapeError};

/// Shape of a convolution (PyTorch's `Conv2d`); axes are `[height, width]`.
///
/// A linear layer on a flattened `h x w x c` map is the convolution with a kernel of `[h, w]`, no padding and stride 1: its
/// weights `[out, c * h * w]` are then `[out][c][h][w]`.
///
/// ```
/// use keepbest_kernels::{ActShape, ConvShape};
/// let shape = ConvShape {
///     input: ActShape::new(32, 32, 3),
///     out_channels: 64,
///     kernel: [3, 3],
///     stride: [2, 2],
///     padding: [1, 1].into(),
///     dilation: [1, 1],
///     groups: 1,
/// };
/// assert_eq!(shape.output()?, ActShape::new(16, 16, 64));
/// assert_eq!(shape.weight_len(), 64 * 3 * 3 * 3);
/// # Ok::<(), keepbest_kernels::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Shape of an input image.
    pub input: ActShape,
    /// Channels of the output.
    pub out_channels: usize,
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Step from output pixel to output pixel.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Distance between the kernel's taps (1: adjacent).
    pub dilation: [usize; 2],
    /// Independent groups of channels.
    pub groups: usize,
}

impl ConvShape {
    /// Shape of an output image.
    ///
    /// # Errors
    ///
    /// When a size is zero or too large, the groups do not divide the channels, or the kernel does not fit the padded input.
    pub fn output(&self) -> Result<ActShape, ShapeError> {
        self.input.check("convolution input")?;
        if self.groups == 0 {
            return Err(ShapeError::Zero { what: "groups" });
        }
        for (what, channels) in [("input", self.input.c), ("output", self.out_channels)] {
            if !channels.is_multiple_of(self.groups) {
                return Err(ShapeError::Groups {
                    what,
                    channels,
                    groups: self.groups,
                });
            }
        }
        let axis = |name, axis: usize, input| {
            window_output(
                name,
                input,
                self.kernel[axis],
                self.stride[axis],
                self.padding.along(axis),
                self.dilation[axis],
                false,
            )
        };
        let output = ActShape::new(
            axis("high", 0, self.input.h)?,
            axis("wide", 1, self.input.w)?,
            self.out_channels,
        );
        output.check("convolution output")?;
        let weights = [
            self.out_channels,
            self.input.c / self.groups,
            self.kernel[0],
            self.kernel[1],
        ];
        if weights.iter().map(|&v| v as u128).product::<u128>() > u128::from(u32::MAX >> 2) {
            return Err(ShapeError::TooLarge {
                what: "convolution kernel",
            });
        }
        Ok(output)
    }

    /// Weights: `out_channels * (channels / groups) * kernel_h * kernel_w`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.input.c / self.groups) * self.taps()
    }

    /// Floating-point operations of one pass over one image, padding counted as if it were computed (the usual convention).
    pub fn flops_per_image(&self) -> u64 {
        self.output().map_or(0, |output| {
            2 * output.pixels() as u64 * self.weight_len() as u64
        })
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn axes(&self, output: ActShape) -> [Axis; 2] {
        let axis = |axis: usize, input, output| Axis {
            input,
            output,
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            padding: self.padding.before[axis],
            dilation: self.dilation[axis],
        };
        [
            axis(0, self.input.h, output.h),
            axis(1, self.input.w, output.w),
        ]
    }
}
