//! What a machine does at most: the measure of a kernel's figures.

use std::time::{Duration, Instant};

use crate::Context;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;
use crate::relu::ELEMENT_CHUNK;
use crate::simd::{LANES, Simd};

/// The highest rates measured with the threads and the instructions of a [`Context`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// `f32` operations a second in multiply-adds on registers; each counts as two.
    pub flops: f64,
    /// Bytes read and written a second in copying memory that no cache holds.
    pub bytes: f64,
}

/// Multiply-adds of a chain, in one task.
const CHAIN: usize = 4000;
/// Tasks of a round: enough for a thread whose core is busy to leave some to the others.
const TASKS: usize = 64;
/// Floats copied in a round: 64 MiB.
const COPIED: usize = 16 << 20;
/// Rounds are repeated for so long; the fastest counts.
const PATIENCE: Duration = Duration::from_millis(50);

impl Peak {
    /// Measures; takes about 0.2 s and, for that long, 128 MiB.
    ///
    /// ```
    /// use keepbest_kernels::{Context, Isa, Peak};
    /// let peak = Peak::measure(&Context::new(Isa::detect()?, 1)?);
    /// assert!(peak.flops > 0.0 && peak.bytes > 0.0);
    /// # Ok::<(), keepbest_kernels::IsaError>(())
    /// ```
    pub fn measure(ctx: &Context) -> Peak {
        Peak {
            flops: multiply_add_rate(ctx, CHAIN, PATIENCE),
            bytes: copy_rate(ctx, COPIED, PATIENCE),
        }
    }
}

/// Seconds of the fastest of several rounds.
fn fastest(patience: Duration, mut round: impl FnMut()) -> f64 {
    // The first wakes threads and touches fresh memory.
    round();
    let begun = Instant::now();
    let mut least = Duration::MAX;
    while least == Duration::MAX || begun.elapsed() < patience {
        let since = Instant::now();
        round();
        least = least.min(since.elapsed());
    }
    // A clock may be too coarse to see a round.
    least.as_secs_f64().max(1e-9)
}

fn multiply_add_rate(ctx: &Context, chain: usize, patience: Duration) -> f64 {
    let task = || {
        let (mut sum, mut count) = ([0.0; LANES], 0);
        let factor = std::hint::black_box(0.5);
        multiply_add(ctx.isa(), chain, factor, &mut sum, &mut count);
        std::hint::black_box(sum);
        count
    };
    let seconds = fastest(patience, || {
        ctx.pool().run(TASKS, &|_, _| _ = task());
    });
    (2 * LANES * task() * TASKS) as f64 / seconds
}

fn copy_rate(ctx: &Context, len: usize, patience: Duration) -> f64 {
    let from = Buffer::zeroed(len);
    let mut to = Buffer::zeroed(len);
    let to = Disjoint::new(&mut to);
    let seconds = fastest(patience, || {
        ctx.for_ranges(len, ELEMENT_CHUNK, &|range| {
            // SAFETY: the ranges are disjoint.
            let to = unsafe { to.part(range.start, range.len()) };
            to.copy_from_slice(std::hint::black_box(&from[range]));
        });
    });
    (2 * size_of::<f32>() * len) as f64 / seconds
}

vectorised! {
    /// Chains of `chain` multiply-adds each; their results together go to `sum`, and the number of vectors multiplied to `count`.
    fn multiply_add(simd, chain: usize, factor: f32, sum: &mut [f32; LANES], count: &mut usize) {
        // Two units of four cycles' latency need eight registers of sums to be busy; on AVX2 a vector takes two.
        *count = if S::ROOMY {
            chains::<S, 12>(simd, chain, factor, sum)
        } else {
            chains::<S, 5>(simd, chain, factor, sum)
        };
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(
    simd: S,
    chain: usize,
    factor: f32,
    sum: &mut [f32; LANES],
) -> usize {
    let factor = simd.splat(factor);
    let mut sums = [factor; N];
    // Chains that begin alike would be made one by the compiler.
    for (index, one) in sums.iter_mut().enumerate() {
        *one = simd.splat(index as f32);
    }
    for _ in 0..chain {
        for one in &mut sums {
            *one = simd.mul_add(*one, factor, factor);
        }
    }
    let mut total = sums[0];
    for one in &sums[1..] {
        total = simd.add(total, *one);
    }
    simd.store(total, sum, 0, LANES);
    N * chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_instruction_set_has_a_peak() {
        for isa in Isa::available() {
            let ctx = Context::new(isa, 2).unwrap();
            let rates = [
                multiply_add_rate(&ctx, 3, Duration::ZERO),
                copy_rate(&ctx, 100, Duration::ZERO),
            ];
            assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0));
            // What is timed is computed: chain i ends at i / 4 + 3 / 4.
            let (mut sum, mut count) = ([0.0; LANES], 0);
            multiply_add(isa, 2, 0.5, &mut sum, &mut count);
            let chains = count as f32 / 2.0;
            let expected = chains * (chains - 1.0) / 8.0 + 0.75 * chains;
            assert_eq!(sum, [expected; LANES]);
        }
    }
}
