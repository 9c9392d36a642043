//! The place of everything in memory, decided once: one arena whose regions are shared by tensors that are
//! never needed at the same time.

mod arena;

use crate::engine::Rates;
use crate::network::Network;
use crate::ops::lowering::Node;
use crate::ops::operation::{Needs, Planning, Shapes, ValueId};
use arena::{ArenaBuilder, ArenaLayout, Region};
use keepbest_kernels::{ActShape, Context, ConvPlan, ShapeError};
use std::ops::Range;

/// A place in the arena.
pub(crate) type Place = Range<usize>;

/// One operation with its kernels chosen and its places fixed.
pub(crate) struct Step {
    /// Places among the network's layers of those it is made of.
    pub layers: Range<usize>,
    pub node: Node,
    pub conv: Option<ConvPlan>,
    pub input: Place,
    pub output: Place,
    /// Second input of a sum, a gate or a concatenation, or the residual of a batch norm.
    pub other: Option<Place>,
    pub shapes: Shapes,
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

/// The place where a gradient goes.
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
    /// Training of what learns.
    Training(&'a Rates),
    Inference,
}

/// Whether the gradient of each value is needed: whether anything that learns has a part in it.
fn needs_gradient(network: &Network, rates: &Rates) -> Vec<bool> {
    let mut needed = vec![false; network.values.len()];
    for node in &network.nodes {
        needed[node.output] = node.op.learned().iter().any(|id| !rates.frozen(id))
            || node.reads().any(|value| needed[value]);
    }
    needed
}

/// A value's regions while the plan is made.
struct ValueRegions {
    activation: Region,
    gradient: Option<Region>,
}

/// An operation's regions while the plan is made.
struct Planned {
    conv: Option<ConvPlan>,
    scratch: Region,
    backward_scratch: usize,
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

impl Plan {
    pub(crate) fn new(
        network: &Network,
        batch: usize,
        purpose: Purpose<'_>,
        ctx: &Context,
    ) -> Result<Plan, ShapeError> {
        let rates = match purpose {
            Purpose::Training(rates) => Some(rates),
            Purpose::Inference => None,
        };
        let nodes = match purpose {
            Purpose::Training(_) => network.training_nodes(),
            Purpose::Inference => network.inference_nodes(),
        };
        let mut planner = Planner::new(network, batch, rates.is_some(), nodes.len());
        for (time, (_, node)) in nodes.iter().enumerate() {
            planner.forward(ctx, time, node)?;
        }
        if let Some(rates) = rates {
            let needed = needs_gradient(network, rates);
            for (time, (_, node)) in nodes.iter().enumerate().rev() {
                planner.backward(time, node, &needed);
            }
        }
        Ok(planner.finish(nodes))
    }
}

/// A plan in the making. Operations are planned in the order of the forward pass, then in that of the backward pass; the time
/// of an operation is its place in that sequence.
struct Planner<'a> {
    network: &'a Network,
    batch: usize,
    training: bool,
    count: usize,
    arena: ArenaBuilder,
    values: Vec<ValueRegions>,
    planned: Vec<Planned>,
    channels_len: usize,
    indices_len: usize,
}

impl<'a> Planner<'a> {
    fn new(network: &'a Network, batch: usize, training: bool, count: usize) -> Self {
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
        Planner {
            network,
            batch,
            training,
            count,
            arena,
            values,
            planned: Vec::with_capacity(count),
            channels_len: 0,
            indices_len: 0,
        }
    }

    fn forward(&mut self, ctx: &Context, time: usize, node: &Node) -> Result<(), ShapeError> {
        for value in node.reads().chain([node.output]) {
            self.arena.use_at(self.values[value].activation, time);
        }
        let Needs {
            conv,
            forward_scratch,
            backward_scratch,
            channels,
            indices,
        } = node.op.needs(&Planning {
            ctx,
            batch: self.batch,
            training: self.training,
            shapes: self.network.shapes(node),
        })?;
        let scratch = self.arena.region(forward_scratch);
        self.arena.use_at(scratch, time);
        self.planned.push(Planned {
            conv,
            scratch,
            backward_scratch,
            channels: extend(&mut self.channels_len, channels),
            indices: extend(&mut self.indices_len, indices),
            backward: None,
        });
        Ok(())
    }

    fn backward(&mut self, index: usize, node: &Node, needed: &[bool]) {
        if !needed[node.output] {
            return;
        }
        let time = 2 * self.count - index;
        let reads = node.op.backward_reads();
        let other = node.op.other();
        let kept = [
            reads.input.then_some(node.input),
            reads.output.then_some(node.output),
            other.filter(|_| reads.other),
        ];
        for value in kept.into_iter().flatten() {
            self.arena.use_at(self.values[value].activation, time);
        }
        let output_gradient = self.values[node.output]
            .gradient
            .expect("what is needed feeds a later layer or is the output");
        self.arena.use_at(output_gradient, time);
        let with_input = node.op.learned().with_input;
        let mut target =
            |value: ValueId| (needed[value] || with_input).then(|| self.gradient(value, time));
        let input_gradient = target(node.input);
        let other_gradient = other.and_then(target);
        let scratch = self.arena.region(self.planned[index].backward_scratch);
        self.arena.use_at(scratch, time);
        self.planned[index].backward = Some(PlannedBackward {
            output_gradient,
            input_gradient,
            other_gradient,
            scratch,
        });
    }

    /// The place where a gradient goes, and the place where it is computed first when another has been there before.
    fn gradient(&mut self, value: ValueId, time: usize) -> (Region, Option<Region>) {
        let len = self.network.values[value].len(self.batch);
        let arena = &mut self.arena;
        let gradient = &mut self.values[value].gradient;
        let staging = gradient.is_some().then(|| arena.region(len));
        let place = *gradient.get_or_insert_with(|| arena.region(len));
        for region in staging.into_iter().chain([place]) {
            arena.use_at(region, time);
        }
        (place, staging)
    }

    fn finish(self, nodes: Vec<(Range<usize>, Node)>) -> Plan {
        let layout = self.arena.place();
        let (network, values) = (self.network, &self.values);
        let activation = |value: ValueId| layout.range(values[value].activation);
        let steps = nodes
            .into_iter()
            .zip(self.planned)
            .map(|((layers, node), planned)| Step {
                layers,
                conv: planned.conv,
                input: activation(node.input),
                output: activation(node.output),
                other: node.op.other().map(activation),
                shapes: network.shapes(&node),
                scratch: layout.range(planned.scratch),
                channels: planned.channels,
                indices: planned.indices,
                backward: planned.backward.map(|backward| backward.place(&layout)),
                node,
            })
            .collect();
        Plan {
            steps,
            batch: self.batch,
            input: activation(0),
            input_shape: network.values[0],
            output: activation(network.output),
            output_shape: network.values[network.output],
            output_gradient: values[network.output].gradient.map(|g| layout.range(g)),
            arena_len: layout.len(),
            channels_len: self.channels_len,
            indices_len: self.indices_len,
        }
    }
}

impl PlannedBackward {
    fn place(self, layout: &ArenaLayout) -> BackwardStep {
        let target = |(place, staging): (Region, Option<Region>)| Target {
            place: layout.range(place),
            staging: staging.map(|s| layout.range(s)),
        };
        BackwardStep {
            output_gradient: layout.range(self.output_gradient),
            input_gradient: self.input_gradient.map(target),
            other_gradient: self.other_gradient.map(target),
            scratch: layout.range(self.scratch),
        }
    }
}

fn extend(total: &mut usize, len: usize) -> Place {
    let start = *total;
    *total += len;
    start..*total
}
