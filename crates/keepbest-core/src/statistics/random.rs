//! Random draws that are the same everywhere.

/// SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    /// Stream `stream` of `seed`; streams do not overlap in practice, so replicates may run in any order.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut start = Self(seed ^ 0x6a09_e667_f3bc_c909);
        let base = start.next();
        Self(base ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`, each equally likely up to 2^-32 (Lemire 2019, without the rejection step).
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u32
    }
}
