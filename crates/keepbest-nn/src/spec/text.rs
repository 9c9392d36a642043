//! A spec as a TOML file: a layer a line, blocks indented.

use super::{GraphNode, Layer, ModelSpec, SpecError};
use serde_json::{Map, Value};

impl ModelSpec {
    /// Reads a spec from a TOML model file.
    ///
    /// # Errors
    /// [`SpecError::Toml`] for text that is no TOML, and what [`ModelSpec::from_json`] finds.
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        let value = toml::from_str(text).map_err(|error| not_toml(text, &error))?;
        Self::from_json(&value)
    }

    /// The spec as a TOML model file, a layer a line. [`ModelSpec::from_toml`] gives the same spec again.
    ///
    /// ```
    /// use keepbest_nn::{ModelSpec, zoo};
    /// let spec = zoo::spec("resnet18", &zoo::ZooOptions::new(3, 32, 32, 10))?;
    /// let text = spec.to_toml();
    /// assert!(text.contains(r#"{ op = "batch_norm2d", name = "bn1" },"#));
    /// assert_eq!(spec, ModelSpec::from_toml(&text)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "version = {}\nname = {}\ninput = {}\nclasses = {}\n\nlayers = [\n",
            self.version,
            toml::Value::from(self.name.as_str()),
            inline(&serde_json::to_value(self.input).expect("three numbers")),
            self.classes,
        );
        list(&self.layers, 1, &mut out);
        out += "]\n";
        out
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> SpecError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.as_bytes().iter().take(at);
    SpecError::Toml {
        line: 1 + before.filter(|byte| **byte == b'\n').count(),
        message: error.message().trim().replace('\n', ", "),
    }
}

fn list(layers: &[Layer], depth: usize, out: &mut String) {
    for each in layers {
        *out += &"  ".repeat(depth);
        layer(each, depth, out);
        *out += ",\n";
    }
}

fn layer(layer: &Layer, depth: usize, out: &mut String) {
    let table = match serde_json::to_value(layer) {
        Ok(Value::Object(table)) => table,
        _ => unreachable!("a layer is a table"),
    };
    // Lists of layers are written from the layers themselves, a layer a line.
    let blocks: Vec<(&str, &[Layer])> = match layer {
        Layer::Sequential(block) => vec![("layers", &block.layers)],
        Layer::Repeat(block) => vec![("layers", &block.layers)],
        Layer::Gate(block) => vec![("body", &block.body)],
        Layer::Residual(block) if block.shortcut.is_empty() => vec![("body", &block.body)],
        Layer::Residual(block) => vec![("body", &block.body), ("shortcut", &block.shortcut)],
        _ => vec![],
    };
    let pad = "  ".repeat(depth);
    let mut parts = settings(&table, &blocks);
    for (key, layers) in blocks {
        let mut text = format!("{key} = [\n");
        list(layers, depth + 1, &mut text);
        text += &format!("{pad}]");
        parts.push(text);
    }
    if let Layer::Branch(block) = layer {
        let mut text = "branches = [\n".to_owned();
        for branch in &block.branches {
            if branch.is_empty() {
                text += &format!("{pad}  [],\n");
                continue;
            }
            text += &format!("{pad}  [\n");
            list(branch, depth + 2, &mut text);
            text += &format!("{pad}  ],\n");
        }
        text += &format!("{pad}]");
        parts.push(text);
    }
    if let Layer::Graph(graph) = layer {
        let mut text = "nodes = [\n".to_owned();
        for each in &graph.nodes {
            node(each, depth + 1, &mut text);
        }
        text += &format!("{pad}]");
        parts.push(text);
    }
    *out += &format!("{{ {} }}", parts.join(", "));
}

/// A node of a graph: what it is called and reads before its layer.
fn node(node: &GraphNode, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    *out += &format!("{pad}{{ ");
    if let Some(id) = &node.id {
        *out += &format!("id = {}, ", toml::Value::from(id.as_str()));
    }
    if !node.from.is_empty() {
        *out += &format!("from = {}, ", toml::Value::from(node.from.clone()));
    }
    *out += "layer = ";
    layer(&node.layer, depth, out);
    *out += " },\n";
}

/// `key = value` of everything but the blocks.
fn settings(table: &Map<String, Value>, blocks: &[(&str, &[Layer])]) -> Vec<String> {
    table
        .iter()
        .filter(|(key, _)| {
            !["branches", "nodes"].contains(&key.as_str())
                && blocks.iter().all(|(block, _)| block != key)
        })
        .map(|(key, value)| format!("{key} = {}", inline(value)))
        .collect()
}

/// A value on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(table) => format!("{{ {} }}", settings(table, &[]).join(", ")),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(inline).collect();
            format!("[{}]", values.join(", "))
        }
        Value::String(text) => toml::Value::from(text.as_str()).to_string(),
        // Numbers and truth values are written alike in JSON and TOML.
        other => other.to_string(),
    }
}
