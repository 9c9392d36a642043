//! Shapes of activations and pooling windows.

/// Shape of one image of an activation, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActShape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl ActShape {
    /// `h` rows, `w` columns, `c` channels.
    pub const fn new(h: usize, w: usize, c: usize) -> ActShape {
        ActShape { h, w, c }
    }

    /// Pixels of one image.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }

    /// Values of one image.
    pub const fn values(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Floats from the start of one image to the start of the next: `h * w * c` rounded up to whole cache lines, and one
    /// line more when that is a multiple of 2 KiB, so that the same pixel of many images does not fall into one cache set.
    pub const fn image_stride(&self) -> usize {
        let stride = self.values().next_multiple_of(16);
        if stride.is_multiple_of(512) && stride > 0 {
            stride + 16
        } else {
            stride
        }
    }

    /// Floats `n` images take.
    pub const fn len(&self, n: usize) -> usize {
        n * self.image_stride()
    }

    /// Whether an image has no values.
    pub const fn is_empty(&self) -> bool {
        // Not by the product, which can be too large for a number.
        self.h == 0 || self.w == 0 || self.c == 0
    }

    pub(crate) fn check(&self, what: &'static str) -> Result<(), ShapeError> {
        if self.is_empty() {
            return Err(ShapeError::Zero { what });
        }
        let values = (self.h as u128) * (self.w as u128) * (self.c as u128);
        if values > u128::from(u32::MAX >> 2) {
            return Err(ShapeError::TooLarge { what });
        }
        Ok(())
    }
}

/// Why a layer cannot have the shape asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A size that must be at least 1 is 0.
    #[error("{what} must be at least 1")]
    Zero {
        /// The size that is 0.
        what: &'static str,
    },
    /// Channels cannot be split evenly.
    #[error("{channels} {what} channels cannot be split into {groups} groups")]
    Groups {
        /// `input` or `output`.
        what: &'static str,
        /// Channels there are.
        channels: usize,
        /// Groups asked for.
        groups: usize,
    },
    /// The window does not fit the padded input.
    #[error("a window {window} {axis} does not fit an input {input} {axis} with padding {padding}")]
    Window {
        /// `high` or `wide`.
        axis: &'static str,
        /// Pixels the window spans, dilation included.
        window: usize,
        /// Pixels of the input.
        input: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// Padding of a pooling window is more than half of the window.
    #[error("padding {padding} is more than half of the pooling window {kernel}")]
    PoolPadding {
        /// Padding on each side.
        padding: usize,
        /// Window size.
        kernel: usize,
    },
    /// A max-pooling window has more cells than a byte can index.
    #[error("a pooling window of {cells} cells is larger than 255")]
    PoolWindow {
        /// Cells of the window.
        cells: usize,
    },
    /// More values than the kernels can address.
    #[error("{what} is too large")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
}

/// Output size of a sliding window along one axis (PyTorch's formula, `ceil_mode` off).
pub(crate) fn window_output(
    axis: &'static str,
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Result<usize, ShapeError> {
    for (value, what) in [
        (input, "input"),
        (kernel, "kernel"),
        (stride, "stride"),
        (dilation, "dilation"),
    ] {
        if value == 0 {
            return Err(ShapeError::Zero { what });
        }
        if value > 1 << 24 {
            return Err(ShapeError::TooLarge { what });
        }
    }
    if padding > 1 << 24 {
        return Err(ShapeError::TooLarge { what: "padding" });
    }
    let window = dilation * (kernel - 1) + 1;
    if window > input + 2 * padding {
        return Err(ShapeError::Window {
            axis,
            window,
            input,
            padding,
        });
    }
    Ok((input + 2 * padding - window) / stride + 1)
}

/// A pooling layer's shape; axes are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Shape of the input.
    pub input: ActShape,
    /// Window.
    pub kernel: [usize; 2],
    /// Step from window to window.
    pub stride: [usize; 2],
    /// Border on each side: minus infinity for max pooling, zeros for average pooling.
    pub padding: [usize; 2],
    /// Distance between the cells of a window (1: adjacent). Average pooling requires 1.
    pub dilation: [usize; 2],
}

impl PoolShape {
    /// Whether every pixel of the input is in at most one window.
    pub fn tiles_input(&self) -> bool {
        self.kernel == self.stride && self.padding == [0, 0] && self.dilation == [1, 1]
    }

    /// Shape of the output.
    ///
    /// # Errors
    ///
    /// When a size is zero, the window does not fit, has more than 255 cells, or padding exceeds half of it.
    pub fn output(&self) -> Result<ActShape, ShapeError> {
        self.input.check("pooling input")?;
        let [kernel, stride, padding, dilation] =
            [self.kernel, self.stride, self.padding, self.dilation];
        let h = window_output(
            "high",
            self.input.h,
            kernel[0],
            stride[0],
            padding[0],
            dilation[0],
        )?;
        let w = window_output(
            "wide",
            self.input.w,
            kernel[1],
            stride[1],
            padding[1],
            dilation[1],
        )?;
        for axis in 0..2 {
            if padding[axis] > kernel[axis] / 2 {
                return Err(ShapeError::PoolPadding {
                    padding: padding[axis],
                    kernel: kernel[axis],
                });
            }
        }
        let output = ActShape::new(h, w, self.input.c);
        output.check("pooling output")?;
        Ok(output)
    }

    pub(crate) fn cells(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_stride_is_whole_lines_and_avoids_cache_sets() {
        assert_eq!(ActShape::new(28, 28, 1).image_stride(), 784);
        assert_eq!(ActShape::new(1, 1, 10).image_stride(), 16);
        assert_eq!(ActShape::new(4, 4, 512).image_stride(), 8192 + 16);
        assert_eq!(ActShape::new(1, 1, 500).image_stride(), 528);
    }

    #[test]
    fn window_that_does_not_fit_is_an_error() {
        let error = window_output("wide", 2, 5, 1, 1, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a window 5 wide does not fit an input 2 wide with padding 1"
        );
        assert_eq!(window_output("wide", 32, 3, 2, 1, 1), Ok(16));
    }
}
