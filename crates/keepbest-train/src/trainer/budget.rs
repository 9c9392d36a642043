//! The number of epochs that fit into a time: the speed of steps and of evaluations is measured, and the schedule made for what fits.

use std::fmt;
use std::time::{Duration, Instant};

use keepbest_data::{Loader, Prepared};
use keepbest_model::{Criterion, Evaluator};
use keepbest_nn::{EngineConfig, ModelSpec, Scorer, build_engine};
use serde::Serialize;

use super::batch::as_taken;
use super::error::TrainError;
use super::heed::Heed;
use crate::settings::TimeBudget;

/// Steps before the first that counts: they touch memory that later ones find.
const WARM_UP: u32 = 2;
/// Time of which the speed is taken, at least a step; and how many such times, of which the middle one counts: a moment in which
/// the machine was busy with something else is not the run's speed.
const STRETCH: Duration = Duration::from_millis(100);
const STRETCHES: usize = 15;
/// With large steps fewer stretches are enough, when they took this long.
const ENOUGH: (usize, Duration) = (3, Duration::from_secs(3));
/// Evaluation that is measured, where val takes longer.
const EVALUATION: Duration = Duration::from_millis(500);
/// Part of the time that is planned for. The rest is for saving, the page, and a speed that varies: a run of five minutes was
/// 11 % slower than its first second said.
const PLANNED: f64 = 0.9;

/// Stands for the number of epochs while it is not known: the most that may be asked for. No warm-up is longer.
pub(super) const UNKNOWN_EPOCHS: u64 = 1_000_000_000;

/// The number of epochs that fit into a time, and the speed that says so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EpochsFitted {
    /// Seconds for all of it.
    pub budget_seconds: u64,
    /// Training images a second, as measured.
    pub images_per_second: f64,
    /// Seconds of an epoch with its evaluations, by that.
    pub epoch_seconds: f64,
    /// Epochs that fit.
    pub epochs: u64,
}

impl fmt::Display for EpochsFitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} into {}: {:.0} images/s were measured, {:.1} s an epoch",
            self.epochs,
            if self.epochs == 1 {
                "epoch fits"
            } else {
                "epochs fit"
            },
            TimeBudget(self.budget_seconds),
            self.images_per_second,
            self.epoch_seconds
        )
    }
}

/// What the speed of a run is measured with, while its length is not known.
pub(super) struct SpeedTrial<'a> {
    pub device: &'a str,
    pub spec: &'a ModelSpec,
    pub engine: EngineConfig,
    pub loader: &'a Loader,
    pub data: &'a Prepared,
    pub criterion: Criterion,
    /// Evaluations an epoch, of each weights there are.
    pub evaluations: f64,
    /// Passes over the training images for the statistics of averages, an epoch, on average.
    pub statistics: f64,
}

/// Fits epochs into what is left of the budget since `begun`. Trains a network of its own for a moment; the run's is as it was.
pub(super) fn fit(
    budget: TimeBudget,
    begun: Instant,
    trial: &SpeedTrial<'_>,
    scorer: &mut dyn Scorer,
    heed: &Heed<'_>,
) -> Result<EpochsFitted, TrainError> {
    let image = image_seconds(trial, heed)?;
    let measured = measured_seconds(trial, scorer, heed)?;
    let val = trial.data.val.len() as f64;
    let test = trial
        .data
        .test
        .as_ref()
        .map_or(0.0, |test| test.len() as f64);
    let train = trial.data.train.len() as f64;
    let epoch = train * image + (trial.evaluations * val + trial.statistics * train) * measured;
    // The best is measured again at the end, and tested.
    let end = (val + test) * measured;
    let left = PLANNED * (budget.seconds() - begun.elapsed().as_secs_f64()) - end;
    let epochs = (left / epoch).floor();
    if epochs < 1.0 {
        return Err(TrainError::TimeBudget {
            budget,
            epoch: Duration::from_secs_f64(epoch),
            least: Duration::from_secs_f64((epoch + end) / PLANNED + begun.elapsed().as_secs_f64()),
        });
    }
    Ok(EpochsFitted {
        budget_seconds: budget.0,
        images_per_second: 1.0 / image,
        epoch_seconds: epoch,
        epochs: (epochs as u64).min(UNKNOWN_EPOCHS),
    })
}

/// Seconds of a training image, loading included where it is what takes longest.
fn image_seconds(trial: &SpeedTrial<'_>, heed: &Heed<'_>) -> Result<f64, TrainError> {
    let mut engine = build_engine(trial.device, trial.spec, trial.engine.clone())?;
    let mut epoch = 1;
    let mut batches = trial.loader.epoch(epoch, 0);
    let mut steps = 0;
    let (mut begun, mut since, mut images) = (Instant::now(), Instant::now(), 0);
    let mut found = Vec::new();
    loop {
        heed.check()?;
        let Some(batch) = batches.next_while(&mut || heed.goes_on()) else {
            epoch += 1;
            batches = trial.loader.epoch(epoch, 0);
            continue;
        };
        let batch = batch?;
        // Whether it learns does not matter, that the numbers stay in range does.
        engine
            .step(as_taken(&batch), 0.0)
            .map_err(TrainError::Step)?;
        steps += 1;
        if steps <= WARM_UP {
            (begun, since) = (Instant::now(), Instant::now());
            continue;
        }
        images += batch.len();
        if since.elapsed() < STRETCH {
            continue;
        }
        found.push(since.elapsed().as_secs_f64() / images as f64);
        (since, images) = (Instant::now(), 0);
        if found.len() >= STRETCHES || (found.len() >= ENOUGH.0 && begun.elapsed() >= ENOUGH.1) {
            found.sort_by(f64::total_cmp);
            return Ok(found[found.len() / 2]);
        }
    }
}

/// Seconds of an image that is measured.
fn measured_seconds(
    trial: &SpeedTrial<'_>,
    scorer: &mut dyn Scorer,
    heed: &Heed<'_>,
) -> Result<f64, TrainError> {
    let evaluator = Evaluator::new(&trial.criterion, &trial.data.preprocessing);
    let since = Instant::now();
    let mut images = 0;
    evaluator.measure(scorer, &trial.data.val, |done| {
        images = done;
        heed.goes_on() && (done == 0 || since.elapsed() < EVALUATION)
    })?;
    heed.check()?;
    Ok(since.elapsed().as_secs_f64() / images.max(1) as f64)
}
