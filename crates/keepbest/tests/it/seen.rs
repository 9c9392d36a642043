//! Test images that a model, or one that it comes from, has seen in training.

use std::collections::BTreeSet;

use keepbest::data::{self, PrepareOptions};
use serde_json::{Value, json};

use crate::support::{Place, photos};

const TRAIN: &str = "train --data photos --epochs 1 --batch-size 8 --lr 0.01";

fn place() -> Place {
    let place = Place::new();
    photos(&place.path("photos"), &[("cat", 30), ("dog", 30)], 0);
    place
}

/// The sources of train, val and test as a seed draws them.
fn drawn(place: &Place, seed: u64) -> [BTreeSet<String>; 3] {
    use keepbest::data::Dataset as _;
    let bundle = data::open(place.path("photos").to_str().unwrap(), None).unwrap();
    let options = PrepareOptions {
        seed,
        ..PrepareOptions::default()
    };
    let (train, val, test) = bundle.split(&options).unwrap();
    [train, val, test.unwrap()].map(|split| (0..split.len()).map(|i| split.source(i)).collect())
}

fn of_test(found: &Value) -> Value {
    let splits = found["seen_before"].as_array().unwrap();
    let test = splits.iter().find(|of| of["split"] == "test");
    test.map_or(Value::Null, |of| json!([of["trained"], of["chosen"]]))
}

#[test]
fn test_images_that_a_parent_has_seen_are_not_called_unseen() {
    let place = place();
    place.json(&format!("{TRAIN} --name one --quiet --json"));
    let (first, second) = (drawn(&place, 1), drawn(&place, 2));
    let trained = second[2].intersection(&first[0]).count();
    let chosen = second[2].intersection(&first[1]).count();
    assert!(trained > 0 && trained < second[2].len());

    let two = place.json(&format!(
        "{TRAIN} --from one --seed 2 --name two --quiet --json"
    ));
    assert_eq!(of_test(&two), json!([trained, chosen]));
    // The same split again keeps every image in its place.
    let same = place.json(&format!("{TRAIN} --from one --name same --quiet --json"));
    assert_eq!(same["seen_before"], json!([]));

    let said = place.ok(&format!("{TRAIN} --from one --seed 2 --name told"));
    let told = format!("on 6 images, not unseen: {trained} were trained on before");
    assert!(said.out.contains(&told), "{}", said.out);
    assert!(!said.out.contains("unseen image"), "{}", said.out);
    let shown = place.ok("show told").out;
    assert!(shown.contains(&told), "{shown}");
    assert_eq!(
        of_test(&place.json("show told --json")),
        json!([trained, chosen])
    );
    for words in [
        format!("or a model it comes from, was trained on {trained} of 6 test images"),
        "to split these images as it did: --seed 1 --val-fraction 0.1 --test-fraction 0.1"
            .to_owned(),
        "warning: it, or a model that it comes from, was trained on".to_owned(),
    ] {
        assert!(said.err.contains(&words), "{words}\n{}", said.err);
    }
    let said = place.ok(&format!("{TRAIN} --from one --name plain"));
    assert!(said.out.contains("on 6 unseen images"), "{}", said.out);

    // So say the report, also when it is made again, the card, and evaluate.
    let words = format!("was trained on {trained} of 6 test images");
    let page = || std::fs::read_to_string(place.path("runs/two/report.html")).unwrap();
    assert!(page().contains(&words));
    assert!(page().contains("images of which some were seen in training"));
    place.ok("report two");
    assert!(page().contains(&words));
    let card = place.ok("card two").out;
    assert!(
        card.contains(&words) && !card.contains("nothing was chosen by test"),
        "{card}"
    );
    assert!(
        place
            .ok("card same")
            .out
            .contains("nothing was chosen by test")
    );
    let said = place.ok("evaluate two");
    assert!(said.err.contains(&words), "{}", said.err);
    assert!(!place.ok("evaluate same").err.contains("trained on"));
}

#[test]
fn what_was_seen_is_handed_down() {
    let place = place();
    let small = format!("{TRAIN} --quiet --json");
    place.json(&format!("{small} --name one"));
    // The file is enough: the run may be gone.
    std::fs::copy(
        place.path("runs/one/best.safetensors"),
        place.path("one.safetensors"),
    )
    .unwrap();
    std::fs::remove_dir_all(place.path("runs/one")).unwrap();
    place.json(&format!(
        "{small} --from one.safetensors --seed 2 --name two"
    ));
    // Of another size, by a file with the weights alone, and from a model of other images in between.
    place.json(&format!(
        "{small} --from two --seed 2 --image-size 16 --save params --name three"
    ));
    photos(&place.path("others"), &[("cat", 20), ("dog", 20)], 1000);
    place.json(
        "train --data others --epochs 1 --batch-size 8 --quiet --json --from three --name four",
    );
    let five = place.json(&format!("{small} --from four --seed 5 --name five"));
    let [first, second, last] = [1, 2, 5].map(|seed| drawn(&place, seed));
    let trained: BTreeSet<&String> = first[0].union(&second[0]).collect();
    let chosen: BTreeSet<&String> = first[1].union(&second[1]).collect();
    let seen = last[2].iter().filter(|image| trained.contains(image));
    let others = last[2]
        .iter()
        .filter(|image| !trained.contains(image) && chosen.contains(image));
    assert_eq!(of_test(&five), json!([seen.count(), others.count()]));

    // An average has seen what its models have.
    place.json(&format!(
        "{small} --from one.safetensors --seed 7 --name seven"
    ));
    place.json(&format!("{small} --from one.safetensors --name eight"));
    let said = place.ok("average eight seven --out mean.safetensors");
    let [eighth, seventh] = [1, 7].map(|seed| drawn(&place, seed));
    let of = eighth[1].intersection(&seventh[0]).count();
    assert!(of > 0);
    assert!(
        said.err
            .contains(&format!("was trained on {of} of 6 val images")),
        "{}",
        said.err
    );
    place.ok("verify mean.safetensors");
    let said = place.ok("evaluate mean.safetensors");
    let of = eighth[2].intersection(&seventh[0]).count();
    assert!(
        said.err
            .contains(&format!("trained on {of} of 6 test images")),
        "{}",
        said.err
    );
    let nine = place.json(&format!(
        "{small} --from mean.safetensors --seed 7 --name nine"
    ));
    let of = seventh[2].intersection(&eighth[0]).count();
    assert_eq!(of_test(&nine)[0], of);
}

#[test]
fn a_resumed_run_remembers_and_an_unknown_parent_is_told() {
    let place = place();
    place.json(&format!("{TRAIN} --quiet --json --name one"));
    let two = place.json(&format!(
        "{TRAIN} --quiet --json --from one --seed 2 --name two"
    ));
    let resumed = place.json("train --resume runs/two --epochs 2 --quiet --json");
    assert_eq!(resumed["seen_before"], two["seen_before"]);
    assert!(!of_test(&resumed).is_null());

    place.ok("export one --to one.pth");
    place.ok("import one.pth --model simple-cnn --preprocess size=12 --to bare.safetensors");
    let said = place.ok(&format!("{TRAIN} --from bare.safetensors --name three"));
    assert!(said.err.contains("cannot be told"), "{}", said.err);
    assert!(
        said.out.contains("on 6 images that this run has not seen"),
        "{}",
        said.out
    );
    let said = place.ok(&format!("{TRAIN} --from three --name four"));
    assert!(said.err.contains("cannot be told"), "{}", said.err);
}

#[test]
fn what_it_takes_in_the_file_is_little() {
    let place = place();
    place.json(&format!("{TRAIN} --quiet --json --name one"));
    let inspected = place.json("inspect one --json");
    let seen = &inspected["provenance"]["seen"];
    let size = seen.to_string().len();
    // 48 images of train and 6 of val.
    assert!(size < 100 + 54 * 6, "{size}: {seen}");
    assert_eq!(seen["train"]["one_in"], 1);
}

#[test]
fn test_images_that_the_run_itself_trains_on_are_not_called_unseen() {
    let place = Place::new();
    photos(&place.path("photos/train"), &[("cat", 30), ("dog", 30)], 0);
    // Two of train and one of val under other names, and three that are nowhere else.
    photos(&place.path("photos/val"), &[("cat", 6), ("dog", 6)], 1000);
    photos(&place.path("photos/test"), &[("cat", 3), ("dog", 3)], 2000);
    for (of, from, to) in [
        ("train", "cat/07.png", "cat/a.png"),
        ("train", "dog/11.png", "dog/b.png"),
        ("val", "dog/02.png", "dog/c.png"),
        // And one of val is in train.
        ("train", "cat/01.png", "../val/cat/d.png"),
    ] {
        let (from, to) = (format!("photos/{of}/{from}"), format!("photos/test/{to}"));
        std::fs::copy(place.path(&from), place.path(&to)).unwrap();
    }
    let said = place.ok(&format!("{TRAIN} --name run"));
    for words in [
        "2 images of test are in train too",
        "warning: it, or a model that it comes from, was trained on 2 of 9 test images and chosen by 1 more",
        "warning: it, or a model that it comes from, was trained on 1 of 13 val images",
    ] {
        assert!(
            said.err.replace("\n         ", " ").contains(words),
            "{words}\n{}",
            said.err
        );
    }
    let words = "on 9 images, not unseen: 2 were trained on before";
    assert!(said.out.contains(words), "{}", said.out);
    let words = "was trained on 2 of 9 test images and chosen by 1 more";
    let page = || std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    assert!(page().contains(words));
    place.ok("report run");
    assert!(page().contains(words));
    let card = place.ok("card run").out;
    assert!(
        card.contains(words) && !card.contains("nothing was chosen by test"),
        "{card}"
    );
    let said = place.ok("evaluate run");
    assert!(said.err.contains(words), "{}", said.err);

    // All of its own images: most of them it knows.
    let said = place.ok("evaluate run --split all");
    let words = "was trained on 63 of 82 images and chosen by 13 more";
    assert!(said.err.contains(words), "{}", said.err);
    let found = place.json("evaluate run --split all --json");
    assert_eq!(found["images_of"]["seen_before"]["trained"], 63);
    let said = place.ok("evaluate run --split train");
    assert!(!said.err.contains("trained on"), "{}", said.err);
}

#[test]
fn pictures_in_grey_and_in_grey_colours_are_the_same() {
    let place = Place::new();
    let grey = |number: u32| {
        image::GrayImage::from_fn(12, 12, |x, y| {
            let noise = ((number * 12 + x) * 12 + y).wrapping_mul(2_654_435_761) >> 27;
            image::Luma([(60 + 100 * (number % 2) + noise) as u8])
        })
    };
    for number in 0..60 {
        let picture = image::DynamicImage::from(grey(number));
        let class = ["cat", "dog"][number as usize % 2];
        for (set, picture) in [
            ("grey", picture.clone()),
            ("colour", picture.to_rgb8().into()),
        ] {
            std::fs::create_dir_all(place.path(&format!("{set}/{class}"))).unwrap();
            picture
                .save(place.path(&format!("{set}/{class}/{number:02}.png")))
                .unwrap();
        }
    }
    for (own, other) in [("grey", "colour"), ("colour", "grey")] {
        let train =
            |data: &str| format!("train --data {data} --epochs 1 --batch-size 8 --quiet --json");
        place.json(&format!("{} --name {own}", train(own)));
        let told = place.json(&format!(
            "{} --from {own} --seed 2 --name {own}-on",
            train(other)
        ));
        let again = place.json(&format!(
            "{} --from {own} --seed 2 --name {own}-again",
            train(own)
        ));
        assert!(of_test(&told)[0].as_u64().unwrap() > 0, "{told}");
        assert_eq!(told["seen_before"], again["seen_before"], "{own}");
    }
}

#[test]
fn a_split_is_advised_only_where_it_keeps_images_apart() {
    let place = place();
    photos(&place.path("others"), &[("cat", 30), ("dog", 30)], 1000);
    let small = format!("{TRAIN} --quiet --json");
    place.json(&format!("{small} --name one"));
    let advice = "to split these images as it did";
    let told = |args: &str| place.ok(args).err;
    let known = |err: &str| {
        assert!(
            err.contains("or a model it comes from, was trained on"),
            "{err}"
        )
    };
    let err = told(&format!("{TRAIN} --from one --seed 2 --name plain"));
    assert!(err.contains(advice), "{err}");

    // The parent's split is that of other images.
    place.json(
        "train --data others --epochs 1 --batch-size 8 --quiet --json --from one --name mid --test-fraction 0",
    );
    let err = told(&format!("{TRAIN} --from mid --seed 2 --name after-mid"));
    known(&err);
    assert!(!err.contains(advice), "{err}");

    // The folder has grown, or its files have other names: the same seed splits them in another way.
    photos(&place.path("grown"), &[("cat", 30), ("dog", 30)], 0);
    for class in ["cat", "dog"] {
        for number in 0..15 {
            let from = place.path(&format!("others/{class}/{number:02}.png"));
            std::fs::copy(from, place.path(&format!("grown/{class}/0{number:02}.png"))).unwrap();
        }
    }
    photos(&place.path("renamed"), &[("cat", 30), ("dog", 30)], 0);
    for class in ["cat", "dog"] {
        for number in 0..30 {
            let other = number * 7 % 30;
            let from = place.path(&format!("renamed/{class}/{number:02}.png"));
            std::fs::rename(
                from,
                place.path(&format!("renamed/{class}/n{other:02}.png")),
            )
            .unwrap();
        }
    }
    for data in ["grown", "renamed"] {
        let train = format!("train --data {data} --epochs 1 --batch-size 8 --lr 0.01");
        let err = told(&format!("{train} --from one --seed 2 --name {data}"));
        known(&err);
        assert!(!err.contains(advice), "{err}");
    }
    // The same images elsewhere are the same.
    photos(&place.path("moved"), &[("cat", 30), ("dog", 30)], 0);
    let err = told("train --data moved --epochs 1 --batch-size 8 --from one --seed 2 --name moved");
    assert!(err.contains(advice), "{err}");
}
