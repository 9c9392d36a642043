//! What each layer costs: for people who choose a model.

use super::Network;
use crate::ops::operation::{ParamId, Work};

/// One layer of a network, in words and numbers.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LayerSummary {
    /// Dotted name.
    pub name: String,
    /// What it computes, such as `conv2d 3x3` or `batch_norm2d + relu`.
    pub op: String,
    /// Output `[channels, height, width]` of one image.
    pub output: [usize; 3],
    /// Trained parameters.
    pub parameters: usize,
    /// Floating-point operations (multiplications and additions) of one image, forward.
    pub flops: u64,
    /// Bytes of one image's output.
    pub bytes: u64,
}

impl Network {
    /// One entry an operation, in order.
    pub fn summary(&self) -> Vec<LayerSummary> {
        let len = |id: ParamId| self.layout().tensors()[id].len();
        self.nodes
            .iter()
            .map(|node| {
                let shapes = self.shapes(node);
                let out = shapes.output;
                let Work { name, flops } = node.op.summary(shapes);
                LayerSummary {
                    name: node.name.clone(),
                    op: name,
                    output: [out.c, out.h, out.w],
                    parameters: node.op.learned().iter().map(len).sum(),
                    flops,
                    bytes: (out.values() * size_of::<f32>()) as u64,
                }
            })
            .collect()
    }

    /// Number of trained parameters.
    pub fn parameter_count(&self) -> usize {
        self.layout().trained_len()
    }
}
