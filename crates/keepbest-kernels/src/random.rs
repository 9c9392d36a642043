//! Counter-based random numbers: a value is a function of a key and a position, so nothing needs to be stored, and threads do not
//! matter.

/// The `position`-th 64-bit value of the sequence `key`: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014) that starts at `key`.
#[must_use]
pub fn bits(key: u64, position: u64) -> u64 {
    mix(key.wrapping_add(position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// SplitMix64's mixer of 64 bits.
#[must_use]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_matches_its_reference_sequence() {
        // First outputs of the reference implementation (prng.di.unimi.it) for seed 1234567.
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
        ];
        for (i, e) in expected.into_iter().enumerate() {
            assert_eq!(bits(1234567, i as u64), e);
        }
    }
}
