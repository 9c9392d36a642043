//! What a logger is told, and what it does with it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use keepbest_core::{EvaluationRecord, History};

/// One evaluation, on its way to the loggers.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    /// All evaluations so far; this one is the last.
    pub history: History,
    pub learning_rate: f64,
    pub images_per_second: Option<f64>,
    pub time_ms: u64,
}

impl Logged {
    /// The values by name: metrics, learning rate, speed.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        let record = self.history.last();
        let metrics = record.into_iter().flat_map(|record| record.metrics.iter());
        metrics
            .chain([("train/learning_rate", self.learning_rate)])
            .chain(
                self.images_per_second
                    .map(|speed| ("train/images_per_second", speed)),
            )
    }

    pub(crate) fn record(&self) -> Option<&EvaluationRecord> {
        self.history.last()
    }
}

/// The end of a session of training.
#[derive(Debug, Clone)]
pub(crate) struct SessionEnd {
    /// Whether the run is over, or was interrupted and may go on.
    pub finished: bool,
    /// The best, to be kept by those who keep files.
    pub best: Option<PathBuf>,
    pub time_ms: u64,
}

/// The start of a session of training, as a logger is told of it.
#[derive(Debug, Clone)]
pub(crate) struct SessionStart {
    pub run: PathBuf,
    /// Every setting, by name.
    pub settings: Vec<(String, String)>,
    /// Steps taken before this session.
    pub step: u64,
}

/// Takes what is measured elsewhere. Errors are in words.
pub(super) trait Logger: Send {
    fn begin(&mut self, start: &SessionStart) -> Result<(), String>;
    fn evaluated(&mut self, logged: &Logged) -> Result<(), String>;
    fn end(&mut self, ended: &SessionEnd) -> Result<(), String>;
}

/// The wall clock: for people, never for order.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// A file that could not be written, in words.
pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
