//! The learning rate range test: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use keepbest_nn::{Engine as _, StepError};
use serde::Serialize;

use super::error::TrainError;
use super::events::Observer;
use super::heed::Heed;
use super::run::labels;
use super::setup::Setup;
use crate::settings::Settings;

/// Which rates to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateRange {
    /// The first; above 0.
    pub from: f64,
    /// The last; above the first.
    pub to: f64,
    /// Steps from one to the other, each at a rate the same factor above the one before.
    pub steps: u32,
}

/// One step of the test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RatePoint {
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Loss of its batch, before the update.
    pub loss: f64,
    /// The loss's moving average.
    pub smoothed: f64,
}

/// What the test found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RangeTest {
    /// In order of rising rates, up to where the loss ran away.
    pub points: Vec<RatePoint>,
    /// The rate at which the smoothed loss fell fastest; `None` when it never fell.
    pub suggestion: Option<f64>,
    /// Whether the loss ran away before the last rate.
    pub diverged: bool,
}

/// Share of the past in the smoothed loss.
const SMOOTHING: f64 = 0.9;
/// A smoothed loss of so many times the lowest has run away.
const RUNAWAY: f64 = 4.0;

/// Trains the network of these settings from its start for a few steps at rising rates. Nothing is kept. The observer is told
/// how far reading the images is. `None` when told to stop.
///
/// # Errors
/// [`TrainError`], as of [`train`](super::train).
pub fn lr_find(
    given: &Settings,
    range: RateRange,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Option<RangeTest>, TrainError> {
    let runs_dir = given
        .runs_dir
        .clone()
        .unwrap_or_else(|| crate::DEFAULT_RUNS_DIR.into());
    let heed = Heed::new(observer, stop);
    let Setup {
        mut engine, loader, ..
    } = match Setup::new(given, Path::new(&runs_dir), None, &heed) {
        Err(error) if error.is_interrupted() => return Ok(None),
        setup => setup?,
    };
    let mut points: Vec<RatePoint> = Vec::new();
    let (mut average, mut weight, mut least) = (0.0, 0.0, f64::INFINITY);
    let mut diverged = false;
    let mut epoch = 1;
    let mut batches = loader.epoch(epoch, 0);
    for step in 0..range.steps {
        let mut next = batches.next_while(&mut || heed.goes_on());
        if next.is_none() {
            epoch += 1;
            batches = loader.epoch(epoch, 0);
            next = batches.next_while(&mut || heed.goes_on());
        }
        let batch = match next {
            _ if !heed.goes_on() => return Ok(None),
            Some(batch) => batch?,
            None => break,
        };
        let part = f64::from(step) / f64::from(range.steps.saturating_sub(1).max(1));
        let learning_rate = range.from * libm::pow(range.to / range.from, part);
        let loss = match engine.step(&batch.images, labels(&batch), learning_rate) {
            Ok(out) => out.loss,
            Err(StepError::NonFiniteLoss { .. } | StepError::NonFiniteGradient { .. }) => {
                diverged = true;
                break;
            }
            Err(error) => return Err(TrainError::Step(error)),
        };
        // The weights of what came before sum to less than 1 in the beginning.
        average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
        weight = SMOOTHING * weight + (1.0 - SMOOTHING);
        let smoothed = average / weight;
        points.push(RatePoint {
            learning_rate,
            loss,
            smoothed,
        });
        least = least.min(smoothed);
        if smoothed > RUNAWAY * least {
            diverged = true;
            break;
        }
    }
    Ok(Some(RangeTest {
        suggestion: steepest(&points),
        points,
        diverged,
    }))
}

/// The rate at which the smoothed loss falls fastest, by step, before it is lowest.
fn steepest(points: &[RatePoint]) -> Option<f64> {
    let lowest =
        (0..points.len()).min_by(|&a, &b| points[a].smoothed.total_cmp(&points[b].smoothed))?;
    // Over a few steps to each side: the noise of the batches is what is left after smoothing.
    let reach = (points.len() / 20).max(1);
    let slope = |at: usize| {
        let (from, to) = (at.saturating_sub(reach), (at + reach).min(lowest));
        (points[to].smoothed - points[from].smoothed) / (to - from) as f64
    };
    (1..lowest)
        .filter(|&at| at.saturating_sub(reach) < (at + reach).min(lowest))
        .min_by(|&a, &b| slope(a).total_cmp(&slope(b)))
        .filter(|&at| slope(at) < 0.0)
        .map(|at| points[at].learning_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(losses: impl Iterator<Item = f64>) -> Vec<RatePoint> {
        let point = |(i, loss): (usize, f64)| RatePoint {
            learning_rate: i as f64,
            loss,
            smoothed: loss,
        };
        losses.enumerate().map(point).collect()
    }

    #[test]
    fn the_steepest_fall_is_found() {
        // Flat to 40, falling to 60, then rising: the middle of the fall.
        let loss = |i: i32| match i {
            ..40 => 2.0,
            40..60 => 2.0 - 0.05 * f64::from(i - 40),
            _ => 1.0 + 0.2 * f64::from(i - 60),
        };
        let found = steepest(&points((0..100).map(loss))).unwrap();
        assert!((41.0..60.0).contains(&found), "{found}");
        assert_eq!(steepest(&points((0..50).map(f64::from))), None);
        assert_eq!(steepest(&[]), None);
        assert_eq!(steepest(&points([3.0, 2.0].into_iter())), None);
    }
}
