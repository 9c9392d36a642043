//! The one micro-kernel: a batch-reduce product of small matrices (Georganas et al., arXiv 1906.06440).
//!
//! `C[m][0..n] = (add[m][0..n] +) sum over repetitions, pairs and k of A[m][k] * B[k][0..n]`, where every pair names a place in
//! A and one in B. The tile of C stays in registers over the whole batch. Each element starts at zero, adds its products in
//! the order (repetition, pair, k) with fused multiply-add, then `add`, then `residual`, and is rectified last if asked: the
//! order does not depend on how C is cut into tiles, nor on the width of a vector.

use crate::isa::Isa;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// Columns of the widest tile.
pub(crate) const MAX_N: usize = 32;

/// What the words of A and B are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    /// Two `bf16` in a word of 32 bits, the first in the lower half: a product of words is two products, and a step of k two
    /// steps. C and `add` are `f32`.
    Bf16Pair,
}

/// A place in A (floats), one in B (times `b_unit` floats), and how many steps of k (times `k_unit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) k: u32,
}

/// The layout of the rows and the steps of A in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// `A[m][k]` at `m * a_stride + k`: rows are pixels, k runs over their channels.
    Rows,
    /// `A[m][k]` at `m + k * a_stride`: rows are channels, k runs over pixels.
    Columns,
}

/// One product. All pointers and offsets are the caller's responsibility.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) a: *const f32,
    pub(crate) a_stride: usize,
    pub(crate) b: *const f32,
    pub(crate) b_stride: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    /// Added to the sums when not null: row `m` at `m * add_stride` (0 for a bias).
    pub(crate) add: *const f32,
    pub(crate) add_stride: usize,
    /// Added next when not null: rows `c_stride` apart.
    pub(crate) residual: *const f32,
    /// Whether negative sums become zero.
    pub(crate) relu: bool,
    pub(crate) pairs: *const Pair,
    pub(crate) pair_count: usize,
    pub(crate) b_unit: usize,
    pub(crate) k_unit: usize,
    pub(crate) repetitions: usize,
    pub(crate) a_repetition: usize,
    pub(crate) b_repetition: usize,
    /// Columns, 1 to [`MAX_N`].
    pub(crate) n: usize,
}

impl Tile {
    /// The part of the tile from column `first` on, at most `width` columns wide.
    #[inline(always)]
    fn columns(&self, first: usize, width: usize) -> Tile {
        let shift = |p: *const f32| {
            if p.is_null() {
                p
            } else {
                p.wrapping_add(first)
            }
        };
        Tile {
            b: shift(self.b),
            c: self.c.wrapping_add(first),
            add: shift(self.add),
            residual: shift(self.residual),
            n: (self.n - first).min(width),
            ..*self
        }
    }
}

/// Rows a tile may have.
pub(crate) fn max_rows(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 14,
        Isa::Avx2 => 6,
        Isa::Portable => 4,
    }
}

/// Computes a tile of `m` rows, `1 <= m <= max_rows(isa)`.
///
/// # Safety
///
/// For every repetition, pair, step and row the addresses in A, B (`n` floats a step), `add` and `residual` must be readable, those in C
/// writable and not accessed by another thread; `isa` must be available, and for pairs on AVX-512 also AVX-512 BF16.
#[inline]
pub(crate) unsafe fn run(isa: Isa, element: Element, side: Side, m: usize, tile: &Tile) {
    debug_assert!(m >= 1 && m <= max_rows(isa) && tile.n >= 1 && tile.n <= MAX_N);
    match (isa, element) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        (Isa::Avx512, _) => unsafe { avx512::run(element, side, m, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        (Isa::Avx2, Element::F32) => unsafe { avx2::run(side, m, tile) },
        // SAFETY: the caller's promise.
        (_, Element::F32) => unsafe { portable::run(side, m, tile) },
        (_, Element::Bf16Pair) => unreachable!("a context with bf16 has AVX-512"),
    }
}

/// `count` cut into the fewest pieces of at most `most`, as even as they come: (pieces, larger size, how many are larger).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) pieces: usize,
    small: usize,
    larger: usize,
}

impl Split {
    pub(crate) fn new(count: usize, most: usize) -> Split {
        let pieces = count.div_ceil(most);
        match pieces {
            0 => Split {
                pieces: 0,
                small: 0,
                larger: 0,
            },
            _ => Split {
                pieces,
                small: count / pieces,
                larger: count % pieces,
            },
        }
    }

    /// Start and size of a piece.
    #[inline]
    pub(crate) fn piece(&self, index: usize) -> (usize, usize) {
        (
            index * self.small + index.min(self.larger),
            self.small + usize::from(index < self.larger),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_is_even_and_complete() {
        for count in 0..100 {
            for most in 1..20 {
                let split = Split::new(count, most);
                let mut next = 0;
                for piece in 0..split.pieces {
                    let (start, size) = split.piece(piece);
                    assert_eq!(start, next);
                    assert!(size >= 1 && size <= most);
                    next += size;
                }
                assert_eq!(next, count);
            }
        }
    }
}
