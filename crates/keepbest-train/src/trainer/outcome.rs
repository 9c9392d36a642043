//! The end of a run.

use std::path::PathBuf;

use keepbest_core::Metrics;
use keepbest_keeper::{BestRecord, UnsavedBest};
use keepbest_model::{Guess, Intervals, Measured, MetricDifference, SeenBefore};

use crate::noise::Selection;

/// The end of a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It came to its end, or stopped early.
    Finished(Box<Finished>),
    /// It was told to stop; its resume point is saved.
    Interrupted {
        /// The run's directory.
        run: PathBuf,
        /// Steps taken.
        step: u64,
        /// The epoch under way.
        epoch: u64,
        /// Saves that failed and that nothing made good for, in words.
        failures: Vec<String>,
        /// The bests that were found lost when the run was taken up, in words.
        lost: Vec<String>,
    },
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// All epochs are done.
    Completed,
    /// Before that, by a rule that holds at the same step whenever the run is repeated, for this reason.
    StoppedEarly(String),
    /// Before that, by hand or because its time was up, for this reason: repeated, it would go on.
    CutShort(String),
}

impl Ending {
    /// What it is called in the journal and in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::StoppedEarly(_) | Self::CutShort(_) => "stopped early",
        }
    }

    /// Why it ended before all epochs were done.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Completed => None,
            Self::StoppedEarly(reason) | Self::CutShort(reason) => Some(reason),
        }
    }
}

/// A run that came to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished {
    /// The run's directory.
    pub run: PathBuf,
    /// What it was trained on: a set's name, or a folder.
    pub data: String,
    /// Why it ended.
    pub ending: Ending,
    /// Steps taken.
    pub step: u64,
    /// The last epoch.
    pub epoch: u64,
    /// The best model on disk; `None` when no evaluation could be the best.
    pub best: Option<BestRecord>,
    /// The bests by what else is monitored.
    pub others: Vec<BestRecord>,
    /// Whether the best ever measured is the best on disk, by all that is monitored.
    pub best_is_saved: bool,
    /// Why the run did not end in order, where it did not: its end could not be journalled, or what lies there cannot be opened.
    pub end_error: Option<String>,
    /// The other form of best, when one is kept.
    pub also: Option<PathBuf>,
    /// Whether it is in step with best.
    pub also_is_saved: bool,
    /// Saves that failed, in words.
    pub failures: Vec<String>,
    /// Failures among them that nothing made good for.
    pub unresolved: Vec<String>,
    /// The best ever measured, where it could not be saved.
    pub unsaved: Vec<UnsavedBest>,
    /// The bests that were found lost when the run was taken up, in words.
    pub lost: Vec<String>,
    /// What measuring the reloaded best again gave.
    pub recheck: Option<Recheck>,
    /// The best on the test split.
    pub test: Option<Measured>,
    /// The images of val and test that it was trained on or chosen by all the same, or a model it comes from.
    pub seen_before: Vec<SeenBefore>,
    /// Whether it comes from a model that does not record all its images: then more may have been seen.
    pub seen_unknown: bool,
    /// 95 % intervals of its metrics there.
    pub test_intervals: Option<Intervals>,
    /// Which evaluations cannot be told from the best, and how much choosing it flatters it.
    pub selection: Option<Selection>,
    /// A few images of the test split (of val, when there is none) with the best's answers.
    pub examples: Vec<Example>,
}

/// The reloaded best against what was recorded.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recheck {
    /// Its metrics on val, measured again.
    pub metrics: Metrics,
    /// The first metric that differs. `None` when all are equal to the last bit.
    pub difference: Option<MetricDifference>,
}

/// An image with its label and the model's answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Example {
    /// The place that it comes from.
    pub source: String,
    /// Its label.
    pub label: String,
    /// The class that is decided for.
    pub guess: Guess,
}
