//! Forward and data gradient: direct convolution over shifted channels-last rows.
//!
//! Destination pixels that meet the same taps form regions (the inside of the map, its edges, its corners). A tile of the
//! product takes pixels along a row, along a column, or the same pixel of several images, whichever fills the registers best;
//! taps that fall on padding are simply not in the list, so there is neither a padded copy nor wasted work.

mod task;

use super::axis::Run;
use super::epilogue::Epilogue;
use super::pairs::{channel_pairs, paired};
use crate::disjoint::Disjoint;
use crate::gemm::{self, Element, Pair, Split};
use crate::precision::bf16;
use crate::{ActShape, Context};
use task::Task;

/// Products summed in registers before they are added to the destination: bounds the rounding error of long sums, and the
/// panel of weights a stage needs in the second-level cache (1152 x 32 floats = 144 KiB).
const STAGE: usize = 1152;
/// Fewest channels a stage is cut to.
const MIN_DEPTH: usize = 64;
/// Images of one tile along images.
const IMAGE_TILE: usize = 14;

/// One direction of a convolution. Of pairs of `bf16`, two neighbouring channels of the source are one word, and everything
/// about the source and the sums is counted in words.
#[derive(Debug)]
pub(crate) struct Direct {
    element: Element,
    src: ActShape,
    dst: ActShape,
    groups: usize,
    /// Words of a group summed over.
    depth: usize,
    /// Channels of a group produced.
    width: usize,
    taps: usize,
    /// Widths 32, then 16 for a rest of at most 16.
    panels: Vec<Panel>,
    group_len: usize,
    depths: Split,
    segments: usize,
    regions: Vec<Region>,
    /// Average uses of a weight in one image.
    reuse: f64,
}

/// Weights of some output channels: `[depth block][tap][depth][stride]`.
#[derive(Clone, Copy, Debug)]
struct Panel {
    first: usize,
    columns: usize,
    stride: usize,
    offset: usize,
}

#[derive(Debug)]
struct Region {
    y: Line,
    x: Line,
    /// Valid taps, `a` the source offset for the region's first pixel, `b` and `k` in taps.
    pairs: Vec<Pair>,
    /// End of each segment in `pairs`.
    segment_ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    dst: usize,
    dst_step: usize,
    count: usize,
    src_step: usize,
}

impl Line {
    fn new(run: &Run) -> Line {
        Line {
            dst: run.dst,
            dst_step: run.dst_step,
            count: run.count,
            src_step: run.src_step,
        }
    }

    /// The `j` whose destination lies in `rows`.
    fn within(&self, rows: &std::ops::Range<usize>) -> std::ops::Range<usize> {
        let index = |at: usize| {
            at.saturating_sub(self.dst)
                .div_ceil(self.dst_step)
                .min(self.count)
        };
        index(rows.start)..index(rows.end)
    }
}

/// What the rows of a tile are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Along {
    X,
    Y,
    Images,
}

/// The cut of a run into tasks.
#[derive(Debug)]
struct Partition {
    images: Split,
    panels: Split,
    bands: Split,
    /// Whether tiles along images are used where they are better.
    mixed: bool,
}

impl Direct {
    /// `depth` channels of a group summed over give `width`; for pairs `depth` must be even.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        element: Element,
        src: ActShape,
        dst: ActShape,
        groups: usize,
        depth: usize,
        width: usize,
        kernel: [usize; 2],
        runs: &[Vec<Run>; 2],
    ) -> Direct {
        let (src, depth) = match element {
            Element::F32 => (src, depth),
            Element::Bf16Pair => (paired(src), depth / 2),
        };
        let taps = kernel[0] * kernel[1];
        let depths = Split::new(depth, (STAGE / taps).max(MIN_DEPTH));
        let block = depths.piece(0).1;
        let segment = (STAGE / block).max(1);
        let segments = taps.div_ceil(segment);
        // Where a tap's channels are followed by the next tap's, both in the source row and in the panel, they are one sum.
        let mergeable = depths.pieces == 1 && groups == 1;
        let mut regions = Vec::new();
        let mut uses = 0;
        for y in &runs[0] {
            for x in &runs[1] {
                let mut pairs: Vec<Pair> = Vec::new();
                let mut segment_ends = Vec::with_capacity(segments);
                for index in 0..segments {
                    let start = pairs.len();
                    for &(ty, sy) in &y.taps {
                        for &(tx, sx) in &x.taps {
                            let tap = ty * kernel[1] + tx;
                            if tap / segment != index {
                                continue;
                            }
                            let a = (sy * src.w + sx) * src.c;
                            match pairs[start..].last_mut() {
                                Some(last)
                                    if mergeable
                                        && last.b as usize + last.k as usize == tap
                                        && last.a as usize + last.k as usize * src.c == a =>
                                {
                                    last.k += 1;
                                }
                                _ => pairs.push(Pair {
                                    a: a as u32,
                                    b: tap as u32,
                                    k: 1,
                                }),
                            }
                            uses += y.count * x.count;
                        }
                    }
                    segment_ends.push(pairs.len());
                }
                regions.push(Region {
                    y: Line::new(y),
                    x: Line::new(x),
                    pairs,
                    segment_ends,
                });
            }
        }
        let mut panels = Vec::new();
        let (mut first, mut offset) = (0, 0);
        while first < width {
            let columns = (width - first).min(gemm::MAX_N);
            let stride = if columns > 16 { 32 } else { 16 };
            panels.push(Panel {
                first,
                columns,
                stride,
                offset,
            });
            offset += taps * depth * stride;
            first += columns;
        }
        let reuse = uses as f64 / taps as f64;
        Direct {
            element,
            src,
            dst,
            groups,
            depth,
            width,
            taps,
            panels,
            group_len: offset,
            depths,
            segments,
            regions,
            reuse,
        }
    }

    pub(crate) fn packed_len(&self) -> usize {
        self.groups * self.group_len
    }

    /// Fills the panels: column `o` of a group, channel `i`, tap `t` is `weights[o * column_stride + i * depth_stride + t]`,
    /// taps reversed when `flip`. Groups follow each other in `weights`.
    pub(crate) fn pack(
        &self,
        ctx: &Context,
        weights: &[f32],
        column_stride: usize,
        depth_stride: usize,
        flip: bool,
        packed: &mut [f32],
    ) {
        const SLICE: usize = 16;
        let slices = self.depths.pieces * self.depths.piece(0).1.div_ceil(SLICE);
        let per_block = slices / self.depths.pieces;
        let out = Disjoint::new(packed);
        let per_word = match self.element {
            Element::F32 => 1,
            Element::Bf16Pair => 2,
        };
        let group_weights = per_word * self.depth * self.width * self.taps;
        ctx.pool()
            .run(self.groups * self.panels.len() * slices, &|task, _| {
                let (unit, slice) = (task / slices, task % slices);
                let (group, panel) = (
                    unit / self.panels.len(),
                    &self.panels[unit % self.panels.len()],
                );
                let (start, depth) = self.depths.piece(slice / per_block);
                let first = slice % per_block * SLICE;
                if first >= depth {
                    return;
                }
                let rows = SLICE.min(depth - first);
                let weights = &weights[group * group_weights..(group + 1) * group_weights];
                let block =
                    group * self.group_len + panel.offset + self.taps * start * panel.stride;
                for tap in 0..self.taps {
                    // SAFETY: each task fills its own channels of its own panel, for every tap.
                    let part = unsafe {
                        out.part(
                            block + (tap * depth + first) * panel.stride,
                            rows * panel.stride,
                        )
                    };
                    let from = if flip { self.taps - 1 - tap } else { tap };
                    for (row, part) in part.chunks_exact_mut(panel.stride).enumerate() {
                        let from = panel.first * column_stride
                            + per_word * (start + first + row) * depth_stride
                            + from;
                        for (column, word) in part[..panel.columns].iter_mut().enumerate() {
                            let from = from + column * column_stride;
                            *word = match self.element {
                                Element::F32 => weights[from],
                                Element::Bf16Pair => {
                                    let pair = [weights[from], weights[from + depth_stride]];
                                    let [low, high] = pair.map(|weight| u32::from(bf16(weight)));
                                    f32::from_bits(low | high << 16)
                                }
                            };
                        }
                        part[panel.columns..].fill(0.0);
                    }
                }
            });
    }

    /// Cycles, roughly, that a row of a tile costs per step of k when `count` rows are cut into tiles.
    fn row_cost(count: usize, max_rows: usize) -> f64 {
        let split = Split::new(count, max_rows);
        let tile = |rows: usize| (2 * rows).max(4) as f64 + 4.0;
        let cost: f64 = (0..split.pieces)
            .map(|piece| tile(split.piece(piece).1))
            .sum();
        cost / count as f64
    }

    fn along(region: &Region, mixed: bool, images: usize, max_rows: usize) -> Along {
        let x = Self::row_cost(region.x.count, max_rows);
        let y = Self::row_cost(region.y.count, max_rows);
        if mixed && 1.1 * Self::row_cost(images, max_rows) < x.min(y) {
            Along::Images
        } else if y < x {
            Along::Y
        } else {
            Along::X
        }
    }

    fn partition(&self, n: usize, threads: usize, max_rows: usize) -> Partition {
        let image_cost = 1.1 * Self::row_cost(n.min(IMAGE_TILE), max_rows);
        let (mut spatial, mut mixed) = (0.0, 0.0);
        for region in &self.regions {
            let work = (region.x.count
                * region.y.count
                * region.pairs.iter().map(|p| p.k as usize).sum::<usize>())
                as f64;
            let cost = Self::row_cost(region.x.count, max_rows)
                .min(Self::row_cost(region.y.count, max_rows));
            spatial += work * cost;
            mixed += work * cost.min(image_cost);
        }
        let mixed = spatial > 1.03 * mixed;
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        // A group of images is small enough to stay in the cache while all weights pass by, and large enough that each weight
        // fetched is used some 256 times.
        let image_bytes = 4 * self.src.values().max(self.dst.values());
        let small = if mixed {
            IMAGE_TILE
        } else {
            (128 * 1024 / image_bytes).max(1)
        };
        let group = small.max((256.0 / self.reuse.max(1e-9)).ceil().min(1e9) as usize);
        let images = Split::new(n, group);
        let units = self.groups * self.panels.len();
        let mut bands = 1;
        if !mixed && self.panels.len() > 1 {
            bands = (image_bytes / (512 * 1024)).clamp(1, self.dst.h);
        }
        let panels = wanted.div_ceil(images.pieces * bands).clamp(1, units);
        let missing = wanted.div_ceil(images.pieces * bands * panels);
        bands = (bands * missing).min(self.dst.h);
        Partition {
            images,
            panels: Split::new(units, units.div_ceil(panels)),
            bands: Split::new(self.dst.h, self.dst.h.div_ceil(bands)),
            mixed,
        }
    }

    /// Floats that the context is to have for all tasks, with batches up to `n`.
    pub(crate) fn staging_len(&self, n: usize) -> usize {
        match self.element {
            Element::F32 => 0,
            Element::Bf16Pair => n * self.src.image_stride(),
        }
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
        match self.element {
            Element::F32 => self.run_words(ctx, n, src, packed, epilogue, dst),
            Element::Bf16Pair => ctx.with_staging(self.staging_len(n), |words| {
                let ActShape { h, w, c } = self.src;
                channel_pairs(ctx, n, ActShape::new(h, w, 2 * c), src, words);
                self.run_words(ctx, n, words, packed, epilogue, dst);
            }),
        }
    }

    fn run_words(
        &self,
        ctx: &Context,
        n: usize,
        src: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        dst: &mut [f32],
    ) {
        if n == 0 {
            return;
        }
        let max_rows = gemm::max_rows(ctx.isa());
        let partition = self.partition(n, ctx.pool().threads(), max_rows);
        let dst = Disjoint::new(dst);
        let tasks = partition.images.pieces * partition.panels.pieces * partition.bands.pieces;
        ctx.pool().run(tasks, &|task, _| {
            let (rest, panels) = (
                task / partition.panels.pieces,
                task % partition.panels.pieces,
            );
            let (images, band) = (rest / partition.bands.pieces, rest % partition.bands.pieces);
            let (first_image, images) = partition.images.piece(images);
            let (first_row, rows) = partition.bands.piece(band);
            let (first_unit, units) = partition.panels.piece(panels);
            let task = Task {
                plan: self,
                ctx,
                src,
                packed,
                epilogue,
                dst: dst.pointer(),
                first_image,
                images,
                rows: first_row..first_row + rows,
                mixed: partition.mixed,
                max_rows,
            };
            for unit in first_unit..first_unit + units {
                let (group, panel) = (
                    unit / self.panels.len(),
                    &self.panels[unit % self.panels.len()],
                );
                for block in 0..self.depths.pieces {
                    for segment in 0..self.segments {
                        // SAFETY: lengths were checked by the caller; tasks differ in images, rows or panel, so no two write
                        // the same element.
                        unsafe { task.stage(group, panel, block, segment) };
                    }
                }
            }
        });
    }
}
