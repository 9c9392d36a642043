//! A full model of a file from elsewhere: what `keepbest import` makes.

mod dropped;
mod error;
mod fit;
mod onnx;
mod preprocess;

use std::path::{Path, PathBuf};

use keepbest_core::WeightsDigest;
use keepbest_data::Preprocessing;
use keepbest_formats::model_file::{self, Attachments, Kind, ModelFile, ModelImage, ModelMetadata};
use keepbest_formats::names::{Comparison, NameFilter, NameMap};
use keepbest_formats::{Dtype, StateDict};
use keepbest_nn::{ModelSpec, Network};
use serde::Serialize;
use serde_json::Value;

use crate::error::ModelError;
use crate::foreign::{Opening, open_any};
use crate::model::Model;
use crate::network::{guess_network, known_channels, named_spec, part_of, part_words};
use crate::other_loop::OtherLoop;
use crate::words::count;
use dropped::Dropped;
use fit::fit;

pub use error::ImportError;
pub use onnx::{Checked, ReferenceError, TOLERANCE};
pub use preprocess::{PreprocessError, preprocessing};

/// What a file from elsewhere does not say of itself, and what to take of it.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The network that the weights belong to.
    pub network: Option<String>,
    /// Class names by label.
    pub classes: Option<Vec<String>>,
    /// Preprocessing, as [`preprocessing`] reads it.
    pub preprocess: Option<String>,
    /// Rules to rename tensors by: `OLD=NEW`, a pattern that matches whole names and what they become.
    pub map: Vec<String>,
    /// Patterns of whole names of tensors to leave out.
    pub drop: Vec<String>,
    /// Whether weights are taken that a file's dangerous calls do not touch.
    pub ignore_calls: bool,
    /// Whether to take what fits and start the rest anew.
    pub partial: bool,
    /// The state dict to take, in a checkpoint of several.
    pub key: Option<String>,
    /// Rows and columns of the input, where an ONNX model leaves them open.
    pub input_size: Option<[usize; 2]>,
    /// The output to take, in an ONNX model of several.
    pub output: Option<String>,
    /// Reference outputs to compare with: an archive of NumPy, or a folder of ONNX's test data.
    pub check: Option<PathBuf>,
}

/// Least and greatest score of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Scores {
    /// The least.
    pub least: f64,
    /// The greatest.
    pub most: f64,
}

/// Tensors whose elements became F32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Converted {
    /// Their element type in the file.
    pub dtype: String,
    /// The number of tensors that there were.
    pub tensors: usize,
}

/// A full model of a file. As JSON it is what `keepbest import --json` prints.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Imported {
    /// The file it was made of.
    pub file: PathBuf,
    /// The file it is for.
    pub to: PathBuf,
    /// The number of its bytes.
    pub bytes: u64,
    /// The network's name.
    pub network: String,
    /// Identity of the weights.
    pub digest: WeightsDigest,
    /// Class names by label; empty where there are none.
    pub classes: Vec<String>,
    /// Preprocessing: how images become input.
    pub preprocessing: Option<Value>,
    /// The tensors of the file beside those of the network.
    pub tensors: Comparison,
    /// Old and new names of renamed tensors.
    pub renamed: Vec<(String, String)>,
    /// Element types that became F32.
    pub converted: Vec<Converted>,
    /// What a forward pass gives.
    pub forward: Scores,
    /// The reference outputs that ours agree with.
    pub checked: Option<Checked>,
    /// The tensors that were left out.
    pub dropped: Vec<String>,
    /// What was done to make it so, a line each.
    pub notes: Vec<String>,
    /// The model, ready to be written.
    #[serde(skip)]
    pub image: ModelImage,
}

/// Makes a full model, for the file `to`, of a file from elsewhere.
///
/// # Errors
/// [`ImportError`].
pub fn import(file: &Path, to: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let (read, origin) = match onnx::is_onnx(file) {
        true => {
            let (read, origin) = onnx::read(file, options)?;
            (read, Some(origin))
        }
        false => (read(file, options)?, None),
    };
    let Read { own, weights, .. } = &read;
    let mut notes = read.notes.clone();
    let spec = spec_of(file, options, own, weights)?;
    let preprocess = match (&options.preprocess, &own.preprocessing) {
        (Some(how), _) => preprocessing(how, &spec)?,
        (None, Some(recorded)) => serde_json::from_value(recorded.clone())?,
        (None, None) => {
            notes.push(format!(
                "no --preprocess: images of {}x{} are expected, pixels are divided by 255 and not normalised",
                spec.input.height, spec.input.width
            ));
            preprocessing("pixels", &spec)?
        }
    };
    let named = options.classes.clone();
    let (spec, classes) = match named.unwrap_or_else(|| own.classes.clone()) {
        none if none.is_empty() => {
            notes.push("no --classes: they are called by their numbers".into());
            (spec, Vec::new())
        }
        classes => (for_classes(options, spec, own, weights, &classes)?, classes),
    };
    let (weights, comparison) = fit(file, options.partial, &spec, weights)?;
    let thresholds = own.thresholds.clone().filter(|_| comparison.is_exact());
    if own.thresholds.is_some() && thresholds.is_none() {
        notes.push("the decision thresholds belong to other weights and are left out".into());
    }
    let metadata = ModelMetadata {
        attachments: Attachments {
            model: Some(spec.to_json()),
            classes,
            preprocessing: serde_json::to_value(&preprocess).ok(),
            thresholds,
            ..own.attachments.clone()
        },
        // Whatever the file was: what is written brings its network.
        kind: Kind::Full,
        ..*own
    };
    // The optimizer's tensors belong to the names that the weights had.
    let training = match read.renamed.is_empty() && comparison.is_exact() {
        true => read.training,
        false => StateDict::new(),
    };
    let mut metadata = metadata;
    let model = model_of(to, &weights, &training, &metadata)?;
    let checked = match (&options.check, &origin) {
        (Some(reference), Some(origin)) => Some(agreement(reference, origin, &model)?),
        (Some(_), None) => return Err(ImportError::CheckNeedsOnnx),
        (None, _) => None,
    };
    // Outputs that agree are as they are meant to be, whatever noise gives.
    let forward = forward(&model, checked.is_some())?;
    if let Some(origin) = &origin {
        metadata.attachments.provenance = Some(origin.record(checked.as_ref()));
    }
    let image = model_file::encode(&weights, &training, &metadata)?;
    let converted = read.converted.iter().map(|(dtype, count)| Converted {
        dtype: dtype.to_string(),
        tensors: *count,
    });
    Ok(Imported {
        file: file.into(),
        to: to.into(),
        bytes: image.total_len(),
        network: spec.name,
        digest: image.weights_digest(),
        classes: metadata.attachments.classes,
        preprocessing: metadata.attachments.preprocessing,
        tensors: comparison,
        renamed: read.renamed,
        converted: converted.collect(),
        forward,
        checked,
        dropped: read.dropped,
        notes,
        image,
    })
}

/// A file as it was read: its weights under the network's names, as far as that can be told.
struct Read {
    weights: StateDict,
    training: StateDict,
    /// What keepbest recorded; nothing in files of others.
    own: ModelMetadata,
    /// Old and new names by `--map`.
    renamed: Vec<(String, String)>,
    /// Left out by `--drop`.
    dropped: Vec<String>,
    converted: Vec<(Dtype, usize)>,
    notes: Vec<String>,
}

fn read(file: &Path, options: &ImportOptions) -> Result<Read, ImportError> {
    let map = NameMap::new(options.map.iter().map(String::as_str)).map_err(ImportError::Rules)?;
    let drop =
        NameFilter::new(options.drop.iter().map(String::as_str)).map_err(ImportError::Rules)?;
    let how = Opening {
        key: options.key.as_deref(),
        ignore_calls: options.ignore_calls,
    };
    let opened = open_any(file, how)?;
    let mut notes = opened.notes;
    let mut dropped = Dropped::new(drop);
    let renamed = map
        .apply(&dropped.leave_out(opened.file.weights))
        .map_err(ImportError::Rename)?;
    if !renamed.renamed.is_empty() {
        notes.push(format!(
            "{} renamed",
            count(renamed.renamed.len() as u64, "tensor")
        ));
    }
    for rule in &renamed.unused {
        notes.push(format!("no tensor has a name that --map {rule:?} is for"));
    }
    let own = opened.file.metadata.unwrap_or_default();
    let mut weights = renamed.weights;
    if own.model.is_none()
        && let Some(network) = &options.network
        && let Some(part) = part_of(file, network, &weights)?
    {
        notes.push(part_words(&part));
        weights = dropped.leave_out(part.weights);
    }
    notes.extend(dropped.notes(&options.drop));
    Ok(Read {
        weights,
        training: opened.file.training,
        own,
        renamed: renamed.renamed,
        dropped: dropped.names,
        converted: opened.converted,
        notes,
    })
}

/// The network: the file's own, or the one that is named, for the size and classes that the weights are for.
fn spec_of(
    file: &Path,
    options: &ImportOptions,
    own: &ModelMetadata,
    weights: &StateDict,
) -> Result<ModelSpec, ImportError> {
    let of = |network: &str, preprocessing: Option<&Preprocessing>| {
        named_spec(network, weights, preprocessing, 0).map_err(ModelError::from)
    };
    match (&own.model, &options.network) {
        (Some(_), Some(named)) if own_name(own) != Some(named.as_str()) => {
            Err(ModelError::OtherNetwork {
                path: file.into(),
                own: own_name(own).unwrap_or_default().into(),
                named: named.clone(),
            }
            .into())
        }
        (Some(json), _) => Ok(ModelSpec::from_json(json)?),
        (None, None) => Err(ModelError::NeedsNetwork {
            path: file.into(),
            trained_as: None,
            guess: guess_network(weights),
            kept_by: OtherLoop::around(file),
        }
        .into()),
        (None, Some(network)) => {
            let mut first = of(network, None)?;
            let Some(how) = &options.preprocess else {
                return Ok(first);
            };
            // The size of the input comes from the preprocessing. So do its channels where the first layer's weights are not found:
            // that they are missing is told later.
            let known = known_channels(network, weights).map_err(ModelError::from)?;
            first.input.channels = known
                .or(preprocess::channels_of(how))
                .unwrap_or(first.input.channels);
            let preprocessing = preprocessing(how, &first)?;
            match known.filter(|known| *known != preprocessing.input.channels) {
                Some(known) => Err(PreprocessError::Channels {
                    how: how.clone(),
                    channels: preprocessing.input.channels,
                    network: network.clone(),
                    known,
                }
                .into()),
                None => Ok(of(network, Some(&preprocessing))?),
            }
        }
    }
}

/// The network for named classes: as many as the weights have, or with `--partial` as many as are named.
fn for_classes(
    options: &ImportOptions,
    spec: ModelSpec,
    own: &ModelMetadata,
    weights: &StateDict,
    classes: &[String],
) -> Result<ModelSpec, ImportError> {
    if classes.len() == spec.classes {
        return Ok(spec);
    }
    // Without the last layer's weights nothing tells how many classes they are for: what differs is told then.
    if (options.partial || !tells_classes(&spec, weights))
        && own.model.is_none()
        && let Some(network) = &options.network
    {
        let how = options.preprocess.as_deref().unwrap_or("pixels");
        let preprocessing = preprocessing(how, &spec)?;
        let other = named_spec(network, weights, Some(&preprocessing), classes.len())
            .map_err(ModelError::from)?;
        if other.classes == classes.len() {
            return Ok(other);
        }
    }
    Err(ImportError::Classes {
        named: classes.len(),
        found: spec.classes,
    })
}

/// Whether the weights hold the network's last layer, whose outputs are the classes.
fn tells_classes(spec: &ModelSpec, weights: &StateDict) -> bool {
    let network = Network::new(spec);
    let last = network.as_ref().ok();
    let last = last.and_then(|network| network.layout().tensors().last());
    last.is_some_and(|tensor| weights.contains(&tensor.name))
}

fn own_name(own: &ModelMetadata) -> Option<&str> {
    own.model.as_ref()?.get("name")?.as_str()
}

/// The model that is being made, as it will be opened.
fn model_of(
    path: &Path,
    weights: &StateDict,
    training: &StateDict,
    metadata: &ModelMetadata,
) -> Result<Model, ImportError> {
    let file = ModelFile {
        metadata: Some(metadata.clone()),
        seal: None,
        weights: weights.clone(),
        training: training.clone(),
        other: Default::default(),
    };
    Ok(Model::from_file(path, file, None)?)
}

/// Compares the model with a reference, and refuses it where they differ.
fn agreement(
    reference: &Path,
    origin: &onnx::Origin,
    model: &Model,
) -> Result<Checked, ImportError> {
    let mut predictor = model.predictor(1, None)?;
    let checked = onnx::check(reference, origin, predictor.as_mut())?;
    match checked.agrees() {
        true => Ok(checked),
        false => Err(ImportError::Disagrees { checked }),
    }
}

/// Runs the model on an image of noise, as it will be used: least and greatest score. Scores that are no numbers are refused unless
/// the model is known to be right.
fn forward(model: &Model, known: bool) -> Result<Scores, ImportError> {
    let mut predictor = model.predictor(1, None)?;
    let mut state = 1u32;
    let pixels: Vec<f32> = (0..model.preprocessing.input.size())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let mut scores = Vec::new();
    predictor.logits(&pixels, &mut scores)?;
    if !known && let Some(&score) = scores.iter().find(|score| !score.is_finite()) {
        return Err(ImportError::NotFinite { score });
    }
    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Ok(Scores {
        least: least.into(),
        most: most.into(),
    })
}
