//! What the screen shows: a run as it has been told so far. Knows no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use keepbest_core::EvaluationRecord;
use keepbest_core::text::visible;
use keepbest_keeper::{KeeperEvent, RunView};
use keepbest_model::words::{count, thousands, value};
use keepbest_train::{Event, Judged, Overview, Progress};

use super::resources::Resources;
use crate::cli::pace::Pace;
use crate::cli::words::duration;

/// Points of a curve between evaluations; when there are more, every second goes.
const LIVE_POINTS: usize = 512;

/// Words kept for the lines at the bottom.
const LINES: usize = 200;

/// A line with its points, by the epoch.
pub(super) type Points = Vec<(f64, f64)>;

/// Everything that is on the screen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The run's directory; all below is as it is shown.
    pub directory: PathBuf,
    pub run: String,
    pub data: String,
    pub network: String,
    pub objective: String,
    pub monitor: String,
    pub epochs: u64,
    pub progress: Option<Progress>,
    /// What goes on now.
    pub doing: String,
    /// Mean training loss since the latest evaluation, step by step.
    pub live_loss: Points,
    /// At every evaluation.
    pub train_loss: Points,
    pub val_loss: Points,
    pub monitored: Points,
    /// The best so far, as judged.
    pub best: Option<(f64, f64)>,
    /// What each best on disk is, by its name.
    pub on_disk: BTreeMap<String, String>,
    /// The evaluations, a row each, the latest last.
    pub rows: Vec<[String; 7]>,
    /// Notes and warnings, the latest last.
    pub lines: VecDeque<String>,
    pub resources: Resources,
    /// Asked for, and not done yet.
    pub stops_after_epoch: bool,
    pub evaluates: bool,
    steps_an_epoch: f64,
    every: usize,
    seen: usize,
    pace: Pace,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            doing: "reading the data".into(),
            every: 1,
            ..Self::default()
        }
    }

    /// Takes in what the run tells.
    pub(super) fn on(&mut self, event: &Event<'_>) {
        if !matches!(event, Event::Stepped(_) | Event::Keeper(_)) {
            self.pace.pause();
        }
        match event {
            Event::Reading(reading) => {
                self.doing = format!("{}: {} of {}", reading.stage, reading.done, reading.of);
            }
            Event::Ready(overview) => self.ready(overview),
            Event::Note(note) => self.line(format!("note: {note}")),
            Event::Mended(finding) => self.line(format!("mended: {finding}")),
            Event::Stepped(progress) => self.stepped(progress, Instant::now()),
            Event::Measuring { split, done, of } => {
                self.doing = format!("measuring {split} {done}/{of}");
            }
            Event::Measured(judged) => self.measured(judged),
            Event::Keeper(event) => self.kept(event),
            Event::StoppedEarly(reason) => self.line(format!("stopping early: {reason}")),
            Event::Rechecked { .. } => "the best is measured again".clone_into(&mut self.doing),
            _ => {}
        }
    }

    fn ready(&mut self, overview: &Overview) {
        let [train, val, test] = overview.images.map(|images| thousands(images as u64));
        self.directory.clone_from(&overview.run);
        let shown = |text: &str| visible(text).into_owned();
        self.run = shown(&overview.run.display().to_string());
        self.data = shown(&format!(
            "{}: {train} train, {val} val, {test} test",
            overview.data
        ));
        let parameters = count(overview.parameters as u64, "parameter");
        self.network = shown(&format!("{}, {parameters}", overview.network));
        self.objective = shown(&overview.objective);
        self.monitor = shown(&overview.monitor);
        self.epochs = overview.epochs;
        self.steps_an_epoch = (overview.steps as f64 / overview.epochs as f64).max(1.0);
        "training".clone_into(&mut self.doing);
        if let Some(from) = &overview.resumed {
            self.line(format!("resumed after {}", count(from.step, "step")));
            // What was measured before is in the journal.
            if let Ok(view) = RunView::open(&overview.run) {
                for record in view.history() {
                    self.record(record);
                }
            }
        }
        for other in &overview.others {
            self.line(format!("a best by {other} is kept as well"));
        }
    }

    fn stepped(&mut self, progress: &Progress, now: Instant) {
        self.pace.step(progress.images, now);
        let at = (self.epoch_of(progress.step), progress.loss);
        self.seen += 1;
        if self.seen.is_multiple_of(self.every) && at.1.is_finite() {
            self.live_loss.push(at);
        }
        if self.live_loss.len() > LIVE_POINTS {
            let mut at = 0;
            self.live_loss.retain(|_| {
                at += 1;
                at % 2 == 0
            });
            self.every *= 2;
        }
        self.doing = match self.stops_after_epoch {
            true => format!("training; stops after epoch {}", progress.epoch),
            false => "training".into(),
        };
        self.progress = Some(*progress);
    }

    fn measured(&mut self, judged: &Judged) {
        self.evaluates = false;
        let rate = judged.images_per_second.map(|rate| thousands(rate as u64));
        let metric = |name: &str| judged.metrics.get(name);
        let verdict = match &judged.verdict {
            verdict if verdict.is_improved() => "best",
            verdict if verdict.is_rejected() => "rejected",
            _ => "",
        };
        self.evaluation(
            judged.step,
            judged.epoch,
            metric,
            judged.value,
            verdict,
            rate.unwrap_or_default(),
        );
    }

    fn record(&mut self, record: &EvaluationRecord) {
        let verdict = match &record.verdict {
            verdict if verdict.is_improved() => "best",
            verdict if verdict.is_rejected() => "rejected",
            _ => "",
        };
        let metric = |name: &str| record.metrics.get(name);
        let (step, epoch) = (record.step, record.epoch);
        self.evaluation(step, epoch, metric, record.value, verdict, String::new());
    }

    fn evaluation(
        &mut self,
        step: u64,
        epoch: u64,
        metric: impl Fn(&str) -> Option<f64>,
        monitored: f64,
        verdict: &str,
        rate: String,
    ) {
        let at = self.epoch_of(step);
        for (points, y) in [
            (&mut self.train_loss, metric("train/loss")),
            (&mut self.val_loss, metric("val/loss")),
            (&mut self.monitored, Some(monitored)),
        ] {
            points.extend(y.filter(|y| y.is_finite()).map(|y| (at, y)));
        }
        if verdict == "best" {
            self.best = Some((at, monitored));
        }
        let shown = |name: &str| metric(name).map(value).unwrap_or_default();
        self.rows.push([
            format!("{epoch}/{}", self.epochs),
            shown("train/loss"),
            shown("val/loss"),
            shown("val/accuracy"),
            value(monitored),
            rate,
            verdict.to_owned(),
        ]);
    }

    fn kept(&mut self, event: &KeeperEvent) {
        match event {
            KeeperEvent::Promoted {
                reference,
                epoch,
                score: Some(score),
                ..
            } => {
                let told = format!("{} of epoch {epoch}", value(score.value));
                let name = visible(&reference.to_string()).into_owned();
                self.on_disk.insert(name, told);
            }
            KeeperEvent::SaveFailed(_)
            | KeeperEvent::AlsoFailed { .. }
            | KeeperEvent::SetAside { .. }
            | KeeperEvent::PruneFailed { .. } => self.line(format!("warning: {event}")),
            _ => {}
        }
    }

    /// Says something below the curves.
    pub(super) fn line(&mut self, text: String) {
        self.lines.push_back(visible(&text).into_owned());
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// Part of the plan that is done.
    pub(super) fn done(&self) -> f64 {
        let part = |progress: &Progress| progress.step as f64 / progress.steps.max(1) as f64;
        self.progress.as_ref().map_or(0.0, part).clamp(0.0, 1.0)
    }

    /// The position of the run, in words.
    pub(super) fn position(&self) -> String {
        let Some(progress) = &self.progress else {
            return String::new();
        };
        let left = self.left().map(|left| format!(", {} left", duration(left)));
        format!(
            "epoch {}/{}, step {} of {}{}",
            progress.epoch,
            progress.epochs,
            thousands(progress.step),
            thousands(progress.steps),
            left.unwrap_or_default()
        )
    }

    /// Training images a second.
    pub(super) fn images_per_second(&self) -> Option<f64> {
        self.pace.images_per_second()
    }

    fn left(&self) -> Option<Duration> {
        let progress = self.progress.as_ref()?;
        let steps = progress.steps.saturating_sub(progress.step);
        self.pace.time_for(steps)
    }

    fn epoch_of(&self, step: u64) -> f64 {
        step as f64 / self.steps_an_epoch.max(1.0)
    }
}
