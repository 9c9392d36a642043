//! The version that a spec needs: the oldest whose readers know all that is in it.

use super::{Layer, SPEC_VERSION};
use serde_json::{Map, Value};

/// The version before [`SPEC_VERSION`].
const BEFORE: u32 = 2;

/// All ops of version 2.
const OPS: [&str; 25] = [
    "conv2d",
    "batch_norm2d",
    "layer_norm2d",
    "group_norm",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "hardsigmoid",
    "hardswish",
    "gelu",
    "max_pool2d",
    "avg_pool2d",
    "global_avg_pool2d",
    "adaptive_avg_pool2d",
    "flatten",
    "linear",
    "layer_scale",
    "dropout",
    "stochastic_depth",
    "sequential",
    "repeat",
    "residual",
    "gate",
    "branch",
];

/// Keys that an op has had from version 3 on. They are written only where they say something.
const KEYS: [(&str, &str); 3] = [
    ("max_pool2d", "dilation"),
    ("max_pool2d", "ceil_mode"),
    ("avg_pool2d", "ceil_mode"),
];

/// The version of a spec with these layers.
pub(super) fn needed(layers: &[Layer]) -> u32 {
    let layers = serde_json::to_value(layers).expect("layers have string keys and finite numbers");
    if is_new(&layers) {
        SPEC_VERSION
    } else {
        BEFORE
    }
}

/// Whether a layer that is new, or has a new setting, is in there.
fn is_new(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(is_new),
        Value::Object(table) => is_new_layer(table) || table.values().any(is_new),
        _ => false,
    }
}

fn is_new_layer(table: &Map<String, Value>) -> bool {
    let Some(Value::String(op)) = table.get("op") else {
        return false;
    };
    let uneven = match table.get("padding") {
        Some(Value::Array(sides)) => sides.len() > 2,
        padding => padding.is_some_and(Value::is_string),
    };
    let key = |(of, key): &(&str, &str)| of == op && table.contains_key(*key);
    uneven || !OPS.contains(&op.as_str()) || KEYS.iter().any(key)
}
