//! Names of layers: those of the initialisers where they are as PyTorch writes them, else those of the nodes.

use keepbest_formats::onnx::NodeProto;
use std::collections::HashSet;

/// Last parts of the names of parameters.
const PARTS: [&str; 8] = [
    "weight",
    "bias",
    "gamma",
    "beta",
    "scale",
    "kernel",
    "running_mean",
    "running_var",
];

/// Longest name of a layer.
const LONGEST: usize = 200;

/// The names that are taken.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// A free name for a layer whose first parameter is called `parameter` in the graph.
    pub(super) fn layer(&mut self, parameter: Option<&str>, node: &NodeProto) -> String {
        let of_parameter = parameter.and_then(|name| {
            let (layer, part) = name.rsplit_once('.')?;
            PARTS.contains(&part).then(|| clean(layer))
        });
        self.free(of_parameter.unwrap_or_else(|| of_node(node)))
    }

    /// A free name for a parameter that is a layer's all, such as a layer scale's.
    pub(super) fn parameter(&mut self, parameter: Option<&str>, node: &NodeProto) -> String {
        let dotted = parameter.filter(|name| name.contains('.') && !name.contains("::"));
        self.free(dotted.map_or_else(|| of_node(node), clean))
    }

    fn free(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut copy = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted}_{copy}");
            copy += 1;
        }
        name
    }
}

/// `/layer1/layer1.0/conv1/Conv`, as PyTorch names its nodes, becomes `layer1.0.conv1`; any other name is taken as it is.
fn of_node(node: &NodeProto) -> String {
    let output = node.outputs.first().map_or("", String::as_str);
    let name = if node.name.is_empty() {
        output
    } else {
        &node.name
    };
    let mut parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    let plain =
        |part: &str| part.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_') == node.op;
    if parts.len() > 1 && parts.last().is_some_and(|part| plain(part)) {
        parts.pop();
    }
    // A module's name there begins with that of the module around it.
    let mut kept: Vec<&str> = Vec::new();
    for part in parts {
        if kept.last().is_some_and(|last| {
            part.strip_prefix(last)
                .is_some_and(|rest| rest.starts_with('.'))
        }) {
            kept.pop();
        }
        kept.push(part);
    }
    match clean(&kept.join(".")) {
        empty if empty.is_empty() => node.op.to_lowercase(),
        name => name,
    }
}

/// A name of letters, digits, dots and underscores.
fn clean(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    let parts = name
        .split('.')
        .map(|part| part.chars().map(plain).collect::<String>());
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    let name: String = parts.join(".").chars().take(LONGEST).collect();
    match parts.first().map(String::as_str) {
        // Model files keep these for something else.
        Some("optimizer" | "__metadata__") => format!("onnx.{name}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, op: &str) -> NodeProto {
        let mut node = NodeProto::default();
        (node.name, node.op) = (name.into(), op.into());
        node
    }

    #[test]
    fn names_are_those_that_pytorch_gives() {
        let mut names = Names::default();
        let conv = node("/layer1/layer1.0/conv1/Conv", "Conv");
        assert_eq!(
            names.layer(Some("layer1.0.conv1.weight"), &conv),
            "layer1.0.conv1"
        );
        assert_eq!(
            names.layer(Some("onnx::Conv_193"), &conv),
            "layer1.0.conv1_2"
        );
        assert_eq!(names.layer(None, &node("", "Conv")), "conv");
        assert_eq!(
            names.layer(Some("gpu_0/conv1_w_0"), &node("n5", "Conv")),
            "n5"
        );
        assert_eq!(
            names.layer(Some("optimizer.weight"), &conv),
            "onnx.optimizer"
        );
        assert_eq!(
            names.parameter(Some("stages.0.gamma"), &conv),
            "stages.0.gamma"
        );
    }
}
