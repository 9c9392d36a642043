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

    /// Whether kernels can take images of the shape; `what` it is, for the error.
    ///
    /// # Errors
    ///
    /// [`ShapeError::Zero`] or [`ShapeError::TooLarge`] for no values, or more than they can address.
    pub fn check(&self, what: &'static str) -> Result<(), ShapeError> {
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
    #[error(
        "a window {window} {axis} does not fit an input {input} {axis} with padding {}",
        on_both_sides(padding)
    )]
    Window {
        /// `high` or `wide`.
        axis: &'static str,
        /// Pixels the window spans, dilation included.
        window: usize,
        /// Pixels of the input.
        input: usize,
        /// Padding before and after it.
        padding: [usize; 2],
    },
    /// Padding of a pooling window is more than half of the window.
    #[error("padding {padding} is more than half of the pooling window {kernel}")]
    PoolPadding {
        /// Padding on each side.
        padding: usize,
        /// Window size, dilation included.
        kernel: usize,
    },
    /// Padding on one side is as large as the pooling window, which then holds no pixel.
    #[error("padding {padding} is not less than the pooling window {kernel}")]
    UnevenPoolPadding {
        /// Padding on the larger side.
        padding: usize,
        /// Window size, dilation included.
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

fn on_both_sides(&[before, after]: &[usize; 2]) -> String {
    if before == after {
        before.to_string()
    } else {
        format!("{before} before and {after} after")
    }
}

/// Rows and columns around an image; axes are `[height, width]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Above and on the left.
    pub before: [usize; 2],
    /// Below and on the right.
    pub after: [usize; 2],
}

impl Padding {
    /// No padding.
    pub const NONE: Padding = Padding {
        before: [0, 0],
        after: [0, 0],
    };

    pub(crate) fn along(&self, axis: usize) -> [usize; 2] {
        [self.before[axis], self.after[axis]]
    }
}

impl From<[usize; 2]> for Padding {
    /// As much on opposite sides.
    fn from(each: [usize; 2]) -> Padding {
        Padding {
            before: each,
            after: each,
        }
    }
}

/// Output size of a sliding window along one axis (PyTorch's formula). Where `ceil`, a last window may reach beyond the padded
/// input, but begins in the input or the padding before it.
pub(crate) fn window_output(
    axis: &'static str,
    input: usize,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    ceil: bool,
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
    if padding.iter().any(|&p| p > 1 << 24) {
        return Err(ShapeError::TooLarge { what: "padding" });
    }
    let window = dilation * (kernel - 1) + 1;
    let padded = padding[0] + input + padding[1];
    if window > padded {
        return Err(ShapeError::Window {
            axis,
            window,
            input,
            padding,
        });
    }
    let room = padded - window;
    if !ceil {
        return Ok(room / stride + 1);
    }
    let output = room.div_ceil(stride) + 1;
    let begins_behind = (output - 1) * stride >= input + padding[0];
    Ok(output - usize::from(begins_behind))
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
    /// Border around the input: minus infinity for max pooling, zeros for average pooling.
    pub padding: Padding,
    /// Distance between the cells of a window (1: adjacent).
    pub dilation: [usize; 2],
    /// Whether pixels that fill no whole step get a last window, PyTorch's `ceil_mode`.
    pub ceil_mode: bool,
}

impl PoolShape {
    /// Whether every pixel of the input is in at most one window.
    pub fn tiles_input(&self) -> bool {
        self.kernel == self.stride
            && self.padding == Padding::NONE
            && self.dilation == [1, 1]
            && !self.ceil_mode
    }

    /// Shape of the output.
    ///
    /// # Errors
    ///
    /// When a size is zero, the window does not fit, or padding that is the same on opposite sides exceeds half of it. Padding that
    /// differs must be less than the window, so that each window holds a pixel.
    pub fn output(&self) -> Result<ActShape, ShapeError> {
        self.input.check("pooling input")?;
        let along = |name, axis: usize, input| {
            window_output(
                name,
                input,
                self.kernel[axis],
                self.stride[axis],
                self.padding.along(axis),
                self.dilation[axis],
                self.ceil_mode,
            )
        };
        let h = along("high", 0, self.input.h)?;
        let w = along("wide", 1, self.input.w)?;
        for axis in 0..2 {
            let kernel = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let [before, after] = self.padding.along(axis);
            let padding = before.max(after);
            if before == after && padding > kernel / 2 {
                return Err(ShapeError::PoolPadding { padding, kernel });
            }
            if before != after && padding >= kernel {
                return Err(ShapeError::UnevenPoolPadding { padding, kernel });
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
        let error = window_output("wide", 2, 5, 1, [1, 1], 1, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a window 5 wide does not fit an input 2 wide with padding 1"
        );
        assert_eq!(window_output("wide", 32, 3, 2, [1, 1], 1, false), Ok(16));
        let error = window_output("wide", 2, 5, 1, [1, 0], 1, false).unwrap_err();
        assert!(error.to_string().ends_with("padding 1 before and 0 after"));
    }

    #[test]
    fn a_last_window_begins_in_the_input_or_before_it() {
        let sizes = |ceil| {
            [
                (5, 2, 2, [0, 0]),
                (6, 3, 2, [0, 0]),
                (4, 3, 2, [1, 1]),
                (3, 2, 2, [1, 1]),
                (5, 1, 3, [0, 0]),
                (7, 3, 2, [0, 1]),
            ]
            .map(|(input, kernel, stride, padding)| {
                window_output("high", input, kernel, stride, padding, 1, ceil).unwrap()
            })
        };
        assert_eq!(sizes(false), [2, 2, 2, 2, 2, 3]);
        assert_eq!(sizes(true), [3, 3, 3, 2, 2, 4]);
    }
}
