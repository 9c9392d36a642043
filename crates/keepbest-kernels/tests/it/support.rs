//! Random data, the reference's data layout, and comparisons.

use keepbest_kernels::{ActShape, Buffer, Context, Isa, random};

/// Numbers from a seed.
pub(crate) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { seed, drawn: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.drawn += 1;
        random::bits(self.seed, self.drawn - 1)
    }

    /// Uniform in -1..1.
    pub(crate) fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// An activation with random images and NaN in the gaps, which no kernel may read.
    pub(crate) fn activation(&mut self, n: usize, shape: ActShape) -> Buffer {
        let mut buffer = Buffer::zeroed(shape.len(n));
        buffer.fill(f32::NAN);
        for image in 0..n {
            let start = image * shape.image_stride();
            buffer[start..start + shape.values()]
                .iter_mut()
                .for_each(|v| *v = self.value());
        }
        buffer
    }
}

/// An output buffer full of NaN: what a kernel does not write shows.
pub(crate) fn unwritten(n: usize, shape: ActShape) -> Buffer {
    let mut buffer = Buffer::zeroed(shape.len(n));
    buffer.fill(f32::NAN);
    buffer
}

/// The values of an activation, without the gaps.
pub(crate) fn dense(n: usize, shape: ActShape, x: &[f32]) -> Vec<f32> {
    (0..n)
        .flat_map(|image| {
            x[image * shape.image_stride()..][..shape.values()]
                .iter()
                .copied()
        })
        .collect()
}

/// Euclidean norm of the difference relative to that of the reference.
#[track_caller]
pub(crate) fn assert_close(what: &str, actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    let (mut error, mut norm) = (0.0, 0.0);
    for (&a, &e) in actual.iter().zip(expected) {
        error += (f64::from(a) - e).powi(2);
        norm += e * e;
    }
    let relative = error.sqrt() / norm.sqrt().max(1e-30);
    assert!(
        relative < tolerance || (error == 0.0 && norm == 0.0),
        "{what}: relative error {relative:e}"
    );
}

/// Bits of every value, so that equality is exact and NaN compares.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

pub(crate) fn fastest() -> Context {
    Context::new(Isa::fastest(), 2).unwrap()
}

/// A context for every instruction set this machine has and 1, 2, 3 and 8 threads.
pub(crate) fn contexts() -> Vec<Context> {
    let mut all = Vec::new();
    for isa in Isa::available() {
        for threads in [1, 2, 3, 8] {
            all.push(Context::new(isa, threads).unwrap());
        }
    }
    all
}

/// Runs `kernel` in every context and checks that all results have the same bits; returns them.
#[track_caller]
pub(crate) fn same_everywhere(
    what: &str,
    contexts: &[Context],
    kernel: impl Fn(&Context) -> Vec<f32>,
) -> Vec<f32> {
    let first = kernel(&contexts[0]);
    for ctx in &contexts[1..] {
        let other = kernel(ctx);
        let differs = bits(&first)
            .iter()
            .zip(bits(&other))
            .position(|(&a, b)| a != b);
        if first.len() != other.len() || differs.is_some() {
            panic!(
                "{what}: {} with {} threads differs from {} with {} at {differs:?}",
                ctx.isa(),
                ctx.pool().threads(),
                contexts[0].isa(),
                contexts[0].pool().threads(),
            );
        }
    }
    first
}
