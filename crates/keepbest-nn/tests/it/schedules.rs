//! Learning rates against PyTorch: `tests/golden/make_optimizers.py`.

use keepbest_nn::schedule::{Curve, PlateauState, Schedule};
use serde_json::Value;

fn rates(entry: &Value) -> Vec<f64> {
    serde_json::from_value(entry["learning_rates"].clone()).unwrap()
}

fn metric(value: &Value) -> f64 {
    match value.as_str() {
        Some(text) => text.parse().unwrap(),
        None => value.as_f64().unwrap(),
    }
}

#[test]
fn schedules_agree_with_pytorch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizers.json");
    let index: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let entries = index["schedules"].as_array().unwrap();
    assert!(entries.len() >= 15);
    for entry in entries {
        let name = entry["name"].as_str().unwrap();
        let base = entry["base_lr"].as_f64().unwrap();
        let schedule: Schedule = serde_json::from_value(entry["schedule"].clone()).unwrap();
        schedule.validate().unwrap();
        let mut plateau = PlateauState::default();
        for (step, expected) in rates(entry).into_iter().enumerate() {
            let rate = schedule.learning_rate(base, step as u64) * plateau.factor;
            let close = (rate - expected).abs() <= 1e-9 * base;
            assert!(close, "{name}: step {step} has {rate}, PyTorch {expected}");
            if let (Curve::Plateau(config), Some(value)) =
                (&schedule.curve, entry["metrics"].get(step))
            {
                plateau.observe(config, base, metric(value));
            }
        }
    }
}

#[test]
fn a_plateau_resumes_from_its_state() {
    let text = r#"{"type": "plateau", "mode": "max", "patience": 1, "cooldown": 1}"#;
    let schedule: Schedule = serde_json::from_str(text).unwrap();
    let Curve::Plateau(config) = &schedule.curve else {
        panic!("read as {schedule:?}")
    };
    let metrics = [
        0.1,
        0.5,
        0.4,
        0.4,
        0.4,
        f64::NAN,
        0.3,
        0.2,
        0.6,
        0.1,
        0.1,
        0.1,
    ];
    let mut through = PlateauState::default();
    let mut resumed = PlateauState::default();
    for value in metrics {
        through.observe(config, 0.1, value);
        let text = serde_json::to_string(&resumed).unwrap();
        resumed = serde_json::from_str(&text).unwrap();
        resumed.observe(config, 0.1, value);
        assert_eq!(through, resumed);
    }
    assert!(through.factor < 0.05);
}

#[test]
fn settings_outside_their_range_are_named() {
    for (text, name) in [
        (
            r#"{"type": "step", "step_size": 0, "gamma": 0.1}"#,
            "step size",
        ),
        (r#"{"type": "step", "step_size": 3, "gamma": 0.0}"#, "gamma"),
        (
            r#"{"type": "cosine", "steps": 3, "eta_min": -1.0}"#,
            "eta_min",
        ),
        (
            r#"{"type": "plateau", "mode": "min", "factor": 1.0}"#,
            "factor",
        ),
        (
            r#"{"type": "constant", "warm_up": {"steps": 3, "start_factor": 0.0}}"#,
            "start factor",
        ),
    ] {
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        let error = schedule.validate().unwrap_err().to_string();
        assert!(error.contains(name), "{text}: {error}");
    }
}
