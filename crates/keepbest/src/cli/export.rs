//! `keepbest export`: a model for others.

use std::io::{self, Write};
use std::path::Path;

use keepbest_formats::model_file::{self, ModelFile, ModelImage, ModelMetadata};
use keepbest_formats::pth::{self, Checkpoint, OptimizerState, PthFile, Tree};
use keepbest_formats::{StateDict, onnx as onnx_file, weights_digest};
use keepbest_nn::onnx::{OnnxInput, OnnxOptions, PixelOrder};
use keepbest_nn::{Network, Role};
use keepbest_store::{BoxError, CommitError, holds};
use keepbest_train::{Model, Provenance, TrainerState, TunedThresholds, about_model};
use serde_json::{Value, json};

use crate::cli::args::{Compute, ExportArgs, Threads};
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, count, value};
use crate::cli::{model, output};

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    StateDict,
    Checkpoint,
    Onnx,
    Params,
}

impl Form {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("pth") => Ok(Self::StateDict),
            Some("pt") => Ok(Self::Checkpoint),
            Some("onnx") => Ok(Self::Onnx),
            Some("safetensors") => Ok(Self::Params),
            _ => {
                let message = format!("{} does not say what to write", path.display());
                let hint = "it ends with .pth, .pt, .onnx or .safetensors".to_owned();
                Err(Failure::new(Exit::Usage, message).with_hint(hint))
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::StateDict => "PyTorch state dict",
            Self::Checkpoint => "PyTorch checkpoint",
            Self::Onnx => "ONNX model",
            Self::Params => "safetensors with the parameters alone",
        }
    }
}

/// A file ready to be written.
enum Image {
    Pth(pth::PthImage),
    Onnx(onnx_file::OnnxImage),
    Model(Box<ModelImage>),
}

impl Image {
    fn len(&self) -> u64 {
        match self {
            Self::Pth(image) => image.total_len(),
            Self::Onnx(image) => image.total_len(),
            Self::Model(image) => image.total_len(),
        }
    }

    fn write_to(&self, mut out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Pth(image) => image.write_to(&mut out),
            Self::Onnx(image) => image.write_to(&mut out),
            Self::Model(image) => image.write_to(&mut out),
        }
    }
}

pub fn run(args: &ExportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let form = Form::of(&args.to)?;
    for (given, flag) in [
        (args.preprocess_in_graph, "--preprocess-in-graph"),
        (args.fold_batch_norm, "--fold-batch-norm"),
    ] {
        if given && form != Form::Onnx {
            return Err(Failure::new(
                Exit::Usage,
                format!("{flag} is for .onnx, not for a {}", form.words()),
            ));
        }
    }
    let compute = Compute {
        network: args.network.clone(),
        batch_size: 1,
        threads: Threads::default(),
        device: "cpu".into(),
    };
    let model = model::open(&args.model, &args.runs.runs_dir, &compute, terminal)?;
    let mut notes = Vec::new();
    if let Some(own) = &model.thresholds {
        notes.push(without_thresholds(form, own));
    }
    let image = match form {
        Form::StateDict => Image::Pth(encoded(pth::encode(&Tree::from(&model.file.weights)))?),
        Form::Checkpoint => Image::Pth(encoded(checkpoint(&model, &mut notes)?.encode())?),
        Form::Onnx => Image::Onnx(onnx(args, &model, &mut notes)?),
        Form::Params => {
            let metadata = model
                .file
                .metadata
                .clone()
                .unwrap_or_else(|| ModelMetadata {
                    preprocessing: serde_json::to_value(&model.preprocessing).ok(),
                    ..ModelMetadata::default()
                });
            let nothing = StateDict::new();
            let image = model_file::encode(&model.file.weights, &nothing, &metadata.into_params());
            Image::Model(Box::new(encoded(image)?))
        }
    };
    let digest = model.file.weights_digest();
    let verify = |staged: &Path| -> Result<(), BoxError> {
        if !holds(staged, |out| image.write_to(out))? {
            return Err("it holds other bytes than were written".into());
        }
        if matches!(form, Form::StateDict | Form::Checkpoint) {
            let found = weights_digest(&PthFile::open(staged)?.weights_as_named(None)?.weights);
            if found != digest {
                return Err("it holds other weights than were written".into());
            }
        }
        Ok(())
    };
    write(
        &args.to,
        args.force,
        image.len(),
        |out| image.write_to(out),
        verify,
    )?;

    if args.json {
        output::json(&json!({
            "model": model.path,
            "to": args.to,
            "kind": form.words(),
            "bytes": image.len(),
            "digest": digest,
            "network": model.spec.name,
            "notes": notes,
        }))?;
        return Ok(Exit::Done);
    }
    let warn = terminal.error_style().warn;
    for note in &notes {
        say!("{warn}note:{warn:#} {note}");
    }
    output::line(format!(
        "{}: {} of {}, {}",
        args.to.display(),
        form.words(),
        model.spec.name,
        bytes(image.len())
    ))?;
    Ok(Exit::Done)
}

/// Where its thresholds are when others use the model.
fn without_thresholds(form: Form, own: &TunedThresholds) -> String {
    let words = form.words();
    let what = match form {
        Form::Checkpoint => {
            format!("a {words} has the decision thresholds in its `keepbest` entry alone")
        }
        Form::StateDict => format!("a {words} cannot hold the decision thresholds"),
        Form::Onnx => format!("an {words} cannot hold the decision thresholds"),
        Form::Params => format!("{words} cannot hold the decision thresholds"),
    };
    format!(
        "{what}: whoever decides for the likeliest class has {} {} on {}, not {}",
        own.metric,
        value(own.before),
        own.split,
        value(own.after)
    )
}

/// Writes a file with the guarantees of the store, in words of the command line.
pub fn write(
    to: &Path,
    force: bool,
    length: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    verify: impl FnOnce(&Path) -> Result<(), BoxError> + Send,
) -> Result<(), Failure> {
    refuse_own(to)?;
    keepbest_store::write_file(to, force, length, write, verify).map_err(|error| match error {
        CommitError::Io(error) if error.source.kind() == io::ErrorKind::AlreadyExists => exists(to),
        error => Failure::of(Exit::Failed, &error),
    })
}

/// Refuses what is a run's own, whatever else may be replaced: a run would be damaged, and its best may be lost.
fn refuse_own(to: &Path) -> Result<(), Failure> {
    match keepbest_keeper::run_of_own_file(to) {
        Some(run) => {
            let message = format!("{} is a file of the run {}", to.display(), run.display());
            let hint = "name another file: what a run keeps is not written over".to_owned();
            Err(Failure::new(Exit::Usage, message).with_hint(hint))
        }
        None => Ok(()),
    }
}

/// Refuses a file that is there, unless it may be replaced, and a run's own. For verbs that take a while before they write.
pub fn refuse_existing(to: &Path, force: bool) -> Result<(), Failure> {
    refuse_own(to)?;
    match !force && to.symlink_metadata().is_ok() {
        true => Err(exists(to)),
        false => Ok(()),
    }
}

fn exists(to: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} exists already", to.display()))
        .with_hint("--force replaces it".to_owned())
}

/// Writes a small file, and the folders it lies in where they are missing, with the same guarantees.
pub fn write_bytes(to: &Path, force: bool, content: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Failure {
            causes: vec![error.to_string()],
            ..Failure::new(Exit::Failed, format!("cannot write {}", to.display()))
        })?;
    }
    write(
        to,
        force,
        content.len() as u64,
        |out| out.write_all(content),
        |staged| match std::fs::read(staged)? == content {
            true => Ok(()),
            false => Err("it does not read back as written".into()),
        },
    )
}

/// Writes a full model with the same guarantees: what is on disk is opened again and must have the image's seal.
pub fn write_model(to: &Path, force: bool, image: &ModelImage) -> Result<(), Failure> {
    write(
        to,
        force,
        image.total_len(),
        |mut out| image.write_to(&mut out),
        |staged| match ModelFile::open(staged)?.seal.as_ref() == Some(image.seal()) {
            true => Ok(()),
            false => Err("it holds other weights than were written".into()),
        },
    )
}

fn encoded<T, E: std::error::Error + 'static>(image: Result<T, E>) -> Result<T, Failure> {
    image.map_err(|error| Failure::of(Exit::Failed, &error))
}

/// All that training needs to go on in PyTorch.
fn checkpoint(model: &Model, notes: &mut Vec<String>) -> Result<Checkpoint, Failure> {
    let metadata = model.file.metadata.as_ref();
    let part = |part: Option<&Value>| part.cloned();
    let evaluation = part(metadata.and_then(|metadata| metadata.evaluation.as_ref()));
    // A metric that is not finite is text in JSON.
    let number = |value: &Value| {
        let text = || value.as_str()?.parse().ok();
        value.as_f64().or_else(text)
    };
    let metrics = evaluation
        .as_ref()
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
        preprocessing: Some(encoded(serde_json::to_value(&model.preprocessing))?),
        keepbest: Some(about_model(&model.file, &model.spec.to_json())),
    })
}

/// The optimizer's state, where the file has it and says whose it is.
fn optimizer(model: &Model) -> Result<Option<OptimizerState>, Failure> {
    let Some(metadata) = &model.file.metadata else {
        return Ok(None);
    };
    let recorded = model
        .provenance
        .as_ref()
        .and_then(|provenance: &Provenance| provenance.optimizer.as_ref());
    let state: Option<TrainerState> = metadata
        .training
        .as_ref()
        .and_then(|training| serde_json::from_value(training.clone()).ok());
    let (Some(config), Some(rate)) = (recorded, state.and_then(|state| state.learning_rate)) else {
        return Ok(None);
    };
    let network = Network::new(&model.spec).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let trained = network.layout().tensors().iter();
    let trained = trained.filter(|tensor| tensor.role == Role::Trained);
    let settings = encoded(serde_json::to_value(config).and_then(serde_json::from_value))?;
    Ok(Some(OptimizerState {
        settings,
        learning_rate: rate,
        steps: Some(metadata.step),
        parameters: trained.map(|tensor| tensor.name.clone()).collect(),
        // Of a moving average of the weights, PyTorch's optimizers know nothing.
        tensors: keepbest_nn::optimizer_state(&model.file.training),
    }))
}

fn onnx(
    args: &ExportArgs,
    model: &Model,
    notes: &mut Vec<String>,
) -> Result<onnx_file::OnnxImage, Failure> {
    let preprocessing = &model.preprocessing;
    let input = if args.preprocess_in_graph {
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
    let options = OnnxOptions {
        input,
        fold_batch_norm: args.fold_batch_norm,
        classes: model.classes.clone(),
        metadata: vec![
            (
                "preprocessing".into(),
                encoded(serde_json::to_string(preprocessing))?,
            ),
            (
                "weights_digest".into(),
                model.file.weights_digest().to_string(),
            ),
        ],
    };
    let network = Network::new(&model.spec).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let graph = encoded(keepbest_nn::onnx::export(
        &network,
        &model.file.weights,
        &options,
    ))?;
    encoded(graph.encode())
}
