//! `report.html`: a run in one page that needs nothing else, and its plots as SVG.

mod closeup;
mod curves;
mod overlay;
mod page;
mod rates;
mod scatter;
mod summary;
mod svg;

use std::path::Path;

use keepbest_core::{History, Objective, Pareto};
use keepbest_keeper::{RunView, fronts};
use keepbest_model::{Provenance, RunSummary, TunedThresholds, status_of};
use keepbest_store::{Event, replace_unsynced};

pub use closeup::{Closeup, Mistake};
use curves::Curve;
pub use overlay::{Overlaid, overlay_page};

use crate::noise::{MARKS, Selection};

/// The page's name in a run directory.
pub const REPORT_FILE: &str = "report.html";

/// The contents of a run's report: everything comes from the journal, the model file, and measurements.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The run's name.
    pub name: String,
    /// Its status: `training`, `completed`, ...
    pub status: String,
    /// The reason why it ended before its plan, if it did.
    pub stopped: Option<String>,
    /// The meaning of best.
    pub objective: Option<Objective>,
    /// Epochs planned.
    pub planned: u64,
    /// Its evaluations.
    pub history: History,
    /// Step of the best.
    pub best: Option<u64>,
    /// The bests by further objectives.
    pub others: Vec<OtherBest>,
    /// The Pareto fronts that are kept.
    pub fronts: Vec<KeptFront>,
    /// `run.toml`.
    pub settings: String,
    /// The origin of the best model.
    pub provenance: Option<Provenance>,
    /// The best on each split that it was measured on; the first matters most.
    pub closeups: Vec<Closeup>,
    /// The thresholds that the best decides by, where it is not for the likeliest class.
    pub thresholds: Option<TunedThresholds>,
    /// Training images a second from one evaluation to the next, evaluations included.
    pub pace: Vec<f64>,
    /// Time from the first event of the journal to the last, in seconds.
    pub seconds: f64,
    /// The evaluations that cannot be told from the best, and how much choosing it flatters it.
    pub selection: Option<Selection>,
    /// Further sentences for the reader.
    pub notes: Vec<String>,
}

/// The best by a further objective.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OtherBest {
    /// The objective that it is the best by.
    pub objective: Objective,
    /// Its step, once there is one.
    pub step: Option<u64>,
}

/// A Pareto front that is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeptFront {
    /// The metrics that it is the front of.
    pub pareto: Pareto,
    /// Steps of the checkpoints on it.
    pub steps: Vec<u64>,
}

impl Report {
    /// The report of a run as its journal has it.
    #[must_use]
    pub fn of(view: &RunView) -> Self {
        let state = view.state();
        let settings = view.config().unwrap_or_default();
        let given = crate::Settings::from_toml(&settings).unwrap_or_default();
        let summary = RunSummary::of(view).unwrap_or_default();
        Self {
            name: view.name(),
            status: status_of(view),
            stopped: summary.reason,
            objective: state.started.as_ref().map(|begun| begun.objective.clone()),
            planned: summary.epochs.or(given.epochs).unwrap_or(0),
            history: view.history().clone(),
            best: view.best().map(|best| best.step),
            others: state
                .objectives()
                .into_iter()
                .skip(1)
                .map(|(name, objective)| OtherBest {
                    objective: objective.clone(),
                    step: state.refs.get(&name).map(|best| best.step),
                })
                .collect(),
            fronts: fronts(view)
                .into_iter()
                .map(|front| KeptFront {
                    steps: front.members.iter().map(|it| it.saved.step).collect(),
                    pareto: front.pareto,
                })
                .collect(),
            settings,
            provenance: None,
            closeups: Vec::new(),
            thresholds: None,
            pace: pace(view, given.batch_size.unwrap_or(0)),
            seconds: match (state.started_ms, state.updated_ms) {
                (Some(from), Some(to)) => to.saturating_sub(from) as f64 / 1000.0,
                _ => 0.0,
            },
            selection: None,
            notes: Vec::new(),
        }
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        page::page(self)
    }

    /// The plots, each with the name of a file for it, as SVG files of their own.
    #[must_use]
    pub fn plots(&self) -> Vec<(String, String)> {
        let mut plots: Vec<(String, String)> = self
            .curves()
            .into_iter()
            .map(|(name, plot)| (format!("{name}.svg"), plot))
            .collect();
        for closeup in &self.closeups {
            let split = &closeup.split;
            for (name, rates) in [("confusion", false), ("confusion-rates", true)] {
                if let Some(plot) = closeup.confusion(rates) {
                    plots.push((format!("{name}-{split}.svg"), plot));
                }
            }
            plots.push((format!("reliability-{split}.svg"), closeup.reliability()));
        }
        for (_, plot) in &mut plots {
            *plot = svg::standalone(plot);
        }
        plots
    }

    /// The curves: what decides, accuracy and loss, each once; and the fronts.
    fn curves(&self) -> Vec<(String, String)> {
        let monitor = self
            .objective
            .as_ref()
            .map(|objective| objective.monitor().to_string());
        let mut curves = Vec::new();
        let mut add = |name: &str, title: &str, main: &str, beside: Option<&str>| {
            let place = |other: &OtherBest| other.objective.monitor().to_string() == main;
            let other = self.others.iter().position(place);
            let curve = Curve {
                history: &self.history,
                title,
                main,
                monitored: match name {
                    "monitor" => Some(0),
                    _ => other.map(|place| place + 1),
                },
                beside,
                best: self.best,
                own_best: other.and_then(|place| self.others[place].step),
                stopped: self.stopped.as_deref(),
                planned: self.planned,
            };
            curves.extend(curve.plot().map(|plot| (name.to_owned(), plot)));
        };
        match monitor.as_deref() {
            None => {}
            Some("val/accuracy") => add(
                "monitor",
                "Accuracy, which decides what is best",
                "val/accuracy",
                Some("train/accuracy"),
            ),
            Some("val/loss") => add(
                "monitor",
                "Loss, which decides what is best",
                "val/loss",
                Some("train/loss"),
            ),
            Some(monitor) => add("monitor", "What decides which is best", monitor, None),
        }
        if monitor.as_deref() != Some("val/accuracy") {
            add(
                "accuracy",
                "Accuracy",
                "val/accuracy",
                Some("train/accuracy"),
            );
        }
        if monitor.as_deref() != Some("val/loss") {
            add("loss", "Loss", "val/loss", Some("train/loss"));
        }
        for (place, other) in self.others.iter().enumerate() {
            let monitor = other.objective.monitor().to_string();
            if !["val/accuracy", "val/loss"].contains(&monitor.as_str()) {
                let title = format!("{monitor}, which has a best of its own");
                add(&format!("monitor-{}", place + 2), &title, &monitor, None);
            }
        }
        for (place, front) in self.fronts.iter().enumerate() {
            let name = match place {
                0 => "pareto".to_owned(),
                place => format!("pareto-{}", place + 1),
            };
            let plot = scatter::scatter(&self.history, front, self.best);
            curves.extend(plot.map(|plot| (name, plot)));
        }
        curves
    }

    /// Whether a page at `path` shows the best closely, and this one would not.
    #[must_use]
    pub fn shows_less_than(&self, path: &Path) -> bool {
        self.closeups.is_empty() && has_any(path, &[page::MEASURED])
    }

    /// Whether a page at `path` tells how the best stands among the other epochs, and this one cannot.
    #[must_use]
    pub fn selects_less_than(&self, path: &Path) -> bool {
        self.selection.is_none() && has_any(path, &MARKS)
    }

    /// Writes the page to `path`: whole, or not at all. It is not synced to disk, since it can be made again at any time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        replace_unsynced(path, self.html().as_bytes()).map_err(|error| error.source)
    }
}

/// Whether a page has one of these words.
fn has_any(path: &Path, marks: &[&str]) -> bool {
    let has = |page: &str| marks.iter().any(|mark| page.contains(mark));
    std::fs::read_to_string(path).is_ok_and(|page| has(&page))
}

/// Training images a second between evaluations that came one after the other in one session.
fn pace(view: &RunView, batch_size: usize) -> Vec<f64> {
    let mut pace = Vec::new();
    let mut since: Option<(u64, u64)> = None;
    for entry in view.entries() {
        match &entry.event {
            Event::Started(_) => since = Some((0, entry.time_ms)),
            Event::Resumed(event) => since = Some((event.step, entry.time_ms)),
            Event::Evaluated(record) => {
                if let Some((step, time_ms)) = since
                    && entry.time_ms > time_ms
                {
                    let images = record.step.saturating_sub(step) * batch_size as u64;
                    let seconds = (entry.time_ms - time_ms) as f64 / 1000.0;
                    pace.push(images as f64 / seconds);
                }
                since = Some((record.step, entry.time_ms));
            }
            _ => {}
        }
    }
    pace
}
