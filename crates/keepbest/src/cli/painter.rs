//! A run as it is watched: a bar on a terminal, plain lines elsewhere, a line an evaluation on both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::ProgressBar;
use keepbest_keeper::KeeperEvent;
use keepbest_model::words::{count, thousands, value};
use keepbest_store::{Finding, FindingKind};
use keepbest_train::{Event, Judged, Observer, Overview, Progress};

use crate::cli::gauge::{Gauge, PLAIN_EVERY, bar};
use crate::cli::pace::Pace;
use crate::cli::terminal::Terminal;
use crate::cli::words::{duration, shorten};

/// Tells on stderr what a run does.
pub(super) struct Painter {
    terminal: Terminal,
    quiet: bool,
    stop: Arc<AtomicBool>,
    told_to_stop: bool,
    /// Before training.
    reading: Option<Gauge>,
    bar: Option<ProgressBar>,
    monitor: String,
    /// The head of the table, until its first row comes: notes may come before.
    head: Option<String>,
    pace: Pace,
    last_plain: Instant,
}

/// Loss, speed and time left; what is not known yet is left out.
fn progress_words(loss: f64, pace: &Pace, steps_left: u64) -> Vec<String> {
    let rate = pace.images_per_second();
    let rate = rate.map(|rate| format!("{} images/s", thousands(rate as u64)));
    let left = pace.time_for(steps_left);
    let left = left.map(|left| format!("{} left", duration(left)));
    let loss = Some(format!("loss {}", value(loss)));
    [loss, rate, left].into_iter().flatten().collect()
}

impl Painter {
    pub(super) fn new(terminal: Terminal, quiet: bool, stop: Arc<AtomicBool>) -> Self {
        Self {
            terminal,
            quiet,
            stop,
            told_to_stop: false,
            reading: None,
            bar: None,
            monitor: String::new(),
            head: None,
            pace: Pace::default(),
            last_plain: Instant::now(),
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.reading = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// A row of the table of evaluations.
    fn row(&mut self, text: &str) {
        if let Some(head) = self.head.take() {
            self.line("");
            self.line(&head);
        }
        self.line(text);
    }

    /// A line that is told even when quiet: something went wrong.
    fn warn(&self, text: &str) {
        let warn = self.terminal.error_style().warn;
        let text = format!("{warn}warning:{warn:#} {text}");
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    fn ready(&mut self, overview: &Overview) {
        self.reading = None;
        let [channels, height, width] = overview.input;
        let [train, val, test] = overview.images.map(|images| thousands(images as u64));
        self.line(&format!(
            "data     {}: {} classes, {height}x{width}x{channels}",
            overview.data,
            overview.classes.len()
        ));
        self.line(&format!(
            "         {train} train, {val} val, {test} test images"
        ));
        self.line(&format!(
            "network  {}, {}",
            overview.network,
            count(overview.parameters as u64, "parameter")
        ));
        if let Some(carried) = &overview.carried {
            let anew = match carried.reinitialised.len() {
                0 => "nothing starts anew".to_owned(),
                _ => format!(
                    "starting anew: {}",
                    shorten(&carried.reinitialised.join(", "), 60)
                ),
            };
            self.line(&format!(
                "from     {} taken over; {anew}",
                count(carried.matched.len() as u64, "tensor")
            ));
            if !carried.unused.is_empty() {
                self.line(&format!(
                    "         not used: {}",
                    shorten(&carried.unused.join(", "), 60)
                ));
            }
        }
        self.line(&format!(
            "run      {}; best is {}",
            overview.run.display(),
            overview.objective
        ));
        for other in &overview.others {
            self.line(&format!("         a best by {other} is kept as well"));
        }
        for (at, part) in overview.guarantee.to_string().split("; ").enumerate() {
            let label = if at == 0 { "files" } else { "" };
            self.line(&format!("{label:9}{part}"));
        }
        if let Some(from) = &overview.resumed {
            self.line(&format!(
                "resumed  after {} (epoch {}, batch {} of {})",
                count(from.step, "step"),
                from.epoch,
                from.batch,
                from.batches
            ));
        }
        self.monitor.clone_from(&overview.monitor);
        let extra = if self.monitor_is_shown() {
            String::new()
        } else {
            format!("  {:>14}", shorten(&self.monitor, 14))
        };
        self.head = Some(format!(
            "{:>7}  {:>10}  {:>9}  {:>8}  {:>7}{extra}  {:>8}",
            "epoch", "train/loss", "train/acc", "val/loss", "val/acc", "images/s"
        ));
        if self.terminal.animated && !self.quiet {
            let bar = bar(overview.steps);
            bar.set_prefix(format!("epoch 1/{} ", overview.epochs));
            bar.set_position(overview.resumed.as_ref().map_or(0, |from| from.step));
            self.bar = Some(bar);
        }
    }

    fn monitor_is_shown(&self) -> bool {
        ["train/loss", "train/accuracy", "val/loss", "val/accuracy"].contains(&&*self.monitor)
    }

    fn stepped(&mut self, progress: &Progress) {
        let now = Instant::now();
        self.pace.step(progress.images, now);
        if self.stop.load(Ordering::Relaxed) && !self.told_to_stop {
            self.told_to_stop = true;
            self.line("stopping after this step; once more to stop at once");
        }
        let left = progress.steps.saturating_sub(progress.step);
        let known = progress_words(progress.loss, &self.pace, left);
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("epoch {}/{} ", progress.epoch, progress.epochs));
                bar.set_message(known.join("  "));
                bar.set_position(progress.step);
            }
            None if now - self.last_plain >= PLAIN_EVERY => {
                self.last_plain = now;
                self.row(&format!(
                    "{:>7}  step {} of {}, {}",
                    format!("{}/{}", progress.epoch, progress.epochs),
                    thousands(progress.step),
                    thousands(progress.steps),
                    known.join(", "),
                ));
            }
            None => {}
        }
    }

    fn measured(&mut self, judged: &Judged) {
        self.last_plain = Instant::now();
        let style = self.terminal.error_style();
        let metric = |name: &str| judged.metrics.get(name).map(value).unwrap_or_default();
        let extra = if self.monitor_is_shown() {
            String::new()
        } else {
            format!("  {:>14}", value(judged.value))
        };
        let rate = judged
            .images_per_second
            .map(|rate| thousands(rate.round() as u64))
            .unwrap_or_default();
        let mark = match &judged.verdict {
            verdict if verdict.is_improved() => format!("  {}best{:#}", style.good, style.good),
            verdict if verdict.is_rejected() => format!(
                "  {}rejected:{:#} {}",
                style.warn,
                style.warn,
                verdict.reason()
            ),
            _ => String::new(),
        };
        self.row(&format!(
            "{:>7}  {:>10}  {:>9}  {:>8}  {:>7}{extra}  {rate:>8}{mark}",
            format!("{}/{}", judged.epoch, judged.epochs),
            metric("train/loss"),
            metric("train/accuracy"),
            metric("val/loss"),
            metric("val/accuracy"),
        ));
    }

    /// What was found in the files of a run that is taken up. A loss, or what could not be mended, is told in any case.
    fn mended(&self, finding: &Finding) {
        if finding.kind == FindingKind::LostBest || finding.action.is_none() {
            self.warn(&finding.to_string());
        } else {
            self.line(&format!("mended   {finding}"));
        }
    }

    fn kept(&self, event: &KeeperEvent) {
        match event {
            KeeperEvent::Promoted { reference, .. } if reference.is_best() => {
                self.line(&event.to_string())
            }
            KeeperEvent::SaveFailed(_)
            | KeeperEvent::AlsoFailed { .. }
            | KeeperEvent::SetAside { .. }
            | KeeperEvent::PruneFailed { .. } => self.warn(&event.to_string()),
            _ => {}
        }
    }
}

impl Observer for Painter {
    fn on(&mut self, event: Event<'_>) {
        if !matches!(event, Event::Stepped(_) | Event::Keeper(_)) {
            self.pace.pause();
        }
        match event {
            Event::Reading(reading) if !self.quiet => {
                let terminal = &self.terminal;
                let gauge = self.reading.get_or_insert_with(|| Gauge::new(terminal));
                gauge.tell(&reading.stage.to_string(), reading.done, reading.of);
            }
            Event::Ready(overview) => self.ready(overview),
            Event::Note(note) => self.line(&format!("note     {note}")),
            Event::Mended(finding) => self.mended(finding),
            Event::Stepped(progress) => self.stepped(&progress),
            Event::Measuring { split, done, of } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("measuring {split} {done}/{of}"));
                }
            }
            Event::Measured(judged) => self.measured(judged),
            Event::Keeper(event) => self.kept(event),
            Event::StoppedEarly(reason) => self.line(&format!("stopping early: {reason}")),
            Event::Rechecked { .. } => self.clear(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_known_yet_leaves_no_empty_field() {
        let mut pace = Pace::default();
        let begun = Instant::now();
        pace.step(64, begun);
        assert_eq!(progress_words(7.0252, &pace, 100), ["loss 7.0252"]);
        for second in 1..=10 {
            pace.step(64, begun + Duration::from_secs(second));
        }
        let words = progress_words(0.5, &pace, 30);
        assert_eq!(words, ["loss 0.5000", "64 images/s", "30s left"]);
    }
}
