//! Choosing the best in the light of chance, and ending in time.

use serde_json::Value;

use crate::support::Place;

/// Fast and rough, so that accuracy goes up and down.
const ROUGH: &str = "--epochs 6 --lr 0.05 --schedule constant --val-fraction 0.4";

fn history(place: &Place, run: &str) -> Vec<Value> {
    place.json(&format!("show {run} --json"))["history"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn only_a_significantly_better_model_replaces_the_best() {
    let place = Place::with_data();
    place.trained("free", ROUGH);
    place.trained("strict", &format!("{ROUGH} --significant 0.0001"));
    let (free, strict) = (history(&place, "free"), history(&place, "strict"));
    // The same training: only what is called best differs.
    let metrics = |records: &[Value]| {
        records
            .iter()
            .map(|r| r["metrics"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics(&free), metrics(&strict));
    let improved = |records: &[Value]| {
        records
            .iter()
            .filter(|r| r["verdict"] == "improved")
            .count()
    };
    assert!(improved(&free) > improved(&strict));
    assert_eq!(strict[0]["verdict"], "improved");
    let held_back = strict
        .iter()
        .filter_map(|record| record["reason"].as_str())
        .filter(|reason| reason.starts_with("not significantly better than the best of epoch"))
        .count();
    assert!(held_back > 0, "{strict:?}");
    place.ok("reproduce strict --quiet");
    place.ok("verify strict");
    place.ok("fsck strict");
}

#[test]
fn a_smoothed_value_decides_and_both_are_recorded() {
    let place = Place::with_data();
    let trained = place.trained("run", &format!("{ROUGH} --smooth ema:0.6"));
    let records = history(&place, "run");
    let mut smoothed: Option<f64> = None;
    for record in &records {
        let raw = record["metrics"]["val/accuracy"].as_f64().unwrap();
        let value = smoothed.map_or(raw, |before| 0.6 * before + (1.0 - 0.6) * raw);
        assert_eq!(record["metrics"]["val/accuracy_ema"].as_f64(), Some(value));
        smoothed = Some(value);
    }
    let highest = records
        .iter()
        .map(|record| record["metrics"]["val/accuracy_ema"].as_f64().unwrap())
        .fold(0.0, f64::max);
    assert_eq!(trained["best"]["value"].as_f64(), Some(highest));
    place.ok("reproduce run --quiet");
}

#[test]
fn what_cannot_be_told_from_the_best_is_named() {
    let place = Place::with_data();
    place.trained("run", ROUGH);
    let shown = place.json("show run --json");
    let selection = &shown["selection"];
    assert_eq!(selection["test"], "McNemar exact");
    assert_eq!(selection["images"], 48);
    let compared = selection["compared"].as_array().unwrap();
    assert_eq!(compared.len(), 5);
    let alike: Vec<&Value> = compared
        .iter()
        .filter(|compared| compared["p_value"].as_f64().unwrap() >= 0.05)
        .collect();
    assert!(!alike.is_empty());
    assert!(selection["optimism"]["optimism"].as_f64().unwrap() > 0.0);
    let text = place.ok("show run").out;
    assert!(text.contains("cannot be told from"), "{text}");
    assert_eq!(text.matches("  ~").count(), alike.len(), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    // By the loss, and without the files.
    place.trained("loss", &format!("{ROUGH} --monitor val/loss"));
    let shown = place.json("show loss --json");
    assert_eq!(shown["selection"]["test"], "paired bootstrap of log_loss");
    std::fs::remove_dir_all(place.path("runs/loss/outcomes")).unwrap();
    assert_eq!(place.json("show loss --json")["selection"], Value::Null);
}

/// What is monitored is what is tested, not the accuracy.
#[test]
fn f1_is_tested_where_f1_decides() {
    let place = Place::with_data();
    place.trained(
        "run",
        &format!("{ROUGH} --lr 0.01 --monitor val/f1_macro --significant 0.0001"),
    );
    let shown = place.json("show run --json");
    let selection = &shown["selection"];
    assert_eq!(selection["test"], "paired bootstrap of f1_macro");
    // The optimism is of the best's own value.
    let values = history(&place, "run");
    let f1 = |record: &Value| record["metrics"]["val/f1_macro"].as_f64().unwrap();
    let highest = values.iter().map(f1).fold(0.0, f64::max);
    let score = selection["optimism"]["score"].as_f64().unwrap();
    assert!((score - highest).abs() < 1e-12, "{score} {highest}");
    let held_back = values
        .iter()
        .filter_map(|record| record["reason"].as_str())
        .filter(|reason| reason.contains("paired bootstrap of f1_macro"))
        .count();
    assert!(held_back > 0, "{values:?}");
    place.ok("reproduce run --quiet");

    place.trained(
        "both",
        &format!("{ROUGH} --monitor 0.5*val/f1_macro+0.5*val/recall_macro"),
    );
    let test = place.json("show both --json")["selection"]["test"].clone();
    let test = test.as_str().unwrap().to_owned();
    assert!(
        test.starts_with("paired bootstrap of") && test.contains("val/recall_macro"),
        "{test}"
    );
}

#[test]
fn a_run_ends_at_its_target_or_when_its_time_is_up() {
    let place = Place::with_data();
    let ended = place.trained("target", "--epochs 5 --target 0.2");
    let reason = ended["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("target reached: val/accuracy"),
        "{reason}"
    );
    // One step is over the time; it is measured all the same.
    let ended = place.trained("time", "--max-minutes 0.000001");
    assert_eq!(
        (&ended["ended"], ended["step"].as_u64()),
        (&Value::from("stopped early"), Some(1))
    );
    assert!(ended["reason"].as_str().unwrap().starts_with("time is up"));
    assert_eq!(ended["best"]["step"], 1);
    place.ok("reproduce time --quiet");
    for (args, words) in [
        ("--smooth ema:1", "ema:FACTOR"),
        ("--significant 2", "below 1"),
        ("--significant 0.00001", "from 0.0001"),
        ("--max-minutes 0", "above 0"),
    ] {
        place
            .run(&format!("train --data data {args}"))
            .fails(2, &[words]);
    }
}
