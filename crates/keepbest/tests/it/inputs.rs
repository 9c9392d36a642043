//! Data as it lies about: folders in other layouts, tables of other programs, files that are none, numbers that are too large.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::corpus::targets::archive;
use crate::support::{Place, Said, write_idx};

/// A run of a moment.
const QUICK: &str = "--model lenet5 --epochs 1 --batch-size 8";

/// An image that is like no other.
fn drawn(seed: u32, side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let at = |k: u32| (seed * 37 + x * (3 + k) + y * (7 + k * 2)) as u8;
        Rgb([at(0), at(1), at(2)])
    })
}

/// `count` images in a folder, 16x16 and in colour, of the kind that the extension tells.
fn fill(folder: &Path, count: u32, extension: &str) {
    fs::create_dir_all(folder).unwrap();
    let seed = folder.to_str().unwrap().bytes().map(u32::from).sum::<u32>();
    let format = match extension {
        "jfif" => ImageFormat::Jpeg,
        other => ImageFormat::from_extension(other).unwrap(),
    };
    for number in 0..count {
        let image = DynamicImage::from(drawn(seed + number * 101, 16));
        let image = if extension == "pgm" {
            image.into_luma8().into()
        } else {
            image
        };
        let path = folder.join(format!("{number:02}.{extension}"));
        image.save_with_format(path, format).unwrap();
    }
}

/// Class folders `cat`, `cow` and `dog`.
fn classes(folder: &Path, count: u32) {
    for class in ["cat", "cow", "dog"] {
        fill(&folder.join(class), count, "png");
    }
}

/// The number of images that `data info` finds in a split.
fn images(info: &Value, split: &str) -> u64 {
    info["splits"][split]["images"].as_u64().unwrap_or(0)
}

fn notes(info: &Value) -> String {
    info["notes"].to_string()
}

/// Runs the program, which must end by itself.
fn ends(place: &Place, args: &str) -> Said {
    ends_by_itself(&mut place.command(args), args)
}

fn ends_by_itself(command: &mut Command, what: &str) -> Said {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("it does not end: {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn splits_by_any_usual_name_and_what_beside_them_is_not_used() {
    let place = Place::new();
    let folder = place.path("photos");
    classes(&folder.join("Train"), 4);
    classes(&folder.join("Validation"), 2);
    classes(&folder.join("Test"), 3);
    let info = place.json("data info photos --json");
    let counts = ["train", "val", "test"].map(|split| images(&info, split));
    assert_eq!(counts, [12, 6, 9]);
    let read = "read `Train` as train, `Validation` as val, `Test` as test";
    assert!(notes(&info).contains(read), "{info}");

    for (name, split) in [
        ("dev", "val"),
        ("EVAL", "val"),
        ("validate", "val"),
        ("valid_set", "val"),
        ("holdout", "test"),
        ("Testing", "test"),
    ] {
        let folder = place.path(&format!("with-{name}"));
        classes(&folder.join("train"), 4);
        classes(&folder.join(name), 2);
        let info = place.json(&format!("data info with-{name} --json"));
        assert_eq!(
            (images(&info, "train"), images(&info, split)),
            (12, 6),
            "{name}"
        );
    }

    classes(&folder.join("more"), 5);
    fill(&folder, 2, "png");
    let said = place.ok(&format!("train --data photos {QUICK}"));
    for told in [
        "left out the folder `more` beside `Train`, with 15 images in it",
        "left out 2 images outside the class folders",
    ] {
        assert!(said.err.contains(told), "{}", said.err);
    }
}

#[test]
fn classes_of_folders_and_data_deep_in_folders() {
    let place = Place::new();
    for class in ["cat", "dog"] {
        fill(&place.path("nested").join(class).join("first"), 6, "png");
        fill(
            &place.path("nested").join(class).join("second/third"),
            5,
            "png",
        );
    }
    fill(&place.path("nested/cat"), 3, "png");
    let info = place.json("data info nested --json");
    assert_eq!(
        info["splits"]["train"]["per_class"],
        serde_json::json!([14, 11])
    );
    let told = "22 images in folders inside class folders count for the class";
    assert!(notes(&info).contains(told), "{info}");
    place.ok(&format!("train --data nested {QUICK}"));

    classes(&place.path("download/archive/dataset/train"), 4);
    classes(&place.path("download/archive/dataset/val"), 2);
    // What a system leaves behind is no class.
    for left in [
        "__MACOSX",
        "download/@eaDir",
        "download/archive/dataset/train/@eaDir",
    ] {
        let name = if left == "__MACOSX" {
            "download/__MACOSX"
        } else {
            left
        };
        fill(&place.path(name), 1, "png");
    }
    fs::create_dir(place.path("download/archive/dataset/train/lost+found")).unwrap();
    fs::write(
        place.path("download/archive/dataset/train/cat/Thumbs.db"),
        "x",
    )
    .unwrap();
    let info = place.json("data info download --json");
    assert_eq!((images(&info, "train"), images(&info, "val")), (12, 6));
    assert_eq!(info["classes"], serde_json::json!(["cat", "cow", "dog"]));
    let told = notes(&info);
    assert!(
        told.contains("the images are those in download/archive/dataset"),
        "{told}"
    );
    assert!(
        told.contains("left out 4 folders that a system left behind"),
        "{told}"
    );
    assert!(!told.contains(".db"), "{told}");

    // As torchvision unpacks MNIST.
    write_idx(&place.path("mnist/MNIST/raw"), 3, 10, 5);
    let info = place.json("data info mnist --json");
    assert_eq!((images(&info, "train"), images(&info, "test")), (30, 15));

    // What is no data set is described.
    fill(&place.path("flat/train"), 4, "png");
    fill(&place.path("flat/test"), 1, "png");
    place.run("data info flat").fails(
        1,
        &[
            "found 2 folders (test: 1 image, train: 4 images)",
            "train/<class>/",
        ],
    );
    // A class without images says what is there instead.
    classes(&place.path("phone"), 2);
    fs::create_dir(place.path("phone/heic")).unwrap();
    fs::write(place.path("phone/heic/1.heic"), "x").unwrap();
    place
        .run("data info phone")
        .fails(1, &["class `heic` has no images (found 1 .heic)"]);
}

#[test]
fn links_are_followed_alike_and_not_in_circles() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    classes(&place.path("real"), 8);
    fs::create_dir(place.path("links")).unwrap();
    for class in ["cat", "cow", "dog"] {
        symlink(
            place.path("real").join(class),
            place.path("links").join(class),
        )
        .unwrap();
    }
    symlink("../../real", place.path("real/cat/around")).unwrap();
    symlink("..", place.path("real/dog/up")).unwrap();
    let info = ends(&place, "data info links --json");
    let info: Value = serde_json::from_str(&info.out).unwrap();
    assert_eq!(images(&info, "train"), 24);
    let told = notes(&info);
    assert!(
        told.contains("left out 2 links to a folder above (links/cat/around, ...)"),
        "{told}"
    );

    place.ok(&format!("train --data links --name run {QUICK}"));
    for folder in ["links", "real", "links/cat"] {
        let said = ends(&place, &format!("predict run {folder}"));
        assert_eq!(said.code, 0, "{}", said.err);
        let expected = if folder == "links/cat" { 8 } else { 24 };
        assert_eq!(said.out.lines().count(), expected, "{}", said.out);
    }
}

#[test]
fn gif_pnm_and_jfif_files_are_images() {
    let place = Place::new();
    for kind in ["gif", "ppm", "jfif"] {
        let folder = place.path(kind);
        for class in ["cat", "dog"] {
            fill(&folder.join(class), 6, kind);
        }
        place.ok(&format!("train --data {kind} --name {kind} {QUICK}"));
        let said = place.ok(&format!("predict {kind} {kind}"));
        assert_eq!(said.out.lines().count(), 12);
    }
    for class in ["cat", "dog"] {
        fill(&place.path("pgm").join(class), 3, "pgm");
    }
    let info = place.json("data info pgm --json");
    assert_eq!(info["splits"]["train"]["shapes"][0]["channels"], 1);
}

/// Writes a table beside the images of `photos`, each row by `row(path, class, number)`.
fn table(place: &Place, name: &str, header: &str, row: impl Fn(&str, &str, u32) -> String) {
    let mut text = header.to_owned();
    for class in ["cat", "cow", "dog"] {
        for number in 0..8 {
            text += &row(&format!("photos/{class}/{number:02}.png"), class, number);
        }
    }
    fs::write(place.path(name), text).unwrap();
}

#[test]
fn tables_of_other_programs() {
    let place = Place::new();
    classes(&place.path("photos"), 8);
    let check = |name: &str, counts: [u64; 3]| {
        let info = place.json(&format!("data info {name} --json"));
        let found = ["train", "val", "test"].map(|split| images(&info, split));
        assert_eq!(found, counts, "{name}");
        assert_eq!(
            info["classes"],
            serde_json::json!(["cat", "cow", "dog"]),
            "{name}"
        );
    };
    let comma = |path: &str, class: &str, _: u32| format!("{path},{class}\n");
    for header in [
        "filepath,label",
        "img,species",
        "a picture,what it shows",
        "fname,y",
    ] {
        table(&place, "list.csv", &format!("{header}\n"), comma);
        check("list.csv", [24, 0, 0]);
    }
    table(&place, "list.csv", "", comma);
    check("list.csv", [24, 0, 0]);
    table(
        &place,
        "list.csv",
        "what it shows,where,x\n",
        |path, class, number| format!("{class},{path},{}\n", ["train", "dev"][number as usize / 6]),
    );
    check("list.csv", [18, 6, 0]);
    for delimiter in [";", "\t", "|"] {
        let header = ["path", "label"].join(delimiter) + "\n";
        let row = |path: &str, class: &str, _: u32| format!("{path}{delimiter}{class}\n");
        table(&place, "list.csv", &header, row);
        check("list.csv", [24, 0, 0]);
        table(&place, "list.csv", "", row);
        check("list.csv", [24, 0, 0]);
    }
    table(&place, "list.tsv", "path,label\n", comma);
    check("list.tsv", [24, 0, 0]);
    table(&place, "list.csv", "path,label\r\n", |path, class, _| {
        format!("{},{class}\r\n", path.replace('/', "\\"))
    });
    check("list.csv", [24, 0, 0]);

    let text = fs::read_to_string(place.path("list.tsv")).unwrap();
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [
        [&[0xff, 0xfe], &little[..]].concat(),
        [&[0xfe, 0xff], &big[..]].concat(),
        little,
        big,
        [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
    ] {
        fs::write(place.path("list.csv"), bytes).unwrap();
        check("list.csv", [24, 0, 0]);
    }

    for (header, yes, no) in [
        ("name,label,is_valid", "True", "False"),
        ("name,label,isvalid", "1", "0"),
        ("name,isValid,label", "", ""),
    ] {
        table(
            &place,
            "list.csv",
            &format!("{header}\n"),
            |path, class, number| {
                let mark = if number < 2 { yes } else { no };
                if yes.is_empty() {
                    format!("{path},{},{class}\n", number < 2)
                } else {
                    format!("{path},{class},{mark}\n")
                }
            },
        );
        check("list.csv", [18, 6, 0]);
    }
}

#[test]
fn tables_that_are_wrong_say_where() {
    let place = Place::new();
    classes(&place.path("photos"), 8);
    let wrong = |header: &str, row: &dyn Fn(&str, &str, u32) -> String, words: &[&str]| {
        table(&place, "list.csv", &format!("{header}\n"), row);
        let said = place.run(&format!("train --data list.csv {QUICK}"));
        said.fails(1, words);
        assert!(said.err.contains("list.csv"), "{}", said.err);
        assert!(!place.path("runs").exists());
    };
    wrong(
        "path,label",
        &|path, class, number| match (class, number) {
            ("cow", 3) => format!("{path},cat|dog\n"),
            _ => format!("{path},{class}\n"),
        },
        &["line 13, column 2: several labels, `cat|dog`"],
    );
    // Joined everywhere, in changing places.
    wrong(
        "path,label",
        &|path, class, number| {
            let other = ["cow", "dog", "cat"][number as usize % 3];
            format!("{path},\"{class}, {other}\"\n")
        },
        &["line 2, column 2: several labels"],
    );
    wrong(
        "filename,cat,cow,dog",
        &|path, class, _| {
            let mark = |name: &str| u8::from(name == class);
            format!("{path},{},{},{}\n", mark("cat"), mark("cow"), mark("dog"))
        },
        &["line 1: the columns cat, cow, dog hold yes and no"],
    );
    wrong(
        "path,colour,kind",
        &|path, class, number| format!("{path},{number},{class}\n"),
        &["line 1: ", "which column is the label: colour, kind"],
    );
    // One image with two labels, under two spellings of its path.
    wrong(
        "path,label",
        &|path, class, number| match (class, number) {
            ("dog", 7) => format!("{path},{class}\n./photos/cat/00.png,dog\n"),
            _ => format!("{path},{class}\n"),
        },
        &[
            "line 26, column 2: ",
            "photos/cat/00.png is `dog` here and `cat` in line 2",
        ],
    );
    wrong(
        "path,label",
        &|path, class, number| match number {
            6.. => format!("photos/none/{class}{number}.png,{class}\n"),
            _ => format!("{path},{class}\n"),
        },
        &[
            "6 of its 24 images are missing",
            "photos/none/cat6.png (line 8)",
        ],
    );
    wrong(
        "path,label,split",
        &|path, class, number| {
            format!(
                "{path},{class},{}\n",
                ["train", "other"][number as usize / 7]
            )
        },
        &["line 9, column 3: split `other` is none of"],
    );
    wrong(
        "path,label,is_valid",
        &|path, class, number| format!("{path},{class},{}\n", ["0", "1", "?"][number as usize / 3]),
        &["line 8, column 3: `?` is neither true nor false"],
    );
    fs::write(
        place.path("list.csv"),
        b"path,label\nphotos/cat/00.png,caf\xe9\n",
    )
    .unwrap();
    place
        .run("data info list.csv")
        .fails(1, &["line 2: the text is neither UTF-8 nor UTF-16"]);

    // The first row's file is missing: it is no header.
    table(&place, "list.csv", "", |path, class, number| match number {
        0 => format!("photos/none-{class}.png,{class}\n"),
        _ => format!("{path},{class}\n"),
    });
    place
        .run("data info list.csv")
        .fails(1, &["3 of its 24 images are missing"]);
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    let place = Place::new();
    classes(&place.path("photos"), 8);
    place.ok(&format!("train --data photos --name run {QUICK}"));
    let pipe = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    let _sockets: Vec<UnixListener> = ["socket.png", "socket.csv", "socket.npz"]
        .map(|name| UnixListener::bind(place.path(name)).unwrap())
        .into();
    for extension in ["png", "csv", "npz"] {
        pipe(&place.path(&format!("pipe.{extension}")));
        symlink("/dev/zero", place.path(&format!("device.{extension}"))).unwrap();
        for (name, kind) in [
            ("pipe", "a named pipe"),
            ("device", "a device"),
            ("socket", "a socket"),
        ] {
            let file = format!("{name}.{extension}");
            let refused = format!("{file}: it is {kind}, not a file");
            if extension == "png" {
                ends(&place, &format!("predict run {file}")).fails(1, &[&refused]);
                let class = place.path("photos/cat").join(&file);
                symlink(place.path(&file), &class).unwrap();
                ends(&place, &format!("train --data photos {QUICK}")).fails(1, &[&refused]);
                let said = ends(
                    &place,
                    &format!("train --data photos --skip-corrupt {QUICK}"),
                );
                assert_eq!(said.code, 0, "{}", said.err);
                assert!(
                    said.err.contains("left out 1 image that cannot be read"),
                    "{}",
                    said.err
                );
                fs::remove_file(class).unwrap();
                fs::write(place.path("list.csv"), format!("{file},cat\n")).unwrap();
                ends(&place, "data info list.csv").fails(1, &[&refused]);
            } else {
                ends(&place, &format!("train --data {file}")).fails(1, &[&refused]);
            }
        }
    }
    // A folder where the table says is an image.
    fs::write(
        place.path("list.csv"),
        "photos/cat/00.png,cat\nphotos/cat,cat\n",
    )
    .unwrap();
    ends(&place, "data info list.csv").fails(1, &["photos/cat: it is a folder, not a file"]);

    for (file, folder) in [
        ("train-images-idx3-ubyte", "idx"),
        ("t10k-labels-idx1-ubyte", "idx-test"),
        ("classes.txt", "idx-names"),
    ] {
        write_idx(&place.path(folder), 3, 10, 5);
        let path = place.path(folder).join(file);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        pipe(&path);
        ends(&place, &format!("train --data {folder}"))
            .fails(1, &[file, "it is a named pipe, not a file"]);
    }
    ends(&place, "predict run idx/train-images-idx3-ubyte#3")
        .fails(1, &["it is a named pipe, not a file"]);
    let runs = fs::read_dir(place.path("runs")).unwrap().count();
    assert_eq!(runs, 4, "only what was trained is there");
}

/// A NumPy array as it lies in an archive.
fn npy(dtype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((header.len() as u16).to_le_bytes());
    array.extend(header.as_bytes());
    array.extend(bytes);
    array
}

#[test]
fn numbers_are_checked_before_memory_is_taken() {
    let place = Place::new();
    // Whoever takes a gigabyte fails.
    let bounded = |args: &str| {
        let program = env!("CARGO_BIN_EXE_keepbest");
        let script = format!("ulimit -v 1500000; exec {program} {args}");
        let mut shell = Command::new("bash");
        shell.current_dir(place.path(".")).args(["-c", &script]);
        ends_by_itself(&mut shell, args)
    };
    let label = |largest: u32| -> Vec<u8> {
        let labels = (0..20u32).map(|i| if i == 7 { largest } else { i % 3 });
        labels.flat_map(u32::to_le_bytes).collect()
    };
    let pixels = npy("|u1", "20, 8, 8", &[9; 20 * 64]);
    let write = |name: &str, members: &[(&str, &[u8])]| {
        fs::write(place.path(name), archive(members)).unwrap();
    };
    let far = npy("<u4", "20,", &label(999_999));
    write(
        "far.npz",
        &[("x_train.npy", &pixels), ("y_train.npy", &far)],
    );
    bounded("train --data far.npz").fails(
        1,
        &["far.npz: 1000000 classes, for the largest label is 999999; the limit is 65536"],
    );
    let huge = npy("|u1", "100000, 200, 200", &[9; 500]);
    let near = npy("<u4", "20,", &label(2));
    write(
        "huge.npz",
        &[("x_train.npy", &huge), ("y_train.npy", &near)],
    );
    bounded("train --data huge.npz").fails(
        1,
        &["huge.npz: 4000000000 bytes unpacked in array `x_train`; the limit is 268435456"],
    );

    let mut rows = "path,label\n".to_owned();
    for number in 0..100_000 {
        rows += &format!("{number}.png,class{number}\n");
    }
    fs::write(place.path("many.csv"), rows).unwrap();
    bounded("train --data many.csv").fails(1, &["many.csv: 100000 classes; the limit is 65536"]);

    // A line of a million pixels is an image like any other.
    classes(&place.path("photos"), 8);
    for (name, size) in [("wide.png", (1_000_000, 1)), ("high.png", (1, 1_000_000))] {
        let line = GrayImage::from_fn(size.0, size.1, |x, y| Luma([(x + y) as u8]));
        line.save(place.path("photos/cat").join(name)).unwrap();
    }
    let said = bounded(&format!(
        "train --data photos --image-size 16 --threads 2 {QUICK}"
    ));
    assert_eq!(said.code, 0, "{}", said.err);

    // A file of 4 TiB, all of it hole.
    let hole = fs::File::create(place.path("photos/dog/hole.png")).unwrap();
    hole.set_len(4 << 40).unwrap();
    bounded("train --data photos --skip-corrupt --epochs 0").fails(2, &["--epochs"]);
    let said = bounded(&format!(
        "train --data photos --image-size 16 --threads 2 --skip-corrupt {QUICK}"
    ));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err
            .contains("hole.png: 4398046511104 bytes; the limit is"),
        "{}",
        said.err
    );
}

#[test]
fn classes_without_images_are_told_before_the_first_step() {
    let place = Place::new();
    classes(&place.path("photos"), 12);
    for number in 0..12 {
        fs::write(
            place.path("photos/cow").join(format!("{number:02}.png")),
            "?",
        )
        .unwrap();
    }
    let told = |args: &str, words: &str| {
        let said = place.ok(args);
        let (note, first) = (said.err.find(words), said.err.find("train/loss"));
        assert!(note.is_some(), "{words}\n{}", said.err);
        if let Some(first) = first {
            assert!(note < Some(first), "{}", said.err);
        }
    };
    told(
        &format!("train --data photos --skip-corrupt {QUICK}"),
        "train has no images of class `cow`: it cannot be learned",
    );

    classes(&place.path("own/train"), 6);
    classes(&place.path("own/test"), 3);
    for class in ["cat", "dog"] {
        fill(&place.path("own/val").join(class), 3, "png");
    }
    told(
        &format!("train --data own {QUICK}"),
        "val has no images of class `cow`: its metrics there say nothing",
    );
    for monitor in ["val/roc_auc_ovr", "val/accuracy+val/roc_auc_ovr"] {
        place
            .run(&format!(
                "train --data own {QUICK} --name auc --mode max --monitor {monitor}"
            ))
            .fails(
                1,
                &["val/roc_auc_ovr is undefined on val, which has no images of class `cow`"],
            );
        assert!(!place.path("runs/auc").exists());
    }
    place
        .run(&format!(
            "train --data own {QUICK} --name auc --constraint val/roc_auc_ovr>=0.5"
        ))
        .fails(1, &["val/roc_auc_ovr is undefined on val"]);

    fill(&place.path("one/cat"), 20, "png");
    told(
        &format!("train --data one {QUICK}"),
        "all images are of one class, `cat`",
    );
}

#[test]
fn flip_is_decided_by_what_is_seen_and_not_by_the_file() {
    let place = Place::new();
    let digits: Vec<String> = (0..3).map(|digit| digit.to_string()).collect();
    for digit in &digits {
        fill(&place.path("digits").join(digit), 8, "png");
    }
    let mut rows = "path,label\n".to_owned();
    for digit in &digits {
        for number in 0..8 {
            rows += &format!("digits/{digit}/{number:02}.png,{digit}\n");
        }
    }
    fs::write(place.path("digits.csv"), rows).unwrap();
    write_idx(&place.path("idx"), 3, 10, 5);
    for data in ["digits", "digits.csv", "idx"] {
        let said = place.ok(&format!("train --data {data} --name {data} {QUICK}"));
        assert!(said.err.contains("flip is off: "), "{}", said.err);
        let settings = fs::read_to_string(place.path(&format!("runs/{data}/run.toml"))).unwrap();
        assert!(settings.contains("augment = \"shift:1\""), "{settings}");
    }
    // The same file formats with names that tell nothing.
    classes(&place.path("photos"), 8);
    fs::write(place.path("idx/classes.txt"), "cat\ncow\ndog\n").unwrap();
    for data in ["photos", "idx"] {
        let said = place.ok(&format!("train --data {data} --name {data}-2 {QUICK}"));
        assert!(said.err.contains("flip is on: "), "{}", said.err);
        assert!(said.err.contains("--augment shift:1"), "{}", said.err);
        let settings = fs::read_to_string(place.path(&format!("runs/{data}-2/run.toml"))).unwrap();
        assert!(settings.contains("flip"), "{settings}");
    }
    // What was said is not said again, and what is known needs no words.
    for more in [
        "--data photos --augment flip",
        "--resume photos-2 --epochs 2",
    ] {
        let model = if more.contains("resume") { "" } else { QUICK };
        let said = place.ok(&format!("train {more} {model}"));
        assert!(!said.err.contains("flip is"), "{}", said.err);
    }
    // Grey writing, whatever the classes are called.
    for (class, down) in [("omega-like", true), ("gnu", false)] {
        fs::create_dir_all(place.path("writing").join(class)).unwrap();
        for number in 0..8u32 {
            let stroke = |x: u32, y: u32| {
                let (along, across) = if down { (y, x) } else { (x, y) };
                (3..14).contains(&along) && (6 + number % 3..9 + number % 3).contains(&across)
            };
            let image =
                GrayImage::from_fn(16, 16, |x, y| Luma([if stroke(x, y) { 250 } else { 0 }]));
            let path = place
                .path("writing")
                .join(class)
                .join(format!("{number}.png"));
            image.save(path).unwrap();
        }
    }
    let said = place.ok(&format!("train --data writing {QUICK}"));
    assert!(
        said.err
            .contains("flip is off: the images look like writing"),
        "{}",
        said.err
    );
}

#[test]
fn a_size_is_chosen_from_those_found_and_said() {
    let place = Place::new();
    for (class, base) in [("cat", 20), ("dog", 30)] {
        fs::create_dir_all(place.path("mixed").join(class)).unwrap();
        for number in 0..10 {
            let (width, height) = (base + number, base + 10 - number);
            let path = place
                .path("mixed")
                .join(class)
                .join(format!("{number}.png"));
            RgbImage::from_pixel(width, height, Rgb([number as u8 * 9; 3]))
                .save(path)
                .unwrap();
        }
    }
    let said = place.ok(&format!("train --data mixed --name run {QUICK}"));
    let words = "images differ in size (30x20 to 35x35): brought to 24x24; --image-size chooses";
    assert!(said.err.contains(words), "{}", said.err);
    let settings = fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    assert!(settings.contains("image-size = \"24"), "{settings}");
    place.ok("verify run");
    place.ok("predict run mixed");
    place.ok("data preview mixed --to sheet.png");

    // One of another size among many changes nothing for the others.
    classes(&place.path("photos"), 8);
    drawn(1, 40)
        .save(place.path("photos/cat/large.png"))
        .unwrap();
    let said = place.ok(&format!("train --data photos {QUICK}"));
    assert!(said.err.contains("brought to 16x16"), "{}", said.err);
}
