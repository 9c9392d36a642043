//! The steps of a run, to its end or until it is told to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use keepbest_core::StopReason;
use keepbest_data::{Batch, Epoch, LoadError};
use keepbest_nn::StepError;

use super::batch::as_taken;
use super::clock::Clock;
use super::error::TrainError;
use super::events::{Event, Observer, Progress, Wish};
use super::outcome::{Ending, Outcome};
use super::position::Next;
use super::run::Run;
use super::significance::Significance;
use crate::log::Loggers;

/// The batches of the epoch under way.
#[derive(Default)]
struct Batches {
    under_way: Option<(u64, Epoch)>,
    /// The batch after the one that is stepped on, where the engine wants to know it.
    ahead: Option<Batch>,
}

impl Run {
    /// Trains to the end, or until told to stop.
    pub(super) fn go(
        mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let overview = self.overview();
        observer.on(Event::Ready(&overview));
        for note in &self.setup.notes {
            observer.on(Event::Note(note));
        }
        self.loggers = Loggers::start(&self.setup.log, self.session_start());
        self.significance = Significance::of(&self.keeper, self.setup.config.significant);
        self.show_best(observer, stop);
        if let Err(error) = self.lead() {
            return Err(self.failed(error, observer));
        }
        if observer.wants_profile() {
            self.setup.engine.start_profile();
        }
        self.clock = Clock::start();
        match self.steps(observer, stop) {
            Ok(Some(ending)) => self.finish(ending, observer, stop),
            Ok(None) => self.interrupted(observer),
            Err(TrainError::Step(
                problem @ (StepError::NonFiniteLoss { .. } | StepError::NonFiniteGradient { .. }),
            )) => Err(self.diverged(problem, observer)),
            Err(error) => Err(self.failed(error, observer)),
        }
    }

    /// Ends a session that cannot go on as an interruption does: what it has come to is saved.
    pub(super) fn failed(self, error: TrainError, observer: &mut dyn Observer) -> TrainError {
        match self.interrupted(observer) {
            Ok(Outcome::Interrupted {
                run,
                step,
                epoch,
                failures,
                ..
            }) if failures.is_empty() => TrainError::Stopped {
                run,
                step,
                epoch,
                source: Box::new(error),
            },
            // What went wrong first is the news; saves that failed have been told.
            _ => error,
        }
    }

    /// The steps that are left; `None` when told to stop.
    fn steps(
        &mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Ending>, TrainError> {
        let mut batches = Batches::default();
        let mut leaving = false;
        if let Some(reason) = self.keeper.should_stop() {
            return Ok(Some(self.early(reason, observer)));
        }
        loop {
            if leaving
                && self.state.is_at_end(&self.setup.timetable)
                && !stop.load(Ordering::Relaxed)
            {
                if self.state.is_measured() || self.measure(observer, stop)? {
                    let words = format!("stopped by hand after epoch {}", self.state.epoch);
                    observer.on(Event::StoppedEarly(&words));
                    return Ok(Some(Ending::CutShort(words)));
                }
                return Ok(None);
            }
            match self.state.next(&self.setup.timetable) {
                _ if stop.load(Ordering::Relaxed) => return Ok(None),
                Next::Done => return Ok(Some(Ending::Completed)),
                Next::Measure => {
                    if !self.measure(observer, stop)? {
                        return Ok(None);
                    }
                    if let Some(reason) = self.keeper.should_stop() {
                        return Ok(Some(self.early(reason, observer)));
                    }
                }
                Next::Step => {
                    let Some(wish) = self.step(&mut batches, observer, stop)? else {
                        return Ok(None);
                    };
                    match wish {
                        Some(Wish::StopAfterEpoch) => leaving = true,
                        Some(Wish::Evaluate) => self.state.ask(),
                        None => {}
                    }
                    if let Some(reason) = self.keeper.should_stop_by_time(self.begun.elapsed()) {
                        // What it has come to is worth knowing, and may be the best.
                        if !self.measure(observer, stop)? {
                            return Ok(None);
                        }
                        return Ok(Some(self.early(reason, observer)));
                    }
                }
            }
        }
    }

    /// Takes one step, and asks what is wished for then; `None` when told to stop before it.
    fn step(
        &mut self,
        batches: &mut Batches,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Option<Wish>>, TrainError> {
        let begun = Instant::now();
        let batch = match batches.ahead.take() {
            Some(batch) => Some(batch),
            None => self.next_batch(batches, stop)?,
        };
        let Some(batch) = batch else {
            return Ok(None);
        };
        if let Some((_, epoch)) = &mut batches.under_way
            && self.setup.engine.looks_ahead()
        {
            batches.ahead = epoch.next_if_made();
        }
        self.clock.lap(|spent| &mut spent.loading);
        let rate = self.rates.at(self.state.step, self.state.plateau.as_ref());
        self.share_step(rate)?;
        let ahead = batches.ahead.as_ref().map(as_taken);
        let engine = &mut self.setup.engine;
        let out = engine.step_before(as_taken(&batch), rate, ahead);
        let out = out.map_err(TrainError::Step)?;
        self.clock.lap(|spent| &mut spent.steps);
        let images = out.images;
        drop(batch);
        self.state
            .stepped(out.loss, images as u64, u64::from(out.correct));
        self.throughput.add(images, begun.elapsed());
        observer.on(Event::Stepped(Progress {
            step: self.state.step,
            steps: self.steps_planned(),
            epoch: self.state.epoch,
            epochs: self.state.epochs,
            images,
            loss: self.state.running.loss(),
            learning_rate: rate,
        }));
        self.tell(observer);
        self.clock.lap(|spent| &mut spent.keeping);
        Ok(Some(observer.wish()))
    }

    /// The next batch of the epoch under way; `None` when told to stop while it was waited for.
    fn next_batch(
        &self,
        batches: &mut Batches,
        stop: &AtomicBool,
    ) -> Result<Option<Batch>, TrainError> {
        let epoch = self.state.epoch;
        let under_way = &mut batches.under_way;
        let batches = match under_way {
            Some((of, batches)) if *of == epoch => batches,
            _ => {
                let skip = usize::try_from(self.state.batch).unwrap_or(usize::MAX);
                let fresh = self.setup.loader.epoch(epoch, skip);
                &mut under_way.insert((epoch, fresh)).1
            }
        };
        match batches.next_while(&mut || !stop.load(Ordering::Relaxed)) {
            Some(Err(LoadError::Interrupted)) => Ok(None),
            Some(batch) => Ok(Some(batch?)),
            // The loader and the timetable count batches by the same rule.
            None => unreachable!("an epoch ran out of batches early"),
        }
    }

    fn early(&self, reason: StopReason, observer: &mut dyn Observer) -> Ending {
        let words = reason.to_string();
        observer.on(Event::StoppedEarly(&words));
        match reason {
            StopReason::TimeUp { .. } => Ending::CutShort(words),
            _ => Ending::StoppedEarly(words),
        }
    }
}
