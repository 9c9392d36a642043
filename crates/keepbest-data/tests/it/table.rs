//! Tables of images: CSV and TSV.

use std::fs;
use std::path::Path;

use crate::fixtures::*;

/// Images `0.png` to `11.png` in `images/`.
fn images(folder: &Path) {
    fs::create_dir(folder.join("images")).unwrap();
    for index in 0..12 {
        let name = format!("images/{index}.png");
        grey(index, 1, 1).save(folder.join(name)).unwrap();
    }
}

fn table(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn columns_by_name_in_any_order_with_splits() {
    let folder = temp();
    images(folder.path());
    let mut text = "id,Class,split,filename\n".to_owned();
    for index in 0..12 {
        let class = ["\"big, red\"", "blue"][index % 2];
        let split = ["train", "train", "train", "val", "Test"][index % 5];
        text += &format!("{index},{class},{split},images/{index}.png\n");
    }
    let bundle = open(&table(folder.path(), "list.csv", &text)).unwrap();
    assert_eq!(bundle.kind, "table");
    assert_eq!(bundle.classes(), ["big, red", "blue"]);
    assert_eq!(bundle.train.len(), 8);
    assert_eq!(bundle.val.unwrap().len(), 2);
    let test = bundle.test.unwrap();
    assert_eq!((test.len(), test.label(0), test.label(1)), (2, 0, 1));
    assert!(test.image(1).unwrap().pixels() == grey(9, 1, 1).as_raw());
    assert!(test.source(1).ends_with("images/9.png"));
}

#[test]
fn without_a_header_path_and_label_and_numbers_in_their_order() {
    let folder = temp();
    images(folder.path());
    let text: String = [10, 2, 33]
        .iter()
        .enumerate()
        .map(|(index, label)| format!("images/{index}.png\t{label}\n"))
        .collect();
    let bundle = open(&table(folder.path(), "list.tsv", &text)).unwrap();
    assert_eq!(bundle.classes(), ["2", "10", "33"]);
    assert_eq!(
        (0..3).map(|at| bundle.train.label(at)).collect::<Vec<_>>(),
        [1, 0, 2]
    );
}

#[test]
fn bad_rows_are_named_by_their_line() {
    let folder = temp();
    images(folder.path());
    for (text, expected) in [
        (
            "images/0.png,a\nimages/1.png\n",
            "line 2, column 2: there is no label",
        ),
        ("path,label\n,a\n", "line 2, column 1: there is no path"),
        (
            "path,label,split\nimages/0.png,a,train\nimages/1.png,a,other\n",
            "line 3, column 3: split `other` is none of train, val and test",
        ),
        (
            "path,label,split\nimages/0.png,a,train\nimages/1.png,b,val\n",
            "line 3, column 2: class `b` is unknown to the training images",
        ),
        ("path,label\n", "line 1: the table names no images"),
        (
            "images/0.png,a\nimages/none.png,a\n",
            "1 of its 2 images is missing; the first is",
        ),
        ("images/0.png,a\nlist.csv,a\n", "list.csv: not a PNG, JPEG"),
        // Of names without files the surest, wherever it stands.
        (
            "filename,path,label\n0.png,gone/0.png,a\n0.png,gone/1.png,b\n",
            "2 of its 2 images are missing; the first is",
        ),
    ] {
        let error = open_error(&table(folder.path(), "list.csv", text));
        assert!(error.contains(expected), "{error}");
    }
}
