//! What each layer costs: for people who choose a model.

use super::{Network, Op};

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
        let len = |id: usize| self.layout().tensors()[id].len();
        self.nodes
            .iter()
            .map(|node| {
                let out = self.values[node.output];
                let values = (out.h * out.w * out.c) as u64;
                let (op, parameters, flops) = match &node.op {
                    Op::Conv {
                        shape,
                        weight,
                        bias,
                        linear,
                        ..
                    } => {
                        let [kh, kw] = shape.kernel;
                        let op = if *linear {
                            "linear".to_owned()
                        } else {
                            format!("conv2d {kh}x{kw}")
                        };
                        let bias = bias.map_or(0, len);
                        (op, len(*weight) + bias, shape.flops_per_image())
                    }
                    Op::BatchNorm(bn) => {
                        let mut op = "batch_norm2d".to_owned();
                        if bn.residual.is_some() {
                            op += " + residual";
                        }
                        if bn.relu {
                            op += " + relu";
                        }
                        (op, len(bn.weight) + len(bn.bias), 2 * values)
                    }
                    Op::Relu => ("relu".to_owned(), 0, values),
                    Op::MaxPool(s) => pooled("max_pool2d", s.kernel, values),
                    Op::AvgPool { pool, .. } => pooled("avg_pool2d", pool.kernel, values),
                    Op::GlobalAvgPool => {
                        let input = self.values[node.input];
                        let flops = (input.h * input.w * input.c) as u64;
                        ("global_avg_pool2d".to_owned(), 0, flops)
                    }
                    Op::AdaptiveAvgPool([h, w]) => {
                        let input = self.values[node.input];
                        let flops = values.max((input.h * input.w * input.c) as u64);
                        (format!("adaptive_avg_pool2d {h}x{w}"), 0, flops)
                    }
                    Op::Pointwise(kind) => {
                        // One evaluation counts as one operation, as it does for the rectifier.
                        (format!("{kind:?}").to_lowercase(), 0, values)
                    }
                    Op::LayerNorm(norm) => {
                        let op = "layer_norm2d".to_owned();
                        (op, len(norm.weight) + len(norm.bias), 6 * values)
                    }
                    Op::GroupNorm { norm, groups } => {
                        let op = format!("group_norm {groups}");
                        (op, len(norm.weight) + len(norm.bias), 6 * values)
                    }
                    Op::LayerScale { weight } => ("layer_scale".to_owned(), len(*weight), values),
                    Op::Gate { .. } => ("gate".to_owned(), 0, values),
                    Op::Concat { .. } => ("concat".to_owned(), 0, 0),
                    Op::Dropout { p, .. } => (format!("dropout {p}"), 0, 0),
                    Op::StochasticDepth { p, .. } => (format!("stochastic_depth {p}"), 0, 0),
                    Op::Add { relu, .. } => {
                        let op = if *relu { "residual + relu" } else { "residual" };
                        (op.to_owned(), 0, values)
                    }
                };
                LayerSummary {
                    name: node.name.clone(),
                    op,
                    output: [out.c, out.h, out.w],
                    parameters,
                    flops,
                    bytes: values * size_of::<f32>() as u64,
                }
            })
            .collect()
    }

    /// Number of trained parameters.
    pub fn parameter_count(&self) -> usize {
        self.layout().trained_len()
    }
}

fn pooled(op: &str, [kh, kw]: [usize; 2], values: u64) -> (String, usize, u64) {
    (format!("{op} {kh}x{kw}"), 0, (kh * kw) as u64 * values)
}
