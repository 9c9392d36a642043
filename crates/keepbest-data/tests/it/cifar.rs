use std::fs;
use std::path::Path;

use keepbest_data::{ImageShape, Subset};

use crate::fixtures::*;

fn write(folder: &Path, batches: &[usize], test: usize) {
    fs::create_dir_all(folder).unwrap();
    let set = test_set();
    let record = |index: usize| cifar_record(set.label(index) as u8, &colour(index, 32, 32));
    let mut next = 0;
    for (number, &count) in batches.iter().enumerate() {
        let bytes: Vec<u8> = (next..next + count).flat_map(record).collect();
        next += count;
        fs::write(folder.join(format!("data_batch_{}.bin", number + 1)), bytes).unwrap();
    }
    if test > 0 {
        fs::write(
            folder.join("test_batch.bin"),
            (0..test).flat_map(record).collect::<Vec<u8>>(),
        )
        .unwrap();
    }
}

#[test]
fn planes_become_channels_and_batches_keep_their_order() {
    let folder = temp();
    // Eleven batches: number 10 comes after 9, not after 1.
    write(folder.path(), &[5; 11], 20);
    fs::write(folder.path().join("readme.html"), "").unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.kind, "cifar10");
    let test = bundle.test.unwrap();
    assert_eq!((bundle.train.len(), test.len()), (55, 20));
    assert_eq!(bundle.train.shape(), Some(ImageShape::new(32, 32, 3)));
    for index in 0..55 {
        assert!(
            bundle.train.image(index).unwrap().pixels() == colour(index, 32, 32).as_raw(),
            "{index}"
        );
    }
    assert_eq!(
        Subset::all(bundle.train).labels(),
        Subset::all(test_set()).take(55).labels()
    );
}

#[test]
fn the_original_archive_with_names() {
    let folder = temp();
    let inner = folder.path().join("cifar-10-batches-bin");
    write(&inner, &[40], 0);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    fs::write(inner.join("batches.meta.txt"), names.join("\n") + "\n\n").unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.classes(), names);
    assert!(bundle.test.is_none());
}

#[test]
fn broken_records_and_labels() {
    let folder = temp();
    write(folder.path(), &[4, 4], 4);
    let path = folder.path().join("data_batch_2.bin");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(
        open_error(folder.path())
            .ends_with("data_batch_2.bin: truncated: expected 12292 bytes, found 12291")
    );

    let mut labelled = whole;
    labelled[3073] = 10;
    fs::write(&path, labelled).unwrap();
    let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj";
    fs::write(folder.path().join("batches.meta.txt"), names).unwrap();
    let error = open_error(folder.path());
    assert!(
        error.ends_with(
            "data_batch_2.bin: label 10 at index 1 is out of range: there are 10 classes (0 to 9)"
        ),
        "{error}"
    );
}

#[test]
fn cifar_100_takes_the_fine_labels() {
    let folder = temp();
    let inner = folder.path().join("cifar-100-binary");
    fs::create_dir(&inner).unwrap();
    let names: Vec<String> = (0..100).map(|class| format!("class {class}")).collect();
    fs::write(inner.join("fine_label_names.txt"), names.join("\n")).unwrap();
    let record = |index: usize| {
        let mut record = cifar_record(index as u8 * 9, &colour(index, 32, 32));
        record.insert(0, 19);
        record
    };
    fs::write(
        inner.join("train.bin"),
        (0..10).flat_map(record).collect::<Vec<u8>>(),
    )
    .unwrap();
    fs::write(
        inner.join("test.bin"),
        (10..11).flat_map(record).collect::<Vec<u8>>(),
    )
    .unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!((bundle.kind, bundle.train.len()), ("cifar100", 10));
    assert_eq!(bundle.classes()[81], "class 81");
    assert_eq!(bundle.train.label(9), 81);
    let test = bundle.test.unwrap();
    assert_eq!(test.label(0), 90);
    assert!(test.image(0).unwrap().pixels() == colour(10, 32, 32).as_raw());
}
