//! From operators of ONNX to layers.

mod arithmetic;
mod conv;
mod moves;
mod norm;
mod pointwise;
mod pool;
mod reduce;
mod window;

use super::Unsupported;
use super::fold::{self, Budget, floats};
use super::names::Names;
use super::node::Node;
use super::steps::{Step, Steps, step};
use super::view::{Order, Size, View};
use keepbest_formats::Tensor;
use keepbest_formats::onnx::{GraphProto, NodeProto};
use std::collections::HashMap;

/// What a name of the graph stands for.
#[derive(Clone)]
enum Value {
    Constant(Constant),
    Image(View),
    /// What a node makes that could not be converted, or one behind it.
    Unknown,
}

/// A tensor that does not depend on the input.
#[derive(Clone)]
struct Constant {
    tensor: Tensor,
    /// The initialiser it comes from, through whatever only moves or casts it.
    origin: Option<String>,
}

/// A node with its inputs.
struct Call<'a> {
    node: Node<'a>,
    inputs: Vec<Option<Value>>,
    /// The constants among the inputs.
    constants: Vec<Option<Tensor>>,
}

impl Call<'_> {
    fn view(&self, at: usize) -> Result<&View, String> {
        match self.inputs.get(at) {
            Some(Some(Value::Image(view))) => Ok(view),
            _ => Err(format!("input {at} does not depend on the image")),
        }
    }

    /// A constant that may be left out.
    fn optional(&self, at: usize) -> Result<Option<&Constant>, String> {
        match self.inputs.get(at) {
            None | Some(None) => Ok(None),
            Some(Some(Value::Constant(constant))) => Ok(Some(constant)),
            Some(Some(_)) => Err(format!(
                "input {at} depends on the image: it must be constant"
            )),
        }
    }

    fn constant(&self, at: usize) -> Result<&Constant, String> {
        self.optional(at)?
            .ok_or_else(|| format!("input {at} is missing"))
    }

    /// A constant of one number that may be left out.
    fn number(&self, at: usize) -> Result<Option<f32>, String> {
        let Some(constant) = self.optional(at)? else {
            return Ok(None);
        };
        match floats(&constant.tensor)?[..] {
            [one] => Ok(Some(one)),
            ref many => Err(format!("input {at} has {} numbers, not one", many.len())),
        }
    }

    fn proto(&self) -> &NodeProto {
        self.node.proto
    }
}

/// The conversion of a graph.
pub(super) struct Converter<'a> {
    pub steps: Steps,
    pub unsupported: Vec<Unsupported>,
    pub names: Names,
    values: HashMap<&'a str, Value>,
    /// How many nodes read each name.
    readers: HashMap<&'a str, usize>,
    budget: Budget,
    opset: i64,
    batch: usize,
    /// Concatenations so far: what they join and what they make.
    joined: Vec<(Vec<usize>, usize)>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(
        graph: &'a GraphProto,
        opset: i64,
        input: (&'a str, View),
        most_bytes: u64,
    ) -> Self {
        let mut readers = HashMap::new();
        let read = graph.nodes.iter().flat_map(|node| &node.inputs);
        for name in read.chain(graph.outputs.iter().map(|output| &output.name)) {
            *readers.entry(name.as_str()).or_default() += 1;
        }
        let mut values = HashMap::new();
        for (name, tensor) in &graph.initializers {
            let constant = Constant {
                tensor: tensor.clone(),
                origin: Some(name.clone()),
            };
            values.insert(name.as_str(), Value::Constant(constant));
        }
        let (name, view) = input;
        let (batch, size) = (view.batch(), view.size);
        values.insert(name, Value::Image(view));
        Converter {
            steps: Steps::new(size),
            unsupported: vec![],
            names: Names::default(),
            values,
            readers,
            budget: Budget(most_bytes),
            opset,
            batch,
            joined: vec![],
        }
    }

    /// The tensor of a name: `None` where it could not be converted.
    pub(super) fn image(&self, name: &str) -> Result<Option<View>, String> {
        match self.values.get(name) {
            Some(Value::Image(view)) => Ok(Some(view.clone())),
            Some(Value::Unknown) => Ok(None),
            Some(Value::Constant(_)) => Err("it does not depend on the input".to_owned()),
            None => Err("no node makes it".to_owned()),
        }
    }

    /// Converts a node. What cannot be is taken down.
    pub(super) fn node(&mut self, proto: &'a NodeProto) {
        let outputs = proto.outputs.iter().filter(|name| !name.is_empty());
        match self.values_of(proto) {
            Ok(None) => {
                outputs.for_each(|name| drop(self.values.insert(name, Value::Unknown)));
            }
            Ok(Some(made)) => {
                for (name, value) in proto.outputs.iter().zip(made) {
                    self.values.insert(name, value);
                }
            }
            Err(why) => {
                outputs.for_each(|name| drop(self.values.insert(name, Value::Unknown)));
                self.unsupported.push(Unsupported::of(proto, why));
            }
        }
    }

    /// What a node makes; `None` behind one that could not be converted.
    fn values_of(&mut self, proto: &'a NodeProto) -> Result<Option<Vec<Value>>, String> {
        if !proto.domain.is_empty() && proto.domain != "com.microsoft" {
            return Err(format!("operators of `{}` are not known", proto.domain));
        }
        let mut inputs = Vec::with_capacity(proto.inputs.len());
        for name in &proto.inputs {
            let value = match name.is_empty() {
                true => None,
                false => match self.values.get(name.as_str()) {
                    Some(Value::Unknown) => return Ok(None),
                    Some(value) => Some(value.clone()),
                    None => return Err(format!("its input `{name}` is made by no node before it")),
                },
            };
            inputs.push(value);
        }
        let constants = inputs.iter().map(|input| match input {
            Some(Value::Constant(constant)) => Some(constant.tensor.clone()),
            _ => None,
        });
        let call = Call {
            constants: constants.collect(),
            inputs,
            node: Node {
                proto,
                opset: self.opset,
            },
        };
        let views = call.inputs.iter().flatten();
        if views
            .clone()
            .all(|input| matches!(input, Value::Constant(_)))
        {
            let made = fold::fold(&call.node, &call.constants, &mut self.budget)?;
            let made =
                made.ok_or_else(|| "it computes a constant in a way that is not known".to_owned())?;
            let origin = call.inputs.first().and_then(|input| match input {
                Some(Value::Constant(constant)) => constant.origin.clone(),
                _ => None,
            });
            let constant = |tensor| {
                Value::Constant(Constant {
                    tensor,
                    origin: origin.clone(),
                })
            };
            return Ok(Some(made.into_iter().map(constant).collect()));
        }
        if call.node.op() == "Shape" {
            let tensor = call.node.shape_of(&call.view(0)?.shape())?;
            return Ok(Some(vec![Value::Constant(Constant {
                tensor,
                origin: None,
            })]));
        }
        let views = self.layers_of(&call)?;
        if views.len() < proto.outputs.len() {
            let rest = &proto.outputs[views.len()..];
            if let Some(wanted) = rest
                .iter()
                .find(|name| self.readers.contains_key(name.as_str()))
            {
                return Err(format!("its output `{wanted}` is used"));
            }
        }
        Ok(Some(views.into_iter().map(Value::Image).collect()))
    }

    fn layers_of(&mut self, call: &Call<'_>) -> Result<Vec<View>, String> {
        let one = match call.node.op() {
            "Conv" => self.conv(call),
            "ConvTranspose" => self.conv_transpose(call),
            "Gemm" => self.gemm(call),
            "MatMul" => self.mat_mul(call),
            "BatchNormalization" => self.batch_norm(call),
            "InstanceNormalization" => self.instance_norm(call),
            "LayerNormalization" => self.layer_norm(call),
            "GroupNormalization" => self.group_norm(call),
            "LRN" => self.local_response_norm(call),
            "MaxPool" => self.max_pool(call),
            "AveragePool" => self.average_pool(call),
            "GlobalAveragePool" => self.global_pool(call, "global_avg_pool2d"),
            "GlobalMaxPool" => self.global_pool(call, "global_max_pool2d"),
            "ReduceMean" | "ReduceMax" | "ReduceSum" => self.reduce(call),
            "Softmax" | "LogSoftmax" => self.softmax(call),
            "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" | "Sum" | "Mean" => self.arithmetic(call),
            "Pow" => self.pow(call),
            "Concat" => self.concat(call),
            "Split" => return self.split(call),
            "Slice" => self.slice(call),
            "Pad" => self.pad(call),
            "Resize" | "Upsample" => self.resize(call),
            "Identity" => Ok(call.view(0)?.clone()),
            "Cast" => self.cast(call),
            "Dropout" => self.dropout(call),
            "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze" | "Expand" => {
                self.moved(call)
            }
            _ => self.pointwise(call),
        };
        Ok(vec![one?])
    }

    /// Adds a layer that leaves size and kind of a value as they are, whatever the order of its axes.
    fn same(&mut self, x: &View, mut layer: Step) -> View {
        layer.from = vec![x.step];
        layer.size = x.size;
        layer.flat = self.steps.0[x.step].flat;
        let step = self.steps.add(layer);
        View { step, ..x.clone() }
    }

    /// Adds a layer that makes a map of another size, in the same order of axes.
    fn sized(&mut self, layer: Step, order: Order) -> View {
        let size = layer.size;
        let step = self.steps.add(layer);
        View::of(step, size, self.batch, order)
    }

    /// A map whose channels come first: `[n, channels, rows, columns]` or, of one row, `[n, channels, length]`.
    fn map(&mut self, x: &View) -> Result<(View, Order), String> {
        if let Some(groups) = x.shuffled() {
            let layer = step("channel_shuffle", vec![x.step], x.size).set("groups", groups);
            let order = Order::ChannelsFirst;
            return Ok((self.sized(layer, order), order));
        }
        let orders = [Order::ChannelsFirst, Order::Signal];
        match orders.into_iter().find(|&order| x.is(order)) {
            Some(order) if self.steps.0[x.step].flat => {
                let made = self.unflattened(x, x.size, order);
                Ok((made, order))
            }
            Some(order) => Ok((x.clone(), order)),
            None => Err(format!(
                "it needs an input of [n, channels, rows, columns]; this one of {:?} has been moved about",
                x.shape()
            )),
        }
    }

    /// A vector as a map of this size.
    fn unflattened(&mut self, x: &View, size: Size, order: Order) -> View {
        let vector = self.vector(x);
        let sides = vec![size.channels, size.rows, size.columns];
        let layer = step("unflatten", vec![vector.step], size).set("size", sides);
        self.sized(layer, order)
    }

    /// The value as a vector: flattened where it is a map.
    fn vector(&mut self, x: &View) -> View {
        if self.steps.0[x.step].flat {
            return x.clone();
        }
        let size = Size::new(x.size.values(), 1, 1);
        let mut layer = step("flatten", vec![x.step], size);
        layer.flat = true;
        self.sized(layer, Order::Vector)
    }
}

fn tensor(shape: &[usize], values: &[f32]) -> Result<Tensor, String> {
    Tensor::from_f32(shape, values).map_err(|error| error.to_string())
}

/// A constant in f32 with another shape of as many elements, sharing its bytes where it is f32.
fn shaped(constant: &Constant, shape: &[usize]) -> Result<Tensor, String> {
    let wide = match constant.tensor.to_f32() {
        Some(wide) => wide,
        None => tensor(constant.tensor.shape(), &floats(&constant.tensor)?)?,
    };
    Tensor::new(wide.dtype(), shape, wide.bytes().clone()).map_err(|error| error.to_string())
}
