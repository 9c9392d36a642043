//! Models to bytes. Field numbers are those of `onnx.proto`.

use std::io::{self, Write};

use bytes::Bytes;

use super::graph::data_type;
use super::{Attribute, Graph, IR_VERSION, Model, Node, OPSET, OnnxError, Side, ValueInfo};
use crate::Tensor;
use crate::protobuf::Message;

/// A protocol buffer is shorter than 2 GiB.
const LARGEST: u64 = i32::MAX as u64;

/// An ONNX file ready to be written. It shares the tensors' bytes.
#[derive(Debug, Clone)]
pub struct OnnxImage {
    pieces: Vec<Bytes>,
}

impl OnnxImage {
    /// Bytes of the whole file.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Writes the file from first to last byte, without copying tensors. It may be called again:
    /// the bytes are the same each time.
    ///
    /// # Errors
    /// The errors of `writer`.
    pub fn write_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.pieces
            .iter()
            .try_for_each(|piece| writer.write_all(piece))
    }
}

impl Model {
    /// The image of the file. The same model gives the same bytes.
    ///
    /// # Errors
    /// When the model is too large for a protocol buffer.
    pub fn encode(&self) -> Result<OnnxImage, OnnxError> {
        let mut model = Message::default();
        model.int(1, IR_VERSION);
        model.text(2, "keepbest");
        model.text(3, env!("CARGO_PKG_VERSION"));
        model.message(7, |message| graph(message, &self.graph));
        model.message(8, |opset| {
            opset.text(1, "");
            opset.int(2, OPSET);
        });
        for (key, value) in &self.metadata {
            model.message(14, |entry| {
                entry.text(1, key);
                entry.text(2, value);
            });
        }
        let image = OnnxImage {
            pieces: model.into_pieces(),
        };
        match image.total_len() {
            bytes if bytes > LARGEST => Err(OnnxError::TooLarge {
                bytes,
                limit: LARGEST,
            }),
            _ => Ok(image),
        }
    }
}

fn graph(message: &mut Message, graph: &Graph) {
    for of in &graph.nodes {
        message.message(1, |message| node(message, of));
    }
    message.text(2, &graph.name);
    for (name, of) in &graph.initializers {
        message.message(5, |message| tensor(message, name, of));
    }
    for input in &graph.inputs {
        message.message(11, |message| value_info(message, input));
    }
    for output in &graph.outputs {
        message.message(12, |message| value_info(message, output));
    }
}

fn node(message: &mut Message, node: &Node) {
    for input in &node.inputs {
        message.text(1, input);
    }
    message.text(2, &node.output);
    message.text(3, &node.name);
    message.text(4, node.op);
    for (name, of) in &node.attributes {
        message.message(5, |message| attribute(message, name, of));
    }
}

fn attribute(message: &mut Message, name: &str, attribute: &Attribute) {
    message.text(1, name);
    // Field 20 is the type, which readers insist on.
    match attribute {
        Attribute::Float(value) => {
            message.float(2, *value);
            message.int(20, 1);
        }
        Attribute::Int(value) => {
            message.int(3, *value);
            message.int(20, 2);
        }
        Attribute::Text(text) => {
            message.text(4, text);
            message.int(20, 3);
        }
        Attribute::Ints(values) => {
            for &value in values {
                message.int(8, value);
            }
            message.int(20, 7);
        }
    }
}

/// Bytes of tensors are little-endian and row-major in both.
fn tensor(message: &mut Message, name: &str, tensor: &Tensor) {
    for &side in tensor.shape() {
        message.int(1, side as i64);
    }
    // The builder has refused what has no number.
    message.int(2, data_type(tensor.dtype()).unwrap_or_default());
    message.text(8, name);
    message.bytes(9, tensor.bytes());
}

fn value_info(message: &mut Message, value: &ValueInfo) {
    message.text(1, &value.name);
    message.message(2, |of_type| {
        of_type.message(1, |of_tensor| {
            of_tensor.int(1, value.element.number());
            of_tensor.message(2, |shape| {
                for side in &value.shape {
                    shape.message(1, |dimension| match side {
                        Side::Fixed(length) => dimension.int(1, *length as i64),
                        Side::Named(name) => dimension.text(2, name),
                    });
                }
            });
        });
    });
}
