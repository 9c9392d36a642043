//! `train`, and what it leaves for `list`, `show`, `inspect` and the next run.

use keepbest::nn::Isa;
use serde_json::Value;

use crate::support::{Place, SMALL};

#[test]
fn a_run_is_told_line_by_line_and_kept() {
    let place = Place::with_data();
    let said = place.ok(&format!("train {SMALL}"));
    // Words on stderr, the result on stdout, no control codes on either.
    assert!(!said.err.contains('\x1b') && !said.out.contains('\x1b') && !said.err.contains('\r'));
    for words in [
        "data     data: 4 classes, 28x28x1",
        "108 train, 12 val, 40 test images",
        "network  simple-cnn, ",
        "run      runs/simple-cnn-1; best is max val/accuracy",
        "train/loss",
        "best: saved runs/simple-cnn-1/best.safetensors (val/accuracy ",
        ", the first, epoch 1)",
        "keepbest evaluate runs/simple-cnn-1",
        "keepbest predict runs/simple-cnn-1 IMAGE...",
    ] {
        assert!(
            said.err.contains(words),
            "{words:?} is not in\n{}",
            said.err
        );
    }
    for words in [
        "best     runs/simple-cnn-1/best.safetensors (epoch ",
        "measured again: the same",
        "test     accuracy 0.",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }
    // The line about a saved best names its whole path, however long.
    let lines = said
        .err
        .lines()
        .chain(said.out.lines())
        .filter(|line| !line.starts_with("best: saved"));
    assert!(
        lines.clone().all(|line| line.chars().count() <= 80),
        "{}{}",
        said.err,
        said.out
    );

    // The next one gets the next number.
    let second = place.ok(&format!("train {SMALL} --epochs 1 --quiet"));
    assert_eq!((&*second.out, &*second.err), ("", ""));
    assert!(place.path("runs/simple-cnn-2/best.safetensors").exists());
}

#[test]
fn a_runs_own_file_reruns_it() {
    let place = Place::with_data();
    let first = place.trained(
        "first",
        "--optimizer adamw --augment flip,shift:1 --min-delta 0.1% --keep best:2",
    );
    let again = place.json("train --config runs/first/run.toml --quiet --json");
    assert_eq!(again["run"], "runs/simple-cnn-1");
    assert_eq!(again["best"]["digest"], first["best"]["digest"]);
    assert_eq!(again["test"], first["test"]);
    // The file of the second is that of the first.
    let text = |run: &str| std::fs::read_to_string(place.path(run).join("run.toml")).unwrap();
    assert_eq!(text("runs/simple-cnn-1"), text("runs/first"));
    // Flags win over the file.
    let other = place.json("train --config runs/first/run.toml --seed 5 --epochs 1 --quiet --json");
    assert_eq!(other["epoch"], 1);
    assert!(text("runs/simple-cnn-2").contains("\nseed = 5\n"));
}

/// 21 steps with dropout, on images mirrored and moved.
#[test]
fn threads_and_instruction_sets_change_no_bit() {
    let place = Place::with_data();
    let text = place
        .ok("models show simple-cnn --input 1x28x28 --classes 4")
        .out;
    let flatten = "{ op = \"flatten\" },";
    assert!(text.contains(flatten));
    let text = text.replace(
        flatten,
        &format!("{{ op = \"dropout\", p = 0.3 }},\n  {flatten}"),
    );
    std::fs::write(place.path("dropout.toml"), text).unwrap();
    let train = |threads: u32, isa: Isa| -> Value {
        let name = format!("{isa}-{threads}");
        let mut command = place.command(&format!(
            "train {SMALL} --epochs 3 --model dropout.toml --augment flip,shift:2 --threads {threads} --name {name} --quiet --json"
        ));
        let output = command.env("KEEPBEST_ISA", isa.name()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let usual = train(2, Isa::fastest());
    assert_eq!(usual["step"], 21);
    let others = [1, 3, 8].map(|threads| (threads, Isa::fastest()));
    let isas = Isa::available().into_iter().map(|isa| (3, isa));
    for (threads, isa) in others.into_iter().chain(isas.rev().skip(1)) {
        let other = train(threads, isa);
        assert_eq!(other["best"]["digest"], usual["best"]["digest"], "{isa}");
        assert_eq!(other["test"], usual["test"]);
    }
}

#[test]
fn a_profile_is_printed_by_layer_and_phase() {
    let place = Place::with_data();
    let said = place.ok(&format!("train {SMALL} --profile --quiet"));
    assert!(
        said.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        said.out
    );
    for words in [
        "GFLOP/s",
        "forward",
        "backward",
        "update",
        "  conv2 ",
        "waiting for images",
        "evaluation",
    ] {
        assert!(
            said.out.contains(words),
            "{words:?} is not in\n{}",
            said.out
        );
    }

    let run = place.trained("json", "--profile");
    let engine = &run["profile"]["engine"];
    assert_eq!(
        (&engine["steps"], &engine["images"]),
        (&run["step"], &216.into())
    );
    let seconds = |value: &Value| value["seconds"].as_f64().unwrap();
    let entries = engine["entries"].as_array().unwrap();
    let timed: f64 = entries.iter().map(seconds).sum();
    // The parts of a step are inside the steps, which are inside the session.
    let session = run["profile"]["session"].as_object().unwrap();
    let steps = session["steps"].as_f64().unwrap();
    assert!(timed > 0.0 && timed <= steps, "{timed} {steps}");
    assert!(session.values().all(|part| part.as_f64().unwrap() > 0.0));
    // It changes nothing, and is nothing that a run records.
    let plain = place.trained("plain", "");
    assert_eq!(plain["best"]["digest"], run["best"]["digest"]);
    assert!(plain.get("profile").is_none());
    let text = |run: &str| std::fs::read_to_string(place.path(&format!("runs/{run}/run.toml")));
    assert_eq!(text("json").unwrap(), text("plain").unwrap());
}

#[test]
fn list_and_show_tell_of_it() {
    let place = Place::with_data();
    let empty = place.ok("list");
    assert!(empty.err.contains("no runs in runs"));
    assert_eq!(place.json("list --json"), serde_json::json!([]));

    let run = place.trained("mine", "--keep last:5");
    let listed = place.json("list --json");
    assert_eq!(listed[0]["name"], "mine");
    assert_eq!(listed[0]["status"], "completed");
    assert_eq!(listed[0]["best"]["digest"], run["best"]["digest"]);
    assert_eq!(listed[0]["best"]["value"], run["best"]["value"]);
    assert_eq!(listed[0]["test"], run["test"]);
    let text = place.ok("list").out;
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(
        text.contains("mine") && text.contains("completed") && text.contains("2/2"),
        "{text}"
    );

    let shown = place.json("show mine --json");
    assert_eq!(shown["history"].as_array().unwrap().len(), 2);
    assert_eq!(shown["checkpoints"].as_array().unwrap().len(), 2);
    assert!(
        shown["settings"]
            .as_str()
            .unwrap()
            .contains("keep = [\"last:5\"]")
    );
    let text = place.ok("show mine").out;
    assert!(
        text.contains("best is   max val/accuracy")
            && text.contains(run["best"]["digest"].as_str().unwrap()),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    place
        .run("show nine")
        .fails(1, &["no model or run \"nine\"", "hint: did you mean mine?"]);
}

#[test]
fn fine_tuning_shows_what_starts_anew() {
    let place = Place::with_data();
    place.trained("parent", "");
    crate::support::write_idx(&place.path("six"), 6, 12, 4);
    let said = place
        .ok("train --data six --from parent --name child --epochs 1 --batch-size 16 --lr 0.01");
    assert!(
        said.err
            .contains("16 tensors taken over; starting anew: fc2.weight, fc2.bias"),
        "{}",
        said.err
    );
    let child = place.json("inspect child --json");
    assert!(
        child["provenance"]["parent"]["path"]
            .as_str()
            .unwrap()
            .ends_with(".safetensors")
    );
    assert_eq!(child["classes"].as_array().unwrap().len(), 6);
}

#[test]
fn early_stopping_and_having_no_best_are_told() {
    let place = Place::with_data();
    let said = place.ok("train --data data --epochs 9 --batch-size 16 --lr 0.01 --patience 1 --min-delta 1 --name early");
    assert!(
        said.err.contains(
            "stopping early: no improvement of val/accuracy by more than 1 for 1 evaluation"
        ),
        "{}",
        said.err
    );
    assert!(said.out.contains("stopped  after epoch 2"), "{}", said.out);
    assert_eq!(place.json("list --json")[0]["status"], "stopped early");
    // More epochs do not take it on: it says what does, and the plan stays.
    let said = place.ok("train --resume early --epochs 30");
    for words in [
        "the run is over: it stopped early",
        "--from runs/early@last",
    ] {
        assert!(said.err.contains(words), "{words}\n{}", said.err);
    }
    assert!(!said.err.contains("from here on"), "{}", said.err);
    place.ok("train --resume early --epochs 20");

    let none = place.run(&format!(
        "train {SMALL} --name none --constraint val/accuracy>1"
    ));
    none.fails(1, &["runs/none has no best", "rejected:"]);
}

#[test]
fn folders_of_images_train_too() {
    let place = Place::new();
    place.ok("data sample --to photos/train --split train --count 90 --by-class");
    place.ok("data sample --to photos/test --count 30 --by-class");
    let run = place.json("train --data photos --epochs 1 --batch-size 16 --val-fraction 0.2 --name photos --quiet --json");
    assert_eq!(run["test"].as_object().unwrap().len(), 19);
    let model = place.json("inspect photos --json");
    assert_eq!(model["classes"][0], "Ankle_boot");
    let info = place.json("data info photos --json");
    assert_eq!(info["splits"]["test"]["images"], 30);
    let said = place.ok("predict photos photos/test/Bag --top-k 2");
    assert!(said.out.starts_with("photos/test/Bag/"), "{}", said.out);
}

#[test]
fn a_frozen_body_stays_while_the_head_learns() {
    let place = Place::with_data();
    place.trained("first", "");
    place.trained(
        "second",
        "--from first --freeze conv* --freeze bn* --body-rate 0.1",
    );
    let weights = |run: &str| {
        let path = place.path(&format!("runs/{run}/best.safetensors"));
        keepbest::formats::model_file::ModelFile::open(&path)
            .unwrap()
            .weights
    };
    let (first, second) = (weights("first"), weights("second"));
    for (name, tensor) in second.iter() {
        let frozen = name.starts_with("conv") || name.starts_with("bn");
        let same = first.get(name).unwrap().bytes() == tensor.bytes();
        assert_eq!(same, frozen, "{name}");
    }
    let config = std::fs::read_to_string(place.path("runs/second/run.toml")).unwrap();
    assert!(config.contains("freeze = [\"conv*\", \"bn*\"]"), "{config}");
    place
        .run("train --data data --from first --freeze layer9.* --name third")
        .fails(
            2,
            &["`layer9.*` fits no parameter", "hint: it has conv1.weight"],
        );
}
