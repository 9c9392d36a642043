//! The learning rate range test: Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use keepbest_nn::StepError;
use serde::Serialize;

use super::batch::as_taken;
use super::error::TrainError;
use super::events::Observer;
use super::heed::Heed;
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

/// The result of the test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RangeTest {
    /// In order of rising rates, up to where the loss ran away.
    pub points: Vec<RatePoint>,
    /// The rate at which the smoothed loss was lowest, where more of it no longer helps: Smith's upper bound, and what a schedule that rises
    /// to its highest rate and comes down again takes as that. `None` when the loss never fell.
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
        .unwrap_or_else(|| keepbest_model::DEFAULT_RUNS_DIR.into());
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
        let loss = match engine.step(as_taken(&batch), learning_rate) {
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
        suggestion: lowest(&points),
        points,
        diverged,
    }))
}

/// The rate at which the smoothed loss is lowest, if it fell at all. Where it falls fastest, which others suggest, is 2 to 16 times
/// lower on our sets, and whole runs with that rate end worse (docs/models.md).
fn lowest(points: &[RatePoint]) -> Option<f64> {
    let first = points.first()?;
    let least = points
        .iter()
        .min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))?;
    (least.smoothed < first.smoothed).then_some(least.learning_rate)
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
    fn the_rate_at_which_the_loss_stops_falling_is_found() {
        // Flat to 40, falling to 60, then rising.
        let loss = |i: i32| match i {
            ..40 => 2.0,
            40..60 => 2.0 - 0.05 * f64::from(i - 40),
            _ => 1.0 + 0.2 * f64::from(i - 60),
        };
        assert_eq!(lowest(&points((0..100).map(loss))), Some(60.0));
        assert_eq!(lowest(&points((0..50).map(f64::from))), None);
        assert_eq!(lowest(&[]), None);
        assert_eq!(lowest(&points([3.0, 3.0].into_iter())), None);
        assert_eq!(lowest(&points([3.0, 2.0].into_iter())), Some(1.0));
    }
}
