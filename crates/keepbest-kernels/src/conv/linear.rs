//! Linear layers in training: products with the weights where they lie, `[out][channel][pixel]`.
//!
//! A step uses each weight for a few images only, so what it costs is memory: packing would read and write all of them, twice, and
//! the gradient would be written twice. Here the activations, which are small, are re-laid instead.

use std::ops::Range;

use super::{ConvShape, Epilogue};
use crate::disjoint::Disjoint;
use crate::gemm::{self, Element, MAX_N, Pair, Side, Split, Tile};
use crate::simd::LANES;
use crate::{ActShape, Context, Padding};

/// Values summed in registers before they are added to the sum so far: bounds the rounding error, and keeps what a stage reads
/// again in the second-level cache.
const STAGE: usize = 1024;
/// The same for the data gradient, which reads as many rows of weights at once.
const GRADIENT_STAGE: usize = 128;
/// Outputs of a task of the forward pass.
const OUTPUTS: usize = 112;
/// Weights of a row that a task of a gradient takes.
const COLUMNS: usize = 1024;
/// Channels of a task that re-lays activations.
const CHANNELS: usize = 16;

const ONE: Pair = Pair { a: 0, b: 0, k: 1 };

#[derive(Debug)]
pub(crate) struct Linear {
    input: ActShape,
    outputs: usize,
    /// Weights of an output.
    depth: usize,
}

impl Linear {
    /// Plans a convolution whose kernel is the whole map; `None` for any other.
    pub(crate) fn new(shape: &ConvShape) -> Option<Linear> {
        let input = shape.input;
        let whole = shape.groups == 1
            && shape.kernel == [input.h, input.w]
            && shape.padding == Padding::NONE
            && shape.dilation == [1, 1];
        whole.then(|| Linear {
            input,
            outputs: shape.out_channels,
            depth: input.values(),
        })
    }

    fn output(&self) -> ActShape {
        ActShape::new(1, 1, self.outputs)
    }

    /// Floats that the context is to have for all tasks, with batches up to `n`: the activations once, in another order.
    pub(crate) fn staging_len(&self, n: usize) -> usize {
        n.next_multiple_of(LANES) * self.depth
    }

    /// Floats of scratch each thread needs, with batches up to `n`.
    pub(crate) fn scratch_len(&self, ctx: &Context, n: usize) -> usize {
        self.output_split(ctx).piece(0).1 * n.next_multiple_of(MAX_N)
    }

    /// Outputs, cut into tasks of the forward pass. How does not change a sum.
    fn output_split(&self, ctx: &Context) -> Split {
        let tasks = self.outputs.div_ceil(OUTPUTS).max(ctx.pool().threads());
        Split::new(self.outputs, self.outputs.div_ceil(tasks))
    }

    /// `x * weights`, and what the epilogue says. The caller has checked the lengths of all slices.
    pub(crate) fn forward(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        weights: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        let outputs = self.output_split(ctx);
        let y = Disjoint::new(y);
        ctx.with_staging(self.staging_len(n), |columns| {
            self.transpose(ctx, n, x, columns);
            let columns = &*columns;
            ctx.pool().run(outputs.pieces, &|task, worker| {
                let (first, count) = outputs.piece(task);
                // Sums of the task: `[block][output][MAX_N]`.
                ctx.with_scratch(worker, n.div_ceil(MAX_N) * count * MAX_N, |sums| {
                    self.multiply(ctx, n, weights, columns, first, count, sums);
                    self.finish(n, sums, first, count, epilogue, &y);
                });
            });
        });
    }

    /// `columns[block][weight][image]` in blocks of [`MAX_N`] images, the last as wide as it must be.
    fn transpose(&self, ctx: &Context, n: usize, x: &[f32], columns: &mut [f32]) {
        let ActShape { c, .. } = self.input;
        let pixels = self.input.pixels();
        let out = Disjoint::new(columns);
        let (blocks, slices) = (n.div_ceil(MAX_N), c.div_ceil(CHANNELS));
        ctx.pool().run(blocks * slices, &|task, _| {
            let (block, first) = (task / slices, task % slices * CHANNELS);
            let (image, images, width) = block_of(n, block);
            let channels = CHANNELS.min(c - first);
            let start = image * self.depth + first * pixels * width;
            // SAFETY: tasks take blocks and channels of their own.
            let out = unsafe { out.part(start, channels * pixels * width) };
            for i in 0..images {
                let x = &x[(image + i) * self.input.image_stride()..][..self.depth];
                for (pixel, x) in x.chunks_exact(c).enumerate() {
                    for (channel, &value) in x[first..first + channels].iter().enumerate() {
                        out[(channel * pixels + pixel) * width + i] = value;
                    }
                }
            }
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        ctx: &Context,
        n: usize,
        weights: &[f32],
        columns: &[f32],
        first: usize,
        count: usize,
        sums: &mut [f32],
    ) {
        let stages = Split::new(self.depth, STAGE);
        let rows = Split::new(count, gemm::max_rows(ctx.isa()));
        // What the tiles below read and write.
        assert!(weights.len() >= (first + count) * self.depth);
        assert!(columns.len() >= self.staging_len(n));
        assert!(sums.len() >= n.div_ceil(MAX_N) * count * MAX_N);
        for block in 0..n.div_ceil(MAX_N) {
            let (image, images, width) = block_of(n, block);
            for stage in 0..stages.pieces {
                let (start, steps) = stages.piece(stage);
                for piece in 0..rows.pieces {
                    let (row, m) = rows.piece(piece);
                    let c = sums
                        .as_mut_ptr()
                        .wrapping_add((block * count + row) * MAX_N);
                    let tile = Tile {
                        a: weights
                            .as_ptr()
                            .wrapping_add((first + row) * self.depth + start),
                        a_stride: self.depth,
                        b: columns
                            .as_ptr()
                            .wrapping_add(image * self.depth + start * width),
                        b_stride: width,
                        c,
                        c_stride: MAX_N,
                        add: if stage == 0 { std::ptr::null() } else { c },
                        add_stride: MAX_N,
                        residual: std::ptr::null(),
                        relu: false,
                        pairs: &ONE,
                        pair_count: 1,
                        b_unit: 0,
                        k_unit: steps,
                        repetitions: 1,
                        a_repetition: 0,
                        b_repetition: 0,
                        n: images,
                    };
                    // SAFETY: rows of weights and steps of columns are inside the slices: asserted above. The sums are the
                    // task's own.
                    unsafe { gemm::run(ctx.isa(), Element::F32, Side::Rows, m, &tile) };
                }
            }
        }
    }

    /// The sums of some outputs as `y[image][output]`.
    fn finish(
        &self,
        n: usize,
        sums: &[f32],
        first: usize,
        count: usize,
        epilogue: Epilogue<'_>,
        y: &Disjoint<'_, f32>,
    ) {
        for image in 0..n {
            let at = image * self.output().image_stride() + first;
            // SAFETY: tasks take outputs of their own.
            let y = unsafe { y.part(at, count) };
            let sums = &sums[image / MAX_N * count * MAX_N + image % MAX_N..];
            for (output, y) in y.iter_mut().enumerate() {
                let mut value = sums[output * MAX_N];
                if let Some(bias) = epilogue.bias {
                    value += bias[first + output];
                }
                if let Some(residual) = epilogue.residual {
                    value += residual[at + output];
                }
                *y = if epilogue.relu {
                    crate::relu::rectify(value)
                } else {
                    value
                };
            }
        }
    }

    /// Gradient with respect to the input. The caller has checked the lengths of all slices.
    pub(crate) fn backward_data(
        &self,
        ctx: &Context,
        n: usize,
        dy: &[f32],
        weights: &[f32],
        dx: &mut [f32],
    ) {
        if self.input.pixels() == 1 {
            let stride = self.input.image_stride();
            self.gradient_rows(ctx, n, dy, weights, stride, dx);
        } else {
            ctx.with_staging(self.staging_len(n), |rows| {
                self.gradient_rows(ctx, n, dy, weights, self.depth, rows);
                self.scatter_rows(ctx, n, rows, dx);
            });
        }
    }

    /// `rows[image][weight]`, rows `stride` floats apart.
    fn gradient_rows(
        &self,
        ctx: &Context,
        n: usize,
        dy: &[f32],
        weights: &[f32],
        stride: usize,
        rows: &mut [f32],
    ) {
        let stages = Split::new(self.outputs, GRADIENT_STAGE);
        let images = Split::new(n, gemm::max_rows(ctx.isa()));
        let dy_stride = self.output().image_stride();
        // What the tiles below read and write.
        assert!(weights.len() >= self.outputs * self.depth);
        assert!(n == 0 || dy.len() >= (n - 1) * dy_stride + self.outputs);
        assert!(n == 0 || rows.len() >= (n - 1) * stride + self.depth);
        let out = Disjoint::new(rows);
        let (tasks, range) = self.column_ranges(ctx);
        ctx.pool().run(tasks.pieces, &|task, _| {
            let columns = range(task);
            for stage in 0..stages.pieces {
                let (output, steps) = stages.piece(stage);
                for column in columns.clone().step_by(MAX_N) {
                    for piece in 0..images.pieces {
                        let (image, m) = images.piece(piece);
                        let c = out.pointer().wrapping_add(image * stride + column);
                        let tile = Tile {
                            a: dy.as_ptr().wrapping_add(image * dy_stride + output),
                            a_stride: dy_stride,
                            b: weights.as_ptr().wrapping_add(output * self.depth + column),
                            b_stride: self.depth,
                            c,
                            c_stride: stride,
                            add: if stage == 0 { std::ptr::null() } else { c },
                            add_stride: stride,
                            residual: std::ptr::null(),
                            relu: false,
                            pairs: &ONE,
                            pair_count: 1,
                            b_unit: 0,
                            k_unit: steps,
                            repetitions: 1,
                            a_repetition: 0,
                            b_repetition: 0,
                            n: MAX_N.min(columns.end - column),
                        };
                        // SAFETY: images, outputs and columns are inside the slices: asserted above. Tasks take columns of
                        // their own.
                        unsafe { gemm::run(ctx.isa(), Element::F32, Side::Rows, m, &tile) };
                    }
                }
            }
        });
    }

    /// Gradient with respect to the weights. Overwrites `dw`. The caller has checked the lengths of all slices.
    pub(crate) fn backward_weights(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
    ) {
        if self.input.pixels() == 1 {
            let stride = self.input.image_stride();
            self.weight_rows(ctx, n, (x, stride), dy, dw);
        } else {
            ctx.with_staging(self.staging_len(n), |rows| {
                self.gather_rows(ctx, n, x, rows);
                self.weight_rows(ctx, n, (rows, self.depth), dy, dw);
            });
        }
    }

    fn weight_rows(
        &self,
        ctx: &Context,
        n: usize,
        (rows, stride): (&[f32], usize),
        dy: &[f32],
        dw: &mut [f32],
    ) {
        let outputs = Split::new(self.outputs, gemm::max_rows(ctx.isa()));
        let dy_stride = self.output().image_stride();
        // What the tiles below read and write.
        assert!(dw.len() >= self.outputs * self.depth);
        assert!(n == 0 || dy.len() >= (n - 1) * dy_stride + self.outputs);
        assert!(n == 0 || rows.len() >= (n - 1) * stride + self.depth);
        let out = Disjoint::new(dw);
        let (tasks, range) = self.column_ranges(ctx);
        ctx.pool().run(tasks.pieces, &|task, _| {
            let columns = range(task);
            for piece in 0..outputs.pieces {
                let (output, m) = outputs.piece(piece);
                for column in columns.clone().step_by(MAX_N) {
                    let tile = Tile {
                        a: dy.as_ptr().wrapping_add(output),
                        a_stride: dy_stride,
                        b: rows.as_ptr().wrapping_add(column),
                        b_stride: stride,
                        c: out.pointer().wrapping_add(output * self.depth + column),
                        c_stride: self.depth,
                        add: std::ptr::null(),
                        add_stride: 0,
                        residual: std::ptr::null(),
                        relu: false,
                        pairs: &ONE,
                        pair_count: 1,
                        b_unit: 0,
                        k_unit: n,
                        repetitions: 1,
                        a_repetition: 0,
                        b_repetition: 0,
                        n: MAX_N.min(columns.end - column),
                    };
                    // SAFETY: images, outputs and columns are inside the slices: asserted above. Tasks take columns of their
                    // own.
                    unsafe { gemm::run(ctx.isa(), Element::F32, Side::Columns, m, &tile) };
                }
            }
        });
    }

    /// Columns of the weights, cut into tasks at whole tiles. How does not change a sum.
    fn column_ranges(&self, ctx: &Context) -> (Split, impl Fn(usize) -> Range<usize>) {
        let tiles = self.depth.div_ceil(MAX_N);
        let most = (COLUMNS / MAX_N).min(tiles.div_ceil(4 * ctx.pool().threads()));
        let split = Split::new(tiles, most.max(1));
        let depth = self.depth;
        let range = move |task| {
            let (first, count) = split.piece(task);
            first * MAX_N..depth.min((first + count) * MAX_N)
        };
        (split, range)
    }

    /// `rows[image][weight]` from `x[image][pixel][channel]`.
    fn gather_rows(&self, ctx: &Context, n: usize, x: &[f32], rows: &mut [f32]) {
        let (c, pixels) = (self.input.c, self.input.pixels());
        let out = Disjoint::new(rows);
        ctx.pool().run(n, &|image, _| {
            // SAFETY: tasks take images of their own.
            let row = unsafe { out.part(image * self.depth, self.depth) };
            let x = &x[image * self.input.image_stride()..][..self.depth];
            for (pixel, x) in x.chunks_exact(c).enumerate() {
                for (channel, &value) in x.iter().enumerate() {
                    row[channel * pixels + pixel] = value;
                }
            }
        });
    }

    /// The inverse of [`gather_rows`](Self::gather_rows).
    fn scatter_rows(&self, ctx: &Context, n: usize, rows: &[f32], x: &mut [f32]) {
        let (c, pixels) = (self.input.c, self.input.pixels());
        let out = Disjoint::new(x);
        ctx.pool().run(n, &|image, _| {
            // SAFETY: tasks take images of their own.
            let x = unsafe { out.part(image * self.input.image_stride(), self.depth) };
            let row = &rows[image * self.depth..][..self.depth];
            for (pixel, x) in x.chunks_exact_mut(c).enumerate() {
                for (channel, value) in x.iter_mut().enumerate() {
                    *value = row[channel * pixels + pixel];
                }
            }
        });
    }
}

/// First image, images, and floats from step to step of a block of transposed activations.
fn block_of(n: usize, block: usize) -> (usize, usize, usize) {
    let first = block * MAX_N;
    let images = MAX_N.min(n - first);
    (first, images, images.next_multiple_of(LANES))
}
