//! AVX2 with FMA: up to 6 rows by two vectors of 8, 12 of the 16 registers.

// Loops over registers: unrolled completely, and indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{Side, Tile};

type Kernel = unsafe fn(&Tile);

macro_rules! rows {
    ($columns:literal, $vectors:literal, $masked:literal) => {
        [
            kernel::<1, $vectors, $columns, $masked>,
            kernel::<2, $vectors, $columns, $masked>,
            kernel::<3, $vectors, $columns, $masked>,
            kernel::<4, $vectors, $columns, $masked>,
            kernel::<5, $vectors, $columns, $masked>,
            kernel::<6, $vectors, $columns, $masked>,
        ]
    };
}

/// Indexed by side, `2 * (vectors - 1) + masked`, rows - 1.
static KERNELS: [[[Kernel; 6]; 4]; 2] = [
    [
        rows!(false, 1, false),
        rows!(false, 1, true),
        rows!(false, 2, false),
        rows!(false, 2, true),
    ],
    [
        rows!(true, 1, false),
        rows!(true, 1, true),
        rows!(true, 2, false),
        rows!(true, 2, true),
    ],
];

/// # Safety
///
/// As [`super::run`].
pub(super) unsafe fn run(side: Side, m: usize, tile: &Tile) {
    let side = usize::from(side == Side::Columns);
    let mut first = 0;
    while first < tile.n {
        let part = tile.columns(first, 16);
        let two = usize::from(part.n > 8);
        let masked = usize::from(!part.n.is_multiple_of(8));
        // SAFETY: the caller's promise, for some of the columns.
        unsafe { KERNELS[side][2 * two + masked][m - 1](&part) };
        first += 16;
    }
}

/// # Safety
///
/// As [`super::run`], for `M` rows and `8 * (V - 1) < n <= 8 * V` columns.
#[target_feature(enable = "avx2,fma")]
unsafe fn kernel<const M: usize, const V: usize, const COLUMNS: bool, const MASKED: bool>(
    t: &Tile,
) {
    // Lanes of the last vector; the others are full.
    let lanes = if MASKED { (t.n % 8) as i32 } else { 8 };
    let mask = _mm256_cmpgt_epi32(
        _mm256_set1_epi32(lanes),
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
    );
    let mut acc = [[_mm256_setzero_ps(); V]; M];
    for repetition in 0..t.repetitions {
        for index in 0..t.pair_count {
            // SAFETY: within the pairs; addresses of its steps and rows are readable by the caller's promise, and masked
            // lanes are not touched.
            unsafe {
                let pair = *t.pairs.add(index);
                let mut a = t.a.add(repetition * t.a_repetition + pair.a as usize);
                let mut b =
                    t.b.add(repetition * t.b_repetition + pair.b as usize * t.b_unit);
                for _ in 0..pair.k as usize * t.k_unit {
                    let mut row = [_mm256_setzero_ps(); V];
                    for v in 0..V {
                        row[v] = if MASKED && v == V - 1 {
                            _mm256_maskload_ps(b.add(8 * v), mask)
                        } else {
                            _mm256_loadu_ps(b.add(8 * v))
                        };
                    }
                    for m in 0..M {
                        let value =
                            _mm256_set1_ps(*a.add(if COLUMNS { m } else { m * t.a_stride }));
                        for v in 0..V {
                            acc[m][v] = _mm256_fmadd_ps(value, row[v], acc[m][v]);
                        }
                    }
                    a = a.wrapping_add(if COLUMNS { t.a_stride } else { 1 });
                    b = b.wrapping_add(t.b_stride);
                }
            }
        }
    }
    for m in 0..M {
        for v in 0..V {
            // SAFETY: rows of `add` are readable and those of C writable by the caller's promise.
            unsafe {
                let masked = MASKED && v == V - 1;
                let load = |from: *const f32| {
                    if masked {
                        _mm256_maskload_ps(from, mask)
                    } else {
                        _mm256_loadu_ps(from)
                    }
                };
                let c = t.c.add(m * t.c_stride + 8 * v);
                let mut value = acc[m][v];
                if !t.add.is_null() {
                    value = _mm256_add_ps(value, load(t.add.add(m * t.add_stride + 8 * v)));
                }
                if !t.residual.is_null() {
                    value = _mm256_add_ps(value, load(t.residual.add(m * t.c_stride + 8 * v)));
                }
                if t.relu {
                    // The second operand is returned for NaN.
                    value = _mm256_max_ps(_mm256_setzero_ps(), value);
                }
                if masked {
                    _mm256_maskstore_ps(c, mask, value);
                } else {
                    _mm256_storeu_ps(c, value);
                }
            }
        }
    }
}
