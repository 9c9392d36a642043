//! Small real data sets, written at run time from the embedded images.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use image::{GrayImage, RgbImage};
use keepbest_data::{DataBundle, Dataset, Image, embedded};

/// The embedded data set, unpacked once.
pub(crate) fn fashion() -> &'static DataBundle {
    static BUNDLE: std::sync::OnceLock<DataBundle> = std::sync::OnceLock::new();
    BUNDLE.get_or_init(|| embedded::fashion_mnist().unwrap())
}

pub(crate) fn test_set() -> Arc<dyn Dataset> {
    fashion().test.clone().unwrap()
}

/// An image of the embedded test set as grey pixels, scaled up by whole numbers.
pub(crate) fn grey(index: usize, scale_y: u32, scale_x: u32) -> GrayImage {
    let image = test_set().image(index).unwrap();
    GrayImage::from_fn(28 * scale_x, 28 * scale_y, |x, y| {
        image::Luma([image.pixels()[((y / scale_y) * 28 + x / scale_x) as usize]])
    })
}

/// The same in colour: red is the image, green its mirror, blue its negative.
pub(crate) fn colour(index: usize, height: u32, width: u32) -> RgbImage {
    let image = test_set().image(index).unwrap();
    let at = |x: u32, y: u32| image.pixels()[((y * 28 / height) * 28 + x * 28 / width) as usize];
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([at(x, y), at(width - 1 - x, y), 255 - at(x, y)])
    })
}

/// Writes `per_class` grey PNGs of each of the first `classes` classes into `folder/<name>/`.
pub(crate) fn write_class_folders(folder: &Path, classes: usize, per_class: usize) {
    let set = test_set();
    for class in 0..classes {
        let name = ["ankle", "bag", "coat", "dress"][class];
        fs::create_dir_all(folder.join(name)).unwrap();
        let of_class = (0..set.len())
            .filter(|&index| set.label(index) as usize == class)
            .take(per_class);
        for (number, index) in of_class.enumerate() {
            grey(index, 1, 1)
                .save(folder.join(name).join(format!("{number:03}.png")))
                .unwrap();
        }
    }
}

/// One CIFAR record: label, then planes of 32x32.
pub(crate) fn cifar_record(label: u8, image: &RgbImage) -> Vec<u8> {
    assert_eq!(image.dimensions(), (32, 32));
    let planes = (0..3).flat_map(|channel| image.pixels().map(move |pixel| pixel.0[channel]));
    [label].into_iter().chain(planes).collect()
}

/// An IDX file of any rank.
pub(crate) fn idx_bytes(magic: u32, dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let header = [magic]
        .into_iter()
        .chain(dimensions.iter().copied())
        .flat_map(u32::to_be_bytes);
    header.chain(body.iter().copied()).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Images (28x28) and labels of the first `count` of the embedded test set, as IDX files' bytes.
pub(crate) fn idx_pair(count: usize) -> (Vec<u8>, Vec<u8>) {
    let set = test_set();
    let pixels: Vec<u8> = (0..count)
        .flat_map(|index| set.image(index).unwrap().pixels().to_vec())
        .collect();
    let labels: Vec<u8> = (0..count).map(|index| set.label(index) as u8).collect();
    (
        idx_bytes(0x803, &[count as u32, 28, 28], &pixels),
        idx_bytes(0x801, &[count as u32], &labels),
    )
}

/// Writes `train-*` and `t10k-*` IDX files, the training set gzipped, into `folder`.
pub(crate) fn write_idx(folder: &Path, train: usize, test: usize) {
    let (images, labels) = idx_pair(train);
    fs::write(folder.join("train-images-idx3-ubyte.gz"), gzip(&images)).unwrap();
    fs::write(folder.join("train-labels-idx1-ubyte.gz"), gzip(&labels)).unwrap();
    let (images, labels) = idx_pair(test);
    fs::write(folder.join("t10k-images-idx3-ubyte"), images).unwrap();
    fs::write(folder.join("t10k-labels-idx1-ubyte"), labels).unwrap();
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn open(path: &Path) -> Result<DataBundle, keepbest_data::DataError> {
    keepbest_data::open(path.to_str().unwrap(), None)
}

/// The error of opening `path`, in words, with its source.
pub(crate) fn open_error(path: &Path) -> String {
    in_full(&open(path).unwrap_err())
}

pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

pub(crate) fn all_images(set: &dyn Dataset) -> Vec<Image> {
    (0..set.len())
        .map(|index| set.image(index).unwrap())
        .collect()
}
