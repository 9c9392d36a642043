//! What a run keeps a best by.

use keepbest_core::{Judgement, Objective, ObjectiveError, Score, Verdict};
use keepbest_store::RefName;

use crate::evaluation::Evaluation;

/// One objective of the run, and the ref of the best by it. The first is there always.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub reference: RefName,
    pub objective: Objective,
    pub replay: Option<Replay>,
}

/// After a resume, until the step of a best that was found on disk beyond the resume point.
///
/// The evaluations between the two are repeated. They are judged as they were the first time, so that early stopping goes the same way as
/// without the interruption; but only what is not worse than the best on disk is saved as best.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replay {
    pub on_disk: Score,
    pub on_disk_step: u64,
    pub best: Option<Score>,
}

impl Goal {
    fn replay_at(&self, step: u64) -> Option<&Replay> {
        let replay = self.replay.as_ref();
        replay.filter(|replay| step <= replay.on_disk_step)
    }

    /// Judges an evaluation; `withheld` is why it must not replace a best.
    pub(crate) fn judge(
        &self,
        evaluation: &Evaluation,
        to_beat: Option<Score>,
        withheld: Option<&str>,
    ) -> Result<Judgement, ObjectiveError> {
        let to_beat = match self.replay_at(evaluation.step()) {
            Some(replay) => replay.best,
            None => to_beat,
        };
        let mut judgement = self
            .objective
            .judge(to_beat.as_ref(), evaluation.metrics())?;
        if let (true, Some(_), Some(reason)) = (judgement.verdict.is_improved(), to_beat, withheld)
        {
            judgement.verdict = Verdict::NotImproved {
                reason: reason.to_owned(),
            };
        }
        Ok(judgement)
    }

    /// Takes note of an improvement, and says why it must not be saved as best nevertheless, if so.
    pub(crate) fn improved(&mut self, step: u64, score: Score) -> Option<String> {
        self.replay_at(step)?;
        let replay = self.replay.as_mut()?;
        replay.best = Some(score);
        let order = self.objective.compare_total(&score, &replay.on_disk);
        order.is_lt().then(|| {
            format!(
                "the best on disk, of step {}, is better",
                replay.on_disk_step
            )
        })
    }
}
