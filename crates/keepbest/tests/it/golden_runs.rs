//! Runs of this and earlier versions, as they were left: they open, verify, predict and go on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Place;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/runs")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Each golden run in a place of its own, with what `show` said of it when it was made.
fn each(kind: &str, test: impl Fn(&Place, &Value)) {
    let mut versions = 0;
    for version in fs::read_dir(golden()).unwrap() {
        let version = version.unwrap().path();
        println!("{}", version.display());
        let place = Place::new();
        copy(&version.join(kind), &place.path(&format!("runs/{kind}")));
        let shown = fs::read_to_string(version.join(format!("{kind}.show.json"))).unwrap();
        test(&place, &serde_json::from_str(&shown).unwrap());
        versions += 1;
    }
    assert!(versions > 0);
}

/// The best is the one it was, with the metrics it had, and every file is whole.
fn is_intact(place: &Place, kind: &str, then: &Value) {
    place.ok(&format!("fsck {kind}"));
    let now = place.json(&format!("show {kind} --json"));
    for key in ["value", "epoch", "step", "digest", "metrics"] {
        assert_eq!(now["best"][key], then["best"][key], "{key}");
    }
    assert_eq!(now["status"], then["status"]);
    assert_eq!(now["test"], then["test"]);
    let listed = place.json("list --json");
    assert!(listed.to_string().contains(kind), "{listed}");
    place.ok(&format!("explain {kind}"));
}

/// Measured again, the best is as good as it was. Kernels may round otherwise in a later version: an image or two of a thousand.
fn is_as_good(place: &Place, kind: &str, then: &Value, more: &str) {
    let measured = place.json(&format!("evaluate {kind} --json {more}"));
    let accuracy = measured["metrics"]["test/accuracy"].as_f64().unwrap();
    let expected = then["test"]["test/accuracy"].as_f64().unwrap();
    assert!(
        (accuracy - expected).abs() < 0.0025,
        "{accuracy}, was {expected}"
    );
}

#[test]
fn full_models_open_predict_and_come_back_from_the_archive() {
    each("full", |place, then| {
        is_intact(place, "full", then);
        is_as_good(place, "full", then, "");
        place.ok("data sample fashion-mnist-mini --to samples");
        place.ok("predict full samples");
        place.ok("restore full@epoch:1");
        place.ok("verify full@epoch:1 --digest-only");
        // Only verified checkpoints are mended from; nothing needed it.
        place.ok("fsck full");
    });
}

#[test]
fn a_run_with_a_state_dict_as_best_goes_on() {
    each("params", |place, then| {
        is_intact(place, "params", then);
        is_as_good(place, "params", then, "--model lenet5");
        let before = then["best"]["value"].as_f64().unwrap();
        let resumed = place.json("train --resume params --epochs 4 --quiet --json");
        assert!(
            resumed["best"]["value"].as_f64().unwrap() >= before,
            "{resumed}"
        );
        place.ok("fsck params");
    });
}
