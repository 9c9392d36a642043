//! The Pareto front: what nothing else is better than, when several values count and none is weighed against another.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::{
    expression::MissingMetric,
    metrics::Metrics,
    objective::{Goal, ObjectiveError},
};

/// Two or more values that count side by side. Shown and read as text: the metrics or expressions joined by commas, each
/// with a `max:` or `min:` before it where its direction does not follow from its metrics.
///
/// One model dominates another when it is at least as good by every value, and better by one (Pareto, 1896; Kung,
/// Luccio and Preparata, "On finding the maxima of a set of vectors", 1975). The front is what nothing dominates.
///
/// As with an [`Objective`](crate::Objective), what has a value that is not finite is never on the front; so there is a
/// front exactly when anything has finite values.
///
/// ```
/// use keepbest_core::{Metrics, Pareto};
///
/// let pareto: Pareto = "val/f1_macro,latency_ms".parse()?;
/// let model = |f1, ms| pareto.point(&Metrics::from_iter([("val/f1_macro", f1), ("latency_ms", ms)]));
/// // The third is slower than the second, and no better.
/// let points = [model(0.95, 4.0)?, model(0.91, 1.0)?, model(0.91, 2.0)?, model(f64::NAN, 0.5)?];
/// assert_eq!(pareto.front(&points), [true, true, false, false]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Pareto {
    goals: Vec<Goal>,
}

/// The values of a model, in the order of the goals; all are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Point(Vec<f64>);

impl Point {
    /// The values, in the order of the goals.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

impl Pareto {
    /// The values that count.
    #[must_use]
    pub fn goals(&self) -> &[Goal] {
        &self.goals
    }

    /// The names of all metrics in it.
    pub fn metric_names(&self) -> impl Iterator<Item = &str> {
        let goals = self.goals.iter();
        goals.flat_map(|goal| goal.monitor.metric_names())
    }

    /// The point of a model; `None` when one of its values is not finite.
    ///
    /// # Errors
    /// [`MissingMetric`] when a metric was not measured.
    pub fn point(&self, metrics: &Metrics) -> Result<Option<Point>, MissingMetric> {
        let values = self.goals.iter().map(|goal| goal.monitor.evaluate(metrics));
        let values = values.collect::<Result<Vec<f64>, _>>()?;
        let finite = values.iter().all(|value| value.is_finite());
        Ok(finite.then_some(Point(values)))
    }

    /// `Greater` when `a` dominates `b`, `Less` when `b` dominates `a`, `Equal` when they are equal by every value; `None`
    /// when each is better by some value.
    #[must_use]
    pub fn compare(&self, a: &Point, b: &Point) -> Option<Ordering> {
        let values = self.goals.iter().zip(a.values().iter().zip(b.values()));
        let mut order = Ordering::Equal;
        for (goal, (a, b)) in values {
            match goal.direction.compare(*a, *b) {
                Ordering::Equal => {}
                by_this if order.is_eq() => order = by_this,
                by_this if order != by_this => return None,
                _ => {}
            }
        }
        Some(order)
    }

    /// Which of these are on the front, those that are equal with them.
    #[must_use]
    pub fn front(&self, points: &[Option<Point>]) -> Vec<bool> {
        let dominated = |point: &Point| {
            let mut others = points.iter().flatten();
            others.any(|other| self.compare(other, point) == Some(Ordering::Greater))
        };
        let on_front = |point: &Option<Point>| point.as_ref().is_some_and(|it| !dominated(it));
        points.iter().map(on_front).collect()
    }
}

impl FromStr for Pareto {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut quoted = false;
        // A name between backquotes may have a comma in it.
        let parts = text.split(|c| {
            quoted ^= c == '`';
            c == ',' && !quoted
        });
        let goals: Vec<Goal> = parts.map(str::parse).collect::<Result<_, _>>()?;
        if goals.len() < 2 {
            return Err(ObjectiveError::OneGoal {
                text: text.trim().to_owned(),
            });
        }
        for (i, goal) in goals.iter().enumerate() {
            if goals[..i].iter().any(|it| it.monitor == goal.monitor) {
                return Err(ObjectiveError::MonitoredTwice {
                    monitor: goal.monitor.clone(),
                });
            }
        }
        Ok(Self { goals })
    }
}

impl fmt::Display for Pareto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Goal { monitor, direction }) in self.goals.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if monitor.direction() != Some(*direction) {
                write!(f, "{direction}:")?;
            }
            write!(f, "{monitor}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Direction;

    #[test]
    fn text_is_read_and_written() {
        for (text, written) in [
            ("val/f1_macro, latency_ms", "val/f1_macro,latency_ms"),
            ("max:val/loss,min:parameters", "max:val/loss,parameters"),
            (
                "val/f1_macro + val/accuracy,min:`my, own`",
                "val/f1_macro + val/accuracy,min:`my, own`",
            ),
        ] {
            let pareto: Pareto = text.parse().unwrap();
            assert_eq!(pareto.to_string(), written);
            assert_eq!(written.parse::<Pareto>(), Ok(pareto));
        }
        for (text, told) in [
            (
                "val/f1_macro",
                "a Pareto front is of two or more metrics, joined by commas; `val/f1_macro` is one",
            ),
            ("val/loss,val/loss", "val/loss is monitored twice"),
            (
                "val/loss,speed",
                "it is not known whether more or less of `speed` is better: `max:` or `min:` is needed before it",
            ),
            ("val/loss,,speed", "cannot read the expression ``"),
        ] {
            let error = text.parse::<Pareto>().unwrap_err();
            assert_eq!(error.to_string(), told);
        }
    }

    #[test]
    fn a_missing_metric_is_named() {
        let pareto: Pareto = "val/f1_macro,latency_ms".parse().unwrap();
        let error = pareto
            .point(&Metrics::from_iter([("val/f1_macro", f64::NAN)]))
            .unwrap_err();
        assert_eq!(error.name, "latency_ms");
    }

    /// Values of which many are equal, and some are no numbers.
    fn values() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (0u8..5).prop_map(f64::from),
            1 => Just(-0.0),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn the_front_is_what_brute_force_finds(rows in prop::collection::vec([values(), values(), values()], 0..24)) {
            let pareto: Pareto = "max:a,min:b,max:c".parse().unwrap();
            let points: Vec<Option<Point>> = rows
                .iter()
                .map(|[a, b, c]| pareto.point(&Metrics::from_iter([("a", *a), ("b", *b), ("c", *c)])).unwrap())
                .collect();
            // By the definition, in numbers of which more is better.
            let finite = |row: &[f64; 3]| row.iter().all(|value| value.is_finite());
            let better: Vec<[f64; 3]> = rows.iter().filter(|row| finite(row)).map(|[a, b, c]| [*a, -b, *c]).collect();
            let expected: Vec<bool> = rows
                .iter()
                .map(|row| {
                    let own = [row[0], -row[1], row[2]];
                    finite(row) && !better.iter().any(|other| {
                        (0..3).all(|i| other[i] >= own[i]) && (0..3).any(|i| other[i] > own[i])
                    })
                })
                .collect();
            let front = pareto.front(&points);
            prop_assert_eq!(&front, &expected);
            prop_assert_eq!(front.contains(&true), rows.iter().any(finite));
        }

        #[test]
        fn domination_is_an_order(rows in prop::collection::vec([0u8..3, 0u8..3], 3)) {
            let pareto: Pareto = "max:a,min:b".parse().unwrap();
            prop_assert_eq!(pareto.goals()[1].direction, Direction::Minimise);
            let point = |row: &[u8; 2]| Point(row.map(f64::from).to_vec());
            let [a, b, c] = [point(&rows[0]), point(&rows[1]), point(&rows[2])];
            let (ab, ba) = (pareto.compare(&a, &b), pareto.compare(&b, &a));
            prop_assert_eq!(ab, ba.map(Ordering::reverse));
            let at_least = |order: Option<Ordering>| order.is_some_and(Ordering::is_ge);
            if at_least(ab) && at_least(pareto.compare(&b, &c)) {
                prop_assert!(at_least(pareto.compare(&a, &c)));
            }
        }
    }
}
