//! The time of a session: what it is spent on, and how fast the steps go.

use std::time::{Duration, Instant};

use keepbest_nn::Engine;

use super::events::{Event, Observer};
use super::time_spent::{Profiled, TimeSpent};

/// Parts a session's time.
pub(super) struct Clock {
    latest: Instant,
    spent: TimeSpent,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            latest: Instant::now(),
            spent: TimeSpent::default(),
        }
    }

    /// What was done since the call before.
    pub(super) fn lap(&mut self, on: impl FnOnce(&mut TimeSpent) -> &mut f64) {
        let now = Instant::now();
        *on(&mut self.spent) += now.duration_since(self.latest).as_secs_f64();
        self.latest = now;
    }

    /// The session is over: tells where its time went, if it was to be profiled.
    pub(super) fn end(&mut self, engine: &dyn Engine, observer: &mut dyn Observer) {
        self.lap(|spent| &mut spent.ending);
        if let Some(engine) = engine.profile().filter(|profile| profile.steps > 0) {
            let session = self.spent;
            observer.on(Event::Profiled(&Profiled { session, engine }));
        }
    }
}

/// The speed of the steps.
#[derive(Default)]
pub(super) struct Throughput {
    images: usize,
    time: Duration,
}

impl Throughput {
    pub(super) fn add(&mut self, images: usize, time: Duration) {
        self.images += images;
        self.time += time;
    }

    /// Images a second since the last call.
    pub(super) fn take(&mut self) -> Option<f64> {
        let Self { images, time } = std::mem::take(self);
        (images > 0).then(|| images as f64 / time.as_secs_f64())
    }
}
