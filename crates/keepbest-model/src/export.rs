//! A model as a file for others: what `keepbest export` writes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use keepbest_core::WeightsDigest;
use keepbest_formats::model_file::{self, Attachments, EncodeError, ModelImage, ModelMetadata};
use keepbest_formats::onnx::{OnnxError, OnnxImage};
use keepbest_formats::pth::{self, Checkpoint, OptimizerState, PthFile, Tree};
use keepbest_formats::{StateDict, weights_digest};
use keepbest_nn::onnx::{OnnxInput, OnnxOptions, PixelOrder};
use keepbest_nn::{Network, Role};
use keepbest_store::{BoxError, holds};
use serde::Serialize;
use serde_json::Value;

use crate::foreign::about_model;
use crate::model::Model;
use crate::thresholds::TunedThresholds;
use crate::words::{count, value};
use crate::write::{self, WriteError};

/// A kind of file that models are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportForm {
    /// PyTorch's state dict, `.pth`.
    StateDict,
    /// PyTorch's checkpoint of a training that goes on, `.pt`.
    Checkpoint,
    /// ONNX, `.onnx`.
    Onnx,
    /// Safetensors with the parameters alone, `.safetensors`.
    Params,
}

impl ExportForm {
    /// The form that a path's ending means.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension().and_then(|ending| ending.to_str())? {
            "pth" => Some(Self::StateDict),
            "pt" => Some(Self::Checkpoint),
            "onnx" => Some(Self::Onnx),
            "safetensors" => Some(Self::Params),
            _ => None,
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::StateDict => "PyTorch state dict",
            Self::Checkpoint => "PyTorch checkpoint",
            Self::Onnx => "ONNX model",
            Self::Params => "safetensors with the parameters alone",
        }
    }
}

/// What an ONNX graph does; other forms have no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    /// Whether the graph takes images as bytes and normalises them.
    pub preprocess_in_graph: bool,
    /// Whether each batch norm becomes part of the convolution before it.
    pub fold_batch_norm: bool,
}

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// PyTorch's format cannot hold it.
    #[error(transparent)]
    Pth(#[from] pth::WriteError),
    /// Its training state makes no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] pth::CheckpointError),
    /// Its network has no ONNX graph.
    #[error(transparent)]
    Graph(#[from] keepbest_nn::onnx::ExportError),
    /// The ONNX format cannot hold it.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The model format cannot hold it.
    #[error(transparent)]
    Model(#[from] EncodeError),
    /// Its network does not fit together.
    #[error(transparent)]
    Layer(#[from] keepbest_nn::LayerError),
    /// What it records cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A model as a file ready to be written. It shares the weights' bytes.
pub struct Exported {
    form: ExportForm,
    image: Image,
    digest: WeightsDigest,
    model: PathBuf,
    network: String,
    notes: Vec<String>,
}

enum Image {
    Pth(pth::PthImage),
    Onnx(OnnxImage),
    Model(Box<ModelImage>),
}

/// What was exported. As JSON it is what `keepbest export --json` prints.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// The model's file.
    pub model: PathBuf,
    /// The file that was written.
    pub to: PathBuf,
    /// What kind it is, in words.
    pub kind: &'static str,
    /// The number of bytes.
    pub bytes: u64,
    /// Identity of the weights.
    pub digest: WeightsDigest,
    /// The network's name.
    pub network: String,
    /// What the file does not hold, or otherwise than the model: a line each.
    pub notes: Vec<String>,
}

impl Exported {
    /// The length of the file, in bytes.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        match &self.image {
            Image::Pth(image) => image.total_len(),
            Image::Onnx(image) => image.total_len(),
            Image::Model(image) => image.total_len(),
        }
    }

    /// Writes the file's bytes.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write_to(&self, mut out: &mut dyn Write) -> io::Result<()> {
        match &self.image {
            Image::Pth(image) => image.write_to(&mut out),
            Image::Onnx(image) => image.write_to(&mut out),
            Image::Model(image) => image.write_to(&mut out),
        }
    }

    /// Writes the file with the guarantees of the store, and reads it back.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn save(&self, to: &Path, force: bool) -> Result<ExportReport, WriteError> {
        let put = |out: &mut dyn Write| self.write_to(out);
        write::write(to, force, self.total_len(), put, |staged| {
            self.check(staged)
        })?;
        Ok(ExportReport {
            model: self.model.clone(),
            to: to.into(),
            kind: self.form.words(),
            bytes: self.total_len(),
            digest: self.digest,
            network: self.network.clone(),
            notes: self.notes.clone(),
        })
    }

    fn check(&self, staged: &Path) -> Result<(), BoxError> {
        if !holds(staged, |out| self.write_to(out))? {
            return Err("it holds other bytes than were written".into());
        }
        if matches!(self.form, ExportForm::StateDict | ExportForm::Checkpoint) {
            let found = weights_digest(&PthFile::open(staged)?.weights_as_named(None)?.weights);
            if found != self.digest {
                return Err("it holds other weights than were written".into());
            }
        }
        Ok(())
    }
}

/// Makes a file for others of a model.
///
/// # Errors
/// [`ExportError`].
pub fn export(
    model: &Model,
    form: ExportForm,
    options: ExportOptions,
) -> Result<Exported, ExportError> {
    let mut notes = Vec::new();
    if let Some(own) = &model.thresholds {
        notes.push(without_thresholds(form, own));
    }
    let image = match form {
        ExportForm::StateDict => Image::Pth(pth::encode(&Tree::from(&model.file.weights))?),
        ExportForm::Checkpoint => Image::Pth(checkpoint(model, &mut notes)?.encode()?),
        ExportForm::Onnx => Image::Onnx(onnx(model, options, &mut notes)?),
        ExportForm::Params => {
            let own = model.file.metadata.clone();
            let metadata = own.unwrap_or_else(|| ModelMetadata {
                attachments: Attachments {
                    preprocessing: serde_json::to_value(&model.preprocessing).ok(),
                    ..Attachments::default()
                },
                ..ModelMetadata::default()
            });
            let weights = &model.file.weights;
            let image = model_file::encode(weights, &StateDict::new(), &metadata.into_params())?;
            Image::Model(Box::new(image))
        }
    };
    Ok(Exported {
        form,
        image,
        digest: model.file.weights_digest(),
        model: model.path.clone(),
        network: model.spec.name.clone(),
        notes,
    })
}

/// The note that says where its thresholds are when others use the model.
fn without_thresholds(form: ExportForm, own: &TunedThresholds) -> String {
    let words = form.words();
    let what = match form {
        ExportForm::Checkpoint => {
            format!("a {words} has the decision thresholds in its `keepbest` entry alone")
        }
        ExportForm::StateDict => format!("a {words} cannot hold the decision thresholds"),
        ExportForm::Onnx => format!("an {words} cannot hold the decision thresholds"),
        ExportForm::Params => format!("{words} cannot hold the decision thresholds"),
    };
    format!(
        "{what}: whoever decides for the likeliest class has {} {} on {}, not {}",
        own.metric,
        value(own.before),
        own.split,
        value(own.after)
    )
}

/// All that training needs to go on in PyTorch.
fn checkpoint(model: &Model, notes: &mut Vec<String>) -> Result<Checkpoint, ExportError> {
    let metadata = model.file.metadata.as_ref();
    let evaluation = metadata.and_then(|metadata| metadata.evaluation.as_ref());
    // A metric that is not finite is text in JSON.
    let number = |value: &Value| {
        let text = || value.as_str()?.parse().ok();
        value.as_f64().or_else(text)
    };
    let metrics = evaluation
        .and_then(|evaluation| evaluation["metrics"].as_object())
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), number(value)?)))
        .collect();
    let optimizer = optimizer(model)?;
    if optimizer.is_none() {
        notes.push("the model has no optimizer state: training goes on with a fresh one".into());
    }
    Ok(Checkpoint {
        weights: model.file.weights.clone(),
        optimizer,
        epoch: metadata.map(|metadata| metadata.epoch),
        step: metadata.map(|metadata| metadata.step),
        metrics,
        classes: model.classes.clone(),
        preprocessing: Some(serde_json::to_value(&model.preprocessing)?),
        keepbest: Some(about_model(&model.file, &model.spec.to_json())),
    })
}

/// The optimizer's state, where the file has it and says whose it is.
fn optimizer(model: &Model) -> Result<Option<OptimizerState>, ExportError> {
    let Some(metadata) = &model.file.metadata else {
        return Ok(None);
    };
    let recorded = model
        .provenance
        .as_ref()
        .and_then(|provenance| provenance.optimizer.as_ref());
    // The trainer writes it down for whoever goes on elsewhere.
    let training = metadata.training.as_ref();
    let rate = training.and_then(|training| training["learning_rate"].as_f64());
    let (Some(config), Some(learning_rate)) = (recorded, rate) else {
        return Ok(None);
    };
    let network = Network::new(&model.spec)?;
    let trained = network.layout().tensors().iter();
    let trained = trained.filter(|tensor| tensor.role == Role::Trained);
    Ok(Some(OptimizerState {
        settings: config.clone(),
        learning_rate,
        steps: Some(metadata.step),
        parameters: trained.map(|tensor| tensor.name.clone()).collect(),
        // Of a moving average of the weights, PyTorch's optimizers know nothing.
        tensors: keepbest_nn::optimizer_state(&model.file.training),
    }))
}

fn onnx(
    model: &Model,
    export: ExportOptions,
    notes: &mut Vec<String>,
) -> Result<OnnxImage, ExportError> {
    let preprocessing = &model.preprocessing;
    let input = if export.preprocess_in_graph {
        notes.push(format!(
            "the graph takes images of {}x{} pixels, {}, as bytes: what resizes or decodes stays outside",
            preprocessing.input.height,
            preprocessing.input.width,
            count(preprocessing.input.channels as u64, "channel"),
        ));
        OnnxInput::Pixels {
            order: PixelOrder::ChannelsLast,
            divide_by: preprocessing.divide_by,
            mean: preprocessing.mean.clone(),
            std: preprocessing.std.clone(),
        }
    } else {
        OnnxInput::Normalised
    };
    let metadata = [
        ("preprocessing", serde_json::to_string(preprocessing)?),
        ("weights_digest", model.file.weights_digest().to_string()),
    ];
    let options = OnnxOptions {
        input,
        fold_batch_norm: export.fold_batch_norm,
        classes: model.classes.clone(),
        metadata: metadata.map(|(key, text)| (key.into(), text)).into(),
    };
    let network = Network::new(&model.spec)?;
    let graph = keepbest_nn::onnx::export(&network, &model.file.weights, &options)?;
    Ok(graph.encode()?)
}
