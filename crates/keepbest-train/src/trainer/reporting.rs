//! `report.html`, kept up to date while the run goes on. What fails here is told, and stops nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keepbest_core::History;
use keepbest_data::Subset;
use keepbest_keeper::RunView;
use keepbest_model::{Intervals, Measured, Provenance, TunedThresholds};

use super::events::{Event, Observer};
use crate::noise::Selection;
use crate::report::{Closeup, REPORT_FILE, Report};

/// The page of a run that goes on.
#[derive(Default)]
pub(super) struct Reporting {
    /// The best, seen closely.
    pub closeups: Vec<Closeup>,
    /// By what it decides.
    pub thresholds: Option<TunedThresholds>,
    /// What chance has to do with the choice; known at the end.
    pub selection: Option<Selection>,
    told: bool,
    /// When the page was written last, and how long that took.
    last: Option<(Instant, Duration)>,
}

/// The page grows with the run, and is written whole: so much of a long run's time it may take at most.
const MOST_OF_THE_TIME: f64 = 0.02;

impl Reporting {
    /// A new best was measured; intervals wait for the end of the run.
    pub(super) fn best(
        &mut self,
        measured: &Measured,
        images: &Subset,
        observer: &mut dyn Observer,
    ) {
        match Closeup::of(measured, "val", images) {
            Ok(closeup) => self.closeups = vec![closeup],
            Err(error) => self.tell(&error.to_string(), observer),
        }
    }

    /// The best was measured when all was done, in the end on what nothing was chosen by, which stands first.
    pub(super) fn finished(
        &mut self,
        measured: &Measured,
        split: &str,
        images: &Subset,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) {
        let mut go_on = || !stop.load(Ordering::Relaxed);
        let closeup = Closeup::of(measured, split, images)
            .map_err(|error| error.to_string())
            .and_then(|closeup| {
                let closeup = closeup.with_intervals_while(measured, &mut go_on);
                closeup.map_err(|error| error.to_string())
            });
        match closeup {
            Ok(closeup) => self.closeups.insert(0, closeup),
            // Told to stop: the end, with its intervals, comes when the run is resumed.
            Err(_) if !go_on() => {}
            Err(error) => self.tell(&error, observer),
        }
    }

    /// Intervals of the best's metrics on a split, when they are known.
    pub(super) fn intervals(&self, split: &str) -> Option<&Intervals> {
        let closeup = self.closeups.iter().find(|closeup| closeup.split == split);
        closeup?.intervals.as_ref()
    }

    /// Writes the page after an evaluation, unless pages already take their share of the time: the next one shows it then.
    /// `history` is what the journal, which is written in the background, may not have yet.
    pub(super) fn follow(
        &mut self,
        run: &Path,
        provenance: &Provenance,
        history: impl FnOnce() -> History,
        observer: &mut dyn Observer,
    ) {
        if let Some((ended, took)) = self.last
            && ended.elapsed().mul_f64(MOST_OF_THE_TIME) < took
        {
            return;
        }
        let begun = Instant::now();
        self.write(run, provenance, Some(history()), observer);
        self.last = Some((Instant::now(), begun.elapsed()));
    }

    /// Writes the page. `history` as in [`follow`](Self::follow).
    pub(super) fn write(
        &mut self,
        run: &Path,
        provenance: &Provenance,
        history: Option<History>,
        observer: &mut dyn Observer,
    ) {
        let written = RunView::open(run)
            .map_err(|error| error.to_string())
            .and_then(|view| {
                let mut report = Report::of(&view);
                if let Some(history) = history {
                    report.best = history.best().map(|record| record.step);
                    for (place, other) in report.others.iter_mut().enumerate() {
                        other.step = history.best_by(place + 1).map(|record| record.step);
                    }
                    report.history = history;
                }
                report.selection.clone_from(&self.selection);
                report.provenance = Some(provenance.clone());
                report.closeups.clone_from(&self.closeups);
                report.thresholds.clone_from(&self.thresholds);
                let path = run.join(REPORT_FILE);
                if report.shows_less_than(&path) {
                    return Ok(());
                }
                report.write(&path).map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            self.tell(&format!("{REPORT_FILE} is not written: {error}"), observer);
        }
    }

    /// Says that something beside the training itself could not be kept.
    pub(super) fn tell(&mut self, error: &str, observer: &mut dyn Observer) {
        // Once: a full disk would say it again at each evaluation.
        if !std::mem::replace(&mut self.told, true) {
            observer.on(Event::Note(error));
        }
    }
}
