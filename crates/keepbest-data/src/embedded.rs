//! The data set inside the binary: 6,000 training and 1,000 test images of Fashion-MNIST, balanced.
//!
//! Cut by `embedded/cut.py` from Debian's `dataset-fashion-mnist` (Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017; Copyright
//! 2017 Zalando SE, MIT licence, text in NOTICE): train from train, test from t10k.

use std::path::Path;
use std::sync::Arc;

use crate::readers::idx;
use crate::{DataBundle, DataError, MemoryDataset, Mirrored};

/// The name under which [`crate::open`] finds it.
pub const NAME: &str = "fashion-mnist-mini";

/// Names of Fashion-MNIST's classes, by label.
pub const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

const TRAIN_IMAGES: &[u8] = include_bytes!("../embedded/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../embedded/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("../embedded/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../embedded/t10k-labels-idx1-ubyte.gz");

/// Unpacks the embedded data set: 6,000 and 1,000 images of 28x28x1, 5.5 MB.
///
/// # Errors
/// None for the bytes this crate was built with; they are read as strictly as any other file.
pub fn fashion_mnist() -> Result<DataBundle, DataError> {
    Ok(DataBundle {
        kind: "embedded",
        layout_mirrored: Mirrored::Same,
        test: Some(Arc::new(part("test", TEST_IMAGES, TEST_LABELS)?)),
        ..DataBundle::new(
            NAME,
            Arc::new(part("train", TRAIN_IMAGES, TRAIN_LABELS)?),
            None,
            None,
        )
    })
}

fn part(name: &str, images: &[u8], labels: &[u8]) -> Result<MemoryDataset, DataError> {
    let origin = format!("{NAME}/{name}");
    let path = |what: &str| Path::new(&origin).join(what);
    let images = idx::parse_images(images, &path("images"))?;
    let labels = idx::parse_labels(labels, &path("labels"))?;
    let labels = labels.into_iter().map(u32::from).collect();
    MemoryDataset::new(origin, images.shape, images.pixels, labels, class_names())
}

pub(crate) fn class_names() -> Vec<String> {
    CLASSES.iter().map(|&name| name.to_owned()).collect()
}
