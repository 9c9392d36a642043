//! NumPy archives, written by NumPy itself (`tests/golden/make_npz.py`).

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};

use keepbest_data::{Dataset, ImageShape};

use crate::fixtures::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Pixel `i` of an array, as the script writes it.
fn value(i: usize) -> u8 {
    ((i * 7 + 3) % 256) as u8
}

fn check(set: &dyn Dataset, count: usize, shape: ImageShape) {
    assert_eq!((set.len(), set.shape()), (count, Some(shape)));
    for index in 0..count {
        assert_eq!(set.label(index) as usize, index % 3);
        let first = index * shape.size();
        let expected: Vec<u8> = (first..first + shape.size()).map(value).collect();
        assert_eq!(set.image(index).unwrap().pixels(), expected);
    }
}

#[test]
fn the_forms_of_keras_and_medmnist() {
    let bundle = open(&golden("keras.npz")).unwrap();
    assert_eq!(
        (bundle.kind, bundle.classes()),
        ("npz", &["0", "1", "2"].map(str::to_owned)[..])
    );
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    check(
        &**bundle.test.as_ref().unwrap(),
        3,
        ImageShape::new(4, 5, 1),
    );
    assert!(bundle.val.is_none());

    let bundle = open(&golden("medmnist.npz")).unwrap();
    check(&*bundle.train, 6, ImageShape::new(4, 5, 3));
    check(&**bundle.val.as_ref().unwrap(), 3, ImageShape::new(4, 5, 3));
    check(
        &**bundle.test.as_ref().unwrap(),
        3,
        ImageShape::new(4, 5, 3),
    );
}

#[test]
fn planes_become_channels() {
    let bundle = open(&golden("planes.npz")).unwrap();
    assert_eq!(bundle.train.shape(), Some(ImageShape::new(5, 6, 3)));
    let image = bundle.train.image(2).unwrap();
    for (at, pixel) in image.pixels().chunks_exact(3).enumerate() {
        let expected = [0, 1, 2].map(|channel| value(2 * 90 + channel * 30 + at));
        assert_eq!(pixel, expected);
    }
    assert_eq!(bundle.train.label(3), 0);
}

#[test]
fn whole_floats_are_levels_and_pickles_are_never_read() {
    let bundle = open(&golden("floats.npz")).unwrap();
    check(&*bundle.train, 4, ImageShape::new(5, 6, 1));
    let error = open_error(&golden("objects.npz"));
    assert!(
        error.contains("array `labels`") && error.contains("`|O`"),
        "{error}"
    );
}

/// The members of an archive, by name.
fn members(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    (0..zip.len())
        .map(|at| {
            let mut member = zip.by_index(at).unwrap();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            (member.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

fn write(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn compressed_with_class_names_beside_it() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    write(&path, &members(&golden("keras.npz")));
    fs::write(folder.path().join("classes.txt"), "ant\nbee\ncow\n").unwrap();
    let bundle = open(&path).unwrap();
    assert_eq!(bundle.classes(), ["ant", "bee", "cow"]);
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    fs::write(folder.path().join("classes.txt"), "ant\nbee\n").unwrap();
    let error = open_error(&path);
    assert!(
        error.contains("label 2 at index 2 is out of range"),
        "{error}"
    );
}

#[test]
fn arrays_that_do_not_fit_are_named() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    let whole = members(&golden("keras.npz"));
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut members = whole.clone();
        let member = members
            .iter_mut()
            .find(|(member, _)| member == name)
            .unwrap();
        change(&mut member.1);
        write(&path, &members);
        open_error(&path)
    };
    let error = changed("x_train.npy", &|bytes| bytes.truncate(bytes.len() - 1));
    assert!(
        error.contains("array `x_train`: its shape [6, 4, 5] takes 120 bytes, it has 119"),
        "{error}"
    );
    let error = changed("x_train.npy", &|bytes| bytes.push(0));
    assert!(error.contains("it has 120 and more"), "{error}");
    let error = changed("y_train.npy", &|bytes| bytes.truncate(9));
    assert!(error.contains("array `y_train`"), "{error}");
    let error = changed("x_test.npy", &|bytes| bytes[0] = 0);
    assert!(
        error.contains("array `x_test`: it is not a NumPy array"),
        "{error}"
    );

    let without: Vec<_> = whole
        .iter()
        .filter(|(name, _)| name != "y_train.npy")
        .cloned()
        .collect();
    write(&path, &without);
    let error = open_error(&path);
    assert!(error.contains("there is no `y_train` to it"), "{error}");
    write(&path, &whole[2..3]);
    assert!(open(&path).is_err());
}

#[test]
fn any_cut_of_the_file_is_an_error() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    let whole = fs::read(golden("medmnist.npz")).unwrap();
    for length in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(open(&path).is_err(), "{length}");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    let folder = temp();
    let path = folder.path().join("bomb.npz");
    let whole = members(&golden("keras.npz"));
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (150, 1024, 1024), }\n";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.resize(array.len() + (150 << 20), 0);
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (150,), }\n";
    let mut labels = b"\x93NUMPY\x01\x00".to_vec();
    labels.extend((header.len() as u16).to_le_bytes());
    labels.extend(header.as_bytes());
    labels.resize(labels.len() + 150, 1);
    let all: Vec<(String, Vec<u8>)> = whole
        .iter()
        .map(|(name, _)| {
            let bytes = if name.starts_with('x') {
                &array
            } else {
                &labels
            };
            (name.clone(), bytes.clone())
        })
        .collect();
    write(&path, &all);
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    // Each alone is below the limit; together they are not.
    let error = open_error(&path);
    assert!(
        error.contains("157286400 bytes unpacked in array `x_test`; the limit is"),
        "{error}"
    );
}

/// A NumPy array as it lies in an archive.
fn npy(dtype: &str, fortran: bool, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header =
        format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.extend(bytes);
    array
}

/// Six images of 4x5 and their labels under these names.
fn small(images: &str, labels: &str) -> Vec<(String, Vec<u8>)> {
    let pixels: Vec<u8> = (0..120).map(value).collect();
    let numbers: Vec<u8> = (0..6).map(|index| index % 3).collect();
    vec![
        (
            format!("{images}.npy"),
            npy("|u1", false, "6, 4, 5", &pixels),
        ),
        (format!("{labels}.npy"), npy("|u1", false, "6,", &numbers)),
    ]
}

#[test]
fn splits_by_any_usual_name_and_what_is_not_used_is_told() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    for (val, test) in [
        ("valid", "holdout"),
        ("Validation", "TEST"),
        ("dev", "heldout"),
    ] {
        let mut all = small("x_train", "y_train");
        all.extend(small(&format!("x_{val}"), &format!("y_{val}")));
        all.extend(small(&format!("{test}_images"), &format!("{test}_labels")));
        all.extend(small("x_extra", "mean"));
        write(&path, &all);
        let bundle = open(&path).unwrap();
        for set in [
            Some(&bundle.train),
            bundle.val.as_ref(),
            bundle.test.as_ref(),
        ] {
            check(&**set.unwrap(), 6, ImageShape::new(4, 5, 1));
        }
        assert_eq!(bundle.notes, ["left out the arrays `mean`, `x_extra`"]);
    }
    // An empty part is no part, and that is said.
    let mut all = small("x_train", "y_train");
    all.push(("x_val.npy".to_owned(), npy("|u1", false, "0, 4, 5", &[])));
    all.push(("y_val.npy".to_owned(), npy("|u1", false, "0,", &[])));
    write(&path, &all);
    let bundle = open(&path).unwrap();
    assert!(bundle.val.is_none());
    assert_eq!(
        bundle.notes,
        ["array `x_val` holds no images and is not used"]
    );
}

#[test]
fn names_of_scikit_learn_and_none_at_all() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    for (images, labels) in [("X_train", "y_train"), ("X", "y"), ("Xtrain", "ytrain")] {
        write(&path, &small(images, labels));
        let bundle = open(&path).unwrap();
        check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
        assert!(bundle.notes.is_empty(), "{:?}", bundle.notes);
    }
    write(&path, &small("arr_0", "arr_1"));
    let bundle = open(&path).unwrap();
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    assert_eq!(
        bundle.notes,
        ["read array `arr_0` as images and `arr_1` as their labels"]
    );
    // Which of four is which cannot be known.
    let mut all = small("arr_0", "arr_1");
    all.extend(small("arr_2", "arr_3"));
    write(&path, &all);
    let error = open(&path).unwrap_err();
    let expected = "set.npz: no array in it is called as images and labels are; found `arr_0` (|u1, [6, 4, 5]), `arr_1` (|u1, [6])";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.hint().unwrap().contains("x_train and y_train"));
}

#[test]
fn images_of_any_type_whose_levels_are_plain() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    let with = |dtype: &str, fortran: bool, bytes: &[u8]| {
        let mut all = small("x", "y");
        all[0].1 = npy(dtype, fortran, "6, 4, 5", bytes);
        write(&path, &all);
        open(&path)
    };
    let levels = || (0..120).map(value);
    let wide: Vec<(&str, Vec<u8>)> = vec![
        (
            "<i8",
            levels()
                .flat_map(|level| i64::from(level).to_le_bytes())
                .collect(),
        ),
        (
            ">i4",
            levels()
                .flat_map(|level| i32::from(level).to_be_bytes())
                .collect(),
        ),
        (
            "<u2",
            levels()
                .flat_map(|level| u16::from(level).to_le_bytes())
                .collect(),
        ),
        (
            "<f8",
            levels()
                .flat_map(|level| f64::from(level).to_le_bytes())
                .collect(),
        ),
        (
            ">f4",
            levels()
                .flat_map(|level| f32::from(level).to_be_bytes())
                .collect(),
        ),
    ];
    for (dtype, bytes) in wide {
        let bundle = with(dtype, false, &bytes).unwrap();
        check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
        assert!(bundle.notes.is_empty(), "{dtype}: {:?}", bundle.notes);
    }
    let parts: Vec<u8> = levels()
        .flat_map(|level| (f32::from(level) / 255.0).to_le_bytes())
        .collect();
    let bundle = with("<f4", false, &parts).unwrap();
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    assert_eq!(
        bundle.notes,
        ["numbers from 0 to 1 in it were read as levels from 0 to 255"]
    );
    // Fortran's order: the first side goes fastest.
    let columns: Vec<u8> = (0..120)
        .map(|at| value((at % 6) * 20 + (at / 6 % 4) * 5 + at / 24))
        .collect();
    let bundle = with("|u1", true, &columns).unwrap();
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));

    let of = |value: f32| {
        [0.5, value]
            .repeat(60)
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    for (dtype, bytes, expected) in [
        (
            "<f4",
            of(2.5),
            "array `x`: images must be numbers from 0 to 1 or whole ones from 0 to 255, these are 0.5 to 2.5 (`<f4`)",
        ),
        ("<f4", of(-0.5), "these are -0.5 to 0.5"),
        ("<f4", of(f32::NAN), "some not a number"),
        (
            "<u2",
            [1, 4].repeat(120),
            "images must be numbers from 0 to 255, these are 1025 to 1025 (`<u2`)",
        ),
        ("<c8", vec![0; 960], "type `<c8`"),
    ] {
        let error = with(dtype, false, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // One part from 0 to 1 and another from 0 to 255.
    let mut all = small("x_train", "y_train");
    all.extend(small("x_test", "y_test"));
    all[2].1 = npy("<f4", false, "6, 4, 5", &parts);
    write(&path, &all);
    let error = open_error(&path);
    assert!(
        error.contains(
            "array `x_test`: its images are numbers from 0 to 1, those of `x_train` from 0 to 255"
        ),
        "{error}"
    );
}

#[test]
fn labels_as_text_as_floats_and_one_hot() {
    let folder = temp();
    let path = folder.path().join("set.npz");
    let with = |dtype: &str, shape: &str, bytes: &[u8]| {
        let mut all = small("x_train", "y_train");
        all[1].1 = npy(dtype, false, shape, bytes);
        write(&path, &all);
        open(&path)
    };
    let names = ["ant", "bee", "crow"];
    let text = |index: usize| names[index % 3].chars().chain("\0\0\0\0".chars()).take(4);
    let wide: Vec<u8> = (0..6)
        .flat_map(text)
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    let narrow: Vec<u8> = (0..6).flat_map(text).map(|c| c as u8).collect();
    for (dtype, bytes) in [("<U4", &wide), ("|S4", &narrow)] {
        let bundle = with(dtype, "6,", bytes).unwrap();
        assert_eq!(bundle.classes(), names);
        check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    }
    let floats: Vec<u8> = (0..6)
        .flat_map(|index| ((index % 3) as f32).to_le_bytes())
        .collect();
    check(
        &*with("<f4", "6,", &floats).unwrap().train,
        6,
        ImageShape::new(4, 5, 1),
    );
    // A class that no image is of has its column.
    let hot: Vec<u8> = (0..24).map(|at| u8::from(at % 4 == at / 4 % 3)).collect();
    let bundle = with("|b1", "6, 4", &hot).unwrap();
    check(&*bundle.train, 6, ImageShape::new(4, 5, 1));
    assert_eq!(bundle.classes(), ["0", "1", "2", "3"]);

    let mut several = hot.clone();
    several[4..8].fill(1);
    let half: Vec<u8> = [0.5f32; 6].iter().flat_map(|v| v.to_le_bytes()).collect();
    for (dtype, shape, bytes, expected) in [
        ("|u1", "6, 4", several, "that at index 1 has 4 of 4 at 1"),
        (
            "|u1",
            "6, 4",
            vec![0; 24],
            "that at index 0 has 0 of 4 at 1",
        ),
        ("<f4", "6,", half, "label 0.5 at index 0 is not a class"),
        (
            "|i1",
            "6,",
            vec![255; 6],
            "label -1 at index 0 is not a class",
        ),
        (
            "|S4",
            "6,",
            vec![0; 24],
            "the label at index 0 is empty or no text",
        ),
        (
            "|u1",
            "6, 2, 2",
            vec![0; 24],
            "labels must be [n], [n, 1] or [n, classes]",
        ),
    ] {
        let error = with(dtype, shape, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Text that the training images do not have.
    let mut all = small("x_train", "y_train");
    all.extend(small("x_test", "y_test"));
    all[1].1 = npy("|S1", false, "6,", b"abcabc");
    all[3].1 = npy("|S1", false, "6,", b"abdabd");
    write(&path, &all);
    let error = open_error(&path);
    assert!(
        error.contains("array `y_test`: label `d` at index 2 is not one of"),
        "{error}"
    );
}
