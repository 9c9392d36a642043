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
fn other_types_are_refused_and_pickles_never_read() {
    let error = open_error(&golden("floats.npz"));
    assert!(
        error.contains("array `images`: its elements are of type `<f4`"),
        "{error}"
    );
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
