//! What a session's time is spent on.

use keepbest_nn::Profile;
use serde::Serialize;

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
