//! A run under way.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keepbest_core::{EarlyStoppingConfig, StopReason};
use keepbest_data::{Epoch, LoadError};
use keepbest_formats::model_file::Attachments;
use keepbest_keeper::{
    CopyFormat, Keeper, KeeperConfig, KeeperSummary, SaveFailure, SaveMode, store,
};
use keepbest_model::place::PLACES;
use keepbest_model::{Environment, TunedThresholds, keep_model};
use keepbest_nn::StepError;

use super::Outcome;
use super::batch::as_taken;
use super::candidate::Candidate;
use super::clock::Clock;
use super::error::TrainError;
use super::events::{Event, Judged, Observer, Overview, Progress, Wish};
use super::finish::Ending;
use super::position::{Next, TrainerState};
use super::rate::Rates;
use super::reporting::Reporting;
use super::resume::ResumedFrom;
use super::setup::Setup;
use super::significance::Significance;
use crate::changes::CONFIG;
use crate::log::{About, Ended, Logged, Loggers, now_ms};
use crate::run_name;
use crate::settings::{AlsoKind, SaveKind};

/// A run: setup, keeper and position.
pub(super) struct Run {
    pub setup: Setup,
    pub path: PathBuf,
    pub keeper: Keeper,
    pub state: TrainerState,
    pub resumed: Option<ResumedFrom>,
    /// The bests that were found lost when it was taken up.
    pub lost: Vec<String>,
    pub reporting: Reporting,
    pub loggers: Loggers,
    significance: Significance,
    pub(super) clock: Clock,
    begun: Instant,
    rates: Rates,
}

impl Run {
    /// Makes the run's directory.
    pub fn create(
        setup: Setup,
        runs_dir: &Path,
        name: Option<&str>,
        preface: &str,
    ) -> Result<Self, TrainError> {
        let state = TrainerState::new(setup.config.epochs);
        let rates = Rates::new(
            &setup.config,
            state.epochs,
            setup.timetable.batches,
            setup.objective.direction(),
        );
        rates.validate()?;
        let config = beginning(&setup)?;
        let text = setup.config.to_toml(preface);
        ensure_space(&setup, runs_dir)?;
        let (path, keeper) = match name {
            Some(name) => {
                let path = runs_dir.join(name);
                let keeper = Keeper::create(&path, &text, config).map_err(TrainError::Create)?;
                (path, keeper)
            }
            None => first_free(runs_dir, &setup.spec.name, &text, config)?,
        };
        if let Err(source) = keep_model(&setup.config.model, &setup.spec, &path) {
            // So that the name is free again.
            drop(keeper);
            if let Ok(run) = store::RunWriter::open(&path) {
                run.discard();
            }
            return Err(TrainError::KeepModel { source });
        }
        Ok(Self {
            setup,
            path,
            keeper,
            state,
            resumed: None,
            lost: Vec::new(),
            reporting: Reporting::default(),
            loggers: Loggers::default(),
            significance: Significance::default(),
            clock: Clock::start(),
            begun: Instant::now(),
            rates,
        })
    }

    /// Takes up an opened run.
    pub fn taken_up(
        setup: Setup,
        path: PathBuf,
        keeper: Keeper,
        state: TrainerState,
        resumed: ResumedFrom,
    ) -> Result<Self, TrainError> {
        let rates = Rates::new(
            &setup.config,
            state.epochs,
            setup.timetable.batches,
            setup.objective.direction(),
        );
        rates.validate()?;
        Ok(Self {
            setup,
            path,
            keeper,
            state,
            resumed: Some(resumed),
            lost: Vec::new(),
            reporting: Reporting::default(),
            loggers: Loggers::default(),
            significance: Significance::default(),
            clock: Clock::start(),
            begun: Instant::now(),
            rates,
        })
    }

    /// Trains to the end, or until told to stop.
    pub fn go(
        mut self,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let overview = self.overview();
        observer.on(Event::Ready(&overview));
        for note in &self.setup.notes {
            observer.on(Event::Note(note));
        }
        self.loggers = Loggers::start(&self.setup.log, self.about());
        self.significance = Significance::of(&self.keeper, self.setup.config.significant);
        self.show_best(observer, stop);
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
        let mut batches: Option<(u64, Epoch)> = None;
        let mut throughput = Throughput::default();
        let mut leaving = false;
        if let Some(reason) = self.keeper.should_stop() {
            return Ok(Some(self.early(reason, observer)));
        }
        loop {
            if leaving
                && self.state.is_at_end(&self.setup.timetable)
                && !stop.load(Ordering::Relaxed)
            {
                if self.state.is_measured() || self.measure(&mut throughput, observer, stop)? {
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
                    if !self.measure(&mut throughput, observer, stop)? {
                        return Ok(None);
                    }
                    if let Some(reason) = self.keeper.should_stop() {
                        return Ok(Some(self.early(reason, observer)));
                    }
                }
                Next::Step => {
                    let begun = Instant::now();
                    let epoch = self.state.epoch;
                    let batch = match &mut batches {
                        Some((of, batches)) if *of == epoch => batches,
                        _ => {
                            let skip = usize::try_from(self.state.batch).unwrap_or(usize::MAX);
                            let fresh = self.setup.loader.epoch(epoch, skip);
                            &mut batches.insert((epoch, fresh)).1
                        }
                    };
                    let batch = batch.next_while(&mut || !stop.load(Ordering::Relaxed));
                    if let Some(Err(LoadError::Interrupted)) = &batch {
                        return Ok(None);
                    }
                    // The loader and the timetable count batches by the same rule.
                    let Some(batch) = batch.transpose()? else {
                        unreachable!("an epoch ran out of batches early")
                    };
                    self.clock.lap(|spent| &mut spent.loading);
                    let rate = self.rates.at(self.state.step, self.state.plateau.as_ref());
                    let out = self
                        .setup
                        .engine
                        .step(as_taken(&batch), rate)
                        .map_err(TrainError::Step)?;
                    self.clock.lap(|spent| &mut spent.steps);
                    let images = batch.len();
                    drop(batch);
                    self.state
                        .stepped(out.loss, images as u64, u64::from(out.correct));
                    throughput.add(images, begun.elapsed());
                    observer.on(Event::Stepped(Progress {
                        step: self.state.step,
                        steps: self.steps_planned(),
                        epoch,
                        epochs: self.state.epochs,
                        images,
                        loss: self.state.running.loss(),
                        learning_rate: rate,
                    }));
                    self.tell(observer);
                    self.clock.lap(|spent| &mut spent.keeping);
                    match observer.wish() {
                        Some(Wish::StopAfterEpoch) => leaving = true,
                        Some(Wish::Evaluate) => self.state.ask(),
                        None => {}
                    }
                    if let Some(reason) = self.keeper.should_stop_by_time(self.begun.elapsed()) {
                        // What it has come to is worth knowing, and may be the best.
                        if !self.measure(&mut throughput, observer, stop)? {
                            return Ok(None);
                        }
                        return Ok(Some(self.early(reason, observer)));
                    }
                }
            }
        }
    }

    /// Measures a snapshot and offers it to the keeper. `false` when told to stop in between.
    fn measure(
        &mut self,
        throughput: &mut Throughput,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        let Some(candidate) = self.candidate(observer, stop)? else {
            return Ok(false);
        };
        self.clock.lap(|spent| &mut spent.evaluating);
        let Candidate {
            mut evaluation,
            measured,
        } = candidate;
        let metrics = evaluation.metrics().clone();
        let weights = evaluation.weights().map(ToOwned::to_owned);
        let value = self
            .setup
            .objective
            .monitor()
            .evaluate(&metrics)
            .map_err(keepbest_core::ObjectiveError::from)?;
        let epoch = self.state.epoch;
        if !self.state.is_scheduled(&self.setup.timetable) {
            evaluation = evaluation.unscheduled();
        }
        self.state.measured();
        self.rates.observe(value, &mut self.state.plateau);

        let decided = measured.tuned.clone().zip(self.setup.config.thresholds);
        let thresholds = decided.map(|(tuned, metric)| TunedThresholds::new(tuned, metric, "val"));
        evaluation = evaluation.with_attachments(Attachments {
            thresholds: thresholds.as_ref().map(TunedThresholds::to_json),
            ..Attachments::default()
        });
        let trace = self.significance.trace(&measured, &self.setup.provenance);
        if let Some(reason) = trace
            .as_ref()
            .and_then(|trace| self.significance.holds_back(trace))
        {
            evaluation = evaluation.withheld(reason);
        }
        let verdict = self.keeper.offer(evaluation, self.training_json())?;
        if verdict.is_improved() {
            let images = &self.setup.data.val;
            self.reporting.best(&measured, images, observer);
            self.reporting.thresholds = thresholds;
        }
        if let Some(trace) = trace {
            let improved = verdict.is_improved();
            if let Err(error) =
                self.significance
                    .keep(&self.path, trace, self.state.step, epoch, improved)
            {
                self.reporting.tell(&error.to_string(), observer);
            }
        }
        let images_per_second = throughput.take();
        observer.on(Event::Measured(&Judged {
            step: self.state.step,
            epoch,
            epochs: self.state.epochs,
            metrics,
            value,
            verdict,
            weights,
            images_per_second,
        }));
        let history = self.keeper.history();
        self.loggers.evaluated(Logged {
            history: history.clone(),
            learning_rate: self.rates.at(self.state.step, self.state.plateau.as_ref()),
            images_per_second,
            time_ms: now_ms(),
        });
        let provenance = &self.setup.provenance;
        self.reporting
            .write(&self.path, provenance, Some(history), observer);
        self.tell(observer);
        self.clock.lap(|spent| &mut spent.keeping);
        Ok(true)
    }

    /// Passes on what the keeper has done meanwhile.
    pub fn tell(&mut self, observer: &mut dyn Observer) {
        for event in self.keeper.events() {
            observer.on(Event::Keeper(&event));
        }
        for problem in self.loggers.problems() {
            observer.on(Event::Note(&problem));
        }
    }

    /// The session is over: the loggers get what they have not got, and the page its last form.
    pub(super) fn close(
        loggers: &mut Loggers,
        finished: bool,
        best: Option<&Path>,
        observer: &mut dyn Observer,
        go_on: &dyn Fn() -> bool,
    ) {
        let ended = Ended {
            finished,
            best: best.map(Path::to_owned),
            time_ms: now_ms(),
        };
        loggers.end(&ended, go_on);
        for problem in loggers.problems() {
            observer.on(Event::Note(&problem));
        }
    }

    fn about(&self) -> About {
        let settings = self.setup.config.to_settings();
        let given = settings.given().into_iter();
        About {
            run: self.path.clone(),
            settings: given
                .filter_map(|name| Some((name.to_owned(), settings.text_of(name)?)))
                .collect(),
            step: self.state.step,
        }
    }

    pub(super) fn interrupted(
        mut self,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let snapshot = self.setup.engine.snapshot();
        self.keeper
            .save_last(&snapshot, self.state.epoch, self.training_json());
        self.keeper.settle();
        self.tell(observer);
        let kept = self.keeper.interrupt()?;
        for event in &kept.events {
            observer.on(Event::Keeper(event));
        }
        Self::close(&mut self.loggers, false, None, observer, &|| true);
        self.reporting
            .write(&self.path, &self.setup.provenance, None, observer);
        self.clock.end(&*self.setup.engine, observer);
        Ok(Outcome::Interrupted {
            run: self.path,
            step: self.state.step,
            epoch: self.state.epoch,
            failures: in_words(&kept.unresolved, &kept),
            lost: self.lost,
        })
    }

    fn early(&self, reason: StopReason, observer: &mut dyn Observer) -> Ending {
        let words = reason.to_string();
        observer.on(Event::StoppedEarly(&words));
        match reason {
            StopReason::TimeUp { .. } => Ending::CutShort(words),
            _ => Ending::StoppedEarly(words),
        }
    }

    fn training_json(&self) -> serde_json::Value {
        let next = self.rates.at(self.state.step, self.state.plateau.as_ref());
        let mut state = self.state.clone();
        state.learning_rate = Some(next);
        serde_json::to_value(state).expect("the state has string keys and finite numbers")
    }

    pub(super) fn steps_planned(&self) -> u64 {
        self.state.epochs * self.setup.timetable.batches
    }

    fn overview(&self) -> Overview {
        let setup = &self.setup;
        let input = setup.data.preprocessing.input;
        Overview {
            guarantee: self.keeper.guarantee(),
            run: self.path.clone(),
            data: setup.data.name.clone(),
            images: [
                setup.data.train.len(),
                setup.data.val.len(),
                setup.data.test.as_ref().map_or(0, |t| t.len()),
            ],
            classes: setup.data.classes.clone(),
            input: [input.channels, input.height, input.width],
            network: setup.spec.name.clone(),
            parameters: setup.engine.network().parameter_count(),
            epochs: self.state.epochs,
            steps: self.steps_planned(),
            objective: setup.objective.to_string(),
            monitor: setup.objective.monitor().to_string(),
            others: setup.others.iter().map(ToString::to_string).collect(),
            carried: setup.carried.clone(),
            resumed: self.resumed.clone(),
        }
    }
}

/// How fast the steps go.
#[derive(Default)]
struct Throughput {
    images: usize,
    time: Duration,
}

impl Throughput {
    fn add(&mut self, images: usize, time: Duration) {
        self.images += images;
        self.time += time;
    }

    /// Images a second since the last call.
    fn take(&mut self) -> Option<f64> {
        let Self { images, time } = std::mem::take(self);
        (images > 0).then(|| images as f64 / time.as_secs_f64())
    }
}

/// What the keeper needs to know about a run.
pub(super) fn keeper_config(setup: &Setup) -> Result<KeeperConfig, TrainError> {
    let mut session = to_json(&Environment::of(&*setup.engine));
    session[PLACES] = to_json(&setup.provenance.places());
    if let Some(carried) = &setup.carried {
        session["carried"] = to_json(carried);
    }
    if let Some(fitted) = &setup.fitted {
        session["time_budget"] = to_json(fitted);
    }
    Ok(KeeperConfig {
        early_stopping: EarlyStoppingConfig {
            patience: setup.config.patience,
            target: setup.config.target,
            max_seconds: setup.config.max_minutes.map(|minutes| 60.0 * minutes),
            ..EarlyStoppingConfig::default()
        },
        save: match setup.config.save {
            SaveKind::Params => SaveMode::Params,
            _ => SaveMode::Full,
        },
        also: setup.config.also.map(|AlsoKind::Pth| CopyFormat::Pth),
        retention: setup.retention.clone(),
        constants: Attachments {
            model: Some(setup.spec.to_json()),
            classes: setup.data.classes.clone(),
            preprocessing: Some(to_json(&setup.data.preprocessing)),
            provenance: Some(to_json(&setup.provenance)),
            ..Attachments::default()
        },
        others: setup.others.clone(),
        session: Some(session),
        ..KeeperConfig::new(setup.objective.clone())
    })
}

/// What the keeper of a run that begins needs to know: its settings too, for whoever goes on with it.
pub(super) fn beginning(setup: &Setup) -> Result<KeeperConfig, TrainError> {
    let mut config = keeper_config(setup)?;
    if let Some(session) = &mut config.session {
        session[CONFIG] = to_json(&setup.config.to_settings().to_table());
    }
    Ok(config)
}

/// What could not be saved, in words.
pub(super) fn in_words(failures: &[SaveFailure], kept: &KeeperSummary) -> Vec<String> {
    let saves = failures.iter().map(ToString::to_string);
    let also = kept.also.iter().zip(&kept.also_error);
    let also =
        also.map(|(path, error)| format!("{} is not in step with best: {error}", path.display()));
    saves.chain(also).collect()
}

/// The directory of the first free name `network-1`, `network-2`, ...
fn first_free(
    runs_dir: &Path,
    network: &str,
    text: &str,
    config: KeeperConfig,
) -> Result<(PathBuf, Keeper), TrainError> {
    let mut number = 1u32;
    loop {
        let path = runs_dir.join(run_name::of_network(network, number));
        // A link that leads nowhere takes a name, too.
        if path.symlink_metadata().is_err() {
            match Keeper::create(&path, text, config.clone()) {
                // Another run took the name in this moment.
                Err(_) if path.join("run.toml").exists() => {}
                other => return Ok((path, other.map_err(TrainError::Create)?)),
            }
        }
        number += 1;
    }
}

/// Checks that each best, last and the next checkpoint, and best's other form twice, will fit, before the run's directory is made.
fn ensure_space(setup: &Setup, runs_dir: &Path) -> Result<(), TrainError> {
    let snapshot = setup.engine.snapshot();
    let params = snapshot.weights().total_bytes();
    let full = params + snapshot.training_state().total_bytes();
    let also = setup.config.also.map_or(0, |_| 2 * params);
    let existing = runs_dir
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("."));
    Ok(store::ensure_space(
        &store::RealFileSystem,
        existing,
        (3 + setup.others.len() as u64) * full + also,
    )?)
}

pub(super) fn to_json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("what a model file holds has string keys")
}
