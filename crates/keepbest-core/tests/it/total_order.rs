//! The order over scores is total, and the best follows it.

use std::cmp::Ordering;

use keepbest_core::{Direction, Metrics, MinDelta, Objective, Score};
use proptest::prelude::*;

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-3..4i32).prop_map(f64::from),
        2 => -1.0..1.0f64,
        1 => any::<f64>(),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN]),
    ]
}

prop_compose! {
    fn any_score()(value in any_value(), tie in prop::option::of(any_value())) -> Score {
        Score { value, tie }
    }
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(vec![Direction::Maximise, Direction::Minimise])
}

fn any_min_delta() -> impl Strategy<Value = MinDelta> {
    prop_oneof![
        Just(MinDelta::Absolute(0.0)),
        (0.0..2.0f64).prop_map(MinDelta::Absolute),
        (0.0..2.0f64).prop_map(MinDelta::Relative),
    ]
}

prop_compose! {
    fn any_objective()(
        direction in any_direction(),
        min_delta in any_min_delta(),
        tie in prop::option::of(any_direction()),
    ) -> Objective {
        let objective = Objective::with_direction("m", direction).unwrap().with_min_delta(min_delta).unwrap();
        match tie {
            Some(direction) => objective.with_tie_break("t", Some(direction)).unwrap(),
            None => objective,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_is_reflexive_and_antisymmetric(objective in any_objective(), a in any_score(), b in any_score()) {
        prop_assert_eq!(objective.compare_total(&a, &a), Ordering::Equal);
        prop_assert_eq!(objective.compare_total(&a, &b), objective.compare_total(&b, &a).reverse());
    }

    #[test]
    fn it_is_transitive(objective in any_objective(), a in any_score(), b in any_score(), c in any_score()) {
        let cmp = |x, y| objective.compare_total(x, y);
        if cmp(&a, &b) != Ordering::Greater && cmp(&b, &c) != Ordering::Greater {
            prop_assert_ne!(cmp(&a, &c), Ordering::Greater);
        }
        if cmp(&a, &b) == Ordering::Equal {
            prop_assert_eq!(cmp(&a, &c), cmp(&b, &c));
        }
    }

    /// Whatever is measured, in any order: the best rises in the order, is finite, and is never one that was rejected.
    #[test]
    fn the_best_only_rises(
        objective in any_objective(),
        measured in prop::collection::vec((any_value(), any_value()), 0..40),
    ) {
        let mut best: Option<Score> = None;
        for (m, t) in measured {
            let judgement = objective.judge(best.as_ref(), &Metrics::from_iter([("m", m), ("t", t)])).unwrap();
            prop_assert_eq!(judgement.score.is_none(), judgement.verdict.is_rejected());
            prop_assert_eq!(judgement.verdict.is_rejected(), !m.is_finite());
            prop_assert!(!judgement.verdict.reason().is_empty());
            if judgement.verdict.is_improved() {
                let score = judgement.score.unwrap();
                prop_assert!(score.value.is_finite());
                if let Some(best) = &best {
                    prop_assert_eq!(objective.compare_total(&score, best), Ordering::Greater);
                }
                best = Some(score);
            }
        }
    }

    /// Without a minimum improvement the best is the first of the greatest.
    #[test]
    fn the_best_is_the_greatest(
        direction in any_direction(),
        tie in any_direction(),
        measured in prop::collection::vec((any_value(), any_value()), 1..40),
    ) {
        let objective =
            Objective::with_direction("m", direction).unwrap().with_tie_break("t", Some(tie)).unwrap();
        let mut best: Option<(usize, Score)> = None;
        let mut greatest: Option<(usize, Score)> = None;
        for (i, (m, t)) in measured.into_iter().enumerate() {
            let metrics = Metrics::from_iter([("m", m), ("t", t)]);
            let judgement = objective.judge(best.as_ref().map(|(_, score)| score), &metrics).unwrap();
            if judgement.verdict.is_improved() {
                best = judgement.score.map(|score| (i, score));
            }
            let score = Score { value: m, tie: Some(t) };
            if m.is_finite()
                && greatest.as_ref().is_none_or(|(_, g)| objective.compare_total(&score, g) == Ordering::Greater)
            {
                greatest = Some((i, score));
            }
        }
        prop_assert_eq!(best.map(|(i, _)| i), greatest.map(|(i, _)| i));
    }

    /// A score that has been written and read judges the same: nothing changes on resume.
    #[test]
    fn resume_changes_nothing(objective in any_objective(), best in any_score(), m in any_value(), t in any_value()) {
        let metrics = Metrics::from_iter([("m", m), ("t", t)]);
        let stored = serde_json::to_string(&(&objective, &best)).unwrap();
        let (read_objective, read_best): (Objective, Score) = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(&read_objective, &objective);
        let judged = objective.judge(Some(&best), &metrics).unwrap();
        let again = read_objective.judge(Some(&read_best), &metrics).unwrap();
        prop_assert_eq!(judged.verdict, again.verdict);
        prop_assert_eq!(judged.score, again.score);
    }
}
