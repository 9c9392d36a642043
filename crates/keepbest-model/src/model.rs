//! A model file with what it takes to run it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepbest_core::classification::Thresholds;
use keepbest_data::{ImageShape, Preprocessing};
use keepbest_formats::model_file::{Kind, ModelFile, ModelMetadata};
use keepbest_nn::{CPU, ModelSpec, Network, Scorer, build_scorer};
use keepbest_store::InUse;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::architecture::own_model_file;
use crate::error::ModelError;
use crate::foreign::{Opened, Opening, open_any};
use crate::model_ref::{ModelPlace, ModelRefError, find_model};
use crate::network::{guess_network, named_spec, part_of, part_words};
use crate::other_loop::OtherLoop;
use crate::provenance::{Parent, Provenance};
use crate::run_files::{FileAtHand, RunFilesError};
use crate::seen::Seen;
use crate::thresholds::TunedThresholds;

/// A model ready to be put to use: architecture, class names, preprocessing, weights.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Model {
    /// The place that it was read from.
    pub path: PathBuf,
    /// The architecture: the file's own, or one that was named.
    pub spec: ModelSpec,
    /// Class names by label; the labels themselves where the file has no names.
    pub classes: Vec<String>,
    /// From image to network input.
    pub preprocessing: Preprocessing,
    /// By what it decides, where that is not the likeliest class.
    pub thresholds: Option<TunedThresholds>,
    /// The provenance, where the file says so.
    pub provenance: Option<Provenance>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The file, verified.
    pub file: ModelFile,
    /// Keeps retention from removing the file; `None` where there are no locks.
    in_use: Option<Arc<InUse>>,
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

/// Why the model that a reference means could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenReferenceError {
    /// The reference is not understood, or nothing is there.
    #[error(transparent)]
    Reference(#[from] ModelRefError),
    /// The run has no such model.
    #[error(transparent)]
    Run(#[from] RunFilesError),
    /// The file is no usable model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl OpenReferenceError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Model(error) => error.hint(),
        }
    }
}

impl Model {
    /// Opens the model that a reference means, such as `RUN@best` or a file, for use: verified, every weight a finite number.
    /// Runs are looked up by name in `runs_dir`; `network` as for [`open`](Self::open).
    ///
    /// # Errors
    /// [`OpenReferenceError`].
    pub fn open_reference(
        reference: &str,
        runs_dir: &Path,
        network: Option<&str>,
    ) -> Result<Self, OpenReferenceError> {
        Self::open_place(&find_model(reference, runs_dir)?, network)
    }

    /// Opens a model that was found, as [`open_reference`](Self::open_reference) does.
    ///
    /// # Errors
    /// [`OpenReferenceError`].
    pub fn open_place(
        place: &ModelPlace,
        network: Option<&str>,
    ) -> Result<Self, OpenReferenceError> {
        let file = FileAtHand::of(place)?;
        let mut model = Self::open(file.path(), network)?;
        model.path = file.name().to_owned();
        model.check_finite()?;
        Ok(model)
    }

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
            Err(ModelError::NeedsNetwork { path, kept_by, .. }) => {
                Err(ModelError::NothingRecorded { path, kept_by })
            }
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
        if let Some(network) = network
            && file.metadata.as_ref().is_none_or(|own| own.model.is_none())
            && file.seal.is_none()
            && let Some(part) = part_of(path, network, &file.weights)?
        {
            notes.push(part_words(&part));
            file.weights = part.weights;
        }
        let recorded = Recorded::of(path, file.metadata.as_ref())?;
        let spec = spec_of(path, &file, network, &recorded)?;
        check_weights(path, &spec, &file)?;
        let input = ImageShape::new(spec.input.height, spec.input.width, spec.input.channels);
        let preprocessing = recorded.preprocessing.unwrap_or_else(|| {
            notes.push(
                format!(
                    "no preprocessing is recorded: images of {}x{} are expected, pixels divided by 255 and not normalised",
                    input.height, input.width
                ),
            );
            Preprocessing::new(input)
        });
        let classes = match recorded.classes {
            none if none.is_empty() => (0..spec.classes).map(|class| class.to_string()).collect(),
            named => named,
        };
        let model = Self {
            path: path.into(),
            spec,
            classes,
            preprocessing,
            thresholds: recorded.thresholds,
            provenance: recorded.provenance,
            notes,
            file,
            in_use: None,
        };
        match model.contradiction() {
            Some(what) => Err(ModelError::Contradiction {
                path: model.path,
                what,
            }),
            None => Ok(model),
        }
    }

    /// What contradicts the architecture, in words.
    fn contradiction(&self) -> Option<String> {
        let named = self.file.metadata.as_ref();
        let mut known = std::collections::HashSet::new();
        let mut named = named
            .into_iter()
            .flat_map(|metadata| &metadata.attachments.classes);
        if let Some(twice) = named.find(|name| !known.insert(name.as_str())) {
            return Some(format!("two of its classes are called {twice:?}"));
        }
        let (spec, input) = (&self.spec, self.preprocessing.input);
        let expected = ImageShape::new(spec.input.height, spec.input.width, spec.input.channels);
        if input != expected {
            return Some(format!(
                "the network takes {expected}, the preprocessing gives {input}"
            ));
        }
        if self.classes.len() != spec.classes {
            return Some(format!(
                "the network has {} classes, {} are named",
                spec.classes,
                self.classes.len()
            ));
        }
        let thresholds = self.thresholds.as_ref().map(|own| own.values.classes());
        let found = thresholds.filter(|found| *found != spec.classes)?;
        Some(format!(
            "the network has {} classes, there are {found} thresholds",
            spec.classes
        ))
    }

    /// A predictor on the CPU with the weights loaded, for batches of up to `batch_size` images.
    ///
    /// # Errors
    /// [`ModelError::Engine`] and [`ModelError::Weights`].
    pub fn predictor(
        &self,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Box<dyn Scorer>, ModelError> {
        self.predictor_on(CPU, batch_size, threads)
    }

    /// The same on one of the [`DEVICES`](keepbest_nn::DEVICES).
    ///
    /// # Errors
    /// As there.
    pub fn predictor_on(
        &self,
        device: &str,
        batch_size: usize,
        threads: Option<usize>,
    ) -> Result<Box<dyn Scorer>, ModelError> {
        let mut predictor = build_scorer(device, &self.spec, batch_size, threads)?;
        predictor
            .load(&self.file.weights)
            .map_err(|source| ModelError::Weights {
                path: self.path.clone(),
                network: self.spec.name.clone(),
                source: Box::new(source),
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

    /// The record of this model for one that is made from it.
    #[must_use]
    pub fn as_parent(&self) -> Parent {
        Parent::new(&self.path, self.file.weights_digest())
    }

    /// The images that it and the models it comes from have seen, where that is recorded.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.provenance.as_ref()?.seen.as_ref()
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

/// The key that the provenance of our trainer has, and that of other loops has not.
const PRODUCER: &str = "keepbest";

impl FileAtHand {
    /// Opens the model as [`Model::open_trained`] does, under the [name](Self::name) that it has: where an archived one is for now is
    /// nothing to anybody later.
    ///
    /// # Errors
    /// As [`Model::open_trained`].
    pub fn open_trained(&self) -> Result<Model, ModelError> {
        let mut model = Model::open_trained(self.path())?;
        model.path = self.name().to_owned();
        Ok(model)
    }
}

/// The parts of a file's metadata that say how to use the weights.
struct Recorded {
    provenance: Option<Provenance>,
    preprocessing: Option<Preprocessing>,
    thresholds: Option<TunedThresholds>,
    classes: Vec<String>,
}

impl Recorded {
    fn of(path: &Path, metadata: Option<&ModelMetadata>) -> Result<Self, ModelError> {
        fn read<T: DeserializeOwned>(
            path: &Path,
            part: &'static str,
            value: Option<Value>,
        ) -> Result<Option<T>, ModelError> {
            let unreadable = |source| ModelError::Metadata {
                path: path.into(),
                part,
                source,
            };
            value
                .map(serde_json::from_value)
                .transpose()
                .map_err(unreadable)
        }
        let provenance = metadata.and_then(keepbest_keeper::provenance_of);
        // Who keeps models of another loop says where they come from, and how inputs are made, in a form of his own.
        let provenance = provenance.filter(|found| found.get(PRODUCER).is_some());
        let is_ours = provenance.is_some() || metadata.is_some_and(|own| own.model.is_some());
        let preprocessing = read(
            path,
            "the preprocessing",
            metadata.and_then(|own| own.preprocessing.clone()),
        );
        Ok(Self {
            provenance: read(path, "the provenance", provenance)?,
            preprocessing: match preprocessing {
                Err(_) if !is_ours => None,
                preprocessing => preprocessing?,
            },
            thresholds: read(
                path,
                "the thresholds",
                metadata.and_then(|own| own.thresholds.clone()),
            )?,
            classes: metadata.map_or_else(Vec::new, |own| own.classes.clone()),
        })
    }
}

/// The architecture: the file's own, or the named one for the size and classes that the weights are for.
fn spec_of(
    path: &Path,
    file: &ModelFile,
    network: Option<&str>,
    recorded: &Recorded,
) -> Result<ModelSpec, ModelError> {
    let Some(json) = file.metadata.as_ref().and_then(|own| own.model.as_ref()) else {
        let trained_as = recorded.provenance.as_ref().map(|of| of.network.clone());
        let network = network.ok_or_else(|| ModelError::NeedsNetwork {
            path: path.into(),
            trained_as,
            guess: guess_network(&file.weights),
            kept_by: OtherLoop::around(path),
        })?;
        let preprocessing = recorded.preprocessing.as_ref();
        let classes = recorded.classes.len();
        return Ok(named_spec(network, &file.weights, preprocessing, classes)?);
    };
    let spec = ModelSpec::from_json(json).map_err(|source| ModelError::Spec {
        path: path.into(),
        source,
    })?;
    match network {
        Some(network) if network != spec.name => Err(ModelError::OtherNetwork {
            path: path.into(),
            own: spec.name,
            named: network.into(),
        }),
        _ => Ok(spec),
    }
}

fn check_weights(path: &Path, spec: &ModelSpec, file: &ModelFile) -> Result<(), ModelError> {
    let network = Network::new(spec).map_err(|source| ModelError::Layer {
        path: path.into(),
        source,
    })?;
    let fits = network.layout().check(&file.weights);
    fits.map_err(|source| {
        let (path, network, source) = (path.into(), spec.name.clone(), Box::new(source));
        match file.seal {
            Some(_) => ModelError::Weights {
                path,
                network,
                source,
            },
            None => ModelError::Unfit {
                path,
                theirs: guess_network(&file.weights).filter(|theirs| *theirs != network),
                network,
                source,
            },
        }
    })
}
