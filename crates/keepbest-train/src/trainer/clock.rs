//! What a session's time is spent on.

use std::time::Instant;

use keepbest_nn::{Engine, Profile};
use serde::Serialize;

use super::events::{Event, Observer};

/// Seconds of a session since training began; together they are all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TimeSpent {
    /// Training steps of the engine.
    pub steps: f64,
    /// Waiting for the next images.
    pub loading: f64,
    /// Measuring snapshots.
    pub evaluating: f64,
    /// Offering snapshots to the keeper, writing the report, telling what happened. Saving goes on in the background.
    pub keeping: f64,
    /// The end: waiting for the last save, reading the best back, measuring and testing it.
    pub ending: f64,
}

/// A run with its layers timed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Profiled {
    /// What the session's time was spent on.
    pub session: TimeSpent,
    /// The steps, by layer and phase.
    pub engine: Profile,
}

/// Parts a session's time.
pub(super) struct Clock {
    latest: Instant,
    spent: TimeSpent,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            latest: Instant::now(),
            spent: TimeSpent::default(),
        }
    }

    /// What was done since the call before.
    pub fn lap(&mut self, on: impl FnOnce(&mut TimeSpent) -> &mut f64) {
        let now = Instant::now();
        *on(&mut self.spent) += now.duration_since(self.latest).as_secs_f64();
        self.latest = now;
    }

    /// The session is over: tells where its time went, if it was to be profiled.
    pub fn end(&mut self, engine: &dyn Engine, observer: &mut dyn Observer) {
        self.lap(|spent| &mut spent.ending);
        if let Some(engine) = engine.profile().filter(|profile| profile.steps > 0) {
            let session = self.spent;
            observer.on(Event::Profiled(&Profiled { session, engine }));
        }
    }
}
