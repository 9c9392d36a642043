//! From the flattened network to ONNX operations.

mod composed;

use super::{ExportError, OnnxInput, OnnxOptions, PixelOrder};
use crate::network::{BatchNorm, Network, Node, Op, ParamId, ValueId};
use keepbest_formats::onnx::{Attribute, ElementType, Graph, OnnxError, Side, ValueInfo};
use keepbest_formats::{StateDict, Tensor};
use keepbest_kernels::{ConvShape, PoolShape};
use std::collections::BTreeSet;

/// A value as it is in the graph.
#[derive(Clone)]
struct Value {
    name: String,
    /// `[N, features]` rather than `[N, C, H, W]`.
    flat: bool,
}

struct Builder<'a> {
    network: &'a Network,
    weights: &'a StateDict,
    graph: Graph,
    /// Of each value of the network, what it is in the graph once it is made.
    values: Vec<Option<Value>>,
    /// Of each value, the batch norm that becomes part of the convolution that makes it.
    folded: Vec<Option<&'a BatchNorm>>,
    /// Names of constants that several operations share.
    constants: BTreeSet<String>,
}

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
    let mut builder = Builder {
        network,
        weights,
        graph: Graph::new(network.spec().name.clone()),
        values: vec![None; network.values.len()],
        folded,
        constants: BTreeSet::new(),
    };
    builder.values[0] = Some(Value {
        name: builder.input(&options.input)?,
        flat: false,
    });
    for node in &network.nodes {
        let value = builder.node(node)?;
        builder.values[node.output] = Some(value);
    }
    let logits = builder.flat(network.output);
    let name = builder
        .graph
        .node("Identity", "logits", &[&logits], "logits", vec![]);
    let shape = vec![batch(), Side::Fixed(network.classes())];
    let output = ValueInfo::new(name, ElementType::F32, shape);
    builder.graph.outputs.push(output);
    Ok(builder.graph)
}

/// Batch norms that are alone in reading what a convolution makes.
fn foldable(network: &Network) -> Vec<Option<&BatchNorm>> {
    let mut readers = vec![0; network.values.len()];
    let mut by_conv = vec![false; network.values.len()];
    readers[network.output] += 1;
    for node in &network.nodes {
        readers[node.input] += 1;
        if let Some(other) = node.other() {
            readers[other] += 1;
        }
        by_conv[node.output] = matches!(node.op, Op::Conv { linear: false, .. });
    }
    let mut folded = vec![None; network.values.len()];
    for node in &network.nodes {
        if let Op::BatchNorm(bn) = &node.op
            && by_conv[node.input]
            && readers[node.input] == 1
        {
            folded[node.input] = Some(bn);
        }
    }
    folded
}

fn batch() -> Side {
    Side::Named("N".to_owned())
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// Padding on the sides: all begins, then all ends.
fn pads([h, w]: [usize; 2]) -> Attribute {
    ints(&[h, w, h, w])
}

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).expect("as many values as the shape has")
}

impl Builder<'_> {
    /// Declares the input and gives the name of the normalised images `[N, C, H, W]`.
    fn input(&mut self, input: &OnnxInput) -> Result<String, OnnxError> {
        let size = self.network.spec().input;
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
            self.graph.inputs.push(info);
            return Ok("input".to_owned());
        };
        let shape = match order {
            PixelOrder::ChannelsLast => sides([h, w, c]),
            PixelOrder::ChannelsFirst => sides([c, h, w]),
        };
        let info = ValueInfo::new("images", ElementType::U8, shape);
        self.graph.inputs.push(info);
        let mut x = "images".to_owned();
        // Bytes are moved rather than floats: a quarter of the memory.
        if *order == PixelOrder::ChannelsLast {
            let perm = vec![("perm", ints(&[0, 3, 1, 2]))];
            x = self.op("Transpose", "preprocessing", &[&x], perm);
        }
        let to = vec![("to", Attribute::Int(1))];
        x = self.op("Cast", "preprocessing", &[&x], to);
        for (op, name, values) in [
            ("Div", "divide_by", &[*divide_by][..]),
            ("Sub", "mean", mean),
            ("Div", "std", std),
        ] {
            let constant = tensor(&[1, values.len(), 1, 1], values);
            let constant = self
                .graph
                .initializer(format!("preprocessing.{name}"), constant)?;
            x = self.op(op, "preprocessing", &[&x, &constant], vec![]);
        }
        Ok(x)
    }

    fn op(
        &mut self,
        op: &'static str,
        layer: &str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let name = format!("{layer}/{op}");
        let output = format!("{name}_output");
        self.graph.node(op, name, inputs, output, attributes)
    }

    /// A value that is made already.
    fn value(&self, value: ValueId) -> Value {
        self.values[value]
            .clone()
            .expect("nodes stand in the order in which they compute")
    }

    /// A value as `[N, features]`.
    fn flat(&mut self, value: ValueId) -> String {
        let Value { name, flat } = self.value(value);
        if flat {
            return name;
        }
        let axis = vec![("axis", Attribute::Int(1))];
        self.graph.node(
            "Flatten",
            format!("{name}/Flatten"),
            &[&name],
            format!("{name}_flat"),
            axis,
        )
    }

    /// Two values in one form.
    fn alike(&mut self, a: ValueId, b: ValueId) -> (String, String, bool) {
        let (x, y) = (self.value(a), self.value(b));
        if x.flat == y.flat {
            (x.name, y.name, x.flat)
        } else {
            (self.flat(a), self.flat(b), true)
        }
    }

    fn param(&self, id: ParamId) -> (&str, &Tensor) {
        let name = &self.network.layout().tensors()[id].name;
        let tensor = self.weights.get(name);
        (name, tensor.expect("the weights have been checked"))
    }

    fn floats(&self, id: ParamId) -> Vec<f32> {
        let (_, tensor) = self.param(id);
        tensor
            .as_f32()
            .expect("the weights have been checked")
            .into_owned()
    }

    fn initializer(&mut self, id: ParamId) -> Result<String, OnnxError> {
        let (name, tensor) = self.param(id);
        let (name, tensor) = (name.to_owned(), tensor.clone());
        self.graph.initializer(name, tensor)
    }

    /// The weights of a convolution; those of a linear layer at each pixel have PyTorch's `[out, in]`.
    fn kernel(&mut self, id: ParamId) -> Result<String, OnnxError> {
        let (name, tensor) = self.param(id);
        let tensor = Tensor::new(tensor.dtype(), kernel_shape(tensor), tensor.bytes().clone())
            .expect("as many values as before");
        let name = name.to_owned();
        self.graph.initializer(name, tensor)
    }

    fn node(&mut self, node: &Node) -> Result<Value, OnnxError> {
        let layer = node.name.as_str();
        let Value { name: x, flat } = self.value(node.input);
        let map = |name| Value { name, flat: false };
        Ok(match &node.op {
            Op::Conv {
                weight,
                bias,
                linear: true,
                ..
            } => {
                let mut inputs = vec![self.flat(node.input), self.initializer(*weight)?];
                if let Some(bias) = bias {
                    inputs.push(self.initializer(*bias)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let transposed = vec![("transB", Attribute::Int(1))];
                Value {
                    name: self.op("Gemm", layer, &inputs, transposed),
                    flat: true,
                }
            }
            Op::Conv {
                shape,
                weight,
                bias,
                linear: false,
                ..
            } => {
                let mut inputs = vec![x];
                match self.folded[node.output] {
                    Some(bn) => inputs.extend(self.folded_weights(layer, *weight, *bias, bn)?),
                    None => {
                        inputs.push(self.kernel(*weight)?);
                        if let Some(bias) = bias {
                            inputs.push(self.initializer(*bias)?);
                        }
                    }
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                map(self.op("Conv", layer, &inputs, conv_attributes(shape)))
            }
            Op::BatchNorm(bn) => {
                let mut x = x;
                if self.folded[node.input].is_none() {
                    let mut inputs = vec![x];
                    for id in [bn.weight, bn.bias, bn.running_mean, bn.running_var] {
                        inputs.push(self.initializer(id)?);
                    }
                    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                    let eps = vec![("epsilon", Attribute::Float(bn.eps as f32))];
                    x = self.op("BatchNormalization", layer, &inputs, eps);
                }
                if let Some(other) = bn.residual {
                    let other = self.value(other).name;
                    x = self.op("Add", layer, &[&x, &other], vec![]);
                }
                map(self.relu_if(bn.relu, layer, x))
            }
            Op::Relu => Value {
                name: self.relu_if(true, layer, x),
                flat,
            },
            Op::MaxPool(pool) => map(self.op("MaxPool", layer, &[&x], pool_attributes(pool))),
            Op::AvgPool {
                pool,
                count_include_pad,
            } => {
                let mut attributes = pool_attributes(pool);
                let include = Attribute::Int((*count_include_pad).into());
                attributes.push(("count_include_pad", include));
                map(self.op("AveragePool", layer, &[&x], attributes))
            }
            Op::GlobalAvgPool => map(self.op("GlobalAveragePool", layer, &[&x], vec![])),
            Op::AdaptiveAvgPool(size) => {
                let input = self.network.values[node.input];
                map(self.adaptive_avg_pool(layer, x, [input.h, input.w], *size)?)
            }
            Op::Pointwise(kind) => Value {
                name: self.pointwise(layer, *kind, &x)?,
                flat,
            },
            Op::LayerNorm(norm) => map(self.layer_norm(layer, norm, &x)?),
            Op::GroupNorm { norm, groups } => {
                let (scale, bias) = (self.initializer(norm.weight)?, self.initializer(norm.bias)?);
                let attributes = vec![
                    ("num_groups", Attribute::Int(*groups as i64)),
                    ("epsilon", Attribute::Float(norm.eps as f32)),
                ];
                map(self.op(
                    "GroupNormalization",
                    layer,
                    &[&x, &scale, &bias],
                    attributes,
                ))
            }
            Op::LayerScale { weight } => {
                let scale = self.initializer(*weight)?;
                map(self.op("Mul", layer, &[&x, &scale], vec![]))
            }
            Op::Dropout { .. } | Op::StochasticDepth { .. } => Value { name: x, flat },
            Op::Gate { other } => {
                let factors = self.value(*other).name;
                map(self.op("Mul", layer, &[&x, &factors], vec![]))
            }
            Op::Concat { other } => {
                let other = self.value(*other).name;
                let axis = vec![("axis", Attribute::Int(1))];
                map(self.op("Concat", layer, &[&x, &other], axis))
            }
            Op::Add { other, relu } => {
                let (a, b, flat) = self.alike(node.input, *other);
                let sum = self.op("Add", layer, &[&a, &b], vec![]);
                Value {
                    name: self.relu_if(*relu, layer, sum),
                    flat,
                }
            }
        })
    }

    fn relu_if(&mut self, relu: bool, layer: &str, x: String) -> String {
        if relu {
            self.op("Relu", layer, &[&x], vec![])
        } else {
            x
        }
    }

    /// Weight and bias of a convolution with the batch norm after it: `w * s` and `(b - mean) * s + beta` with
    /// `s = gamma / sqrt(variance + eps)`, in f64 and rounded once.
    fn folded_weights(
        &mut self,
        layer: &str,
        weight: ParamId,
        bias: Option<ParamId>,
        bn: &BatchNorm,
    ) -> Result<[String; 2], OnnxError> {
        let (gamma, beta) = (self.floats(bn.weight), self.floats(bn.bias));
        let (mean, variance) = (self.floats(bn.running_mean), self.floats(bn.running_var));
        let own_bias = bias.map(|bias| self.floats(bias));
        let mut weights = self.floats(weight);
        let out = gamma.len();
        let each = weights.len() / out;
        let mut biases = Vec::with_capacity(out);
        for c in 0..out {
            let scale = f64::from(gamma[c]) / libm::sqrt(f64::from(variance[c]) + bn.eps);
            for w in &mut weights[c * each..(c + 1) * each] {
                *w = (f64::from(*w) * scale) as f32;
            }
            let bias = own_bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
            biases.push(((bias - f64::from(mean[c])) * scale + f64::from(beta[c])) as f32);
        }
        let shape = kernel_shape(self.param(weight).1);
        let name = format!("{layer}.weight");
        let weight = self.graph.initializer(name, tensor(&shape, &weights))?;
        let name = format!("{layer}.bias");
        let bias = self.graph.initializer(name, tensor(&[out], &biases))?;
        Ok([weight, bias])
    }
}

fn kernel_shape(tensor: &Tensor) -> Vec<usize> {
    let mut shape = tensor.shape().to_vec();
    shape.resize(4, 1);
    shape
}

fn conv_attributes(shape: &ConvShape) -> Vec<(&'static str, Attribute)> {
    vec![
        ("kernel_shape", ints(&shape.kernel)),
        ("strides", ints(&shape.stride)),
        ("pads", pads(shape.padding)),
        ("dilations", ints(&shape.dilation)),
        ("group", Attribute::Int(shape.groups as i64)),
    ]
}

fn pool_attributes(pool: &PoolShape) -> Vec<(&'static str, Attribute)> {
    vec![
        ("kernel_shape", ints(&pool.kernel)),
        ("strides", ints(&pool.stride)),
        ("pads", pads(pool.padding)),
    ]
}
