//! What is to be written: plain values and tensors.

use serde_json::Value as Json;

use crate::{StateDict, Tensor};

/// A value to write into a PyTorch file. Every one of them is read by
/// `torch.load(weights_only=True)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of any size that fits.
    Int(i128),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Tree>),
    /// A tuple.
    Tuple(Vec<Tree>),
    /// A dict; keys must be unique.
    Dict(Vec<(Key, Tree)>),
    /// A `collections.OrderedDict`, the form of a state dict; keys must be unique.
    OrderedDict(Vec<(Key, Tree)>),
    /// A tensor on the CPU that needs no gradient.
    Tensor(Tensor),
}

/// A key of a dict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A whole number.
    Int(i64),
    /// Text.
    Str(String),
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::Str(text.into())
    }
}

impl From<i64> for Key {
    fn from(number: i64) -> Self {
        Key::Int(number)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Int(number) => write!(f, "{number}"),
            Key::Str(text) => f.write_str(text),
        }
    }
}

impl Tree {
    /// A dict with text keys.
    #[must_use]
    pub fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Tree)>) -> Self {
        Tree::Dict(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Tree::Str(text.into())
    }
}

/// The state dict, in its order. Tensors share their bytes.
impl From<&StateDict> for Tree {
    fn from(weights: &StateDict) -> Self {
        Tree::OrderedDict(
            weights
                .iter()
                .map(|(name, tensor)| (name.into(), Tree::Tensor(tensor.clone())))
                .collect(),
        )
    }
}

/// JSON as Python's `json.loads` would give it. [`Value::to_json`](super::Value::to_json) leads back.
impl From<&Json> for Tree {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Tree::None,
            Json::Bool(value) => Tree::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Tree::Int(value.into()),
                (None, Some(value)) => Tree::Int(value.into()),
                // Without arbitrary precision every other number of JSON is an f64.
                (None, None) => Tree::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Tree::Str(text.clone()),
            Json::Array(elements) => Tree::List(elements.iter().map(Tree::from).collect()),
            Json::Object(entries) => Tree::Dict(
                entries
                    .iter()
                    .map(|(key, value)| (key.as_str().into(), value.into()))
                    .collect(),
            ),
        }
    }
}
