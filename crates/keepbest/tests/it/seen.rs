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
    for words in [
        format!("or a model it comes from, was trained on {trained} of 6 test images"),
        "to split these images as it did: --seed 1 --val-fraction 0.1 --test-fraction 0.1"
            .to_owned(),
        "warning: a model that it comes from was trained on".to_owned(),
    ] {
        assert!(said.err.contains(&words), "{words}\n{}", said.err);
    }
    let said = place.ok(&format!("{TRAIN} --from one --name plain"));
    assert!(said.out.contains("on 6 unseen images"), "{}", said.out);

    // So say the report, also when it is made again, the card, and evaluate.
    let words = format!("was trained on {trained} of 6 test images");
    let page = || std::fs::read_to_string(place.path("runs/two/report.html")).unwrap();
    assert!(page().contains(&words));
    assert!(page().contains("images of which some were seen in training before"));
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
