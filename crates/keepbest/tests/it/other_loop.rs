//! A run that another training loop made with the keeper: the program says whose network and loop it is, and does what can be done
//! without. `python/tests/test_other_loop.py` asks the same of a loop in Python.

use keepbest::core::{Metrics, Objective};
use keepbest::formats::{StateDict, Tensor};
use keepbest::keeper::{Evaluation, Keeper, KeeperConfig, OwnedSnapshot, SnapshotHandle};
use serde_json::{Value, json};

use crate::support::Place;

/// A place with such a run, which says where it comes from in a form of its own.
fn candle() -> Place {
    let place = Place::new();
    let mut config = KeeperConfig::new(Objective::new("val/accuracy").unwrap());
    config.constants.provenance = Some(json!({"author": "me"}));
    config.constants.preprocessing = Some(json!("as it comes"));
    let run = place.path("runs/a");
    std::fs::create_dir_all(run.parent().unwrap()).unwrap();
    let mut keeper = Keeper::create(&run, "loop = \"candle\"\n", config).unwrap();
    let mut weights = StateDict::new();
    let tensor = Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    weights.insert("fc.weight", tensor).unwrap();
    let snapshot = SnapshotHandle::new(OwnedSnapshot {
        step: 1,
        weights,
        training_state: StateDict::new(),
    });
    let mut metrics = Metrics::new();
    metrics.insert("val/accuracy", 0.8);
    keeper
        .offer(Evaluation::of(&snapshot, 1, metrics), Value::Null)
        .unwrap();
    keeper.finish(Value::Null).unwrap();
    place
}

#[test]
fn what_needs_no_network_is_done() {
    let place = candle();
    let shown = place.ok("show a").out;
    assert!(
        shown.contains("kept by   a loop called candle: network and images are that program's")
    );
    assert_eq!(place.json("show a --json")["loop"], "candle");
    let inspected = place.ok("inspect a").out;
    assert!(inspected.contains("a loop called candle"), "{inspected}");
    assert!(!inspected.contains("null"), "{inspected}");
    let verified = place.ok("verify a").out;
    for check in ["digest   ok", "journal  ok", "file     ok"] {
        assert!(verified.contains(check), "{verified}");
    }
    assert!(
        verified.contains("not checked: the metrics: the model was kept by a loop called candle")
    );
    let file = place.path("runs/a/best.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let damaged = place.run("verify a");
    assert_eq!(damaged.code, 3, "{}", damaged.err);
}

#[test]
fn what_needs_the_network_or_the_loop_says_whose_it_is() {
    let place = candle();
    for (call, code) in [
        ("evaluate a", 2),
        ("predict a x.png", 2),
        ("card a", 1),
        ("train --from a", 2),
    ] {
        place.run(call).fails(
            code,
            &[
                "was kept by a loop called candle: it holds weights alone",
                "keepbest import",
            ],
        );
    }
    let journal = std::fs::read(place.path("runs/a/journal.jsonl")).unwrap();
    for call in [
        "train --resume a",
        "train --config runs/a/run.toml",
        "reproduce a",
    ] {
        place.run(call).fails(
            2,
            &["they are not settings of `keepbest train`, but of a loop called candle"],
        );
    }
    assert_eq!(
        std::fs::read(place.path("runs/a/journal.jsonl")).unwrap(),
        journal
    );
}
