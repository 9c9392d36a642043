//! Where everything lives in memory, decided once: one arena whose regions are shared by tensors that are
//! never needed at the same time.

mod arena;

use crate::engine::Rates;
use crate::network::{BatchNorm, Network, Node, Op, ParamId, Then, ValueId};
use arena::{ArenaBuilder, Region};
use keepbest_kernels::{
    ActShape, Context, ConvPlan, ShapeError, batch_norm, group_norm, layer_norm, max_pool,
};
use std::ops::Range;

/// A place in the arena.
pub(crate) type Place = Range<usize>;

/// One operation with its kernels chosen and its places fixed.
pub(crate) struct Step {
    /// Place among the network's layers of this one, or of the first of those it is made of.
    pub layer: usize,
    pub node: Node,
    pub conv: Option<ConvPlan>,
    pub input: Place,
    pub output: Place,
    /// Second input of a sum, a gate or a concatenation, or the residual of a batch norm.
    pub other: Option<Place>,
    pub other_shape: ActShape,
    pub input_shape: ActShape,
    pub output_shape: ActShape,
    /// Scratch of the forward pass.
    pub scratch: Place,
    /// First of this layer's channels among all batch norms' channels.
    pub channels: Place,
    /// Bytes of max-pool indices.
    pub indices: Place,
    pub backward: Option<BackwardStep>,
}

/// Places the backward pass of one operation needs.
pub(crate) struct BackwardStep {
    pub output_gradient: Place,
    pub input_gradient: Option<Target>,
    pub other_gradient: Option<Target>,
    pub scratch: Place,
}

/// Where a gradient goes.
pub(crate) struct Target {
    pub place: Place,
    /// Set when the gradient is to be added to what is in `place`: it is computed here first.
    pub staging: Option<Place>,
}

pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub batch: usize,
    pub input: Place,
    pub input_shape: ActShape,
    pub output: Place,
    pub output_shape: ActShape,
    /// Gradient of the output, in a training plan.
    pub output_gradient: Option<Place>,
    /// Floats of the arena.
    pub arena_len: usize,
    /// Channels of all batch norms together.
    pub channels_len: usize,
    /// Bytes of all max-pool indices together.
    pub indices_len: usize,
}

/// What a plan is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// Of what learns.
    Training(&'a Rates),
    Inference,
}

/// Of each value, whether its gradient is needed: whether anything that learns has a part in it.
fn needs_gradient(network: &Network, rates: &Rates) -> Vec<bool> {
    let mut needed = vec![false; network.values.len()];
    for node in &network.nodes {
        let inputs = [Some(node.input), node.other()];
        let learns = node.op.parameters().into_iter().flatten();
        needed[node.output] = learns.into_iter().any(|id| !rates.frozen(id))
            || inputs.into_iter().flatten().any(|value| needed[value]);
    }
    needed
}

/// A value's regions while the plan is made.
struct ValueRegions {
    activation: Region,
    gradient: Option<Region>,
}

impl Plan {
    pub(crate) fn new(
        network: &Network,
        batch: usize,
        purpose: Purpose<'_>,
        ctx: &Context,
    ) -> Result<Plan, ShapeError> {
        let needed = match purpose {
            Purpose::Training(rates) => needs_gradient(network, rates),
            Purpose::Inference => vec![false; network.values.len()],
        };
        let training = matches!(purpose, Purpose::Training(_));
        let nodes = match purpose {
            Purpose::Training(_) => network.training_nodes(),
            Purpose::Inference => network.inference_nodes(),
        };
        let count = nodes.len();
        let backward_time = |node: usize| 2 * count - node;
        let mut arena = ArenaBuilder::default();

        let mut values: Vec<ValueRegions> = network
            .values
            .iter()
            .map(|shape| ValueRegions {
                activation: arena.region(shape.len(batch)),
                gradient: None,
            })
            .collect();
        arena.use_at(values[0].activation, 0);
        if training {
            // The loss comes between the two passes.
            let gradient = arena.region(network.values[network.output].len(batch));
            arena.use_at(gradient, count);
            values[network.output].gradient = Some(gradient);
        }
        arena.use_at(values[network.output].activation, count);

        let mut planned = Vec::with_capacity(count);
        let (mut channels_len, mut indices_len) = (0, 0);
        for (time, (_, node)) in nodes.iter().enumerate() {
            let input_shape = network.values[node.input];
            let output_shape = network.values[node.output];
            arena.use_at(values[node.input].activation, time);
            arena.use_at(values[node.output].activation, time);
            if let Some(other) = node.other() {
                arena.use_at(values[other].activation, time);
            }
            let conv = match &node.op {
                Op::Conv { shape, .. } if training => {
                    Some(ConvPlan::for_training(shape, batch, ctx)?)
                }
                Op::Conv { shape, .. } => Some(ConvPlan::new(shape, batch, ctx)?),
                _ => None,
            };
            // An inference plan keeps the packed weights elsewhere, packed once for many batches.
            let scratch_len = match (&node.op, &conv) {
                (_, Some(conv)) if training => conv.packed_forward_len(),
                (Op::BatchNorm(_), _) if training => batch_norm::scratch_len(batch, input_shape),
                _ => 0,
            };
            let scratch = arena.region(scratch_len);
            arena.use_at(scratch, time);
            let channels = match node.op {
                Op::BatchNorm(_) | Op::LayerScale { .. } => {
                    extend(&mut channels_len, output_shape.c)
                }
                _ => 0..0,
            };
            let indices = match node.op {
                Op::MaxPool(_) | Op::BatchNorm(BatchNorm { pool: Some(_), .. }) if training => {
                    extend(&mut indices_len, max_pool::indices_len(batch, output_shape))
                }
                _ => 0..0,
            };
            planned.push(Planned {
                conv,
                scratch,
                channels,
                indices,
                backward: None,
            });
        }

        if training {
            for (index, (_, node)) in nodes.iter().enumerate().rev() {
                if !needed[node.output] {
                    continue;
                }
                let time = backward_time(index);
                let shape = network.values[node.input];
                for value in node.kept_for_backward() {
                    arena.use_at(values[value].activation, time);
                }
                let output_gradient = values[node.output]
                    .gradient
                    .expect("what is needed feeds a later layer or is the output");
                arena.use_at(output_gradient, time);
                let mut target = |value: ValueId, arena: &mut ArenaBuilder| {
                    // Norms compute it on the way, even when nobody asks for it.
                    if !needed[value] && node.op.norm_parameters().is_none() {
                        return None;
                    }
                    let len = network.values[value].len(batch);
                    let staging = values[value].gradient.is_some().then(|| arena.region(len));
                    let place = *values[value]
                        .gradient
                        .get_or_insert_with(|| arena.region(len));
                    for region in staging.into_iter().chain([place]) {
                        arena.use_at(region, time);
                    }
                    Some((place, staging))
                };
                let input_gradient = target(node.input, &mut arena);
                let other_gradient = node.other().and_then(|other| target(other, &mut arena));
                let scratch_len = match &node.op {
                    Op::Conv { .. } => {
                        let conv = planned[index].conv.as_ref().expect("planned above");
                        let threads = ctx.pool().threads();
                        conv.packed_backward_len()
                            .max(conv.weight_gradient_scratch_len(threads))
                    }
                    Op::BatchNorm(_) | Op::LayerScale { .. } => {
                        batch_norm::scratch_len(batch, shape)
                    }
                    Op::LayerNorm(_) => layer_norm::scratch_len(batch, shape),
                    Op::GroupNorm { .. } => group_norm::scratch_len(batch, shape),
                    _ => 0,
                };
                let scratch = arena.region(scratch_len);
                arena.use_at(scratch, time);
                planned[index].backward = Some(PlannedBackward {
                    output_gradient,
                    input_gradient,
                    other_gradient,
                    scratch,
                });
            }
        }

        let layout = arena.place();
        let target = |(place, staging): (Region, Option<Region>)| Target {
            place: layout.range(place),
            staging: staging.map(|s| layout.range(s)),
        };
        let steps = nodes
            .into_iter()
            .zip(planned)
            .map(|((layer, node), p)| Step {
                layer,
                conv: p.conv,
                input: layout.range(values[node.input].activation),
                output: layout.range(values[node.output].activation),
                other: node.other().map(|v| layout.range(values[v].activation)),
                other_shape: network.values[node.other().unwrap_or(node.input)],
                input_shape: network.values[node.input],
                output_shape: network.values[node.output],
                scratch: layout.range(p.scratch),
                channels: p.channels,
                indices: p.indices,
                backward: p.backward.map(|b| BackwardStep {
                    output_gradient: layout.range(b.output_gradient),
                    input_gradient: b.input_gradient.map(target),
                    other_gradient: b.other_gradient.map(target),
                    scratch: layout.range(b.scratch),
                }),
                node,
            })
            .collect();
        Ok(Plan {
            steps,
            batch,
            input: layout.range(values[0].activation),
            input_shape: network.values[0],
            output: layout.range(values[network.output].activation),
            output_shape: network.values[network.output],
            output_gradient: values[network.output].gradient.map(|g| layout.range(g)),
            arena_len: layout.len(),
            channels_len,
            indices_len,
        })
    }
}

struct Planned {
    conv: Option<ConvPlan>,
    scratch: Region,
    channels: Place,
    indices: Place,
    backward: Option<PlannedBackward>,
}

struct PlannedBackward {
    output_gradient: Region,
    input_gradient: Option<(Region, Option<Region>)>,
    other_gradient: Option<(Region, Option<Region>)>,
    scratch: Region,
}

fn extend(total: &mut usize, len: usize) -> Place {
    let start = *total;
    *total += len;
    start..*total
}

impl Op {
    /// Parameters of an operation that gives their gradients and its input's together.
    pub(crate) fn norm_parameters(&self) -> Option<[Option<ParamId>; 2]> {
        match self {
            Op::BatchNorm(bn) => Some([Some(bn.weight), Some(bn.bias)]),
            Op::LayerNorm(norm) | Op::GroupNorm { norm, .. } => {
                Some([Some(norm.weight), Some(norm.bias)])
            }
            Op::LayerScale { weight } => Some([Some(*weight), None]),
            _ => None,
        }
    }

    /// All parameters.
    fn parameters(&self) -> [Option<ParamId>; 2] {
        match self {
            Op::Conv { weight, bias, .. } => [Some(*weight), *bias],
            _ => self.norm_parameters().unwrap_or_default(),
        }
    }

    /// Whether the backward pass reads the operation's input and output.
    pub(crate) fn backward_reads(&self) -> (bool, bool) {
        match self {
            Op::BatchNorm(bn) => (true, bn.relu),
            Op::Relu | Op::Add { relu: true, .. } => (false, true),
            Op::Conv { .. }
            | Op::Pointwise(_)
            | Op::LayerNorm(_)
            | Op::GroupNorm { .. }
            | Op::LayerScale { .. }
            | Op::Gate { .. } => (true, false),
            Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::AdaptiveAvgPool(_)
            | Op::Dropout { .. }
            | Op::StochasticDepth { .. }
            | Op::Concat { .. }
            | Op::Add { relu: false, .. } => (false, false),
        }
    }

    /// Whether the backward pass reads the second input.
    pub(crate) fn backward_reads_other(&self) -> bool {
        matches!(self, Op::Gate { .. })
    }
}

impl Node {
    /// Second value the operation reads.
    pub(crate) fn other(&self) -> Option<ValueId> {
        match &self.op {
            Op::Add { other, .. } | Op::Gate { other } | Op::Concat { other } => Some(*other),
            Op::BatchNorm(bn)
            | Op::Conv {
                then: Some(Then::BatchNorm(bn)),
                ..
            } => bn.residual,
            _ => None,
        }
    }

    /// Values of the forward pass that the backward pass reads again.
    fn kept_for_backward(&self) -> impl Iterator<Item = ValueId> {
        let (reads_input, reads_output) = self.op.backward_reads();
        let other = self.other().filter(|_| self.op.backward_reads_other());
        let input = reads_input.then_some(self.input);
        let output = reads_output.then_some(self.output);
        input.into_iter().chain(output).chain(other)
    }
}
