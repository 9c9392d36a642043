//! Spec to [`Network`]: shape inference, parameter names, fusion.

mod blocks;
mod weighted;

use super::{BatchNorm, LayerError, Network, Node, Op, ValueId};
use crate::params::{ParamLayout, Role, Start};
use crate::spec::{self, Layer, ModelSpec, Pair};
use keepbest_kernels::{ActShape, Pointwise, PoolShape};

/// Layers a network may have: enough for any that trains on a CPU, and soon reached by a hostile `repeat`.
const MAX_LAYERS: usize = 4096;

/// Values of an input image: 16,384 x 16,384 pixels of 4 channels.
const MAX_INPUT: u128 = 1 << 30;

/// Bytes of a layer's name with those of the blocks around it.
const MAX_NAME: usize = 512;

/// Sides of an adaptive pooling's output.
const MAX_ADAPTIVE: usize = 4096;

/// A value as the next layer sees it: a map of channels, or a vector (a map read in PyTorch's order).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Current {
    value: ValueId,
    flat: bool,
}

struct Lowering {
    nodes: Vec<Node>,
    values: Vec<ActShape>,
    layout: ParamLayout,
    /// Nodes before this one feed more than the layer at hand, so nothing may be fused into them.
    shared_before: usize,
    dropouts: u64,
    /// Layers and copies of layers seen so far.
    seen: usize,
}

/// Where a layer stands, for its parameters' names and its errors.
struct Place<'a> {
    name: String,
    layer: &'a Layer,
}

impl Place<'_> {
    fn error(&self, problem: String) -> LayerError {
        LayerError {
            layer: self.name.clone(),
            op: self.layer.op(),
            problem,
        }
    }
}

pub(super) fn lower(spec: &ModelSpec) -> Result<Network, LayerError> {
    let (network, out) = flatten(spec)?;
    let shape = network.values[out.value];
    if shape.h * shape.w != 1 || shape.c != spec.classes || !out.flat {
        let found = describe(shape, out.flat);
        let classes = spec.classes;
        let problem = format!(
            "the last layer must give a vector of {classes} scores, one a class; it gives {found}"
        );
        return Err(whole(spec, problem));
    }
    Ok(network)
}

/// An error of the model as a whole.
fn whole(spec: &ModelSpec, problem: String) -> LayerError {
    LayerError {
        layer: spec.name.clone(),
        op: "model",
        problem,
    }
}

/// All but the check that the output is one score a class.
pub(super) fn flatten(spec: &ModelSpec) -> Result<(Network, Current), LayerError> {
    let input = spec.input;
    if input.channels == 0 || input.height == 0 || input.width == 0 {
        let problem = format!(
            "input must have at least one channel and one pixel, found {} x {} x {}",
            input.channels, input.height, input.width
        );
        return Err(whole(spec, problem));
    }
    let pixels = [input.channels, input.height, input.width];
    let sides = pixels.iter().map(|&side| side as u128);
    let values = sides.fold(1u128, u128::saturating_mul);
    if values > MAX_INPUT {
        let problem = format!("input has {values} values, more than {MAX_INPUT}");
        return Err(whole(spec, problem));
    }
    if spec.classes == 0 {
        return Err(whole(spec, "needs at least one class, found 0".to_owned()));
    }
    let mut lowering = Lowering {
        nodes: vec![],
        values: vec![ActShape {
            h: input.height,
            w: input.width,
            c: input.channels,
        }],
        layout: ParamLayout::default(),
        shared_before: 0,
        dropouts: 0,
        seen: 0,
    };
    let out = lowering.sequence(
        "",
        &spec.layers,
        Current {
            value: 0,
            flat: false,
        },
    )?;
    if lowering.nodes.is_empty() {
        return Err(whole(spec, "has no layers that compute".to_owned()));
    }
    let network = Network {
        spec: spec.clone(),
        nodes: lowering.nodes,
        values: lowering.values,
        output: out.value,
        layout: lowering.layout.finish(),
    };
    Ok((network, out))
}

fn describe(shape: ActShape, flat: bool) -> String {
    if flat {
        format!("a vector of {}", shape.c * shape.h * shape.w)
    } else {
        format!("{} channels of {} x {}", shape.c, shape.h, shape.w)
    }
}

/// A name inside a block; an empty one adds nothing.
fn join(prefix: &str, own: &str) -> String {
    match (prefix, own) {
        ("", name) | (name, "") => name.to_owned(),
        (prefix, own) => format!("{prefix}.{own}"),
    }
}

impl Lowering {
    /// Counts a layer, or a copy of layers.
    fn count(&mut self, place: &Place) -> Result<(), LayerError> {
        self.seen += 1;
        if place.name.len() > MAX_NAME {
            return Err(LayerError {
                layer: place.name.chars().take(40).chain("...".chars()).collect(),
                op: place.layer.op(),
                problem: format!(
                    "its name has {} bytes, more than {MAX_NAME}",
                    place.name.len()
                ),
            });
        }
        if self.seen > MAX_LAYERS {
            return Err(place.error(format!("the network has more than {MAX_LAYERS} layers")));
        }
        Ok(())
    }

    fn layer(&mut self, place: &Place, x: Current) -> Result<Current, LayerError> {
        self.count(place)?;
        match place.layer {
            Layer::Conv2d(l) => self.conv(place, l, x),
            Layer::BatchNorm2d(l) => self.batch_norm(place, l, x),
            Layer::LayerNorm2d(l) => {
                self.channel_norm(place, l.eps, x, |norm, _| Ok(Op::LayerNorm(norm)))
            }
            Layer::GroupNorm(l) => self.group_norm(place, l, x),
            Layer::Relu(_) => Ok(self.relu(place, x)),
            Layer::Relu6(_) => Ok(self.pointwise(place, Pointwise::Relu6, x)),
            Layer::Sigmoid(_) => Ok(self.pointwise(place, Pointwise::Sigmoid, x)),
            Layer::Silu(_) => Ok(self.pointwise(place, Pointwise::Silu, x)),
            Layer::Hardsigmoid(_) => Ok(self.pointwise(place, Pointwise::Hardsigmoid, x)),
            Layer::Hardswish(_) => Ok(self.pointwise(place, Pointwise::Hardswish, x)),
            Layer::Gelu(_) => Ok(self.pointwise(place, Pointwise::Gelu, x)),
            Layer::MaxPool2d(l) => {
                let window = (l.kernel, l.stride, l.padding);
                self.pool(place, window, x, Op::MaxPool)
            }
            Layer::AvgPool2d(l) => {
                let count_include_pad = l.count_include_pad;
                let op = |pool| Op::AvgPool {
                    pool,
                    count_include_pad,
                };
                self.pool(place, (l.kernel, l.stride, l.padding), x, op)
            }
            Layer::GlobalAvgPool2d(_) => {
                let shape = self.map(place, x)?;
                let out = ActShape {
                    h: 1,
                    w: 1,
                    c: shape.c,
                };
                Ok(self.node(place, Op::GlobalAvgPool, x.value, out, false))
            }
            Layer::AdaptiveAvgPool2d(l) => {
                let shape = self.map(place, x)?;
                let [h, w] = l.size.0;
                let out = ActShape { h, w, c: shape.c };
                if out.is_empty() || h.max(w) > MAX_ADAPTIVE {
                    let problem =
                        format!("size must be within 1 and {MAX_ADAPTIVE}, found {h} x {w}");
                    return Err(place.error(problem));
                }
                Ok(self.node(place, Op::AdaptiveAvgPool(l.size.0), x.value, out, false))
            }
            Layer::Flatten(_) => Ok(Current { flat: true, ..x }),
            Layer::Linear(l) => self.linear(place, l, x),
            Layer::LayerScale(l) => self.layer_scale(place, l, x),
            Layer::Dropout(l) => self.dropout(place, l, x, |p, stream| Op::Dropout { p, stream }),
            Layer::StochasticDepth(l) => {
                self.dropout(place, l, x, |p, stream| Op::StochasticDepth { p, stream })
            }
            Layer::Sequential(l) => self.sequence(&place.name, &l.layers, x),
            Layer::Repeat(l) => self.repeat(place, l, x),
            Layer::Residual(l) => self.residual(place, l, x),
            Layer::Gate(l) => self.gate(place, l, x),
            Layer::Branch(l) => self.branch(place, l, x),
        }
    }

    fn node(
        &mut self,
        place: &Place,
        op: Op,
        input: ValueId,
        shape: ActShape,
        flat: bool,
    ) -> Current {
        let output = self.values.len();
        self.values.push(shape);
        self.nodes.push(Node {
            name: place.name.clone(),
            op,
            input,
            output,
        });
        Current {
            value: output,
            flat,
        }
    }

    fn map(&self, place: &Place, x: Current) -> Result<ActShape, LayerError> {
        let shape = self.values[x.value];
        if x.flat {
            return Err(place.error(format!(
                "needs a map of channels, found {} (it stands after a flatten or linear layer)",
                describe(shape, true)
            )));
        }
        Ok(shape)
    }

    fn param(
        &mut self,
        place: &Place,
        part: &str,
        shape: &[usize],
        role: Role,
        start: Start,
    ) -> Result<usize, LayerError> {
        let name = join(&place.name, part);
        self.layout
            .push(name, shape.to_vec(), role, start)
            .map_err(|name| place.error(format!("there already is a parameter `{name}`")))
    }

    fn relu(&mut self, place: &Place, x: Current) -> Current {
        let last = self.nodes.len().wrapping_sub(1);
        if self.nodes.len() > self.shared_before && self.nodes[last].output == x.value {
            match &mut self.nodes[last].op {
                Op::BatchNorm(BatchNorm { relu, .. }) | Op::Add { relu, .. } => {
                    *relu = true;
                    return x;
                }
                _ => {}
            }
        }
        let shape = self.values[x.value];
        self.node(place, Op::Relu, x.value, shape, x.flat)
    }

    fn pointwise(&mut self, place: &Place, kind: Pointwise, x: Current) -> Current {
        let shape = self.values[x.value];
        self.node(place, Op::Pointwise(kind), x.value, shape, x.flat)
    }

    fn pool(
        &mut self,
        place: &Place,
        (kernel, stride, padding): (Pair, Option<Pair>, Pair),
        x: Current,
        op: impl FnOnce(PoolShape) -> Op,
    ) -> Result<Current, LayerError> {
        let input = self.map(place, x)?;
        let shape = PoolShape {
            input,
            kernel: kernel.0,
            stride: stride.unwrap_or(kernel).0,
            padding: padding.0,
            dilation: [1, 1],
        };
        let out = shape.output().map_err(|e| place.error(e.to_string()))?;
        Ok(self.node(place, op(shape), x.value, out, false))
    }

    fn dropout(
        &mut self,
        place: &Place,
        l: &spec::Dropout,
        x: Current,
        op: impl FnOnce(f64, u64) -> Op,
    ) -> Result<Current, LayerError> {
        if !(0.0..1.0).contains(&l.p) {
            return Err(place.error(format!("p must be at least 0 and below 1, found {}", l.p)));
        }
        let stream = self.dropouts;
        self.dropouts += 1;
        let shape = self.values[x.value];
        Ok(self.node(place, op(l.p, stream), x.value, shape, x.flat))
    }
}
