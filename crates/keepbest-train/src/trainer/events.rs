//! What a run tells while it is under way.

use std::path::PathBuf;

use keepbest_core::{Metrics, Verdict};
use keepbest_data::Reading;
use keepbest_keeper::KeeperEvent;
use keepbest_store::Finding;

use super::carry::Carried;
use super::position::ResumedFrom;
use super::time_spent::Profiled;

/// Takes in what a run tells. The run waits for it.
pub trait Observer {
    /// One event.
    fn on(&mut self, event: Event<'_>);

    /// Whether to time every layer and tell of it in [`Event::Profiled`]. Asked once, before the first step.
    fn wants_profile(&self) -> bool {
        false
    }

    /// What is wished for now; asked after every step, and again until it is done.
    fn wish(&mut self) -> Option<Wish> {
        None
    }
}

/// What a run can be asked for while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// An evaluation now. It counts like any other: it may be the best.
    Evaluate,
    /// The end after the epoch under way, with the final test, as when stopping early.
    StopAfterEpoch,
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn on(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// One thing that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Images are read, before everything is ready.
    Reading(Reading),
    /// Everything is ready; training begins.
    Ready(&'a Overview),
    /// What the user should know.
    Note(&'a str),
    /// Something in the run's files was not as it should be, and what was done about it, before it is taken up.
    Mended(&'a Finding),
    /// An optimizer step was taken.
    Stepped(Progress),
    /// An evaluation goes on.
    Measuring {
        /// The split.
        split: &'static str,
        /// Images done.
        done: usize,
        /// All images.
        of: usize,
    },
    /// An evaluation of a snapshot was judged.
    Measured(&'a Judged),
    /// The keeper saved, promoted, pruned, or failed to.
    Keeper(&'a KeeperEvent),
    /// Training ends before all epochs are done, and why.
    StoppedEarly(&'a str),
    /// The best was read back from disk, and measured again.
    Rechecked {
        /// Its file.
        path: &'a std::path::Path,
        /// The metric that came out differently.
        difference: Option<&'a keepbest_model::MetricDifference>,
    },
    /// The time by layer and phase, at the end of a session of at least one step; for an observer that wants it.
    Profiled(&'a Profiled),
}

/// What a run is about to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Overview {
    /// The run's directory.
    pub run: PathBuf,
    /// The data set's name.
    pub data: String,
    /// Images to train on, to choose by, and to test with.
    pub images: [usize; 3],
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Channels, height and width of the network's input.
    pub input: [usize; 3],
    /// The network's name.
    pub network: String,
    /// Trained parameters.
    pub parameters: usize,
    /// Epochs planned.
    pub epochs: u64,
    /// Steps planned.
    pub steps: u64,
    /// What "best" means, in words.
    pub objective: String,
    /// The monitored metric or expression.
    pub monitor: String,
    /// What a best is kept of as well, in words.
    pub others: Vec<String>,
    /// What the run's files are safe against.
    pub guarantee: keepbest_store::Guarantee,
    /// What was taken over from the model it starts from.
    pub carried: Option<Carried>,
    /// The point that it goes on from.
    pub resumed: Option<ResumedFrom>,
}

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// The epoch under way, from 1.
    pub epoch: u64,
    /// Epochs planned.
    pub epochs: u64,
    /// Images of the step.
    pub images: usize,
    /// Mean loss since the latest evaluation.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// An evaluation with its verdict.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Judged {
    /// Steps taken.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Epochs planned.
    pub epochs: u64,
    /// What was measured.
    pub metrics: Metrics,
    /// The value of the monitored expression.
    pub value: f64,
    /// The answer.
    pub verdict: Verdict,
    /// Which weights these are, where an average is kept: `raw`, or `ema` or `swa`, whichever was better.
    pub weights: Option<String>,
    /// Training images a second since the latest evaluation, evaluations left out; absent without steps.
    pub images_per_second: Option<f64>,
}
