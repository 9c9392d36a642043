//! One task of a direct convolution: its part of the destination, computed tile by tile.

use std::ops::Range;

use super::{Along, Direct, Line, Panel, Region};
use crate::Context;
use crate::conv::epilogue::Epilogue;
use crate::gemm::{self, Pair, Side, Split, Tile};

/// Some images and some destination rows.
pub(super) struct Task<'a> {
    pub(super) plan: &'a Direct,
    pub(super) ctx: &'a Context,
    pub(super) src: &'a [f32],
    pub(super) packed: &'a [f32],
    pub(super) epilogue: Epilogue<'a>,
    pub(super) dst: *mut f32,
    pub(super) first_image: usize,
    pub(super) images: usize,
    pub(super) rows: Range<usize>,
    pub(super) mixed: bool,
    pub(super) max_rows: usize,
}

/// One block of channels and one segment of taps, for the columns of one panel: what all its tiles share.
struct Stage<'a> {
    panel: &'a Panel,
    /// Channels of the block.
    depth: usize,
    /// Whether nothing was added to the destination before.
    first: bool,
    /// Whether the sum ends here with a ReLU.
    relu: bool,
    /// The block's and the first image's source, the panel's weights, and bias; null without bias.
    src: *const f32,
    packed: *const f32,
    bias: *const f32,
    /// The first image's destination and residual at the panel's columns; null where no residual is added here.
    dst: *mut f32,
    residual: *const f32,
}

impl Task<'_> {
    /// Adds one block of channels and one segment of taps to the task's destination, for the columns of one panel.
    ///
    /// # Safety
    ///
    /// `src`, `dst` and a residual hold the task's images, `packed` and a bias what the plan says, and nobody else touches the panel's
    /// columns of the task's destination rows.
    pub(super) unsafe fn stage(&self, group: usize, panel: &Panel, block: usize, segment: usize) {
        let plan = self.plan;
        let (start, depth) = plan.depths.piece(block);
        let first = block == 0 && segment == 0;
        let last = block + 1 == plan.depths.pieces && segment + 1 == plan.segments;
        let channel = group * plan.width + panel.first;
        let packed = group * plan.group_len + panel.offset + plan.taps * start * panel.stride;
        let bias = self.epilogue.bias;
        let src = self.first_image * plan.src.image_stride() + group * plan.depth + start;
        let dst = self.first_image * plan.dst.image_stride() + channel;
        let stage = Stage {
            panel,
            depth,
            first,
            relu: last && self.epilogue.relu,
            src: self.src.as_ptr().wrapping_add(src),
            packed: self.packed[packed..].as_ptr(),
            bias: bias.map_or(std::ptr::null(), |bias| bias[channel..].as_ptr()),
            dst: self.dst.wrapping_add(dst),
            residual: match self.epilogue.residual {
                Some(residual) if last => residual.as_ptr().wrapping_add(dst),
                _ => std::ptr::null(),
            },
        };
        let finishing = stage.relu || !stage.residual.is_null();
        for region in &plan.regions {
            let from = match segment {
                0 => 0,
                _ => region.segment_ends[segment - 1],
            };
            let pairs = &region.pairs[from..region.segment_ends[segment]];
            if pairs.is_empty() && !first && !finishing {
                continue;
            }
            let rows = region.y.within(&self.rows);
            if !rows.is_empty() {
                // SAFETY: as of this function; `rows` are some of the task's.
                unsafe { self.region(&stage, region, pairs, rows) };
            }
        }
    }

    /// Adds a stage's taps to some rows of a region.
    ///
    /// # Safety
    ///
    /// As for [`Self::stage`].
    unsafe fn region(
        &self,
        stage: &Stage<'_>,
        region: &Region,
        pairs: &[Pair],
        rows: Range<usize>,
    ) {
        let (src, dst) = (self.plan.src, self.plan.dst);
        let (y, x) = (region.y, region.x);
        let src_step = |line: &Line, width: usize| line.src_step * src.c * width;
        let dst_step = |line: &Line, width: usize| line.dst_step * dst.c * width;
        let (src_y, src_x) = (src_step(&y, src.w), src_step(&x, 1));
        let (dst_y, dst_x) = (dst_step(&y, dst.w), dst_step(&x, 1));
        let a = stage.src.wrapping_add(rows.start * src_y);
        let c = (y.dst * dst.w + x.dst) * dst.c + rows.start * dst_y;
        // (count, source step, destination step) of the rows of a tile, and of the two loops around.
        let lines = [
            (self.images, src.image_stride(), dst.image_stride()),
            (rows.len(), src_y, dst_y),
            (x.count, src_x, dst_x),
        ];
        let [outer, inner, tiled] =
            match Direct::along(region, self.mixed, self.images, self.max_rows) {
                Along::X => [lines[0], lines[1], lines[2]],
                Along::Y => [lines[0], lines[2], lines[1]],
                Along::Images => [lines[1], lines[2], lines[0]],
            };
        let split = Split::new(tiled.0, self.max_rows);
        for i in 0..outer.0 {
            for j in 0..inner.0 {
                let a = a.wrapping_add(i * outer.1 + j * inner.1);
                let c = c + i * outer.2 + j * inner.2;
                for piece in 0..split.pieces {
                    let (first, m) = split.piece(piece);
                    let offset = c + first * tiled.2;
                    let a = (a.wrapping_add(first * tiled.1), tiled.1);
                    let tile = stage.tile(a, (offset, tiled.2), pairs);
                    // SAFETY: regions pair destination pixels only with source pixels inside the image, the panel holds
                    // `taps * depth` rows of `stride` floats, and all lengths were checked against the shapes.
                    unsafe {
                        gemm::run(self.ctx.isa(), self.plan.element, Side::Rows, m, &tile);
                    }
                }
            }
        }
    }
}

impl Stage<'_> {
    /// The tile whose rows begin at `a` in the source and at an offset in the destination, each with the step to the next row.
    #[inline(always)]
    fn tile(
        &self,
        (a, a_stride): (*const f32, usize),
        (offset, c_stride): (usize, usize),
        pairs: &[Pair],
    ) -> Tile {
        let c = self.dst.wrapping_add(offset);
        let (add, add_stride) = match self.first {
            true => (self.bias, 0),
            false => (c.cast_const(), c_stride),
        };
        let residual = match self.residual.is_null() {
            true => self.residual,
            false => self.residual.wrapping_add(offset),
        };
        Tile {
            a,
            a_stride,
            b: self.packed,
            b_stride: self.panel.stride,
            c,
            c_stride,
            add,
            add_stride,
            residual,
            relu: self.relu,
            pairs: pairs.as_ptr(),
            pair_count: pairs.len(),
            b_unit: self.depth * self.panel.stride,
            k_unit: self.depth,
            repetitions: 1,
            a_repetition: 0,
            b_repetition: 0,
            n: self.panel.columns,
        }
    }
}
