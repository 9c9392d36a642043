//! The dangerous functions that a pickle would call, or hand to what may call them. To name one alone does nothing.

use super::globals::{DangerousCall, Trust, trust};
use super::pickle::{Global, Graph, Id, Node, Object};
use super::value::{Value, class_of};

/// Dangerous calls of a pickle, and where they are.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) calls: Vec<DangerousCall>,
    /// All that a dangerous call has a part in, by place in the graph; empty if there is none.
    reached: Vec<bool>,
}

/// Calls told; more are counted as dangerous all the same.
const TOLD: usize = 32;

impl Calls {
    /// Looks for them. Time is linear in the size of the graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let is_dangerous: Vec<bool> = graph
            .globals()
            .iter()
            .map(|used| trust(&used.global) == Trust::Dangerous)
            .collect();
        if !is_dangerous.contains(&true) {
            return Self::default();
        }
        let armed = armed(graph, &is_dangerous);
        let mut found = Self::default();
        let mut roots = Vec::new();
        for id in graph.ids() {
            let Node::Object(object) = graph.node(id) else {
                continue;
            };
            let Some(call) = dangerous_call(graph, object, &armed) else {
                continue;
            };
            roots.push(id);
            if found.calls.len() < TOLD && !found.calls.contains(&call) {
                found.calls.push(call);
            }
        }
        if !roots.is_empty() {
            found.reached = reached(graph, roots);
        }
        found
    }

    /// Whether a dangerous call has a part in anything of this value that can change.
    pub(super) fn touch_within(&self, graph: &Graph, id: Id) -> bool {
        if self.reached.is_empty() {
            return false;
        }
        let own = reached(graph, vec![id]);
        graph.ids().any(|id| {
            own[id.place()]
                && self.touch(id)
                && matches!(
                    graph.node(id),
                    Node::Object(_) | Node::List(_) | Node::Dict(_) | Node::Set(_)
                )
        })
    }

    /// Whether a dangerous call makes this value or gets it as an argument.
    pub(super) fn touch(&self, id: Id) -> bool {
        self.reached.get(id.place()) == Some(&true)
    }
}

/// Dangerous functions, and what holds them without a call: containers to a few levels, which is as far as a pickle's own
/// functions look into their arguments.
fn armed(graph: &Graph, is_dangerous: &[bool]) -> Vec<bool> {
    const LEVELS: usize = 8;
    let mut armed: Vec<bool> = graph
        .ids()
        .map(|id| match graph.node(id) {
            Node::Global(at) => is_dangerous[*at as usize],
            _ => false,
        })
        .collect();
    for _ in 0..LEVELS {
        let mut changed = false;
        for id in graph.ids() {
            if armed[id.place()] {
                continue;
            }
            let any = |ids: &[Id]| ids.iter().any(|id| armed[id.place()]);
            let pairs = |pairs: &[(Id, Id)]| {
                let mut ids = pairs.iter().flat_map(|(key, value)| [key, value]);
                ids.any(|id| armed[id.place()])
            };
            let holds = match graph.node(id) {
                Node::List(ids) | Node::Tuple(ids) | Node::Set(ids) | Node::FrozenSet(ids) => {
                    any(ids)
                }
                Node::Dict(items) => pairs(items),
                Node::Persistent(key) => armed[key.place()],
                Node::Object(object) if is_container(graph, object) => {
                    armed[object.args.place()] || any(&object.elements) || pairs(&object.items)
                }
                _ => false,
            };
            armed[id.place()] |= holds;
            changed |= holds;
        }
        if !changed {
            break;
        }
    }
    armed
}

/// Whether a call makes a container of its arguments, and does nothing else with them.
fn is_container(graph: &Graph, object: &Object) -> bool {
    class_of(graph, object.callable).is_some_and(|class| {
        matches!(
            (class.module.as_str(), class.name.as_str()),
            (
                "builtins" | "__builtin__",
                "dict" | "list" | "tuple" | "set" | "frozenset"
            ) | ("collections", "OrderedDict" | "deque")
        )
    })
}

fn dangerous_call(graph: &Graph, object: &Object, armed: &[bool]) -> Option<DangerousCall> {
    if armed[object.callable.place()]
        && let Some(class) = class_of(graph, object.callable)
    {
        let global = class.clone();
        let how = format!("with {}", Value::of(graph, object.args));
        return Some(DangerousCall { global, how });
    }
    if !armed[object.args.place()] || is_container(graph, object) {
        return None;
    }
    let global = first_armed(graph, object.args, armed)?.clone();
    let to = match class_of(graph, object.callable) {
        Some(class) => format!("`{class}`"),
        None => "the result of another call".into(),
    };
    let how = format!("through {to}");
    Some(DangerousCall { global, how })
}

/// A dangerous function in a value that holds one.
fn first_armed<'a>(graph: &'a Graph, mut id: Id, armed: &[bool]) -> Option<&'a Global> {
    // No deeper than `armed` looks.
    for _ in 0..16 {
        let mut inner: Vec<Id> = Vec::new();
        match graph.node(id) {
            Node::Global(_) => return graph.as_global(id),
            Node::List(ids) | Node::Tuple(ids) | Node::Set(ids) | Node::FrozenSet(ids) => {
                inner.extend(ids);
            }
            Node::Dict(items) => inner.extend(items.iter().flat_map(|(key, value)| [key, value])),
            Node::Persistent(key) => inner.push(*key),
            Node::Object(object) => {
                inner.push(object.args);
                inner.extend(&object.elements);
                inner.extend(object.items.iter().flat_map(|(key, value)| [key, value]));
            }
            _ => return None,
        }
        // A global first: what leads deeper could lead in a circle.
        let armed = || inner.iter().filter(|id| armed[id.place()]);
        id = *armed()
            .find(|&&id| graph.as_global(id).is_some())
            .or_else(|| armed().next())?;
    }
    None
}

/// All that can be got to from these values.
fn reached(graph: &Graph, roots: Vec<Id>) -> Vec<bool> {
    let mut reached = vec![false; graph.ids().len()];
    let mut left = roots;
    while let Some(id) = left.pop() {
        if std::mem::replace(&mut reached[id.place()], true) {
            continue;
        }
        match graph.node(id) {
            Node::List(ids) | Node::Tuple(ids) | Node::Set(ids) | Node::FrozenSet(ids) => {
                left.extend(ids);
            }
            Node::Dict(items) => left.extend(items.iter().flat_map(|(key, value)| [key, value])),
            Node::Persistent(key) => left.push(*key),
            Node::Object(object) => {
                left.extend([object.callable, object.args]);
                left.extend(&object.elements);
                left.extend(object.items.iter().flat_map(|(key, value)| [key, value]));
                left.extend(&object.states);
            }
            _ => {}
        }
    }
    reached
}
