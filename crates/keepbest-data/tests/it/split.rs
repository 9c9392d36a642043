use std::collections::BTreeMap;

use keepbest_data::split::{stratified, stratified_three};
use proptest::prelude::*;

/// Labels where every class that occurs has at least two images.
fn labels() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(2usize..30, 1..8).prop_flat_map(|sizes| {
        let labels: Vec<u32> = sizes
            .iter()
            .enumerate()
            .flat_map(|(class, &size)| vec![class as u32 * 3; size])
            .collect();
        Just(labels).prop_shuffle()
    })
}

fn counts(labels: &[u32], part: &[usize]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    part.iter()
        .for_each(|&index| *counts.entry(labels[index]).or_default() += 1);
    counts
}

proptest! {
    #[test]
    fn every_image_is_in_one_part_and_classes_keep_their_share(
        labels in labels(),
        fraction in 0.01f64..0.99,
        seed: u64,
    ) {
        let (train, val) = stratified(&labels, fraction, seed).unwrap();
        let mut all = [train.clone(), val.clone()].concat();
        prop_assert!(train.is_sorted() && val.is_sorted());
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..labels.len()));
        prop_assert!(!val.is_empty());

        let everything: Vec<usize> = (0..labels.len()).collect();
        let (of_all, of_train, of_val) = (counts(&labels, &everything), counts(&labels, &train), counts(&labels, &val));
        prop_assert_eq!(of_all.len(), of_train.len(), "every class stays in train");
        let capped = of_all.values().any(|&n| (n as f64 * fraction).ceil() > (n - 1) as f64);
        if !capped {
            prop_assert_eq!(val.len(), ((labels.len() as f64 * fraction).round() as usize).max(1));
            for (class, &n) in &of_all {
                let share = n as f64 * fraction;
                let taken = of_val.get(class).copied().unwrap_or(0) as f64;
                prop_assert!((taken - share).abs() < 1.0, "class {}: {} of {} for {}", class, taken, n, share);
            }
        }
        prop_assert_eq!(stratified(&labels, fraction, seed).unwrap(), (train, val));
    }

    #[test]
    fn three_parts_are_disjoint_and_complete(labels in labels(), seed: u64) {
        let parts = stratified_three(&labels, 0.2, 0.2, seed).unwrap();
        let mut all = [&parts.train[..], &parts.val, &parts.test].concat();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..labels.len()));
        let everything: Vec<usize> = (0..labels.len()).collect();
        prop_assert_eq!(counts(&labels, &parts.train).len(), counts(&labels, &everything).len());
        prop_assert!(!parts.val.is_empty());
    }
}
