//! Spec to [`Network`]: shape inference, parameter names, fusion.

use super::{BatchNorm, LayerError, Network, Node, Op, ValueId};
use crate::params::{ParamLayout, Role, Start};
use crate::spec::{self, Init, Layer, ModelSpec, Pair};
use keepbest_kernels::{ActShape, ConvShape, PoolShape};

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

impl Lowering {
    fn sequence(
        &mut self,
        prefix: &str,
        layers: &[Layer],
        mut current: Current,
    ) -> Result<Current, LayerError> {
        for (position, layer) in layers.iter().enumerate() {
            let own = layer
                .name()
                .map_or_else(|| position.to_string(), str::to_owned);
            let name = if prefix.is_empty() {
                own
            } else {
                format!("{prefix}.{own}")
            };
            current = self.layer(&Place { name, layer }, current)?;
        }
        Ok(current)
    }

    fn layer(&mut self, place: &Place, x: Current) -> Result<Current, LayerError> {
        match place.layer {
            Layer::Conv2d(l) => self.conv(place, l, x),
            Layer::BatchNorm2d(l) => self.batch_norm(place, l, x),
            Layer::Relu(_) => Ok(self.relu(place, x)),
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
            Layer::Flatten(_) => Ok(Current { flat: true, ..x }),
            Layer::Linear(l) => self.linear(place, l, x),
            Layer::Dropout(l) => self.dropout(place, l, x),
            Layer::Sequential(l) => self.sequence(&place.name, &l.layers, x),
            Layer::Residual(l) => self.residual(place, l, x),
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
        let name = format!("{}.{part}", place.name);
        self.layout
            .push(name, shape.to_vec(), role, start)
            .map_err(|name| place.error(format!("there already is a parameter `{name}`")))
    }

    fn conv(&mut self, place: &Place, l: &spec::Conv2d, x: Current) -> Result<Current, LayerError> {
        let input = self.map(place, x)?;
        if l.groups == 0 || !input.c.is_multiple_of(l.groups) || !l.out.is_multiple_of(l.groups) {
            return Err(place.error(format!(
                "input channels ({}) and output channels ({}) must be multiples of groups ({})",
                input.c, l.out, l.groups
            )));
        }
        let shape = ConvShape {
            input,
            out_channels: l.out,
            kernel: l.kernel.0,
            stride: l.stride.0,
            padding: l.padding.0,
            dilation: l.dilation.0,
            groups: l.groups,
        };
        let per_group = input.c / l.groups;
        let taps = l.kernel.0[0] * l.kernel.0[1];
        let weight_shape = [l.out, per_group, l.kernel.0[0], l.kernel.0[1]];
        let start = match l.init {
            Init::Default => Start::uniform_fan_in(per_group * taps),
            Init::KaimingNormalFanOut => Start::kaiming_normal_fan_out(l.out * taps),
        };
        self.convolution(place, x, shape, &weight_shape, start, l.bias, false)
    }

    fn linear(
        &mut self,
        place: &Place,
        l: &spec::Linear,
        x: Current,
    ) -> Result<Current, LayerError> {
        let input = self.values[x.value];
        if !x.flat {
            return Err(place.error(format!(
                "needs a vector, found {}; put a flatten layer before it",
                describe(input, false)
            )));
        }
        let features = input.c * input.h * input.w;
        let shape = ConvShape {
            input,
            out_channels: l.out,
            kernel: [input.h, input.w],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        };
        let start = Start::uniform_fan_in(features);
        self.convolution(place, x, shape, &[l.out, features], start, l.bias, true)
    }

    #[allow(clippy::too_many_arguments)]
    fn convolution(
        &mut self,
        place: &Place,
        x: Current,
        shape: ConvShape,
        weight_shape: &[usize],
        start: Start,
        bias: bool,
        linear: bool,
    ) -> Result<Current, LayerError> {
        let out = shape.output().map_err(|e| place.error(e.to_string()))?;
        let fan_in = weight_shape[1..].iter().product();
        let weight = self.param(place, "weight", weight_shape, Role::Trained, start)?;
        let bias = if bias {
            let start = Start::uniform_fan_in(fan_in);
            Some(self.param(place, "bias", &[shape.out_channels], Role::Trained, start)?)
        } else {
            None
        };
        Ok(self.node(
            place,
            Op::Conv {
                shape,
                weight,
                bias,
                linear,
            },
            x.value,
            out,
            linear,
        ))
    }

    fn batch_norm(
        &mut self,
        place: &Place,
        l: &spec::BatchNorm2d,
        x: Current,
    ) -> Result<Current, LayerError> {
        let shape = self.map(place, x)?;
        if !(l.eps >= 0.0 && l.eps.is_finite() && (0.0..=1.0).contains(&l.momentum)) {
            return Err(place.error(format!(
                "eps must be at least 0 and momentum within 0 and 1, found eps {} and momentum {}",
                l.eps, l.momentum
            )));
        }
        let c = [shape.c];
        let op = Op::BatchNorm(BatchNorm {
            weight: self.param(place, "weight", &c, Role::Trained, Start::Constant(1.0))?,
            bias: self.param(place, "bias", &c, Role::Trained, Start::Constant(0.0))?,
            running_mean: self.param(
                place,
                "running_mean",
                &c,
                Role::Buffer,
                Start::Constant(0.0),
            )?,
            running_var: self.param(
                place,
                "running_var",
                &c,
                Role::Buffer,
                Start::Constant(1.0),
            )?,
            eps: l.eps,
            momentum: l.momentum,
            residual: None,
            relu: false,
        });
        self.param(
            place,
            "num_batches_tracked",
            &[],
            Role::Counter,
            Start::Constant(0.0),
        )?;
        Ok(self.node(place, op, x.value, shape, false))
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
    ) -> Result<Current, LayerError> {
        if !(0.0..1.0).contains(&l.p) {
            return Err(place.error(format!("p must be at least 0 and below 1, found {}", l.p)));
        }
        let stream = self.dropouts;
        self.dropouts += 1;
        let shape = self.values[x.value];
        Ok(self.node(
            place,
            Op::Dropout { p: l.p, stream },
            x.value,
            shape,
            x.flat,
        ))
    }

    fn residual(
        &mut self,
        place: &Place,
        l: &spec::Residual,
        x: Current,
    ) -> Result<Current, LayerError> {
        // `x` feeds both branches, and the shortcut's end feeds the sum: neither may take a later ReLU.
        let outer = self.shared_before;
        let start = self.nodes.len();
        self.shared_before = start;
        // The body comes first in the state dict, as in torchvision, and last in the computation, so that the
        // sum can be fused into its end.
        let body = self.sequence(&place.name, &l.body, x)?;
        let body_nodes = self.nodes.len() - start;
        self.shared_before = self.nodes.len();
        let shortcut = self.sequence(&place.name, &l.shortcut, x)?;
        self.nodes[start..].rotate_left(body_nodes);
        self.shared_before = self.nodes.len() - body_nodes;
        let (a, b) = (self.values[body.value], self.values[shortcut.value]);
        if a != b || body.flat != shortcut.flat {
            return Err(place.error(format!(
                "the body gives {} and the shortcut {}: they must be the same",
                describe(a, body.flat),
                describe(b, shortcut.flat)
            )));
        }
        let last = self.nodes.len().wrapping_sub(1);
        let fusable =
            self.nodes.len() > self.shared_before && self.nodes[last].output == body.value;
        let fused = fusable
            && match &mut self.nodes[last].op {
                Op::BatchNorm(bn) if !bn.relu && bn.residual.is_none() => {
                    bn.residual = Some(shortcut.value);
                    true
                }
                _ => false,
            };
        let out = if fused {
            body
        } else {
            let op = Op::Add {
                other: shortcut.value,
                relu: false,
            };
            self.node(place, op, body.value, a, body.flat)
        };
        self.shared_before = outer;
        Ok(out)
    }
}
