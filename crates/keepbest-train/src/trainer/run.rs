//! A run under way.

use std::path::{Path, PathBuf};
use std::time::Instant;

use keepbest_keeper::Keeper;

use super::clock::{Clock, Throughput};
use super::events::{Event, Observer, Overview};
use super::position::{ResumedFrom, TrainerState};
use super::rate::Rates;
use super::reporting::Reporting;
use super::setup::Setup;
use super::significance::Significance;
use crate::log::{Loggers, SessionEnd, SessionStart, now_ms};

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
    /// Whether the other ranks have the weights as they are.
    pub is_shared: bool,
    pub loggers: Loggers,
    pub significance: Significance,
    pub throughput: Throughput,
    pub clock: Clock,
    pub begun: Instant,
    pub rates: Rates,
}

impl Run {
    /// A run whose session begins now.
    pub(super) fn begun(
        setup: Setup,
        path: PathBuf,
        keeper: Keeper,
        state: TrainerState,
        rates: Rates,
    ) -> Self {
        Self {
            setup,
            path,
            keeper,
            state,
            resumed: None,
            lost: Vec::new(),
            reporting: Reporting::default(),
            is_shared: false,
            loggers: Loggers::default(),
            significance: Significance::default(),
            throughput: Throughput::default(),
            clock: Clock::start(),
            begun: Instant::now(),
            rates,
        }
    }

    /// Passes on what the keeper has done meanwhile.
    pub(super) fn tell(&mut self, observer: &mut dyn Observer) {
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
        let ended = SessionEnd {
            finished,
            best: best.map(Path::to_owned),
            time_ms: now_ms(),
        };
        loggers.end(&ended, go_on);
        for problem in loggers.problems() {
            observer.on(Event::Note(&problem));
        }
    }

    pub(super) fn session_start(&self) -> SessionStart {
        let settings = self.setup.config.to_settings();
        let given = settings.given().into_iter();
        SessionStart {
            run: self.path.clone(),
            settings: given
                .filter_map(|name| Some((name.to_owned(), settings.text_of(name)?)))
                .collect(),
            step: self.state.step,
        }
    }

    pub(super) fn training_json(&self) -> serde_json::Value {
        let next = self.rates.at(self.state.step, self.state.plateau.as_ref());
        let mut state = self.state.clone();
        state.learning_rate = Some(next);
        serde_json::to_value(state).expect("the state has string keys and finite numbers")
    }

    pub(super) fn steps_planned(&self) -> u64 {
        self.state.epochs * self.setup.timetable.batches
    }

    pub(super) fn overview(&self) -> Overview {
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
            objective: setup.goals.objective.to_string(),
            monitor: setup.goals.objective.monitor().to_string(),
            others: setup.goals.others.iter().map(ToString::to_string).collect(),
            carried: setup.carried.clone(),
            resumed: self.resumed.clone(),
        }
    }
}
