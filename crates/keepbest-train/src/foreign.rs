//! Model files of every kind that can be read, as keepbest's own: safetensors, and PyTorch's without running anything
//! in them.

use std::path::Path;

use keepbest_formats::model_file::{ModelFile, ModelMetadata, OpenError};
use keepbest_formats::pth::{Checkpoint, PthFile};
use keepbest_formats::sniff::{FileKind, sniff};
use keepbest_formats::{Dtype, StateDict, map_file, weights_digest};
use serde_json::{Value, json};

use crate::model::ModelError;

/// A file as keepbest's own, and what was done to make it so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The file. One that is not keepbest's has no seal; one that PyTorch can read and keepbest wrote has metadata all the same.
    pub file: ModelFile,
    /// Where in the file the weights were, what was left out, what was converted: for the user.
    pub notes: Vec<String>,
    /// Element types that became F32, with how many tensors.
    pub converted: Vec<(Dtype, usize)>,
}

/// Opens a model file: safetensors (keepbest's are verified), or PyTorch's in any form. Weights of f16, bf16 and f64 become f32
/// in files that are not keepbest's. `key` picks the state dict in a checkpoint of several.
///
/// # Errors
/// [`ModelError::Open`] and [`ModelError::Pth`]; a key for a file that has no keys is [`ModelError::NoKeys`].
pub fn open_any(path: &Path, key: Option<&str>) -> Result<Opened, ModelError> {
    let kind = map_file(path).map(|bytes| sniff(&bytes));
    let (file, mut notes) = match kind {
        Ok(
            FileKind::PytorchZip | FileKind::TorchScript | FileKind::PytorchLegacy | FileKind::Tar,
        ) => open_pth(path, key)?,
        _ => {
            let file = ModelFile::open(path).map_err(|error: OpenError| ModelError::Open(error))?;
            if key.is_some() {
                return Err(ModelError::NoKeys { path: path.into() });
            }
            (file, Vec::new())
        }
    };
    if file.seal.is_some() {
        return Ok(Opened {
            file,
            notes,
            converted: Vec::new(),
        });
    }
    let (weights, converted) = to_f32(&file.weights);
    for (dtype, count) in &converted {
        let tensors = if *count == 1 { "tensor" } else { "tensors" };
        notes.push(format!("{count} {tensors} of {dtype} became F32"));
    }
    let file = ModelFile { weights, ..file };
    Ok(Opened {
        file,
        notes,
        converted,
    })
}

/// The state dict with floating point of other widths in f32, and how many tensors of each type that were.
fn to_f32(weights: &StateDict) -> (StateDict, Vec<(Dtype, usize)>) {
    let mut converted: Vec<(Dtype, usize)> = Vec::new();
    let mut out = StateDict::new();
    for (name, tensor) in weights.iter() {
        let dtype = tensor.dtype();
        let tensor = match tensor.to_f32() {
            Some(narrow) if dtype != Dtype::F32 => {
                match converted.iter_mut().find(|(known, _)| *known == dtype) {
                    Some((_, count)) => *count += 1,
                    None => converted.push((dtype, 1)),
                }
                narrow
            }
            _ => tensor.clone(),
        };
        out.insert(name, tensor)
            .expect("names of a state dict are unique");
    }
    (out, converted)
}

fn open_pth(path: &Path, key: Option<&str>) -> Result<(ModelFile, Vec<String>), ModelError> {
    let unreadable = |source| ModelError::Pth {
        path: path.into(),
        source: Box::new(source),
    };
    let pth = PthFile::open(path).map_err(unreadable)?;
    let found = pth.weights(key).map_err(unreadable)?;
    let mut notes = Vec::new();
    if let Some(key) = &found.key
        && (found.others.len() > 1 || key != "state_dict")
    {
        let others = match &found.others[..] {
            [] => String::new(),
            others => format!(" (--key picks another: {})", others.join(", ")),
        };
        notes.push(format!("took the weights under {key:?}{others}"));
    } else if !found.others.is_empty() {
        let others = found.others.join(", ");
        notes.push(format!(
            "there are other weights, --key picks them: {others}"
        ));
    }
    if !found.stripped.is_empty() {
        notes.push(format!("took {:?} off all names", found.stripped));
    }
    if found.module.is_some() {
        notes.push(
            "the file holds a whole pickled module; its weights were taken, nothing was run".into(),
        );
    }
    // Only what keepbest wrote is read further: values of others under the same keys mean what their program wants.
    let own =
        found.key.as_deref() == Some("state_dict") && key.is_none_or(|key| key == "state_dict");
    let weights = found.weights.clone();
    let checkpoint = match own {
        true => pth.checkpoint(found, &[]).ok(),
        false => None,
    };
    let about = checkpoint
        .as_ref()
        .and_then(|checkpoint| checkpoint.keepbest.clone());
    let (metadata, training) = match (checkpoint, about) {
        (Some(checkpoint), Some(about)) => {
            let (metadata, training, changed) = metadata_of(checkpoint, &about);
            if changed {
                notes.push(
                    "the weights are not those that keepbest wrote: what it measured is left out"
                        .into(),
                );
            }
            (Some(metadata), training)
        }
        _ => (None, StateDict::new()),
    };
    let file = ModelFile {
        metadata,
        seal: None,
        weights,
        training,
        other: Default::default(),
    };
    Ok((file, notes))
}

/// What a `best.pt` of keepbest says about its weights, its optimizer's tensors, and whether the weights are others by now.
fn metadata_of(checkpoint: Checkpoint, about: &Value) -> (ModelMetadata, StateDict, bool) {
    let part = |key: &str| about.get(key).filter(|value| !value.is_null()).cloned();
    let digest = part("weights_digest");
    let changed = digest != Some(json!(weights_digest(&checkpoint.weights)));
    let measured = |key: &str| part(key).filter(|_| !changed);
    let metadata = ModelMetadata {
        step: checkpoint.step.unwrap_or(0),
        epoch: checkpoint.epoch.unwrap_or(0),
        model: part("model"),
        classes: checkpoint.classes,
        preprocessing: checkpoint.preprocessing,
        thresholds: measured("thresholds"),
        training: measured("training"),
        evaluation: measured("evaluation"),
        history: measured("history"),
        provenance: part("provenance"),
        ..ModelMetadata::default()
    };
    let training = match checkpoint.optimizer {
        Some(optimizer) if !changed => optimizer.tensors,
        _ => StateDict::new(),
    };
    (metadata, training, changed)
}

/// The `keepbest` entry of a `best.pt`: what [`open_any`] makes a full model of again.
#[must_use]
pub fn about_model(file: &ModelFile, spec: &Value) -> Value {
    let metadata = file.metadata.as_ref();
    json!({
        "schema": 1,
        "producer": concat!("keepbest ", env!("CARGO_PKG_VERSION")),
        "weights_digest": file.weights_digest(),
        "model": spec,
        "thresholds": metadata.and_then(|metadata| metadata.thresholds.as_ref()),
        "training": metadata.and_then(|metadata| metadata.training.as_ref()),
        "evaluation": metadata.and_then(|metadata| metadata.evaluation.as_ref()),
        "history": metadata.and_then(|metadata| metadata.history.as_ref()),
        "provenance": metadata.and_then(|metadata| metadata.provenance.as_ref()),
    })
}
