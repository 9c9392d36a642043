//! 3x3 convolution with stride 1 in a quarter of the products: Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308).
//!
//! A tile of 4x4 output pixels comes from 6x6 input pixels. Both the input tile and the weights are evaluated at 36 points;
//! for every point the tiles' channels times the weights' is one product of matrices, 36 products instead of 144, and a last
//! transform gives the outputs. A task takes some tiles through all three phases, in scratch that stays in its core's cache.

// Loops over registers: indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

mod transform;
mod weight_gradient;

use super::{ConvShape, Epilogue};
use crate::disjoint::Disjoint;
use crate::gemm::{self, Element, Pair, Side, Split, Tile};
use crate::simd::{LANES, Simd, blocks};
use crate::{ActShape, Context};
use transform::{IN, OUT, POINTS};

pub(crate) use weight_gradient::WinogradGradient;

/// Words summed in registers before they are added to the sum so far: bounds the rounding error, and keeps the weights of
/// a stage in the first-level cache (64 x 32 floats = 8 KiB).
const STAGE: usize = 64;
/// Columns whose products are made before they are transformed back.
const COLUMNS: usize = 2 * gemm::MAX_N;
/// Floats of transformed input a task aims at: 512 KiB.
const INPUT_LEN: usize = 128 << 10;
/// Fewest and most rows of tiles of a task, where there are enough.
const TILES: [usize; 2] = [28, 56];
/// Cost of transforming one channel of one tile, in fused multiply-adds.
const TRANSFORM_COST: usize = 200;
/// Cost of packing a weight at one point, and of reading it from memory, in fused multiply-adds.
const PACKING_COST: usize = 54;
/// Words of a task of packing.
const SLICE: usize = 16;

/// What a word of the transformed input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    F32,
    /// Two neighbouring channels in `bf16`, for sums over channels.
    ChannelPairs,
    /// The same channel of two neighbouring tiles in `bf16`, for sums over tiles.
    TilePairs,
}

impl Form {
    fn element(self) -> Element {
        match self {
            Form::F32 => Element::F32,
            Form::ChannelPairs | Form::TilePairs => Element::Bf16Pair,
        }
    }

    /// Words of a row of `channels`.
    fn words(self, channels: usize) -> usize {
        match self {
            Form::ChannelPairs => channels / 2,
            Form::F32 | Form::TilePairs => channels,
        }
    }

    /// Tiles of a row.
    fn tiles(self) -> usize {
        match self {
            Form::TilePairs => 2,
            Form::F32 | Form::ChannelPairs => 1,
        }
    }

    /// Stores channels `first..first + count` of a tile in its row, which starts at `row`.
    #[inline(always)]
    fn store<S: Simd>(
        self,
        s: S,
        v: S::F,
        out: &mut [f32],
        row: usize,
        tile: usize,
        (first, count): (usize, usize),
    ) {
        match self {
            Form::F32 => s.store(v, out, row + first, count),
            Form::ChannelPairs => s.store_bf16(v, out, row + first / 2, count),
            // Leaves zero for a second tile, which may not come.
            Form::TilePairs if tile.is_multiple_of(2) => {
                s.store(s.bf16_low(v), out, row + first, count);
            }
            Form::TilePairs => {
                let low = s.load(out, row + first, count);
                s.store(s.bf16_high(low, v), out, row + first, count);
            }
        }
    }
}

/// One direction of a convolution: forward, or the data gradient, which is the same with flipped weights.
#[derive(Debug)]
pub(crate) struct Winograd {
    form: Form,
    src: ActShape,
    dst: ActShape,
    padding: [usize; 2],
    /// Tiles down and across an image.
    grid: [usize; 2],
    panels: Vec<Panel>,
    packed_len: usize,
    depths: Split,
    /// Words summed over, or rows of the gradient.
    depth: usize,
    /// Words from row to row of transformed input.
    row: usize,
    /// Most tiles of a task.
    block: usize,
}

/// Weights of some output channels: `[point][depth][stride]` words.
#[derive(Clone, Copy, Debug)]
struct Panel {
    first: usize,
    columns: usize,
    stride: usize,
    offset: usize,
}

/// The place of the weight of (column, channel, tap) before it is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightOrder {
    pub(crate) column: usize,
    pub(crate) depth: usize,
    pub(crate) flip: bool,
}

/// Products of one channel pair that the direct method makes along an axis.
fn direct_products(src: usize, dst: usize, padding: usize) -> usize {
    (0..dst)
        .flat_map(|o| o..o + 3)
        .filter(|i| (padding..padding + src).contains(i))
        .count()
}

impl Winograd {
    /// Plans from `src` to `dst`, or `None` where the direct method is better. Depends on the shape alone, so that a network
    /// gives the same bits on every machine, and in prediction in every batch. In training, with a `batch`, weights are packed
    /// every step, which pays only where there are enough images.
    pub(crate) fn new(
        batch: Option<usize>,
        form: Form,
        shape: &ConvShape,
        src: ActShape,
        dst: ActShape,
        padding: [usize; 2],
    ) -> Option<Winograd> {
        let plain = shape.kernel == [3, 3]
            && shape.stride == [1, 1]
            && shape.dilation == [1, 1]
            && shape.groups == 1
            && [shape.padding.before, shape.padding.after]
                .as_flattened()
                .iter()
                .all(|&p| p <= 2);
        if !plain || src.c.min(dst.c) < LANES {
            return None;
        }
        let grid = [dst.h.div_ceil(OUT), dst.w.div_ceil(OUT)];
        let tiles = grid[0] * grid[1];
        // With fewer tiles an image's arithmetic is little beside four times the weights' memory.
        if tiles < 4 && batch.is_none() {
            return None;
        }
        let direct = direct_products(src.h, dst.h, padding[0])
            * direct_products(src.w, dst.w, padding[1])
            * src.c
            * dst.c;
        // Products of pairs take half the time, transforms the same.
        let transform = match form.element() {
            Element::F32 => TRANSFORM_COST,
            Element::Bf16Pair => 2 * TRANSFORM_COST,
        };
        let images = batch.unwrap_or(1);
        let packing = if batch.is_some() { PACKING_COST } else { 0 };
        let here = images * tiles * (POINTS * src.c * dst.c + transform * (src.c + dst.c))
            + packing * POINTS * src.c * dst.c;
        (here < images * direct).then(|| Winograd::planned(form, src, dst, padding))
    }

    fn planned(form: Form, src: ActShape, dst: ActShape, padding: [usize; 2]) -> Winograd {
        let depth = form.words(src.c);
        let mut panels = Vec::new();
        let (mut first, mut offset) = (0, 0);
        while first < dst.c {
            let columns = (dst.c - first).min(gemm::MAX_N);
            let stride = columns.next_multiple_of(LANES);
            panels.push(Panel {
                first,
                columns,
                stride,
                offset,
            });
            offset += POINTS * depth * stride;
            first += columns;
        }
        let row = depth.next_multiple_of(LANES);
        // Rows a multiple of 1 KiB apart would share few cache sets.
        let row = row + if row.is_multiple_of(256) { LANES } else { 0 };
        let most = gemm::max_rows(crate::isa::Isa::Avx512);
        let rows = (INPUT_LEN / (POINTS * row) / most * most).clamp(TILES[0], TILES[1]);
        Winograd {
            form,
            src,
            dst,
            padding,
            grid: [dst.h.div_ceil(OUT), dst.w.div_ceil(OUT)],
            panels,
            packed_len: offset,
            depths: Split::new(depth, STAGE),
            depth,
            row,
            block: form.tiles() * rows,
        }
    }

    pub(crate) fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Floats from point to point, for rows of `row` floats: an odd number of cache lines, so that the points of a tile fall
    /// into different sets.
    fn point(&self, rows: usize, row: usize) -> usize {
        ((rows * row / LANES) | 1) * LANES
    }

    /// Floats of scratch each thread needs.
    pub(crate) fn scratch_len(&self) -> usize {
        let rows = self.block / self.form.tiles();
        POINTS * (self.point(rows, self.row) + self.point(rows, COLUMNS))
    }

    /// Evaluates the weights at the points.
    pub(crate) fn pack(
        &self,
        ctx: &Context,
        weights: &[f32],
        order: WeightOrder,
        packed: &mut [f32],
    ) {
        let slices = self.depth.div_ceil(SLICE);
        let out = Disjoint::new(packed);
        ctx.pool().run(self.panels.len() * slices, &|task, _| {
            let panel = &self.panels[task / slices];
            let first = task % slices * SLICE;
            let count = SLICE.min(self.depth - first);
            let weights = &weights[panel.first * order.column..];
            pack_slice(
                ctx.isa(),
                weights,
                order,
                panel,
                self.form,
                self.depth,
                first,
                count,
                &out,
            );
        });
    }

    /// Computes `dst` for `n` images. The caller has checked the lengths of all slices.
    pub(crate) fn run(
        &self,
        ctx: &Context,
        n: usize,
        src: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        dst: &mut [f32],
    ) {
        let tiles = n * self.grid[0] * self.grid[1];
        let threads = ctx.pool().threads();
        let wanted = if threads == 1 { 1 } else { 2 * threads };
        let enough = tiles.div_ceil(wanted).max(gemm::max_rows(ctx.isa()));
        let tiles = Split::new(tiles, self.block.min(enough));
        // A few tiles are transformed again for each part of the columns.
        let parts = if tiles.pieces == 0 {
            1
        } else {
            wanted.div_ceil(tiles.pieces)
        };
        let panels = Split::new(self.panels.len(), self.panels.len().div_ceil(parts));
        let dst = Disjoint::new(dst);
        ctx.pool()
            .run(tiles.pieces * panels.pieces, &|task, worker| {
                let (first_tile, count) = tiles.piece(task / panels.pieces);
                let (first_panel, panel_count) = panels.piece(task % panels.pieces);
                ctx.with_scratch(worker, self.scratch_len(), |scratch| {
                    let work = Work::new(self, first_tile, count);
                    let (input, products) = scratch.split_at_mut(POINTS * work.point);
                    work.transform_input(ctx, src, input);
                    let panels = &self.panels[first_panel..first_panel + panel_count];
                    for panels in panels.chunks(COLUMNS / gemm::MAX_N) {
                        work.multiply(ctx, panels, input, packed, products);
                        let first = panels[0].first;
                        let columns = panels.iter().map(|p| p.columns).sum();
                        transform_output(
                            ctx.isa(),
                            &work,
                            products,
                            first,
                            columns,
                            epilogue,
                            &dst,
                        );
                    }
                });
            });
    }
}

/// Some tiles, all the way.
struct Work<'a> {
    plan: &'a Winograd,
    first_tile: usize,
    tiles: usize,
    /// Rows of words that they make.
    rows: usize,
    /// Floats from point to point of the transformed input, and of the products.
    point: usize,
    product_point: usize,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Winograd, first_tile: usize, tiles: usize) -> Work<'a> {
        let rows = tiles.div_ceil(plan.form.tiles());
        Work {
            plan,
            first_tile,
            tiles,
            rows,
            point: plan.point(rows, plan.row),
            product_point: plan.point(rows, COLUMNS),
        }
    }

    /// Start of a tile's image, and the coordinates of the tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [down, across] = self.plan.grid;
        let tile = self.first_tile + tile;
        let (image, tile) = (tile / (down * across), tile % (down * across));
        (image, tile / across, tile % across)
    }

    fn transform_input(&self, ctx: &Context, src: &[f32], input: &mut [f32]) {
        let plan = self.plan;
        for tile in 0..self.tiles {
            let (image, ty, tx) = self.place(tile);
            transform_tile(
                ctx.isa(),
                &src[image * plan.src.image_stride()..][..plan.src.values()],
                plan.src,
                [ty * OUT, tx * OUT],
                plan.padding,
                plan.form,
                tile,
                &mut input[tile / plan.form.tiles() * plan.row..],
                self.point,
            );
        }
    }

    /// Products at all points for the columns of some panels.
    fn multiply(
        &self,
        ctx: &Context,
        panels: &[Panel],
        input: &[f32],
        packed: &[f32],
        products: &mut [f32],
    ) {
        let plan = self.plan;
        let rows = Split::new(self.rows, gemm::max_rows(ctx.isa()));
        let depth = plan.depth;
        let pair = Pair { a: 0, b: 0, k: 1 };
        // What the tiles below read and write.
        assert!(input.len() >= (POINTS - 1) * self.point + self.rows * plan.row);
        assert!(products.len() >= POINTS * self.product_point);
        assert!(self.product_point >= self.rows * COLUMNS && plan.row >= depth);
        for point in 0..POINTS {
            for (index, panel) in panels.iter().enumerate() {
                let weights =
                    &packed[panel.offset + point * depth * panel.stride..][..depth * panel.stride];
                for stage in 0..plan.depths.pieces {
                    let (start, k) = plan.depths.piece(stage);
                    for piece in 0..rows.pieces {
                        let (first, m) = rows.piece(piece);
                        let c = products.as_mut_ptr().wrapping_add(
                            point * self.product_point + first * COLUMNS + index * gemm::MAX_N,
                        );
                        let tile = Tile {
                            a: input
                                .as_ptr()
                                .wrapping_add(point * self.point + first * plan.row + start),
                            a_stride: plan.row,
                            b: weights.as_ptr().wrapping_add(start * panel.stride),
                            b_stride: panel.stride,
                            c,
                            c_stride: COLUMNS,
                            add: if stage == 0 { std::ptr::null() } else { c },
                            add_stride: COLUMNS,
                            residual: std::ptr::null(),
                            relu: false,
                            pairs: &pair,
                            pair_count: 1,
                            b_unit: 0,
                            k_unit: k,
                            repetitions: 1,
                            a_repetition: 0,
                            b_repetition: 0,
                            n: panel.columns,
                        };
                        // SAFETY: rows of `input` hold `depth` floats each, `weights` has `depth` rows of `stride >= n`
                        // floats, and rows of `products` take the columns of all panels: asserted above, or sliced. The
                        // scratch is this task's own.
                        unsafe { gemm::run(ctx.isa(), plan.form.element(), Side::Rows, m, &tile) };
                    }
                }
            }
        }
    }
}

/// One column of an input tile, transformed; zeros around the image.
#[inline(always)]
fn input_column<S: Simd>(
    s: S,
    image: &[f32],
    shape: ActShape,
    top: usize,
    (x, inside): (usize, bool),
    first: usize,
    count: usize,
) -> [S::F; IN] {
    let mut column = [s.splat(0.0); IN];
    if inside {
        for y in 0..IN {
            column[y] = s.load(image, ((top + y) * shape.w + x) * shape.c + first, count);
        }
    } else {
        for y in 0..IN {
            let y_in = top.wrapping_add(y);
            if y_in < shape.h && x < shape.w {
                column[y] = s.load(image, (y_in * shape.w + x) * shape.c + first, count);
            }
        }
    }
    transform::input(s, column)
}

/// One column of a tile of products, transformed; points `step` floats apart.
#[inline(always)]
fn output_column<S: Simd>(
    s: S,
    products: &[f32],
    at: usize,
    step: usize,
    count: usize,
) -> [S::F; OUT] {
    let mut column = [s.splat(0.0); IN];
    for y in 0..IN {
        column[y] = s.load(products, at + y * IN * step, count);
    }
    transform::output(s, column)
}

/// One column of the taps of sixteen kernels, transformed.
#[inline(always)]
fn weight_column<S: Simd>(s: S, taps: &[[f32; LANES]; 9], x: usize) -> [S::F; IN] {
    let mut column = [s.splat(0.0); 3];
    for y in 0..3 {
        column[y] = s.load(&taps[3 * y + x], 0, LANES);
    }
    transform::weights(s, column)
}

vectorised! {
    fn transform_tile(
        s,
        image: &[f32],
        shape: ActShape,
        corner: [usize; 2],
        padding: [usize; 2],
        form: Form,
        tile: usize,
        out: &mut [f32],
        point: usize,
    ) {
        // Coordinates below zero wrap around to be too large.
        let (top, left) = (corner[0].wrapping_sub(padding[0]), corner[1].wrapping_sub(padding[1]));
        let inside = top < shape.h && top + IN <= shape.h && left < shape.w && left + IN <= shape.w;
        for (first, count) in blocks(shape.c) {
            let column = |x: usize| (left.wrapping_add(x), inside);
            let half = [
                input_column(s, image, shape, top, column(0), first, count),
                input_column(s, image, shape, top, column(1), first, count),
                input_column(s, image, shape, top, column(2), first, count),
                input_column(s, image, shape, top, column(3), first, count),
                input_column(s, image, shape, top, column(4), first, count),
                input_column(s, image, shape, top, column(5), first, count),
            ];
            for y in 0..IN {
                let row = transform::input(s, [half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]]);
                for x in 0..IN {
                    form.store(s, row[x], out, (y * IN + x) * point, tile, (first, count));
                }
            }
        }
    }
}

vectorised! {
    fn transform_output(
        s,
        work: &Work,
        products: &[f32],
        first_column: usize,
        columns: usize,
        epilogue: Epilogue<'_>,
        dst: &Disjoint<'_, f32>,
    ) {
        let shape = work.plan.dst;
        for tile in 0..work.tiles {
            let (image, ty, tx) = work.place(tile);
            let (height, width) = (OUT.min(shape.h - ty * OUT), OUT.min(shape.w - tx * OUT));
            let corner = image * shape.image_stride()
                + (ty * OUT * shape.w + tx * OUT) * shape.c + first_column;
            for (first, count) in blocks(columns) {
                let from = tile * COLUMNS + first;
                let bias = match epilogue.bias {
                    Some(bias) => s.load(bias, first_column + first, count),
                    None => s.splat(0.0),
                };
                let step = work.product_point;
                let half = [
                    output_column(s, products, from, step, count),
                    output_column(s, products, from + step, step, count),
                    output_column(s, products, from + 2 * step, step, count),
                    output_column(s, products, from + 3 * step, step, count),
                    output_column(s, products, from + 4 * step, step, count),
                    output_column(s, products, from + 5 * step, step, count),
                ];
                for y in 0..OUT {
                    let row = transform::output(s, [half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]]);
                    for x in 0..OUT {
                        if y < height && x < width {
                            let at = corner + (y * shape.w + x) * shape.c + first;
                            // SAFETY: tasks differ in tiles or columns, so no two take the same elements.
                            let out = unsafe { dst.part(at, count) };
                            let mut value = s.add(row[x], bias);
                            if let Some(residual) = epilogue.residual {
                                value = s.add(value, s.load(residual, at, count));
                            }
                            if epilogue.relu {
                                value = s.rectify(value);
                            }
                            s.store(value, out, 0, count);
                        }
                    }
                }
            }
        }
    }
}

/// The taps of sixteen kernels for one channel.
#[inline(always)]
fn gather_taps(
    weights: &[f32],
    order: WeightOrder,
    channel: usize,
    (column, count): (usize, usize),
) -> [[f32; LANES]; 9] {
    let mut taps = [[0.0f32; LANES]; 9];
    for lane in 0..count {
        let from = (column + lane) * order.column + channel * order.depth;
        let from = &weights[from..from + 9];
        for tap in 0..9 {
            taps[tap][lane] = from[if order.flip { 8 - tap } else { tap }];
        }
    }
    taps
}

vectorised! {
    fn pack_slice(
        s,
        weights: &[f32],
        order: WeightOrder,
        panel: &Panel,
        form: Form,
        depth: usize,
        first: usize,
        words: usize,
        packed: &Disjoint<'_, f32>,
    ) {
        let per_word = depth_of_word(form);
        for word in first..first + words {
            for (column, count) in blocks(panel.columns) {
                for part in 0..per_word {
                    let taps = gather_taps(weights, order, per_word * word + part, (column, count));
                    let half = [weight_column(s, &taps, 0), weight_column(s, &taps, 1), weight_column(s, &taps, 2)];
                    for y in 0..IN {
                        let row = transform::weights(s, [half[0][y], half[1][y], half[2][y]]);
                        for x in 0..IN {
                            let at = panel.offset
                                + ((y * IN + x) * depth + word) * panel.stride + column;
                            // SAFETY: tasks differ in panel or words, so no two take the same elements.
                            let out = unsafe { packed.part(at, LANES) };
                            let value = match (form, part) {
                                (Form::ChannelPairs, 0) => s.bf16_low(row[x]),
                                (Form::ChannelPairs, _) => s.bf16_high(s.load(out, 0, LANES), row[x]),
                                (Form::F32 | Form::TilePairs, _) => row[x],
                            };
                            s.store(value, out, 0, LANES);
                        }
                    }
                }
            }
        }
    }
}

/// Channels of a word.
#[inline(always)]
fn depth_of_word(form: Form) -> usize {
    match form {
        Form::ChannelPairs => 2,
        Form::F32 | Form::TilePairs => 1,
    }
}
