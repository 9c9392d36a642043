//! Finding what is wrong with the text of a spec, so that the error says where and what is known there.

use super::{GraphNode, InputSize, Layer, ModelSpec, SPEC_VERSION, SpecError, fields};
use serde_json::{Map, Value};

/// Blocks may stand this deep in each other.
const MAX_DEPTH: usize = 32;

/// Keys under which a layer holds lists of layers.
const LISTS: [&str; 3] = ["layers", "body", "shortcut"];
const BRANCHES: &str = "branches";
const NODES: &str = "nodes";

/// Checks version, keys and ops, and every layer's settings.
pub(super) fn check(spec: &Value) -> Result<(), SpecError> {
    let Value::Object(spec) = spec else {
        return Err(invalid("", "a spec is a table of keys"));
    };
    match spec.get("version") {
        Some(Value::Number(version)) if version.as_u64().is_some_and(readable) => {}
        Some(Value::Number(version)) => {
            return Err(SpecError::Version {
                found: version.to_string(),
                newest: SPEC_VERSION,
            });
        }
        _ => return Err(invalid("", "`version` is missing or not a number")),
    }
    keys("", spec, fields::of::<ModelSpec>())?;
    if let Some(Value::Object(input)) = spec.get("input") {
        keys("input", input, fields::of::<InputSize>())?;
    }
    name("", spec)?;
    match spec.get("layers") {
        Some(Value::Array(layers)) => {
            list("layers", layers, 0)?;
            reserved("layers", layers)
        }
        _ => Err(invalid("", "`layers` is missing or not a list")),
    }
}

/// Longest name of a model, a layer or a block, in bytes.
const MAX_NAME: usize = 256;

fn name(at: &str, table: &Map<String, Value>) -> Result<(), SpecError> {
    match table.get("name") {
        Some(Value::String(name)) if name.len() > MAX_NAME => Err(invalid(
            at,
            format!("the name has {} bytes, more than {MAX_NAME}", name.len()),
        )),
        _ => Ok(()),
    }
}

/// First parts of names that model files keep for something else: training state, and what is said about the model.
const RESERVED: [&str; 2] = ["optimizer", "__metadata__"];

/// Refuses layers whose tensors could be trained and not saved, because their names are taken.
fn reserved(at: &str, layers: &[Value]) -> Result<(), SpecError> {
    for (position, layer) in layers.iter().enumerate() {
        let at = format!("{at}[{position}]");
        let first = match layer.get("name").and_then(Value::as_str) {
            // It adds nothing to the names of the layers inside.
            Some("") => {
                for key in LISTS {
                    if let Some(Value::Array(layers)) = layer.get(key) {
                        reserved(&format!("{at}.{key}"), layers)?;
                    }
                }
                if let Some(Value::Array(branches)) = layer.get(BRANCHES) {
                    for (number, branch) in branches.iter().enumerate() {
                        if let Value::Array(layers) = branch {
                            reserved(&format!("{at}.{BRANCHES}[{number}]"), layers)?;
                        }
                    }
                }
                if let Some(Value::Array(nodes)) = layer.get(NODES) {
                    let layers = nodes.iter().filter_map(|node| node.get("layer"));
                    let layers: Vec<Value> = layers.cloned().collect();
                    reserved(&format!("{at}.{NODES}"), &layers)?;
                }
                continue;
            }
            Some(name) => name.split('.').next().unwrap_or(name),
            None => continue,
        };
        if RESERVED.contains(&first) {
            let problem =
                format!("a layer cannot be called `{first}`: in model files the name is reserved");
            return Err(invalid(&at, problem));
        }
    }
    Ok(())
}

/// Every version so far is a part of the newest.
fn readable(version: u64) -> bool {
    (1..=u64::from(SPEC_VERSION)).contains(&version)
}

fn invalid(at: &str, problem: impl ToString) -> SpecError {
    SpecError::Invalid {
        at: at.to_owned(),
        problem: problem.to_string(),
    }
}

fn keys(at: &str, table: &Map<String, Value>, known: &[&'static str]) -> Result<(), SpecError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(SpecError::UnknownKey {
            at: at.to_owned(),
            key: key.clone(),
            known: known.to_vec(),
        }),
    }
}

fn list(at: &str, layers: &[Value], depth: usize) -> Result<(), SpecError> {
    if depth > MAX_DEPTH {
        return Err(invalid(
            at,
            format!("blocks are more than {MAX_DEPTH} deep"),
        ));
    }
    layers
        .iter()
        .enumerate()
        .try_for_each(|(position, value)| layer(&format!("{at}[{position}]"), value, depth))
}

/// A node of a graph: a layer, and what it reads.
fn graph_node(at: &str, node: &Value, depth: usize) -> Result<(), SpecError> {
    let Value::Object(table) = node else {
        return Err(invalid(at, "a node is a table with a `layer`"));
    };
    keys(at, table, fields::of::<GraphNode>())?;
    let Some(inner) = table.get("layer") else {
        return Err(invalid(at, "the node has no `layer`"));
    };
    if depth > MAX_DEPTH {
        return Err(invalid(
            at,
            format!("blocks are more than {MAX_DEPTH} deep"),
        ));
    }
    layer(&format!("{at}.layer"), inner, depth)?;
    let mut own = table.clone();
    own["layer"] = serde_json::json!({"op": "identity"});
    serde_json::from_value::<GraphNode>(Value::Object(own))
        .map(|_| ())
        .map_err(|error| invalid(at, error))
}

fn layer(at: &str, value: &Value, depth: usize) -> Result<(), SpecError> {
    let Value::Object(table) = value else {
        return Err(invalid(at, "a layer is a table with an `op`"));
    };
    let Some(Value::String(op)) = table.get("op") else {
        return Err(invalid(at, "the layer has no `op`"));
    };
    let all = Layer::known();
    let Some((_, known)) = all.iter().find(|(known, _)| known == op) else {
        return Err(SpecError::UnknownOp {
            at: at.to_owned(),
            op: op.clone(),
            known: all.iter().map(|(op, _)| *op).collect(),
        });
    };
    let at = format!("{at} ({op})");
    name(&at, table)?;
    let mut own = table.clone();
    own.shift_remove("op");
    keys(&at, &own, known)?;
    for key in LISTS {
        if let Some(Value::Array(layers)) = table.get(key) {
            list(&format!("{at}.{key}"), layers, depth + 1)?;
            own[key] = Value::Array(vec![]);
        }
    }
    if let Some(Value::Array(branches)) = table.get(BRANCHES) {
        for (number, branch) in branches.iter().enumerate() {
            if let Value::Array(layers) = branch {
                list(&format!("{at}.{BRANCHES}[{number}]"), layers, depth + 1)?;
            }
        }
        let none = branches.iter().map(|branch| match branch {
            Value::Array(_) => Value::Array(vec![]),
            other => other.clone(),
        });
        own[BRANCHES] = Value::Array(none.collect());
    }
    if let Some(Value::Array(nodes)) = table.get(NODES) {
        for (number, node) in nodes.iter().enumerate() {
            graph_node(&format!("{at}.{NODES}[{number}]"), node, depth + 1)?;
        }
        own[NODES] = Value::Array(vec![]);
    }
    // The layers inside have been read: what may still be wrong is this layer's own.
    own.insert("op".to_owned(), Value::String(op.clone()));
    serde_json::from_value::<Layer>(Value::Object(own))
        .map(|_| ())
        .map_err(|error| invalid(&at, error))
}
