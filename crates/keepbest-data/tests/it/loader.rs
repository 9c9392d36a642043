use std::sync::Arc;

use keepbest_data::{
    Augmentation, DataError, Dataset, Image, ImageShape, LoadError, Loader, LoaderConfig,
    MemoryDataset, PrepareOptions, Preprocessing, ResizeRule, Shard, Subset,
};
use proptest::prelude::*;

use crate::fixtures::*;

/// Every change there is.
const ALL: &str = "crop:0.3,rotate:15,jitter:0.3,trivial,erase:0.5,mixup:0.2,cutmix:1";

fn preprocessing() -> Preprocessing {
    Preprocessing::new(ImageShape::new(28, 28, 1)).with_normalisation(vec![0.25], vec![0.5])
}

fn loader(images: usize, config: LoaderConfig) -> Loader {
    Loader::new(
        Subset::all(test_set()).take(images),
        &preprocessing(),
        config,
    )
    .unwrap()
}

/// Everything an epoch delivers.
fn deliver(loader: &Loader, epoch: u64, skip: usize) -> Vec<(Vec<u32>, Vec<u32>, Vec<usize>)> {
    loader
        .epoch(epoch, skip)
        .map(|batch| {
            let batch = batch.unwrap();
            (
                batch.images.iter().map(|value| value.to_bits()).collect(),
                batch.labels.clone(),
                batch.indices.clone(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_image_once_an_epoch_and_nothing_depends_on_prefetch_threads_or_skipping(
        images in 1usize..90,
        batch in 1usize..40,
        seed: u64,
        epoch in 0u64..1000,
        prefetch in 0usize..6,
        threads in 1usize..5,
        skip in 0usize..8,
        flip: bool,
        shift in 0u32..4,
    ) {
        let batch = batch.min(images);
        let config = LoaderConfig::training(batch, seed).with_augmentation(Augmentation { flip, shift, ..ALL.parse().unwrap() });
        let reference = loader(images, config.with_prefetch(2));
        let all = deliver(&reference, epoch, 0);
        prop_assert_eq!(all.len(), reference.batches_per_epoch());

        let mut indices: Vec<usize> = all.iter().flat_map(|batch| batch.2.clone()).collect();
        indices.sort_unstable();
        prop_assert!(indices.into_iter().eq(0..images));
        let set = test_set();
        for (pixels, labels, indices) in &all {
            prop_assert_eq!(pixels.len(), indices.len() * 784);
            prop_assert!(labels.iter().zip(indices).all(|(&label, &index)| label == set.label(index)));
        }

        let other = loader(images, config.with_prefetch(prefetch).with_threads(threads));
        prop_assert_eq!(&deliver(&other, epoch, skip)[..], &all[skip.min(all.len())..]);
        // Recycled buffers hold nothing of the epoch before.
        prop_assert_eq!(deliver(&other, epoch, 0), all);
    }
}

#[test]
fn the_shards_of_a_batch_are_the_batch() {
    for augmentation in ["none", ALL] {
        // The last batch has fewer images than there are shards.
        let config = LoaderConfig::training(8, 3)
            .with_augmentation(augmentation.parse().unwrap())
            .with_threads(2);
        let whole = deliver(&loader(26, config), 1, 0);
        for of in [1, 2, 3, 4] {
            let shards: Vec<_> = (0..of)
                .map(|rank| {
                    let config = config.with_shard(Shard { rank, of });
                    deliver(&loader(26, config), 1, 0)
                })
                .collect();
            for (batch, whole) in whole.iter().enumerate() {
                let parts = || shards.iter().map(|shard| &shard[batch]);
                let joined = (
                    parts().flat_map(|part| part.0.clone()).collect(),
                    parts().flat_map(|part| part.1.clone()).collect(),
                    parts().flat_map(|part| part.2.clone()).collect(),
                );
                assert_eq!(
                    &joined, whole,
                    "{augmentation}, batch {batch} of {of} shards"
                );
            }
        }
    }
}

#[test]
fn without_augmentation_a_batch_is_the_preprocessed_images() {
    let loader = loader(70, LoaderConfig::evaluation(32));
    let mut next = 0;
    let mut expected = vec![0.0; 784];
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        for (&index, image) in batch.indices.iter().zip(batch.images.chunks_exact(784)) {
            assert_eq!(index, next);
            preprocessing()
                .apply(&test_set().image(index).unwrap(), &mut expected)
                .unwrap();
            assert_eq!(image, expected);
            next += 1;
        }
    }
    assert_eq!(next, 70);
}

#[test]
fn an_image_is_augmented_alike_wherever_it_comes_in_the_order() {
    let config = |seed| {
        let each = "crop:0.3,shift:3,flip,rotate:15,jitter:0.3/0.3/0.3/0.1,trivial,erase:0.5";
        LoaderConfig::training(16, seed).with_augmentation(each.parse().unwrap())
    };
    let by_index = |batches: Vec<(Vec<u32>, Vec<u32>, Vec<usize>)>| {
        let mut images = std::collections::BTreeMap::new();
        for (pixels, _, indices) in batches {
            for (index, pixels) in indices.into_iter().zip(pixels.chunks_exact(784)) {
                images.insert(index, pixels.to_vec());
            }
        }
        images
    };
    let set = Subset::all(test_set());
    let forward = Loader::new(set.take(64), &preprocessing(), config(9)).unwrap();
    let backward = Subset::new(test_set(), (0..64).rev().collect()).unwrap();
    let backward = Loader::new(backward, &preprocessing(), config(9)).unwrap();
    let first = by_index(deliver(&forward, 4, 0));
    assert_eq!(first, by_index(deliver(&backward, 4, 0)));
    let next = by_index(deliver(&forward, 5, 0));
    let changed = first
        .iter()
        .filter(|(index, pixels)| next[index] != **pixels)
        .count();
    assert!(changed > 50, "{changed} of 64 differ in the next epoch");
}

/// A chessboard of single pixels is even grey when all of it is brought to a fourth of its size. A small part of it is not: it is
/// cut out of the image as it was read.
#[test]
fn what_is_cropped_keeps_the_detail_of_the_image_as_it_was_read() {
    let shape = ImageShape::new(64, 64, 1);
    let board: Vec<u8> = (0..64 * 64)
        .map(|i| if (i / 64 + i % 64) % 2 == 0 { 0 } else { 254 })
        .collect();
    let classes = vec!["board".to_owned()];
    let set = MemoryDataset::new("board", shape, board, vec![0], classes).unwrap();
    let preprocessing =
        Preprocessing::new(ImageShape::new(16, 16, 1)).with_resize(ResizeRule::Crop);
    // How far the pixels are apart, at most, over some epochs.
    let apart = |augment: &str| {
        let config = LoaderConfig::training(1, 1).with_augmentation(augment.parse().unwrap());
        let set = Subset::all(Arc::new(set.clone()));
        let loader = Loader::new(set, &preprocessing, config).unwrap();
        let mut most = 0.0f32;
        for epoch in 0..40 {
            for batch in loader.epoch(epoch, 0) {
                let batch = batch.unwrap();
                assert_eq!(batch.images.len(), 256);
                let values = batch.images.iter().copied();
                most = most.max(values.clone().fold(0.0, f32::max) - values.fold(1.0, f32::min));
            }
        }
        most
    };
    assert!(apart("none") < 0.05, "{}", apart("none"));
    assert!(apart("crop:0.06") > 0.5, "{}", apart("crop:0.06"));
}

#[test]
fn bad_sizes_are_errors() {
    let of = |images, config| {
        Loader::new(
            Subset::all(test_set()).take(images),
            &preprocessing(),
            config,
        )
    };
    assert!(matches!(
        of(10, LoaderConfig::training(0, 0)),
        Err(LoadError::EmptyBatch)
    ));
    assert!(matches!(
        of(0, LoaderConfig::training(1, 0)),
        Err(LoadError::NoImages)
    ));
    let error = of(10, LoaderConfig::training(11, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the batch size 11 is larger than the training set (10 images)"
    );
    assert_eq!(error.hint().unwrap(), "use a batch size of at most 10");
    assert_eq!(
        of(10, LoaderConfig::evaluation(11))
            .unwrap()
            .epoch(0, 0)
            .count(),
        1
    );
    let mut bad = preprocessing();
    bad.std[0] = f32::NAN;
    let config = LoaderConfig::evaluation(1);
    assert!(matches!(
        Loader::new(Subset::all(test_set()), &bad, config),
        Err(LoadError::Preprocessing(_))
    ));
}

#[test]
fn a_corrupt_png_arrives_as_an_error_with_its_path() {
    let folder = temp();
    write_class_folders(folder.path(), 2, 8);
    let bundle = open(folder.path()).unwrap();
    let prepared = bundle
        .prepare(&PrepareOptions {
            cache_bytes: 0,
            ..PrepareOptions::default()
        })
        .unwrap();
    let path = folder.path().join("bag/005.png");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();

    let all = Subset::all(bundle.train.clone());
    // Whichever thread meets it, what comes before it is delivered.
    for threads in 1..=3 {
        let config = LoaderConfig::evaluation(4).with_threads(threads);
        let loader = Loader::new(all.clone(), &prepared.preprocessing, config).unwrap();
        let mut epoch = loader.epoch(0, 0);
        for _ in 0..3 {
            assert_eq!(epoch.next().unwrap().unwrap().len(), 4);
        }
        let error = epoch.next().unwrap().unwrap_err();
        assert!(
            matches!(&error, LoadError::Data(DataError::Image { path: named, .. }) if *named == path),
            "{error}"
        );
        assert!(epoch.next().is_none());
    }

    // And from preparing, which reads every training image.
    let error = bundle.prepare(&PrepareOptions {
        test_fraction: 0.0,
        seed: 1,
        ..PrepareOptions::default()
    });
    assert!(error.unwrap_err().to_string().contains("bag/005.png"));
}

/// A data set that misbehaves at one image.
struct Odd {
    at: usize,
    panics: bool,
}

impl Dataset for Odd {
    fn len(&self) -> usize {
        100
    }
    fn classes(&self) -> &[String] {
        fashion().classes()
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn image(&self, index: usize) -> Result<Image, DataError> {
        if index == self.at {
            assert!(!self.panics, "odd image {index}");
            return Ok(Image::new(ImageShape::new(2, 2, 3), vec![0; 12]).unwrap());
        }
        test_set().image(index)
    }
    fn shape(&self) -> Option<ImageShape> {
        None
    }
    fn source(&self, index: usize) -> String {
        format!("odd#{index}")
    }
}

#[test]
fn panics_and_odd_shapes_arrive_as_errors() {
    let error = |panics| {
        let set = Subset::all(Arc::new(Odd { at: 42, panics }));
        let loader = Loader::new(set, &preprocessing(), LoaderConfig::evaluation(10)).unwrap();
        let mut results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.len(), 5);
        in_full(&results.pop().unwrap().unwrap_err())
    };
    assert_eq!(
        error(false),
        "odd#42: image is 2x2x3, the model expects 28x28x1"
    );
    assert_eq!(error(true), "the loader's thread stopped: odd image 42");
}

#[test]
fn dropping_an_epoch_in_the_middle_stops_its_thread() {
    let set: Arc<dyn Dataset> = Arc::new(Odd {
        at: 1000,
        panics: false,
    });
    let loader = Loader::new(
        Subset::all(set.clone()),
        &preprocessing(),
        LoaderConfig::training(4, 0).with_prefetch(2),
    )
    .unwrap();
    let held = Arc::strong_count(&set);
    for taken in 0..4 {
        let mut epoch = loader.epoch(taken as u64, 0);
        let kept: Vec<_> = epoch.by_ref().take(taken).collect();
        drop(epoch);
        // The thread held the set; it is gone when drop returns. Batches outlive it.
        assert_eq!(Arc::strong_count(&set), held);
        assert!(kept.iter().all(|batch| batch.as_ref().unwrap().len() == 4));
    }
}

#[test]
fn skipping_everything_leaves_nothing() {
    let loader = loader(10, LoaderConfig::training(5, 0));
    assert_eq!(loader.epoch(0, 2).count(), 0);
    assert_eq!(loader.epoch(0, usize::MAX).count(), 0);
}
