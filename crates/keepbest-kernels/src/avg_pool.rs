//! Average pooling over windows, and over the whole map.

use crate::chunks::check_activation;
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::simd::blocks;
use crate::{ActShape, Context, Padding, PoolShape};

#[derive(Clone, Copy)]
struct Geometry {
    input: ActShape,
    output: ActShape,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    dilation: [usize; 2],
    count_include_pad: bool,
    /// Windows share the map out among the output pixels, whatever the kernel.
    adaptive: bool,
}

impl Geometry {
    fn new(shape: &PoolShape, count_include_pad: bool) -> Geometry {
        let output = shape.output().expect("pooling shape was not checked");
        Geometry {
            input: shape.input,
            output,
            kernel: shape.kernel,
            stride: shape.stride,
            padding: shape.padding,
            dilation: shape.dilation,
            count_include_pad,
            adaptive: false,
        }
    }

    /// PyTorch's adaptive pooling of `input` to `[height, width]`.
    fn adaptive(input: ActShape, [h, w]: [usize; 2]) -> Geometry {
        assert!(h > 0 && w > 0, "adaptive pooling to nothing");
        Geometry {
            input,
            output: ActShape::new(h, w, input.c),
            kernel: [input.h.div_ceil(h) + 1, input.w.div_ceil(w) + 1],
            stride: [1, 1],
            padding: Padding::NONE,
            dilation: [1, 1],
            count_include_pad: false,
            adaptive: true,
        }
    }

    fn cells(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn sizes(&self, axis: usize) -> (usize, usize) {
        if axis == 0 {
            (self.input.h, self.output.h)
        } else {
            (self.input.w, self.output.w)
        }
    }

    /// Rows of windows that span input row `at`.
    fn windows_of_row(&self, at: usize) -> std::ops::Range<usize> {
        let (input, output) = self.sizes(0);
        if self.adaptive {
            return at * output / input..((at + 1) * output).div_ceil(input);
        }
        let span = self.dilation[0] * (self.kernel[0] - 1) + 1;
        let padding = self.padding.before[0];
        let first = (at + padding + 1)
            .saturating_sub(span)
            .div_ceil(self.stride[0]);
        first..output.min((at + padding) / self.stride[0] + 1)
    }

    /// Whether one of the cells of window row `at`, which spans input row `row`, lies there.
    fn has_row(&self, at: usize, row: usize) -> bool {
        let d = self.dilation[0];
        d == 1 || (row + self.padding.before[0] - at * self.stride[0]).is_multiple_of(d)
    }

    /// Input coordinates the window at `at` spans, from the first of its cells to the last, and the number it counts for the mean.
    #[inline(always)]
    fn window(&self, axis: usize, at: usize) -> (std::ops::Range<usize>, usize) {
        let (size, output) = self.sizes(axis);
        if self.adaptive {
            let inside = at * size / output..((at + 1) * size).div_ceil(output);
            let counted = inside.len();
            return (inside, counted);
        }
        let [padding, after] = self.padding.along(axis);
        let start = at * self.stride[axis];
        // Cells before some coordinate of the padded input.
        let d = self.dilation[axis];
        let cells = |end: usize| (end.saturating_sub(start).div_ceil(d)).min(self.kernel[axis]);
        let (first, last) = (cells(padding), cells(padding + size));
        let counted = if self.count_include_pad {
            cells(padding + size + after)
        } else {
            // Dilated cells may all lie in the padding.
            (last - first).max(1)
        };
        let from = start + first * d - if first < last { padding } else { 0 };
        (from..from + (last - first) * d, counted)
    }
}

vectorised! {
    fn forward_row(s, g: &Geometry, image: &[f32], oy: usize, y: &mut [f32]) {
        let c = g.input.c;
        let (rows, high) = g.window(0, oy);
        for ox in 0..g.output.w {
            let (columns, wide) = g.window(1, ox);
            let divisor = s.splat((high * wide) as f32);
            for (first, len) in blocks(c) {
                let mut sum = s.splat(0.0);
                for iy in rows.clone().step_by(g.dilation[0]) {
                    for ix in columns.clone().step_by(g.dilation[1]) {
                        sum = s.add(sum, s.load(image, (iy * g.input.w + ix) * c + first, len));
                    }
                }
                s.store(s.div(sum, divisor), y, ox * c + first, len);
            }
        }
    }
}

vectorised! {
    fn backward_row(s, g: &Geometry, dy: &[f32], iy: usize, dx: &mut [f32]) {
        let c = g.input.c;
        dx.fill(0.0);
        for oy in g.windows_of_row(iy).filter(|&oy| g.adaptive || g.has_row(oy, iy)) {
            let (_, high) = g.window(0, oy);
            for ox in 0..g.output.w {
                let (columns, wide) = g.window(1, ox);
                let divisor = s.splat((high * wide) as f32);
                for (first, len) in blocks(c) {
                    let share = s.div(s.load(dy, (oy * g.output.w + ox) * c + first, len), divisor);
                    for ix in columns.clone().step_by(g.dilation[1]) {
                        s.store(s.add(s.load(dx, ix * c + first, len), share), dx, ix * c + first, len);
                    }
                }
            }
        }
    }
}

/// Mean of each window; with `count_include_pad` (PyTorch's default) the padding counts as zeros.
///
/// # Panics
///
/// When a slice is too short or `shape.output()` is an error.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    count_include_pad: bool,
    x: &[f32],
    y: &mut [f32],
) {
    run_forward(ctx, n, Geometry::new(shape, count_include_pad), x, y);
}

fn run_forward(ctx: &Context, n: usize, g: Geometry, x: &[f32], y: &mut [f32]) {
    check_activation("x", x, n, g.input);
    check_activation("y", y, n, g.output);
    let row = g.output.w * g.output.c;
    let y = Disjoint::new(y);
    run_rows(ctx, n, g.output.h, row * g.cells().min(64), &|image, oy| {
        // SAFETY: rows are disjoint.
        let y = unsafe { y.part(image * g.output.image_stride() + oy * row, row) };
        forward_row(
            ctx.isa(),
            &g,
            &x[image * g.input.image_stride()..][..g.input.values()],
            oy,
            y,
        );
    });
}

/// Gradient of [`forward`]; overwrites `dx`.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    count_include_pad: bool,
    dy: &[f32],
    dx: &mut [f32],
) {
    run_backward(ctx, n, Geometry::new(shape, count_include_pad), dy, dx);
}

fn run_backward(ctx: &Context, n: usize, g: Geometry, dy: &[f32], dx: &mut [f32]) {
    check_activation("dy", dy, n, g.output);
    check_activation("dx", dx, n, g.input);
    let row = g.input.w * g.input.c;
    let dx = Disjoint::new(dx);
    run_rows(ctx, n, g.input.h, row * g.cells().min(64), &|image, iy| {
        // SAFETY: rows are disjoint.
        let dx = unsafe { dx.part(image * g.input.image_stride() + iy * row, row) };
        backward_row(
            ctx.isa(),
            &g,
            &dy[image * g.output.image_stride()..][..g.output.values()],
            iy,
            dx,
        );
    });
}

/// Mean over all pixels of each channel.
pub mod global {
    use super::*;

    /// `y[n][c]` = mean over the map, as an activation of shape `1 x 1 x c`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn forward(ctx: &Context, n: usize, shape: ActShape, x: &[f32], y: &mut [f32]) {
        super::forward(ctx, n, &whole(shape), true, x, y);
    }

    /// Gradient of [`forward`]; overwrites `dx`.
    ///
    /// # Panics
    ///
    /// When a slice is too short.
    pub fn backward(ctx: &Context, n: usize, shape: ActShape, dy: &[f32], dx: &mut [f32]) {
        super::backward(ctx, n, &whole(shape), true, dy, dx);
    }

    fn whole(shape: ActShape) -> PoolShape {
        let kernel = [shape.h, shape.w];
        PoolShape {
            input: shape,
            kernel,
            stride: kernel,
            padding: Padding::NONE,
            dilation: [1, 1],
            ceil_mode: false,
        }
    }
}

/// Mean over windows that share the map out evenly, `torch.nn.AdaptiveAvgPool2d`: output row `i` of `h` covers the input rows
/// from `floor(i * H / h)` to `ceil((i + 1) * H / h)`; columns likewise. Windows overlap where `h` does not divide `H`.
pub mod adaptive {
    use super::*;

    /// Pools to `[height, width]`.
    ///
    /// # Panics
    ///
    /// When a slice is too short or the output has no pixels.
    pub fn forward(
        ctx: &Context,
        n: usize,
        shape: ActShape,
        output: [usize; 2],
        x: &[f32],
        y: &mut [f32],
    ) {
        run_forward(ctx, n, Geometry::adaptive(shape, output), x, y);
    }

    /// Gradient of [`forward`]; overwrites `dx`.
    ///
    /// # Panics
    ///
    /// As [`forward`].
    pub fn backward(
        ctx: &Context,
        n: usize,
        shape: ActShape,
        output: [usize; 2],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        run_backward(ctx, n, Geometry::adaptive(shape, output), dy, dx);
    }
}
