//! Graphs: named values, and nodes that make one from others.

use std::collections::HashSet;

use crate::{Dtype, Tensor};

/// Why a graph cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Two tensors or values of one name.
    #[error("the graph has `{name}` twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An element type that ONNX does not have.
    #[error("tensor `{tensor}` has elements of type {dtype}, which ONNX does not have")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
    },
    /// Protocol buffers end at 2 GiB.
    #[error("the model takes {bytes} bytes, more than the {limit} that one ONNX file can hold")]
    TooLarge {
        /// Bytes of the model.
        bytes: u64,
        /// The most there can be.
        limit: u64,
    },
}

/// Element type of a graph's input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// Byte.
    U8,
    /// Signed 64-bit integer.
    I64,
}

impl ElementType {
    /// `TensorProto.DataType`.
    pub(super) fn number(self) -> i64 {
        match self {
            ElementType::F32 => 1,
            ElementType::U8 => 2,
            ElementType::I64 => 7,
        }
    }
}

/// One side of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// A number.
    Fixed(usize),
    /// Any length, the same wherever the name stands.
    Named(String),
}

/// Name, element type and shape of a graph's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueInfo {
    /// Name.
    pub name: String,
    /// Element type.
    pub element: ElementType,
    /// Sides, slowest first.
    pub shape: Vec<Side>,
}

impl ValueInfo {
    /// A value.
    #[must_use]
    pub fn new(name: impl Into<String>, element: ElementType, shape: Vec<Side>) -> Self {
        Self {
            name: name.into(),
            element,
            shape,
        }
    }
}

/// Setting of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// Integer, or a switch.
    Int(i64),
    /// Float.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// Text.
    Text(String),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Operator, such as `Conv`.
    pub op: &'static str,
    /// Name.
    pub name: String,
    /// Names of the values it takes.
    pub inputs: Vec<String>,
    /// Name of the value it makes.
    pub output: String,
    /// Settings.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A graph: nodes in an order in which each finds its inputs made.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Name.
    pub name: String,
    /// What is put in.
    pub inputs: Vec<ValueInfo>,
    /// What comes out.
    pub outputs: Vec<ValueInfo>,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<(String, Tensor)>,
    names: HashSet<String>,
    node_names: HashSet<String>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            names: HashSet::new(),
            node_names: HashSet::new(),
        }
    }

    /// Adds a constant tensor, which shares its bytes, and gives its name.
    ///
    /// # Errors
    /// When the name is there already or ONNX does not have the element type.
    pub fn initializer(
        &mut self,
        name: impl Into<String>,
        tensor: Tensor,
    ) -> Result<String, OnnxError> {
        let name = name.into();
        if data_type(tensor.dtype()).is_none() {
            return Err(OnnxError::Dtype {
                tensor: name,
                dtype: tensor.dtype(),
            });
        }
        if !self.names.insert(name.clone()) {
            return Err(OnnxError::DuplicateName { name });
        }
        self.initializers.push((name.clone(), tensor));
        Ok(name)
    }

    /// The constant tensors and their names.
    pub fn initializers(&self) -> &[(String, Tensor)] {
        &self.initializers
    }

    /// Adds a node and gives the name of what it makes: `output`. A name that is taken gets a number.
    pub fn node(
        &mut self,
        op: &'static str,
        name: impl Into<String>,
        inputs: &[&str],
        output: impl Into<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let name = free_name(name.into(), |name| self.node_names.insert(name.to_owned()));
        let output = free_name(output.into(), |name| {
            !self.inputs.iter().any(|input| input.name == name)
                && self.names.insert(name.to_owned())
        });
        self.nodes.push(Node {
            op,
            name,
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.clone(),
            attributes,
        });
        output
    }

    /// The nodes in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

/// `wanted`, or with the first number that is free.
fn free_name(wanted: String, mut take: impl FnMut(&str) -> bool) -> String {
    let mut name = wanted.clone();
    let mut copy = 2;
    while !take(&name) {
        name = format!("{wanted}_{copy}");
        copy += 1;
    }
    name
}

/// A graph with what is said about it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// What is said about the model: keys and values, in order.
    pub metadata: Vec<(String, String)>,
}

impl Model {
    /// A model without metadata.
    #[must_use]
    pub fn new(graph: Graph) -> Self {
        Self {
            graph,
            metadata: Vec::new(),
        }
    }
}

/// `TensorProto.DataType` of an element type.
pub(super) fn data_type(dtype: Dtype) -> Option<i64> {
    Some(match dtype {
        Dtype::F32 => 1,
        Dtype::U8 => 2,
        Dtype::I8 => 3,
        Dtype::U16 => 4,
        Dtype::I16 => 5,
        Dtype::I32 => 6,
        Dtype::I64 => 7,
        Dtype::Bool => 9,
        Dtype::F16 => 10,
        Dtype::F64 => 11,
        Dtype::U32 => 12,
        Dtype::U64 => 13,
        Dtype::C64 => 14,
        Dtype::C128 => 15,
        Dtype::BF16 => 16,
        _ => return None,
    })
}
