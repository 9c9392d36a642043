//! Safetensors files, keepbest's and others'.

use std::path::Path;

use keepbest_formats::model_file::{Kind, ModelFile, ModelMetadata};
use keepbest_formats::sharded;
use keepbest_model::words::count;
use keepbest_model::{Checked, OtherLoop};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Facts, tensors};
use crate::cli::failure::{Exit, Failure};
use crate::cli::import::agreement;
use crate::cli::output;
use crate::cli::thresholds;
use crate::cli::words::bytes;

pub(super) fn run(
    path: &Path,
    size: u64,
    file: &ModelFile,
    as_json: bool,
) -> Result<Exit, Failure> {
    let metadata = file.metadata.as_ref();
    let kind = match metadata {
        Some(ModelMetadata {
            kind: Kind::Full,
            attachments,
            ..
        }) if attachments.model.is_none() => {
            "weights and training state, without a network".to_owned()
        }
        Some(metadata) => metadata.kind.to_string(),
        None if path.is_dir() || sharded::is_index(path) => {
            "weights in several files, not written by keepbest".into()
        }
        None => "safetensors, not written by keepbest".into(),
    };
    if as_json {
        output::json(&as_value(path, size, file))?;
        return Ok(Exit::Done);
    }
    let mut facts = Facts::new(path, size);
    let mut fact = |name: &str, text: String| facts.fact(name, text);
    fact("kind", kind);
    if let Some(seal) = &file.seal {
        fact(
            "producer",
            format!("{}, schema {}", seal.producer, seal.schema),
        );
    }
    fact(
        "digest",
        format!(
            "{} ({})",
            file.weights_digest(),
            if file.seal.is_some() {
                "verified"
            } else {
                "computed"
            }
        ),
    );
    if let Some(metadata) = metadata {
        recorded(path, metadata, &mut fact);
    }
    for (key, text) in &file.other {
        fact(key, text.chars().take(200).collect());
    }
    fact("parameters", tensors::parameters(&file.weights));
    output::lines(&facts.lines())?;
    output::line("")?;
    output::lines(&tensors::table(&file.weights))?;
    if !file.training.is_empty() {
        output::line("")?;
        output::line(format!(
            "and {} of optimizer state ({})",
            count(file.training.len() as u64, "tensor"),
            bytes(file.training.total_bytes())
        ))?;
    }
    Ok(Exit::Done)
}

/// Everything about the file as JSON.
fn as_value(path: &Path, size: u64, file: &ModelFile) -> Value {
    let metadata = file.metadata.as_ref();
    json!({
        "path": path,
        "bytes": size,
        "kind": metadata.map_or("foreign", |metadata| match metadata.kind {
            Kind::Full => "full",
            Kind::Params => "params",
        }),
        "verified": file.seal.is_some(),
        "digest": file.weights_digest(),
        "step": metadata.map(|metadata| metadata.step),
        "epoch": metadata.map(|metadata| metadata.epoch),
        "classes": metadata.map(|metadata| &metadata.classes),
        "model": metadata.and_then(|metadata| metadata.model.as_ref()),
        "preprocessing": metadata.and_then(|metadata| metadata.preprocessing.as_ref()),
        "thresholds": metadata.and_then(|metadata| metadata.thresholds.as_ref()),
        "evaluation": metadata.and_then(|metadata| metadata.evaluation.as_ref()),
        "training": metadata.and_then(|metadata| metadata.training.as_ref()),
        "provenance": metadata.and_then(|metadata| metadata.provenance.as_ref()),
        "producer": file.seal.as_ref().map(|seal| &seal.producer),
        "parameters": tensors::counts(&file.weights).0,
        "buffers": tensors::counts(&file.weights).1,
        "weights": tensors::json(&file.weights),
        "optimizer": tensors::json(&file.training),
        "other": file.other,
    })
}

/// The facts that keepbest recorded about its model.
fn recorded(path: &Path, metadata: &ModelMetadata, fact: &mut impl FnMut(&str, String)) {
    fact(
        "trained",
        format!("{}, epoch {}", count(metadata.step, "step"), metadata.epoch),
    );
    if let Some(model) = &metadata.model {
        let name = &model["name"];
        fact(
            "network",
            name.as_str().map_or_else(|| name.to_string(), Into::into),
        );
        let input = &model["input"];
        fact(
            "input",
            format!(
                "{}x{}x{}",
                input["height"], input["width"], input["channels"]
            ),
        );
    }
    if !metadata.classes.is_empty() {
        fact(
            "classes",
            format!(
                "{}: {}",
                metadata.classes.len(),
                metadata.classes.join(", ")
            ),
        );
    }
    if let Some(own) = thresholds::of(metadata) {
        fact("decides", format!("by {}", own.words()));
        fact("", own.by_class(&metadata.classes).join(", "));
    }
    if let Some(evaluation) = metadata
        .evaluation
        .as_ref()
        .and_then(|evaluation| evaluation["metrics"].as_object())
    {
        for name in ["val/accuracy", "val/loss"] {
            if let Some(value) = evaluation.get(name).and_then(Value::as_f64) {
                fact(name, format!("{value:.4}"));
            }
        }
    }
    // What another training loop says of its models it says in a form of its own.
    let provenance = metadata.provenance.as_ref();
    for (name, pointer) in [("data", "/data/source"), ("recipe", "/recipe")] {
        if let Some(words) = provenance.and_then(|own| own.pointer(pointer)?.as_str()) {
            fact(name, words.to_owned());
        }
    }
    if let Some(imported) = provenance.and_then(|own| own.get("imported")) {
        let text = |key: &str| imported[key].as_str().unwrap_or_default().to_owned();
        let (format, producer) = (text("format"), text("producer"));
        fact(
            "imported",
            format!("from {} ({format} of {producer})", text("file")),
        );
        let checked = Checked::deserialize(&imported["checked"]);
        fact(
            "checked",
            checked.map_or_else(
                |_| "against nothing".to_owned(),
                |checked| agreement(&checked),
            ),
        );
    }
    if metadata.model.is_none()
        && let Some(by) = OtherLoop::around(path)
    {
        fact("kept by", format!("{by}: the network is that program's"));
    }
}
