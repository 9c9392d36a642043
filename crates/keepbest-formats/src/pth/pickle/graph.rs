//! The graph of values that a pickle describes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(super) u32);

/// A name that a pickle would import. Nothing is imported here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Global {
    /// Module, such as `torch._utils`.
    pub module: String,
    /// Name in it, such as `_rebuild_tensor_v2`; may have dots.
    pub name: String,
}

impl Global {
    /// Whether this is `module.name`.
    pub(crate) fn is(&self, module: &str, name: &str) -> bool {
        self.module == module && self.name == name
    }
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// A global and how often the pickle would call it or make an instance of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalUse {
    /// The name.
    pub global: Global,
    /// Calls and constructions.
    pub calls: usize,
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, little-endian.
    BigInt(Bytes),
    Float(f64),
    Str(Arc<str>),
    Bytes(Bytes),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    FrozenSet(Vec<Id>),
    /// Assignments in order; a later one to the same key counts.
    Dict(Vec<(Id, Id)>),
    /// Index into the globals.
    Global(u32),
    /// What the file keeps outside the pickle under this id.
    Persistent(Id),
    Object(Box<Object>),
}

/// What a pickle would make by calling something.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// What would be called: mostly a global.
    pub callable: Id,
    /// A tuple.
    pub args: Id,
    /// Elements appended afterwards (list and set subclasses).
    pub elements: Vec<Id>,
    /// Items assigned afterwards (dict subclasses).
    pub items: Vec<(Id, Id)>,
    /// States set afterwards, in order: mostly none or one.
    pub states: Vec<Id>,
}

/// All values of one pickle. References may form cycles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) globals: Vec<GlobalUse>,
    pub(super) global_index: HashMap<Global, u32>,
}

impl Id {
    /// The place of the value among all of its graph.
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

impl Graph {
    /// All values there are.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = Id> + use<> {
        // There are no more than `add` and the pickle machine give numbers to.
        (0..self.nodes.len() as u32).map(Id)
    }

    /// The call that a node is.
    pub(crate) fn object_mut(&mut self, id: Id) -> Option<&mut Object> {
        match &mut self.nodes[id.0 as usize] {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Adds a value that is not in the pickle.
    pub(crate) fn add(&mut self, node: Node) -> Id {
        let id = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    /// Puts another value in the place of one.
    pub(crate) fn replace(&mut self, id: Id, node: Node) {
        self.nodes[id.0 as usize] = node;
    }

    /// Adds a name that the pickle does not have, or finds it if it has.
    pub(crate) fn global(&mut self, global: Global) -> Node {
        let next = self.globals.len() as u32;
        let globals = &mut self.globals;
        let at = *self.global_index.entry(global).or_insert_with_key(|key| {
            globals.push(GlobalUse {
                global: key.clone(),
                calls: 0,
            });
            next
        });
        Node::Global(at)
    }

    /// All values that stand for what the file keeps outside of the pickle, with their ids.
    pub(crate) fn persistent(&self) -> impl Iterator<Item = (Id, Id)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| match node {
                Node::Persistent(key) => Some((Id(at as u32), *key)),
                _ => None,
            })
    }

    pub(crate) fn globals(&self) -> &[GlobalUse] {
        &self.globals
    }

    /// The global that a node is.
    pub(crate) fn as_global(&self, id: Id) -> Option<&Global> {
        match self.node(id) {
            Node::Global(at) => Some(&self.globals[*at as usize].global),
            _ => None,
        }
    }

    /// The text that a node is.
    pub(crate) fn as_str(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer that a node is.
    pub(crate) fn as_int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of a tuple.
    pub(crate) fn as_tuple(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(elements) => Some(elements),
            _ => None,
        }
    }
}
