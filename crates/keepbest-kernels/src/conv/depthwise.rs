//! Depthwise convolution: every channel on its own, channels as vector lanes.

use super::axis::{Axis, Run};
use super::{ConvShape, Epilogue};
use crate::disjoint::Disjoint;
use crate::max_pool::run_rows;
use crate::simd::blocks;
use crate::{ActShape, Context};

/// Partial sums of the weight gradient.
const SECTIONS: usize = 16;

#[derive(Debug)]
pub(crate) struct Depthwise {
    input: ActShape,
    output: ActShape,
    kernel: [usize; 2],
    /// Taps and source coordinates of each output row and column, and of each input row and column.
    forward: [Lookup; 2],
    backward: [Lookup; 2],
    /// For each tap along a row: the output columns it serves, and the input column of the first.
    columns: Vec<(std::ops::Range<usize>, usize)>,
    /// Horizontal stride.
    step: usize,
}

/// For each destination coordinate along an axis, its taps and their source coordinates.
#[derive(Debug)]
struct Lookup {
    taps: Vec<(u32, u32)>,
    /// Start of each coordinate's taps, and the end.
    starts: Vec<u32>,
}

impl Lookup {
    fn new(size: usize, runs: &[Run]) -> Lookup {
        let mut all = vec![Vec::new(); size];
        for run in runs {
            for j in 0..run.count {
                all[run.dst + j * run.dst_step] = run
                    .taps
                    .iter()
                    .map(|&(tap, src)| (tap as u32, (src + j * run.src_step) as u32))
                    .collect();
            }
        }
        let mut starts = vec![0];
        let mut taps = Vec::new();
        for list in all {
            taps.extend(list);
            starts.push(taps.len() as u32);
        }
        Lookup { taps, starts }
    }

    #[inline(always)]
    fn at(&self, coordinate: usize) -> &[(u32, u32)] {
        &self.taps[self.starts[coordinate] as usize..self.starts[coordinate + 1] as usize]
    }
}

vectorised! {
    /// One destination row.
    fn row(
        s,
        rows: &[(u32, u32)],
        columns: &Lookup,
        sizes: Sizes,
        src: &[f32],
        weights: &[f32],
        epilogue: Epilogue<'_>,
        dst: &mut [f32],
    ) {
        let Sizes { kernel_w, src_w, c, last_tap } = sizes;
        for at in 0..dst.len() / c {
            let columns = columns.at(at);
            for (first, len) in blocks(c) {
                let mut acc = s.splat(0.0);
                for &(ky, sy) in rows {
                    for &(kx, sx) in columns {
                        let tap = ky as usize * kernel_w + kx as usize;
                        let tap = last_tap.map_or(tap, |last| last - tap);
                        let x = s.load(src, (sy as usize * src_w + sx as usize) * c + first, len);
                        acc = s.mul_add(x, s.load(weights, tap * c + first, len), acc);
                    }
                }
                if let Some(bias) = epilogue.bias {
                    acc = s.add(acc, s.load(bias, first, len));
                }
                if let Some(residual) = epilogue.residual {
                    acc = s.add(acc, s.load(residual, at * c + first, len));
                }
                if epilogue.relu {
                    acc = s.rectify(acc);
                }
                s.store(acc, dst, at * c + first, len);
            }
        }
    }
}

/// What the row kernel needs of the shapes; `last_tap` when taps are reversed.
#[derive(Clone, Copy)]
struct Sizes {
    kernel_w: usize,
    src_w: usize,
    c: usize,
    last_tap: Option<usize>,
}

vectorised! {
    /// Adds to `sum` the gradient of one tap from one row: `outputs` pixels of `dy`, and as many of `x`, `step` apart.
    fn tap_row(s, outputs: usize, step: usize, c: usize, x: &[f32], dy: &[f32], sum: &mut [f32]) {
        for (first, len) in blocks(c) {
            let mut acc = s.splat(0.0);
            for ox in 0..outputs {
                acc = s.mul_add(s.load(x, ox * step * c + first, len), s.load(dy, ox * c + first, len), acc);
            }
            s.store(s.add(s.load(sum, first, len), acc), sum, first, len);
        }
    }
}

impl Depthwise {
    pub(crate) fn new(shape: &ConvShape, output: ActShape, axes: &[Axis; 2]) -> Depthwise {
        let input = shape.input;
        let forward = [
            Lookup::new(output.h, &axes[0].forward_runs()),
            Lookup::new(output.w, &axes[1].forward_runs()),
        ];
        let backward = [
            Lookup::new(input.h, &axes[0].backward_runs()),
            Lookup::new(input.w, &axes[1].backward_runs()),
        ];
        Depthwise {
            input,
            output,
            kernel: shape.kernel,
            forward,
            backward,
            columns: (0..shape.kernel[1])
                .map(|kx| axes[1].outputs_of_tap(kx))
                .collect(),
            step: shape.stride[1],
        }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(crate) fn packed_len(&self) -> usize {
        self.taps() * self.input.c
    }

    fn sections(n: usize) -> usize {
        n.clamp(1, SECTIONS)
    }

    pub(crate) fn scratch_len(&self, n: usize) -> usize {
        Self::sections(n) * self.packed_len()
    }

    /// `[channel][tap]` to `[tap][channel]`.
    pub(crate) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let (taps, c) = (self.taps(), self.input.c);
        for channel in 0..c {
            for tap in 0..taps {
                packed[tap * c + channel] = weights[channel * taps + tap];
            }
        }
    }

    pub(crate) fn forward(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        self.run(
            ctx,
            n,
            (self.input, x),
            packed,
            epilogue,
            (self.output, y),
            &self.forward,
            None,
        );
    }

    pub(crate) fn transposed(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        packed: &[f32],
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        let last = Some(self.taps() - 1);
        self.run(
            ctx,
            n,
            (self.output, x),
            packed,
            epilogue,
            (self.input, y),
            &self.backward,
            last,
        );
    }

    #[allow(clippy::too_many_arguments)]
    fn run(
        &self,
        ctx: &Context,
        n: usize,
        (src_shape, src): (ActShape, &[f32]),
        packed: &[f32],
        epilogue: Epilogue<'_>,
        (dst_shape, dst): (ActShape, &mut [f32]),
        lookups: &[Lookup; 2],
        last_tap: Option<usize>,
    ) {
        let len = dst_shape.w * dst_shape.c;
        let dst = Disjoint::new(dst);
        let sizes = Sizes {
            kernel_w: self.kernel[1],
            src_w: src_shape.w,
            c: src_shape.c,
            last_tap,
        };
        run_rows(ctx, n, dst_shape.h, len * self.taps(), &|image, y| {
            let at = image * dst_shape.image_stride() + y * len;
            // SAFETY: rows are disjoint.
            let dst = unsafe { dst.part(at, len) };
            let epilogue = Epilogue {
                residual: epilogue.residual.map(|residual| &residual[at..at + len]),
                ..epilogue
            };
            let src = &src[image * src_shape.image_stride()..][..src_shape.values()];
            row(
                ctx.isa(),
                lookups[0].at(y),
                &lookups[1],
                sizes,
                src,
                packed,
                epilogue,
                dst,
            );
        });
    }

    pub(crate) fn backward_weights(
        &self,
        ctx: &Context,
        n: usize,
        x: &[f32],
        dy: &[f32],
        scratch: &mut [f32],
        dw: &mut [f32],
    ) {
        let (taps, c) = (self.taps(), self.input.c);
        let sections = Self::sections(n);
        let len = self.packed_len();
        let sums = Disjoint::new(scratch);
        ctx.pool().run(sections, &|section, _| {
            // SAFETY: one section a task.
            let sums = unsafe { sums.part(section * len, len) };
            sums.fill(0.0);
            for image in n * section / sections..n * (section + 1) / sections {
                let x = &x[image * self.input.image_stride()..][..self.input.values()];
                let dy = &dy[image * self.output.image_stride()..][..self.output.values()];
                for (oy, dy) in dy.chunks_exact(self.output.w * c).enumerate() {
                    for &(ky, sy) in self.forward[0].at(oy) {
                        let x = &x[sy as usize * self.input.w * c..][..self.input.w * c];
                        for (kx, (outputs, from)) in self.columns.iter().enumerate() {
                            let tap = ky as usize * self.kernel[1] + kx;
                            let (x, dy) = (&x[from * c..], &dy[outputs.start * c..]);
                            let sum = &mut sums[tap * c..(tap + 1) * c];
                            tap_row(ctx.isa(), outputs.len(), self.step, c, x, dy, sum);
                        }
                    }
                }
            }
        });
        for channel in 0..c {
            for tap in 0..taps {
                let parts = scratch.chunks_exact(len).take(sections);
                dw[channel * taps + tap] = parts
                    .map(|part| f64::from(part[tap * c + channel]))
                    .sum::<f64>() as f32;
            }
        }
    }
}
