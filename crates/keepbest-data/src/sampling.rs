//! In which order an epoch goes through the images.

use crate::rng::{CounterRng, Stream};

/// In which order an epoch goes through the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they are.
    Sequential,
    /// Shuffled anew in every epoch, as a pure function of this seed and the epoch.
    Shuffled {
        /// The seed.
        seed: u64,
    },
    /// As many images of every class: an epoch has as many images as the set, and each class an equal part of them (to one
    /// image). A small class is gone through again and again, each time in another order; of a large one, every epoch sees
    /// another part.
    Balanced {
        /// The seed.
        seed: u64,
    },
}

impl Order {
    /// The seed of what is random, 0 where nothing is.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Sequential => 0,
            Self::Shuffled { seed } | Self::Balanced { seed } => seed,
        }
    }

    /// The positions that `epoch` goes through, of images with these labels.
    pub(crate) fn positions(self, labels: &[u32], epoch: u64) -> Vec<usize> {
        let images = labels.len();
        let mut numbers = CounterRng::new(self.seed(), Stream::Shuffle, &[epoch]);
        let mut positions: Vec<usize> = match self {
            Self::Sequential => return (0..images).collect(),
            Self::Shuffled { .. } => (0..images).collect(),
            Self::Balanced { .. } => balanced(labels, &mut numbers),
        };
        numbers.shuffle(&mut positions);
        positions
    }
}

/// As many positions as there are labels, of every class that occurs as many.
fn balanced(labels: &[u32], numbers: &mut CounterRng) -> Vec<usize> {
    let mut classes = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (position, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(position);
    }
    let mut classes: Vec<Vec<usize>> = classes.into_values().collect();
    // Which classes get the images that are left over changes from epoch to epoch.
    numbers.shuffle(&mut classes);
    let count = classes.len().max(1);
    let mut positions = Vec::with_capacity(labels.len());
    for (class, images) in classes.iter_mut().enumerate() {
        let mut wanted = labels.len() / count + usize::from(class < labels.len() % count);
        while wanted > 0 {
            numbers.shuffle(images);
            let some = wanted.min(images.len());
            positions.extend_from_slice(&images[..some]);
            wanted -= some;
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_an_epoch_never_changes() {
        let order = |seed, epoch| Order::Shuffled { seed }.positions(&[0; 8], epoch);
        assert_eq!(order(1, 1), [7, 2, 0, 1, 5, 4, 3, 6]);
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
        assert_eq!(Order::Sequential.positions(&[0; 3], 9), [0, 1, 2]);
    }

    #[test]
    fn every_class_has_an_equal_part() {
        // 90 of class 0, 9 of class 3, 2 of class 7.
        let labels: Vec<u32> = [vec![0; 90], vec![3; 9], vec![7; 2]].concat();
        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..20 {
            let positions = Order::Balanced { seed: 1 }.positions(&labels, epoch);
            assert_eq!(positions.len(), 101);
            for class in [0, 3, 7] {
                let count = positions.iter().filter(|p| labels[**p] == class).count();
                assert!((33..=34).contains(&count), "{class}: {count}");
            }
            // Every image of a small class as often as any other of it, to one.
            let of = |position| positions.iter().filter(|p| **p == position).count();
            assert!(of(99).abs_diff(of(100)) <= 1);
            seen.extend(positions);
        }
        assert_eq!(seen.len(), 101);
        assert!(Order::Balanced { seed: 1 }.positions(&[], 1).is_empty());
    }
}
