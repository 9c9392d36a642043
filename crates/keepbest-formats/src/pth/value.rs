//! Looking at what a pickle holds.

use std::fmt;

use super::dtypes;
use super::numpy;
use super::pickle::{Global, Graph, Id, Node, Object};
use super::tensor::{StorageRef, TensorRef};
use crate::Dtype;

/// One value of a PyTorch file, seen through the file.
///
/// Values may refer to one another in cycles: who follows them must bound how deep.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond 64 bits: two's complement, little-endian.
    BigInt(&'a [u8]),
    /// A number, of Python or a scalar of NumPy.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list.
    List(Elements<'a>),
    /// A tuple, or a `torch.Size`.
    Tuple(Elements<'a>),
    /// A set, frozen or not.
    Set(Elements<'a>),
    /// A dict, plain, ordered or with a default.
    Dict(Entries<'a>),
    /// A tensor.
    Tensor(TensorRef<'a>),
    /// An array of NumPy.
    Array(TensorRef<'a>),
    /// A storage that no tensor is around.
    Storage(StorageRef<'a>),
    /// A `torch.dtype`.
    Dtype(Dtype),
    /// The name of a class or function.
    Global(&'a Global),
    /// An instance of a class that is not known here, as an inert record.
    Object(Record<'a>),
    /// An id whose meaning is not known.
    Persistent(&'a str),
}

/// Elements of a list, tuple or set.
#[derive(Clone, Copy)]
pub struct Elements<'a> {
    graph: &'a Graph,
    ids: &'a [Id],
}

impl<'a> Elements<'a> {
    /// The number of them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'a>> + use<'a> {
        let graph = self.graph;
        self.ids.iter().map(move |&id| Value::of(graph, id))
    }
}

/// Items of a dict.
#[derive(Clone, Copy)]
pub struct Entries<'a> {
    graph: &'a Graph,
    pairs: &'a [(Id, Id)],
}

/// Longer keys are not looked at as names.
pub(super) const LONGEST_NAME: usize = 1024;

impl<'a> Entries<'a> {
    /// The number of assignments; a key that was assigned twice counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Value<'a>, Value<'a>)> + use<'a> {
        let graph = self.graph;
        self.pairs
            .iter()
            .map(move |&(key, value)| (Value::of(graph, key), Value::of(graph, value)))
    }

    /// Text keys and their values in order, each key once: at the place of its first assignment,
    /// with the value of its last, as in Python. Keys of more than 1024 bytes are left out: they are no
    /// names, and a file could make their comparison take for ever.
    #[must_use]
    pub fn named(&self) -> Vec<(&'a str, Value<'a>)> {
        let mut places = std::collections::HashMap::new();
        let mut named: Vec<(&str, Value<'_>)> = Vec::new();
        for &(key, value) in self.pairs {
            if let Some(key) = self.graph.as_str(key)
                && key.len() <= LONGEST_NAME
            {
                let value = Value::of(self.graph, value);
                match places.get(key) {
                    Some(&at) => {
                        let entry: &mut (&str, Value<'_>) = &mut named[at];
                        entry.1 = value;
                    }
                    None => {
                        places.insert(key, named.len());
                        named.push((key, value));
                    }
                }
            }
        }
        named
    }

    /// The value under a text key: the last one assigned.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.pairs
            .iter()
            .rev()
            .find(|(name, _)| self.graph.as_str(*name) == Some(key))
            .map(|&(_, value)| Value::of(self.graph, value))
    }
}

/// What a pickle would have made by calling something that is not known here.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    graph: &'a Graph,
    id: Id,
    object: &'a Object,
}

impl<'a> Record<'a> {
    /// The class or function, if it is a plain name.
    #[must_use]
    pub fn class(&self) -> Option<&'a Global> {
        class_of(self.graph, self.object.callable)
    }

    /// Arguments of the call.
    #[must_use]
    pub fn args(&self) -> Elements<'a> {
        Elements {
            graph: self.graph,
            ids: self.graph.as_tuple(self.object.args).unwrap_or_default(),
        }
    }

    /// The state that was set last, mostly the dict of attributes.
    #[must_use]
    pub fn state(&self) -> Option<Value<'a>> {
        let id = *self.object.states.last()?;
        Some(Value::of(self.graph, id))
    }

    /// The attributes: the state if it is a dict, or the dict of a pair of dict and slots.
    #[must_use]
    pub fn attributes(&self) -> Option<Entries<'a>> {
        match self.state()? {
            Value::Dict(entries) => Some(entries),
            Value::Tuple(pair) if pair.len() == 2 => match pair.iter().next() {
                Some(Value::Dict(entries)) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// Items assigned to it, if it is a kind of dict.
    #[must_use]
    pub fn items(&self) -> Entries<'a> {
        Entries {
            graph: self.graph,
            pairs: &self.object.items,
        }
    }

    /// Elements added to it, if it is a kind of list or set.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            graph: self.graph,
            ids: &self.object.elements,
        }
    }

    /// A number that is the same for the same object only.
    pub(super) fn identity(&self) -> Id {
        self.id
    }
}

impl<'a> Value<'a> {
    pub(super) fn of(graph: &'a Graph, id: Id) -> Self {
        let elements = |ids: &'a [Id]| Elements { graph, ids };
        match graph.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::BigInt(bytes) => Value::BigInt(bytes),
            Node::Float(value) => Value::Float(*value),
            Node::Str(text) => Value::Str(text),
            Node::Bytes(bytes) => Value::Bytes(bytes),
            Node::List(ids) => Value::List(elements(ids)),
            Node::Tuple(ids) => Value::Tuple(elements(ids)),
            Node::Set(ids) | Node::FrozenSet(ids) => Value::Set(elements(ids)),
            Node::Dict(pairs) => Value::Dict(Entries { graph, pairs }),
            Node::Global(_) => match graph.as_global(id) {
                Some(global) => match dtypes::dtype(global) {
                    Some(dtype) => Value::Dtype(dtype),
                    None => Value::Global(global),
                },
                None => Value::None,
            },
            Node::Persistent(key) => Self::persistent(graph, *key),
            Node::Object(object) => Self::object(graph, id, object),
        }
    }

    /// What the file keeps outside of the pickle.
    fn persistent(graph: &'a Graph, key: Id) -> Self {
        if let Some(storage) = StorageRef::of(graph, key) {
            return Value::Storage(storage);
        }
        // The form before 1.6 wraps classes so that their source can stand beside them.
        if let Some([kind, class, ..]) = graph.as_tuple(key)
            && graph.as_str(*kind) == Some("module")
        {
            // Nothing but a name: following other values from here could go arbitrarily deep.
            return graph
                .as_global(*class)
                .map_or(Value::Persistent("module"), Value::Global);
        }
        Value::Persistent(graph.as_str(key).unwrap_or_default())
    }

    /// Calls whose meaning is known are what they would return.
    fn object(graph: &'a Graph, id: Id, object: &'a Object) -> Self {
        let record = Value::Object(Record { graph, id, object });
        let Some(callable) = class_of(graph, object.callable) else {
            return record;
        };
        let args = graph.as_tuple(object.args).unwrap_or_default();
        let (module, name) = (callable.module.as_str(), callable.name.as_str());
        match (module, name) {
            (
                "torch._utils" | "torch._tensor" | "torch.nn.parameter" | "torch.autograd.variable",
                _,
            ) => match TensorRef::of(graph, id) {
                Some(tensor) => Value::Tensor(tensor),
                None => record,
            },
            ("collections", "OrderedDict" | "defaultdict") | (BUILTINS_2 | BUILTINS_3, "dict")
                if object.elements.is_empty() =>
            {
                match dict_pairs(graph, object, args, name) {
                    Some(pairs) => Value::Dict(Entries { graph, pairs }),
                    None => record,
                }
            }
            _ if numpy::makes_array(module, name) => match TensorRef::of_array(graph, id) {
                Some(array) => Value::Array(array),
                None => record,
            },
            (BUILTINS_2 | BUILTINS_3, "set" | "frozenset" | "list" | "tuple")
            | ("torch", "Size")
            | (
                "torch.jit._pickle",
                "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist",
            ) if object.items.is_empty() => {
                let ids: &[Id] = match (args, object.elements.as_slice()) {
                    ([], elements) => elements,
                    ([list], []) => match graph.node(*list) {
                        Node::List(ids)
                        | Node::Tuple(ids)
                        | Node::Set(ids)
                        | Node::FrozenSet(ids) => ids,
                        _ => return record,
                    },
                    _ => return record,
                };
                let elements = Elements { graph, ids };
                match name {
                    "set" | "frozenset" => Value::Set(elements),
                    "tuple" | "Size" => Value::Tuple(elements),
                    _ => Value::List(elements),
                }
            }
            ("torch.jit._pickle", "restore_type_tag") => match args {
                // The tag is for TorchScript's static types; the value is the first argument.
                [value, _] if *value != id => match graph.node(*value) {
                    // One step only: tags do not nest, and following them could run in a circle.
                    Node::Object(_) => record,
                    _ => Value::of(graph, *value),
                },
                _ => record,
            },
            ("torch", "device") => match args {
                [kind, ..] => graph.as_str(*kind).map_or(record, Value::Str),
                _ => record,
            },
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => {
                numpy_scalar(graph, args).unwrap_or(record)
            }
            _ => record,
        }
    }

    /// A word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::BigInt(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Set(_) => "set",
            Value::Dict(_) => "dict",
            Value::Tensor(_) => "tensor",
            Value::Array(_) => "array of NumPy",
            Value::Storage(_) => "storage",
            Value::Dtype(_) => "dtype",
            Value::Global(_) => "class or function",
            Value::Object(_) => "object",
            Value::Persistent(_) => "reference",
        }
    }
}

const BUILTINS_2: &str = "__builtin__";
const BUILTINS_3: &str = "builtins";

/// The class that a callable is: a global, plain or wrapped with its source.
pub(super) fn class_of(graph: &Graph, callable: Id) -> Option<&Global> {
    match graph.node(callable) {
        Node::Persistent(key) => match graph.as_tuple(*key)? {
            [kind, class, ..] if graph.as_str(*kind) == Some("module") => graph.as_global(*class),
            _ => None,
        },
        _ => graph.as_global(callable),
    }
}

/// The items of a dict: assigned one by one, or given as an argument that is itself a dict.
fn dict_pairs<'a>(
    graph: &'a Graph,
    object: &'a Object,
    args: &[Id],
    name: &str,
) -> Option<&'a [(Id, Id)]> {
    let given = match (name, args) {
        (_, []) | ("defaultdict", [_]) => None,
        ("defaultdict", [_, given]) | ("OrderedDict" | "dict", [given]) => Some(*given),
        _ => return None,
    };
    match given.map(|given| graph.node(given)) {
        None => Some(&object.items),
        Some(Node::Dict(pairs)) if object.items.is_empty() => Some(pairs),
        // Of a list of pairs: those with pairs in them are settled by now; an empty one is as good as none.
        Some(Node::List(pairs) | Node::Tuple(pairs)) if pairs.is_empty() => Some(&object.items),
        Some(_) => None,
    }
}

/// `numpy.core.multiarray.scalar(dtype, bytes)` for the types that metrics have.
fn numpy_scalar<'a>(graph: &'a Graph, args: &[Id]) -> Option<Value<'a>> {
    let [dtype, raw] = args else {
        return None;
    };
    let Node::Object(dtype) = graph.node(*dtype) else {
        return None;
    };
    if !graph.as_global(dtype.callable)?.is("numpy", "dtype") {
        return None;
    }
    let kind = graph.as_str(*graph.as_tuple(dtype.args)?.first()?)?;
    // The state's second part is the byte order; scalars are written in the machine's own.
    let order = dtype
        .states
        .last()
        .and_then(|&state| graph.as_str(*graph.as_tuple(state)?.get(1)?));
    if order == Some(">") {
        return None;
    }
    // No scalar is longer; in text each byte takes two at most.
    const LONGEST: usize = 16;
    let raw: Vec<u8> = match graph.node(*raw) {
        Node::Bytes(raw) if raw.len() <= LONGEST => raw.to_vec(),
        Node::Str(raw) if raw.len() <= LONGEST => raw.as_bytes().to_vec(),
        // Protocol 2 has no bytes: they are text in Latin-1 through _codecs.encode.
        Node::Object(call) if graph.as_global(call.callable)?.is("_codecs", "encode") => {
            let text = graph.as_str(*graph.as_tuple(call.args)?.first()?)?;
            if text.len() > 2 * LONGEST {
                return None;
            }
            text.chars()
                .map(|c| u8::try_from(u32::from(c)).ok())
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    fn array<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
        raw.try_into().ok()
    }
    Some(match kind {
        "f8" => Value::Float(f64::from_le_bytes(array(&raw)?)),
        "f4" => Value::Float(f32::from_le_bytes(array(&raw)?).into()),
        "i8" => Value::Int(i64::from_le_bytes(array(&raw)?)),
        "i4" => Value::Int(i32::from_le_bytes(array(&raw)?).into()),
        "u4" => Value::Int(u32::from_le_bytes(array(&raw)?).into()),
        "b1" => Value::Bool(array::<1>(&raw)? != [0]),
        _ => return None,
    })
}

/// As Python would show it, in one line, shortened where it is long or deep.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, *self, 2)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, *self, 2)
    }
}

/// Elements shown of each container.
const SHOWN: usize = 6;
/// Characters shown of each text.
const SHOWN_CHARS: usize = 80;

fn show(f: &mut fmt::Formatter<'_>, value: Value<'_>, depth: usize) -> fmt::Result {
    match value {
        Value::None => f.write_str("None"),
        Value::Bool(true) => f.write_str("True"),
        Value::Bool(false) => f.write_str("False"),
        Value::Int(value) => write!(f, "{value}"),
        Value::BigInt(bytes) => write!(f, "an integer of {} bytes", bytes.len()),
        Value::Float(value) => write!(f, "{value:?}"),
        Value::Str(text) => {
            let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            write!(f, "{shown:?}")
        }
        Value::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        Value::List(elements) => show_elements(f, elements, depth, "[", "]"),
        Value::Tuple(elements) => show_elements(f, elements, depth, "(", ")"),
        Value::Set(elements) => show_elements(f, elements, depth, "{", "}"),
        Value::Dict(entries) => {
            if depth == 0 {
                return write!(f, "{{… {} items}}", entries.len());
            }
            f.write_str("{")?;
            for (at, (key, value)) in entries.iter().take(SHOWN).enumerate() {
                f.write_str(if at > 0 { ", " } else { "" })?;
                show(f, key, 0)?;
                f.write_str(": ")?;
                show(f, value, depth - 1)?;
            }
            if entries.len() > SHOWN {
                write!(f, ", … {} items", entries.len())?;
            }
            f.write_str("}")
        }
        Value::Tensor(tensor) => match tensor.info() {
            Ok(info) => write!(f, "tensor {} {:?}", info.dtype, info.shape),
            Err(_) => f.write_str("malformed tensor"),
        },
        Value::Array(array) => match array.info() {
            Ok(info) => write!(f, "array {} {:?}", info.dtype, info.shape),
            Err(_) => f.write_str("malformed array"),
        },
        Value::Storage(storage) => write!(f, "storage `{}`", storage.key),
        Value::Dtype(dtype) => write!(f, "dtype {dtype}"),
        Value::Global(global) => write!(f, "{global}"),
        Value::Object(record) => match record.class() {
            Some(class) => write!(f, "<{class}>"),
            None => f.write_str("<object>"),
        },
        Value::Persistent(key) => write!(f, "reference {key:?}"),
    }
}

fn show_elements(
    f: &mut fmt::Formatter<'_>,
    elements: Elements<'_>,
    depth: usize,
    open: &str,
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    if depth == 0 && !elements.is_empty() {
        write!(f, "… {}", elements.len())?;
    } else {
        for (at, value) in elements.iter().take(SHOWN).enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            show(f, value, depth - 1)?;
        }
        if elements.len() > SHOWN {
            write!(f, ", … {}", elements.len())?;
        }
    }
    f.write_str(close)
}
