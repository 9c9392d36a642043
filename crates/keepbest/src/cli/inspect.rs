//! `keepbest inspect`: what is in a model file. Nothing in it is run.

use keepbest_formats::StateDict;
use keepbest_formats::model_file::{Kind, ModelFile, ModelFileError, OpenError};
use serde_json::{Value, json};

use crate::cli::args::InspectArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::table::Table;
use crate::cli::words::{bytes, count, thousands};
use crate::cli::{model, output};

pub fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let (path, _temporary) = model::locate(&args.file, &args.runs.runs_dir)?;
    let size = std::fs::metadata(&path)
        .map(|metadata| metadata.len())
        .unwrap_or(0);
    let file = ModelFile::open(&path).map_err(|error| {
        let failure = Failure::of(Exit::Failed, &error);
        match error {
            // What it holds is the answer, even where keepbest cannot use it.
            OpenError::Model {
                source: ModelFileError::AnotherKind { .. },
                ..
            } => failure.with_hint(Some("keepbest reads safetensors files".to_owned())),
            _ => failure,
        }
    })?;
    let metadata = file.metadata.as_ref();
    let kind = metadata.map_or(
        "safetensors, not written by keepbest".to_owned(),
        |metadata| metadata.kind.to_string(),
    );
    if args.json {
        output::json(&json!({
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
            "evaluation": metadata.and_then(|metadata| metadata.evaluation.as_ref()),
            "training": metadata.and_then(|metadata| metadata.training.as_ref()),
            "provenance": metadata.and_then(|metadata| metadata.provenance.as_ref()),
            "weights": tensors_json(&file.weights),
            "optimizer": tensors_json(&file.training),
            "other": file.other,
        }))?;
        return Ok(Exit::Done);
    }
    let mut lines = vec![format!("{} ({})", path.display(), bytes(size))];
    let mut fact = |name: &str, text: String| lines.push(format!("{name:<13} {text}"));
    fact("kind", kind);
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
        fact(
            "trained",
            format!("{}, epoch {}", count(metadata.step, "step"), metadata.epoch),
        );
        if let Some(model) = &metadata.model {
            fact("network", text(&model["name"]));
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
        if let Some(provenance) = &metadata.provenance {
            fact("data", text(&provenance["data"]["source"]));
            fact("recipe", text(&provenance["recipe"]));
        }
    }
    for (key, text) in &file.other {
        fact(key, text.chars().take(200).collect());
    }
    fact("parameters", thousands(file.weights.total_elements()));
    output::lines(&wrap(&lines, 80))?;
    output::line("")?;
    output::lines(&tensors(&file.weights))?;
    if !file.training.is_empty() {
        output::line(format!(
            "\nand {} of optimizer state ({})",
            count(file.training.len() as u64, "tensor"),
            bytes(file.training.total_bytes())
        ))?;
    }
    Ok(Exit::Done)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn tensors(dict: &StateDict) -> Vec<String> {
    let mut table = Table::new(["tensor", "type", "shape", ">values"]);
    for (name, tensor) in dict.iter() {
        table.row([
            name.into(),
            tensor.dtype().to_string(),
            format!("{:?}", tensor.shape()),
            thousands(tensor.elements() as u64),
        ]);
    }
    table.lines()
}

fn tensors_json(dict: &StateDict) -> Vec<Value> {
    dict.iter()
        .map(|(name, tensor)| json!({"name": name, "dtype": tensor.dtype().to_string(), "shape": tensor.shape()}))
        .collect()
}

/// Lines of facts broken at blanks to `width`, what follows set in under the fact.
fn wrap(lines: &[String], width: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    for line in lines {
        let mut current = String::new();
        for word in line.split_inclusive(' ') {
            if current.chars().count() + word.trim_end().chars().count() > width
                && current.trim() != ""
            {
                wrapped.push(current.trim_end().to_owned());
                current = " ".repeat(14);
            }
            current.push_str(word);
        }
        wrapped.push(current.trim_end().to_owned());
    }
    wrapped
}
