//! Blocks: layers inside layers, in order, beside each other, or as a graph.

use super::gate::GateOp;
use super::lowering::{Current, LayerError, Lowering, MAX_LAYERS, Place, describe, join};
use super::{add, arithmetic, concat, layer_scale};
use crate::spec::{Layer, Unnamed, values};
use keepbest_kernels::{ActShape, Arithmetic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Layers under one name. An empty name adds nothing to the names of the layers inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequential {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// Layers several times over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// Name of each copy, with `{}` where its number goes; the number alone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of copies.
    pub times: usize,
    /// Number of the first copy.
    #[serde(default, skip_serializing_if = "values::is_nought")]
    pub first: usize,
    /// The layers of each copy, in order.
    pub layers: Vec<Layer>,
}

/// A residual block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The main branch.
    pub body: Vec<Layer>,
    /// The other branch; the identity when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<Layer>,
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What computes the factors, one pixel of as many channels as `x` has.
    pub body: Vec<Layer>,
}

/// Branches whose outputs are joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The branches, in the order of their channels. A branch adds nothing to the names of its layers.
    pub branches: Vec<Vec<Layer>>,
}

/// The place of a layer in the block called `prefix`.
pub(super) fn place_of(prefix: &str, position: usize, layer: &Layer) -> Place {
    let own = layer
        .name()
        .map_or_else(|| position.to_string(), str::to_owned);
    let name = match layer {
        // Its name is a pattern for the names of its copies.
        Layer::Repeat(_) => prefix.to_owned(),
        _ => join(prefix, &own),
    };
    let op = layer.op();
    Place { name, op }
}

/// Declares the parameters that a block's layers have in the block's own name: PyTorch names a module's own before those of its
/// submodules.
pub(super) fn announce<'a>(
    lowering: &mut Lowering,
    layers: impl Iterator<Item = (&'a Place, &'a Layer)>,
) -> Result<(), LayerError> {
    for (place, layer) in layers {
        if let Layer::LayerScale(l) = layer {
            layer_scale::announce(lowering, place, l)?;
        }
    }
    Ok(())
}

/// Adds layers in order to the network; `prefix` is the name of the block they are in.
pub(crate) fn sequence(
    lowering: &mut Lowering,
    prefix: &str,
    layers: &[Layer],
    mut current: Current,
) -> Result<Current, LayerError> {
    let places: Vec<Place> = layers
        .iter()
        .enumerate()
        .map(|(position, layer)| place_of(prefix, position, layer))
        .collect();
    announce(lowering, places.iter().zip(layers))?;
    for (place, layer) in places.iter().zip(layers) {
        lowering.count(place)?;
        current = layer.lower(lowering, place, current)?;
    }
    Ok(current)
}

/// Adds the layers of a sequential block to the network.
pub(crate) fn lower_sequential(
    lowering: &mut Lowering,
    place: &Place,
    l: &Sequential,
    x: Current,
) -> Result<Current, LayerError> {
    sequence(lowering, &place.name, &l.layers, x)
}

/// Adds nothing to the network.
pub(crate) fn lower_identity(
    _: &mut Lowering,
    _: &Place,
    _: &Unnamed,
    x: Current,
) -> Result<Current, LayerError> {
    Ok(x)
}

/// Adds copies of layers to the network.
pub(crate) fn lower_repeat(
    lowering: &mut Lowering,
    place: &Place,
    l: &Repeat,
    mut x: Current,
) -> Result<Current, LayerError> {
    let pattern = l.name.as_deref().unwrap_or("{}");
    if l.times > 1 && !pattern.contains("{}") {
        return Err(place.error(format!(
            "the name `{pattern}` must contain {{}}, where each copy's number goes"
        )));
    }
    if l.first > MAX_LAYERS {
        return Err(place.error(format!("first must be at most {MAX_LAYERS}")));
    }
    for copy in 0..l.times {
        lowering.count(place)?;
        let own = pattern.replace("{}", &(l.first + copy).to_string());
        x = sequence(lowering, &join(&place.name, &own), &l.layers, x)?;
    }
    Ok(x)
}

/// Adds a residual block to the network.
pub(crate) fn lower_residual(
    lowering: &mut Lowering,
    place: &Place,
    l: &Residual,
    x: Current,
) -> Result<Current, LayerError> {
    // Both branches read `x`: neither may take a later ReLU into what makes it.
    lowering.share(x);
    let start = lowering.nodes.len();
    // The body comes first in the state dict, as in torchvision, and last in the computation, so that the
    // sum can be fused into its end.
    let body = sequence(lowering, &place.name, &l.body, x)?;
    let body_nodes = lowering.nodes.len() - start;
    let shortcut = sequence(lowering, &place.name, &l.shortcut, x)?;
    lowering.nodes[start..].rotate_left(body_nodes);
    apart(place, body, shortcut)?;
    let (a, b) = (lowering.shape(body), lowering.shape(shortcut));
    if a != b || body.flat != shortcut.flat {
        return Err(place.error(format!(
            "the body gives {} and the shortcut {}: they must be the same",
            describe(a, body.flat),
            describe(b, shortcut.flat)
        )));
    }
    Ok(add::sum(lowering, place, body, shortcut))
}

/// Two inputs of one operation must be two values.
fn apart(place: &Place, a: Current, b: Current) -> Result<(), LayerError> {
    if a.value == b.value {
        return Err(place.error("both sides are the input itself: no layer computes".to_owned()));
    }
    Ok(())
}

/// A side branch: what it reads feeds others too, so nothing may be fused into what is before it.
fn aside(
    lowering: &mut Lowering,
    place: &Place,
    layers: &[Layer],
    x: Current,
) -> Result<Current, LayerError> {
    lowering.share(x);
    let out = sequence(lowering, &place.name, layers, x)?;
    lowering.map(place, out)?;
    Ok(out)
}

/// Adds a gate to the network.
pub(crate) fn lower_gate(
    lowering: &mut Lowering,
    place: &Place,
    l: &Gate,
    x: Current,
) -> Result<Current, LayerError> {
    let shape = lowering.map(place, x)?;
    let factors = aside(lowering, place, &l.body, x)?;
    apart(place, x, factors)?;
    let expected = ActShape::new(1, 1, shape.c);
    let found = lowering.shape(factors);
    if found != expected {
        return Err(place.error(format!(
            "the body gives {}; it must give {}, a factor for each channel of the input",
            describe(found, false),
            describe(expected, false)
        )));
    }
    let other = factors.value;
    Ok(lowering.same_shape(place, GateOp { other }, x))
}

/// Adds branches to the network.
pub(crate) fn lower_branch(
    lowering: &mut Lowering,
    place: &Place,
    l: &Branch,
    x: Current,
) -> Result<Current, LayerError> {
    lowering.map(place, x)?;
    if l.branches.len() < 2 {
        return Err(place.error("needs at least two branches".to_owned()));
    }
    let mut ends = Vec::with_capacity(l.branches.len());
    for layers in &l.branches {
        ends.push(aside(lowering, place, layers, x)?);
    }
    let mut joined = ends[0];
    for end in &ends[1..] {
        apart(place, joined, *end)?;
        let (a, b) = (lowering.shape(joined), lowering.shape(*end));
        if (a.h, a.w) != (b.h, b.w) {
            return Err(place.error(format!(
                "one branch gives {} and another {}: their sizes must be the same",
                describe(a, false),
                describe(b, false)
            )));
        }
        joined = concat::pair(lowering, place, joined, *end);
    }
    Ok(joined)
}

/// Name of the graph's input among its values.
const INPUT: &str = "input";

/// A graph of layers. Its values are its input, called `input`, and what its nodes give; any number of nodes may read a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Name of the block; its position in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The nodes, each behind those it reads from.
    pub nodes: Vec<GraphNode>,
    /// Id of the node that gives the graph's output; the last when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// A layer of a [`Graph`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphNode {
    /// What other nodes call its value; the layer's name when absent, or else its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Ids of the values that the layer reads: of nodes before it, or `input`. The node before it when empty, the input for the
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The layer.
    pub layer: Layer,
}

/// A layer that joins several values.
enum Joining {
    Arithmetic(Arithmetic),
    Concat,
}

impl Joining {
    fn of(layer: &Layer) -> Option<Joining> {
        Some(match layer {
            Layer::Add(_) => Joining::Arithmetic(Arithmetic::Add),
            Layer::Sub(_) => Joining::Arithmetic(Arithmetic::Sub),
            Layer::Mul(_) => Joining::Arithmetic(Arithmetic::Mul),
            Layer::Div(_) => Joining::Arithmetic(Arithmetic::Div),
            Layer::Maximum(_) => Joining::Arithmetic(Arithmetic::Maximum),
            Layer::Minimum(_) => Joining::Arithmetic(Arithmetic::Minimum),
            Layer::Concat(_) => Joining::Concat,
            _ => return None,
        })
    }
}

/// Refuses a layer of several inputs that stands in a list of layers.
pub(crate) fn alone(
    _: &mut Lowering,
    place: &Place,
    _: &Unnamed,
    _: Current,
) -> Result<Current, LayerError> {
    Err(place.error(
        "joins several values: it must be a node of a graph, which names them in `from`".to_owned(),
    ))
}

/// The places of values among the graph's: the input, then the nodes' in order.
struct Wiring {
    from: Vec<Vec<usize>>,
    output: usize,
    /// How often each value is read, the graph's own output counting as once.
    readers: Vec<usize>,
}

impl Wiring {
    fn of(place: &Place, l: &Graph) -> Result<Wiring, LayerError> {
        let mut known = BTreeMap::from([(INPUT.to_owned(), 0)]);
        let mut ids = vec![INPUT.to_owned()];
        let mut from = Vec::with_capacity(l.nodes.len());
        for (position, node) in l.nodes.iter().enumerate() {
            let own = node.id.as_deref().or(node.layer.name());
            let id = own.map_or_else(|| position.to_string(), str::to_owned);
            let sources = if node.from.is_empty() {
                vec![position]
            } else {
                let find = |source: &String| {
                    let value = known.get(source.as_str()).copied();
                    value.ok_or_else(|| unknown(place, l, &id, source, &ids))
                };
                node.from.iter().map(find).collect::<Result<_, _>>()?
            };
            from.push(sources);
            if known.insert(id.clone(), position + 1).is_some() {
                return Err(place.error(format!("two values are called `{id}`")));
            }
            ids.push(id);
        }
        let output = match &l.output {
            None => l.nodes.len(),
            Some(id) => match known.get(id.as_str()) {
                Some(&value) => value,
                None => return Err(place.error(format!("there is no node `{id}`, its output"))),
            },
        };
        let mut readers = vec![0; ids.len()];
        for &value in from.iter().flatten().chain([&output]) {
            readers[value] += 1;
        }
        if let Some(unread) = readers.iter().position(|&readers| readers == 0) {
            let id = &ids[unread];
            return Err(place.error(format!("nothing reads the value `{id}`")));
        }
        Ok(Wiring {
            from,
            output,
            readers,
        })
    }
}

fn unknown(place: &Place, l: &Graph, node: &str, source: &str, before: &[String]) -> LayerError {
    let own = |node: &GraphNode| node.id.as_deref().or(node.layer.name()) == Some(source);
    let why = if l.nodes.iter().any(own) {
        "which is not before it".to_owned()
    } else {
        format!("which there is not; known there are {}", before.join(", "))
    };
    place.error(format!("node `{node}` reads `{source}`, {why}"))
}

/// Adds a graph to the network.
pub(crate) fn lower_graph(
    lowering: &mut Lowering,
    place: &Place,
    l: &Graph,
    x: Current,
) -> Result<Current, LayerError> {
    let wiring = Wiring::of(place, l)?;
    let places: Vec<Place> = l
        .nodes
        .iter()
        .enumerate()
        .map(|(position, node)| place_of(&place.name, position, &node.layer))
        .collect();
    announce(
        lowering,
        places.iter().zip(l.nodes.iter().map(|n| &n.layer)),
    )?;
    let mut values = vec![x];
    let mut concatenated = concat::Known::new();
    if wiring.readers[0] > 1 {
        lowering.share(x);
    }
    for ((node, place), from) in l.nodes.iter().zip(&places).zip(&wiring.from) {
        lowering.count(place)?;
        let inputs: Vec<Current> = from.iter().map(|&value| values[value]).collect();
        let value = match (Joining::of(&node.layer), &inputs[..]) {
            (Some(Joining::Arithmetic(kind)), inputs) => {
                arithmetic::join(lowering, place, kind, inputs)?
            }
            (Some(Joining::Concat), inputs) => {
                concat::join(lowering, place, inputs, &mut concatenated)?
            }
            (None, &[input]) => node.layer.lower(lowering, place, input)?,
            (None, inputs) => {
                let found = inputs.len();
                return Err(place.error(format!("takes one value, found {found}")));
            }
        };
        if wiring.readers[values.len()] > 1 {
            lowering.share(value);
        }
        values.push(value);
    }
    Ok(values[wiring.output])
}
