use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keepbest_data::{
    CacheBudget, Cached, ChannelRule, DataBundle, DataError, Dataset, Fingerprint, Image,
    ImageShape, MemoryDataset, PrepareError, PrepareOptions, Preprocessing, ResizeRule, Subset,
};

use crate::fixtures::*;

#[test]
fn the_default_data_is_split_in_balance_and_normalised_on_train() {
    let prepared = fashion().prepare(&PrepareOptions::default()).unwrap();
    assert_eq!(
        (
            prepared.train.len(),
            prepared.val.len(),
            prepared.test.as_ref().unwrap().len()
        ),
        (5400, 600, 1000)
    );
    let mut counts = [0; 10];
    prepared
        .val
        .labels()
        .iter()
        .for_each(|&label| counts[label as usize] += 1);
    assert_eq!(counts, [60; 10]);

    // The same from floating-point sums.
    let pixels: Vec<f64> = all_images(&prepared.train)
        .iter()
        .flat_map(|image| {
            image
                .pixels()
                .iter()
                .map(|&value| f64::from(value) / 255.0)
                .collect::<Vec<_>>()
        })
        .collect();
    let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let variance = pixels
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / pixels.len() as f64;
    let preprocessing = &prepared.preprocessing;
    assert!(
        (f64::from(preprocessing.mean[0]) - mean).abs() < 1e-7,
        "{} {mean}",
        preprocessing.mean[0]
    );
    assert!((f64::from(preprocessing.std[0]) - variance.sqrt()).abs() < 1e-7);
    assert_eq!(
        (preprocessing.resize, preprocessing.channels),
        (ResizeRule::None, ChannelRule::None)
    );
}

#[test]
fn recorded_preprocessing_gives_the_same_data_again() {
    let options = PrepareOptions {
        seed: 3,
        ..PrepareOptions::default()
    };
    let first = fashion().prepare(&options).unwrap();
    let again = fashion()
        .prepare_with(&options, first.preprocessing.clone())
        .unwrap();
    assert_eq!(first.preprocessing, again.preprocessing);
    for name in ["train", "val", "test"] {
        let fingerprint = first.fingerprint(first.split(name).unwrap()).unwrap();
        assert_eq!(
            fingerprint,
            again.fingerprint(again.split(name).unwrap()).unwrap()
        );
    }
    assert!(first.split("dev").is_none());
    let other = fashion()
        .prepare(&PrepareOptions { seed: 4, ..options })
        .unwrap();
    assert_ne!(first.val.indices(), other.val.indices());
}

#[test]
fn a_model_of_another_shape_or_other_classes_does_not_fit() {
    let colour = Preprocessing::new(ImageShape::new(32, 32, 3));
    let error = fashion()
        .prepare_with(&PrepareOptions::default(), colour)
        .unwrap_err();
    assert_eq!(
        in_full(&error),
        "fashion-mnist-mini/train#0: image is 28x28x1, the model expects 32x32x3"
    );
    assert!(fashion().check_classes(fashion().classes()).is_ok());
    let error = fashion().check_classes(&["cat".to_owned()]).unwrap_err();
    assert!(matches!(error, PrepareError::Classes { .. }));
}

#[test]
fn size_and_channels_can_be_asked_for() {
    let options = PrepareOptions {
        image_size: Some((32, 32)),
        channels: Some(3),
        ..PrepareOptions::default()
    };
    let small = DataBundle::new(
        "small",
        Arc::new(Subset::all(test_set()).take(100)),
        None,
        None,
    );
    let prepared = small.prepare(&options).unwrap();
    assert_eq!(prepared.preprocessing.input, ImageShape::new(32, 32, 3));
    assert_eq!(prepared.preprocessing.channels, ChannelRule::ToRgb);
    let image = prepared.train.image(0).unwrap();
    assert_eq!(image.shape(), ImageShape::new(32, 32, 3));
    assert!(
        image
            .pixels()
            .chunks_exact(3)
            .all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2])
    );
    for channels in [0, 2, 4] {
        let options = PrepareOptions {
            channels: Some(channels),
            ..PrepareOptions::default()
        };
        let message = small.prepare(&options).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("preprocessing: `input` has {channels} channels; images have 1 or 3")
        );
    }
    let options = PrepareOptions {
        image_size: Some((0, 5)),
        ..PrepareOptions::default()
    };
    assert!(matches!(
        small.prepare(&options),
        Err(PrepareError::Preprocessing(_))
    ));
}

/// Counts how often an image is asked for.
struct Counted(Subset, AtomicUsize);

impl Dataset for Counted {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn classes(&self) -> &[String] {
        Dataset::classes(&self.0)
    }
    fn label(&self, index: usize) -> u32 {
        self.0.label(index)
    }
    fn image(&self, index: usize) -> Result<Image, DataError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.image(index)
    }
    fn shape(&self) -> Option<ImageShape> {
        self.0.shape()
    }
    fn source(&self, index: usize) -> String {
        self.0.source(index)
    }
}

#[test]
fn the_cache_keeps_to_its_budget_and_changes_no_image() {
    let preprocessing =
        Preprocessing::new(ImageShape::new(14, 14, 1)).with_resize(ResizeRule::Exact);
    let one = 14 * 14 + 96;
    for (budget, kept) in [
        (0, 0),
        (one * 7, 7),
        (one * 20 + one - 1, 20),
        (u64::MAX, 30),
    ] {
        let counted = Arc::new(Counted(
            Subset::all(test_set()).take(30),
            AtomicUsize::new(0),
        ));
        let cached =
            Cached::new(counted.clone(), &preprocessing, CacheBudget::new(budget)).unwrap();
        let (first, second) = (all_images(&cached), all_images(&cached));
        assert!(first == second);
        assert!(first[4] == preprocessing.fit(&test_set().image(4).unwrap()).unwrap());
        assert_eq!(cached.cached(), kept);
        assert_eq!(counted.1.load(Ordering::Relaxed), 30 + 30 - kept);
    }
}

#[test]
fn fingerprints_tell_sets_apart() {
    let shape = ImageShape::new(1, 2, 1);
    let of = |pixels: &[u8], labels: &[u32], classes: &[&str], shape| {
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        let set =
            MemoryDataset::new("m", shape, pixels.to_vec(), labels.to_vec(), classes).unwrap();
        Fingerprint::of(&set).unwrap()
    };
    let all = [
        of(&[1, 2, 3, 4], &[0, 1], &["a", "b"], shape),
        of(&[3, 4, 1, 2], &[1, 0], &["a", "b"], shape),
        of(&[1, 2, 3, 5], &[0, 1], &["a", "b"], shape),
        of(&[1, 2, 3, 4], &[1, 0], &["a", "b"], shape),
        of(&[1, 2, 3, 4], &[0, 1], &["a", "c"], shape),
        of(&[1, 2, 3, 4], &[0, 1], &["ab", ""], shape),
        of(
            &[1, 2, 3, 4],
            &[0, 1],
            &["a", "b"],
            ImageShape::new(2, 1, 1),
        ),
        of(&[1, 2], &[0], &["a", "b"], shape),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| a.blake3 != b.blake3), "{i}");
    }
    assert_eq!((all[0].count, all[0].classes), (2, 2));
    let json = serde_json::to_string(&all[0]).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), all[0]);
}

#[test]
fn sets_in_memory_are_checked() {
    let shape = ImageShape::new(1, 2, 1);
    let new = |pixels: usize, labels: Vec<u32>, shape| {
        MemoryDataset::new("mine", shape, vec![0; pixels], labels, vec!["a".to_owned()])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        new(3, vec![0, 0], shape),
        "mine: 3 bytes of pixels for 2 labels of 1x2x1 images"
    );
    assert_eq!(
        new(4, vec![0, 1], shape),
        "mine: label 1 at index 1 is out of range: there are 1 classes (0 to 0)"
    );
    assert_eq!(
        new(0, vec![0], ImageShape::new(0, 2, 1)),
        "mine: 0 bytes of pixels for 1 labels of 0x2x1 images"
    );
    let set: Arc<dyn Dataset> = Arc::new(
        MemoryDataset::new("mine", shape, vec![0; 2], vec![0], vec!["a".to_owned()]).unwrap(),
    );
    assert_eq!(
        set.image(1).unwrap_err().to_string(),
        "mine: no image 1: there are 1"
    );
    assert!(Subset::new(set.clone(), vec![0, 1]).is_err());
    assert!(Subset::all(set).image(1).is_err());
}

#[test]
fn images_in_two_splits_are_found() {
    let folder = temp();
    for (split, first, count) in [("train", 0, 8), ("val", 20, 4), ("test", 6, 4)] {
        for class in ["a", "b"] {
            let path = folder.path().join(split).join(class);
            fs::create_dir_all(&path).unwrap();
            let offset = if class == "a" { 0 } else { 100 };
            for index in first..first + count {
                grey(offset + index, 1, 1)
                    .save(path.join(format!("{index}.png")))
                    .unwrap();
            }
        }
    }
    // Of the test images 6 and 7 of each class are training images; one val image is a test image.
    fs::copy(
        folder.path().join("test/b/9.png"),
        folder.path().join("val/b/20.png"),
    )
    .unwrap();
    let prepared = open(folder.path())
        .unwrap()
        .prepare(&PrepareOptions::default())
        .unwrap();
    let identity = prepared.identify().unwrap();
    for name in ["train", "val", "test"] {
        let split = prepared.split(name).unwrap();
        assert_eq!(
            identity.fingerprints[name],
            prepared.fingerprint(split).unwrap()
        );
    }
    let told: Vec<String> = identity.shared.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("4 images of test are in train too, such as "),
        "{told:?}"
    );
    assert!(
        told[0].contains("test/a/6.png") && told[0].contains("train/a/6.png"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("1 image of test is in val too, such as "),
        "{told:?}"
    );
    let clean = fashion().prepare(&PrepareOptions::default()).unwrap();
    assert_eq!(clean.identify().unwrap().shared, []);
}

#[test]
fn whoever_watches_can_stop_every_stage() {
    use keepbest_data::{Reading, Stage, Unreadable, Watch, open_watched};
    use std::cell::{Cell, RefCell};

    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        let class = folder.path().join(class);
        std::fs::create_dir(&class).unwrap();
        for at in 0..20u8 {
            image::GrayImage::from_pixel(4, 4, image::Luma([at]))
                .save(class.join(format!("{at}.png")))
                .unwrap();
        }
    }
    let source = folder.path().to_str().unwrap();
    let told = RefCell::new(Vec::<Reading>::new());
    let stop_at = Cell::new(None);
    let watcher = |reading: Reading| {
        told.borrow_mut().push(reading);
        stop_at.get() != Some((reading.stage, reading.done))
    };
    let watch = Watch::new(&watcher);
    let all = || -> Result<(), PrepareError> {
        let bundle = open_watched(source, None, Unreadable::Refuse, watch)?;
        let data = bundle.prepare_watched(&PrepareOptions::default(), watch)?;
        data.identify_watched(watch)?;
        Ok(())
    };
    all().unwrap();
    let images = |stage| {
        let told = told.borrow();
        told.iter().filter(|reading| reading.stage == stage).count()
    };
    // All files; those that are trained on; those of every split.
    assert_eq!(images(Stage::Opening), 40);
    assert_eq!(images(Stage::Measuring), 32);
    assert_eq!(images(Stage::Identifying), 40);
    for stage in [Stage::Opening, Stage::Measuring, Stage::Identifying] {
        stop_at.set(Some((stage, 3)));
        told.borrow_mut().clear();
        let error = all().unwrap_err();
        assert!(error.is_interrupted(), "{error}");
        // Not one more image is read.
        let last = *told.borrow().last().unwrap();
        assert_eq!((last.stage, last.done), (stage, 3));
    }
}
