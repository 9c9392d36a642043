use std::fs;

use keepbest_data::{DataError, ImageShape, PrepareOptions, ResizeRule, Subset};

use crate::fixtures::*;

#[test]
fn splits_and_classes_come_from_folder_names() {
    let folder = temp();
    write_class_folders(&folder.path().join("train"), 3, 4);
    write_class_folders(&folder.path().join("val"), 2, 2);
    write_class_folders(&folder.path().join("test"), 3, 3);
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.kind, "folders");
    assert_eq!(bundle.classes(), ["ankle", "bag", "coat"]);
    assert_eq!(
        Subset::all(bundle.train.clone()).labels(),
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    );
    assert_eq!(Subset::all(bundle.val.unwrap()).labels(), [0, 0, 1, 1]);
    assert_eq!(bundle.test.unwrap().len(), 9);
    assert_eq!(bundle.train.shape(), Some(ImageShape::new(28, 28, 1)));
    assert!(bundle.train.source(5).ends_with("train/bag/001.png"));
    let set = test_set();
    let first_of_class_1 = (0..set.len()).find(|&index| set.label(index) == 1).unwrap();
    assert!(bundle.train.image(4).unwrap() == set.image(first_of_class_1).unwrap());
    assert!(bundle.notes.is_empty());
}

#[test]
fn one_folder_of_classes_is_split_by_us() {
    let folder = temp();
    write_class_folders(folder.path(), 4, 10);
    let prepared = open(folder.path())
        .unwrap()
        .prepare(&PrepareOptions::default())
        .unwrap();
    assert_eq!((prepared.train.len(), prepared.val.len()), (32, 4));
    let test = prepared.test.unwrap();
    for part in [&prepared.val, &test] {
        assert_eq!(part.labels(), [0, 1, 2, 3]);
    }
    let options = PrepareOptions {
        test_fraction: 0.0,
        ..PrepareOptions::default()
    };
    let prepared = open(folder.path()).unwrap().prepare(&options).unwrap();
    assert_eq!(
        (
            prepared.train.len(),
            prepared.val.len(),
            prepared.test.is_none()
        ),
        (36, 4, true)
    );
}

#[test]
fn other_files_are_counted_and_hidden_ones_ignored() {
    let folder = temp();
    write_class_folders(folder.path(), 2, 3);
    for name in [
        "ankle/notes.txt",
        "ankle/a.SVG",
        "bag/b.svg",
        "bag/README",
        "bag/.hidden.png",
        ".DS_Store",
        "x.png",
    ] {
        fs::write(folder.path().join(name), "?").unwrap();
    }
    fs::create_dir(folder.path().join("bag/inner")).unwrap();
    fs::write(folder.path().join("bag/inner/c.svg"), "?").unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.train.len(), 6);
    assert_eq!(
        bundle.notes,
        [
            "left out 5 files in class folders that are no images: 1 without extension, 3 .svg, 1 .txt",
            "left out 1 image outside the class folders",
        ]
    );
}

#[test]
fn a_class_may_be_called_train_but_splits_are_no_classes() {
    let folder = temp();
    write_class_folders(folder.path(), 1, 2);
    fs::create_dir(folder.path().join("train")).unwrap();
    grey(3, 1, 1)
        .save(folder.path().join("train/locomotive.png"))
        .unwrap();
    assert_eq!(open(folder.path()).unwrap().classes(), ["ankle", "train"]);

    fs::rename(folder.path().join("ankle"), folder.path().join("test")).unwrap();
    let error = open_error(folder.path());
    assert!(
        error.ends_with("not a data set: found 2 folders (test: 2 images, train: 1 image)"),
        "{error}"
    );
}

#[test]
fn empty_and_unknown_classes() {
    let folder = temp();
    write_class_folders(&folder.path().join("train"), 2, 3);
    fs::create_dir(folder.path().join("train/empty")).unwrap();
    let error = open_error(folder.path());
    assert!(
        error.ends_with("train/empty: class `empty` has no images"),
        "{error}"
    );
    fs::remove_dir(folder.path().join("train/empty")).unwrap();

    write_class_folders(&folder.path().join("val"), 3, 1);
    let error = open_error(folder.path());
    assert!(
        error.ends_with("val/coat: class `coat` is unknown to the training set"),
        "{error}"
    );
}

#[test]
fn a_class_with_one_image_is_named() {
    let folder = temp();
    write_class_folders(folder.path(), 3, 5);
    for number in 1..5 {
        fs::remove_file(folder.path().join(format!("bag/{number:03}.png"))).unwrap();
    }
    let error = open(folder.path())
        .unwrap()
        .prepare(&PrepareOptions::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "class `bag` has 1 image: a split needs at least 2"
    );
    assert!(error.hint().unwrap().contains("val/"));

    // With a validation set of one's own it is no problem.
    let own = temp();
    fs::rename(folder.path(), own.path().join("train")).unwrap();
    write_class_folders(&own.path().join("val"), 3, 1);
    open(own.path())
        .unwrap()
        .prepare(&PrepareOptions::default())
        .unwrap();
}

#[test]
fn corrupt_images_are_named_with_their_path() {
    let folder = temp();
    write_class_folders(folder.path(), 2, 3);
    // Headers are read when the folder is opened.
    fs::write(folder.path().join("bag/001.png"), "").unwrap();
    fs::write(folder.path().join("bag/002.png"), "this is text").unwrap();
    let error = open_error(folder.path());
    assert!(
        error.contains("bag/001.png (and 1 more): the file is empty"),
        "{error}"
    );

    // What is wrong further on shows when it is decoded.
    let whole = fs::read(folder.path().join("bag/000.png")).unwrap();
    fs::write(folder.path().join("bag/001.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.path().join("bag/002.png"), &whole).unwrap();
    let bundle = open(folder.path()).unwrap();
    let error = bundle.train.image(4).unwrap_err();
    assert!(
        matches!(&error, DataError::Image { path, .. } if path.ends_with("bag/001.png")),
        "{error}"
    );
    assert!(error.to_string().starts_with("cannot decode "));
}

#[test]
fn mixed_sizes_are_brought_to_one() {
    let folder = temp();
    write_class_folders(folder.path(), 2, 4);
    grey(8, 2, 3)
        .save(folder.path().join("bag/big.png"))
        .unwrap();
    colour(9, 40, 30)
        .save(folder.path().join("bag/colour.jpg"))
        .unwrap();
    let bundle = open(folder.path()).unwrap();
    assert_eq!(bundle.train.shape(), None);

    // That of most of them.
    let prepared = bundle.prepare(&PrepareOptions::default()).unwrap();
    assert_eq!(prepared.preprocessing.input, ImageShape::new(28, 28, 3));
    assert_eq!(
        prepared.notes,
        [
            "val has no images of class `ankle`: its metrics there say nothing",
            "test has no images of class `ankle`: its metrics there say nothing",
            "images differ in size (28x28 to 56x84): brought to 28x28; --image-size chooses another",
        ]
    );

    let options = PrepareOptions {
        image_size: Some((24, 24)),
        ..PrepareOptions::default()
    };
    let prepared = bundle.prepare(&options).unwrap();
    assert_eq!(prepared.notes.len(), 2, "{:?}", prepared.notes);
    assert_eq!(prepared.preprocessing.input, ImageShape::new(24, 24, 3));
    assert_eq!(prepared.preprocessing.resize, ResizeRule::Crop);
    for part in [&prepared.train, &prepared.val] {
        assert!(
            all_images(part)
                .iter()
                .all(|image| image.shape() == ImageShape::new(24, 24, 3))
        );
    }

    // None has a majority: a square of the median of the shorter sides, but not a large one.
    for (sides, expected) in [
        ([30, 41, 53, 90], 40),
        ([100, 200, 300, 400], 64),
        ([2, 3, 5, 9], 3),
    ] {
        let folder = temp();
        for (number, side) in sides.into_iter().enumerate() {
            let class = folder.path().join(["ankle", "bag"][number % 2]);
            fs::create_dir_all(&class).unwrap();
            let path = class.join(format!("{number}.png"));
            colour(number, side, side + 7).save(path).unwrap();
        }
        let options = PrepareOptions {
            test_fraction: 0.0,
            ..PrepareOptions::default()
        };
        let prepared = open(folder.path()).unwrap().prepare(&options).unwrap();
        let expected = ImageShape::new(expected, expected, 3);
        assert_eq!(prepared.preprocessing.input, expected, "{sides:?}");
    }
}

#[test]
fn numbers_of_folders_are_limited() {
    let folder = temp();
    let deep = (0..40).fold(folder.path().to_owned(), |path, _| path.join("f"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("a.png"), "?").unwrap();
    let error = open_error(folder.path());
    assert!(
        error.ends_with("33 folders inside one another; the limit is 32"),
        "{error}"
    );
}
