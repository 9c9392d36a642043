//! A model file with what it takes to run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::classification::Thresholds;
use keepbest_core::text::shell_word;
use keepbest_data::{ImageShape, Preprocessing};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{Kind, ModelFile};
use keepbest_formats::names::{Part, Wanted, part_for};
use keepbest_keeper::store::InUse;
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{ModelSpec, Network, ParamTensor, Predictor, Role};

use crate::architecture::{ArchitectureError, own_model_file, read_model_file};
use crate::foreign::{Opened, Opening, few, open_any};
use crate::provenance::Provenance;
use crate::thresholds::TunedThresholds;

/// A model ready to be put to use: architecture, class names, preprocessing, weights.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Model {
    /// Where it was read from.
    pub path: PathBuf,
    /// The architecture: the file's own, or one that was named.
    pub spec: ModelSpec,
    /// Class names by label; the labels themselves where the file has no names.
    pub classes: Vec<String>,
    /// From image to network input.
    pub preprocessing: Preprocessing,
    /// By what it decides, where that is not the likeliest class.
    pub thresholds: Option<TunedThresholds>,
    /// How it came about, where the file says so.
    pub provenance: Option<Provenance>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The file, verified.
    pub file: ModelFile,
    /// Keeps retention from removing the file; `None` where there are no locks.
    in_use: Option<Arc<InUse>>,
}

/// Why a model could not be put to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be opened, is damaged, or holds something else.
    #[error(transparent)]
    Open(#[from] keepbest_formats::model_file::OpenError),
    /// A PyTorch file cannot be read, has no weights, or was made to attack who opens it.
    #[error("cannot take the weights of {path}", path = path.display())]
    Pth {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<keepbest_formats::pth::PthError>,
    },
    /// Weights in several files cannot be read.
    #[error("cannot take the weights of {path}", path = path.display())]
    Sharded {
        /// The index.
        path: PathBuf,
        /// Why.
        source: Box<keepbest_formats::sharded::ShardedError>,
    },
    /// A checkpoint of many processes.
    #[error(
        "{path} is a checkpoint of torch.distributed.checkpoint (DCP), whose tensors lie in parts in several files",
        path = path.display()
    )]
    Distributed {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that is not one model.
    #[error("{path} is a folder, not a model file", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Files in it that may be models.
        models: Vec<PathBuf>,
        /// Whether it is what is in a PyTorch file, unpacked.
        unpacked: bool,
    },
    /// A key for a file that is one state dict.
    #[error("{path} has no keys to pick from: it is one state dict", path = path.display())]
    NoKeys {
        /// The file.
        path: PathBuf,
    },
    /// The file has no architecture.
    #[error("{path} holds weights alone, without the network they belong to", path = path.display())]
    NeedsNetwork {
        /// The file.
        path: PathBuf,
        /// What it was trained as, where recorded.
        trained_as: Option<String>,
        /// The network that has exactly these tensors, where there is one.
        guess: Option<&'static str>,
    },
    /// Several parts of the file could be the network.
    #[error("cannot tell which weights of {path} are the network's", path = path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// Which parts.
        source: keepbest_formats::names::AmbiguousPart,
    },
    /// The file has no architecture and no record of one, where what is recorded is what counts.
    #[error("{path} holds weights alone, and nothing is recorded about them", path = path.display())]
    NothingRecorded {
        /// The file.
        path: PathBuf,
    },
    /// A network was named for a file that brings its own.
    #[error("{path} is a full model of {own}, not of {named}", path = path.display())]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// Its own network.
        own: String,
        /// The one named.
        named: String,
    },
    /// There is no such network.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// The architecture in the file cannot be read.
    #[error("the architecture in {path} cannot be read", path = path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        source: keepbest_nn::SpecError,
    },
    /// Another part of the metadata cannot be read.
    #[error("{part} in {path} cannot be read", path = path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The part.
        part: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The layers do not fit each other.
    #[error("the network in {path} does not fit together", path = path.display())]
    Layer {
        /// The file.
        path: PathBuf,
        /// Which.
        source: keepbest_nn::LayerError,
    },
    /// The weights are another network's.
    #[error("{path} does not fit {network}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The network.
        network: String,
        /// What differs.
        source: keepbest_nn::WeightsError,
    },
    /// The architecture and the preprocessing or class names contradict each other.
    #[error("{path} contradicts itself: {what}", path = path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// In words.
        what: String,
    },
    /// A weight is no number that answers could come of.
    #[error("{path} cannot be used: {tensor} holds {value}", path = path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor that holds such a value.
        tensor: String,
        /// The value: NaN or an infinity.
        value: f32,
    },
    /// The machine cannot run it.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
}

impl ModelError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        use keepbest_formats::pth::PthError;
        match self {
            Self::Pth { source, path } => match **source {
                PthError::Dangerous { .. } => Some(format!(
                    "nothing in it was run; `keepbest inspect {}` shows what it holds, `import --ignore-calls` takes weights \
                      that the calls do not touch",
                    shell_word(path)
                )),
                PthError::Ambiguous { .. } => Some("`keepbest import --key KEY` picks one".into()),
                PthError::NoWeights { ref nested, .. } if !nested.is_empty() => {
                    let keys = nested.iter().map(|key| format!("--key {}", shell_word(key)));
                    let keys: Vec<String> = keys.collect();
                    Some(format!("there are weights further in: {}", few(&keys)))
                }
                PthError::NoSuchKey { ref found, .. } if !found.is_empty() => {
                    Some(format!("--key {}", shell_word(&found[0])))
                }
                PthError::NoSuchKey { .. } => {
                    Some("leave --key out: the file is one state dict, or has none".into())
                }
                _ => None,
            },
            Self::Open(keepbest_formats::model_file::OpenError::Model {
                source: keepbest_formats::model_file::ModelFileError::AnotherKind { .. },
                ..
            }) => Some("models are read from safetensors and PyTorch files".into()),
            Self::Distributed { path } => Some(format!(
                "PyTorch makes one file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} model.pth",
                shell_word(path)
            )),
            Self::Folder { unpacked: true, .. } => {
                Some("it is an unpacked PyTorch file: zip it again, without compression".into())
            }
            Self::Folder { models, .. } if models.is_empty() => {
                Some("name a file: safetensors or PyTorch".into())
            }
            Self::Folder { models, .. } => {
                let names = models.iter().map(|path| path.display().to_string());
                Some(format!("name a file: {}", few(&names.collect::<Vec<_>>())))
            }
            Self::Part { .. } => Some(
                "`import --drop 'PREFIX\\..*'` leaves tensors out, `--map` renames them".into(),
            ),
            Self::NeedsNetwork {
                trained_as: Some(name),
                ..
            } => Some(format!("name it: --model {} (recorded in the file)", shell_word(name))),
            Self::NeedsNetwork {
                guess: Some(name), ..
            } => Some(format!(
                "name it: --model {name} (its tensors are that network's)"
            )),
            Self::NeedsNetwork { .. } => {
                Some("name it with --model; `keepbest models` lists them".into())
            }
            Self::NothingRecorded { path } => Some(format!(
                "`keepbest import {} --model NAME --to FILE.safetensors` makes a full model of it",
                shell_word(path)
            )),
            Self::OtherNetwork { .. } => {
                Some("leave --model out: the file brings its network".into())
            }
            Self::NotFinite { .. } => Some(
                "its training diverged, or the file was made so; an earlier checkpoint may be whole"
                    .into(),
            ),
            Self::Architecture(error) => error.hint(),
            _ => None,
        }
    }
}

/// Opens a file and holds it against removal: the same file, even if a ref moves meanwhile.
fn open_held(path: &Path) -> Result<(Opened, Option<InUse>), ModelError> {
    loop {
        // Without locks, as on some network file systems, a reader's map of the file stays valid all the same.
        let held = InUse::hold(path).ok();
        let opened = open_any(path, Opening::default())?;
        if held.as_ref().is_none_or(|held| held.is_named(path)) {
            return Ok((opened, held));
        }
    }
}

impl Model {
    /// Opens and verifies a model file, keepbest's, other safetensors or PyTorch's. A params-only file needs `network`: the name of its architecture.
    ///
    /// # Errors
    /// [`ModelError`]; it says what the file holds when that is not a model.
    pub fn open(path: &Path, network: Option<&str>) -> Result<Self, ModelError> {
        let (opened, in_use) = open_held(path)?;
        let mut model = Self::from_file(path, opened.file, network)?;
        model.notes.splice(0..0, opened.notes);
        model.in_use = in_use.map(Arc::new);
        Ok(model)
    }

    /// Opens a full model, or a params-only one as what its file says it was trained as.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_trained(path: &Path) -> Result<Self, ModelError> {
        match Self::open(path, None) {
            Err(ModelError::NeedsNetwork {
                trained_as: Some(network),
                ..
            }) => {
                let own = own_model_file(path).map(|file| file.display().to_string());
                Self::open(path, Some(&own.unwrap_or(network)))
            }
            // No verb that opens a model so takes a network by name.
            Err(ModelError::NeedsNetwork { path, .. }) => Err(ModelError::NothingRecorded { path }),
            other => other,
        }
    }

    /// A model of a file that is open. `network` as for [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(
        path: &Path,
        mut file: ModelFile,
        network: Option<&str>,
    ) -> Result<Self, ModelError> {
        let mut notes = Vec::new();
        let brings_network = |file: &ModelFile| {
            let metadata = file.metadata.as_ref();
            metadata.is_some_and(|metadata| metadata.model.is_some())
        };
        if let Some(network) = network
            && !brings_network(&file)
            && file.seal.is_none()
            && let Some(part) = part_of(path, network, &file.weights)?
        {
            notes.push(told(&part));
            file.weights = part.weights;
        }
        let unreadable = |part| {
            let path = path.to_owned();
            move |source| ModelError::Metadata { path, part, source }
        };
        let metadata = file.metadata.as_ref();
        let provenance: Option<Provenance> = metadata
            .and_then(keepbest_keeper::provenance_of)
            .map(serde_json::from_value)
            .transpose()
            .map_err(unreadable("the provenance"))?;
        let preprocessing: Option<Preprocessing> = metadata
            .and_then(|metadata| metadata.preprocessing.clone())
            .map(serde_json::from_value)
            .transpose()
            .map_err(unreadable("the preprocessing"))?;
        let thresholds: Option<TunedThresholds> = metadata
            .and_then(|metadata| metadata.thresholds.clone())
            .map(serde_json::from_value)
            .transpose()
            .map_err(unreadable("the thresholds"))?;
        let named: &[String] = metadata.map_or(&[], |metadata| &metadata.classes);

        let spec = match metadata.and_then(|metadata| metadata.model.as_ref()) {
            Some(json) => {
                let spec = ModelSpec::from_json(json).map_err(|source| ModelError::Spec {
                    path: path.into(),
                    source,
                })?;
                match network {
                    Some(network) if network != spec.name => {
                        return Err(ModelError::OtherNetwork {
                            path: path.into(),
                            own: spec.name,
                            named: network.into(),
                        });
                    }
                    _ => spec,
                }
            }
            None => {
                let network = network.ok_or_else(|| ModelError::NeedsNetwork {
                    path: path.into(),
                    trained_as: provenance
                        .as_ref()
                        .map(|provenance| provenance.network.clone()),
                    guess: guess_network(&file.weights),
                })?;
                named_spec(network, &file.weights, preprocessing.as_ref(), named.len())?
            }
        };

        let network = Network::new(&spec).map_err(|source| ModelError::Layer {
            path: path.into(),
            source,
        })?;
        network
            .layout()
            .check(&file.weights)
            .map_err(|source| ModelError::Weights {
                path: path.into(),
                network: spec.name.clone(),
                source,
            })?;

        let input = ImageShape::new(spec.input.height, spec.input.width, spec.input.channels);
        let preprocessing = preprocessing.unwrap_or_else(|| {
            notes.push(
                format!(
                    "no preprocessing is recorded: images of {}x{} are expected, pixels divided by 255 and not normalised",
                    input.height, input.width
                ),
            );
            Preprocessing::new(input)
        });
        if preprocessing.input != input {
            let what = format!(
                "the network takes {input}, the preprocessing gives {}",
                preprocessing.input
            );
            return Err(ModelError::Contradiction {
                path: path.into(),
                what,
            });
        }
        let classes = if named.is_empty() {
            (0..spec.classes).map(|class| class.to_string()).collect()
        } else {
            named.to_vec()
        };
        let mut known = std::collections::HashSet::new();
        if let Some(twice) = named.iter().find(|name| !known.insert(name.as_str())) {
            return Err(ModelError::Contradiction {
                path: path.into(),
                what: format!("two of its classes are called {twice:?}"),
            });
        }
        if classes.len() != spec.classes {
            let what = format!(
                "the network has {} classes, {} are named",
                spec.classes,
                classes.len()
            );
            return Err(ModelError::Contradiction {
                path: path.into(),
                what,
            });
        }
        if let Some(found) = thresholds.as_ref().map(|own| own.values.classes())
            && found != spec.classes
        {
            let what = format!(
                "the network has {} classes, there are {found} thresholds",
                spec.classes
            );
            return Err(ModelError::Contradiction {
                path: path.into(),
                what,
            });
        }
        Ok(Self {
            path: path.into(),
            spec,
            classes,
            preprocessing,
            thresholds,
            provenance,
            notes,
            file,
            in_use: None,
        })
    }

    /// A predictor with the weights loaded, for batches of up to `batch_size` images.
    ///
    /// # Errors
    /// [`ModelError::Engine`] and [`ModelError::Weights`].
    pub fn predictor(
        &self,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Predictor, ModelError> {
        let mut predictor = Predictor::new(&self.spec, batch_size, threads)?;
        predictor
            .load(&self.file.weights)
            .map_err(|source| ModelError::Weights {
                path: self.path.clone(),
                network: self.spec.name.clone(),
                source,
            })?;
        Ok(predictor)
    }

    /// Checks that every weight is a finite number: with others the model's answers would be none.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`], which names the first tensor that holds another.
    pub fn check_finite(&self) -> Result<(), ModelError> {
        for (name, tensor) in self.file.weights.iter() {
            // Other types of element have no such values, or are converted before they are used.
            let Ok(values) = tensor.as_f32() else {
                continue;
            };
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(ModelError::NotFinite {
                    path: self.path.clone(),
                    tensor: name.to_owned(),
                    value,
                });
            }
        }
        Ok(())
    }

    /// The thresholds alone.
    pub fn decision(&self) -> Option<&Thresholds> {
        self.thresholds.as_ref().map(|own| &own.values)
    }

    /// Whether the file names its classes; otherwise [`Model::classes`] are the labels as text.
    pub fn names_its_classes(&self) -> bool {
        let metadata = self.file.metadata.as_ref();
        metadata.is_some_and(|metadata| !metadata.classes.is_empty())
    }

    /// Whether the file brings its own architecture.
    pub fn is_full(&self) -> bool {
        self.file
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.kind == Kind::Full && metadata.model.is_some())
    }
}

/// The part of foreign weights that is a named network's, where its names have something before them that most others do not have.
///
/// # Errors
/// When there is no such network, or several parts go equally well.
pub fn part_of(
    path: &Path,
    network: &str,
    weights: &StateDict,
) -> Result<Option<Part>, ModelError> {
    let spec = match read_model_file(network)? {
        Some(spec) => spec,
        None => {
            let [_, height, width] = zoo::entry(network)
                .map_err(ArchitectureError::from)?
                .usual_input;
            let options = ZooOptions::new(3, height, width, 10);
            zoo::spec(network, &options).map_err(ArchitectureError::from)?
        }
    };
    // A network that does not fit together is told when it is made.
    let Ok(network) = Network::new(&spec) else {
        return Ok(None);
    };
    let tensors = network.layout().tensors().iter();
    let wanted: Vec<Wanted<'_>> = tensors
        .map(|tensor| Wanted {
            optional: tensor.role != Role::Trained,
            ..Wanted::new(&tensor.name, tensor.dtype(), &tensor.shape)
        })
        .collect();
    part_for(weights, &wanted).map_err(|source| ModelError::Part {
        path: path.into(),
        source,
    })
}

/// What was taken off, and what was left out, for the user.
pub fn told(part: &Part) -> String {
    let taken = format!("took {:?} off the names", part.prefix);
    match &part.left_out[..] {
        [] => taken,
        rest => format!("{taken}; left out what is not under it: {}", few(rest)),
    }
}

/// Sizes that images usually have, the first that a network is tried with.
fn usual_sizes(entry: &zoo::ZooEntry, channels: usize) -> [usize; 13] {
    // Grey images are mostly those of MNIST and its kin, the smallest of colour those of CIFAR.
    let first = match channels {
        1 => 28,
        _ => entry.usual_input[1].max(32),
    };
    [first, 28, 32, 64, 224, 128, 96, 16, 48, 112, 160, 192, 256]
}

/// The network of the zoo that has exactly these tensors, prefixes apart: of several the one that has them at the most sizes of
/// the images, since it will have them at the size that is to come.
#[must_use]
pub fn guess_network(weights: &StateDict) -> Option<&'static str> {
    let fits = |entry: &zoo::ZooEntry| -> usize {
        let part = match part_of(Path::new(""), entry.name, weights) {
            Ok(part) => part.map(|part| part.weights),
            Err(_) => return 0,
        };
        let weights = part.as_ref().unwrap_or(weights);
        // Most networks are not the one: told by their names at one size.
        let [_, height, width] = entry.usual_input;
        let usual = zoo::spec(entry.name, &ZooOptions::new(3, height, width, 10));
        let Ok(Ok(usual)) = usual.map(|spec| Network::new(&spec)) else {
            return 0;
        };
        let tensors = usual.layout().tensors();
        let there = tensors
            .iter()
            .filter(|tensor| weights.contains(&tensor.name));
        if there.count() * 2 < tensors.len() {
            return 0;
        }
        let Ok(spec) = named_spec(entry.name, weights, None, 0) else {
            return 0;
        };
        let fits = |side: usize| {
            let options = ZooOptions::new(spec.input.channels, side, side, spec.classes);
            let network = zoo::spec(entry.name, &options).map(|spec| Network::new(&spec));
            matches!(network, Ok(Ok(network)) if network.layout().check(weights).is_ok())
        };
        match fits(spec.input.height) {
            true => [28, 32, 64, 96, 128, 224]
                .into_iter()
                .filter(|side| fits(*side))
                .count(),
            false => 0,
        }
    };
    let fitting = zoo::list().iter().map(|entry| (fits(entry), entry.name));
    // The first of the most: `max_by_key` would take the last.
    let best = fitting.rev().max_by_key(|(sizes, _)| *sizes)?;
    (best.0 > 0).then_some(best.1)
}

/// The spec of a named network that fits these weights. Where the file does not record the input's size or the number of
/// classes, they are read off the weights: channels from the network's first tensor, classes from its last (by name: files
/// have orders of their own), and height and width from the usual sizes, the first that fits.
///
/// # Errors
/// When no network has this name. One that does not fit the weights is no error here.
pub fn named_spec(
    network: &str,
    weights: &StateDict,
    preprocessing: Option<&Preprocessing>,
    classes: usize,
) -> Result<ModelSpec, ArchitectureError> {
    if let Some(spec) = read_model_file(network)? {
        return Ok(spec);
    }
    let entry = zoo::entry(network)?;
    let side = |tensor: Option<&ParamTensor>, dimension: usize| {
        let shape = weights.get(&tensor?.name)?.shape();
        shape.get(dimension).copied().filter(|side| *side > 0)
    };
    // At some sizes networks have layers before those that they have at others: the first tensor is what the file has of them.
    let read_off = |height, width| -> Result<(Option<usize>, Option<usize>), ArchitectureError> {
        let any = Network::new(&zoo::spec(network, &ZooOptions::new(3, height, width, 10))?);
        let tensors = any.as_ref().map_or(&[][..], |any| any.layout().tensors());
        let channels = side(tensors.first(), 1).filter(|channels| *channels <= 4);
        Ok((channels, side(tensors.last(), 0)))
    };
    let size = preprocessing.map(|of| (of.input.height, of.input.width));
    let mut channels = preprocessing.map(|of| of.input.channels);
    let mut found = None;
    let sizes = size.map_or_else(
        || usual_sizes(entry, 3).map(|side| (side, side)).to_vec(),
        |size| vec![size],
    );
    for (height, width) in sizes {
        let (first, last) = read_off(height, width)?;
        channels = channels.or(first);
        found = found.or(last);
        if channels.is_some() && found.is_some() {
            break;
        }
    }
    let channels = channels.unwrap_or(1);
    let classes = match classes {
        0 => found.unwrap_or(10),
        named => named,
    };
    let sizes = match size {
        Some(size) => vec![size],
        None => usual_sizes(entry, channels)
            .map(|side| (side, side))
            .to_vec(),
    };
    let mut best: Option<(usize, ModelSpec)> = None;
    for (height, width) in sizes {
        let spec = zoo::spec(network, &ZooOptions::new(channels, height, width, classes))?;
        let differing = Network::new(&spec).map_or(usize::MAX, |network| {
            differing(network.layout().tensors(), weights)
        });
        if differing == 0 {
            return Ok(spec);
        }
        if best.as_ref().is_none_or(|(least, _)| differing < *least) {
            best = Some((differing, spec));
        }
    }
    // None fits: the nearest is named in the error that follows, the first where several are as near.
    let (_, spec) = best.expect("there is at least one size");
    Ok(spec)
}

/// How many tensors of the network and of the weights are not in the other, or of another shape. Counters may be missing, and types of
/// elements say nothing about sizes.
fn differing(tensors: &[ParamTensor], weights: &StateDict) -> usize {
    let mut there = 0;
    let differing = tensors.iter().filter(|tensor| {
        let found = weights.get(&tensor.name);
        there += usize::from(found.is_some());
        match found {
            Some(found) => found.shape() != tensor.shape,
            None => tensor.role != Role::Counter,
        }
    });
    differing.count() + weights.len() - there
}
