//! Max pooling. The winner's place in its window is kept as one byte.

use crate::chunks::{activation_len, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::simd::blocks;
use crate::{ActShape, Context, PoolShape, ShapeError};

/// Bytes of winners [`forward`] writes for `n` images: as many as the output has floats, gaps included.
pub fn indices_len(n: usize, output: ActShape) -> usize {
    output.len(n)
}

/// Whether the place of a cell of a window, so high and wide, fits a byte.
///
/// # Errors
///
/// [`ShapeError::PoolWindow`] for a window of more than 255 cells.
pub fn check_window([h, w]: [usize; 2]) -> Result<(), ShapeError> {
    match h.saturating_mul(w) {
        0..=255 => Ok(()),
        cells => Err(ShapeError::PoolWindow { cells }),
    }
}

/// What the row kernels need to know.
#[derive(Clone, Copy)]
struct Geometry {
    input: ActShape,
    output: ActShape,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Above and on the left; what is on the other sides follows from the output.
    padding: [usize; 2],
    dilation: [usize; 2],
}

impl Geometry {
    fn new(shape: &PoolShape) -> Geometry {
        let output = shape.output().expect("pooling shape was not checked");
        assert!(shape.cells() <= 255, "pooling window larger than 255 cells");
        Geometry {
            input: shape.input,
            output,
            kernel: shape.kernel,
            stride: shape.stride,
            padding: shape.padding.before,
            dilation: shape.dilation,
        }
    }

    /// Cells of a window along `axis` that lie inside the input, for output coordinate `at`, as a range of cell indices.
    #[inline(always)]
    fn valid(&self, axis: usize, at: usize) -> std::ops::Range<usize> {
        let size = if axis == 0 {
            self.input.h
        } else {
            self.input.w
        };
        let (start, d) = (
            (at * self.stride[axis]) as isize - self.padding[axis] as isize,
            self.dilation[axis],
        );
        let first = if start < 0 {
            ((-start) as usize).div_ceil(d)
        } else {
            0
        };
        let room = size as isize - start;
        let last = if room <= 0 {
            0
        } else {
            (room as usize).div_ceil(d)
        };
        first..last.min(self.kernel[axis]).max(first)
    }

    /// Input coordinate of cell `cell` of the window at `at`; only for valid cells.
    #[inline(always)]
    fn source(&self, axis: usize, at: usize, cell: usize) -> usize {
        at * self.stride[axis] + cell * self.dilation[axis] - self.padding[axis]
    }
}

vectorised! {
    /// Pools a row of the image, or of what ReLU makes of an affine map of it, when there is one.
    fn forward_row(
        s,
        g: &Geometry,
        image: &[f32],
        affine: Option<(&[f32], &[f32])>,
        oy: usize,
        y: &mut [f32],
        indices: Option<&mut [u8]>,
    ) {
        let c = g.input.c;
        let rows = g.valid(0, oy);
        let mut indices = indices;
        for ox in 0..g.output.w {
            let columns = g.valid(1, ox);
            for (first, len) in blocks(c) {
                let affine = affine.map(|(scale, shift)| {
                    (s.load(scale, first, len), s.load(shift, first, len))
                });
                let mut best = s.splat(f32::NEG_INFINITY);
                let mut winner = s.splat_u32((rows.start * g.kernel[1] + columns.start) as u32);
                for ky in rows.clone() {
                    let row = g.source(0, oy, ky) * g.input.w;
                    for kx in columns.clone() {
                        let mut x = s.load(image, (row + g.source(1, ox, kx)) * c + first, len);
                        if let Some((scale, shift)) = affine {
                            x = s.rectify(s.mul_add(x, scale, shift));
                        }
                        let cell = s.splat_u32((ky * g.kernel[1] + kx) as u32);
                        (best, winner) = s.larger(best, winner, x, cell);
                    }
                }
                s.store(best, y, ox * c + first, len);
                if let Some(indices) = indices.as_deref_mut() {
                    s.store_bytes(winner, indices, ox * c + first, len);
                }
            }
        }
    }
}

/// Largest value of each window. The first of equals wins and NaN propagates, as in PyTorch.
///
/// `indices`, when given, receives for each output element the winner's cell `ky * kernel_w + kx` within its window, laid out
/// as `y` is ([`indices_len`] bytes).
///
/// # Panics
///
/// When a slice is too short, or `shape.output()` is an error, or the window has more than 255 cells.
pub fn forward(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    x: &[f32],
    y: &mut [f32],
    indices: Option<&mut [u8]>,
) {
    run(ctx, n, shape, x, None, y, indices);
}

/// [`forward`] of `relu(x * scale + shift)`: of a normalised map, in one pass and without its memory.
///
/// # Panics
///
/// As [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn forward_normalised(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    y: &mut [f32],
    indices: &mut [u8],
) {
    check_len("scale", scale, shape.input.c);
    check_len("shift", shift, shape.input.c);
    run(ctx, n, shape, x, Some((scale, shift)), y, Some(indices));
}

fn run(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    x: &[f32],
    affine: Option<(&[f32], &[f32])>,
    y: &mut [f32],
    indices: Option<&mut [u8]>,
) {
    let g = Geometry::new(shape);
    check_activation("x", x, n, g.input);
    check_activation("y", y, n, g.output);
    if let Some(indices) = &indices {
        check_len("indices", indices, activation_len(n, g.output));
    }
    let (y, indices) = (Disjoint::new(y), indices.map(Disjoint::new));
    let row = g.output.w * g.output.c;
    run_rows(
        ctx,
        n,
        g.output.h,
        row * shape.cells().min(8),
        &|image, oy| {
            let start = image * g.output.image_stride() + oy * row;
            // SAFETY: rows are disjoint.
            let y = unsafe { y.part(start, row) };
            // SAFETY: as above.
            let indices = indices.as_ref().map(|i| unsafe { i.part(start, row) });
            let x = &x[image * g.input.image_stride()..][..g.input.values()];
            forward_row(ctx.isa(), &g, x, affine, oy, y, indices);
        },
    );
}

/// Runs `body(image, row)` over all rows, several rows of about 64k values of work a task.
pub(crate) fn run_rows(
    ctx: &Context,
    n: usize,
    rows: usize,
    work: usize,
    body: &(dyn Fn(usize, usize) + Sync),
) {
    let group = (65536 / work.max(1)).clamp(1, rows.max(1) * 4);
    ctx.for_ranges(n * rows, group, &|range| {
        for index in range {
            body(index / rows, index % rows);
        }
    });
}

impl Geometry {
    /// Output coordinates whose windows span input coordinate `at`.
    #[inline(always)]
    fn windows(&self, axis: usize, at: usize) -> std::ops::Range<usize> {
        let size = if axis == 0 {
            self.output.h
        } else {
            self.output.w
        };
        let at = at + self.padding[axis];
        let span = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let first = (at + 1).saturating_sub(span).div_ceil(self.stride[axis]);
        first..size.min(at / self.stride[axis] + 1)
    }

    /// The cell of window `out` that lies at input coordinate `at`, for one of `windows(axis, at)`; none between its cells.
    #[inline(always)]
    fn cell(&self, axis: usize, at: usize, out: usize) -> Option<usize> {
        let offset = at + self.padding[axis] - out * self.stride[axis];
        match self.dilation[axis] {
            1 => Some(offset),
            d => offset.is_multiple_of(d).then(|| offset / d),
        }
    }
}

vectorised! {
    /// Input row `iy` of the gradient, any geometry.
    fn backward_row(s, g: &Geometry, dy: &[f32], indices: &[u8], iy: usize, dx: &mut [f32]) {
        let c = g.input.c;
        let rows = g.windows(0, iy);
        for ix in 0..g.input.w {
            let columns = g.windows(1, ix);
            for (first, len) in blocks(c) {
                let mut acc = s.splat(0.0);
                for oy in rows.clone() {
                    let Some(ky) = g.cell(0, iy, oy) else { continue };
                    for ox in columns.clone() {
                        let Some(kx) = g.cell(1, ix, ox) else { continue };
                        let at = (oy * g.output.w + ox) * c + first;
                        let cell = (ky * g.kernel[1] + kx) as u8;
                        acc = s.add(acc, s.where_cell(s.load(dy, at, len), indices, at, len, cell));
                    }
                }
                s.store(acc, dx, ix * c + first, len);
            }
        }
    }
}

vectorised! {
    /// Input row `iy` of the gradient where windows tile the input (stride = kernel, no padding): each pixel has one window.
    fn backward_row_tiled(s, g: &Geometry, dy: &[f32], indices: &[u8], iy: usize, dx: &mut [f32]) {
        let c = g.input.c;
        let [kh, kw] = g.kernel;
        let (oy, ky) = (iy / kh, iy % kh);
        if oy >= g.output.h {
            dx.fill(0.0);
            return;
        }
        dx[g.output.w * kw * c..].fill(0.0);
        for ox in 0..g.output.w {
            let at = (oy * g.output.w + ox) * c;
            for (first, len) in blocks(c) {
                let dy = s.load(dy, at + first, len);
                for kx in 0..kw {
                    let v = s.where_cell(dy, indices, at + first, len, (ky * kw + kx) as u8);
                    s.store(v, dx, (ox * kw + kx) * c + first, len);
                }
            }
        }
    }
}

/// Panics unless the windows tile the input and the slices hold what `n` images gave.
#[track_caller]
pub(crate) fn check_winners(n: usize, shape: &PoolShape, dy: &[f32], y: &[f32], indices: &[u8]) {
    assert!(shape.tiles_input(), "pooling windows that do not tile");
    let output = Geometry::new(shape).output;
    check_activation("dy", dy, n, output);
    check_activation("y", y, n, output);
    check_len("indices", indices, activation_len(n, output));
}

/// The gradient at some pixels of an image, from pixel `first` on, where its winner in `y` is above 0; the slices have been
/// [checked](check_winners).
pub(crate) fn spread(
    isa: crate::Isa,
    shape: &PoolShape,
    image: usize,
    (dy, y, indices): (&[f32], &[f32], &[u8]),
    first: usize,
    dx: &mut [f32],
) {
    let g = Geometry::new(shape);
    let at = image * g.output.image_stride()..;
    let (dy, y, indices) = (&dy[at.clone()], &y[at.clone()], &indices[at]);
    spread_pixels(isa, &g, dy, y, indices, first, dx);
}

vectorised! {
    fn spread_pixels(s, g: &Geometry, dy: &[f32], y: &[f32], indices: &[u8], start: usize, dx: &mut [f32]) {
        let c = g.input.c;
        let [kh, kw] = g.kernel;
        let (mut iy, mut ix) = (start / g.input.w, start % g.input.w);
        for dx in dx.chunks_exact_mut(c) {
            let (oy, ox) = (iy / kh, ix / kw);
            if oy < g.output.h && ox < g.output.w {
                let at = (oy * g.output.w + ox) * c;
                let cell = (iy % kh * kw + ix % kw) as u8;
                for (first, len) in blocks(c) {
                    let from = at + first;
                    let won = s.where_cell(s.load(dy, from, len), indices, from, len, cell);
                    s.store(s.mask(s.load(y, from, len), won), dx, first, len);
                }
            } else {
                dx.fill(0.0);
            }
            ix += 1;
            if ix == g.input.w {
                (iy, ix) = (iy + 1, 0);
            }
        }
    }
}

/// Gradient: each output's `dy` goes to its winner. Overwrites `dx`.
///
/// # Panics
///
/// As [`forward`].
pub fn backward(
    ctx: &Context,
    n: usize,
    shape: &PoolShape,
    dy: &[f32],
    indices: &[u8],
    dx: &mut [f32],
) {
    let g = Geometry::new(shape);
    check_activation("dy", dy, n, g.output);
    check_len("indices", indices, activation_len(n, g.output));
    check_activation("dx", dx, n, g.input);
    let tiled = shape.tiles_input();
    let row = g.input.w * g.input.c;
    let dx = Disjoint::new(dx);
    run_rows(
        ctx,
        n,
        g.input.h,
        row * if tiled { 2 } else { shape.cells().min(8) },
        &|image, iy| {
            // SAFETY: rows are disjoint.
            let dx = unsafe { dx.part(image * g.input.image_stride() + iy * row, row) };
            let from = image * g.output.image_stride();
            let (dy, indices) = (
                &dy[from..][..g.output.values()],
                &indices[from..][..g.output.values()],
            );
            if tiled {
                backward_row_tiled(ctx.isa(), &g, dy, indices, iy, dx);
            } else {
                backward_row(ctx.isa(), &g, dy, indices, iy, dx);
            }
        },
    );
}
