//! A model file with what it takes to run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::classification::Thresholds;
use keepbest_core::text::shell_word;
use keepbest_data::{ImageShape, Preprocessing};
use keepbest_formats::StateDict;
use keepbest_formats::model_file::{Kind, ModelFile};
use keepbest_keeper::store::InUse;
use keepbest_nn::zoo::{self, ZooOptions};
use keepbest_nn::{ModelSpec, Network, ParamTensor, Predictor};

use crate::architecture::{ArchitectureError, own_model_file, read_model_file};
use crate::foreign::{Opened, open_any};
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
                    "nothing in it was run; `keepbest inspect {}` shows what it holds",
                    shell_word(path)
                )),
                PthError::Ambiguous { .. } => Some("`keepbest import --key KEY` picks one".into()),
                _ => None,
            },
            Self::Open(keepbest_formats::model_file::OpenError::Model {
                source: keepbest_formats::model_file::ModelFileError::AnotherKind { .. },
                ..
            }) => Some("models are read from safetensors and PyTorch files".into()),
            Self::NeedsNetwork {
                trained_as: Some(name),
                ..
            } => Some(format!("name it: --model {name} (recorded in the file)")),
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
        let opened = open_any(path, None)?;
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
        file: ModelFile,
        network: Option<&str>,
    ) -> Result<Self, ModelError> {
        let unreadable = |part| {
            let path = path.to_owned();
            move |source| ModelError::Metadata { path, part, source }
        };
        let metadata = file.metadata.as_ref();
        let provenance: Option<Provenance> = metadata
            .and_then(|metadata| metadata.provenance.clone())
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

        let mut notes = Vec::new();
        let input = ImageShape::new(spec.input.height, spec.input.width, spec.input.channels);
        let preprocessing = preprocessing.unwrap_or_else(|| {
            notes.push(
                "no preprocessing is recorded: pixels are divided by 255 and not normalised".into(),
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
    // Names do not depend on sizes, so those of any network of this kind will do.
    let any = Network::new(&zoo::spec(network, &ZooOptions::new(3, 64, 64, 10))?);
    let side = |tensor: Option<&ParamTensor>, dimension: usize| {
        let shape = weights.get(&tensor?.name)?.shape();
        shape.get(dimension).copied().filter(|side| *side > 0)
    };
    let tensors = any.as_ref().map_or(&[][..], |any| any.layout().tensors());
    let classes = match classes {
        0 => side(tensors.last(), 0).unwrap_or(10),
        named => named,
    };
    let channels = preprocessing
        .map(|preprocessing| preprocessing.input.channels)
        .or(side(tensors.first(), 1).filter(|channels| *channels <= 4))
        .unwrap_or(1);
    let size =
        preprocessing.map(|preprocessing| (preprocessing.input.height, preprocessing.input.width));
    let sizes = match size {
        Some(size) => vec![size],
        None => {
            // Grey images are mostly those of MNIST and its kin.
            let first = match channels {
                1 => 28,
                _ => entry.usual_input[1],
            };
            [first, 28, 32, 64, 224, 128, 96]
                .map(|side| (side, side))
                .to_vec()
        }
    };
    let mut usual = None;
    for (height, width) in sizes {
        let spec = zoo::spec(network, &ZooOptions::new(channels, height, width, classes))?;
        if Network::new(&spec).is_ok_and(|network| network.layout().check(weights).is_ok()) {
            return Ok(spec);
        }
        usual.get_or_insert(spec);
    }
    // None fits: the first is named in the error that follows.
    Ok(usual.expect("there is at least one size"))
}
