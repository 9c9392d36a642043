//! The best is right for every sequence of measurements: which epochs improved, in what words, and where it stops.

use keepbest_core::{
    Constraint, Direction, Metrics, MinDelta, Objective, ObjectiveError, Score, Verdict,
};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// The places (from 0) of the evaluations that became the best, the run being resumed before each of them: the best goes
/// through JSON.
fn improvements(objective: &Objective, values: &[f64]) -> Vec<usize> {
    let mut best: Option<Score> = None;
    let mut improved = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let stored = serde_json::to_string(&best).unwrap();
        let resumed: Option<Score> = serde_json::from_str(&stored).unwrap();
        let judgement = objective
            .judge(resumed.as_ref(), &Metrics::from_iter([("m", *value)]))
            .unwrap();
        if judgement.verdict.is_improved() {
            improved.push(i);
            best = judgement.score;
        }
    }
    improved
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn table() {
    use MinDelta::{Absolute, Relative};
    let none = Absolute(0.0);
    let (max, min) = (Direction::Maximise, Direction::Minimise);
    let tiny = f64::from_bits(1);
    type Row<'a> = (&'a str, Direction, MinDelta, &'a [f64], &'a [usize]);
    let rows: &[Row] = &[
        ("rises", max, none, &[0.1, 0.2, 0.3], &[0, 1, 2]),
        ("falls", max, none, &[0.3, 0.2, 0.1], &[0]),
        (
            "up and down",
            max,
            none,
            &[0.2, 0.1, 0.3, 0.2, 0.4],
            &[0, 2, 4],
        ),
        ("a tie keeps the earlier", max, none, &[0.5, 0.5, 0.5], &[0]),
        (
            "zero and minus zero tie",
            max,
            none,
            &[0.0, -0.0, 0.0],
            &[0],
        ),
        ("minus zero and zero tie", max, none, &[-0.0, 0.0], &[0]),
        (
            "minus zero and zero tie, min",
            min,
            none,
            &[0.0, -0.0],
            &[0],
        ),
        (
            "the least step counts",
            max,
            none,
            &[0.0, tiny, 2.0 * tiny],
            &[0, 1, 2],
        ),
        ("nothing", max, none, &[], &[]),
        ("min falls", min, none, &[0.3, 0.2, 0.1], &[0, 1, 2]),
        ("min rises", min, none, &[0.1, 0.2, 0.3], &[0]),
        (
            "min below zero",
            min,
            none,
            &[0.0, -1.0, -0.5, -2.0],
            &[0, 1, 3],
        ),
        (
            "max below zero",
            max,
            none,
            &[-2.0, -1.0, -3.0, -0.5],
            &[0, 1, 3],
        ),
        ("NaN first", max, none, &[NAN, 0.1, 0.2], &[1, 2]),
        ("NaN first, min", min, none, &[NAN, 0.2, 0.1], &[1, 2]),
        (
            "NaN in the middle",
            max,
            none,
            &[0.1, NAN, 0.05, 0.2],
            &[0, 3],
        ),
        (
            "NaN in the middle, min",
            min,
            none,
            &[0.2, NAN, 0.3, 0.1],
            &[0, 3],
        ),
        ("NaN last", max, none, &[0.1, 0.2, NAN], &[0, 1]),
        ("NaN alone", max, none, &[NAN, NAN, NAN], &[]),
        ("minus NaN", max, none, &[-NAN, 0.1, -NAN], &[1]),
        (
            "infinity is not the best",
            max,
            none,
            &[INF, 0.1, INF, 0.2],
            &[1, 3],
        ),
        (
            "infinity is not the best, min",
            min,
            none,
            &[INF, 0.2, -INF, 0.1],
            &[1, 3],
        ),
        ("minus infinity first", max, none, &[-INF, -1.0], &[1]),
        ("infinities alone", min, none, &[-INF, INF], &[]),
        (
            "the extremes",
            max,
            none,
            &[f64::MIN, f64::MAX, f64::MIN],
            &[0, 1],
        ),
        (
            "the extremes, min",
            min,
            Absolute(1.0),
            &[f64::MAX, f64::MIN, f64::MAX],
            &[0, 1],
        ),
        (
            "min_delta",
            max,
            Absolute(0.25),
            &[0.0, 0.25, 0.5, 0.75, 0.76],
            &[0, 2, 4],
        ),
        (
            "min_delta, creeping",
            max,
            Absolute(0.25),
            &[0.0, 0.125, 0.25, 0.375, 0.5],
            &[0, 3],
        ),
        (
            "min_delta, min",
            min,
            Absolute(0.25),
            &[1.0, 0.75, 0.5, 0.25, 0.24],
            &[0, 2, 4],
        ),
        (
            "min_delta and NaN",
            max,
            Absolute(0.25),
            &[NAN, 0.0, NAN, 0.2, INF, 0.3],
            &[1, 5],
        ),
        (
            "relative",
            max,
            Relative(0.5),
            &[1.0, 1.5, 1.51, 2.26, 2.27],
            &[0, 2, 4],
        ),
        (
            "relative, min",
            min,
            Relative(0.5),
            &[4.0, 2.0, 1.99, 1.0, 0.9],
            &[0, 2, 4],
        ),
        (
            "relative below zero",
            max,
            Relative(0.5),
            &[-4.0, -2.0, -1.9],
            &[0, 2],
        ),
        (
            "relative below zero, min",
            min,
            Relative(0.5),
            &[-2.0, -3.0, -3.1],
            &[0, 2],
        ),
        (
            "relative to zero",
            max,
            Relative(0.5),
            &[0.0, -0.0, tiny, 1.0],
            &[0, 2, 3],
        ),
        (
            "relative to minus zero",
            min,
            Relative(0.5),
            &[-0.0, 0.0, -tiny, -1.0],
            &[0, 2, 3],
        ),
        (
            "relative of more than all",
            min,
            Relative(1.0),
            &[1.0, 0.5, 0.0, -0.5],
            &[0, 3],
        ),
    ];
    for (name, direction, min_delta, values, expected) in rows {
        let objective = Objective::with_direction("m", *direction)
            .unwrap()
            .with_min_delta(*min_delta)
            .unwrap();
        assert_eq!(improvements(&objective, values), *expected, "{name}");
    }
}

fn judge(
    objective: &Objective,
    best: Option<(f64, Option<f64>)>,
    metrics: &[(&str, f64)],
) -> Verdict {
    let best = best.map(|(value, tie)| Score { value, tie });
    objective
        .judge(best.as_ref(), &Metrics::from_iter(metrics.iter().copied()))
        .unwrap()
        .verdict
}

fn improved(reason: &str) -> Verdict {
    Verdict::Improved {
        reason: reason.into(),
    }
}

fn not_improved(reason: &str) -> Verdict {
    Verdict::NotImproved {
        reason: reason.into(),
    }
}

fn rejected(reason: &str) -> Verdict {
    Verdict::Rejected {
        reason: reason.into(),
    }
}

#[test]
fn reasons_in_words() {
    let accuracy = Objective::new("val/accuracy").unwrap();
    let loss = Objective::new("val/loss")
        .unwrap()
        .with_min_delta("0.5%".parse().unwrap())
        .unwrap();
    let a = |value| [("val/accuracy", value)];
    let l = |value| [("val/loss", value)];
    assert_eq!(
        judge(&accuracy, None, &a(0.8912)),
        improved("val/accuracy 0.8912, the first")
    );
    let best = Some((0.8875, None));
    assert_eq!(
        judge(&accuracy, best, &a(0.8912)),
        improved("val/accuracy 0.8912, was 0.8875")
    );
    assert_eq!(
        judge(&accuracy, best, &a(0.88751)),
        improved("val/accuracy 0.88751, was 0.88750")
    );
    assert_eq!(
        judge(&accuracy, best, &a(0.5)),
        not_improved("val/accuracy 0.5000 is lower than the best 0.8875")
    );
    assert_eq!(
        judge(&accuracy, best, &a(0.8875)),
        not_improved("val/accuracy 0.8875 equals the best, the earlier stays")
    );
    assert_eq!(
        judge(&accuracy, best, &a(NAN)),
        rejected("val/accuracy is NaN, which is never the best")
    );
    assert_eq!(
        judge(&accuracy, None, &a(-INF)),
        rejected("val/accuracy is -inf, which is never the best")
    );
    let best = Some((0.4, None));
    assert_eq!(
        judge(&loss, best, &l(0.45)),
        not_improved("val/loss 0.4500 is higher than the best 0.4000")
    );
    assert_eq!(
        judge(&loss, best, &l(0.399)),
        not_improved(
            "val/loss 0.3990 is not better than the best 0.4000 by more than 0.5%, the earlier stays"
        )
    );
    // A stored best that is no number does not stand in the way.
    assert!(judge(&loss, Some((NAN, None)), &l(9.0)).is_improved());
}

#[test]
fn tie_break_decides_ties_and_nothing_else() {
    let objective = Objective::new("val/accuracy")
        .unwrap()
        .with_tie_break("val/loss", None)
        .unwrap();
    let with = |a, l| [("val/accuracy", a), ("val/loss", l)];
    let best = Some((0.9, Some(0.3)));
    assert_eq!(
        judge(&objective, best, &with(0.9, 0.2)),
        improved("val/accuracy 0.9000 equals the best, and val/loss decides: 0.2000, was 0.3000")
    );
    for (accuracy, loss) in [(0.9, 0.3), (0.9, 0.4), (0.9, NAN), (0.9, -INF), (0.89, 0.0)] {
        assert!(
            !judge(&objective, best, &with(accuracy, loss)).is_improved(),
            "{accuracy} {loss}"
        );
    }
    assert!(judge(&objective, best, &with(0.91, 9.0)).is_improved());
    assert!(judge(&objective, best, &with(0.91, NAN)).is_improved());
    // A finite tie-break is better than none.
    assert!(judge(&objective, Some((0.9, None)), &with(0.9, 9.0)).is_improved());
    assert!(!judge(&objective, Some((0.9, None)), &with(0.9, NAN)).is_improved());

    // Within the minimum improvement it decides between what is not worse; the best cannot drift downwards.
    let objective = objective.with_min_delta(MinDelta::Absolute(0.125)).unwrap();
    let best = Some((0.5, Some(0.3)));
    assert!(judge(&objective, best, &with(0.625, 0.2)).is_improved());
    assert!(!judge(&objective, best, &with(0.625, 0.4)).is_improved());
    assert!(judge(&objective, best, &with(0.626, 0.4)).is_improved());
    assert!(!judge(&objective, best, &with(0.499, 0.1)).is_improved());
}

#[test]
fn constraints_reject_whatever_the_value() {
    let objective = Objective::new("val/accuracy")
        .unwrap()
        .with_constraint("val/recall_macro >= 0.9".parse().unwrap())
        .with_constraint("val/loss < 2*val/ece + 1".parse::<Constraint>().unwrap());
    let with = |recall, loss| {
        [
            ("val/accuracy", 0.95),
            ("val/recall_macro", recall),
            ("val/loss", loss),
            ("val/ece", 0.0),
        ]
    };
    assert!(judge(&objective, None, &with(0.9, 0.5)).is_improved());
    assert_eq!(
        judge(&objective, None, &with(0.8734, 0.5)),
        rejected("val/recall_macro >= 0.9 does not hold: val/recall_macro is 0.8734")
    );
    assert_eq!(
        judge(&objective, Some((0.1, None)), &with(NAN, 1.5)),
        rejected(
            "val/recall_macro >= 0.9 does not hold: val/recall_macro is NaN; val/loss < 2 * val/ece + 1 does not hold: \
             val/loss is 1.5000, 2 * val/ece + 1 is 1.0000"
        )
    );
    let judgement = objective
        .judge(None, &Metrics::from_iter(with(0.1, 0.5)))
        .unwrap();
    assert_eq!((judgement.score, judgement.value), (None, 0.95));
}

#[test]
fn a_missing_metric_is_an_error_wherever_it_is_needed() {
    let objective = Objective::new("val/accuracy")
        .unwrap()
        .with_tie_break("val/loss", None)
        .unwrap()
        .with_constraint("val/f1_macro > 0".parse().unwrap());
    assert_eq!(
        objective.metric_names(),
        ["val/accuracy", "val/loss", "val/f1_macro"]
    );
    let whole = Metrics::from_iter([
        ("val/accuracy", NAN),
        ("val/loss", 1.0),
        ("val/f1_macro", 0.0),
    ]);
    assert!(objective.judge(None, &whole).is_ok());
    for name in objective.metric_names() {
        let mut metrics = whole.clone();
        metrics.remove(name);
        let error = objective.judge(None, &metrics).unwrap_err();
        let ObjectiveError::MissingMetric(missing) = &error else {
            panic!("{error}")
        };
        assert_eq!(missing.name, name);
        assert_eq!(missing.existing, metrics.names().collect::<Vec<_>>());
    }
    let error = objective
        .judge(None, &Metrics::from_iter([("val/acuracy", 0.5)]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "metric `val/accuracy` was not measured; there are: val/acuracy"
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean val/acuracy?"));
}

#[test]
fn senseless_objectives_are_refused() {
    let error = Objective::new("val/my_own").unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is not known whether more or less of `val/my_own` is better: `--mode max|min` is needed"
    );
    assert!(Objective::with_direction("val/my_own", Direction::Minimise).is_ok());
    assert!(matches!(
        Objective::new("val/accuracy + val/loss"),
        Err(ObjectiveError::UnknownDirection { .. })
    ));
    assert!(matches!(
        Objective::new("1 + 1"),
        Err(ObjectiveError::NoMetric { .. })
    ));
    assert!(matches!(
        Objective::new("val/accuracy +"),
        Err(ObjectiveError::Expression { .. })
    ));
    let objective = Objective::new("val/accuracy").unwrap();
    for delta in [
        MinDelta::Absolute(-0.1),
        MinDelta::Relative(NAN),
        MinDelta::Absolute(INF),
    ] {
        assert!(matches!(
            objective.clone().with_min_delta(delta),
            Err(ObjectiveError::MinDelta(_))
        ));
    }
    let error = objective
        .clone()
        .with_tie_break("my_own", None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is not known whether more or less of `my_own` is better: `max:` or `min:` is needed before it"
    );
    let tied = objective.with_tie_break("min: my_own", None).unwrap();
    assert_eq!(tied.to_string(), "max val/accuracy, ties by min my_own");
    assert_eq!(
        Objective::new("min:val/my_own").unwrap().direction(),
        Direction::Minimise
    );
    assert_eq!(
        Objective::new("max:`a:b`").unwrap().monitor().as_metric(),
        Some("a:b")
    );
    assert!(matches!(
        Objective::new("up:val/accuracy"),
        Err(ObjectiveError::Expression { .. })
    ));
    // The direction given counts more than the one known.
    assert_eq!(
        Objective::with_direction("val/loss", Direction::Maximise)
            .unwrap()
            .direction(),
        Direction::Maximise
    );
}

#[test]
fn composites_are_judged_by_their_value() {
    let objective = Objective::new("0.5*val/precision_macro + 0.5*val/recall_macro").unwrap();
    let with = |p, r| [("val/precision_macro", p), ("val/recall_macro", r)];
    assert!(judge(&objective, Some((0.75, None)), &with(1.0, 0.625)).is_improved());
    assert!(!judge(&objective, Some((0.75, None)), &with(1.0, 0.5)).is_improved());
    assert!(judge(&objective, None, &with(NAN, 0.5)).is_rejected());
}

#[test]
fn objectives_survive_json_and_are_refused_when_changed() {
    let objective = Objective::new("val/accuracy - val/loss / 10")
        .unwrap()
        .with_min_delta("0.7%".parse().unwrap())
        .unwrap()
        .with_tie_break("val/loss", None)
        .unwrap()
        .with_constraint("val/recall_macro >= 0.9".parse().unwrap());
    let json = serde_json::to_string(&objective).unwrap();
    assert_eq!(
        json,
        concat!(
            r#"{"monitor":"val/accuracy - val/loss / 10","direction":"max","min_delta":"0.7%","#,
            r#""tie_break":{"monitor":"val/loss","direction":"min"},"constraints":["val/recall_macro >= 0.9"]}"#
        )
    );
    assert_eq!(serde_json::from_str::<Objective>(&json).unwrap(), objective);
    for (from, to) in [
        ("max", "up"),
        ("\"0.7%\"", "-1"),
        ("val/loss / 10", "val/loss /"),
        (">= 0.9", ""),
        ("monitor", "x"),
    ] {
        assert!(
            serde_json::from_str::<Objective>(&json.replacen(from, to, 1)).is_err(),
            "{from} -> {to}"
        );
    }
}
