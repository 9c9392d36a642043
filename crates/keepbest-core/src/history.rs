//! The evaluations of a run, in order.

use serde::{Deserialize, Serialize};

use crate::{
    digest::WeightsDigest,
    metrics::{Metrics, nonfinite},
    objective::{Objective, ObjectiveError},
    verdict::{Judgement, Score, Verdict},
};

/// One evaluation with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Optimizer steps taken before it.
    pub step: u64,
    /// The epoch it was made in.
    pub epoch: u64,
    /// The measured values.
    pub metrics: Metrics,
    /// The decision.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the order compares. `None` when it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The value of the monitored expression, as it was.
    #[serde(with = "nonfinite")]
    pub value: f64,
    /// The identity of the weights it was measured on, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<WeightsDigest>,
    /// What was decided by the run's further objectives, in their order. Verdict, score and value above are by its first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Judgement>,
    /// Which weights of the step were measured, where there are several: `raw`, `ema` or `swa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Whether the run's settings had no evaluation here: it was asked for while the run was under way, or its time was up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unscheduled: bool,
}

impl EvaluationRecord {
    /// A record of a judgement.
    #[must_use]
    pub fn new(step: u64, epoch: u64, metrics: Metrics, judgement: Judgement) -> Self {
        let Judgement {
            verdict,
            score,
            value,
        } = judgement;
        Self {
            step,
            epoch,
            metrics,
            verdict,
            score,
            value,
            digest: None,
            others: Vec::new(),
            weights: None,
            unscheduled: false,
        }
    }

    /// With what was decided by the run's further objectives, in their order.
    #[must_use]
    pub fn with_others(mut self, others: Vec<Judgement>) -> Self {
        self.others = others;
        self
    }

    /// What was decided by one of the run's objectives; the first is at 0.
    #[must_use]
    pub fn judgement(&self, objective: usize) -> Option<Judgement> {
        match objective.checked_sub(1) {
            None => Some(Judgement {
                verdict: self.verdict.clone(),
                score: self.score,
                value: self.value,
            }),
            Some(other) => self.others.get(other).cloned(),
        }
    }

    /// With the identity of the weights.
    #[must_use]
    pub fn with_digest(mut self, digest: WeightsDigest) -> Self {
        self.digest = Some(digest);
        self
    }
}

/// The evaluations of a run, in the order they were made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    records: Vec<EvaluationRecord>,
}

impl History {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record.
    pub fn push(&mut self, record: EvaluationRecord) {
        self.records.push(record);
    }

    /// Puts a record behind those of its step and of earlier ones.
    pub fn insert(&mut self, record: EvaluationRecord) {
        let at = self
            .records
            .partition_point(|other| other.step <= record.step);
        self.records.insert(at, record);
    }

    /// All records, in order.
    #[must_use]
    pub fn records(&self) -> &[EvaluationRecord] {
        &self.records
    }

    /// All records, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, EvaluationRecord> {
        self.records.iter()
    }

    /// The number of them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The latest record.
    #[must_use]
    pub fn last(&self) -> Option<&EvaluationRecord> {
        self.records.last()
    }

    /// The best by the run's first objective: the latest that improved.
    #[must_use]
    pub fn best(&self) -> Option<&EvaluationRecord> {
        self.best_by(0)
    }

    /// The best by one of the run's objectives: the latest that improved.
    #[must_use]
    pub fn best_by(&self, objective: usize) -> Option<&EvaluationRecord> {
        let improved = |record: &&EvaluationRecord| {
            let judgement = record.judgement(objective);
            judgement.is_some_and(|judgement| judgement.verdict.is_improved())
        };
        self.records.iter().rev().find(improved)
    }

    /// One metric over the run: step, epoch and value of every evaluation that has it.
    pub fn series(&self, name: &str) -> impl Iterator<Item = (u64, u64, f64)> {
        self.records.iter().filter_map(move |record| {
            let value = record.metrics.get(name)?;
            Some((record.step, record.epoch, value))
        })
    }

    /// The metric names that occur, in order, each once.
    #[must_use]
    pub fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .records
            .iter()
            .flat_map(|record| record.metrics.names())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes what was measured after a step, as a run that resumes from that step will measure it again.
    pub fn truncate_after(&mut self, step: u64) {
        self.records.retain(|record| record.step <= step);
    }

    /// The same measurements judged anew under one objective alone, from the first on.
    ///
    /// # Errors
    /// [`ObjectiveError::MissingMetric`] when an evaluation lacks a metric that the objective needs.
    pub fn judged_by(&self, objective: &Objective) -> Result<Self, ObjectiveError> {
        let mut best: Option<Score> = None;
        let mut records = Vec::with_capacity(self.records.len());
        for record in &self.records {
            let judgement = objective.judge(best.as_ref(), &record.metrics)?;
            if judgement.verdict.is_improved() {
                best = judgement.score;
            }
            let Judgement {
                verdict,
                score,
                value,
            } = judgement;
            records.push(EvaluationRecord {
                verdict,
                score,
                value,
                others: Vec::new(),
                ..record.clone()
            });
        }
        Ok(Self { records })
    }
}

impl<'a> IntoIterator for &'a History {
    type Item = &'a EvaluationRecord;
    type IntoIter = std::slice::Iter<'a, EvaluationRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<EvaluationRecord> for History {
    fn from_iter<I: IntoIterator<Item = EvaluationRecord>>(records: I) -> Self {
        Self {
            records: records.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[f64]) -> History {
        let objective = Objective::new("val/accuracy").unwrap();
        let bare: History = values
            .iter()
            .enumerate()
            .map(|(i, value)| EvaluationRecord {
                step: 10 * (i as u64 + 1),
                epoch: i as u64 + 1,
                metrics: Metrics::from_iter([("val/accuracy", *value)]),
                verdict: Verdict::Rejected {
                    reason: "not judged yet".into(),
                },
                score: None,
                value: f64::NAN,
                digest: Some(WeightsDigest([i as u8; 32])),
                others: Vec::new(),
                weights: None,
                unscheduled: false,
            })
            .collect();
        bare.judged_by(&objective).unwrap()
    }

    #[test]
    fn best_is_the_latest_that_improved() {
        let history = history(&[0.5, f64::NAN, 0.7, 0.7, 0.6]);
        assert_eq!(history.best().unwrap().epoch, 3);
        assert_eq!(history.best().unwrap().digest, Some(WeightsDigest([2; 32])));
        assert_eq!(history.last().unwrap().step, 50);
        assert_eq!(
            history
                .series("val/accuracy")
                .map(|(step, _, _)| step)
                .collect::<Vec<_>>(),
            [10, 20, 30, 40, 50]
        );
        assert_eq!(history.metric_names(), ["val/accuracy"]);
        assert!(History::new().best().is_none());
    }

    #[test]
    fn json_round_trips_with_nan() {
        let history = history(&[0.5, f64::NAN, f64::NEG_INFINITY, 0.75]);
        let json = serde_json::to_string(&history).unwrap();
        let back: History = serde_json::from_str(&json).unwrap();
        // A NaN is not equal to itself, so the text is compared.
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
        assert_eq!(back.best(), history.best());
        assert!(back.records()[1].value.is_nan());
        assert!(
            json.contains(
                r#""verdict":"rejected","reason":"val/accuracy is NaN, which is never the best""#
            ),
            "{json}"
        );
    }

    #[test]
    fn truncation_forgets_what_came_later() {
        let mut history = history(&[0.5, 0.6, 0.7]);
        history.truncate_after(20);
        assert_eq!(history.best().unwrap().step, 20);
        assert_eq!(history.len(), 2);
    }
}
