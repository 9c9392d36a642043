//! Plain Rust; with fixed sizes, so that LLVM can keep the tile in vector registers where the target has fused multiply-add.

use super::{Side, Tile};
use crate::relu::rectify;

const N: usize = 16;

/// # Safety
///
/// As [`super::run`].
pub(super) unsafe fn run(side: Side, m: usize, tile: &Tile) {
    let mut first = 0;
    while first < tile.n {
        let part = tile.columns(first, N);
        // SAFETY: the caller's promise, for some of the columns.
        unsafe {
            match (m, part.n == N) {
                (1, true) => block::<1, true>(side, &part),
                (2, true) => block::<2, true>(side, &part),
                (3, true) => block::<3, true>(side, &part),
                (_, true) => block::<4, true>(side, &part),
                (1, false) => block::<1, false>(side, &part),
                (2, false) => block::<2, false>(side, &part),
                (3, false) => block::<3, false>(side, &part),
                (_, false) => block::<4, false>(side, &part),
            }
        }
        first += N;
    }
}

/// # Safety
///
/// As [`super::run`], with `M` rows.
unsafe fn block<const M: usize, const FULL: bool>(side: Side, t: &Tile) {
    let n = if FULL { N } else { t.n };
    let (a_row, a_step) = match side {
        Side::Rows => (t.a_stride, 1),
        Side::Columns => (1, t.a_stride),
    };
    let mut acc = [[0.0f32; N]; M];
    for repetition in 0..t.repetitions {
        for index in 0..t.pair_count {
            // SAFETY: within the pairs, and the addresses of its steps and rows are readable by the caller's promise.
            unsafe {
                let pair = *t.pairs.add(index);
                let a = t.a.add(repetition * t.a_repetition + pair.a as usize);
                let b =
                    t.b.add(repetition * t.b_repetition + pair.b as usize * t.b_unit);
                for k in 0..pair.k as usize * t.k_unit {
                    let mut row = [0.0f32; N];
                    row[..n].copy_from_slice(std::slice::from_raw_parts(b.add(k * t.b_stride), n));
                    for (m, acc) in acc.iter_mut().enumerate() {
                        let a = *a.add(m * a_row + k * a_step);
                        if FULL {
                            for (acc, &b) in acc.iter_mut().zip(&row) {
                                *acc = a.mul_add(b, *acc);
                            }
                        } else {
                            for (acc, &b) in acc[..n].iter_mut().zip(&row[..n]) {
                                *acc = a.mul_add(b, *acc);
                            }
                        }
                    }
                }
            }
        }
    }
    for (m, acc) in acc.iter_mut().enumerate() {
        // SAFETY: rows of `add` are readable and those of C writable by the caller's promise.
        unsafe {
            if !t.add.is_null() {
                let add = std::slice::from_raw_parts(t.add.add(m * t.add_stride), n);
                acc.iter_mut().zip(add).for_each(|(acc, &add)| *acc += add);
            }
            if !t.residual.is_null() {
                let residual = std::slice::from_raw_parts(t.residual.add(m * t.c_stride), n);
                acc.iter_mut().zip(residual).for_each(|(acc, &r)| *acc += r);
            }
            if t.relu {
                acc.iter_mut().for_each(|acc| *acc = rectify(*acc));
            }
            std::ptr::copy_nonoverlapping(acc.as_ptr(), t.c.add(m * t.c_stride), n);
        }
    }
}
