//! From settings to everything a run needs, before anything is written.

use std::path::Path;
use std::time::Instant;

use keepbest_core::Objective;
use keepbest_core::retention::Policy;
use keepbest_data::{
    Augmentation, ChannelRule, Dataset as _, ImageShape, LoadError, Loader, LoaderConfig, Mirrored,
    Order, Prepared, Preprocessing, ResizeRule, Subset, Unreadable, Unrecorded, Watch,
};
use keepbest_nn::zoo::ZooOptions;
use keepbest_nn::{
    Averaging, CpuEngine, Engine as _, EngineConfig, EngineError, LossConfig, ModelSpec,
    OptimizerConfig, Precision, Predictor, Tuning,
};

use super::aims::{check_metrics, check_names, named, objective, others, retention};
use super::budget::{self, Course, Fitted};
use super::carry::Carried;
use super::error::TrainError;
use super::heed::Heed;
use super::parent::{better_network, network_of, open_parent, seen_before, start_from, told};
use super::position::Timetable;
use crate::architecture::{architecture, check_architecture, is_model_file};
use crate::config::{Config, DataDefaults};
use crate::costs::Costs;
use crate::environment::Environment;
use crate::log::LogTo;
use crate::noise::Smoothing;
use crate::place::Place;
use crate::provenance::{CriterionRecord, DataRecord, Parent, Provenance, SplitRecord};
use crate::seen::Seen;
use crate::settings::{
    ClassWeights, ImageSize, OptimizerKind, PrecisionKind, Resize, Sampling, Settings,
    SettingsError,
};

/// Everything a run works with.
pub(super) struct Setup {
    pub config: Config,
    pub data: Prepared,
    pub spec: ModelSpec,
    pub engine: CpuEngine,
    pub predictor: Predictor,
    pub loader: Loader,
    pub objective: Objective,
    pub others: Vec<Objective>,
    pub smoothing: Option<Smoothing>,
    pub retention: Vec<Policy>,
    pub costs: Costs,
    pub log: Vec<LogTo>,
    pub timetable: Timetable,
    pub provenance: Provenance,
    pub carried: Option<Carried>,
    pub fitted: Option<Fitted>,
    pub notes: Vec<String>,
}

impl Setup {
    /// Opens the data, builds the network, decides every setting. `runs_dir` is where `from` is looked up. A resumed run
    /// brings the preprocessing it recorded.
    pub fn new(
        given: &Settings,
        runs_dir: &Path,
        recorded: Option<Preprocessing>,
        heed: &Heed<'_>,
    ) -> Result<Self, TrainError> {
        let heeded = |reading| heed.read(reading);
        let watch = Watch::new(&heeded);
        let begun = Instant::now();
        let mut given = given.clone();
        let name = given.name.clone();
        let budget = given.time_budget.take();
        if let Some(budget) = budget {
            if let Some(epochs) = given.epochs {
                return Err(TrainError::Settings(SettingsError::Conflict {
                    message: format!("epochs {epochs} and time-budget {budget} both say how long"),
                    hint: None,
                }));
            }
            // Until it is known what fits.
            given.epochs = Some(UNKNOWN_EPOCHS);
        }
        let from = given.from.clone().flatten();
        let parent = from
            .map(|from| open_parent(&from, runs_dir, given.model.as_deref()))
            .transpose()?;
        if let Some(parent) = &parent {
            // The best of a run may change; the file that was meant does not.
            given.from = Some(Some(parent.path.display().to_string()));
            if given.model.is_none() {
                given.model = Some(network_of(parent)?);
            }
        }
        // Settings are checked before images are read, which may take a while.
        let first = Config::resolve(given.clone(), &DataDefaults::default())?;
        let (objective, smoothing) = objective(&first)?;
        let others = others(&first, &objective)?;
        let retention = retention(&first)?;
        let objectives = std::iter::once(&objective).chain(&others);
        check_names(objectives.clone(), &retention, smoothing.as_ref())?;
        let log = log_to(&first)?;
        check_architecture(&first.model)?;

        let unreadable = if first.skip_corrupt {
            Unreadable::Skip
        } else {
            Unreadable::Refuse
        };
        let dir = first.data_dir.as_deref();
        let bundle = keepbest_data::open_watched(&first.data, dir, unreadable, watch)?;
        let split = SplitRecord {
            val_fraction: first.val_fraction,
            test_fraction: first.test_fraction,
            seed: first.seed,
        };
        let mut options = split.options();
        options.cache_bytes = first.cache.0;
        options.image_size = given.image_size.map(|size| (size.height, size.width));
        options.resize = given.resize.and_then(|resize| match resize {
            Resize::None => None,
            Resize::Exact => Some(ResizeRule::Exact),
            Resize::Crop => Some(ResizeRule::Crop),
        });
        if let Some(parent) = &parent {
            let input = parent.preprocessing.input;
            options
                .image_size
                .get_or_insert((input.height, input.width));
            options.channels = Some(input.channels);
            // What the parent did to images of another size is done to these.
            if parent.preprocessing.resize != ResizeRule::None {
                options.resize.get_or_insert(parent.preprocessing.resize);
            }
        }
        let mut data = match recorded {
            Some(preprocessing) => bundle.prepare_with(&options, preprocessing)?,
            None => bundle.prepare_watched(&options, watch)?,
        };
        let mut notes = std::mem::take(&mut data.notes);
        if let Some(parent) = &parent {
            if parent.provenance.is_some() {
                notes.extend(converted(&parent.preprocessing, &data.preprocessing));
            }
            // The weights expect images normalised as theirs were.
            let (mean, std) = (
                parent.preprocessing.mean.clone(),
                parent.preprocessing.std.clone(),
            );
            data.preprocessing = data.preprocessing.with_normalisation(mean, std);
        }
        let mirrored = match given.augment {
            // Images need not be looked at for what is settled.
            Some(_) => Mirrored::Same,
            None => bundle.mirrored(),
        };
        let defaults = DataDefaults {
            image_size: ImageSize {
                height: data.preprocessing.input.height,
                width: data.preprocessing.input.width,
            },
            resize: match data.preprocessing.resize {
                ResizeRule::Exact => Resize::Exact,
                ResizeRule::Crop => Resize::Crop,
                _ => Resize::None,
            },
            augment: default_augmentation(&mirrored, data.preprocessing.input),
            strong_augment: strong_augmentation(&mirrored, data.preprocessing.input),
            train_images: data.train.len(),
        };
        let mut config = Config::resolve(given.clone(), &defaults)?;
        notes.extend(flip_note(&mirrored, &config.augment));

        check_metrics(
            objectives.clone(),
            &retention,
            smoothing.as_ref(),
            &data.val,
        )?;
        let input = data.preprocessing.input;
        let size = ZooOptions::new(
            input.channels,
            input.height,
            input.width,
            data.classes.len(),
        );
        let spec = architecture(&config.model, &size)?;
        // Before memory is taken for a batch of so many.
        if config.batch_size > data.train.len() {
            return Err(TrainError::Load(LoadError::BatchLargerThanData {
                batch_size: config.batch_size,
                images: data.train.len(),
            }));
        }
        heed.check()?;
        let class_weights = class_weights(&config.class_weights, &data.train);
        let engine_config = engine_config(&config, class_weights.as_deref());
        let optimizer = engine_config.optimizer.clone();
        let mut engine =
            CpuEngine::new(&spec, engine_config.clone()).map_err(|error| match error {
                // The networks of the zoo are right but for the size; a model file may be wrong in itself.
                source @ (EngineError::Layer(_) | EngineError::Shape(_))
                    if !is_model_file(&config.model) =>
                {
                    TrainError::ImageSize {
                        height: input.height,
                        width: input.width,
                        given: given.image_size.is_some(),
                        source,
                    }
                }
                error => error.into(),
            })?;
        if let Some(asked) = config.threads.filter(|asked| *asked > engine.threads()) {
            notes.push(format!(
                "{asked} threads were asked for, {} compute: this machine has no use for more, or starts no more",
                engine.threads()
            ));
        }
        let carried = match &parent {
            Some(parent) => Some(start_from(&mut engine, parent, &data.classes)?),
            None => None,
        };
        if let (Some(parent), Some(carried)) = (&parent, &carried) {
            notes.extend(told(parent));
            notes.extend(better_network(engine.network(), parent, carried, &size));
        }
        let mut predictor = engine.predictor(config.batch_size.max(64))?;
        let mut named: Vec<String> = named(objectives, &retention).map(Into::into).collect();
        named.extend(
            smoothing
                .iter()
                .flat_map(Smoothing::metric_names)
                .map(Into::into),
        );
        let weights = engine.snapshot().state_dict();
        let costs = Costs::new(&named, engine.network(), &weights, &data)?;
        let seed = config.seed;
        let loading = LoaderConfig::training(config.batch_size, seed)
            .with_augmentation(config.augment)
            .with_threads(engine.threads())
            .with_order(match config.sampling {
                Sampling::Balanced => Order::Balanced { seed },
                _ => Order::Shuffled { seed },
            });
        let loader = Loader::new(data.train.clone(), &data.preprocessing, loading)?;
        let batches = loader.batches_per_epoch() as u64;
        if data.test.is_none() {
            notes
                .push("the data has no test split: the best is not tested on unseen images".into());
        }

        if config.thresholds.is_some() && config.also.is_some() {
            notes.push("best.pth cannot hold the decision thresholds".into());
        }
        if config.thresholds.is_none()
            && let Some(parent) = parent.as_ref().filter(|parent| parent.thresholds.is_some())
        {
            notes.push(format!(
                "the decision thresholds of {} are not taken over: --thresholds tunes new ones",
                parent.path.display()
            ));
        }

        let timetable = Timetable {
            batches,
            eval_every: config.eval_every,
        };
        let criterion = CriterionRecord {
            label_smoothing: config.label_smoothing,
            class_weights,
        };
        let mut fitted = None;
        if let Some(budget) = budget {
            predictor
                .load_snapshot(&engine.snapshot())
                .expect("a snapshot fits its own network");
            let course = Course {
                spec: &spec,
                engine: engine_config,
                loader: &loader,
                data: &data,
                criterion: criterion.criterion(),
                evaluations: timetable.evaluations_per_epoch()
                    * if config.ema.or(config.swa).is_some() {
                        2.0
                    } else {
                        1.0
                    },
                statistics: config.swa.map_or(0.0, |from| 1.0 - from)
                    * timetable.evaluations_per_epoch(),
            };
            let fit = budget::fit(budget, begun, &course, &mut predictor, heed)?;
            given.epochs = Some(fit.epochs);
            config = Config::resolve(given, &defaults)?;
            notes.push(fit.to_string());
            fitted = Some(fit);
        }

        notes.extend(
            config
                .recipe
                .and_then(|recipe| recipe.advice(config.epochs)),
        );
        let identity = data.identify_watched(watch)?;
        notes.extend(identity.shared.iter().map(ToString::to_string));
        let before = Seen::by(&parent);
        let mut leaked = Vec::new();
        if let Some(parent) = &parent {
            let (found, told) = seen_before(parent, &before, &identity, &split);
            leaked = found;
            notes.extend(told);
        }
        let mut provenance = Provenance {
            keepbest: env!("CARGO_PKG_VERSION").into(),
            network: spec.name.clone(),
            data: DataRecord {
                source: config.data.clone(),
                dir: config.data_dir.clone(),
                place: Place::default(),
                split,
                fingerprints: identity.fingerprints.clone(),
                skipped: bundle.skipped,
            },
            criterion,
            seed: config.seed,
            recipe: recipe(&config),
            optimizer: Some(optimizer.clone()),
            parent: parent.as_ref().map(Parent::of),
            averaged: Vec::new(),
            seen: Some(before.and(&identity)),
            seen_before: leaked,
            config: config.to_settings().to_table(),
            environment: Some(Environment::of(&engine)),
        };
        let run = runs_dir.join(name.as_deref().unwrap_or(&spec.name));
        provenance.data.settle(&config.data, &run);
        if let Some(parent) = &mut provenance.parent {
            parent.place = Place::of(&parent.path, Some(&run));
        }
        Ok(Self {
            config,
            data,
            spec,
            engine,
            predictor,
            loader,
            objective,
            others,
            smoothing,
            retention,
            costs,
            log,
            timetable,
            provenance,
            carried,
            fitted,
            notes,
        })
    }
}

/// What becomes of images that are unlike all that the parent has seen.
fn converted(parent: &Preprocessing, own: &Preprocessing) -> Option<String> {
    let size = parent.resize == ResizeRule::None && own.resize != ResizeRule::None;
    let channels = parent.channels == ChannelRule::None && own.channels != ChannelRule::None;
    let how = own.conversion_words(Unrecorded { size, channels })?;
    Some(format!(
        "the model it starts from saw images of {} alone: {how}",
        parent.input
    ))
}

/// Stands for the number of epochs while it is not known: the most that may be asked for. No warm-up is longer.
pub(super) const UNKNOWN_EPOCHS: u64 = 1_000_000_000;

/// What keeps an image of its class, as far as the data tells: moved by up to a sixteenth of its side, and mirrored unless
/// it may be of another class then.
pub fn default_augmentation(mirrored: &Mirrored, input: ImageShape) -> Augmentation {
    Augmentation {
        flip: !matches!(mirrored, Mirrored::Other { .. }),
        shift: (input.height.min(input.width) / 16) as u32,
        ..Augmentation::default()
    }
}

/// What was decided about mirror images, and how to decide otherwise; `None` where it is certain.
fn flip_note(mirrored: &Mirrored, augment: &Augmentation) -> Option<String> {
    let with = |flip: bool| Augmentation { flip, ..*augment };
    match mirrored {
        Mirrored::Unknown if augment.flip => Some(format!(
            "flip is on: mirrored images are trained on; off: --augment {}",
            with(false)
        )),
        Mirrored::Other { why } if !augment.flip => {
            Some(format!("flip is off: {why}; on: --augment {}", with(true)))
        }
        _ => None,
    }
}

/// The same and more, for a long run: up to a twelfth of the side, or parts of photographs; and rectangles that are erased
/// (docs/benchmarks.md has what it reaches).
fn strong_augmentation(mirrored: &Mirrored, input: ImageShape) -> Augmentation {
    let side = input.height.min(input.width);
    let light = default_augmentation(mirrored, input);
    if side < 64 {
        Augmentation {
            // A twelfth, rounded.
            shift: (side + 6) as u32 / 12,
            erase: 0.25,
            ..light
        }
    } else {
        Augmentation {
            shift: 0,
            crop: Some(0.35),
            trivial: true,
            erase: 0.1,
            ..light
        }
    }
}

fn log_to(config: &Config) -> Result<Vec<LogTo>, TrainError> {
    let parsed = config.log.iter().map(|text| {
        text.parse().map_err(|expected| {
            TrainError::Settings(SettingsError::Conflict {
                message: format!("log {text:?}: it must be {expected}"),
                hint: None,
            })
        })
    });
    parsed.collect()
}

fn class_weights(how: &ClassWeights, train: &Subset) -> Option<Vec<f64>> {
    match how {
        ClassWeights::None => None,
        ClassWeights::List(weights) => Some(weights.clone()),
        ClassWeights::Balanced => {
            let mut counts = vec![0u64; train.classes().len()];
            for label in train.labels() {
                counts[label as usize] += 1;
            }
            let per_class = train.len() as f64 / counts.len() as f64;
            Some(
                counts
                    .iter()
                    .map(|count| {
                        if *count == 0 {
                            0.0
                        } else {
                            per_class / *count as f64
                        }
                    })
                    .collect(),
            )
        }
    }
}

fn engine_config(config: &Config, class_weights: Option<&[f64]>) -> EngineConfig {
    let weight_decay = config.weight_decay;
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    EngineConfig {
        batch_size: config.batch_size,
        threads: config.threads,
        precision: match config.precision {
            PrecisionKind::F32 => Precision::F32,
            PrecisionKind::Bf16 => Precision::Bf16,
        },
        seed: config.seed,
        optimizer: match config.optimizer {
            OptimizerKind::Sgd => OptimizerConfig::Sgd {
                momentum: config.momentum.unwrap_or(0.0),
                dampening: 0.0,
                nesterov: config.nesterov.unwrap_or(false),
                weight_decay,
            },
            OptimizerKind::Adam => OptimizerConfig::Adam {
                beta1,
                beta2,
                eps,
                weight_decay,
            },
            OptimizerKind::AdamW => OptimizerConfig::AdamW {
                beta1,
                beta2,
                eps,
                weight_decay,
            },
        },
        loss: LossConfig {
            label_smoothing: config.label_smoothing,
            class_weights: class_weights
                .map(|weights| weights.iter().map(|weight| *weight as f32).collect()),
        },
        clip_grad_norm: config.clip_grad_norm,
        averaging: match (config.ema, config.swa) {
            (Some(decay), _) => Some(Averaging::Ema(decay)),
            (None, Some(_)) => Some(Averaging::Swa),
            (None, None) => None,
        },
        tuning: Tuning {
            freeze: config.freeze.clone(),
            body_rate: config.body_rate,
            freeze_statistics: config.freeze_statistics,
        },
        ..EngineConfig::default()
    }
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
