//! `--recipe` and `--time-budget`.

use crate::support::Place;

/// The value of a key of a run's run.toml.
fn recorded(place: &Place, run: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(place.path(&format!("runs/{run}/run.toml"))).unwrap();
    let table: toml::Table = text.parse().unwrap();
    table.get(key).map(ToString::to_string)
}

#[test]
fn a_recipe_decides_what_is_not_given_and_is_recorded_in_full() {
    let place = Place::with_data();
    place.ok("train --data data --recipe quick --epochs 2 --batch-size 16 --name quick --quiet");
    let of = |key: &str| recorded(&place, "quick", key).unwrap();
    assert_eq!(of("recipe"), "\"quick\"");
    assert_eq!(of("model"), "\"fast\"");
    assert_eq!(of("ema"), "0.999");
    assert_eq!((of("epochs"), of("batch-size")), ("2".into(), "16".into()));
    // Every setting is there: the recipe of another version changes nothing.
    place.ok("reproduce quick --quiet");
    place.ok("verify quick");
    let again = place.json("train --config runs/quick/run.toml --name again --quiet --json");
    let first = place.json("show quick --json");
    assert_eq!(again["best"]["digest"], first["best"]["digest"]);
    place
        .run("train --config runs/quick/run.toml --recipe strong")
        .fails(2, &["--recipe strong would change nothing"]);

    place.ok("train --data data --recipe strong --optimizer adamw --model simple-cnn --epochs 1 --swa 0.5 --name strong --quiet");
    let of = |key: &str| recorded(&place, "strong", key).unwrap();
    // A rate for another optimizer, and a second average, are not the recipe's to say.
    assert_eq!(
        (of("lr"), of("weight-decay")),
        ("0.002".into(), "0.01".into())
    );
    assert_eq!((of("ema"), of("swa")), ("\"none\"".into(), "0.5".into()));
    assert_eq!(of("model"), "\"simple-cnn\"");
    assert!(of("augment").contains("erase"), "{}", of("augment"));
    place
        .run("train --recipe quik")
        .fails(2, &["quick or strong"]);
}

#[test]
fn a_time_becomes_a_number_of_epochs() {
    let place = Place::with_data();
    place.ok("train --data data --time-budget 5s --batch-size 16 --lr 0.01 --name timed --quiet");
    // How many fit is the machine's to say; that they are settled is not.
    let epochs: u64 = recorded(&place, "timed", "epochs")
        .unwrap()
        .parse()
        .unwrap();
    let shown = place.json("show timed --json");
    assert!(epochs >= 1);
    assert_eq!(shown["history"].as_array().unwrap().len() as u64, epochs);
    assert_eq!(recorded(&place, "timed", "time-budget"), None);
    let journal = std::fs::read_to_string(place.path("runs/timed/journal.jsonl")).unwrap();
    assert!(journal.contains("\"budget_seconds\":5"), "{journal}");

    // Given anew, it replaces the epochs of a file, and the other way round.
    let file = "train --config runs/timed/run.toml --warmup 0 --quiet";
    place.ok(&format!("{file} --time-budget 5s --name anew"));
    place.ok(&format!("{file} --epochs 1 --name one"));
    assert_eq!(recorded(&place, "one", "epochs").unwrap(), "1");

    for (flags, words) in [
        ("--time-budget 5", "a time such as 5m, 90s or 1h30m"),
        ("--time-budget 5m3", "a time such as"),
        ("--time-budget 0s", "a time such as"),
        ("--time-budget 1m --epochs 3", "both say how long"),
    ] {
        place
            .run(&format!("train --data data {flags}"))
            .fails(2, &[words]);
    }
    let said = place.run("train --data data --model resnet18 --batch-size 8 --time-budget 1s");
    said.fails(
        1,
        &["an epoch takes about", "time budget of 1s", "at least"],
    );
    assert!(!place.path("runs/resnet18-1").exists());
}

#[test]
fn a_model_to_start_from_brings_its_network() {
    let place = Place::with_data();
    place.trained("parent", "--model lenet5 --epochs 1");
    place.trained("child", "--from parent --epochs 1");
    assert_eq!(recorded(&place, "child", "model").unwrap(), "\"lenet5\"");
    // A network from a file, too: the parent's run has it.
    let text = place.ok("models show lenet5 --classes 4").out;
    std::fs::write(
        place.path("mine.toml"),
        text.replace("\"lenet5\"", "\"mine\""),
    )
    .unwrap();
    place.trained("own", "--model mine.toml --epochs 1");
    std::fs::remove_file(place.path("mine.toml")).unwrap();
    place.trained("grandchild", "--from own --epochs 1");
    place.ok("reproduce grandchild --quiet");
}
