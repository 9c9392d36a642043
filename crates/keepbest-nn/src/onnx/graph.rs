//! From the flattened network to ONNX operations.

use super::{ExportError, OnnxInput, OnnxOptions, PixelOrder};
use crate::network::Network;
use crate::ops::onnx::{Value, Writer, ints, tensor};
use crate::ops::operation::{At, FixedNorm};
use crate::spec::InputSize;
use keepbest_formats::StateDict;
use keepbest_formats::onnx::{Attribute, ElementType, Graph, OnnxError, Side, ValueInfo};

/// The graph of `network`; weights and options have been checked.
pub(super) fn build(
    network: &Network,
    weights: &StateDict,
    options: &OnnxOptions,
) -> Result<Graph, ExportError> {
    let folded = if options.fold_batch_norm {
        foldable(network)
    } else {
        vec![None; network.values.len()]
    };
    let spec = network.spec();
    let mut writer = Writer::new(&spec.name, network.layout(), weights, folded);
    let images = input(&mut writer, spec.input, &options.input)?;
    writer.made(0, Value::map(images));
    for node in &network.nodes {
        let at = At {
            layer: &node.name,
            input: node.input,
            output: node.output,
            shapes: network.shapes(node),
        };
        let value = node.op.onnx(&mut writer, at)?;
        writer.made(node.output, value);
    }
    let logits = writer.flat(network.output);
    let mut graph = writer.graph;
    let name = graph.node("Identity", "logits", &[&logits], "logits", vec![]);
    let shape = vec![batch(), Side::Fixed(network.classes())];
    let output = ValueInfo::new(name, ElementType::F32, shape);
    graph.outputs.push(output);
    Ok(graph)
}

/// Norms that are alone in reading what a convolution makes.
fn foldable(network: &Network) -> Vec<Option<FixedNorm>> {
    let mut folds = vec![false; network.values.len()];
    for node in &network.nodes {
        folds[node.output] = node.op.folds_norm();
    }
    let mut folded = vec![None; network.values.len()];
    for node in &network.nodes {
        if folds[node.input] && network.readers(node.input) == 1 {
            folded[node.input] = node.op.fixed_norm();
        }
    }
    folded
}

fn batch() -> Side {
    Side::Named("N".to_owned())
}

/// Declares the input and gives the name of the normalised images `[N, C, H, W]`.
fn input(writer: &mut Writer<'_>, size: InputSize, input: &OnnxInput) -> Result<String, OnnxError> {
    let (c, h, w) = (size.channels, size.height, size.width);
    let sides = |sides: [usize; 3]| {
        let mut shape = vec![batch()];
        shape.extend(sides.map(Side::Fixed));
        shape
    };
    let OnnxInput::Pixels {
        order,
        divide_by,
        mean,
        std,
    } = input
    else {
        let info = ValueInfo::new("input", ElementType::F32, sides([c, h, w]));
        writer.graph.inputs.push(info);
        return Ok("input".to_owned());
    };
    let shape = match order {
        PixelOrder::ChannelsLast => sides([h, w, c]),
        PixelOrder::ChannelsFirst => sides([c, h, w]),
    };
    let info = ValueInfo::new("images", ElementType::U8, shape);
    writer.graph.inputs.push(info);
    let mut x = "images".to_owned();
    // Bytes are moved rather than floats: a quarter of the memory.
    if *order == PixelOrder::ChannelsLast {
        let perm = vec![("perm", ints(&[0, 3, 1, 2]))];
        x = writer.op("Transpose", "preprocessing", &[&x], perm);
    }
    let to = vec![("to", Attribute::Int(1))];
    x = writer.op("Cast", "preprocessing", &[&x], to);
    for (op, name, values) in [
        ("Div", "divide_by", &[*divide_by][..]),
        ("Sub", "mean", mean),
        ("Div", "std", std),
    ] {
        let constant = tensor(&[1, values.len(), 1, 1], values);
        let name = format!("preprocessing.{name}");
        let constant = writer.graph.initializer(name, constant)?;
        x = writer.op(op, "preprocessing", &[&x, &constant], vec![]);
    }
    Ok(x)
}
