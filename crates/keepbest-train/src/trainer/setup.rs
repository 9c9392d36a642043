//! From settings to everything a run needs, before anything is written.

mod decided;
mod images;
mod learner;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keepbest_data::{Loader, LoaderConfig, Order, Prepared, Preprocessing, Shard, Watch};
use keepbest_model::{Costs, DataRecord, Environment, Model, Place, Provenance, Seen};
use keepbest_nn::{Collective, Engine, ModelSpec, Scorer};

use super::budget::{self, EpochsFitted, SpeedTrial};
use super::carry::Carried;
use super::error::TrainError;
use super::goals::Goals;
use super::heed::Heed;
use super::parent::seen_before;
use super::position::Timetable;
use super::rate::Rates;
use crate::log::LogTo;
use crate::settings::{Config, Sampling, Settings};

use decided::Decided;
use images::Images;
use learner::Learner;

/// Everything a run works with.
pub(super) struct Setup {
    pub config: Config,
    pub data: Prepared,
    pub spec: ModelSpec,
    pub engine: Box<dyn Engine>,
    pub scorer: Box<dyn Scorer>,
    collective: Arc<dyn Collective>,
    pub loader: Loader,
    pub goals: Goals,
    pub costs: Costs,
    pub log: Vec<LogTo>,
    pub timetable: Timetable,
    pub provenance: Provenance,
    pub carried: Option<Carried>,
    pub fitted: Option<EpochsFitted>,
    pub notes: Vec<String>,
    /// Names of the settings that followed from the images.
    pub from_images: Vec<&'static str>,
}

impl Setup {
    /// Opens the data, builds the network, decides every setting. `runs_dir` is where `from` is looked up. A resumed run
    /// brings the preprocessing it recorded.
    pub(super) fn new(
        given: &Settings,
        runs_dir: &Path,
        recorded: Option<Preprocessing>,
        heed: &Heed<'_>,
    ) -> Result<Self, TrainError> {
        let heeded = |reading| heed.read(reading);
        let watch = Watch::new(&heeded);
        let begun = Instant::now();
        let name = given.name.clone();
        let mut decided = Decided::of(given, runs_dir)?;
        let mut notes = Vec::new();
        let mut images = Images::open(&decided, recorded, watch, &mut notes)?;
        let mut config = Config::resolve(decided.given.clone(), &images.defaults)?;
        notes.extend(images.flip_note(&config.augment));
        decided.goals.check_metrics(&images.data.val)?;
        // That the network fits the images and the machine shows before all images are read.
        let mut learner = Learner::build(&config, &decided, &images.data, heed, &mut notes)?;
        images.normalise(watch)?;
        let costs = learner.costs(&decided.goals, &images.data)?;
        let loader = loader(&config, &images.data, &learner)?;
        notes.extend(left_out(&config, &decided, &images.data));
        let timetable = Timetable {
            batches: loader.batches_per_epoch() as u64,
            eval_every: config.eval_every,
        };
        let mut fitted = None;
        if let Some(budget) = decided.budget {
            learner.load_scorer();
            let trial = SpeedTrial {
                device: &config.device,
                spec: &learner.spec,
                engine: learner.config.clone(),
                loader: &loader,
                data: &images.data,
                criterion: learner.criterion.criterion(),
                evaluations: evaluations_per_epoch(&config, &timetable),
                statistics: config.swa.map_or(0.0, |from| 1.0 - from)
                    * timetable.evaluations_per_epoch(),
            };
            let fit = budget::fit(budget, begun, &trial, &mut *learner.scorer, heed)?;
            decided.given.epochs = Some(fit.epochs);
            config = Config::resolve(decided.given.clone(), &images.defaults)?;
            notes.push(fit.to_string());
            fitted = Some(fit);
        }
        notes.extend(
            config
                .recipe
                .and_then(|recipe| recipe.advice(config.epochs)),
        );
        let mut provenance = provenance(&config, &decided, &images, &learner, watch, &mut notes)?;
        let run = runs_dir.join(name.as_deref().unwrap_or(&learner.spec.name));
        provenance.data.settle(&config.data, &run);
        if let Some(parent) = &mut provenance.parent {
            parent.place = Place::of(&parent.path, Some(&run));
        }
        Ok(Self {
            config,
            data: images.data,
            spec: learner.spec,
            engine: learner.engine,
            scorer: learner.scorer,
            collective: learner.config.collective,
            loader,
            goals: decided.goals,
            costs,
            log: decided.log,
            timetable,
            provenance,
            carried: learner.carried,
            fitted,
            notes,
            from_images: decided.given.following_images(),
        })
    }

    /// The ranks that train together.
    pub(super) fn ranks(&self) -> Arc<dyn Collective> {
        Arc::clone(&self.collective)
    }

    /// The learning rates of so many epochs.
    pub(super) fn rates(&self, epochs: u64) -> Result<Rates, TrainError> {
        let direction = self.goals.objective.direction();
        let rates = Rates::new(&self.config, epochs, self.timetable.batches, direction);
        rates.validate()?;
        Ok(rates)
    }
}

fn loader(config: &Config, data: &Prepared, learner: &Learner) -> Result<Loader, TrainError> {
    let seed = config.seed;
    let collective = &learner.config.collective;
    let loading = LoaderConfig::training(config.batch_size, seed)
        .with_augmentation(config.augment)
        .with_threads(learner.engine.threads())
        .with_shard(Shard {
            rank: collective.rank(),
            of: collective.ranks(),
        })
        .with_order(match config.sampling {
            Sampling::Balanced => Order::Balanced { seed },
            _ => Order::Shuffled { seed },
        });
    Ok(Loader::new(
        data.train.clone(),
        &data.preprocessing,
        loading,
    )?)
}

/// What the run will not do or keep, though it might be thought to.
fn left_out(config: &Config, decided: &Decided, data: &Prepared) -> Vec<String> {
    let mut notes = Vec::new();
    if data.test.is_none() {
        notes.push("the data has no test split: the best is not tested on unseen images".into());
    }
    if config.thresholds.is_some() && config.also.is_some() {
        notes.push("best.pth cannot hold the decision thresholds".into());
    }
    let parent = decided.parent.as_ref();
    if config.thresholds.is_none()
        && let Some(parent) = parent.filter(|parent| parent.thresholds.is_some())
    {
        notes.push(format!(
            "the decision thresholds of {} are not taken over: --thresholds tunes new ones",
            parent.path.display()
        ));
    }
    notes
}

/// Evaluations an epoch, of each weights there are.
fn evaluations_per_epoch(config: &Config, timetable: &Timetable) -> f64 {
    let weights = match config.ema.or(config.swa) {
        Some(_) => 2.0,
        None => 1.0,
    };
    timetable.evaluations_per_epoch() * weights
}

/// What becomes known of the model's origin: the images are identified, and compared with those that its parent has seen.
fn provenance(
    config: &Config,
    decided: &Decided,
    images: &Images,
    learner: &Learner,
    watch: Watch<'_>,
    notes: &mut Vec<String>,
) -> Result<Provenance, TrainError> {
    let identity = images.data.identify_watched(watch)?;
    notes.extend(identity.shared.iter().map(ToString::to_string));
    let parent = decided.parent.as_ref();
    let before = Seen::together(parent.map(Model::seen));
    if let Some(parent) = parent {
        let data = &images.data;
        notes.extend(seen_before(
            parent,
            &before,
            &identity,
            data,
            &decided.split,
        )?);
    }
    Ok(Provenance {
        keepbest: env!("CARGO_PKG_VERSION").into(),
        network: learner.spec.name.clone(),
        data: DataRecord {
            source: config.data.clone(),
            dir: config.data_dir.clone(),
            place: Place::default(),
            split: decided.split,
            fingerprints: identity.fingerprints.clone(),
            skipped: images.skipped.clone(),
        },
        criterion: learner.criterion.clone(),
        seed: config.seed,
        recipe: recipe(config),
        optimizer: Some(learner.config.optimizer.clone()),
        parent: parent.map(Model::as_parent),
        averaged: Vec::new(),
        seen: Some(before.and(&identity)),
        seen_before: before.in_run(&identity),
        config: config.to_settings().to_table(),
        environment: Some(Environment::of(&*learner.engine)),
    })
}

fn recipe(config: &Config) -> String {
    format!(
        "{} epochs, batch {}, {} at {} ({}), weight decay {}, label smoothing {}, augmentation {}",
        config.epochs,
        config.batch_size,
        config.optimizer,
        config.lr,
        config.schedule,
        config.weight_decay,
        config.label_smoothing,
        config.augment,
    )
}
