//! When a run stops, and in what words.

use std::time::Duration;

use keepbest_core::{
    Direction, EarlyStopping, EarlyStoppingConfig, Metrics, MinDelta, Objective, Score, StopReason,
    early_stopping::EarlyStoppingState,
};

const NAN: f64 = f64::NAN;

/// Runs the values through objective and stopping, both stored and read again before each, until it stops: the epoch
/// (from 1) and why.
fn run(
    objective: &Objective,
    config: &EarlyStoppingConfig,
    values: &[f64],
) -> Option<(u64, StopReason)> {
    let mut best: Option<Score> = None;
    let mut state = EarlyStoppingState::default();
    for (epoch, value) in (1..).zip(values) {
        let stored = serde_json::to_string(&state).unwrap();
        let mut stopping =
            EarlyStopping::resume(config.clone(), serde_json::from_str(&stored).unwrap());
        // The second metric falls, so that it would decide every tie.
        let metrics = Metrics::from_iter([("m", *value), ("t", -(epoch as f64))]);
        let judgement = objective.judge(best.as_ref(), &metrics).unwrap();
        if judgement.verdict.is_improved() {
            best = judgement.score;
        }
        if let Some(reason) = stopping.observe(objective, &judgement, epoch) {
            return Some((epoch, reason));
        }
        state = *stopping.state();
    }
    None
}

fn patience(patience: u32) -> EarlyStoppingConfig {
    EarlyStoppingConfig {
        patience: Some(patience),
        ..EarlyStoppingConfig::default()
    }
}

#[test]
fn patience_counts_evaluations_without_improvement() {
    let max = Objective::with_direction("m", Direction::Maximise).unwrap();
    let min = Objective::with_direction("m", Direction::Minimise).unwrap();
    let delta = max
        .clone()
        .with_min_delta(MinDelta::Absolute(0.25))
        .unwrap();
    let tied = max
        .clone()
        .with_tie_break("t", Some(Direction::Minimise))
        .unwrap();
    type Row<'a> = (&'a str, &'a Objective, u32, &'a [f64], Option<u64>);
    let rows: &[Row] = &[
        ("rises", &max, 1, &[0.1, 0.2, 0.3], None),
        ("falls", &max, 2, &[0.3, 0.2, 0.1, 0.0], Some(3)),
        (
            "recovers in time",
            &max,
            2,
            &[0.3, 0.2, 0.4, 0.1, 0.5],
            None,
        ),
        (
            "a tie is no improvement",
            &max,
            2,
            &[0.3, 0.3, 0.3, 0.9],
            Some(3),
        ),
        (
            "not when a tie-break decides it either",
            &tied,
            2,
            &[0.3, 0.3, 0.3, 0.9],
            Some(3),
        ),
        ("min", &min, 2, &[0.3, 0.2, 0.2, 0.2], Some(4)),
        (
            "NaN does not reset",
            &max,
            3,
            &[0.3, 0.2, NAN, 0.2],
            Some(4),
        ),
        ("NaN after the best", &max, 2, &[0.3, NAN, NAN], Some(3)),
        ("NaN from the start", &max, 2, &[NAN, NAN, 0.3], Some(2)),
        (
            "infinity does not reset",
            &max,
            2,
            &[0.3, f64::INFINITY, f64::INFINITY],
            Some(3),
        ),
        (
            "less than min_delta does not reset",
            &delta,
            2,
            &[0.0, 0.25, 0.25],
            Some(3),
        ),
        (
            "creeping adds up",
            &delta,
            3,
            &[0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75],
            None,
        ),
        (
            "patience 0 is patience 1",
            &max,
            0,
            &[0.1, 0.2, 0.2],
            Some(3),
        ),
    ];
    for (name, objective, count, values, expected) in rows {
        let stopped = run(objective, &patience(*count), values).map(|(epoch, _)| epoch);
        assert_eq!(stopped, *expected, "{name}");
    }
}

#[test]
fn its_own_min_delta_counts() {
    let objective = Objective::with_direction("m", Direction::Maximise).unwrap();
    let config = EarlyStoppingConfig {
        min_delta: Some(MinDelta::Absolute(0.25)),
        ..patience(2)
    };
    let (epoch, reason) = run(&objective, &config, &[0.5, 0.6, 0.7, 0.9]).unwrap();
    assert_eq!(epoch, 3);
    // The best is the run's best, although it did not reset the patience.
    assert_eq!(
        reason.to_string(),
        "no improvement of m by more than 0.25 for 2 evaluations (best 0.7000 at epoch 3)"
    );
}

#[test]
fn a_rejected_evaluation_is_no_progress() {
    let objective = Objective::with_direction("m", Direction::Maximise)
        .unwrap()
        .with_constraint("m < 0.5".parse().unwrap());
    let (epoch, reason) = run(&objective, &patience(3), &[0.6, 0.7, 0.8, 0.9]).unwrap();
    assert_eq!(epoch, 3);
    assert_eq!(
        reason.to_string(),
        "no improvement of m for 3 evaluations (none could be the best)"
    );
    let target = EarlyStoppingConfig {
        target: Some(0.6),
        ..Default::default()
    };
    assert_eq!(run(&objective, &target, &[0.7, 0.8]), None);
}

#[test]
fn words() {
    let objective = Objective::new("val/accuracy").unwrap();
    let mut stopping = EarlyStopping::new(patience(5));
    let mut best = None;
    let mut stop = None;
    for (epoch, value) in (1..).zip([
        0.5, 0.6, 0.7, 0.8, 0.85, 0.87, 0.89123, 0.8, NAN, 0.7, 0.8, 0.8,
    ]) {
        let metrics = Metrics::from_iter([("val/accuracy", value)]);
        let judgement = objective.judge(best.as_ref(), &metrics).unwrap();
        if judgement.verdict.is_improved() {
            best = judgement.score;
        }
        assert_eq!(stop, None);
        stop = stopping.observe(&objective, &judgement, epoch);
    }
    let words = "no improvement of val/accuracy for 5 evaluations (best 0.8912 at epoch 7)";
    assert_eq!(stop.unwrap().to_string(), words);
    let one = StopReason::NoImprovement {
        monitor: "m".into(),
        evaluations: 1,
        by_more_than: None,
        best: None,
    };
    assert_eq!(
        one.to_string(),
        "no improvement of m for 1 evaluation (none could be the best)"
    );
}

#[test]
fn target() {
    let stop = |direction, target, values: &[f64]| {
        let objective = Objective::with_direction("m", direction).unwrap();
        let config = EarlyStoppingConfig {
            target: Some(target),
            ..Default::default()
        };
        run(&objective, &config, values).map(|(_, reason)| reason.to_string())
    };
    let (max, min) = (Direction::Maximise, Direction::Minimise);
    assert_eq!(
        stop(max, 0.9, &[0.8, 0.9]).as_deref(),
        Some("target reached: m 0.9000 >= 0.9 at epoch 2")
    );
    assert_eq!(
        stop(min, 0.1, &[0.2, 0.05]).as_deref(),
        Some("target reached: m 0.0500 <= 0.1 at epoch 2")
    );
    assert_eq!(stop(max, 0.9, &[0.8, NAN, f64::INFINITY, 0.89]), None);
    assert_eq!(stop(min, 0.1, &[f64::NEG_INFINITY]), None);
}

#[test]
fn divergence_and_time() {
    let stopping = EarlyStopping::new(EarlyStoppingConfig {
        max_seconds: Some(60.0),
        ..Default::default()
    });
    assert_eq!(stopping.observe_loss(3, 1e30), None);
    for (loss, shown) in [(NAN, "NaN"), (f64::INFINITY, "inf")] {
        let reason = stopping.observe_loss(1234, loss).unwrap();
        assert_eq!(
            reason.to_string(),
            format!("diverged: the loss is {shown} at step 1234")
        );
    }
    assert_eq!(
        stopping.observe_elapsed(Duration::from_millis(59_999)),
        None
    );
    let reason = stopping.observe_elapsed(Duration::from_secs(61)).unwrap();
    assert_eq!(reason.to_string(), "time is up: 61 s of 60 s");

    let off = EarlyStopping::new(EarlyStoppingConfig {
        divergence: false,
        ..Default::default()
    });
    assert_eq!(off.observe_loss(1, NAN), None);
    assert_eq!(off.observe_elapsed(Duration::MAX), None);
}

#[test]
fn reasons_and_rules_survive_json() {
    let reason = StopReason::Diverged { loss: NAN, step: 7 };
    let json = serde_json::to_string(&reason).unwrap();
    assert_eq!(json, r#"{"stop":"diverged","loss":"NaN","step":7}"#);
    assert_eq!(
        serde_json::from_str::<StopReason>(&json)
            .unwrap()
            .to_string(),
        reason.to_string()
    );

    let config: EarlyStoppingConfig =
        serde_json::from_str(r#"{"patience": 5, "min_delta": "0.1%"}"#).unwrap();
    assert_eq!(
        config,
        EarlyStoppingConfig {
            min_delta: Some(MinDelta::Relative(0.001)),
            ..patience(5)
        }
    );
    assert!(config.divergence);
    assert!(serde_json::from_str::<EarlyStoppingConfig>(r#"{"pacience": 5}"#).is_err());
}
