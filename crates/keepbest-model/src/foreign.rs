//! Model files of every kind that can be read, as keepbest's own: safetensors, and PyTorch's without running anything
//! in them.

use std::path::{Path, PathBuf};

use keepbest_formats::model_file::{Attachments, ModelFile, ModelMetadata, OpenError};
use keepbest_formats::names::{plain_names, unwrap_names};
use keepbest_formats::pth::{Checkpoint, PthFile};
use keepbest_formats::sniff::{FileKind, sniff};
use keepbest_formats::{Dtype, StateDict, Tensor, map_file, sharded, weights_digest};
use keepbest_store::names_in;
use serde_json::{Value, json};

use crate::error::ModelError;
use crate::words::few;

/// A file as keepbest's own, and what was done to make it so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The file. One that is not keepbest's has no seal; one that PyTorch can read and keepbest wrote has metadata all the same.
    pub file: ModelFile,
    /// The place of the weights in the file, what was left out, what was converted: for the user.
    pub notes: Vec<String>,
    /// Element types that became F32, with how many tensors.
    pub converted: Vec<(Dtype, usize)>,
}

/// Options for opening a file of others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening<'a> {
    /// Which state dict to take in a checkpoint of several.
    pub key: Option<&'a str>,
    /// Whether to take weights of a file that calls dangerous functions, as long as those calls do not touch them.
    pub ignore_calls: bool,
}

/// Opens a model file: safetensors (keepbest's are verified), also in several files by their index, or PyTorch's in any form.
/// Weights of f16, bf16 and f64 become f32 in files that are not keepbest's, and prefixes of wrappers come off.
///
/// # Errors
/// [`ModelError::Open`], [`ModelError::Pth`] and [`ModelError::Sharded`]; a key for a file that has no keys is
/// [`ModelError::NoKeys`]; what lies in a folder is named by [`ModelError::Distributed`] and [`ModelError::Folder`].
pub fn open_any(path: &Path, how: Opening<'_>) -> Result<Opened, ModelError> {
    if path.is_dir() {
        return open_any(&in_folder(path)?, how);
    }
    if is_distributed(path) {
        let path = path.parent().unwrap_or(path).into();
        return Err(ModelError::Distributed { path });
    }
    let kind = map_file(path).map(|bytes| sniff(&bytes));
    let (file, mut notes) = match kind {
        Ok(kind) if PthFile::reads(kind) => open_pth(path, how)?,
        // Not safetensors, by its name not meant to be: what is wrong is told as of a PyTorch file.
        Ok(kind) if kind != FileKind::Safetensors && has_pytorch_ending(path) => {
            open_pth(path, how)?
        }
        Ok(_) if sharded::is_index(path) => open_sharded(path)?,
        _ => {
            let file = ModelFile::open(path).map_err(|error: OpenError| ModelError::Open(error))?;
            if how.key.is_some() {
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
    // Of keepbest's own checkpoints the names are known; those of PyTorch's files are without prefixes by now.
    let mut weights = file.weights;
    if file.metadata.is_none() {
        let unwrapped = unwrap_names(weights, &[]);
        weights = unwrapped.weights;
        if !unwrapped.stripped.is_empty() {
            notes.push(format!("took {:?} off all names", unwrapped.stripped));
        }
        if !unwrapped.left_out.is_empty() {
            notes.push(format!(
                "left out what is no weight: {} (counter of an averaged model)",
                few(&unwrapped.left_out)
            ));
        }
        let plain = plain_names(weights);
        weights = plain.weights;
        for (wrapper, count) in plain.unwrapped {
            notes.push(format!(
                "took {wrapper:?} out of {}",
                tensors(count, "name")
            ));
        }
        if plain.modern > 0 {
            let names = tensors(plain.modern, "name");
            notes.push(format!(
                "{names} of an early torchvision's DenseNet written as now: norm.1 as norm1"
            ));
        }
    }
    let (weights, counters) = with_whole_counters(&weights);
    for (form, count) in counters {
        let counters = tensors(count, "counter");
        notes.push(format!("{counters} of {form} became I64: {COUNTER}"));
    }
    let (weights, converted) = to_f32(&weights);
    for (dtype, count) in &converted {
        let tensors = tensors(*count, "tensor");
        notes.push(format!("{tensors} of {dtype} became F32"));
    }
    let file = ModelFile { weights, ..file };
    Ok(Opened {
        file,
        notes,
        converted,
    })
}

/// Whether the name is what PyTorch's files are called.
fn has_pytorch_ending(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        let endings = ["pth", "pt", "ckpt", "bin", "pkl", "pickle"];
        endings
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// Whether this is a part of a checkpoint of `torch.distributed.checkpoint`.
fn is_distributed(path: &Path) -> bool {
    let beside = |name: &str| path.with_file_name(name).is_file();
    path.extension().is_some_and(|ending| ending == "distcp")
        || path.file_name().is_some_and(|name| name == ".metadata") && beside("__0_0.distcp")
}

/// Whether a folder is, or holds, a model by the names in it: what [`open_any`] opens or names.
pub(crate) fn is_model_folder(path: &Path) -> bool {
    match in_folder(path) {
        Ok(_) | Err(ModelError::Distributed { .. }) => true,
        Err(ModelError::Folder {
            models, unpacked, ..
        }) => unpacked || !models.is_empty(),
        Err(_) => false,
    }
}

/// The file that is meant by a folder, where there is no doubt.
fn in_folder(path: &Path) -> Result<PathBuf, ModelError> {
    const LISTED: usize = 10_000;
    let entries = names_in(path).map_err(|source| {
        let path = path.into();
        ModelError::Open(OpenError::Io { path, source })
    })?;
    let names: Vec<PathBuf> = entries
        .into_iter()
        .take(LISTED)
        .map(|name| path.join(name))
        .filter(|path| path.is_file())
        .collect();
    if names.iter().any(|path| is_distributed(path)) {
        return Err(ModelError::Distributed { path: path.into() });
    }
    let mut indices = names.iter().filter(|path| sharded::is_index(path));
    if let (Some(index), None) = (indices.next(), indices.next()) {
        return Ok(index.clone());
    }
    let is_model = |path: &&PathBuf| {
        has_pytorch_ending(path)
            || sharded::is_index(path)
            || path
                .extension()
                .is_some_and(|ending| ending == "safetensors")
    };
    let models = names.iter().filter(is_model);
    Err(ModelError::Folder {
        path: path.into(),
        models: models.cloned().collect(),
        unpacked: path.join("data.pkl").is_file(),
    })
}

fn open_sharded(path: &Path) -> Result<(ModelFile, Vec<String>), ModelError> {
    let read = sharded::open(path).map_err(|source| ModelError::Sharded {
        path: path.into(),
        source: Box::new(source),
    })?;
    let file = ModelFile {
        metadata: None,
        seal: None,
        weights: read.weights,
        training: StateDict::new(),
        other: Default::default(),
    };
    Ok((file, vec![format!("read from {} shards", read.shards)]))
}

/// A number with its noun.
fn tensors(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// What PyTorch calls the counter of batches that a normalisation has seen.
const COUNTER: &str = "num_batches_tracked";

fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some(COUNTER)
}

/// The state dict with its counters as whole numbers, as PyTorch copies them whatever their form: after an average of state dicts or
/// `half()` they are floats, after NumPy's `ascontiguousarray` lists of one. And how many of each form became that.
fn with_whole_counters(weights: &StateDict) -> (StateDict, Vec<(String, usize)>) {
    converted(weights, |name, tensor| {
        if !is_counter(name) || tensor.elements() != 1 {
            return None;
        }
        let form = match tensor.shape() {
            [] => tensor.dtype().to_string(),
            shape => format!("{} {shape:?}", tensor.dtype()),
        };
        let whole = tensor.to_i64()?;
        let whole = Tensor::new(Dtype::I64, [], whole.bytes().to_vec()).ok()?;
        Some((form, whole))
    })
}

/// The state dict with floating point of other widths in f32, and how many tensors of each type that were. What a counter holds stays
/// as the file has it.
fn to_f32(weights: &StateDict) -> (StateDict, Vec<(Dtype, usize)>) {
    converted(weights, |name, tensor| match is_counter(name) {
        true => None,
        false => Some((tensor.dtype(), tensor.to_f32()?)),
    })
}

/// The state dict with what `convert` makes of a tensor, and how many of each form were made another.
fn converted<F: PartialEq>(
    weights: &StateDict,
    convert: impl Fn(&str, &Tensor) -> Option<(F, Tensor)>,
) -> (StateDict, Vec<(F, usize)>) {
    let mut converted: Vec<(F, usize)> = Vec::new();
    let mut out = StateDict::new();
    for (name, tensor) in weights.iter() {
        let is_other =
            |other: &Tensor| (other.dtype(), other.shape()) != (tensor.dtype(), tensor.shape());
        let tensor = match convert(name, tensor) {
            Some((form, other)) if is_other(&other) => {
                match converted.iter_mut().find(|(known, _)| *known == form) {
                    Some((_, count)) => *count += 1,
                    None => converted.push((form, 1)),
                }
                other
            }
            _ => tensor.clone(),
        };
        out.insert(name, tensor)
            .expect("names of a state dict are unique");
    }
    (out, converted)
}

fn open_pth(path: &Path, how: Opening<'_>) -> Result<(ModelFile, Vec<String>), ModelError> {
    let unreadable = |source| ModelError::Pth {
        path: path.into(),
        source: Box::new(source),
    };
    let pth = PthFile::open(path).map_err(unreadable)?;
    let key = how.key;
    let mut notes = Vec::new();
    let found = match how.ignore_calls {
        true => pth.weights_beside_calls(key),
        false => pth.weights(key),
    };
    let found = found.map_err(unreadable)?;
    for call in pth.dangerous() {
        notes.push(format!(
            "a pickle loader would call {call}; nothing was run"
        ));
    }
    if let Some(key) = &found.key
        && (found.others.len() > 1 || key != "state_dict")
    {
        let others = match &found.others[..] {
            [] => String::new(),
            others => format!(
                " (--key of `keepbest import` picks another: {})",
                others.join(", ")
            ),
        };
        notes.push(format!("took the weights under {key:?}{others}"));
    } else if !found.others.is_empty() {
        let others = found.others.join(", ");
        notes.push(format!(
            "there are other weights, --key of `keepbest import` picks them: {others}"
        ));
    }
    if !found.stripped.is_empty() {
        notes.push(format!("took {:?} off all names", found.stripped));
    }
    let skipped = found.skipped.iter().filter(|_| found.module.is_none());
    let skipped: Vec<String> = skipped
        .map(|skipped| format!("{} ({})", skipped.name, skipped.what))
        .collect();
    if !skipped.is_empty() {
        notes.push(format!("left out what is no weight: {}", few(&skipped)));
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
        attachments: Attachments {
            model: part("model"),
            classes: checkpoint.classes,
            preprocessing: checkpoint.preprocessing,
            thresholds: measured("thresholds"),
            training: measured("training"),
            evaluation: measured("evaluation"),
            history: measured("history"),
            provenance: part("provenance"),
        },
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
