//! A data set in CIFAR-10's binary form, made of the embedded images.

use std::path::Path;

use keepbest::data::embedded;

use crate::support::Place;

/// Appends `count` images from `first` on: label, then red, green and blue planes of 32x32. Each class is
/// tinted its own way, so that colour counts.
fn records(test: bool, first: usize, count: usize) -> Vec<u8> {
    let bundle = embedded::fashion_mnist().unwrap();
    let set = if test {
        bundle.test.as_ref().unwrap()
    } else {
        &bundle.train
    };
    let mut out = Vec::new();
    for index in first..first + count {
        let label = set.label(index) as u8;
        let image = set.image(index).unwrap();
        out.push(label);
        for plane in 0..3u8 {
            let mut pixels = [10 * label * (plane % 2); 32 * 32];
            for (row, from) in image.pixels().chunks(28).enumerate() {
                let at = (row + 2) * 32 + 2;
                pixels[at..at + 28].copy_from_slice(from);
            }
            out.extend_from_slice(&pixels);
        }
    }
    out
}

fn write(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::write(to.join("data_batch_1.bin"), records(false, 0, 150)).unwrap();
    std::fs::write(to.join("data_batch_2.bin"), records(false, 150, 150)).unwrap();
    std::fs::write(to.join("test_batch.bin"), records(true, 0, 60)).unwrap();
}

#[test]
fn cifar_10_trains_and_is_told_as_colour() {
    let place = Place::new();
    write(&place.path("cifar"));
    let run = place.json(
        "train --data cifar --model simple-cnn --epochs 3 --batch-size 16 --name c --quiet --json",
    );
    // 300 images of ten classes: far above one in ten, or nothing was learned.
    let accuracy = run["test"]["test/accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.4, "test accuracy {accuracy}");
    let report = place.json("evaluate c --json");
    assert_eq!(
        report["metrics"]["test/accuracy"],
        run["test"]["test/accuracy"]
    );
    place.ok("train --data cifar --model resnet18 --epochs 1 --batch-size 32 --name r --quiet");
    let inspected = place.ok("inspect r");
    assert!(inspected.out.contains("32x32x3"), "{}", inspected.out);
}
