//! Tensors as a table, for people and programs.

use keepbest_formats::StateDict;
use keepbest_model::words::{thousands, value};
use serde_json::{Value, json};

use crate::cli::table::Table;
use crate::cli::words::tail;

/// What is no parameter: running statistics of batch norm, and its counter.
const BUFFERS: [&str; 3] = ["running_mean", "running_var", "num_batches_tracked"];

/// The widest name that leaves room for the other columns.
const NAME: usize = 41;

fn is_buffer(name: &str) -> bool {
    BUFFERS.contains(&name.rsplit('.').next().unwrap_or(name))
}

/// `421,834 in 10 tensors, and 194 values of batch norm's buffers`.
pub(super) fn parameters(dict: &StateDict) -> String {
    let (parameters, buffers) = counts(dict);
    let mut text = thousands(parameters);
    if buffers > 0 {
        text.push_str(&format!(", and {} values in buffers", thousands(buffers)));
    }
    text
}

/// Number of values in parameters and in buffers.
pub(super) fn counts(dict: &StateDict) -> (u64, u64) {
    let mut counts = (0, 0);
    for (name, tensor) in dict.iter() {
        let count = if is_buffer(name) {
            &mut counts.1
        } else {
            &mut counts.0
        };
        *count += tensor.elements() as u64;
    }
    counts
}

/// The table, and a line for each tensor with NaN or infinities.
pub(super) fn table(dict: &StateDict) -> Vec<String> {
    let mut table = Table::new(["tensor", "type", "shape", ">norm", ">NaN"]);
    let mut infinite = Vec::new();
    for (name, tensor) in dict.iter() {
        let stats = tensor.stats();
        table.row([
            tail(name, NAME),
            tensor.dtype().to_string(),
            format!("{:?}", tensor.shape()),
            stats.map_or("-".into(), |stats| value(stats.norm)),
            stats.map_or("-".into(), |stats| thousands(stats.nan)),
        ]);
        if let Some(stats) = stats.filter(|stats| stats.infinite > 0) {
            infinite.push(format!("{name}: {} infinite", thousands(stats.infinite)));
        }
    }
    let mut lines = table.lines();
    lines.extend(infinite);
    lines
}

/// The same for programs.
pub(super) fn json(dict: &StateDict) -> Vec<Value> {
    dict.iter()
        .map(|(name, tensor)| {
            let stats = tensor.stats();
            json!({
                "name": name,
                "dtype": tensor.dtype().to_string(),
                "shape": tensor.shape(),
                "buffer": is_buffer(name),
                "norm": stats.map(|stats| stats.norm),
                "nan": stats.map(|stats| stats.nan),
                "infinite": stats.map(|stats| stats.infinite),
            })
        })
        .collect()
}
