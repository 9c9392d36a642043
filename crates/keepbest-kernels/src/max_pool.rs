//! Max pooling. The winner's place in its window is kept as one byte.

use crate::chunks::{activation_len, check_activation, check_len};
use crate::disjoint::Disjoint;
use crate::{ActShape, Context, PoolShape};

/// Bytes of winners [`forward`] writes for `n` images: as many as the output has floats, gaps included.
pub fn indices_len(n: usize, output: ActShape) -> usize {
    output.len(n)
}

/// What the row kernels need to know.
#[derive(Clone, Copy)]
struct Geometry {
    input: ActShape,
    output: ActShape,
    kernel: [usize; 2],
    stride: [usize; 2],
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
            padding: shape.padding,
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

/// Maxima of `L` channels from `channel` on, over the cells of one window.
#[inline(always)]
fn window_max<const L: usize>(
    g: &Geometry,
    image: &[f32],
    (oy, ox): (usize, usize),
    (rows, columns): (&std::ops::Range<usize>, &std::ops::Range<usize>),
    channel: usize,
) -> ([f32; L], [u32; L]) {
    let mut best = [f32::NEG_INFINITY; L];
    let mut winner = [(rows.start * g.kernel[1] + columns.start) as u32; L];
    for ky in rows.clone() {
        let row = g.source(0, oy, ky) * g.input.w;
        for kx in columns.clone() {
            let at = (row + g.source(1, ox, kx)) * g.input.c + channel;
            let x: &[f32; L] = image[at..].first_chunk().expect("a block of channels");
            let cell = (ky * g.kernel[1] + kx) as u32;
            for lane in 0..L {
                let take = x[lane] > best[lane] || x[lane].is_nan();
                best[lane] = if take { x[lane] } else { best[lane] };
                winner[lane] = if take { cell } else { winner[lane] };
            }
        }
    }
    (best, winner)
}

#[inline(always)]
fn store<const L: usize>(
    best: [f32; L],
    winner: [u32; L],
    y: &mut [f32],
    indices: Option<&mut [u8]>,
) {
    y[..L].copy_from_slice(&best);
    if let Some(indices) = indices {
        let indices: &mut [u8; L] = indices.first_chunk_mut().expect("a block of channels");
        for lane in 0..L {
            indices[lane] = winner[lane] as u8;
        }
    }
}

multiversion! {
    fn forward_row(g: &Geometry, image: &[f32], oy: usize, y: &mut [f32], indices: Option<&mut [u8]>) {
        let c = g.input.c;
        let rows = g.valid(0, oy);
        let mut indices = indices;
        for ox in 0..g.output.w {
            let columns = g.valid(1, ox);
            let mut channel = 0;
            while channel + 16 <= c {
                let (best, winner) = window_max::<16>(g, image, (oy, ox), (&rows, &columns), channel);
                let at = ox * c + channel;
                store(best, winner, &mut y[at..], indices.as_deref_mut().map(|i| &mut i[at..]));
                channel += 16;
            }
            while channel < c {
                let (best, winner) = window_max::<1>(g, image, (oy, ox), (&rows, &columns), channel);
                let at = ox * c + channel;
                store(best, winner, &mut y[at..], indices.as_deref_mut().map(|i| &mut i[at..]));
                channel += 1;
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
            forward_row(ctx.isa(), &g, x, oy, y, indices);
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

/// Adds to `acc` the gradients of window `(oy, ox)` whose winner is `cell`.
#[inline(always)]
fn gather<const L: usize>(dy: &[f32], indices: &[u8], at: usize, cell: u8, acc: &mut [f32; L]) {
    let dy: &[f32; L] = dy[at..].first_chunk().expect("a block of channels");
    let winner: &[u8; L] = indices[at..].first_chunk().expect("a block of channels");
    for lane in 0..L {
        acc[lane] += if winner[lane] == cell { dy[lane] } else { 0.0 };
    }
}

#[inline(always)]
fn gather_pixel<const L: usize>(
    g: &Geometry,
    dy: &[f32],
    indices: &[u8],
    (iy, ix): (usize, usize),
    channel: usize,
    dx: &mut [f32],
) {
    let mut acc = [0.0f32; L];
    for ky in 0..g.kernel[0] {
        let Some(oy) = window_at(g, 0, iy, ky) else {
            continue;
        };
        for kx in 0..g.kernel[1] {
            let Some(ox) = window_at(g, 1, ix, kx) else {
                continue;
            };
            let at = (oy * g.output.w + ox) * g.output.c + channel;
            gather(dy, indices, at, (ky * g.kernel[1] + kx) as u8, &mut acc);
        }
    }
    dx[..L].copy_from_slice(&acc);
}

/// The output coordinate whose window has `cell` at input coordinate `at`.
#[inline(always)]
fn window_at(g: &Geometry, axis: usize, at: usize, cell: usize) -> Option<usize> {
    let size = if axis == 0 { g.output.h } else { g.output.w };
    let shifted = (at + g.padding[axis]).checked_sub(cell * g.dilation[axis])?;
    let out = if g.stride[axis] == 1 {
        shifted
    } else if shifted.is_multiple_of(g.stride[axis]) {
        shifted / g.stride[axis]
    } else {
        return None;
    };
    (out < size).then_some(out)
}

multiversion! {
    /// Input row `iy` of the gradient, any geometry.
    fn backward_row(g: &Geometry, dy: &[f32], indices: &[u8], iy: usize, dx: &mut [f32]) {
        let c = g.input.c;
        for ix in 0..g.input.w {
            let mut channel = 0;
            while channel + 16 <= c {
                gather_pixel::<16>(g, dy, indices, (iy, ix), channel, &mut dx[ix * c + channel..]);
                channel += 16;
            }
            while channel < c {
                gather_pixel::<1>(g, dy, indices, (iy, ix), channel, &mut dx[ix * c + channel..]);
                channel += 1;
            }
        }
    }
}

multiversion! {
    /// Input row `iy` of the gradient where windows tile the input (stride = kernel, no padding): each pixel has one window.
    fn backward_row_tiled(g: &Geometry, dy: &[f32], indices: &[u8], iy: usize, dx: &mut [f32]) {
        let c = g.input.c;
        let [kh, kw] = g.kernel;
        let (oy, ky) = (iy / kh, iy % kh);
        if oy >= g.output.h {
            dx.fill(0.0);
            return;
        }
        let used = g.output.w * kw * c;
        dx[used..].fill(0.0);
        let start = oy * g.output.w * c;
        let (dy, indices) = (&dy[start..start + g.output.w * c], &indices[start..start + g.output.w * c]);
        let windows = dx[..used].chunks_exact_mut(kw * c).zip(dy.chunks_exact(c)).zip(indices.chunks_exact(c));
        for ((window, dy), winner) in windows {
            for (kx, dx) in window.chunks_exact_mut(c).enumerate() {
                let cell = (ky * kw + kx) as u8;
                let (dxs, dx_rest) = dx.as_chunks_mut::<16>();
                let (dys, dy_rest) = dy.as_chunks::<16>();
                let (winners, winner_rest) = winner.as_chunks::<16>();
                for ((dx, dy), winner) in dxs.iter_mut().zip(dys).zip(winners) {
                    for lane in 0..16 {
                        dx[lane] = if winner[lane] == cell { dy[lane] } else { 0.0 };
                    }
                }
                for ((dx, &dy), &winner) in dx_rest.iter_mut().zip(dy_rest).zip(winner_rest) {
                    *dx = if winner == cell { dy } else { 0.0 };
                }
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
    let tiled = g.kernel == g.stride && g.padding == [0, 0] && g.dilation == [1, 1];
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
