//! ONNX models without generated code: a small graph builder and its encoding, and a reader of what others wrote.
//!
//! ```
//! use keepbest_formats::{Tensor, onnx::{Attribute, ElementType, Graph, Model, Side, ValueInfo}};
//! let batch = |sides: &[usize]| {
//!     let mut shape = vec![Side::Named("N".into())];
//!     shape.extend(sides.iter().map(|&side| Side::Fixed(side)));
//!     shape
//! };
//! let mut graph = Graph::new("doubler");
//! graph.inputs.push(ValueInfo::new("x", ElementType::F32, batch(&[3])));
//! let two = graph.initializer("two", Tensor::from_f32(&[], &[2.0])?)?;
//! let y = graph.node("Mul", "double", &["x", &two], "y", vec![]);
//! graph.outputs.push(ValueInfo::new(&y, ElementType::F32, batch(&[3])));
//! let image = Model::new(graph).encode()?;
//! let mut file = Vec::new();
//! image.write_to(&mut file)?;
//! assert_eq!(file.len() as u64, image.total_len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reference: `onnx/onnx.proto` of ONNX 1.16 (IR version 10).

mod encode;
mod graph;
mod read;
mod summary;

pub use encode::OnnxImage;
pub use graph::{Attribute, ElementType, Graph, Model, Node, OnnxError, Side, ValueInfo};
pub use read::{
    AttributeProto, GraphProto, ModelProto, NodeProto, ReadError, ValueProto, read_tensor,
};
pub use summary::{Summary, summary};

/// The operator set that models are written for. onnxruntime has it since 1.20.
pub const OPSET: i64 = 21;

/// The version of the file format that goes with [`OPSET`].
pub const IR_VERSION: i64 = 10;
