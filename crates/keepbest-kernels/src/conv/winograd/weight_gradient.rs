//! The weight gradient, as the adjoint of the forward pass: for every point, transformed inputs times transformed gradients,
//! summed over tiles; then back from points to taps.

use super::transform;
use super::{COLUMNS, IN, OUT, POINTS, Winograd, Work};
use crate::disjoint::Disjoint;
use crate::gemm::{self, Pair, Side, Split, Tile};
use crate::simd::{LANES, Simd, blocks};
use crate::{ActShape, Context};

/// Tasks aimed at, as sections of the tiles times groups of columns.
const TASKS: usize = 8;
/// Input channels of a task of the last phase.
const SLICE: usize = 16;

/// Geometry of the forward pass, and the order of its sums: nothing here depends on the machine.
#[derive(Debug)]
pub(crate) struct WinogradGradient {
    plan: Winograd,
}

impl WinogradGradient {
    pub(crate) fn new(plan: Winograd) -> WinogradGradient {
        WinogradGradient { plan }
    }

    /// Groups of at most [`COLUMNS`] output channels.
    fn groups(&self) -> usize {
        self.plan.dst.c.div_ceil(COLUMNS)
    }

    /// Floats of the sums of one section and group: `[point][depth][COLUMNS]`.
    fn part_len(&self) -> usize {
        POINTS * self.plan.src.c * COLUMNS
    }

    fn blocks(&self, n: usize) -> usize {
        (n * self.plan.grid[0] * self.plan.grid[1]).div_ceil(self.plan.block)
    }

    /// Independent partial sums, added at the end.
    fn sections(&self, n: usize) -> usize {
        (TASKS / self.groups()).clamp(1, self.blocks(n).max(1))
    }

    /// Floats of scratch each thread needs.
    pub(crate) fn thread_scratch_len(&self) -> usize {
        self.plan.scratch_len()
    }

    /// Floats of the sums of batches up to `n`.
    pub(crate) fn scratch_len(&self, n: usize) -> usize {
        self.sections(n) * self.groups() * self.part_len()
    }

    /// Computes the gradient of `n` images. The caller has checked the lengths of all slices.
    pub(crate) fn run(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        dy: &[f32],
        scratch: &mut [f32],
        dw: &mut [f32],
    ) {
        let plan = &self.plan;
        let tiles = n * plan.grid[0] * plan.grid[1];
        let (sections, groups, blocks) = (self.sections(n), self.groups(), self.blocks(n));
        let sums = Disjoint::new(&mut scratch[..self.scratch_len(n)]);
        ctx.pool().run(sections * groups, &|task, worker| {
            let (section, group) = (task / groups, task % groups);
            // SAFETY: each task takes its own sums.
            let sums = unsafe { sums.part(task * self.part_len(), self.part_len()) };
            if blocks == 0 {
                sums.fill(0.0);
            }
            let first_column = group * COLUMNS;
            let columns = COLUMNS.min(plan.dst.c - first_column);
            ctx.with_scratch(worker, plan.scratch_len(), |scratch| {
                let start = blocks * section / sections;
                for block in start..blocks * (section + 1) / sections {
                    let first_tile = block * plan.block;
                    let count = plan.block.min(tiles - first_tile);
                    let work = Work::new(plan, first_tile, count);
                    let (input, gradient) = scratch.split_at_mut(POINTS * work.point);
                    work.transform_input(ctx, x, input);
                    transform_gradient(ctx.isa(), &work, dy, first_column, columns, gradient);
                    multiply(ctx, &work, columns, input, gradient, sums, block == start);
                }
            });
        });
        self.finish(ctx, sections, scratch, dw);
    }

    fn finish(&self, ctx: &Context, sections: usize, sums: &[f32], dw: &mut [f32]) {
        let (depth, width) = (self.plan.src.c, self.plan.dst.c);
        let slices = depth.div_ceil(SLICE);
        let section_len = self.groups() * self.part_len();
        let out = Disjoint::new(dw);
        ctx.pool().run(width.div_ceil(LANES) * slices, &|task, _| {
            let column = task / slices * LANES;
            let first = task % slices * SLICE;
            let group = &sums[column / COLUMNS * self.part_len() + column % COLUMNS..];
            finish_slice(
                ctx.isa(),
                group,
                section_len,
                sections,
                depth,
                first..depth.min(first + SLICE),
                column,
                LANES.min(width - column),
                &out,
            );
        });
    }
}

/// Adds the products of one block's tiles to the sums of its columns; writes them there when `fresh`.
fn multiply(
    ctx: &Context,
    work: &Work,
    columns: usize,
    input: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
    fresh: bool,
) {
    let plan = work.plan;
    let depth = plan.src.c;
    let rows = Split::new(depth, gemm::max_rows(ctx.isa()));
    let pair = Pair { a: 0, b: 0, k: 1 };
    // What the tiles below read and write.
    assert!(input.len() >= POINTS * work.point && work.point >= work.rows * plan.row);
    assert!(gradient.len() >= POINTS * work.product_point);
    assert!(work.product_point >= work.rows * COLUMNS && plan.row >= depth);
    assert!(sums.len() >= POINTS * depth * COLUMNS && columns <= COLUMNS);
    for point in 0..POINTS {
        for column in (0..columns).step_by(gemm::MAX_N) {
            for piece in 0..rows.pieces {
                let (first, m) = rows.piece(piece);
                let c = sums
                    .as_mut_ptr()
                    .wrapping_add((point * depth + first) * COLUMNS + column);
                let tile = Tile {
                    a: input.as_ptr().wrapping_add(point * work.point + first),
                    a_stride: plan.row,
                    b: gradient
                        .as_ptr()
                        .wrapping_add(point * work.product_point + column),
                    b_stride: COLUMNS,
                    c,
                    c_stride: COLUMNS,
                    add: if fresh { std::ptr::null() } else { c },
                    add_stride: COLUMNS,
                    residual: std::ptr::null(),
                    relu: false,
                    pairs: &pair,
                    pair_count: 1,
                    b_unit: 0,
                    k_unit: work.rows,
                    repetitions: 1,
                    a_repetition: 0,
                    b_repetition: 0,
                    n: (columns - column).min(gemm::MAX_N),
                };
                // SAFETY: `input` and `gradient` hold a row for every tile, `sums` a row for every channel, each wide enough:
                // asserted above. The scratch and the sums are this task's own.
                unsafe { gemm::run(ctx.isa(), plan.form.element(), Side::Columns, m, &tile) };
            }
        }
    }
}

/// One column of a tile of the output's gradient, transformed; zeros outside the image.
#[inline(always)]
fn gradient_column<S: Simd>(
    s: S,
    dy: &[f32],
    shape: ActShape,
    at: usize,
    height: usize,
    inside: bool,
    count: usize,
) -> [S::F; IN] {
    let mut column = [s.splat(0.0); OUT];
    if inside {
        for y in 0..OUT {
            if y < height {
                column[y] = s.load(dy, at + y * shape.w * shape.c, count);
            }
        }
    }
    transform::output_adjoint(s, column)
}

vectorised! {
    fn transform_gradient(
        s,
        work: &Work,
        dy: &[f32],
        first_column: usize,
        columns: usize,
        out: &mut [f32],
    ) {
        let (shape, form) = (work.plan.dst, work.plan.form);
        for tile in 0..work.tiles {
            let (image, ty, tx) = work.place(tile);
            let (height, width) = (OUT.min(shape.h - ty * OUT), OUT.min(shape.w - tx * OUT));
            let corner = image * shape.image_stride()
                + (ty * OUT * shape.w + tx * OUT) * shape.c + first_column;
            for (first, count) in blocks(columns) {
                let (at, c) = (corner + first, shape.c);
                let half = [
                    gradient_column(s, dy, shape, at, height, true, count),
                    gradient_column(s, dy, shape, at + c, height, width > 1, count),
                    gradient_column(s, dy, shape, at + 2 * c, height, width > 2, count),
                    gradient_column(s, dy, shape, at + 3 * c, height, width > 3, count),
                ];
                for y in 0..IN {
                    let row = [half[0][y], half[1][y], half[2][y], half[3][y]];
                    let row = transform::output_adjoint(s, row);
                    for x in 0..IN {
                        let to = (y * IN + x) * work.product_point + tile / form.tiles() * COLUMNS;
                        form.store(s, row[x], out, to, tile, (first, count));
                    }
                }
            }
        }
    }
}

/// One column of the points of sixteen kernels, summed over sections and transformed.
#[inline(always)]
fn sum_column<S: Simd>(
    s: S,
    sums: &[f32],
    at: usize,
    step: usize,
    section_len: usize,
    sections: usize,
    count: usize,
) -> [S::F; 3] {
    let mut column = [s.splat(0.0); IN];
    for y in 0..IN {
        column[y] = s.load(sums, at + y * IN * step, count);
    }
    for section in 1..sections {
        for y in 0..IN {
            let part = s.load(sums, section * section_len + at + y * IN * step, count);
            column[y] = s.add(column[y], part);
        }
    }
    transform::weights_adjoint(s, column)
}

vectorised! {
    fn finish_slice(
        s,
        sums: &[f32],
        section_len: usize,
        sections: usize,
        depth: usize,
        channels: std::ops::Range<usize>,
        column: usize,
        count: usize,
        dw: &Disjoint<'_, f32>,
    ) {
        let step = depth * COLUMNS;
        for channel in channels {
            let at = channel * COLUMNS;
            let half = [
                sum_column(s, sums, at, step, section_len, sections, count),
                sum_column(s, sums, at + step, step, section_len, sections, count),
                sum_column(s, sums, at + 2 * step, step, section_len, sections, count),
                sum_column(s, sums, at + 3 * step, step, section_len, sections, count),
                sum_column(s, sums, at + 4 * step, step, section_len, sections, count),
                sum_column(s, sums, at + 5 * step, step, section_len, sections, count),
            ];
            let mut taps = [[0.0f32; LANES]; 9];
            for y in 0..3 {
                let row = [half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]];
                let row = transform::weights_adjoint(s, row);
                for x in 0..3 {
                    s.store(row[x], &mut taps[3 * y + x], 0, LANES);
                }
            }
            for lane in 0..count {
                // SAFETY: tasks differ in columns or channels, so no two take the same weights.
                let out = unsafe { dw.part(((column + lane) * depth + channel) * 9, 9) };
                for tap in 0..9 {
                    out[tap] = taps[tap][lane];
                }
            }
        }
    }
}
