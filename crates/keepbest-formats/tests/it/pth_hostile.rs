//! PyTorch files made by hand to break who reads them.

use keepbest_formats::pth::{Limits, PthError as E, PthFile, Value};

use crate::pickles::{Pickle, pickle};
use crate::support::{chain, zip_archive};

/// What loading `{"w": tensor}` says.
fn tensor_error(storage: (&str, &str, i64), offset: i64, shape: &[i64], strides: &[i64]) -> E {
    let file = pickle()
        .raw(b"}")
        .text("w")
        .tensor(storage, offset, shape, strides)
        .raw(b"s")
        .file(&[0; 24])
        .unwrap();
    match file.weights(None).unwrap_err() {
        E::InTensor { tensor, source } => {
            assert_eq!(tensor, "w");
            *source
        }
        other => panic!("{other}"),
    }
}

const SIX: (&str, &str, i64) = ("FloatStorage", "0", 6);

#[test]
fn an_honest_one_reads() {
    let file = pickle()
        .raw(b"}")
        .text("w")
        .tensor(SIX, 1, &[2, 2], &[3, 1])
        .raw(b"s")
        .file(bytemuck_floats().as_slice())
        .unwrap();
    let weights = file.weights(None).unwrap().weights;
    let w = weights.get("w").unwrap();
    assert_eq!(w.as_f32().unwrap().as_ref(), [1.0, 2.0, 4.0, 5.0]);
}

fn bytemuck_floats() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

#[test]
fn tensors_past_their_storage() {
    for (offset, shape, strides) in [
        (0, vec![7], vec![1]),
        (1, vec![6], vec![1]),
        (0, vec![2], vec![6]),
        (6, vec![1], vec![1]),
        (i64::MAX, vec![1], vec![1]),
        (0, vec![2], vec![i64::MAX]),
        (0, vec![3, 3], vec![i64::MAX, i64::MAX]),
    ] {
        let error = tensor_error(SIX, offset, &shape, &strides);
        assert!(
            matches!(error, E::OutsideStorage { elements: 6, .. }),
            "{offset} {shape:?} {strides:?}: {error}"
        );
    }
}

#[test]
fn tensors_that_make_no_sense() {
    for (offset, shape, strides) in [
        (-1, vec![1], vec![1]),
        (0, vec![-1], vec![1]),
        (0, vec![2], vec![-1]),
        (0, vec![2], vec![]),
        (0, vec![i64::MAX, 4], vec![1, 1]),
        (0, vec![i64::MAX], vec![0]),
    ] {
        let error = tensor_error(SIX, offset, &shape, &strides);
        assert!(
            matches!(error, E::MalformedTensor { .. }),
            "{offset} {shape:?} {strides:?}: {error}"
        );
    }
}

#[test]
fn any_stride_along_a_side_of_one() {
    let file = pickle()
        .raw(b"}")
        .text("w")
        .tensor(SIX, 0, &[1, 3, 1], &[i64::MAX, 2, i64::MAX])
        .raw(b"s")
        .file(&bytemuck_floats())
        .unwrap();
    let weights = file.weights(None).unwrap().weights;
    let w = weights.get("w").unwrap();
    assert_eq!(w.as_f32().unwrap().as_ref(), [0.0, 2.0, 4.0]);
}

#[test]
fn a_number_expanded_to_a_terabyte() {
    let error = tensor_error(SIX, 0, &[1 << 38], &[0]);
    assert!(matches!(error, E::TooManyCopies { bytes, .. } if bytes == 1 << 40));
}

#[test]
fn many_copies_add_up() {
    // Each is below the limit.
    let mut p = pickle().raw(b"}(");
    for at in 0..100 {
        p = p.text(&format!("w{at}")).tensor(SIX, 0, &[1 << 20], &[0]);
    }
    let file = p.raw(b"u").file(&[0; 24]).unwrap();
    let error = file.weights(None).unwrap_err();
    assert!(
        chain(&error).contains("are left of the limit"),
        "{}",
        chain(&error)
    );
}

#[test]
fn storages_of_another_size_or_none() {
    let error = tensor_error(("FloatStorage", "0", 7), 0, &[1], &[1]);
    assert!(matches!(
        error,
        E::StorageSize {
            expected: 7,
            found: 6,
            ..
        }
    ));
    let error = tensor_error(("DoubleStorage", "0", 6), 0, &[1], &[1]);
    assert!(matches!(error, E::StorageSize { found: 3, .. }));
    let error = tensor_error(("FloatStorage", "0", -1), 0, &[1], &[1]);
    assert!(matches!(error, E::StorageSize { .. }));
    for key in ["1", "../data.pkl", ""] {
        let error = tensor_error(("FloatStorage", key, 6), 0, &[1], &[1]);
        assert!(matches!(error, E::NoStorage { .. }), "{key}: {error}");
    }
}

#[test]
fn a_storage_of_a_class_that_is_none() {
    let error = tensor_error(("os", "0", 6), 0, &[1], &[1]);
    assert!(matches!(error, E::MalformedTensor { what: "no storage" }));
}

/// A module with `content` as its only child `c`, or none.
fn module(p: Pickle, content: impl FnOnce(Pickle) -> Pickle) -> Pickle {
    let p = p.raw(b"cm\nM\n)\x81}(").text("_parameters").raw(b"}");
    let p = p.text("_buffers").raw(b"}").text("_modules").raw(b"}");
    content(p).raw(b"ub")
}

#[test]
fn a_module_in_itself() {
    // The memo gives the module back inside of its own children.
    let p = pickle()
        .raw(b"cm\nM\n)\x81q\x07}(")
        .text("_parameters")
        .raw(b"}");
    let p = p
        .text("_modules")
        .raw(b"}")
        .text("c")
        .raw(b"h\x07s")
        .raw(b"ub");
    let file = p.file(&[]).unwrap();
    assert!(matches!(file.weights(None).unwrap_err(), E::TooDeep { .. }));
}

#[test]
fn modules_a_thousand_deep() {
    let mut p = pickle();
    for _ in 0..1000 {
        p = p.raw(b"cm\nM\n)\x81}(").text("_parameters").raw(b"}");
        p = p.text("_modules").raw(b"}").text("c");
    }
    p = module(p, |p| p);
    for _ in 0..1000 {
        p = p.raw(b"sub");
    }
    let file = p.file(&[]).unwrap();
    assert!(matches!(
        file.weights(None).unwrap_err(),
        E::TooDeep { limit: 200 }
    ));
}

#[test]
fn modules_shared_by_modules_shared() {
    // Forty levels, each with the level below twice: a trillion modules from a kilobyte.
    let mut p = module(pickle(), |p| p).raw(b"q\x00");
    for _ in 0..40 {
        p = p.raw(b"0cm\nM\n)\x81}(").text("_parameters").raw(b"}");
        p = p.text("_modules").raw(b"}(");
        p = p
            .text("a")
            .raw(b"h\x00")
            .text("b")
            .raw(b"h\x00")
            .raw(b"uub");
        p = p.raw(b"q\x00");
    }
    let file = p.file(&[]).unwrap();
    assert!(matches!(
        file.weights(None).unwrap_err(),
        E::TooManyPlaces { .. }
    ));
}

#[test]
fn a_large_dict_in_very_many_places() {
    // A root of 100,000 keys which all are one dict of 100,000 entries that are no tensors.
    let mut p = pickle().raw(b"}(");
    for at in 0..100_000 {
        p = p.int(at).raw(b"N");
    }
    p = p.raw(b"uq\x000}(");
    for at in 0..100_000 {
        p = p.text(&at.to_string()).raw(b"h\x00");
    }
    let file = p.raw(b"u").file(&[]).unwrap();
    assert!(matches!(
        file.weights(None).unwrap_err(),
        E::NoWeights { .. }
    ));
}

#[test]
fn names_that_are_none() {
    let name = "n".repeat(2000);
    let p = pickle().raw(b"}(").text("w").tensor(SIX, 0, &[1], &[1]);
    let file = p.text(&name).raw(b"Nu").file(&[0; 24]).unwrap();
    assert_eq!(file.weights(None).unwrap().weights.len(), 1);
    let mut p = pickle();
    for _ in 0..3 {
        p = p.raw(b"cm\nM\n)\x81}(").text("_parameters").raw(b"}");
        p = p.text("_modules").raw(b"}").text(&"m".repeat(400));
    }
    p = module(p, |p| p).raw(b"sub").raw(b"sub").raw(b"sub");
    let error = p.file(&[]).unwrap().weights(None).unwrap_err();
    assert!(matches!(error, E::NameTooLong { .. }), "{error}");
}

#[test]
fn values_in_values_are_shown_shortened() {
    // A list in a list ... a hundred thousand deep, and one that is in itself.
    let p = pickle()
        .raw(&b"]".repeat(100_000))
        .raw(&b"a".repeat(99_999));
    let file = p.file(&[]).unwrap();
    assert_eq!(file.root().to_string(), "[[[… 1]]]");
    let file = pickle().raw(b"]q\x00h\x00a").file(&[]).unwrap();
    assert_eq!(file.root().to_string(), "[[[… 1]]]");
    assert!(matches!(
        file.weights(None).unwrap_err(),
        E::NoWeights { .. }
    ));
}

#[test]
fn classes_wrapped_in_classes() {
    // ("module", ("module", ...)): what a naive reader follows until its stack ends.
    let mut p = pickle().raw(b"cm\nM\n");
    for _ in 0..100_000 {
        // STACK: class -> tuple ("module", class, None, None) -> persistent id
        p = p.raw(b"q\x01").raw(b"0(").text("module").raw(b"h\x01NNtQ");
    }
    let file = p.file(&[]).unwrap();
    assert!(matches!(file.root(), Value::Persistent("module")));
}

#[test]
fn one_key_twice_counts_as_in_python() {
    let file = pickle()
        .raw(b"}(")
        .text("w")
        .tensor(SIX, 0, &[1], &[1])
        .text("v")
        .tensor(SIX, 1, &[1], &[1])
        .text("w")
        .tensor(SIX, 2, &[1], &[1])
        .raw(b"u")
        .file(&bytemuck_floats())
        .unwrap();
    let weights = file.weights(None).unwrap().weights;
    assert_eq!(weights.names().collect::<Vec<_>>(), ["w", "v"]);
    assert_eq!(weights.get("w").unwrap().as_f32().unwrap()[0], 2.0);
}

#[test]
fn two_pickles_or_none_in_the_archive() {
    let zip = zip_archive(&[("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]);
    assert!(matches!(
        PthFile::from_bytes(zip.into(), Limits::default()).unwrap_err(),
        E::Malformed { .. }
    ));
    let zip = zip_archive(&[("a/b/data.pkl", b"N.")]);
    assert!(matches!(
        PthFile::from_bytes(zip.into(), Limits::default()).unwrap_err(),
        E::NoPickle
    ));
}

#[test]
fn pickles_beyond_the_limit() {
    let limits = Limits {
        pickle_bytes: 3,
        ..Limits::default()
    };
    let zip = zip_archive(&[("a/data.pkl", b"NN0.")]);
    let error = PthFile::from_bytes(zip.into(), limits).unwrap_err();
    assert!(
        chain(&error).contains("4 bytes, more than 3"),
        "{}",
        chain(&error)
    );
}

#[test]
fn an_unknown_byte_order() {
    let zip = zip_archive(&[("a/data.pkl", b"N."), ("a/byteorder", b"middle")]);
    let error = PthFile::from_bytes(zip.into(), Limits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its byte order is not what PyTorch writes"
    );
}
