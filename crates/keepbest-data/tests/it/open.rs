use std::fs;

use keepbest_data::{DEFAULT_SOURCE, DataError, embedded, list};

use crate::fixtures::*;

#[test]
fn names() {
    let bundle = keepbest_data::open(DEFAULT_SOURCE, None).unwrap();
    assert_eq!(
        (bundle.name.as_str(), bundle.kind, bundle.train.len()),
        ("fashion-mnist-mini", "embedded", 6000)
    );
    let error = keepbest_data::open("fashion-mnits", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no data set is called `fashion-mnits`, and there is no folder of that name"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.starts_with(
            "give one of fashion-mnist-mini, fashion-mnist, or a folder with IDX files"
        ),
        "{hint}"
    );
}

#[test]
fn fashion_mnist_from_the_data_folder() {
    let folder = temp();
    let inner = folder.path().join("fashion-mnist");
    fs::create_dir(&inner).unwrap();
    write_idx(&inner, 40, 30);
    for dir in [folder.path(), &inner] {
        let bundle = keepbest_data::open("fashion-mnist", Some(dir)).unwrap();
        assert_eq!(
            (bundle.train.len(), bundle.test.as_ref().unwrap().len()),
            (40, 30)
        );
        assert_eq!(bundle.classes(), embedded::CLASSES);
        assert_eq!(bundle.name, "fashion-mnist");
    }
}

#[test]
fn a_missing_fashion_mnist_says_what_to_install() {
    let error = DataError::FashionMnistMissing {
        looked: vec!["a".into(), "b".into()],
    };
    assert_eq!(
        error.to_string(),
        "the full Fashion-MNIST is not on this machine (looked in a, b)"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("`apt install dataset-fashion-mnist`") && hint.contains("--data-dir"),
        "{hint}"
    );
}

#[test]
fn listed_sets_can_be_opened() {
    for listing in list(None) {
        match keepbest_data::open(listing.name, None) {
            Ok(bundle) => {
                assert!(listing.location.is_some() && listing.hint.is_none());
                assert_eq!(bundle.train.len(), listing.train);
                assert_eq!(bundle.test.unwrap().len(), listing.test);
                assert_eq!(bundle.train.classes().len(), listing.classes);
                assert_eq!(bundle.train.shape(), Some(listing.shape));
            }
            Err(error) => assert!(
                listing.location.is_none() && listing.hint == error.hint(),
                "{error}"
            ),
        }
    }
}

#[test]
fn what_is_no_data_set_says_what_was_found() {
    let folder = temp();
    assert!(open_error(folder.path()).ends_with("it holds no images"));
    assert!(matches!(
        open(&folder.path().join("missing/folder")),
        Err(DataError::NotFound { .. })
    ));

    for name in ["a.txt", "b.txt", "c.txt", "d.txt", ".hidden"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir(folder.path().join("sub")).unwrap();
    let error = open(folder.path()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with(
            "not a data set: found 1 folder (sub) and 4 files (a.txt, b.txt, c.txt, ...)"
        ),
        "{message}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("accepted: a folder with IDX files")
    );
    let error = open_error(&folder.path().join("a.txt"));
    assert!(
        error.ends_with("not a data set: found a file of another kind (.txt)"),
        "{error}"
    );
}
