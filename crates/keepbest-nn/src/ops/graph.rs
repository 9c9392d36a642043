//! Layers as a graph: each says which values it reads.

use super::blocks::{announce, place_of};
use super::lowering::{Current, LayerError, Lowering, Place};
use super::{arithmetic, concat};
use crate::spec::{Layer, Unnamed};
use keepbest_kernels::Arithmetic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
pub(crate) fn lower(
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
