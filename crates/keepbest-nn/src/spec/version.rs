//! The version that a spec is written in: the lowest that can say what it says. A build that knows no more reads it, and one
//! that knows less refuses it by its version.

use super::Layer;
use serde_json::{Map, Value};

/// The lowest version written: what version 1 could say, version 2 says in the same words.
const LOWEST: u32 = 2;

/// The version that `layers` need.
pub(crate) fn needed(layers: &[Layer]) -> u32 {
    of(&serde_json::to_value(layers).expect("a spec has string keys and finite numbers"))
}

/// The version that a value inside a spec needs: that of the newest op and setting in it.
fn of(value: &Value) -> u32 {
    match value {
        Value::Array(values) => values.iter().map(of).max().unwrap_or(LOWEST),
        Value::Object(table) => {
            let own = table.get("op").and_then(Value::as_str);
            let own = own.map_or(LOWEST, |op| layer(op, table));
            table.values().map(of).fold(own, u32::max)
        }
        _ => LOWEST,
    }
}

fn layer(op: &str, settings: &Map<String, Value>) -> u32 {
    let settings = settings.iter().map(|(key, value)| setting(op, key, value));
    settings.fold(Layer::since(op).max(LOWEST), u32::max)
}

/// The version since when an op of old takes a setting, in this form.
fn setting(op: &str, key: &str, value: &Value) -> u32 {
    match (op, key) {
        ("gelu", "approximate")
        | ("layer_scale", "flat" | "scalar")
        | ("max_pool2d", "dilation" | "ceil_mode")
        | ("avg_pool2d", "ceil_mode")
        | ("conv2d", "standardize")
        | ("batch_norm2d" | "layer_norm2d" | "group_norm", "affine") => 3,
        (_, "padding") if value.is_string() || value.as_array().is_some_and(|p| p.len() > 2) => 3,
        _ => LOWEST,
    }
}
