//! Data sets in the layouts that people have them in: what is read as what, what is told, and what is refused.

use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::corpus::targets::archive;
use crate::support::{Place, photos, write_idx};

/// A run of a moment.
const QUICK: &str = "--model lenet5 --epochs 1 --batch-size 8";

/// Eight images of each of three classes; of other numbers in every folder.
fn classes(folder: &Path) {
    let first = folder.to_str().unwrap().bytes().map(u32::from).sum::<u32>() * 8;
    photos(folder, &[("cat", 8), ("cow", 8), ("dog", 8)], first);
}

/// Images without classes.
fn flat(folder: &Path, count: u32) {
    let around = folder.parent().unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    photos(around, &[(name, count)], 1000);
}

fn images(info: &Value, split: &str) -> u64 {
    info["splits"][split]["images"].as_u64().unwrap_or(0)
}

/// What `data info` finds in the splits.
fn counts(place: &Place, data: &str) -> ([u64; 3], Value) {
    let info = place.json(&format!("data info {data} --json"));
    (
        ["train", "val", "test"].map(|split| images(&info, split)),
        info,
    )
}

#[test]
fn folders_of_splits_are_no_classes() {
    let place = Place::new();
    for (number, (train, val, test)) in [
        ("train2017", "val2017", "test2017"),
        ("images_train", "images_val", "images_test"),
        ("1_train", "2_val", "3_test"),
        ("tr", "va", "te"),
        ("dataset-train", "dataset-val", "dataset-test"),
        // As Kaggle's archives unpack.
        (
            "seg_train/seg_train",
            "seg_dev/seg_dev",
            "seg_test/seg_test",
        ),
        ("train/train", "val/val", "test/test"),
        ("train/images", "val/images", "test/images"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = format!("set{number}");
        for split in [train, val, test] {
            classes(&place.path(&data).join(split));
        }
        let (found, info) = counts(&place, &data);
        assert_eq!(found, [24, 24, 24], "{train}: {info}");
        assert_eq!(
            info["classes"],
            serde_json::json!(["cat", "cow", "dog"]),
            "{train}"
        );
    }
    // What else lies there is told.
    flat(&place.path("set5/seg_pred"), 3);
    let (_, info) = counts(&place, "set5");
    let told = "left out the folder `seg_pred` beside `seg_train`, with 3 images in it";
    assert!(info["notes"].to_string().contains(told), "{info}");
}

#[test]
fn folders_that_can_be_classes_or_splits_are_refused() {
    let place = Place::new();
    for fold in ["fold0", "fold1", "fold2"] {
        classes(&place.path("folds").join(fold));
    }
    for set in ["x", "y"] {
        classes(&place.path("two").join(set).join("train"));
        classes(&place.path("two").join(set).join("test"));
    }
    classes(&place.path("beside"));
    classes(&place.path("beside/val"));
    classes(&place.path("beside/test"));
    for class in ["cat", "dog"] {
        for split in ["train", "test"] {
            flat(&place.path("inside").join(class).join(split), 4);
        }
    }
    for (data, words) in [
        (
            "folds",
            "`fold0`, `fold1`, `fold2` are called as folds of a cross-validation",
        ),
        (
            "two",
            "`x` holds `test`, `train`, which are called as splits",
        ),
        (
            "beside",
            "`test`, `val` hold folders called as `cat`, `cow`, `dog` beside them",
        ),
        (
            "inside",
            "`cat` holds `test`, `train`, which are called as splits",
        ),
    ] {
        let refused = [
            format!("{data}: not clear what are classes and what are splits"),
            words.to_owned(),
            "hint: folders read without doubt: train/<class>/".to_owned(),
        ];
        let refused = refused.each_ref().map(String::as_str);
        place
            .run(&format!("train --data {data} {QUICK}"))
            .fails(1, &refused);
        place.run(&format!("data info {data}")).fails(1, &refused);
        assert!(!place.path("runs").exists());
    }
}

#[test]
fn what_was_taken_for_a_class_with_doubt_is_told() {
    let place = Place::new();
    classes(&place.path("flat"));
    flat(&place.path("flat/test"), 8);
    let said = place.ok(&format!("train --data flat {QUICK}"));
    let told = "`test` is taken for a class like those beside it, not for test images";
    assert!(said.err.contains(told), "{}", said.err);

    for camera in ["a", "b"] {
        classes(&place.path("cameras").join(camera));
    }
    let said = place.ok(&format!("train --data cameras {QUICK}"));
    let told =
        "the 2 folders `a`, ... are taken for the classes; all hold the same folders (`cat`, ...)";
    assert!(said.err.contains(told), "{}", said.err);
}

#[test]
fn single_images_beside_the_data_hide_no_classes() {
    let place = Place::new();
    classes(&place.path("set/images"));
    let stray = RgbImage::from_pixel(12, 12, Rgb([9, 9, 9]));
    stray.save(place.path("set/preview.png")).unwrap();
    let (found, info) = counts(&place, "set");
    assert_eq!(found, [24, 0, 0]);
    assert_eq!(info["classes"], serde_json::json!(["cat", "cow", "dog"]));
    let told = "left out 1 image beside the folder `images`";
    assert!(info["notes"].to_string().contains(told), "{info}");

    // The only folder with splits, and another.
    classes(&place.path("deep/data/train"));
    classes(&place.path("deep/data/test"));
    flat(&place.path("deep/samples"), 2);
    let (found, info) = counts(&place, "deep");
    assert_eq!(found, [24, 0, 24]);
    let told = "left out the folder `samples` beside `data`, with 2 images in it";
    assert!(info["notes"].to_string().contains(told), "{info}");

    // An empty validation set is none, and that is said.
    classes(&place.path("empty/train"));
    fs::create_dir(place.path("empty/val")).unwrap();
    let said = place.ok(&format!("train --data empty {QUICK}"));
    let told = "left out the folder `val` beside `train`, with no image in it";
    assert!(said.err.contains(told), "{}", said.err);
}

#[test]
fn what_is_left_out_is_told_by_every_verb() {
    let place = Place::new();
    classes(&place.path("photos"));
    place.ok(&format!("train --data photos --name run {QUICK}"));
    classes(&place.path("fresh"));
    for name in ["a.avif", "b.jp2", "c"] {
        fs::write(place.path("fresh/cat").join(name), "?").unwrap();
    }
    let kinds = "1 without extension, 1 .avif, 1 .jp2";
    let told = format!("left out 3 files in class folders that are no images: {kinds}");
    for args in [
        "evaluate run --data fresh",
        "compare run run@last --data fresh",
    ] {
        let said = place.ok(args);
        assert_eq!(
            said.err.matches(&told).count() + said.out.matches(&told).count(),
            1,
            "{args}\n{}",
            said.err
        );
    }
    let measured = place.json("evaluate run --data fresh --json");
    assert!(
        measured["images_of"]["notes"].to_string().contains(&told),
        "{measured}"
    );
    let said = place.ok("predict run fresh");
    assert_eq!(said.out.lines().count(), 24);
    let told = format!("left out 3 files in fresh that are no images by their names: {kinds}");
    assert!(said.err.contains(&told), "{}", said.err);
}

#[test]
fn all_of_the_training_data_is_said_to_be_seen() {
    let place = Place::new();
    classes(&place.path("photos"));
    place.ok(&format!("train --data photos --name run {QUICK}"));
    let said = place.ok("evaluate run --split all");
    let told = "was trained on 20 of 24 images and chosen by 2 more: the figures flatter it";
    assert!(said.err.contains(told), "{}", said.err);
    for split in ["train", "val", "test"] {
        let said = place.ok(&format!("evaluate run --split {split}"));
        assert!(!said.err.contains("flatter"), "{}", said.err);
    }
}

#[test]
fn what_is_not_read_is_named_by_kind_depth_and_number() {
    let place = Place::new();
    for (class, kind) in [("a", "heic"), ("b", "avif"), ("c", "tga")] {
        let folder = place.path("phone").join(class).join("deep");
        fs::create_dir_all(&folder).unwrap();
        for number in 0..3 {
            fs::write(folder.join(format!("{number}.{kind}")), "?").unwrap();
        }
    }
    let found = "found 3 folders (a: 3 .heic, up to 1 folder down, b: 3 .avif, up to 1 folder down, c: 3 .tga";
    let read = "PNG, JPEG, WebP, BMP, TIFF, GIF";
    place
        .run("data info phone")
        .fails(1, &["not a data set", found, read]);
    classes(&place.path("photos"));
    place.ok(&format!("train --data photos --name run {QUICK}"));
    place.run("predict run phone").fails(
        1,
        &[
            "phone: it holds no images",
            "3 .avif, 3 .heic, 3 .tga",
            read,
        ],
    );
    // All that a split has is damaged.
    classes(&place.path("broken/train"));
    for class in ["cat", "cow"] {
        fs::create_dir_all(place.path("broken/val").join(class)).unwrap();
        fs::write(place.path("broken/val").join(class).join("1.png"), "?").unwrap();
    }
    place
        .run(&format!("train --data broken --skip-corrupt {QUICK}"))
        .fails(
            1,
            &[
                "none of the 2 images of broken/val can be read; the first: ",
                "val/cat/1.png",
            ],
        );
    fs::write(place.path("list.csv"), "broken/val/cat/1.png,cat\n").unwrap();
    place
        .run(&format!("train --data list.csv --skip-corrupt {QUICK}"))
        .fails(1, &["none of the 1 image of list.csv can be read"]);
    // Archives are to be unpacked.
    for (name, kind) in [
        ("photos.zip", ".zip"),
        ("Photos.TAR.GZ", ".tar.gz"),
        ("p.7z", ".7z"),
    ] {
        fs::write(place.path(name), "?").unwrap();
        let refused = format!("it is an archive ({kind}), which is not read");
        place
            .run(&format!("train --data {name}"))
            .fails(1, &[&refused, "hint: unpack it"]);
    }
}

/// A NumPy array as it lies in an archive.
pub(crate) fn npy(dtype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.extend(bytes);
    array
}

#[test]
fn arrays_of_any_usual_name_and_those_not_used() {
    let place = Place::new();
    let pixels = |seed: u32| -> Vec<u8> {
        (0..20 * 64u32)
            .map(|at| ((at + seed) * 37 % 251) as u8)
            .collect()
    };
    let labels: Vec<u8> = (0..20).map(|at| at % 2).collect();
    let text: Vec<u8> = (0..20)
        .flat_map(|at| if at % 2 == 0 { *b"ant" } else { *b"bee" })
        .collect();
    let y = npy("|u1", "20,", &labels);
    let names = npy("|S3", "20,", &text);
    let x = [0, 1, 2].map(|seed| npy("|u1", "20, 8, 8", &pixels(seed)));
    let write = |members: &[(&str, &[u8])]| {
        fs::write(place.path("set.npz"), archive(members)).unwrap();
    };
    write(&[
        ("X_train.npy", &x[0]),
        ("y_train.npy", &names),
        ("X_valid.npy", &x[1]),
        ("y_valid.npy", &names),
        ("X_holdout.npy", &x[2]),
        ("y_holdout.npy", &names),
        ("mean.npy", &y),
    ]);
    let (found, info) = counts(&place, "set.npz");
    assert_eq!(found, [20, 20, 20]);
    assert_eq!(info["classes"], serde_json::json!(["ant", "bee"]));
    let said = place.ok(&format!("train --data set.npz --image-size 16 {QUICK}"));
    assert!(
        said.err.contains("left out the array `mean`"),
        "{}",
        said.err
    );

    write(&[("arr_0.npy", &x[0]), ("arr_1.npy", &y)]);
    let said = place.ok(&format!("train --data set.npz --image-size 16 {QUICK}"));
    let told = "read array `arr_0` as images and `arr_1` as their labels";
    assert!(said.err.contains(told), "{}", said.err);
    write(&[("a.npy", &x[0]), ("b.npy", &y), ("c.npy", &x[1])]);
    place.run("data info set.npz").fails(
        1,
        &[
            "set.npz: no array in it is called as images and labels are",
            "`a` (|u1, [20, 8, 8]), `b` (|u1, [20]), `c`",
            "hint: call them x_train and y_train",
        ],
    );

    // IDX, as EMNIST has it.
    write_idx(&place.path("idx"), 3, 10, 5);
    for (from, to) in [
        ("train", "emnist-letters-train"),
        ("t10k", "emnist-letters-validation"),
    ] {
        for what in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
            let file = |name: &str| place.path("idx").join(format!("{name}-{what}"));
            fs::rename(file(from), file(to)).unwrap();
        }
    }
    assert_eq!(counts(&place, "idx").0, [30, 15, 0]);
}

#[test]
fn columns_of_splits_by_any_usual_name_and_those_not_used() {
    let place = Place::new();
    classes(&place.path("photos"));
    let write = |header: &str, cells: &dyn Fn(u32) -> &'static str| {
        let mut text = format!("{header}\n");
        for class in ["cat", "cow", "dog"] {
            for number in 0..8 {
                text += &format!("photos/{class}/{number:02}.png,{class},{}\n", cells(number));
            }
        }
        fs::write(place.path("list.csv"), text).unwrap();
    };
    let yes = |number: u32| if number < 2 { "1" } else { "0" };
    for (column, expected) in [
        ("is_dev", [18, 6, 0]),
        ("valid", [18, 6, 0]),
        ("is_holdout", [18, 0, 6]),
        ("test", [18, 0, 6]),
        ("is_train", [6, 0, 18]),
        ("is_training_image", [6, 0, 18]),
        ("train", [6, 0, 18]),
    ] {
        write(&format!("path,label,{column}"), &yes);
        let (found, info) = counts(&place, "list.csv");
        assert_eq!(found, expected, "{column}");
        let told = format!("rows whose `{column}` is no are read as test");
        assert_eq!(
            info["notes"].to_string().contains(&told),
            column.contains("train"),
            "{info}"
        );
    }
    write("path,label,train,val", &|number| {
        ["1,0", "0,1", "0,0", "1,0"][number as usize % 4]
    });
    assert_eq!(counts(&place, "list.csv").0, [12, 6, 6]);
    write("path,label,is_test,is_val", &|number| {
        ["1,0", "1,1"][number as usize / 4]
    });
    place.run("data info list.csv").fails(
        1,
        &["line 6, column 4: it is of two splits, `is_test` and `is_val`"],
    );
    // As FER2013 has it.
    write("path,label,Usage", &|number| {
        ["Training", "PublicTest", "PrivateTest", "Training"][number as usize % 4]
    });
    let (found, info) = counts(&place, "list.csv");
    assert_eq!(found, [12, 6, 6]);
    let told = "`PrivateTest` as test, `PublicTest` as val, `Training` as train";
    assert!(info["notes"].to_string().contains(told), "{info}");
    write("path,label,fold", &|number| {
        ["0", "1", "2", "3"][number as usize % 4]
    });
    let said = place.ok(&format!("train --data list.csv {QUICK}"));
    assert!(
        said.err.contains("not used: the column `fold`"),
        "{}",
        said.err
    );

    write("path,label,again", &|_| "x");
    let again = "photos/cat/00.png,cat,x\n";
    for (rows, told) in [
        (1, "1 row lists an image once more"),
        (2, "2 rows list an image once more"),
    ] {
        let text = fs::read_to_string(place.path("list.csv")).unwrap();
        fs::write(place.path("list.csv"), text + again).unwrap();
        let (_, info) = counts(&place, "list.csv");
        assert!(info["notes"].to_string().contains(told), "{rows}: {info}");
    }
}

#[test]
fn tables_of_ids_with_excels_first_line_and_several_labels() {
    let place = Place::new();
    classes(&place.path("photos"));
    let rows = |row: &dyn Fn(&str, u32) -> String| -> String {
        let numbers = ["cat", "cow", "dog"]
            .map(|class| (0..8).map(|number| row(class, number)).collect::<String>());
        numbers.concat()
    };
    let write = |text: String| fs::write(place.path("list.csv"), text).unwrap();
    // Without extensions, as ISIC has it.
    write(
        "image_id,dx\n".to_owned() + &rows(&|class, n| format!("photos/{class}/{n:02},{class}\n")),
    );
    assert_eq!(counts(&place, "list.csv").0, [24, 0, 0]);
    write(
        "image_id,dx\n".to_owned()
            + &rows(&|class, n| format!("photos/{class}/{:02},{class}\n", n + 4)),
    );
    place.run("data info list.csv").fails(
        1,
        &["12 of its 24 images are missing; the first is photos/cat/08 (line 6)"],
    );

    for (first, mark) in [
        ("sep=;", ";"),
        ("SEP=,", ","),
        ("\"sep=|\"", "|"),
        ("sep=\t", "\t"),
    ] {
        let table = rows(&|class, n| format!("photos/{class}/{n:02}.png{mark}{class}\r\n"));
        write(format!("{first}\r\npath{mark}label\r\n{table}"));
        let (found, info) = counts(&place, "list.csv");
        assert_eq!(found, [24, 0, 0], "{first}");
        assert_eq!(
            info["classes"],
            serde_json::json!(["cat", "cow", "dog"]),
            "{first}"
        );
    }

    // A bar joins labels, also where none of them stands alone.
    write(
        "path,label\n".to_owned()
            + &rows(&|class, n| match (class, n) {
                ("cow", _) => format!("photos/cow/{n:02}.png,Effusion|Mass\n"),
                _ => format!("photos/{class}/{n:02}.png,{class}\n"),
            }),
    );
    place
        .run("data info list.csv")
        .fails(1, &["line 10, column 2: several labels, `Effusion|Mass`"]);
    // One-hot is one thing, however it is written.
    for (yes, no) in [("1", "0"), ("True", "False"), ("1.0", "0.0")] {
        let mark = |is: bool| if is { yes } else { no };
        write(
            "filename,cat,cow,dog\n".to_owned()
                + &rows(&|class, n| {
                    let marks = ["cat", "cow", "dog"]
                        .map(|name| mark(name == class))
                        .join(",");
                    format!("photos/{class}/{n:02}.png,{marks}\n")
                }),
        );
        place.run("data info list.csv").fails(
            1,
            &[
                "the columns cat, cow, dog hold yes and no, a label each",
                "one column `label`",
            ],
        );
    }
}

#[test]
fn sides_and_faint_digits_are_not_mirrored() {
    let place = Place::new();
    for (left, right) in [("lhs", "rhs"), ("port", "starboard")] {
        photos(&place.path(left), &[(left, 8), (right, 8)], 0);
        let said = place.ok(&format!("train --data {left} {QUICK}"));
        assert!(said.err.contains("flip is off: "), "{}", said.err);
    }
    // Strokes that fade out, as in digits that were scanned small, under names that say nothing.
    for (class, down) in [("foo", true), ("bar", false)] {
        fs::create_dir_all(place.path("digits").join(class)).unwrap();
        for number in 0..8u8 {
            let image = GrayImage::from_fn(16, 16, |x, y| {
                let (along, across) = if down { (y, x) } else { (x, y) };
                let away = u32::abs_diff(along, 8)
                    .max(2 * u32::abs_diff(across, 7 + u32::from(number % 3)));
                Luma([250u32.saturating_sub(34 * away) as u8])
            });
            image
                .save(
                    place
                        .path("digits")
                        .join(class)
                        .join(format!("{number}.png")),
                )
                .unwrap();
        }
    }
    let said = place.ok(&format!("train --data digits {QUICK}"));
    assert!(
        said.err
            .contains("flip is off: the images look like writing"),
        "{}",
        said.err
    );
}

#[test]
fn a_chosen_size_that_is_too_small_is_named_with_the_way_out() {
    let place = Place::new();
    for class in ["cat", "dog"] {
        let folder = place.path("mixed").join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..12u32 {
            let side = if number < 6 { 2 } else { 40 };
            let image =
                RgbImage::from_fn(side, side, |x, y| Rgb([(x * 5 + number) as u8, y as u8, 7]));
            image.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    place
        .run("train --data mixed --epochs 1 --batch-size 8")
        .fails(
            1,
            &[
                "the network does not fit images of 2x2, the size chosen for those found",
                "layer `",
                "hint: --image-size brings the images to another size",
            ],
        );
    assert!(!place.path("runs").exists());
    place.ok("train --data mixed --epochs 1 --batch-size 8 --image-size 16");
}
