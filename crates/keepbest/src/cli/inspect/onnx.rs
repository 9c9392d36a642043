//! ONNX models: named, with what they say about themselves.

use std::path::Path;

use keepbest_formats::onnx::{Summary, summary};
use serde_json::json;

use super::Facts;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::words::{bytes, shorten};

pub(super) fn run(path: &Path, file: &[u8], as_json: bool) -> Result<Exit, Failure> {
    let Some(Summary {
        ir_version,
        producer,
        producer_version,
        operator_sets,
        metadata,
        graph_bytes,
        ..
    }) = summary(file)
    else {
        let message = format!("{} looks like ONNX but is damaged", path.display());
        return Err(Failure::new(Exit::Failed, message));
    };
    let sets: Vec<String> = operator_sets
        .iter()
        .map(|(domain, version)| match domain.as_str() {
            "" => format!("ai.onnx {version}"),
            domain => format!("{domain} {version}"),
        })
        .collect();
    if as_json {
        output::json(&json!({
            "path": path,
            "bytes": file.len(),
            "kind": "onnx",
            "ir_version": ir_version,
            "producer": producer,
            "producer_version": producer_version,
            "operator_sets": sets,
            "graph_bytes": graph_bytes,
            "metadata": metadata.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        }))?;
        return Ok(Exit::Done);
    }
    let mut facts = Facts::new(path, file.len() as u64);
    facts.fact("kind", "ONNX model");
    facts.fact("producer", format!("{producer} {producer_version}").trim());
    facts.fact("format", format!("IR version {ir_version}"));
    facts.fact("operators", sets.join(", "));
    facts.fact("graph", bytes(graph_bytes));
    for (key, text) in &metadata {
        facts.fact(key, shorten(text, 64));
    }
    output::lines(&facts.lines())?;
    Ok(Exit::Done)
}
