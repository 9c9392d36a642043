//! Where a run is: the numbers it goes on from, and what comes next.

use keepbest_nn::schedule::PlateauState;
use serde::{Deserialize, Serialize};

use crate::settings::EvalEvery;

/// The schema of [`TrainerState`] that this build writes and reads.
const SCHEMA: u32 = 1;

/// All that a run needs to go on, beside weights and optimizer state: part of every resume point.
///
/// Everything random is a function of the seed and these numbers, so there is no generator state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    schema: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// The epoch under way, from 1.
    pub epoch: u64,
    /// Batches done in it.
    pub batch: u64,
    /// Epochs planned.
    pub epochs: u64,
    /// The step of the latest evaluation.
    pub measured_at: Option<u64>,
    /// The latest step at which an evaluation was asked for, whether the timetable has one or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<u64>,
    /// What the steps since then found.
    pub running: Running,
    /// What a plateau schedule remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<PlateauState>,
    /// What is in the average of the weights of evaluations (SWA), once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<Averaged>,
    /// Learning rate of the step that comes next, for those who go on elsewhere; here it follows from the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// Training loss and accuracy since the latest evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Sum over images of their batch's mean loss.
    pub loss_sum: f64,
    /// Images.
    pub images: u64,
    /// Images whose highest score was their label's, as the step saw them.
    pub correct: u64,
}

impl Running {
    /// Takes in a step.
    pub fn add(&mut self, loss: f64, images: u64, correct: u64) {
        self.loss_sum += loss * images as f64;
        self.images += images;
        self.correct += correct;
    }

    /// Mean loss; NaN before the first step.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.images as f64
    }

    /// Share of correct images; NaN before the first step.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }
}

/// What is in an average of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Averaged {
    /// Weights of so many steps.
    pub models: u64,
    /// The latest of them.
    pub step: u64,
}

/// The point at which a resumed run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumedFrom {
    /// Steps taken before.
    pub step: u64,
    /// The epoch it goes on in.
    pub epoch: u64,
    /// Batches of it that are done.
    pub batch: u64,
    /// Batches of an epoch.
    pub batches: u64,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Measure the weights as they are.
    Measure,
    /// Take the next batch of the epoch.
    Step,
    /// All epochs are done and measured.
    Done,
}

/// The shape of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timetable {
    /// Batches an epoch.
    pub batches: u64,
    /// When to measure.
    pub eval_every: EvalEvery,
}

impl Timetable {
    /// Evaluations an epoch, on average over a long run.
    pub fn evaluations_per_epoch(&self) -> f64 {
        match self.eval_every {
            EvalEvery::Epoch => 1.0,
            EvalEvery::Steps(steps) => self.batches as f64 / steps as f64,
        }
    }
}

impl TrainerState {
    /// The beginning of a run.
    pub fn new(epochs: u64) -> Self {
        Self {
            schema: SCHEMA,
            step: 0,
            epoch: 1,
            batch: 0,
            epochs,
            measured_at: None,
            asked_at: None,
            running: Running::default(),
            plateau: None,
            averaged: None,
            learning_rate: None,
        }
    }

    /// Whether this build reads the state, and it is one that the timetable can lead to.
    pub fn fits(&self, timetable: &Timetable) -> bool {
        let done = (self.epoch.saturating_sub(1)).checked_mul(timetable.batches);
        self.schema == SCHEMA
            && self.batch <= timetable.batches
            && (1..=self.epochs).contains(&self.epoch)
            && done.and_then(|done| done.checked_add(self.batch)) == Some(self.step)
            && self.measured_at.is_none_or(|step| step <= self.step)
            && self.asked_at.is_none_or(|step| step <= self.step)
    }

    /// Whether all batches of the epoch under way are done.
    pub fn is_at_end(&self, timetable: &Timetable) -> bool {
        self.batch == timetable.batches
    }

    /// Whether the weights as they are have been measured.
    pub fn is_measured(&self) -> bool {
        self.measured_at == Some(self.step)
    }

    fn is_last(&self, timetable: &Timetable) -> bool {
        self.is_at_end(timetable) && self.epoch == self.epochs
    }

    /// Whether the timetable has an evaluation of the weights as they are.
    pub fn is_scheduled(&self, timetable: &Timetable) -> bool {
        match timetable.eval_every {
            EvalEvery::Epoch => self.is_at_end(timetable),
            EvalEvery::Steps(every) => {
                (self.step > 0 && self.step.is_multiple_of(every)) || self.is_last(timetable)
            }
        }
    }

    /// Asks for an evaluation of the weights as they are.
    pub fn ask(&mut self) {
        self.asked_at = Some(self.step);
    }

    /// What comes next; goes over into the next epoch where that is due.
    pub fn next(&mut self, timetable: &Timetable) -> Next {
        let (at_end, last) = (self.is_at_end(timetable), self.is_last(timetable));
        let due = self.is_scheduled(timetable) || self.asked_at == Some(self.step);
        match (due && !self.is_measured(), last, at_end) {
            (true, ..) => Next::Measure,
            (_, true, _) => Next::Done,
            (_, _, true) => {
                self.epoch += 1;
                self.batch = 0;
                Next::Step
            }
            _ => Next::Step,
        }
    }

    /// Takes in a step.
    pub fn stepped(&mut self, loss: f64, images: u64, correct: u64) {
        self.step += 1;
        self.batch += 1;
        self.running.add(loss, images, correct);
    }

    /// Takes the weights as they are into the average, unless they are in it: gives how many were there before.
    pub fn average(&mut self) -> Option<u64> {
        let models = self.averaged.map_or(0, |averaged| averaged.models);
        if self
            .averaged
            .is_some_and(|averaged| averaged.step == self.step)
        {
            return None;
        }
        self.averaged = Some(Averaged {
            models: models + 1,
            step: self.step,
        });
        Some(models)
    }

    /// Takes in an evaluation.
    pub fn measured(&mut self) {
        self.measured_at = Some(self.step);
        self.running = Running::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps at which a run measures.
    fn measures(batches: u64, epochs: u64, eval_every: EvalEvery) -> Vec<(u64, u64)> {
        let timetable = Timetable {
            batches,
            eval_every,
        };
        let mut state = TrainerState::new(epochs);
        let mut at = Vec::new();
        loop {
            assert!(state.fits(&timetable), "{state:?}");
            // Reading a state back and going on is the same as going on.
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<TrainerState>(&json).unwrap(), state);
            match state.next(&timetable) {
                Next::Measure => {
                    at.push((state.epoch, state.step));
                    state.measured();
                }
                Next::Step => state.stepped(0.1, 2, 1),
                Next::Done => return at,
            }
        }
    }

    #[test]
    fn every_epoch() {
        assert_eq!(measures(3, 2, EvalEvery::Epoch), [(1, 3), (2, 6)]);
        assert_eq!(measures(1, 3, EvalEvery::Epoch), [(1, 1), (2, 2), (3, 3)]);
    }

    #[test]
    fn every_n_steps_and_at_the_end() {
        assert_eq!(
            measures(3, 2, EvalEvery::Steps(2)),
            [(1, 2), (2, 4), (2, 6)]
        );
        assert_eq!(measures(3, 2, EvalEvery::Steps(4)), [(2, 4), (2, 6)]);
        assert_eq!(measures(3, 1, EvalEvery::Steps(100)), [(1, 3)]);
        assert_eq!(measures(3, 2, EvalEvery::Steps(3)), [(1, 3), (2, 6)]);
    }

    #[test]
    fn what_was_asked_for_is_measured_once_and_is_not_on_the_timetable() {
        let timetable = Timetable {
            batches: 3,
            eval_every: EvalEvery::Epoch,
        };
        let mut state = TrainerState::new(1);
        let mut at = Vec::new();
        loop {
            match state.next(&timetable) {
                Next::Measure => {
                    at.push((state.step, state.is_scheduled(&timetable)));
                    state.measured();
                }
                Next::Step => {
                    state.stepped(0.1, 2, 1);
                    if state.step != 1 {
                        state.ask();
                    }
                    // Interrupted before it was measured.
                    let json = serde_json::to_string(&state).unwrap();
                    state = serde_json::from_str(&json).unwrap();
                    assert!(state.fits(&timetable));
                }
                Next::Done => break,
            }
        }
        assert_eq!(at, [(2, false), (3, true)]);
    }

    #[test]
    fn a_longer_plan_goes_on_after_the_end() {
        let timetable = Timetable {
            batches: 2,
            eval_every: EvalEvery::Epoch,
        };
        let mut state = TrainerState::new(1);
        while state.next(&timetable) != Next::Done {
            if state.batch == 2 {
                state.measured()
            } else {
                state.stepped(1.0, 1, 0)
            }
        }
        state.epochs = 2;
        assert_eq!(state.next(&timetable), Next::Step);
        assert_eq!((state.epoch, state.batch, state.step), (2, 0, 2));
    }

    #[test]
    fn states_of_another_run_do_not_fit() {
        let timetable = Timetable {
            batches: 3,
            eval_every: EvalEvery::Epoch,
        };
        let mut state = TrainerState::new(2);
        state.stepped(1.0, 2, 1);
        assert!(state.fits(&timetable));
        assert!(
            !TrainerState {
                step: 2,
                ..state.clone()
            }
            .fits(&timetable)
        );
        assert!(
            !TrainerState {
                epoch: 3,
                step: 7,
                ..state.clone()
            }
            .fits(&timetable)
        );
        assert!(
            !TrainerState {
                schema: 2,
                ..state.clone()
            }
            .fits(&timetable)
        );
        assert!(
            !TrainerState {
                epoch: u64::MAX,
                epochs: u64::MAX,
                ..state
            }
            .fits(&timetable)
        );
    }

    #[test]
    fn weights_are_averaged_once() {
        let mut state = TrainerState::new(2);
        state.stepped(1.0, 2, 1);
        // Interrupted while they were measured, the second time.
        assert_eq!((state.average(), state.average()), (Some(0), None));
        state.stepped(1.0, 2, 1);
        assert_eq!((state.average(), state.average()), (Some(1), None));
    }

    #[test]
    fn running_means() {
        let mut running = Running::default();
        assert!(running.loss().is_nan());
        running.add(1.0, 3, 3);
        running.add(2.0, 1, 0);
        assert_eq!((running.loss(), running.accuracy()), (1.25, 0.75));
    }
}
