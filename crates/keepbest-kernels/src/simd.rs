//! Sixteen lanes of `f32` on every instruction set, for kernels whose lanes are channels.
//!
//! A value of a [`Simd`] type proves that the processor has its instructions, so the operations are safe. They must be
//! inlined into a function compiled for the instruction set: [`vectorised!`] makes one.

use crate::precision::bf16;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// An instruction set's vectors. Every operation gives the same bits on all of them.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `u32`.
    type U: Copy;

    /// Whether the registers hold many vectors of sixteen lanes.
    const ROOMY: bool;

    fn splat(self, v: f32) -> Self::F;
    /// Lanes `0..len` from `slice[at..at + len]`, zero beyond.
    fn load(self, slice: &[f32], at: usize, len: usize) -> Self::F;
    /// Lanes `0..len` to `slice[at..at + len]`.
    fn store(self, v: Self::F, slice: &mut [f32], at: usize, len: usize);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `v` where it is not negative, else zero; NaN stays.
    fn rectify(self, v: Self::F) -> Self::F;
    /// `g` unless `y <= 0`, else zero.
    fn mask(self, y: Self::F, g: Self::F) -> Self::F;
    fn splat_u32(self, v: u32) -> Self::U;
    /// `(x, cell)` where `x > best` or `x` is NaN, else `(best, winner)`.
    fn larger(
        self,
        best: Self::F,
        winner: Self::U,
        x: Self::F,
        cell: Self::U,
    ) -> (Self::F, Self::U);
    /// `g` where `cells[at + lane] == cell`, else zero; lanes `0..len`.
    fn where_cell(self, g: Self::F, cells: &[u8], at: usize, len: usize, cell: u8) -> Self::F;
    /// The low bytes of lanes `0..len` to `cells[at..at + len]`.
    fn store_bytes(self, v: Self::U, cells: &mut [u8], at: usize, len: usize);
    /// Each lane as `bf16` in the lower half of a word, the upper half zero.
    #[inline(always)]
    fn bf16_low(self, v: Self::F) -> Self::F {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes, 0, LANES);
        self.load(&lanes.map(|v| f32::from_bits(bf16(v).into())), 0, LANES)
    }
    /// Each lane as `bf16` in the upper half of a word that has its lower half.
    #[inline(always)]
    fn bf16_high(self, low: Self::F, v: Self::F) -> Self::F {
        let (mut words, mut lanes) = ([0.0; LANES], [0.0; LANES]);
        self.store(low, &mut words, 0, LANES);
        self.store(v, &mut lanes, 0, LANES);
        for (word, v) in words.iter_mut().zip(lanes) {
            *word = f32::from_bits(word.to_bits() | u32::from(bf16(v)) << 16);
        }
        self.load(&words, 0, LANES)
    }
    /// Lanes `0..len` as `bf16`, two to a word, to `words[at..at + len / 2]`, a last odd one with zero.
    #[inline(always)]
    fn store_bf16(self, v: Self::F, words: &mut [f32], at: usize, len: usize) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes, 0, len);
        let words = &mut words[at..at + len.div_ceil(2)];
        for (word, pair) in words.iter_mut().zip(lanes.chunks_exact(2)) {
            let [low, high] = [pair[0], pair[1]].map(|v| u32::from(bf16(v)));
            *word = f32::from_bits(low | high << 16);
        }
    }
}

/// Arrays, for any processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F = [f32; LANES];
    type U = [u32; LANES];
    const ROOMY: bool = false;

    #[inline(always)]
    fn splat(self, v: f32) -> [f32; LANES] {
        [v; LANES]
    }

    #[inline(always)]
    fn load(self, slice: &[f32], at: usize, len: usize) -> [f32; LANES] {
        let mut v = [0.0; LANES];
        v[..len].copy_from_slice(&slice[at..at + len]);
        v
    }

    #[inline(always)]
    fn store(self, v: [f32; LANES], slice: &mut [f32], at: usize, len: usize) {
        slice[at..at + len].copy_from_slice(&v[..len]);
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn rectify(self, v: [f32; LANES]) -> [f32; LANES] {
        v.map(crate::relu::rectify)
    }

    #[inline(always)]
    fn mask(self, y: [f32; LANES], g: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| crate::relu::mask(y[i], g[i]))
    }

    #[inline(always)]
    fn splat_u32(self, v: u32) -> [u32; LANES] {
        [v; LANES]
    }

    #[inline(always)]
    fn larger(
        self,
        best: [f32; LANES],
        winner: [u32; LANES],
        x: [f32; LANES],
        cell: [u32; LANES],
    ) -> ([f32; LANES], [u32; LANES]) {
        let take = |i: usize| x[i] > best[i] || x[i].is_nan();
        (
            std::array::from_fn(|i| if take(i) { x[i] } else { best[i] }),
            std::array::from_fn(|i| if take(i) { cell[i] } else { winner[i] }),
        )
    }

    #[inline(always)]
    fn where_cell(
        self,
        g: [f32; LANES],
        cells: &[u8],
        at: usize,
        len: usize,
        cell: u8,
    ) -> [f32; LANES] {
        let cells = &cells[at..at + len];
        std::array::from_fn(|i| {
            if i < len && cells[i] == cell {
                g[i]
            } else {
                0.0
            }
        })
    }

    #[inline(always)]
    fn store_bytes(self, v: [u32; LANES], cells: &mut [u8], at: usize, len: usize) {
        for (cell, v) in cells[at..at + len].iter_mut().zip(v) {
            *cell = v as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Simd};

    /// Proof of AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    /// Proof of AVX-512 F, VL, DQ and BW.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx2 {
        /// # Safety
        ///
        /// The processor must have AVX2 and FMA.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Avx2 {
            Avx2(())
        }
    }

    impl Avx512 {
        /// # Safety
        ///
        /// The processor must have AVX-512 F, VL, DQ and BW.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Avx512 {
            Avx512(())
        }
    }

    // Loads and stores go through slices that were just checked to hold their lanes; the instructions exist because a value
    // of the type does. Both facts justify every unsafe block below.

    impl Simd for Avx2 {
        type F = [__m256; 2];
        type U = [__m256i; 2];
        const ROOMY: bool = false;

        #[inline(always)]
        fn splat(self, v: f32) -> [__m256; 2] {
            // SAFETY: the token proves AVX2.
            unsafe { [_mm256_set1_ps(v); 2] }
        }

        #[inline(always)]
        fn load(self, slice: &[f32], at: usize, len: usize) -> [__m256; 2] {
            let part = &slice[at..at + len];
            if let Some(full) = part.first_chunk::<LANES>() {
                // SAFETY: the token proves AVX2; `full` holds 16 floats.
                unsafe {
                    [
                        _mm256_loadu_ps(full.as_ptr()),
                        _mm256_loadu_ps(full.as_ptr().add(8)),
                    ]
                }
            } else {
                let mut full = [0.0; LANES];
                full[..len].copy_from_slice(part);
                self.load(&full, 0, LANES)
            }
        }

        #[inline(always)]
        fn store(self, v: [__m256; 2], slice: &mut [f32], at: usize, len: usize) {
            let part = &mut slice[at..at + len];
            if let Some(full) = part.first_chunk_mut::<LANES>() {
                // SAFETY: the token proves AVX2; `full` holds 16 floats.
                unsafe {
                    _mm256_storeu_ps(full.as_mut_ptr(), v[0]);
                    _mm256_storeu_ps(full.as_mut_ptr().add(8), v[1]);
                }
            } else {
                let mut full = [0.0; LANES];
                self.store(v, &mut full, 0, LANES);
                part.copy_from_slice(&full[..len]);
            }
        }

        #[inline(always)]
        fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the token proves AVX2.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the token proves AVX2.
            unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the token proves AVX2.
            unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the token proves FMA.
            unsafe {
                [
                    _mm256_fmadd_ps(a[0], b[0], c[0]),
                    _mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
        }

        #[inline(always)]
        fn rectify(self, v: [__m256; 2]) -> [__m256; 2] {
            // The second operand is returned for NaN and for equal values (minus zero).
            // SAFETY: the token proves AVX2.
            unsafe { v.map(|v| _mm256_max_ps(_mm256_setzero_ps(), v)) }
        }

        #[inline(always)]
        fn mask(self, y: [__m256; 2], g: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the token proves AVX2.
            unsafe {
                let keep =
                    |y, g| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(y, _mm256_setzero_ps()), g);
                [keep(y[0], g[0]), keep(y[1], g[1])]
            }
        }

        #[inline(always)]
        fn splat_u32(self, v: u32) -> [__m256i; 2] {
            // SAFETY: the token proves AVX2.
            unsafe { [_mm256_set1_epi32(v as i32); 2] }
        }

        #[inline(always)]
        fn larger(
            self,
            best: [__m256; 2],
            winner: [__m256i; 2],
            x: [__m256; 2],
            cell: [__m256i; 2],
        ) -> ([__m256; 2], [__m256i; 2]) {
            // SAFETY: the token proves AVX2.
            unsafe {
                // Not (x <= best) holds for larger, and for NaN in either; a NaN best must stay unless x is NaN.
                let take = |x, best| {
                    let larger = _mm256_cmp_ps::<_CMP_GT_OQ>(x, best);
                    _mm256_or_ps(larger, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
                };
                let (low, high) = (take(x[0], best[0]), take(x[1], best[1]));
                (
                    [
                        _mm256_blendv_ps(best[0], x[0], low),
                        _mm256_blendv_ps(best[1], x[1], high),
                    ],
                    [
                        _mm256_blendv_epi8(winner[0], cell[0], _mm256_castps_si256(low)),
                        _mm256_blendv_epi8(winner[1], cell[1], _mm256_castps_si256(high)),
                    ],
                )
            }
        }

        #[inline(always)]
        fn where_cell(
            self,
            g: [__m256; 2],
            cells: &[u8],
            at: usize,
            len: usize,
            cell: u8,
        ) -> [__m256; 2] {
            let part = &cells[at..at + len];
            let mut full = [!cell; LANES];
            if let Some(part) = part.first_chunk::<LANES>() {
                full = *part;
            } else {
                full[..len].copy_from_slice(part);
            }
            // SAFETY: the token proves AVX2; `full` holds 16 bytes.
            unsafe {
                let bytes = _mm_loadu_si128(full.as_ptr().cast());
                let equal = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(cell as i8));
                let low = _mm256_castsi256_ps(_mm256_cvtepi8_epi32(equal));
                let high = _mm256_castsi256_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(equal)));
                [_mm256_and_ps(g[0], low), _mm256_and_ps(g[1], high)]
            }
        }

        #[inline(always)]
        fn store_bytes(self, v: [__m256i; 2], cells: &mut [u8], at: usize, len: usize) {
            let mut words = [0u32; LANES];
            // SAFETY: the token proves AVX2; `words` holds 16 words.
            unsafe {
                _mm256_storeu_si256(words.as_mut_ptr().cast(), v[0]);
                _mm256_storeu_si256(words.as_mut_ptr().add(8).cast(), v[1]);
            }
            for (cell, word) in cells[at..at + len].iter_mut().zip(words) {
                *cell = word as u8;
            }
        }
    }

    /// Lanes `0..len`.
    #[inline(always)]
    fn lanes(len: usize) -> __mmask16 {
        ((1u32 << len) - 1) as __mmask16
    }

    impl Avx512 {
        /// Each lane rounded to `bf16`, in the upper half of its word; the lower half is what is left of the sum.
        #[inline(always)]
        fn bf16_bits(self, v: __m512) -> __m512i {
            // SAFETY: the token proves AVX-512.
            unsafe {
                let bits = _mm512_castps_si512(v);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded =
                    _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
                // Rounding could carry a NaN into a number.
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000))
            }
        }
    }

    impl Simd for Avx512 {
        type F = __m512;
        type U = __m512i;
        const ROOMY: bool = true;

        #[inline(always)]
        fn splat(self, v: f32) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_set1_ps(v) }
        }

        #[inline(always)]
        fn load(self, slice: &[f32], at: usize, len: usize) -> __m512 {
            let part = &slice[at..at + len];
            assert!(len <= LANES);
            // SAFETY: the token proves AVX-512; `part` holds the lanes that are read.
            unsafe {
                if len == LANES {
                    _mm512_loadu_ps(part.as_ptr())
                } else {
                    _mm512_maskz_loadu_ps(lanes(len), part.as_ptr())
                }
            }
        }

        #[inline(always)]
        fn store(self, v: __m512, slice: &mut [f32], at: usize, len: usize) {
            let part = &mut slice[at..at + len];
            assert!(len <= LANES);
            // SAFETY: the token proves AVX-512; `part` holds the lanes that are written.
            unsafe {
                if len == LANES {
                    _mm512_storeu_ps(part.as_mut_ptr(), v);
                } else {
                    _mm512_mask_storeu_ps(part.as_mut_ptr(), lanes(len), v);
                }
            }
        }

        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_sub_ps(a, b) }
        }

        #[inline(always)]
        fn div(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_div_ps(a, b) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn rectify(self, v: __m512) -> __m512 {
            // The second operand is returned for NaN and for equal values (minus zero).
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
        }

        #[inline(always)]
        fn mask(self, y: __m512, g: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe {
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(y, _mm512_setzero_ps()), g)
            }
        }

        #[inline(always)]
        fn splat_u32(self, v: u32) -> __m512i {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_set1_epi32(v as i32) }
        }

        #[inline(always)]
        fn larger(
            self,
            best: __m512,
            winner: __m512i,
            x: __m512,
            cell: __m512i,
        ) -> (__m512, __m512i) {
            // SAFETY: the token proves AVX-512.
            unsafe {
                let larger = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, best);
                let take = larger | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                (
                    _mm512_mask_mov_ps(best, take, x),
                    _mm512_mask_mov_epi32(winner, take, cell),
                )
            }
        }

        #[inline(always)]
        fn where_cell(self, g: __m512, cells: &[u8], at: usize, len: usize, cell: u8) -> __m512 {
            let part = &cells[at..at + len];
            assert!(len <= LANES);
            // SAFETY: the token proves AVX-512 with BW and VL; `part` holds the bytes that are read.
            unsafe {
                let bytes = if len == LANES {
                    _mm_loadu_si128(part.as_ptr().cast())
                } else {
                    _mm_mask_loadu_epi8(
                        _mm_set1_epi8(!cell as i8),
                        lanes(len),
                        part.as_ptr().cast(),
                    )
                };
                _mm512_maskz_mov_ps(_mm_cmpeq_epi8_mask(bytes, _mm_set1_epi8(cell as i8)), g)
            }
        }

        #[inline(always)]
        fn bf16_low(self, v: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512.
            unsafe { _mm512_castsi512_ps(_mm512_srli_epi32::<16>(self.bf16_bits(v))) }
        }

        #[inline(always)]
        fn bf16_high(self, low: __m512, v: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512 with BW: the upper halves from the second.
            unsafe {
                let low = _mm512_castps_si512(low);
                let words = _mm512_mask_mov_epi16(low, 0xaaaa_aaaa, self.bf16_bits(v));
                _mm512_castsi512_ps(words)
            }
        }

        #[inline(always)]
        fn store_bf16(self, v: __m512, words: &mut [f32], at: usize, len: usize) {
            let part = &mut words[at..at + len.div_ceil(2)];
            assert!(len <= LANES);
            // SAFETY: the token proves AVX-512 with BW and VL; `part` holds the words that are written.
            unsafe {
                // Lanes beyond the last give the last word its zero.
                let v = _mm512_maskz_mov_ps(lanes(len), v);
                let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.bf16_bits(v)));
                if len == LANES {
                    _mm256_storeu_si256(part.as_mut_ptr().cast(), halves);
                } else {
                    let halves = _mm256_castsi256_ps(halves);
                    let words = ((1u32 << part.len()) - 1) as __mmask8;
                    _mm256_mask_storeu_ps(part.as_mut_ptr(), words, halves);
                }
            }
        }

        #[inline(always)]
        fn store_bytes(self, v: __m512i, cells: &mut [u8], at: usize, len: usize) {
            let part = &mut cells[at..at + len];
            assert!(len <= LANES);
            // SAFETY: the token proves AVX-512 with BW and VL; `part` holds the bytes that are written.
            unsafe {
                _mm_mask_storeu_epi8(
                    part.as_mut_ptr().cast(),
                    lanes(len),
                    _mm512_cvtepi32_epi8(v),
                )
            }
        }
    }
}

/// Makes a function that runs a body generic over [`Simd`] with the vectors of an `Isa`. The `Isa` comes first and must be
/// from a [`Context`](crate::Context), which has checked it; the body's first parameter is the vectors.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($simd:ident, $($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<S: $crate::simd::Simd>($simd: S, $($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) {
                // SAFETY: this function is compiled for, and called with, these features.
                body(unsafe { $crate::simd::Avx2::new() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) {
                // SAFETY: this function is compiled for, and called with, these features.
                body(unsafe { $crate::simd::Avx512::new() }, $($arg),*)
            }
            match isa {
                $crate::isa::Isa::Portable => body($crate::simd::Portable, $($arg),*),
                // SAFETY: the `Isa` of a `Context` was checked against this processor when the context was made.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(not(target_arch = "x86_64"))]
                _ => body($crate::simd::Portable, $($arg),*),
            }
        }
    };
}

/// Blocks of at most [`LANES`] channels: (first, count).
#[inline(always)]
pub(crate) fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels)
        .step_by(LANES)
        .map(move |first| (first, LANES.min(channels - first)))
}
