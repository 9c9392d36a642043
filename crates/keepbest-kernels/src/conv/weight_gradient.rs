//! Weight gradient: for every tap, the product of input channels and output channels summed over pixels.
//!
//! A tile holds up to 14 rows (tap and input channel) by 32 output channels, and k runs over the pixels of a fixed chunk, read
//! where they lie. Each chunk's sum is added to the total of its section in order; sections are summed at the end, in order.
//! Chunks and sections depend on the shape and the batch alone.

use super::ConvShape;
use super::axis::Axis;
use super::pairs::{image_pairs, pairs_of};
use crate::disjoint::Disjoint;
use crate::gemm::{self, Element, Pair, Side, Split, Tile};
use crate::isa::Isa;
use crate::{ActShape, Context, Padding};

/// Tasks aimed at, as sections times panels times splits of the rows.
const TASKS: usize = 16;
/// Most floats of all sections together: 4 MiB.
const SECTIONS_LEN: usize = 1 << 20;

/// Of pairs of `bf16`, two images are one image of words, so that what a tap pairs does not depend on where it is.
#[derive(Debug)]
pub(crate) struct WeightGradient {
    element: Element,
    input: ActShape,
    output: ActShape,
    groups: usize,
    /// Input channels of a group.
    depth: usize,
    /// Output channels of a group.
    width: usize,
    taps: usize,
    parts: Vec<Part>,
    /// (part, first row within the part, rows), by row, so that parts that read the same channels follow each other.
    tiles: Vec<(usize, usize, usize)>,
    /// Whether two parts may write the same rows.
    overlapping: bool,
    /// Horizontal stride of the convolution.
    stride: usize,
    k: KAxis,
    /// Chunks an image is cut into; 1 when a chunk is one or more whole images.
    chunks_per_image: usize,
    images_per_chunk: usize,
}

/// Consecutive rows of the gradient (`tap * depth + channel`) summed over the same pixels.
#[derive(Debug)]
struct Part {
    row: usize,
    rows: usize,
    /// Pairs of (input, output) offsets for each chunk of an image.
    pairs: Vec<Vec<Pair>>,
}

/// What k runs over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum KAxis {
    /// Pixels of a row; pairs are rows.
    Columns,
    /// Images of a chunk; pairs are pixels. For maps too narrow for the other.
    Images,
}

impl WeightGradient {
    pub(crate) fn new(
        element: Element,
        shape: &ConvShape,
        output: ActShape,
        axes: &[Axis; 2],
        isa: Isa,
    ) -> WeightGradient {
        let input = shape.input;
        let depth = input.c / shape.groups;
        let taps = shape.taps();
        let pixels = output.pixels();
        let k = if output.w <= 2 {
            KAxis::Images
        } else {
            KAxis::Columns
        };
        let (chunks_per_image, images_per_chunk) = if pixels >= 512 && k == KAxis::Columns {
            (output.h.div_ceil(512usize.div_ceil(output.w)), 1)
        } else {
            (1, (1024 / pixels).max(1))
        };
        let whole_map = shape.groups == 1
            && pixels == 1
            && shape.padding == Padding::NONE
            && shape.dilation == [1, 1]
            && shape.kernel[1] == input.w;
        let few_channels =
            shape.groups == 1 && shape.dilation[1] == 1 && input.c < 14 && shape.kernel[1] > 1;
        let builder = Builder {
            input,
            output,
            stride: shape.stride,
            k,
            chunks: chunks_per_image,
        };
        let mut parts = Vec::new();
        if whole_map {
            parts.push(Part {
                row: 0,
                rows: taps * depth,
                pairs: builder.pairs((0..1, 0), (0..1, 0)),
            });
        } else {
            for ky in 0..shape.kernel[0] {
                let rows = axes[0].outputs_of_tap(ky);
                if few_channels {
                    // Columns that meet the same taps; the taps' channels lie side by side in the input row.
                    for run in axes[1].forward_runs() {
                        let Some(&(first, source)) = run.taps.first() else {
                            continue;
                        };
                        let pairs =
                            builder.pairs(rows.clone(), (run.dst..run.dst + run.count, source));
                        parts.push(Part {
                            row: (ky * shape.kernel[1] + first) * depth,
                            rows: run.taps.len() * depth,
                            pairs,
                        });
                    }
                } else {
                    for kx in 0..shape.kernel[1] {
                        let pairs = builder.pairs(rows.clone(), axes[1].outputs_of_tap(kx));
                        parts.push(Part {
                            row: (ky * shape.kernel[1] + kx) * depth,
                            rows: depth,
                            pairs,
                        });
                    }
                }
            }
        }
        let mut tiles = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let split = Split::new(part.rows, gemm::max_rows(isa));
            tiles.extend((0..split.pieces).map(|piece| {
                let (first, rows) = split.piece(piece);
                (index, first, rows)
            }));
        }
        let overlapping = few_channels && !whole_map;
        // The order of parts is the order of additions where they overlap.
        if !overlapping {
            tiles.sort_by_key(|&(_, first, _)| first);
        }
        WeightGradient {
            element,
            input,
            output,
            groups: shape.groups,
            depth,
            width: shape.out_channels / shape.groups,
            taps,
            parts,
            tiles,
            overlapping,
            stride: shape.stride[1],
            k,
            chunks_per_image,
            images_per_chunk,
        }
    }

    fn len(&self) -> usize {
        self.taps * self.depth * self.output.c
    }

    fn chunks(&self, n: usize) -> usize {
        if self.chunks_per_image > 1 {
            n * self.chunks_per_image
        } else {
            n.div_ceil(self.images_per_chunk)
        }
    }

    fn panels(&self) -> usize {
        self.width.div_ceil(gemm::MAX_N)
    }

    /// Independent partial sums: more of them when there are few output channels to share out.
    fn sections(&self, n: usize) -> usize {
        let wanted = TASKS / (self.groups * self.panels()).max(1);
        wanted
            .min(SECTIONS_LEN / self.len())
            .min(self.chunks(n))
            .max(1)
    }

    /// Images of words that `n` images make.
    fn words_of(&self, n: usize) -> usize {
        match self.element {
            Element::F32 => n,
            Element::Bf16Pair => pairs_of(n),
        }
    }

    /// Floats of scratch for batches up to `n`.
    pub(crate) fn scratch_len(&self, n: usize) -> usize {
        self.sections(self.words_of(n)) * self.len()
    }

    /// Floats that the context is to have for all tasks, with batches up to `n`.
    pub(crate) fn staging_len(&self, n: usize) -> usize {
        match self.element {
            Element::F32 => 0,
            Element::Bf16Pair => {
                pairs_of(n) * (self.input.image_stride() + self.output.image_stride())
            }
        }
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
        match self.element {
            Element::F32 => self.run_words(ctx, n, x, dy, scratch, dw),
            Element::Bf16Pair => ctx.with_staging(self.staging_len(n), |words| {
                let n_words = pairs_of(n);
                let (x_words, dy_words) = words.split_at_mut(n_words * self.input.image_stride());
                image_pairs(ctx, n, self.input, x, x_words);
                image_pairs(ctx, n, self.output, dy, dy_words);
                self.run_words(ctx, n_words, x_words, dy_words, scratch, dw);
            }),
        }
    }

    fn run_words(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        dy: &[f32],
        scratch: &mut [f32],
        dw: &mut [f32],
    ) {
        let sections = self.sections(n);
        let chunks = self.chunks(n);
        let panels = self.panels();
        let wide = sections * self.groups * panels;
        // Tiles of parts that overlap must stay in one task.
        let pieces = if self.overlapping {
            1
        } else {
            TASKS.div_ceil(wide).min(self.tiles.len()).max(1)
        };
        let tiles = Split::new(self.tiles.len(), self.tiles.len().div_ceil(pieces).max(1));
        if self.overlapping {
            scratch[..sections * self.len()].fill(0.0);
        }
        let sums = Disjoint::new(scratch);
        ctx.pool().run(wide * tiles.pieces, &|task, _| {
            let (wide, piece) = (task / tiles.pieces, task % tiles.pieces);
            let (section, column) = (wide / (self.groups * panels), wide % (self.groups * panels));
            let (group, panel) = (column / panels, column % panels);
            let (first, count) = tiles.piece(piece);
            let c = sums.pointer().wrapping_add(section * self.len());
            let (start, end) = (
                chunks * section / sections,
                chunks * (section + 1) / sections,
            );
            for chunk in start..end {
                // The first chunk needs no zeros to add to, unless parts share rows.
                let fresh = chunk == start && !self.overlapping;
                for &tile in &self.tiles[first..first + count] {
                    // SAFETY: lengths were checked by the caller; tasks differ in section, columns or rows of the sums.
                    unsafe { self.tile(ctx.isa(), n, x, dy, chunk, group, panel, tile, c, fresh) };
                }
            }
        });
        self.finish(ctx, sections, scratch, dw);
    }

    /// Adds one chunk's product to one tile of the sums at `c`; writes it there when `fresh`.
    ///
    /// # Safety
    ///
    /// `x` and `dy` hold `n` images, `c` the sums of a section, and nobody else touches the tile.
    #[allow(clippy::too_many_arguments)]
    unsafe fn tile(
        &self,
        isa: Isa,
        n: usize,
        x: &[f32],
        dy: &[f32],
        chunk: usize,
        group: usize,
        panel: usize,
        (part, first, rows): (usize, usize, usize),
        c: *mut f32,
        fresh: bool,
    ) {
        let part = &self.parts[part];
        let (image, images, list) = if self.chunks_per_image > 1 {
            (
                chunk / self.chunks_per_image,
                1,
                chunk % self.chunks_per_image,
            )
        } else {
            let image = chunk * self.images_per_chunk;
            (image, self.images_per_chunk.min(n - image), 0)
        };
        let pairs = &part.pairs[list];
        if pairs.is_empty() && !fresh {
            return;
        }
        let (x_stride, y_stride) = (self.input.image_stride(), self.output.image_stride());
        let column = group * self.width + panel * gemm::MAX_N;
        let c = c.wrapping_add((part.row + first) * self.output.c + column);
        let (a_stride, b_stride, k_unit, repetitions) = match self.k {
            KAxis::Columns => (self.stride * self.input.c, self.output.c, 1, images),
            KAxis::Images => (x_stride, y_stride, images, 1),
        };
        let tile = Tile {
            a: x[image * x_stride + group * self.depth + first..].as_ptr(),
            a_stride,
            b: dy[image * y_stride + column..].as_ptr(),
            b_stride,
            c,
            c_stride: self.output.c,
            add: if fresh { std::ptr::null() } else { c },
            add_stride: self.output.c,
            residual: std::ptr::null(),
            relu: false,
            pairs: pairs.as_ptr(),
            pair_count: pairs.len(),
            b_unit: 1,
            k_unit,
            repetitions,
            a_repetition: x_stride,
            b_repetition: y_stride,
            n: (self.width - panel * gemm::MAX_N).min(gemm::MAX_N),
        };
        // SAFETY: pairs name only pixels inside the maps, and all lengths were checked against the shapes.
        unsafe { gemm::run(isa, self.element, Side::Columns, rows, &tile) };
    }

    /// Sums the sections in order and re-lays `[tap][in][out]` as `[out][in][tap]`.
    fn finish(&self, ctx: &Context, sections: usize, sums: &[f32], dw: &mut [f32]) {
        const COLUMNS: usize = 16;
        const DEPTH: usize = 64;
        const TAPS: usize = 9;
        let (depth, taps, channels) = (self.depth, self.taps, self.output.c);
        let depths = depth.div_ceil(DEPTH);
        let out = Disjoint::new(dw);
        ctx.pool()
            .run(channels.div_ceil(COLUMNS) * depths, &|task, _| {
                let first = task / depths * COLUMNS;
                let columns = COLUMNS.min(channels - first);
                let start = task % depths * DEPTH;
                for i in start..depth.min(start + DEPTH) {
                    for first_tap in (0..taps).step_by(TAPS) {
                        let count = TAPS.min(taps - first_tap);
                        let mut block = [[0.0f32; COLUMNS]; TAPS];
                        for (tap, total) in block[..count].iter_mut().enumerate() {
                            let at = ((first_tap + tap) * depth + i) * channels + first;
                            let total = &mut total[..columns];
                            total.copy_from_slice(&sums[at..at + columns]);
                            for section in 1..sections {
                                let part = &sums[section * self.len() + at..][..columns];
                                total
                                    .iter_mut()
                                    .zip(part)
                                    .for_each(|(total, &part)| *total += part);
                            }
                        }
                        for column in 0..columns {
                            let to = ((first + column) * depth + i) * taps + first_tap;
                            // SAFETY: tasks write the weights of their own channels.
                            let out = unsafe { out.part(to, count) };
                            for (out, block) in out.iter_mut().zip(&block) {
                                *out = block[column];
                            }
                        }
                    }
                }
            });
    }
}

/// Lists the pairs of one part, for every chunk of an image.
struct Builder {
    input: ActShape,
    output: ActShape,
    stride: [usize; 2],
    k: KAxis,
    chunks: usize,
}

impl Builder {
    /// Pairs for output rows and columns (ranges, each with the input coordinate that the first reads).
    fn pairs(
        &self,
        (rows, first_row): (std::ops::Range<usize>, usize),
        (columns, first_column): (std::ops::Range<usize>, usize),
    ) -> Vec<Vec<Pair>> {
        let mut lists = Vec::with_capacity(self.chunks);
        for chunk in 0..self.chunks {
            let height = self.output.h;
            let band = height * chunk / self.chunks..height * (chunk + 1) / self.chunks;
            let mut list: Vec<Pair> = Vec::new();
            for oy in band.start.max(rows.start)..band.end.min(rows.end) {
                let iy = first_row + (oy - rows.start) * self.stride[0];
                let a = |ox: usize| {
                    ((iy * self.input.w + first_column + (ox - columns.start) * self.stride[1])
                        * self.input.c) as u32
                };
                let b = |ox: usize| ((oy * self.output.w + ox) * self.output.c) as u32;
                match self.k {
                    KAxis::Images => list.extend(columns.clone().map(|ox| Pair {
                        a: a(ox),
                        b: b(ox),
                        k: 1,
                    })),
                    KAxis::Columns if columns.is_empty() => {}
                    KAxis::Columns => {
                        let pair = Pair {
                            a: a(columns.start),
                            b: b(columns.start),
                            k: columns.len() as u32,
                        };
                        let step = (self.stride[1] * self.input.c) as u32;
                        match list.last_mut() {
                            // Whole rows that follow each other in both maps are one sum.
                            Some(last)
                                if last.a + last.k * step == pair.a
                                    && last.b + last.k * self.output.c as u32 == pair.b =>
                            {
                                last.k += pair.k;
                            }
                            _ => list.push(pair),
                        }
                    }
                }
            }
            lists.push(list);
        }
        lists
    }
}
