//! Ordinary data of which a part was passed over or taken for something else without a word.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::corpus::targets::archive;
use crate::layouts::npy;
use crate::support::{Place, photos};

/// A run of a moment.
const QUICK: &str = "--model lenet5 --epochs 1 --batch-size 8";
const CAT_DOG_OWL: [(&str, u32); 3] = [("cat", 10), ("dog", 10), ("owl", 10)];

/// With `photos` of cats, dogs and owls, and `run` that was trained on them.
fn trained() -> Place {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    place.ok(&format!("train --data photos --name run {QUICK}"));
    place
}

/// A table of images in `photos`, a line for each of three classes and eight numbers.
fn table(place: &Place, name: &str, header: &str, row: impl Fn(&str, u32) -> String) {
    let mut text = format!("{header}\n");
    for class in ["cat", "dog", "owl"] {
        for number in 0..8 {
            text += &format!("{}\n", row(class, number));
        }
    }
    fs::write(place.path(name), text).unwrap();
}

fn file(class: &str, number: u32) -> String {
    format!("photos/{class}/{number:02}.png")
}

#[test]
fn a_link_that_leads_nowhere_hides_no_split_and_no_class() {
    let place = trained();
    let link = |name: &str| symlink("/not-mounted/there", place.path(name)).unwrap();
    photos(&place.path("splits/train"), &CAT_DOG_OWL, 0);
    link("splits/val");
    photos(&place.path("classes"), &CAT_DOG_OWL, 0);
    link("classes/zebra");
    photos(&place.path("deep"), &CAT_DOG_OWL, 0);
    link("deep/cat/2.more-of-them");
    fs::create_dir(place.path("alone")).unwrap();
    link("alone/train");
    // A link to itself leads nowhere, too.
    photos(&place.path("circle"), &CAT_DOG_OWL, 0);
    symlink("zebra", place.path("circle/zebra")).unwrap();
    for (data, found) in [
        (
            "splits",
            "splits/val: it is a link to /not-mounted/there, where nothing can be read",
        ),
        ("classes", "classes/zebra: it is a link to"),
        ("deep", "deep/cat/2.more-of-them: it is a link to"),
        ("alone", "alone/train: it is a link to"),
        ("circle", "circle/zebra: it is a link to zebra, where"),
    ] {
        for verb in [
            format!("train --data {data} {QUICK}"),
            format!("data info {data}"),
            format!("evaluate run --data {data}"),
        ] {
            place.run(&verb).fails(
                1,
                &[found, "hint: bring back what it leads to", "--skip-corrupt"],
            );
        }
    }
    // Without it where that is wanted, and said.
    let said = place.ok(&format!(
        "train --data splits --skip-corrupt --name without {QUICK}"
    ));
    let told = "left out 1 link that cannot be followed (splits/val)";
    assert!(said.err.contains(told), "{}", said.err);
    // What is called as a file is no folder, and is told.
    photos(&place.path("files"), &CAT_DOG_OWL, 0);
    link("files/README.md");
    link("files/cat/notes.txt");
    for verb in [
        format!("train --data files --name files {QUICK}"),
        "predict run files".to_owned(),
    ] {
        let said = place.ok(&verb);
        let told = "left out 2 links that cannot be followed (files/README.md, ...)";
        assert!(said.err.contains(told), "{}", said.err);
    }
}

#[test]
fn what_is_measured_needs_no_classes_in_the_training_set_beside_it() {
    let place = trained();
    // More in test than in train: known to the model or not.
    photos(&place.path("two/train"), &CAT_DOG_OWL[..2], 1000);
    photos(&place.path("two/test"), &CAT_DOG_OWL, 2000);
    let found = place.json("evaluate run --data two --json");
    assert_eq!(
        (&found["split"], &found["images"]),
        (&json!("test"), &json!(30))
    );
    assert_eq!(found["images_of"]["missing_classes"], json!([]));

    let more = [("cat", 10), ("dog", 10), ("owl", 10), ("zebra", 3)];
    photos(&place.path("more/train"), &CAT_DOG_OWL, 1000);
    photos(&place.path("more/test"), &more, 2000);
    for verb in [
        "evaluate run",
        "evaluate run --split all",
        "compare run run@last",
    ] {
        place.run(&format!("{verb} --data more")).fails(
            1,
            &[
                "1 class of the images is not the model's: \"zebra\", with 3 images",
                "hint: --skip-extra-classes leaves them out",
            ],
        );
        let said = place.ok(&format!("{verb} --data more --skip-extra-classes"));
        let told = "left out 3 images of classes that the model does not know: zebra";
        assert!(said.err.contains(told), "{}", said.err);
    }
    // To train on, they are an error as before.
    place.run(&format!("train --data more {QUICK}")).fails(
        1,
        &["more/test/zebra: class `zebra` is unknown to the training set"],
    );

    // What is in train alone is not measured.
    photos(&place.path("less/train"), &more, 1000);
    photos(&place.path("less/test"), &CAT_DOG_OWL, 2000);
    let found = place.json("evaluate run --data less --json");
    assert_eq!(found["images"], 30);
    assert_eq!(found["images_of"]["left_out"], json!({}));
    place
        .run("evaluate run --data less --split train")
        .fails(1, &["\"zebra\", with 3 images"]);

    // Of tables and archives the same holds.
    let mut rows = "path,label,split\n".to_owned();
    for (set, class) in [
        ("train", "cat"),
        ("train", "dog"),
        ("test", "cat"),
        ("test", "zebra"),
    ] {
        rows += &format!("more/test/{class}/00.png,{class},{set}\n");
        rows += &format!("more/test/{class}/01.png,{class},{set}\n");
    }
    fs::write(place.path("list.csv"), rows).unwrap();
    let found = place.json("evaluate run --data list.csv --skip-extra-classes --json");
    assert_eq!(found["images"], 2);
    place.run(&format!("train --data list.csv {QUICK}")).fails(
        1,
        &["list.csv: line 8, column 2: class `zebra` is unknown to the training images"],
    );

    let x = npy("|u1", "4, 12, 12", &[7; 4 * 144]);
    let y = |names: &[u8; 12]| npy("|S3", "4,", names);
    let numbers = |labels: &[u8; 4]| npy("|u1", "4,", labels);
    for (train, test) in [
        (y(b"catcatdogdog"), y(b"catdogowlowl")),
        (numbers(&[0, 0, 1, 1]), numbers(&[0, 1, 2, 2])),
    ] {
        let members: [(&str, &[u8]); 4] = [
            ("x_train.npy", &x),
            ("y_train.npy", &train),
            ("x_test.npy", &x),
            ("y_test.npy", &test),
        ];
        fs::write(place.path("set.npz"), archive(&members)).unwrap();
        fs::write(place.path("classes.txt"), "cat\ndog\nowl\n").unwrap();
        let found = place.json("evaluate run --data set.npz --json");
        assert_eq!(
            (&found["split"], &found["images"]),
            (&json!("test"), &json!(4))
        );
    }
}

#[test]
fn cells_beyond_the_header_are_not_cut_off() {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    table(&place, "some.csv", "path,label", |class, number| {
        let label = if number == 3 { "cat, big" } else { class };
        format!("{},{label}", file(class, number))
    });
    table(&place, "all.csv", "path,label", |class, number| {
        format!("{},black, {class}", file(class, number))
    });
    table(
        &place,
        "plain.csv",
        &format!("{},cat", file("cat", 9)),
        |class, number| format!("{},{class},train", file(class, number)),
    );
    for (data, line) in [("some.csv", 5), ("all.csv", 2), ("plain.csv", 2)] {
        let found =
            format!("{data}: line {line}, column 3: there are 3 cells here, 2 in the first row");
        for verb in ["train --epochs 1 --data", "data info"] {
            place.run(&format!("{verb} {data}")).fails(
                1,
                &[&found, "a cell with `,` in it stands in double quotes"],
            );
        }
    }
    // In quotes they are labels, and empty cells at the end are none.
    table(&place, "good.csv", "path,label", |class, number| {
        format!("{},\"black, {class}\",,", file(class, number))
    });
    let info = place.json("data info good.csv --json");
    assert_eq!(
        info["classes"],
        json!(["black, cat", "black, dog", "black, owl"])
    );
}

#[test]
fn the_column_with_the_files_is_that_of_the_images() {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    let numbered = |class: &str, number: u32| format!("{number},{},{class}", file(class, number));
    let named =
        |class: &str, number: u32| format!("{number:02}.png,{},{class}", file(class, number));
    for header in [
        "image,path,label",
        "id,path,label",
        "id,where,label",
        "image,img_path,species",
    ] {
        table(&place, "list.csv", header, numbered);
        let info = place.json("data info list.csv --json");
        assert_eq!(info["splits"]["train"]["images"], 24, "{header}");
        assert_eq!(info["classes"], json!(["cat", "dog", "owl"]), "{header}");
    }
    for header in [
        "filename,path,label",
        "file,filepath,label",
        "name,file_location,label",
    ] {
        table(&place, "list.csv", header, named);
        let info = place.json("data info list.csv --json");
        assert_eq!(info["splits"]["train"]["images"], 24, "{header}");
    }
    // Where no column has any, the surest name tells.
    table(
        &place,
        "list.csv",
        "filename,path,label",
        |class, number| format!("{number:02}.png,gone/{class}/{number:02}.png,{class}"),
    );
    place
        .run("data info list.csv")
        .fails(1, &["24 of its 24 images are missing", "gone/cat/00.png"]);
}

#[test]
fn tables_beside_images_are_named() {
    let place = Place::new();
    photos(&place.path("flat"), &[("images", 24)], 0);
    let rows = |prefix: &str| {
        let rows = (0..24).map(|number| {
            let class = ["cat", "dog"][number % 2];
            format!("{prefix}{number:02}.png,{class}\n")
        });
        format!("image,label\n{}", rows.collect::<String>())
    };
    fs::write(place.path("flat/train.csv"), rows("")).unwrap();
    let said = place.ok(&format!("train --data flat {QUICK}"));
    let told = "not used: the table flat/train.csv beside the images; if it says what they show, name it as the data";
    assert!(said.err.contains(told), "{}", said.err);
    // And the table's images are found.
    for data in ["flat/train.csv", "one/flat/train.csv"] {
        if data.starts_with("one") {
            fs::create_dir(place.path("one")).unwrap();
            fs::rename(place.path("flat"), place.path("one/flat")).unwrap();
        }
        let folder = Path::new(data).with_file_name("images");
        place.run(&format!("train --data {data} {QUICK}")).fails(
            1,
            &[
                "24 of its 24 images are missing; the first is",
                &format!(
                    "hint: there is such a file in {}: move the table there",
                    folder.display()
                ),
            ],
        );
    }
    fs::rename(
        place.path("one/flat/train.csv"),
        place.path("one/flat/images/train.csv"),
    )
    .unwrap();
    place.ok(&format!("train --data one/flat/images/train.csv {QUICK}"));

    // Tables of other splits beside one are told, unless it has splits of its own.
    for name in ["train.csv", "val.csv", "Test.tsv"] {
        fs::write(place.path(name), rows("one/flat/images/")).unwrap();
    }
    let said = place.ok(&format!("train --data train.csv {QUICK}"));
    let told = "not used: `Test.tsv`, `val.csv` beside it; what one table lists in a column `split` is read together";
    assert!(said.err.contains(told), "{}", said.err);
    let split = rows("one/flat/images/")
        .lines()
        .enumerate()
        .map(|(at, row)| format!("{row},{}\n", ["train", "train", "val"][at % 3]))
        .collect::<String>()
        .replacen("label,train", "label,split", 1);
    fs::write(place.path("train.csv"), split).unwrap();
    let info = place.json("data info train.csv --json");
    assert!(!info["notes"].to_string().contains("val.csv"), "{info}");
}

#[test]
fn words_for_no_label_are_no_classes() {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    for word in ["NaN", "nan", "null", "NULL", "N/A", "<NA>", "?"] {
        table(&place, "list.csv", "path,label", |class, number| {
            let label = if number == 5 { word } else { class };
            format!("{},{label}", file(class, number))
        });
        let found =
            format!("list.csv: line 7, column 2: there is no label: the cell says `{word}`");
        place
            .run(&format!("train --data list.csv {QUICK}"))
            .fails(1, &[&found]);
    }
    for word in ["None", "NA", "-1"] {
        table(&place, "list.csv", "path,label", |class, number| {
            let label = if number == 5 { word } else { class };
            format!("{},{label}", file(class, number))
        });
        let info = place.json("data info list.csv --json");
        let told = format!("`{word}` is taken for a class like any other");
        assert!(info["notes"].to_string().contains(&told), "{info}");
    }
    let x = npy("|u1", "4, 12, 12", &[7; 4 * 144]);
    let y = npy("|S3", "4,", b"catcatnandog");
    let members: [(&str, &[u8]); 2] = [("x_train.npy", &x), ("y_train.npy", &y)];
    fs::write(place.path("set.npz"), archive(&members)).unwrap();
    place.run("data info set.npz").fails(
        1,
        &["array `y_train`: there is no label at index 2: it is `nan`"],
    );
}

#[test]
fn a_cell_that_names_no_file_is_told_by_its_place() {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    let long = "x".repeat(5000);
    for (cell, found) in [
        (
            "photos/cat",
            "photos/cat: it is a folder, not a file".to_owned(),
        ),
        ("photos/\0.png", "list.csv: line 4, column 1: ".to_owned()),
        (long.as_str(), "File name too long".to_owned()),
    ] {
        table(&place, "list.csv", "path,label", |class, number| {
            let path = if class == "cat" && number == 2 {
                cell.to_owned()
            } else {
                file(class, number)
            };
            format!("{path},{class}")
        });
        place
            .run(&format!("train --data list.csv {QUICK}"))
            .fails(1, &["list.csv: line 4, column 1: ", &found]);
    }
}

#[test]
fn rows_of_pixels_and_numbers_of_half_precision_are_images() {
    let place = Place::new();
    let labels: Vec<u8> = (0..40).map(|at| at % 2).collect();
    let y = npy("|u1", "40,", &labels);
    let write = |x: &[u8], name: &str| {
        let members: [(&str, &[u8]); 2] = [(&format!("{name}.npy"), x), ("y_train.npy", &y)];
        fs::write(place.path("set.npz"), archive(&members)).unwrap();
    };
    let pixels =
        |count: usize| -> Vec<u8> { (0..40 * count).map(|at| (at * 37 % 251) as u8).collect() };
    // 0, 0.5 and 1 of 16 bits.
    let halves: Vec<u8> = (0..40 * 144)
        .flat_map(|at| [0u16, 0x3800, 0x3c00][at % 3].to_le_bytes())
        .collect();
    write(&npy("<f2", "40, 12, 12", &halves), "x_train");
    let info = place.json("data info set.npz --json");
    assert_eq!(info["splits"]["train"]["images"], 40);
    assert!(info["notes"].to_string().contains("from 0 to 1"), "{info}");
    place.ok(&format!("train --data set.npz --name half {QUICK}"));

    write(&npy("|u1", "40, 784", &pixels(784)), "x_train");
    let info = place.json("data info set.npz --json");
    assert_eq!(info["splits"]["train"]["images"], 40);
    let told = "the rows of array `x_train` [40, 784] were read as grey images of 28x28";
    assert!(info["notes"].to_string().contains(told), "{info}");
    let said = place.ok(&format!("train --data set.npz --name flat {QUICK}"));
    assert!(said.err.contains(told), "{}", said.err);
    // The same images as if they had been written so.
    write(&npy("|u1", "40, 28, 28", &pixels(784)), "x_train");
    place.ok(&format!("train --data set.npz --name square {QUICK}"));
    let best = |run: &str| place.json(&format!("show {run} --json"))["best"]["digest"].clone();
    assert_eq!(best("flat"), best("square"));

    for (count, words) in [
        (
            3072,
            "reshape them to (-1, 3, 32, 32) where the channels come one after another",
        ),
        (100 * 3, "reshape them to (-1, 3, 10, 10)"),
        (90, "reshape its rows to (-1, height, width)"),
        // Four features are no image.
        (4, "reshape its rows to (-1, height, width)"),
    ] {
        write(
            &npy("|u1", &format!("40, {count}"), &pixels(count)),
            "x_train",
        );
        place
            .run("data info set.npz")
            .fails(1, &["array `x_train`: its shape [40, ", words]);
    }
    // What is not called as images is not taken for them.
    write(&npy("|u1", "40, 784", &pixels(784)), "features");
    place.run("data info set.npz").fails(1, &["`features`"]);
    write(&npy("<f16", "40, 28, 28", &[0; 40 * 784 * 16]), "x_train");
    place.run("data info set.npz").fails(
        1,
        &["of type `<f16`; numbers of up to 64 bits, truth values and text are read"],
    );
}

#[test]
fn names_in_two_forms_of_unicode_are_explained() {
    let place = Place::new();
    let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
    photos(
        &place.path("composed"),
        &[(composed, 10), ("\u{d55c}", 10)],
        0,
    );
    photos(
        &place.path("apart"),
        &[(apart, 4), ("\u{1112}\u{1161}\u{11ab}", 4)],
        1000,
    );
    place.ok(&format!("train --data composed --name run {QUICK}"));
    let hint = "hint: names that look alike are written in two forms of Unicode";
    place.run("evaluate run --data apart").fails(
        1,
        &[
            "none of the images' classes",
            hint,
            "convmv -r -f utf8 -t utf8 --nfc --notest",
        ],
    );
    photos(&place.path("both/train"), &[(composed, 10), ("tea", 10)], 0);
    photos(&place.path("both/test"), &[(apart, 10), ("tea", 10)], 1000);
    place
        .run(&format!("train --data both {QUICK}"))
        .fails(1, &["is unknown to the training set", hint]);
    let rows = format!(
        "path,label,split\nboth/train/{composed}/00.png,{composed},train\nboth/train/tea/00.png,tea,train\n\
         both/train/{composed}/01.png,{apart},val\n"
    );
    fs::write(place.path("list.csv"), rows).unwrap();
    place
        .run(&format!("train --data list.csv {QUICK}"))
        .fails(1, &["line 4, column 2", "names that look alike"]);
    // Other names are other names.
    photos(&place.path("other"), &[("th\u{e9}", 4)], 1000);
    let said = place.run("evaluate run --data other");
    assert!(!said.err.contains("look alike"), "{}", said.err);
}

#[test]
fn held_out_splits_without_training_images_are_both_named() {
    let place = Place::new();
    photos(&place.path("held/val"), &CAT_DOG_OWL, 0);
    photos(&place.path("held/test"), &CAT_DOG_OWL, 1000);
    place.run(&format!("train --data held {QUICK}")).fails(
        1,
        &["held: there are val and test images alone, and none to train on"],
    );
}

#[test]
fn that_a_network_does_not_fit_shows_before_the_images_are_read() {
    let place = Place::new();
    photos(&place.path("photos"), &CAT_DOG_OWL, 0);
    // One that breaks off after its header: whoever reads all images comes upon it.
    let broken = place.path("photos/cat/03.png");
    let whole = fs::read(&broken).unwrap();
    fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let said = place.run("train --data photos --epochs 1 --batch-size 8");
    said.fails(1, &["cannot decode photos/cat/03.png"]);
    let said = place.run("train --data photos --epochs 1 --batch-size 8 --image-size 4096");
    said.fails(1, &[]);
    // By the network's layers, or by the memory there is.
    let fits = said.err.contains("does not fit images of 4096x4096");
    assert!(
        fits || said.err.contains("GB for batches of 8"),
        "{}",
        said.err
    );
    place
        .run("train --data photos --epochs 1 --batch-size 200")
        .fails(2, &["the batch size 200 is larger than the training set"]);
}
