//! Dicts that were built from lists of pairs, as Python 2 pickled every `OrderedDict`.
//!
//! Python 3 writes `OrderedDict()` and then its items. Python 2 wrote `OrderedDict([[key, value], ...])`: the pairs are lists, not
//! tuples. After this pass both are the same here.

use super::pickle::{Graph, Id, Node};
use super::value::class_of;

/// Turns the pairs that dicts are built from into their items. A list can be in many places: all dicts together get at most
/// `limit` items this way, and what is beyond stays as it is.
pub(super) fn settle(graph: &mut Graph, limit: usize) {
    let mut left = limit;
    for id in graph.ids() {
        let Some(pairs) = pairs_of(graph, id, left) else {
            continue;
        };
        left -= pairs.len();
        let no_args = graph.add(Node::Tuple(Vec::new()));
        if let Some(object) = graph.object_mut(id) {
            object.args = no_args;
            object.items.splice(0..0, pairs);
        }
    }
}

/// The pairs that a call makes a dict of, if it is such a call and has no more than `most`.
fn pairs_of(graph: &Graph, id: Id, most: usize) -> Option<Vec<(Id, Id)>> {
    let Node::Object(object) = graph.node(id) else {
        return None;
    };
    let [list] = graph.as_tuple(object.args)? else {
        return None;
    };
    let class = class_of(graph, object.callable)?;
    let is_dict = matches!(
        (class.module.as_str(), class.name.as_str()),
        ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict")
    );
    let (Node::List(list) | Node::Tuple(list)) = graph.node(*list) else {
        return None;
    };
    if !is_dict || list.is_empty() || list.len() > most {
        return None;
    }
    list.iter()
        .map(|&pair| match graph.node(pair) {
            Node::List(pair) | Node::Tuple(pair) => match pair[..] {
                [key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}
