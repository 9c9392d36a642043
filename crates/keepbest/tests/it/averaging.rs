//! `--ema`, with every way to change images on top.

use crate::support::Place;

const HARD: &str = "--augment crop:0.5,shift:2,flip,rotate:10,jitter:0.2,trivial,erase:0.5,mixup:0.2,cutmix:1 --ema 0.9 \
                    --class-weights balanced";

#[test]
fn the_better_of_weights_and_average_is_kept_and_named() {
    let place = Place::with_data();
    let one = place.trained("one", &format!("{HARD} --threads 1"));
    let two = place.trained("two", &format!("{HARD} --threads 2"));
    assert_eq!(one["best"]["digest"], two["best"]["digest"]);
    assert_eq!(one["test"], two["test"]);
    place.ok("verify one");
    place.ok("reproduce two --quiet --threads 1");

    // Every evaluation says which weights it is of, and what both came to.
    let journal = std::fs::read_to_string(place.path("runs/one/journal.jsonl")).unwrap();
    let evaluated: Vec<serde_json::Value> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "evaluated")
        .collect();
    assert_eq!(evaluated.len(), 2);
    for event in &evaluated {
        let which = event["weights"].as_str().unwrap();
        let (raw, ema) = (
            &event["metrics"]["raw/accuracy"],
            &event["metrics"]["ema/accuracy"],
        );
        assert!(raw.is_number() && ema.is_number(), "{event}");
        assert_eq!(
            event["metrics"]["val/accuracy"],
            event["metrics"][format!("{which}/accuracy")]
        );
        let (raw, ema) = (raw.as_f64().unwrap(), ema.as_f64().unwrap());
        assert!(
            if which == "ema" {
                ema >= raw
            } else {
                raw >= ema
            },
            "{event}"
        );
    }
    let shown = place.ok("show one").out;
    assert!(shown.contains("weights  "), "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 80),
        "{shown}"
    );
    // An average is nothing that PyTorch's optimizers know.
    place.ok("export one --to one.pt");

    let settings = std::fs::read_to_string(place.path("runs/one/run.toml")).unwrap();
    assert!(
        settings.contains("trivial,erase:0.5,mixup:0.2,cutmix:1\""),
        "{settings}"
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let place = Place::with_data();
    for (flags, words) in [
        (
            "--ema 1",
            "--ema must be a number from 0 to below 1, or none",
        ),
        ("--ema -0.1", "--ema must be"),
        ("--augment flop", "--augment must be one of crop:AREA"),
        ("--augment crop:4", "the least share of the image"),
        ("--augment flip,erase:2", "a probability from 0 to 1"),
        ("--augment jitter:0/0/0/0.6", "hue from 0 to 0.5"),
    ] {
        place
            .run(&format!("train --data data {flags}"))
            .fails(2, &[words]);
    }
}

#[test]
fn the_mean_of_models_is_a_model() {
    let place = Place::with_data();
    place.trained("a", "--epochs 3 --keep best:5");
    place.trained("b", "--from a --seed 2");
    let told = place.json("average a b a@last --out mean.safetensors --json");
    assert_eq!(told["models"].as_array().unwrap().len(), 3);
    assert!(told["average"]["val/accuracy"].is_number(), "{told}");
    // It measures again as it was measured, and says what it was made of.
    place.ok("verify mean.safetensors");
    let inspected = place.json("inspect mean.safetensors --json").to_string();
    assert!(inspected.contains("\"averaged\""), "{inspected}");
    place
        .run("average a b --out mean.safetensors")
        .fails(1, &["exists already", "--force"]);
    place.ok("average b a --out mean.safetensors --force --threads 1");

    let soup = place.json("average --soup a --top 3 --out soup.safetensors --json");
    let members = soup["models"].as_array().unwrap();
    let count = members
        .iter()
        .filter(|model| model["member"] == true)
        .count();
    assert_eq!(members[0]["member"], true);
    assert_eq!(soup["written"].is_string(), count > 1, "{soup}");
    assert_eq!(place.path("soup.safetensors").exists(), count > 1);

    place.trained("other", "--model lenet5");
    for (args, code, words) in [
        (
            "average a other --out x.safetensors",
            1,
            "differ in network",
        ),
        ("average --soup b --out x.safetensors", 1, "--keep best:5"),
        ("average a --out x.safetensors", 2, "MODEL"),
        ("average --out x.safetensors", 2, "required"),
    ] {
        let said = place.run(args);
        assert_eq!(said.code, code, "{args}: {}", said.err);
        assert!(said.err.contains(words), "{args}: {}", said.err);
    }
}

#[test]
fn weights_of_evaluations_are_averaged_from_a_part_of_the_run_on() {
    let place = Place::with_data();
    let flags = "--epochs 4 --swa 0.5";
    let one = place.trained("one", &format!("{flags} --threads 1"));
    let two = place.trained("two", flags);
    assert_eq!(one["best"]["digest"], two["best"]["digest"]);
    place.ok("verify one");
    place.ok("reproduce two --quiet --threads 1");
    let journal = std::fs::read_to_string(place.path("runs/one/journal.jsonl")).unwrap();
    let averaged: Vec<bool> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "evaluated")
        .map(|event| event["metrics"]["swa/accuracy"].is_number())
        .collect();
    assert_eq!(averaged, [false, true, true, true]);
    // Training is what it would have been without.
    let without = place.trained("without", "--epochs 4");
    let loss = |run: &str| {
        let shown = place.json(&format!("show {run} --json"));
        let last = shown["history"].as_array().unwrap().last().unwrap().clone();
        last["metrics"]["train/loss"].clone()
    };
    assert_eq!(loss("one"), loss("without"));
    assert!(without["best"].is_object());

    for (flags, words) in [
        (
            "--swa 1",
            "--swa must be a number from 0 to below 1, or none",
        ),
        ("--swa 0.5 --ema 0.9", "a run keeps one"),
    ] {
        place
            .run(&format!("train --data data {flags}"))
            .fails(2, &[words]);
    }
}
