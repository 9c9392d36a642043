//! Many processes that train one network: the first is a run like any other, and says to the others what it does; they do their part.
//!
//! Whatever is decided, the first rank decides alone: which step is next and with what rate, what is measured, what is kept, when it is
//! over. The others know the settings and the images, make their shards of the same batches, and hold the same weights.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use keepbest_data::{Epoch, LoadError, Preprocessing};
use keepbest_formats::safetensors::{self, Layout};
use keepbest_formats::{StateDict, Tensor};
use keepbest_model::Evaluator;
use keepbest_nn::{Collective, CollectiveError, collective};
use serde::{Deserialize, Serialize};

use super::batch::as_taken;
use super::error::TrainError;
use super::events::{Event, Observer};
use super::heed::Heed;
use super::run::Run;
use super::setup::Setup;
use crate::settings::Settings;

/// What the first rank says to the others.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// The run: its settings as TOML, its preprocessing as JSON.
    Begin {
        settings: String,
        preprocessing: String,
    },
    /// Weights and training state after so many steps; their tensors come next, as two safetensors files.
    State { steps: u64 },
    /// The step after so many, at a learning rate, whose bits these are.
    Step { steps: u64, rate: u64 },
    /// The val images are scored with the weights as they are, or with their average.
    Score { averaged: bool },
    /// The run is over.
    End,
}

fn tell(ranks: &dyn Collective, order: &Order) -> Result<(), TrainError> {
    let order = serde_json::to_vec(order).expect("an order has string keys and whole numbers");
    Ok(ranks.tell(&order)?)
}

/// Says to the other ranks of this process, where there are any, that there is nothing more to do. Also where the run could not begin.
///
/// # Errors
/// [`CollectiveError`] when they are lost already.
pub fn release_ranks() -> Result<(), CollectiveError> {
    let order =
        serde_json::to_vec(&Order::End).expect("an order has string keys and whole numbers");
    match collective() {
        ranks if ranks.ranks() > 1 => ranks.tell(&order),
        _ => Ok(()),
    }
}

/// The first rank's view of the others.
impl Run {
    /// Tells the others what run it is.
    pub(super) fn lead(&mut self) -> Result<(), TrainError> {
        let ranks = self.setup.ranks();
        if ranks.ranks() == 1 {
            return Ok(());
        }
        let mut settings = self.setup.config.to_settings();
        // The weights it starts from come with the state.
        settings.from = None;
        let preprocessing = serde_json::to_string(&self.setup.data.preprocessing);
        tell(
            &*ranks,
            &Order::Begin {
                settings: crate::settings::to_toml(&settings, ""),
                preprocessing: preprocessing.expect("preprocessing has string keys"),
            },
        )
    }

    /// Gives the others the weights and the training state, where they do not have them.
    pub(super) fn share_state(&mut self) -> Result<(), TrainError> {
        let ranks = self.setup.ranks();
        if ranks.ranks() == 1 || self.is_shared {
            return Ok(());
        }
        let snapshot = self.setup.engine.snapshot();
        tell(
            &*ranks,
            &Order::State {
                steps: self.state.step,
            },
        )?;
        ranks.tell(&packed(&snapshot.weights()))?;
        ranks.tell(&packed(&snapshot.training_state()))?;
        self.is_shared = true;
        Ok(())
    }

    /// Has the others take the step that comes next.
    pub(super) fn share_step(&mut self, rate: f64) -> Result<(), TrainError> {
        let ranks = self.setup.ranks();
        if ranks.ranks() == 1 {
            return Ok(());
        }
        self.share_state()?;
        tell(
            &*ranks,
            &Order::Step {
                steps: self.state.step,
                rate: rate.to_bits(),
            },
        )
    }

    /// Has the others score their part of the val images.
    pub(super) fn share_scoring(&mut self, averaged: bool) -> Result<(), TrainError> {
        let ranks = self.setup.ranks();
        if ranks.ranks() == 1 {
            return Ok(());
        }
        self.share_state()?;
        tell(&*ranks, &Order::Score { averaged })
    }
}

/// Tensors as one safetensors file.
fn packed(tensors: &StateDict) -> Vec<u8> {
    let named: Vec<(&str, &Tensor)> = tensors.iter().collect();
    let layout = Layout::new(&named, &[]).expect("a state dict that is saved can be laid out");
    let mut bytes = Vec::new();
    layout
        .write_to(&mut bytes)
        .expect("memory takes all that is written to it");
    bytes
}

fn unpacked(bytes: Vec<u8>) -> Result<StateDict, TrainError> {
    let read = safetensors::read(&bytes.into());
    Ok(read.map_err(misheard)?.tensors)
}

fn misheard(error: impl std::error::Error + Send + Sync + 'static) -> TrainError {
    TrainError::Ranks(CollectiveError::new(collective().rank(), Box::new(error)))
}

/// Does the part of a rank that is not the first, until that says that the run is over. Nothing is written.
///
/// # Errors
/// [`TrainError`] when the images cannot be read here, or another rank is lost.
pub fn follow() -> Result<(), TrainError> {
    let ranks = collective();
    let hear = || -> Result<Order, TrainError> {
        serde_json::from_slice(&ranks.hear()?).map_err(misheard)
    };
    let (settings, preprocessing) = match hear()? {
        Order::Begin {
            settings,
            preprocessing,
        } => (settings, preprocessing),
        _ => return Ok(()),
    };
    let settings = Settings::from_toml(&settings)?;
    let preprocessing: Preprocessing = serde_json::from_str(&preprocessing).map_err(misheard)?;
    let (mut nobody, stop) = (Nobody, AtomicBool::new(false));
    let heed = Heed::new(&mut nobody, &stop);
    let setup = Setup::new(&settings, Path::new(""), Some(preprocessing), &heed)?;
    let mut follower = Follower {
        setup,
        batches: None,
    };
    loop {
        match hear()? {
            Order::State { steps } => {
                let (weights, training) = (unpacked(ranks.hear()?)?, unpacked(ranks.hear()?)?);
                let engine = &mut follower.setup.engine;
                engine
                    .restore(&weights, &training, steps)
                    .map_err(misheard)?;
            }
            Order::Step { steps, rate } => follower.step(steps, f64::from_bits(rate))?,
            Order::Score { averaged } => follower.score(averaged)?,
            Order::Begin { .. } | Order::End => return Ok(()),
        }
    }
}

/// A rank that does what the first one says.
struct Follower {
    setup: Setup,
    /// The batches of an epoch, and the step that the next of them is for.
    batches: Option<(u64, Epoch)>,
}

impl Follower {
    fn step(&mut self, steps: u64, rate: f64) -> Result<(), TrainError> {
        let an_epoch = self.setup.timetable.batches;
        let (epoch, done) = (steps / an_epoch + 1, steps % an_epoch);
        let is_next = self
            .batches
            .as_ref()
            .is_some_and(|(next, _)| *next == steps);
        if !is_next || done == 0 {
            let skip = usize::try_from(done).unwrap_or(usize::MAX);
            self.batches = Some((steps, self.setup.loader.epoch(epoch, skip)));
        }
        let Some((next, batches)) = &mut self.batches else {
            unreachable!("the batches were just begun")
        };
        let batch = batches.next_while(&mut || true);
        let batch = batch.unwrap_or(Err(LoadError::NoImages))?;
        self.setup
            .engine
            .step(as_taken(&batch), rate)
            .map_err(TrainError::Step)?;
        *next += 1;
        Ok(())
    }

    fn score(&mut self, averaged: bool) -> Result<(), TrainError> {
        let setup = &mut self.setup;
        let snapshot = match averaged {
            true => setup.engine.averaged(),
            false => None,
        };
        let snapshot = snapshot.unwrap_or_else(|| setup.engine.snapshot());
        setup.scorer.load_snapshot(&snapshot).map_err(misheard)?;
        let (ranks, criterion) = (setup.ranks(), setup.provenance.criterion.criterion());
        let evaluator = Evaluator {
            ranks: &*ranks,
            ..Evaluator::new(&criterion, &setup.data.preprocessing)
        };
        Ok(evaluator.score_part(&mut *setup.scorer, &setup.data.val)?)
    }
}

/// The first rank tells the user what happens.
struct Nobody;

impl Observer for Nobody {
    fn on(&mut self, _: Event<'_>) {}
}
