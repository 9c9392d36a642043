use std::fs;
use std::path::Path;

use keepbest_data::readers::idx::{parse_images, parse_labels};
use keepbest_data::{DataError, ImageShape, PrepareOptions, Subset};
use proptest::prelude::*;

use crate::fixtures::*;

#[test]
fn plain_and_gzip_are_the_same() {
    let folder = temp();
    write_idx(folder.path(), 40, 40);
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.kind, "idx");
    let (train, test) = (bundle.train, bundle.test.unwrap());
    assert_eq!(train.shape(), Some(ImageShape::new(28, 28, 1)));
    assert!(all_images(train.as_ref()) == all_images(test.as_ref()));
    let expected = Subset::all(test_set()).take(40);
    assert!(all_images(train.as_ref()) == all_images(&expected));
    assert_eq!(Subset::all(train.clone()).labels(), expected.labels());
    assert_eq!(train.classes()[9], "9");
    assert!(train.source(3).ends_with("train-images-idx3-ubyte.gz#3"));
}

#[test]
fn names_beside_the_files_and_other_spellings() {
    let folder = temp();
    let (images, labels) = idx_pair(40);
    fs::write(folder.path().join("train-images.idx3-ubyte"), &images).unwrap();
    fs::write(folder.path().join("train-labels.idx1-ubyte"), &labels).unwrap();
    let names: Vec<String> = (0..11).map(|class| format!("class {class}")).collect();
    fs::write(folder.path().join("classes.txt"), names.join("\n") + "\n\n").unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.classes(), names);
    assert!(bundle.test.is_none());
    let prepared = bundle.prepare(&PrepareOptions::default()).unwrap();
    let note = &prepared.notes[0];
    assert_eq!(
        note,
        "train has no images of class `class 10`: it cannot be learned"
    );

    fs::write(folder.path().join("classes.txt"), "a\n\nb").unwrap();
    assert!(open_error(folder.path()).ends_with("classes.txt: bad class name: line 2 is empty"));
    fs::write(folder.path().join("classes.txt"), "a\na").unwrap();
    assert!(open_error(folder.path()).ends_with("bad class name: `a` is there twice"));
}

#[test]
fn splits_by_any_usual_name_in_any_case_and_with_the_sets_name() {
    let (images, labels) = idx_pair(40);
    let (few, few_labels) = idx_pair(30);
    for (train, val, test) in [
        ("train", "val", "t10k"),
        ("TRAIN", "VALIDATION", "TEST"),
        (
            "emnist-letters-train",
            "emnist-letters-dev",
            "emnist-letters-test",
        ),
        ("kmnist_train", "kmnist_valid", "kmnist_holdout"),
    ] {
        let folder = temp();
        for (name, images, labels) in [
            (train, &images, &labels),
            (val, &few, &few_labels),
            (test, &few, &few_labels),
        ] {
            let upper = name == name.to_uppercase();
            let file = |what: &str| {
                let file = format!("{name}-{what}-ubyte");
                let file = if upper { file.to_uppercase() } else { file };
                folder.path().join(file)
            };
            fs::write(file("images-idx3"), images).unwrap();
            fs::write(file("labels-idx1"), gzip(labels)).unwrap();
        }
        let bundle = open(folder.path()).unwrap();
        assert_eq!(bundle.train.len(), 40, "{train}");
        assert_eq!(bundle.val.unwrap().len(), 30, "{val}");
        assert_eq!(bundle.test.unwrap().len(), 30, "{test}");
        assert!(bundle.notes.is_empty(), "{:?}", bundle.notes);
    }
    // What no split is called is told.
    let folder = temp();
    write_idx(folder.path(), 40, 30);
    fs::write(folder.path().join("extra-images-idx3-ubyte"), &images).unwrap();
    fs::write(folder.path().join("extra-labels-idx1-ubyte"), &labels).unwrap();
    assert_eq!(
        open(folder.path()).unwrap().notes,
        ["left out extra-images-idx3-ubyte"]
    );
    // Of two sets none is taken.
    let folder = temp();
    for set in ["letters", "digits"] {
        for part in ["train", "test"] {
            let file = |what: &str| folder.path().join(format!("{set}-{part}-{what}-ubyte"));
            fs::write(file("images-idx3"), &images).unwrap();
            fs::write(file("labels-idx1"), &labels).unwrap();
        }
    }
    let error = open_error(folder.path());
    assert!(
        error.ends_with("IDX files of several sets, `digits-...` and `letters-...`"),
        "{error}"
    );
    // A validation set alone is one to measure on.
    let folder = temp();
    fs::write(folder.path().join("val-images-idx3-ubyte"), &images).unwrap();
    fs::write(folder.path().join("val-labels-idx1-ubyte"), &labels).unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(DataError::NothingToTrainOn { splits, .. }) if splits == ["val"]
    ));
}

#[test]
fn labels_out_of_range_name_the_file() {
    let folder = temp();
    write_idx(folder.path(), 40, 40);
    fs::write(
        folder.path().join("classes.txt"),
        "0\n1\n2\n3\n4\n5\n6\n7\n8",
    )
    .unwrap();
    let error = open_error(folder.path());
    assert!(
        error.contains("labels-idx1-ubyte")
            && error.contains("is out of range: there are 9 classes (0 to 8)"),
        "{error}"
    );
    // A test label that the training set does not know.
    fs::remove_file(folder.path().join("classes.txt")).unwrap();
    let mut labels = idx_pair(40).1;
    labels[8 + 5] = 10;
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), labels).unwrap();
    let error = open_error(folder.path());
    assert!(error.ends_with(
        "t10k-labels-idx1-ubyte: label 10 at index 5 is out of range: there are 10 classes (0 to 9)"
    ));
}

#[test]
fn counts_must_match_and_sizes_need_not() {
    let folder = temp();
    write_idx(folder.path(), 40, 40);
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), idx_pair(39).1).unwrap();
    let error = open_error(folder.path());
    assert!(
        error.contains("has 40 images") && error.ends_with("has 39 labels"),
        "{error}"
    );

    write_idx(folder.path(), 40, 40);
    let images = idx_bytes(0x803, &[40, 14, 56], &idx_pair(40).0[16..]);
    fs::write(folder.path().join("t10k-images-idx3-ubyte"), images).unwrap();
    let options = PrepareOptions::default();
    let prepared = open(folder.path()).unwrap().prepare(&options).unwrap();
    assert_eq!(prepared.preprocessing.input, ImageShape::new(12, 12, 1));
    let chosen = "images differ in size (14x56 to 28x28): brought to 12x12";
    assert!(
        prepared.notes.iter().any(|note| note.starts_with(chosen)),
        "{:?}",
        prepared.notes
    );

    write_idx(folder.path(), 0, 40);
    assert!(open_error(folder.path()).ends_with("it holds no images"));

    fs::remove_file(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    let error = open_error(folder.path());
    assert!(
        error.contains("train-labels-idx1-ubyte[.gz]: missing") && error.ends_with("needs it"),
        "{error}"
    );
}

fn images_error(file: &[u8]) -> DataError {
    parse_images(file, Path::new("f")).unwrap_err()
}

#[test]
fn truncated_says_how_many_bytes_were_expected() {
    let (images, _) = idx_pair(3);
    for file in [images[..1000].to_vec(), gzip(&images[..1000])] {
        assert_eq!(
            images_error(&file).to_string(),
            "f: truncated: expected 2368 bytes, found 1000"
        );
    }
    for length in 0..16 {
        assert!(
            matches!(
                images_error(&images[..length]),
                DataError::Truncated { expected: 16, .. }
            ),
            "{length}"
        );
    }
    // The gzip stream itself breaks off, at any place.
    let packed = gzip(&images);
    for length in (2..packed.len()).step_by(7) {
        assert!(
            matches!(
                images_error(&packed[..length]),
                DataError::Truncated { .. } | DataError::Io { .. }
            ),
            "{length}"
        );
    }
    assert!(matches!(
        images_error(&packed[..packed.len() - 1]),
        DataError::Io { .. }
    ));
}

#[test]
fn wrong_magic_and_trailing_bytes() {
    let (mut images, labels) = idx_pair(3);
    assert_eq!(
        images_error(&labels).to_string(),
        "f: magic number 0x00000801, expected 0x00000803 (images, three dimensions)"
    );
    assert!(matches!(
        parse_labels(&images, Path::new("f")),
        Err(DataError::WrongMagic { found: 0x803, .. })
    ));
    images.extend([0; 5]);
    assert_eq!(
        images_error(&images).to_string(),
        "f: bytes after the end: expected 2368 bytes, found 2373"
    );
    assert_eq!(
        images_error(&gzip(&images)).to_string(),
        "f: bytes after the end: expected 2368 bytes, found at least 2369"
    );
}

#[test]
fn a_damaged_gzip_stream_is_noticed() {
    let (images, _) = idx_pair(3);
    let mut packed = gzip(&images);
    let checksum = packed.len() - 6;
    packed[checksum] ^= 1;
    assert!(matches!(images_error(&packed), DataError::Io { .. }));
}

#[test]
fn headers_that_declare_too_much_allocate_nothing() {
    let huge = idx_bytes(0x803, &[u32::MAX, u32::MAX, u32::MAX], &[0; 64]);
    assert!(matches!(
        images_error(&huge),
        DataError::ImplausibleSize { .. }
    ));
    // The product fits into 64 bits, but not into the file.
    let large = idx_bytes(0x803, &[u32::MAX, 1 << 15, 1 << 15], &[0; 64]);
    assert!(matches!(
        images_error(&large),
        DataError::Truncated { found: 80, .. }
    ));
    assert!(matches!(
        images_error(&gzip(&large)),
        DataError::ImplausibleSize { .. }
    ));
    let flat = idx_bytes(0x803, &[5, 0, 28], &[]);
    assert!(matches!(
        images_error(&flat),
        DataError::ImplausibleSize { .. }
    ));
}

#[test]
fn a_gzip_bomb_is_not_unpacked() {
    let mut bomb = idx_bytes(0x803, &[1, 2, 2], &[]);
    bomb.resize(64 << 20, 0);
    let packed = gzip(&bomb);
    assert!(packed.len() < 100_000);
    let error = images_error(&packed);
    assert!(
        matches!(
            error,
            DataError::TrailingBytes {
                expected: 20,
                found: 21,
                at_least: true,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_gzip_bomb_whose_header_is_true_is_not_unpacked_either() {
    // Members of 1 MiB each, one after the other, as the header declares: 300 MiB from 300 KB.
    let header = gzip(&idx_bytes(0x803, &[300, 1024, 1024], &[]));
    let mebibyte = gzip(&vec![0; 1 << 20]);
    let bomb = [header, mebibyte.repeat(300)].concat();
    assert!(bomb.len() < 1 << 20);
    let error = images_error(&bomb);
    assert!(
        matches!(
            error,
            DataError::OverLimit {
                found: 314_572_800,
                limit: 268_435_456,
                ..
            }
        ),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), packed: bool, headed: bool) {
        let mut file = if headed { idx_bytes(0x803, &[1], &[]) } else { Vec::new() };
        file.extend(bytes);
        let file = if packed { gzip(&file) } else { file };
        if let Ok(images) = parse_images(&file, Path::new("f")) {
            prop_assert_eq!(images.pixels.len(), images.count * images.shape.size());
        }
        let _ = parse_labels(&file, Path::new("f"));
    }
}
