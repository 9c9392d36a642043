//! ONNX models: the network comes along, and reference outputs prove that it is the same.

use std::path::{Path, PathBuf};

use keepbest_data::Preprocessing;
use keepbest_formats::model_file::{Attachments, ModelMetadata};
use keepbest_formats::npz::{self, NpzError};
use keepbest_formats::onnx::{ModelProto, ReadError, read_tensor};
use keepbest_formats::sniff::{FileKind, sniff};
use keepbest_formats::{StateDict, Tensor, map_file};
use keepbest_nn::onnx::{self, CLASSES_KEY, Ending};
use keepbest_nn::{ModelSpec, Scorer};
use keepbest_store::names_in;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::ImportError;
use super::{ImportOptions, Read, preprocess};
use crate::criterion::log_softmax;

/// Greatest difference of an output that agrees, beside the greatest output.
pub const TOLERANCE: f64 = 1e-4;

/// Outputs of nothing but zeros are compared as if one was this.
const SMALLEST: f64 = 1e-6;

/// Reference outputs that were compared with ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checked {
    /// The file or folder that they are from.
    pub reference: String,
    /// Images that were compared.
    pub images: usize,
    /// Greatest difference of an output.
    pub greatest_difference: f64,
    /// Greatest output of the reference.
    pub greatest_output: f64,
    /// What the difference may be beside the greatest output.
    pub tolerance: f64,
}

impl Checked {
    /// Whether the outputs agree.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.greatest_difference <= self.tolerance * self.greatest_output.max(SMALLEST)
    }
}

/// Why reference outputs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A tensor cannot be read.
    #[error(transparent)]
    Tensor(#[from] ReadError),
    /// The archive cannot be read.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// The folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Inputs or outputs are not there, or not the network's.
    #[error("`{}`: {problem}", path.display())]
    Form {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Whether a file is an ONNX model.
pub(super) fn is_onnx(file: &Path) -> bool {
    map_file(file).is_ok_and(|bytes| sniff(&bytes) == FileKind::Onnx)
}

/// What was read of an ONNX model, beside its weights.
pub(super) struct Origin {
    pub ending: Ending,
    pub input: onnx::GraphInput,
    pub output: String,
    /// What the model file records of it.
    record: Value,
}

impl Origin {
    /// What the model file records: the file it comes from, and what it was compared with.
    pub(super) fn record(&self, checked: Option<&Checked>) -> Value {
        let mut record = self.record.clone();
        if let Some(checked) = checked {
            record["checked"] = json!(checked);
        }
        json!({ "imported": record })
    }
}

/// Reads an ONNX model and makes a network of it.
pub(super) fn read(file: &Path, options: &ImportOptions) -> Result<(Read, Origin), ImportError> {
    for (flag, given) in [
        ("--model", options.network.is_some()),
        ("--map", !options.map.is_empty()),
        ("--drop", !options.drop.is_empty()),
        ("--partial", options.partial),
        ("--key", options.key.is_some()),
        ("--ignore-calls", options.ignore_calls),
    ] {
        if given {
            return Err(ImportError::NotForOnnx { flag });
        }
    }
    let of_file = |source| ImportError::Onnx {
        file: file.into(),
        source,
    };
    let model = ModelProto::open(file).map_err(|source| ImportError::OnnxFile {
        file: file.into(),
        source,
    })?;
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let made = onnx::import(
        &model,
        &onnx::ImportOptions {
            name: stem.unwrap_or("onnx").chars().take(64).collect(),
            input_size: options.input_size,
            output: options.output.clone(),
            ..Default::default()
        },
    )
    .map_err(of_file)?;
    let opset = model
        .operator_sets
        .iter()
        .find(|(domain, _)| domain.is_empty());
    let record = json!({
        "file": file.file_name().map(|name| name.to_string_lossy()),
        "format": "ONNX",
        "producer": format!("{} {}", model.producer, model.producer_version).trim(),
        "operator_set": opset.map(|(_, version)| version),
    });
    let origin = Origin {
        ending: made.ending,
        input: made.input,
        output: made.output,
        record,
    };
    let preprocessing = match &origin.input.of_bytes {
        None => None,
        Some(of_bytes) => {
            let said = normalised(&made.spec, of_bytes);
            let said = said.and_then(|preprocessing| serde_json::to_value(preprocessing).ok());
            Some(said.ok_or_else(|| ImportError::Normalisation { file: file.into() })?)
        }
    };
    let read = Read {
        weights: made.weights,
        training: StateDict::new(),
        own: ModelMetadata {
            attachments: Attachments {
                model: Some(made.spec.to_json()),
                classes: classes(&model, made.spec.classes),
                preprocessing,
                ..Attachments::default()
            },
            ..ModelMetadata::default()
        },
        renamed: Vec::new(),
        dropped: Vec::new(),
        converted: Vec::new(),
        notes: made.notes,
    };
    Ok((read, origin))
}

/// The preprocessing that a graph of bytes does itself: `byte * scale + shift` of each channel.
fn normalised(spec: &ModelSpec, of_bytes: &[(f32, f32)]) -> Option<Preprocessing> {
    let mut preprocessing = preprocess::preprocessing("pixels", spec).ok()?;
    let divide_by = preprocessing.divide_by;
    preprocessing.std = of_bytes
        .iter()
        .map(|(scale, _)| 1.0 / (divide_by * scale))
        .collect();
    let stds = preprocessing.std.iter();
    preprocessing.mean = of_bytes
        .iter()
        .zip(stds)
        .map(|((_, shift), std)| -shift * std)
        .collect();
    preprocessing.validate().ok()?;
    Some(preprocessing)
}

/// Class names that the model's metadata have, as keepbest's export writes them.
fn classes(model: &ModelProto, count: usize) -> Vec<String> {
    let names = model.metadata.iter().find(|(key, _)| key == CLASSES_KEY);
    let names: Option<Vec<String>> = names.and_then(|(_, text)| serde_json::from_str(text).ok());
    names
        .filter(|names| names.len() == count)
        .unwrap_or_default()
}

/// Inputs with the outputs that a reference gives for them.
struct Pair {
    input: Tensor,
    output: Tensor,
}

/// Compares our outputs with those of a reference: an archive of NumPy with `inputs` and `outputs`, or a folder of ONNX's test data.
pub(super) fn check(
    reference: &Path,
    origin: &Origin,
    scorer: &mut dyn Scorer,
) -> Result<Checked, ReferenceError> {
    let form = |problem: String| ReferenceError::Form {
        path: reference.into(),
        problem,
    };
    let mut checked = Checked {
        reference: reference
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        images: 0,
        greatest_difference: 0.0,
        greatest_output: 0.0,
        tolerance: TOLERANCE,
    };
    for pair in pairs(reference, origin)? {
        let size = scorer.network().spec().input;
        let classes = scorer.network().classes();
        let inputs =
            numbers(&pair.input).ok_or_else(|| form("the inputs are no numbers".to_owned()))?;
        let outputs =
            numbers(&pair.output).ok_or_else(|| form("the outputs are no numbers".to_owned()))?;
        let each = size.channels * size.height * size.width;
        let count = inputs.len() / each;
        if count == 0 || count * each != inputs.len() {
            let shape = pair.input.shape();
            let input = [size.channels, size.height, size.width];
            return Err(form(format!(
                "the inputs are of {shape:?}, and the network's of {input:?}"
            )));
        }
        if outputs.len() != count * classes {
            let shape = pair.output.shape();
            return Err(form(format!(
                "the outputs are of {shape:?}, and the network gives {classes} for each of {count} images"
            )));
        }
        let mut images = match origin.input.channels_last {
            true => inputs,
            false => channels_last(&inputs, each, size.channels),
        };
        if let Some(of_bytes) = &origin.input.of_bytes {
            for pixel in images.chunks_exact_mut(size.channels) {
                let channels = pixel.iter_mut().zip(of_bytes);
                channels.for_each(|(value, (scale, shift))| *value = *value * scale + shift);
            }
        }
        let mut scores = Vec::new();
        scorer
            .logits(&images, &mut scores)
            .map_err(|error| form(error.to_string()))?;
        for (scores, expected) in scores
            .chunks_exact(classes)
            .zip(outputs.chunks_exact(classes))
        {
            let found = ended(scores, origin.ending);
            for (found, &expected) in found.iter().zip(expected) {
                let expected = f64::from(expected);
                let mut difference = (found - expected).abs();
                // Infinities agree with themselves; no number agrees with nothing.
                if *found == expected {
                    difference = 0.0;
                } else if difference.is_nan() {
                    difference = f64::MAX;
                }
                checked.greatest_difference =
                    checked.greatest_difference.max(difference.min(f64::MAX));
                if expected.is_finite() {
                    checked.greatest_output = checked.greatest_output.max(expected.abs());
                }
            }
        }
        checked.images += count;
    }
    Ok(checked)
}

fn numbers(tensor: &Tensor) -> Option<Vec<f32>> {
    if let Some(floats) = tensor.to_f32() {
        return Some(floats.as_f32().ok()?.into_owned());
    }
    let whole = tensor.to_i64()?;
    let values = whole.as_i64().ok()?;
    Some(values.iter().map(|&value| value as f32).collect())
}

/// Scores as the graph gives them out.
fn ended(scores: &[f32], ending: Ending) -> Vec<f64> {
    let mut out = vec![0.0; scores.len()];
    match ending {
        Ending::Scores => return scores.iter().map(|&score| f64::from(score)).collect(),
        Ending::Softmax => {
            log_softmax(scores, &mut out);
            out.iter_mut().for_each(|p| *p = libm::exp(*p));
        }
        Ending::LogSoftmax => log_softmax(scores, &mut out),
    }
    out
}

/// Images of `each` values, `[channels, pixels]`, as `[pixels, channels]`.
fn channels_last(images: &[f32], each: usize, channels: usize) -> Vec<f32> {
    let pixels = each / channels;
    let mut out = Vec::with_capacity(images.len());
    for image in images.chunks_exact(each) {
        for pixel in 0..pixels {
            out.extend((0..channels).map(|channel| image[channel * pixels + pixel]));
        }
    }
    out
}

/// All inputs and outputs of a reference.
fn pairs(reference: &Path, origin: &Origin) -> Result<Vec<Pair>, ReferenceError> {
    let form = |problem: &str| ReferenceError::Form {
        path: reference.into(),
        problem: problem.to_owned(),
    };
    if !reference.is_dir() {
        let arrays = npz::read(reference)?;
        let array = |names: &[&str]| {
            let found = arrays
                .iter()
                .find(|(name, _)| names.contains(&name.as_str()));
            found.map(|(_, tensor)| tensor.clone())
        };
        let input = array(&["inputs", "input", "x", &origin.input.name]);
        let output = array(&["outputs", "output", "y", &origin.output]);
        return match (input, output) {
            (Some(input), Some(output)) => Ok(vec![Pair { input, output }]),
            _ => Err(form("it needs the arrays `inputs` and `outputs`")),
        };
    }
    let names = |folder: &Path| -> Result<Vec<String>, ReferenceError> {
        let mut names = names_in(folder).map_err(|source| ReferenceError::Io {
            path: folder.into(),
            source,
        })?;
        names.sort();
        Ok(names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect())
    };
    let own = names(reference)?;
    let mut sets: Vec<PathBuf> = own
        .iter()
        .filter(|name| name.starts_with("test_data_set_"))
        .map(|name| reference.join(name))
        .collect();
    if sets.is_empty() {
        sets.push(reference.to_owned());
    }
    let mut pairs = Vec::new();
    for set in sets {
        let inside = names(&set)?;
        let tensor = |kind: &str, wanted: &str| -> Result<Tensor, ReferenceError> {
            let mut first = None;
            for name in inside
                .iter()
                .filter(|name| name.starts_with(kind) && name.ends_with(".pb"))
            {
                let (own, tensor) = read_tensor(set.join(name))?;
                if own == wanted {
                    return Ok(tensor);
                }
                first.get_or_insert(tensor);
            }
            first.ok_or_else(|| form(&format!("there is no {kind}0.pb")))
        };
        pairs.push(Pair {
            input: tensor("input_", &origin.input.name)?,
            output: tensor("output_", &origin.output)?,
        });
    }
    Ok(pairs)
}
