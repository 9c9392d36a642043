//! `compare`, and the intervals of `evaluate`.

use serde_json::json;

use crate::support::Place;

#[test]
fn models_are_compared_in_pairs_on_the_same_images() {
    let place = Place::with_data();
    place.trained("one", "");
    place.trained("two", "--lr 0.0001 --epochs 1");
    let found = place.json("compare one two --split val --json");
    let pair = &found["pairs"][0];
    let count = |key: &str| pair[key].as_u64().unwrap();
    let images = found["images"].as_u64().unwrap();
    let (alone, both) = (count("only_first_right"), count("both_right"));
    assert_eq!(
        alone + both + count("only_second_right") + count("both_wrong"),
        images
    );
    // The counts are those of the accuracies.
    let accuracy = found["models"][0]["metrics"]["val/accuracy"]
        .as_f64()
        .unwrap();
    assert_eq!((accuracy * images as f64).round() as u64, alone + both);
    let recorded = place.json("show one --json")["best"]["metrics"]["val/accuracy"].clone();
    assert!(recorded.is_null() || recorded.as_f64() == Some(accuracy));
    assert_eq!(found["settings"]["lr"][1], "0.0001");
    // One model with itself.
    let same = place.json("compare one one --split val --json");
    assert_eq!(same["pairs"][0]["mcnemar_p"], 1.0);
    for metric in ["val/log_loss", "val/f1_macro"] {
        let found = &same["pairs"][0]["differences"][metric];
        assert_eq!(
            (&found["difference"], &found["p_value"]),
            (&json!(0.0), &json!(1.0))
        );
    }
    // Every difference is that of the metrics, and so is its sign.
    let metric =
        |model: usize, name: &str| found["models"][model]["metrics"][name].as_f64().unwrap();
    for name in ["val/f1_macro", "val/log_loss", "val/roc_auc_ovr"] {
        let difference = pair["differences"][name]["difference"].as_f64().unwrap();
        assert!(
            (metric(0, name) - metric(1, name) - difference).abs() < 1e-12,
            "{name}"
        );
    }
    let said = place.ok("compare one two --split val").out;
    for words in [
        "one against two",
        "alone is right on",
        "McNemar exact",
        "f1_macro: one is better (p",
        "log_loss: one is better (p",
        "lr",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert!(
        said.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );
}

#[test]
fn models_with_other_val_images_are_not_compared_on_them() {
    let place = Place::with_data();
    place.trained("one", "");
    place.trained("two", "--seed 9");
    place.run("compare one two --split val").fails(
        1,
        &[
            "the val images of runs/two/best.safetensors are not those of runs/one/best.safetensors",
            "--split test",
        ],
    );
    // Test is of the data's own, and what counts when nothing is said.
    assert_eq!(place.json("compare one two --json")["split"], "test");
    place.ok("compare one two --split test");
    place.run("compare one").fails(2, &[]);
}

#[test]
fn metrics_have_intervals() {
    let place = Place::with_data();
    place.trained("run", "");
    let found = place.json("evaluate run --json");
    let metrics = found["metrics"].as_object().unwrap();
    for (name, value) in metrics {
        let Some(value) = value.as_f64() else {
            continue;
        };
        let interval = &found["intervals"][name];
        let (low, high) = (
            interval["low"].as_f64().unwrap(),
            interval["high"].as_f64().unwrap(),
        );
        assert!(low <= high, "{name}: {interval}");
        // The calibration error is biased upwards in resamples; all others hold their value.
        if !name.ends_with("/ece") {
            assert!(
                low <= value && value <= high,
                "{name}: {value} not in {interval}"
            );
        }
    }
    for (class, intervals) in found["per_class"]
        .as_array()
        .unwrap()
        .iter()
        .zip(found["per_class_intervals"].as_array().unwrap())
    {
        for name in ["precision", "recall", "f1"] {
            let (value, interval) = (class[name].as_f64().unwrap(), &intervals[name]);
            if interval.is_null() {
                assert_eq!(value, 0.0, "{name}");
                continue;
            }
            let end = |end: &str| interval[end].as_f64().unwrap();
            assert!(
                end("low") <= value && value <= end("high"),
                "{name}: {value} {interval}"
            );
        }
    }
    let said = place.ok("evaluate run").out;
    assert!(
        said.contains("(95 %)") && said.contains("[in brackets: 95 % intervals]"),
        "{said}"
    );
    assert!(
        said.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );
    // The run recorded the same.
    let shown = place.json("show run --json");
    assert_eq!(shown["test_intervals"], found["intervals"]);
    let page = std::fs::read_to_string(place.path("runs/run/report.html")).unwrap();
    assert!(page.contains("95 % intervals"));
}

#[test]
fn curves_of_runs_are_drawn_over_each_other() {
    let place = Place::with_data();
    let one = place.trained("one", "");
    let two = place.trained("two", "--lr 0.02 --monitor val/log_loss");
    let found = place.json("compare one two --html both.html --json");
    assert_eq!(found["html"], "both.html");
    let page = std::fs::read_to_string(place.path("both.html")).unwrap();
    for metric in ["val/accuracy", "val/loss", "train/loss", "val/log_loss"] {
        assert!(
            page.contains(&format!("aria-label=\"{metric}\"")),
            "{metric}"
        );
    }
    // The bests are the journals' bests.
    for (name, run) in [("one", &one), ("two", &two)] {
        let (step, value) = (
            &run["best"]["step"],
            &run["best"]["metrics"]["val/log_loss"],
        );
        let mark = format!("data-run=\"{name}\" data-step=\"{step}\" data-value=\"{value}\"");
        assert!(page.contains(&mark), "{mark}");
    }
    assert!(
        page.contains("McNemar exact") && page.contains("lr "),
        "{page}"
    );
    assert!(
        !page.contains("http://")
            || page.matches("http://").count() == page.matches("http://www.w3.org").count()
    );
    let file = place.path("runs/one/best.safetensors");
    std::fs::copy(&file, place.path("a.safetensors")).unwrap();
    place
        .run("compare a.safetensors a.safetensors --html none.html")
        .fails(2, &["none of the models is a run"]);
    assert!(!place.path("none.html").exists());
}
