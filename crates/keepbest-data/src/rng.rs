//! Counter-based random numbers: a pure function of (seed, stream, counters), with no state to save.
//!
//! The mixing function is SplitMix64's (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014; Stafford's
//! variant 13). A key is absorbed from seed, stream and counters, and draw `k` is `mix(key + (k + 1) * golden)`: the
//! SplitMix64 sequence that starts at `key`. So the numbers for image 17 of epoch 3 do not depend on what was drawn for
//! other images, on threads, or on the order of the calls.

/// What the numbers are for; different streams with the same seed are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// Taking the validation set out of the training set.
    ValSplit = 1,
    /// Taking a test set out of the training set.
    TestSplit = 2,
    /// The order of the images in an epoch.
    Shuffle = 3,
    /// Augmentation of one image in one epoch.
    Augment = 4,
    /// Mixing the images of one batch.
    Mix = 5,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The sequence for one (seed, stream, counters).
#[derive(Debug, Clone)]
pub struct CounterRng {
    state: u64,
}

impl CounterRng {
    /// The sequence for `seed`, `stream` and any number of counters.
    pub fn new(seed: u64, stream: Stream, counters: &[u64]) -> Self {
        let absorb =
            |key: u64, value: u64| mix(key.wrapping_add(GOLDEN) ^ mix(value.wrapping_add(GOLDEN)));
        let key = absorb(mix(seed.wrapping_add(GOLDEN)), stream as u64);
        Self {
            state: counters
                .iter()
                .fold(key, |key, &counter| absorb(key, counter)),
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`, without bias (Lemire: Fast Random Integer Generation in an Interval, 2019); 0 when `bound`
    /// is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let reject_below = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            if wide as u64 >= reject_below {
                return (wide >> 64) as u64;
            }
        }
    }

    /// True or false, each with probability one half.
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// A number from 0 to below 1: a multiple of 2^-53, each as likely.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number from `low` to `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Fisher-Yates: every order of `items` with the same probability.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // Reference values of SplitMix64 started at 1234567 (Vigna's splitmix64.c).
        let mut rng = CounterRng { state: 1_234_567 };
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn seed_stream_and_counters_all_matter() {
        let first =
            |seed, stream, counters: &[u64]| CounterRng::new(seed, stream, counters).next_u64();
        let all = [
            first(0, Stream::Shuffle, &[0]),
            first(1, Stream::Shuffle, &[0]),
            first(0, Stream::Augment, &[0]),
            first(0, Stream::Shuffle, &[1]),
            first(0, Stream::Shuffle, &[0, 0]),
            first(0, Stream::Shuffle, &[0, 1]),
            first(0, Stream::Shuffle, &[1, 0]),
            first(0, Stream::Shuffle, &[]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = CounterRng::new(7, Stream::Augment, &[]);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            counts[rng.below(5) as usize] += 1;
        }
        // Standard deviation of each count is 89: five of them.
        assert!(
            counts.iter().all(|&c| c.abs_diff(10_000) < 450),
            "{counts:?}"
        );
        assert_eq!(rng.below(1), 0);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn every_order_of_three_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..12_000 {
            let mut items = [0, 1, 2];
            CounterRng::new(3, Stream::Shuffle, &[i]).shuffle(&mut items);
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|&c| c.abs_diff(2_000) < 210),
            "{counts:?}"
        );
    }
}
