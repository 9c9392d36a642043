//! What the trainer says in the journal of a run that is over.

use std::collections::BTreeMap;

use keepbest_core::Metrics;
use keepbest_core::statistics::Interval;
use keepbest_keeper::RunView;
use keepbest_store::RunStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::seen::SeenBefore;

/// The end of a run, as its journal has it. What a run of an earlier version or of another training loop does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// `completed`, `stopped early` or `diverged`.
    pub ended: Option<String>,
    /// Why it ended before all epochs were done.
    pub reason: Option<String>,
    /// Whether it was ended by hand or because its time was up: repeated, it would go on.
    pub cut_short: bool,
    /// Steps taken.
    pub step: u64,
    /// The last epoch.
    pub epoch: u64,
    /// Epochs planned.
    pub epochs: Option<u64>,
    /// The best on the test split.
    pub test: Option<Metrics>,
    /// The images of val and test that it was trained on or chosen by all the same, or a model it comes from.
    pub seen_before: Vec<SeenBefore>,
    /// 95 % intervals of the best's metrics on the test split.
    pub test_intervals: Option<BTreeMap<String, Interval>>,
}

impl RunSummary {
    /// The summary of a run, when it is over.
    #[must_use]
    pub fn of(view: &RunView) -> Option<Self> {
        match &view.state().status {
            RunStatus::Finished(summary) => Some(Self::read(summary)),
            _ => None,
        }
    }

    /// Reads what a journal has; nothing of what another training loop said in a form of its own.
    #[must_use]
    pub fn read(summary: &Value) -> Self {
        serde_json::from_value(summary.clone()).unwrap_or_default()
    }

    /// What the journal is to have.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again_and_what_others_wrote_is_no_error() {
        let summary = RunSummary {
            ended: Some("completed".into()),
            step: 40,
            epoch: 2,
            epochs: Some(2),
            test: Some(Metrics::from_iter([("test/accuracy", 0.5)])),
            ..RunSummary::default()
        };
        assert_eq!(RunSummary::read(&summary.to_json()), summary);
        for other in [json!({"stopped": "planned end"}), json!("done"), json!(7)] {
            assert_eq!(RunSummary::read(&other), RunSummary::default());
        }
    }
}
