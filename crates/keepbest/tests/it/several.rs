//! Several bests at once: `--monitor` given again.

use crate::support::Place;

/// Fast and rough, so that the bests are of different epochs.
const ROUGH: &str = "--epochs 6 --lr 0.05 --schedule constant --val-fraction 0.4";

#[test]
fn every_verb_knows_each_best() {
    let place = Place::with_data();
    let trained = place.trained(
        "run",
        &format!("{ROUGH} --monitor val/accuracy --monitor val/log_loss --monitor min:val/ece"),
    );
    let shown = place.json("show run --json");
    for (at, (name, file)) in [
        ("best:val/log_loss", "best.val-log_loss.safetensors"),
        ("best:val/ece", "best.val-ece.safetensors"),
    ]
    .into_iter()
    .enumerate()
    {
        let other = &trained["others"][at];
        assert_eq!(other, &shown["others"][at]);
        assert_eq!(other["ref"], name);
        assert!(place.path("runs/run").join(file).is_file());
        // It is the least that was measured, and the model of that name gives it again.
        let metric = name.strip_prefix("best:").unwrap();
        let least = shown["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["metrics"][metric].as_f64().unwrap())
            .fold(f64::INFINITY, f64::min);
        assert_eq!(other["value"].as_f64(), Some(least));
        let measured = place.json(&format!("evaluate run@{name} --split val --json"));
        assert_eq!(measured["metrics"][metric].as_f64(), Some(least));
        place.ok(&format!("verify run@{name}"));
        let told = place.ok("explain run").out;
        assert!(told.contains(name), "{told}");
    }
    // In run.toml it is a list, and trains the same again.
    let toml = std::fs::read_to_string(place.path("runs/run/run.toml")).unwrap();
    let list = r#"monitor = ["val/accuracy", "val/log_loss", "min:val/ece"]"#;
    assert!(toml.contains(list), "{toml}");
    place.ok("reproduce run --quiet");
    let page = std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    assert!(page.contains("A best by val/log_loss is kept as well"));

    std::fs::remove_file(place.path("runs/run/best.val-ece.safetensors")).unwrap();
    let told = place.run("fsck run");
    assert_eq!(told.code, 3);
    assert!(told.out.contains("best.val-ece.safetensors"), "{told:?}");
    place.ok("fsck run --repair");
    place.ok("fsck run");
    place.ok("evaluate run@best:val/ece");
}

#[test]
fn what_cannot_be_monitored_is_said_before_training() {
    let place = Place::with_data();
    for (flags, expected) in [
        (
            "--monitor val/accuracy --monitor val/los",
            "did you mean val/loss?",
        ),
        (
            "--monitor val/loss --monitor val/loss",
            "val/loss is monitored twice",
        ),
        (
            "--monitor val/accuracy --monitor val/loss+val/f1_macro",
            "`max:` or `min:`",
        ),
    ] {
        let told = place.run(&format!("train --data data --name run --epochs 1 {flags}"));
        assert_ne!(told.code, 0);
        told.fails(told.code, &[expected]);
        assert!(!place.path("runs/run").exists());
    }
    place.trained(
        "run",
        "--epochs 1 --monitor val/accuracy --monitor val/loss",
    );
    let told = place.run("evaluate run@best:val/f1");
    told.fails(1, &["only of best, best:val/loss, last"]);
}
