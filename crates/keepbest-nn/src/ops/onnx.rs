//! Writing operations into an ONNX graph.

use super::operation::{FixedNorm, ParamId, ValueId};
use crate::params::ParamLayout;
use keepbest_formats::onnx::{Attribute, Graph, OnnxError};
use keepbest_formats::{Dtype, StateDict, Tensor};
use keepbest_kernels::Padding;
use std::collections::BTreeSet;

/// A value as it is in the graph.
#[derive(Clone)]
pub(crate) struct Value {
    pub name: String,
    /// `[N, features]` rather than `[N, C, H, W]`.
    pub flat: bool,
}

impl Value {
    /// `[N, C, H, W]`.
    pub(crate) fn map(name: String) -> Self {
        Value { name, flat: false }
    }
}

/// A graph that is being written, with the weights that go into it.
pub(crate) struct Writer<'a> {
    pub graph: Graph,
    layout: &'a ParamLayout,
    weights: &'a StateDict,
    /// Each value of the network as it is in the graph, once it is made.
    values: Vec<Option<Value>>,
    /// The norm of each value that becomes part of the convolution that makes it.
    folded: Vec<Option<FixedNorm>>,
    /// Names of constants that several operations share.
    constants: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    /// An empty graph; `weights` have been checked against `layout`.
    pub(crate) fn new(
        name: &str,
        layout: &'a ParamLayout,
        weights: &'a StateDict,
        folded: Vec<Option<FixedNorm>>,
    ) -> Self {
        Writer {
            graph: Graph::new(name.to_owned()),
            layout,
            weights,
            values: vec![None; folded.len()],
            folded,
            constants: BTreeSet::new(),
        }
    }

    /// Tells what a value of the network is in the graph.
    pub(crate) fn made(&mut self, value: ValueId, is: Value) {
        self.values[value] = Some(is);
    }

    /// A value that is made already.
    pub(crate) fn value(&self, value: ValueId) -> Value {
        self.values[value]
            .clone()
            .expect("nodes stand in the order in which they compute")
    }

    /// The norm that becomes part of the convolution that makes a value.
    pub(crate) fn folded(&self, value: ValueId) -> Option<FixedNorm> {
        self.folded[value]
    }

    /// Adds a node named after the layer and the ONNX operation, and tells its output.
    pub(crate) fn op(
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

    /// A ReLU, or `x` itself.
    pub(crate) fn relu_if(&mut self, relu: bool, layer: &str, x: String) -> String {
        if relu {
            self.op("Relu", layer, &[&x], vec![])
        } else {
            x
        }
    }

    /// A value as `[N, features]`.
    pub(crate) fn flat(&mut self, value: ValueId) -> String {
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

    /// Two values in one form, and whether that is flat.
    pub(crate) fn alike(&mut self, a: ValueId, b: ValueId) -> (String, String, bool) {
        let (x, y) = (self.value(a), self.value(b));
        if x.flat == y.flat {
            (x.name, y.name, x.flat)
        } else {
            (self.flat(a), self.flat(b), true)
        }
    }

    /// Name and values of a parameter.
    pub(crate) fn param(&self, id: ParamId) -> (&'a str, &'a Tensor) {
        let name = &self.layout.tensors()[id].name;
        let tensor = self.weights.get(name);
        (name, tensor.expect("the weights have been checked"))
    }

    /// The values of a parameter.
    pub(crate) fn floats(&self, id: ParamId) -> Vec<f32> {
        let (_, tensor) = self.param(id);
        tensor
            .as_f32()
            .expect("the weights have been checked")
            .into_owned()
    }

    /// A parameter as it is.
    pub(crate) fn initializer(&mut self, id: ParamId) -> Result<String, OnnxError> {
        let (name, tensor) = self.param(id);
        self.graph.initializer(name, tensor.clone())
    }

    /// A parameter in another shape.
    pub(crate) fn reshaped(&mut self, id: ParamId, shape: &[usize]) -> Result<String, OnnxError> {
        let (name, tensor) = self.param(id);
        let tensor = Tensor::new(tensor.dtype(), shape, tensor.bytes().clone())
            .expect("as many values as before");
        self.graph.initializer(name, tensor)
    }

    /// A parameter of one value a channel, or one for all, in the shape in which it meets the channels of a map, or of a
    /// vector.
    pub(crate) fn per_channel(&mut self, id: ParamId, flat: bool) -> Result<String, OnnxError> {
        let len = self.layout.tensors()[id].len();
        if flat || len == 1 {
            self.initializer(id)
        } else {
            self.reshaped(id, &[len, 1, 1])
        }
    }

    /// Whole numbers as an input, such as a shape or axes, made once.
    pub(crate) fn integers(&mut self, values: &[usize]) -> Result<String, OnnxError> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|&v| (v as i64).to_le_bytes())
            .collect();
        self.constant(&format!("integers{values:?}"), || {
            Tensor::new(Dtype::I64, [values.len()], bytes).expect("as many values as the shape has")
        })
    }

    /// A number, made once.
    pub(crate) fn scalar(&mut self, value: f32) -> Result<String, OnnxError> {
        self.constant(&format!("scalar({value:?})"), || tensor(&[], &[value]))
    }

    /// A constant that is made once, whoever asks for it.
    pub(crate) fn constant(
        &mut self,
        name: &str,
        value: impl FnOnce() -> Tensor,
    ) -> Result<String, OnnxError> {
        if self.constants.insert(name.to_owned()) {
            self.graph.initializer(name, value())?;
        }
        Ok(name.to_owned())
    }
}

pub(crate) fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// Padding on the sides: all begins, then all ends.
pub(crate) fn pads(Padding { before, after }: Padding) -> Attribute {
    ints([before, after].as_flattened())
}

pub(crate) fn int_tensor(values: impl IntoIterator<Item = i64>) -> Tensor {
    let values: Vec<i64> = values.into_iter().collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::new(Dtype::I64, vec![values.len()], bytes).expect("eight bytes a value")
}

pub(crate) fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).expect("as many values as the shape has")
}
