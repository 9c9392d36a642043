//! AVX-512: up to 14 rows by two vectors, 28 of the 32 registers. One kernel for `f32`, one for pairs of `bf16`.

// Loops over registers: unrolled completely, and indexed by the same constants on both sides.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::{Element, Side, Tile};

type Kernel = unsafe fn(&Tile);

macro_rules! rows {
    ($kernel:ident, $columns:literal, $vectors:literal, $masked:literal) => {
        [
            $kernel::<1, $vectors, $columns, $masked>,
            $kernel::<2, $vectors, $columns, $masked>,
            $kernel::<3, $vectors, $columns, $masked>,
            $kernel::<4, $vectors, $columns, $masked>,
            $kernel::<5, $vectors, $columns, $masked>,
            $kernel::<6, $vectors, $columns, $masked>,
            $kernel::<7, $vectors, $columns, $masked>,
            $kernel::<8, $vectors, $columns, $masked>,
            $kernel::<9, $vectors, $columns, $masked>,
            $kernel::<10, $vectors, $columns, $masked>,
            $kernel::<11, $vectors, $columns, $masked>,
            $kernel::<12, $vectors, $columns, $masked>,
            $kernel::<13, $vectors, $columns, $masked>,
            $kernel::<14, $vectors, $columns, $masked>,
        ]
    };
}

macro_rules! kernels {
    ($kernel:ident) => {
        [
            [
                rows!($kernel, false, 1, false),
                rows!($kernel, false, 1, true),
                rows!($kernel, false, 2, false),
                rows!($kernel, false, 2, true),
            ],
            [
                rows!($kernel, true, 1, false),
                rows!($kernel, true, 1, true),
                rows!($kernel, true, 2, false),
                rows!($kernel, true, 2, true),
            ],
        ]
    };
}

/// Indexed by side, `2 * (vectors - 1) + masked`, rows - 1.
type Kernels = [[[Kernel; 14]; 4]; 2];

static F32: Kernels = kernels!(f32_kernel);
static BF16: Kernels = kernels!(bf16_kernel);

/// # Safety
///
/// As [`super::run`].
#[inline]
pub(super) unsafe fn run(element: Element, side: Side, m: usize, tile: &Tile) {
    let kernels = match element {
        Element::F32 => &F32,
        Element::Bf16Pair => &BF16,
    };
    let two = usize::from(tile.n > 16);
    let masked = usize::from(!tile.n.is_multiple_of(16));
    let side = usize::from(side == Side::Columns);
    // SAFETY: the caller's promise.
    unsafe { kernels[side][2 * two + masked][m - 1](tile) }
}

macro_rules! kernel {
    ($name:ident, $features:literal, $product:ident) => {
        /// # Safety
        ///
        /// As [`super::run`], for `M` rows and `16 * (V - 1) < n <= 16 * V` columns.
        #[target_feature(enable = $features)]
        unsafe fn $name<const M: usize, const V: usize, const COLUMNS: bool, const MASKED: bool>(
            t: &Tile,
        ) {
            // Lanes of the last vector; the others are full.
            let mask: __mmask16 = if MASKED {
                (1u16 << (t.n % 16)) - 1
            } else {
                u16::MAX
            };
            let mut acc = [[_mm512_setzero_ps(); V]; M];
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
                            let mut row = [_mm512_setzero_ps(); V];
                            for v in 0..V {
                                row[v] = if MASKED && v == V - 1 {
                                    _mm512_maskz_loadu_ps(mask, b.add(16 * v))
                                } else {
                                    _mm512_loadu_ps(b.add(16 * v))
                                };
                            }
                            for m in 0..M {
                                let value = _mm512_set1_ps(*a.add(if COLUMNS {
                                    m
                                } else {
                                    m * t.a_stride
                                }));
                                for v in 0..V {
                                    acc[m][v] = $product(value, row[v], acc[m][v]);
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
                    let lanes = if v == V - 1 { mask } else { u16::MAX };
                    // SAFETY: rows of `add` are readable and those of C writable by the caller's promise.
                    unsafe {
                        let mut value = acc[m][v];
                        if !t.add.is_null() {
                            value = _mm512_add_ps(
                                value,
                                _mm512_maskz_loadu_ps(lanes, t.add.add(m * t.add_stride + 16 * v)),
                            );
                        }
                        if !t.residual.is_null() {
                            let residual = t.residual.add(m * t.c_stride + 16 * v);
                            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes, residual));
                        }
                        if t.relu {
                            // The second operand is returned for NaN.
                            value = _mm512_max_ps(_mm512_setzero_ps(), value);
                        }
                        _mm512_mask_storeu_ps(t.c.add(m * t.c_stride + 16 * v), lanes, value);
                    }
                }
            }
        }
    };
}

kernel!(f32_kernel, "avx512f", _mm512_fmadd_ps);
kernel!(bf16_kernel, "avx512f,avx512bf16", add_products);

/// Adds to each lane of `sum` the two products of the lane's pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_products(a: __m512, b: __m512, sum: __m512) -> __m512 {
    // SAFETY: all are 64 bytes, and any bits are numbers of either kind.
    let [a, b]: [__m512bh; 2] = unsafe { std::mem::transmute([a, b]) };
    _mm512_dpbf16_ps(sum, a, b)
}
