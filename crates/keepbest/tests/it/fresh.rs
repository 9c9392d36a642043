//! `evaluate` and `compare` on images that a model was not trained on, and on those that it was.

use std::path::Path;

use serde_json::Value;

use crate::support::{Place, photos, write_idx};

/// A run of a second on small photographs, split by the seed.
const TRAIN: &str = "train --data photos --epochs 2 --batch-size 8 --lr 0.01 --quiet --json";

fn place() -> Place {
    let place = Place::new();
    photos(
        &place.path("photos"),
        &[("cat", 20), ("dog", 20), ("owl", 20)],
        0,
    );
    place.json(&format!("{TRAIN} --name run"));
    place
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn split(found: &Value) -> (&str, u64) {
    let images = found["images"].as_u64().unwrap();
    (found["split"].as_str().unwrap(), images)
}

#[test]
fn images_that_were_not_trained_on_count_whole() {
    let place = place();
    photos(
        &place.path("fresh"),
        &[("cat", 7), ("dog", 9), ("owl", 1)],
        1000,
    );
    let found = place.json("evaluate run --data fresh --json");
    assert_eq!(split(&found), ("all", 17));
    assert!(found["metrics"]["all/accuracy"].is_number(), "{found}");
    assert_eq!(found["images_of"]["own_data"], false);
    assert_eq!(found["images_of"]["seen_before"]["trained"], 0);
    let said = place.ok("evaluate run --data fresh");
    assert!(
        said.err.contains("on all of fresh (17 images)"),
        "{}",
        said.err
    );
    place
        .run("evaluate run --data fresh --split test")
        .fails(1, &["fresh has no test split of its own", "--split all"]);

    // As many as in the training, and others all the same.
    photos(
        &place.path("as-many"),
        &[("cat", 20), ("dog", 20), ("owl", 20)],
        1000,
    );
    let found = place.json("evaluate run --data as-many --json");
    assert_eq!(split(&found), ("all", 60));

    // Its own images are split as they were, wherever they lie now.
    copy(&place.path("photos"), &place.path("moved"));
    for more in ["", "--data photos", "--data moved"] {
        let found = place.json(&format!("evaluate run {more} --json"));
        assert_eq!(split(&found), ("test", 6), "{more}");
        assert_eq!(found["images_of"]["own_data"], true);
    }
    let found = place.json("evaluate run --data moved --split all --json");
    assert_eq!(split(&found), ("all", 60));

    // With one image more they are another set, most of which the model knows.
    std::fs::copy(
        place.path("fresh/cat/00.png"),
        place.path("moved/cat/99.png"),
    )
    .unwrap();
    let found = place.json("evaluate run --data moved --json");
    assert_eq!(split(&found), ("all", 61));
    let seen = &found["images_of"]["seen_before"];
    assert_eq!((&seen["trained"], &seen["chosen"]), (&48.into(), &6.into()));
    let said = place.ok("evaluate run --data moved");
    assert!(
        said.err
            .contains("was trained on 48 of 61 images and chosen by 6 more"),
        "{}",
        said.err
    );
    // Unless they were to be those of the training.
    std::fs::copy(
        place.path("fresh/cat/00.png"),
        place.path("photos/cat/99.png"),
    )
    .unwrap();
    place.run("evaluate run").fails(
        1,
        &[
            "the images of photos are not those the model was trained with: 61 images are there, 60 were",
            "hint: to measure on what is there now: --data photos",
        ],
    );
}

#[test]
fn classes_are_matched_by_name() {
    let place = place();
    // Two of three, in another order of labels.
    photos(&place.path("some"), &[("dog", 5), ("owl", 8)], 1000);
    let found = place.json("evaluate run --data some --json");
    assert_eq!(split(&found), ("all", 13));
    assert_eq!(
        found["images_of"]["missing_classes"],
        serde_json::json!(["cat"])
    );
    let support: Vec<&Value> = found["per_class"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| &class["support"])
        .collect();
    assert_eq!(support, [0, 5, 8]);
    // What is right is what predict says.
    let right = |class: &str| {
        let said = place.ok(&format!("predict run some/{class} --json")).out;
        let says = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["label"] == class;
        said.lines().filter(says).count() as f64
    };
    let accuracy = found["metrics"]["all/accuracy"].as_f64().unwrap();
    assert!((accuracy - (right("dog") + right("owl")) / 13.0).abs() < 1e-12);
    // What takes images of every class is not made up.
    for name in ["all/roc_auc_ovr", "all/average_precision"] {
        assert!(found["metrics"][name].is_null(), "{found}");
        assert!(found["intervals"][name].is_null(), "{found}");
    }
    let said = place.ok("evaluate run --data some");
    for words in [
        "note: no images of 1 of the model's 3 classes: cat",
        "note: roc_auc_ovr and average_precision need images of every class",
    ] {
        assert!(said.err.contains(words), "{}", said.err);
    }
    let row = said
        .out
        .lines()
        .find(|line| line.starts_with("cat "))
        .unwrap();
    assert!(!row.contains("0.000"), "{row}");

    photos(
        &place.path("more"),
        &[("cat", 4), ("owl", 3), ("zebra", 6)],
        1000,
    );
    for verb in ["evaluate run", "compare run run"] {
        place.run(&format!("{verb} --data more")).fails(
            1,
            &[
                "1 class of the images is not the model's: \"zebra\", with 6 images",
                "hint: --skip-extra-classes leaves them out",
            ],
        );
    }
    let found = place.json("evaluate run --data more --skip-extra-classes --json");
    assert_eq!(split(&found), ("all", 7));
    assert_eq!(found["images_of"]["left_out"]["zebra"], 6);
    let said = place.ok("compare run run --data more --skip-extra-classes");
    assert!(
        said.err
            .contains("left out 6 images of classes that the model does not know: zebra"),
        "{}",
        said.err
    );

    photos(&place.path("others"), &[("pear", 4), ("plum", 3)], 1000);
    place
        .run("evaluate run --data others --skip-extra-classes")
        .fails(
            1,
            &["none of the images' classes (\"pear\", \"plum\") is one of the model's"],
        );
}

#[test]
fn a_set_with_nothing_to_train_on_can_be_measured() {
    let place = place();
    for split_name in ["test", "val"] {
        let folder = place.path("held").join(split_name);
        photos(&folder, &[("cat", 3), ("dog", 4)], 1000);
        let found = place.json(&format!(
            "evaluate run --data held --split {split_name} --json"
        ));
        assert_eq!(split(&found), (split_name, 7));
    }
    let found = place.json("evaluate run --data held --json");
    assert_eq!(split(&found), ("test", 7));
    let found = place.json("evaluate run --data held --split all --json");
    assert_eq!(split(&found), ("all", 14));
    place
        .run("train --data held --epochs 1")
        .fails(1, &["test images alone, and none to train on"]);

    std::fs::write(
        place.path("test.csv"),
        "path,label,split\nheld/test/cat/00.png,cat,test\nheld/test/dog/01.png,dog,test\n",
    )
    .unwrap();
    let found = place.json("evaluate run --data test.csv --json");
    assert_eq!(split(&found), ("test", 2));

    write_idx(&place.path("data"), 4, 30, 10);
    place.trained("idx", "");
    std::fs::create_dir(place.path("t10k")).unwrap();
    for part in ["images-idx3-ubyte", "labels-idx1-ubyte"] {
        let name = format!("t10k-{part}");
        std::fs::copy(
            place.path("data").join(&name),
            place.path("t10k").join(name),
        )
        .unwrap();
    }
    let found = place.json("evaluate idx --data t10k --json");
    assert_eq!(split(&found), ("test", 40));
    place
        .run("train --data t10k --epochs 1")
        .fails(1, &["test images alone, and none to train on"]);
}

#[test]
fn models_are_compared_by_the_same_rule() {
    let place = place();
    place.json(&format!("{TRAIN} --name again --lr 0.001"));
    place.json(&format!("{TRAIN} --name large --image-size 16"));
    place.json(&format!("{TRAIN} --name other --seed 5"));
    photos(
        &place.path("fresh"),
        &[("cat", 7), ("dog", 9), ("owl", 1)],
        1000,
    );
    for (more, expected) in [("", ("test", 6)), ("--data fresh", ("all", 17))] {
        let evaluated = place.json(&format!("evaluate run {more} --json"));
        let compared = place.json(&format!("compare run again large {more} --json"));
        assert_eq!(split(&evaluated), expected);
        assert_eq!(split(&compared), expected);
        assert_eq!(compared["models"][0]["metrics"], evaluated["metrics"]);
    }
    // What one of them was trained on is no ground to compare on.
    place.run("compare run other").fails(
        1,
        &[
            "the test images of runs/other/best.safetensors are not those of runs/run/best.safetensors",
            "hint: models can only be compared on images that none was trained on: name some with --data",
        ],
    );
    place.ok("compare run other --data fresh");

    // A model of other data is measured on the first's images.
    photos(
        &place.path("more"),
        &[("cat", 20), ("dog", 20), ("owl", 20)],
        2000,
    );
    place.json("train --data more --epochs 2 --batch-size 8 --quiet --json --name more");
    let compared = place.json("compare run more --json");
    assert_eq!(split(&compared), ("test", 6));
}

#[test]
fn what_is_written_for_the_images_of_the_training_takes_no_others() {
    let place = place();
    photos(
        &place.path("fresh"),
        &[("cat", 20), ("dog", 20), ("owl", 20)],
        1000,
    );
    for args in [
        "average run run@last --out out.safetensors",
        "thresholds run --metric f1_macro --out out.safetensors",
    ] {
        place.run(&format!("{args} --data fresh")).fails(
            1,
            &[
                "images are not those recorded",
                "--data says where they lie now",
            ],
        );
        assert!(!place.path("out.safetensors").exists());
    }
    // A model that records none has no others: all of a plain folder count.
    place.ok("export run --to run.pth");
    place.ok("import run.pth --model simple-cnn --classes cat,dog,owl --preprocess size=12 --to bare.safetensors");
    photos(&place.path("small"), &[("dog", 3), ("owl", 4)], 1000);
    let found = place.json("evaluate bare.safetensors --data small --json");
    assert_eq!(split(&found), ("all", 7));
    assert!(found["images_of"]["seen_before"].is_null());
    place.ok("thresholds bare.safetensors --metric accuracy --data small --out tuned.safetensors");
}
