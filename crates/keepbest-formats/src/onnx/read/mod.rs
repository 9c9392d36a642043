//! Reading ONNX models as hostile input: everything is counted, and nothing is reserved before it is known to be there.

mod error;
mod external;
mod tensor;

use std::path::Path;

use bytes::Bytes;

use super::Side;
use crate::protobuf::{Field, Fields, each_float, each_number};
use crate::{Tensor, map_file};
use external::External;

pub use error::ReadError;

/// A model as a file has it, `ModelProto`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ModelProto {
    /// Version of the file format.
    pub ir_version: u64,
    /// The program that wrote it; may be empty.
    pub producer: String,
    /// Its version; may be empty.
    pub producer_version: String,
    /// Operator sets: domain (empty for ONNX's own) and version.
    pub operator_sets: Vec<(String, i64)>,
    /// Keys and values beside the graph.
    pub metadata: Vec<(String, String)>,
    /// The graph.
    pub graph: GraphProto,
}

/// A graph, `GraphProto`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GraphProto {
    /// Name.
    pub name: String,
    /// What is put in; in older files the constants too.
    pub inputs: Vec<ValueProto>,
    /// What comes out.
    pub outputs: Vec<ValueProto>,
    /// Operations, in the order in which they compute.
    pub nodes: Vec<NodeProto>,
    /// Constants and their names. They share the file's bytes.
    pub initializers: Vec<(String, Tensor)>,
}

/// Name, element type and shape of an input or output, `ValueInfoProto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueProto {
    /// Name.
    pub name: String,
    /// `TensorProto.DataType`; 0 where it is not said.
    pub element: i64,
    /// Sides, slowest first; a side that is not said has an empty name.
    pub shape: Option<Vec<Side>>,
}

/// One operation, `NodeProto`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NodeProto {
    /// Name; may be empty.
    pub name: String,
    /// Operator, such as `Conv`.
    pub op: String,
    /// Operator set that it is of; empty for ONNX's own.
    pub domain: String,
    /// Names of the values it takes; empty where an optional one is left out.
    pub inputs: Vec<String>,
    /// Names of the values it makes; empty where nothing wants one.
    pub outputs: Vec<String>,
    /// Settings.
    pub attributes: Vec<(String, AttributeProto)>,
}

/// Setting of an operation, `AttributeProto`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttributeProto {
    /// Float.
    Float(f32),
    /// Integer, or a switch.
    Int(i64),
    /// Text.
    Text(String),
    /// Tensor.
    Tensor(Tensor),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Something that no convolutional network needs, such as a graph; `AttributeProto.AttributeType`.
    Other(u64),
}

/// Messages of all kinds in one model at most: the largest graphs have a tenth of it.
const MOST_MESSAGES: usize = 1 << 19;
/// Numbers in all attributes at most.
const MOST_NUMBERS: usize = 1 << 22;

/// What may still be read.
struct Budget {
    messages: usize,
    numbers: usize,
}

impl Budget {
    fn new() -> Self {
        Self {
            messages: MOST_MESSAGES,
            numbers: MOST_NUMBERS,
        }
    }

    fn message(&mut self) -> Result<(), ReadError> {
        self.messages = self.messages.checked_sub(1).ok_or(ReadError::TooMany {
            what: "parts",
            limit: MOST_MESSAGES,
        })?;
        Ok(())
    }

    fn number(&mut self) -> Option<()> {
        self.numbers = self.numbers.checked_sub(1)?;
        Some(())
    }
}

impl ModelProto {
    /// Reads a model from a file, and its data from files beside it. Tensors are views of the files.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let file = map_file(path).map_err(|source| ReadError::Io {
            path: path.into(),
            source,
        })?;
        Self::parse(&file, path.parent())
    }

    /// Reads a model from bytes; `folder` is where data beside it may lie.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse(file: &Bytes, folder: Option<&Path>) -> Result<Self, ReadError> {
        let mut reader = Reader {
            file,
            budget: Budget::new(),
            external: External::beside(folder),
        };
        let mut model = Self::default();
        let mut found = false;
        for field in Fields::of(file) {
            match field.ok_or_else(|| ReadError::malformed("the model"))? {
                (1, Field::Number(version)) => model.ir_version = version,
                (2, Field::Bytes(name)) => model.producer = text(name),
                (3, Field::Bytes(version)) => model.producer_version = text(version),
                (7, Field::Bytes(graph)) => {
                    // Messages that stand twice are one, says the format; no writer makes such a model.
                    if std::mem::replace(&mut found, true) {
                        return Err(ReadError::malformed("the model, which has two graphs,"));
                    }
                    model.graph = reader.graph(graph)?;
                }
                (8, Field::Bytes(set)) => {
                    reader.budget.message()?;
                    model.operator_sets.push(operator_set(set)?);
                }
                (14, Field::Bytes(entry)) => {
                    reader.budget.message()?;
                    model.metadata.push(pair(entry, "the model's metadata")?);
                }
                _ => {}
            }
        }
        match found {
            true => Ok(model),
            false => Err(ReadError::NoGraph),
        }
    }
}

/// Reads a single tensor from a file, as ONNX's test data has them: its name, which may be empty, and itself.
///
/// # Errors
/// [`ReadError`].
pub fn read_tensor(path: impl AsRef<Path>) -> Result<(String, Tensor), ReadError> {
    let path = path.as_ref();
    let file = map_file(path).map_err(|source| ReadError::Io {
        path: path.into(),
        source,
    })?;
    let mut external = External::beside(path.parent());
    tensor::tensor(&file, &file, &mut Budget::new(), &mut external)
}

struct Reader<'a> {
    file: &'a Bytes,
    budget: Budget,
    external: External,
}

impl Reader<'_> {
    fn graph(&mut self, message: &[u8]) -> Result<GraphProto, ReadError> {
        let mut graph = GraphProto::default();
        for field in Fields::of(message) {
            let (number, field) = field.ok_or_else(|| ReadError::malformed("the graph"))?;
            let Field::Bytes(bytes) = field else {
                continue;
            };
            self.budget.message()?;
            match number {
                1 => {
                    let node = self.node(bytes, graph.nodes.len())?;
                    graph.nodes.push(node);
                }
                2 => graph.name = text(bytes),
                5 => graph.initializers.push(self.tensor(bytes)?),
                11 => graph.inputs.push(self.value(bytes)?),
                12 => graph.outputs.push(self.value(bytes)?),
                15 => {
                    let what = "the graph, which has sparse tensors that keepbest does not read,";
                    return Err(ReadError::malformed(what));
                }
                _ => {}
            }
        }
        Ok(graph)
    }

    fn tensor(&mut self, message: &[u8]) -> Result<(String, Tensor), ReadError> {
        tensor::tensor(self.file, message, &mut self.budget, &mut self.external)
    }

    fn node(&mut self, message: &[u8], position: usize) -> Result<NodeProto, ReadError> {
        let mut node = NodeProto::default();
        for field in Fields::of(message) {
            let malformed = || ReadError::malformed(format!("node {position} `{}`", node.name));
            let (number, field) = field.ok_or_else(malformed)?;
            let Field::Bytes(bytes) = field else {
                continue;
            };
            match number {
                1 | 2 => {
                    self.budget.message()?;
                    let names = match number {
                        1 => &mut node.inputs,
                        _ => &mut node.outputs,
                    };
                    names.push(text(bytes));
                }
                3 => node.name = text(bytes),
                4 => node.op = text(bytes),
                5 => {
                    self.budget.message()?;
                    let attribute = self.attribute(bytes, &node.name)?;
                    node.attributes.push(attribute);
                }
                7 => node.domain = text(bytes),
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain.clear();
        }
        Ok(node)
    }

    fn attribute(
        &mut self,
        message: &[u8],
        node: &str,
    ) -> Result<(String, AttributeProto), ReadError> {
        let malformed = || ReadError::malformed(format!("an attribute of node `{node}`"));
        let (mut name, mut kind) = (String::new(), 0);
        let mut value = None;
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        let budget = &mut self.budget;
        for field in Fields::of(message) {
            match field.ok_or_else(malformed)? {
                (1, Field::Bytes(bytes)) => name = text(bytes),
                (2, Field::Fixed32(bytes)) => {
                    value = Some(AttributeProto::Float(f32::from_le_bytes(bytes)));
                }
                (3, Field::Number(number)) => value = Some(AttributeProto::Int(number as i64)),
                (4, Field::Bytes(bytes)) => value = Some(AttributeProto::Text(text(bytes))),
                (5, Field::Bytes(bytes)) => {
                    let (_, tensor) = tensor::tensor(self.file, bytes, budget, &mut self.external)?;
                    value = Some(AttributeProto::Tensor(tensor));
                }
                (7, field) => each_float(field, |bytes| {
                    floats.push(f32::from_le_bytes(bytes));
                    budget.number()
                })
                .ok_or_else(malformed)?,
                (8, field) => each_number(field, |number| {
                    ints.push(number as i64);
                    budget.number()
                })
                .ok_or_else(malformed)?,
                (20, Field::Number(number)) => kind = number,
                _ => {}
            }
        }
        // Writers leave out what is zero or empty, and the oldest the kind.
        let value = match (kind, value) {
            (1, None) => AttributeProto::Float(0.0),
            (2, None) => AttributeProto::Int(0),
            (3, None) => AttributeProto::Text(String::new()),
            (6, _) => AttributeProto::Floats(floats),
            (7, _) => AttributeProto::Ints(ints),
            (0, None) if !floats.is_empty() => AttributeProto::Floats(floats),
            (0, None) if !ints.is_empty() => AttributeProto::Ints(ints),
            (0..=4, Some(value)) => value,
            (kind, _) => AttributeProto::Other(kind),
        };
        Ok((name, value))
    }

    /// `ValueInfoProto`: a name and `TypeProto`, of which tensors alone matter.
    fn value(&mut self, message: &[u8]) -> Result<ValueProto, ReadError> {
        let malformed = || ReadError::malformed("an input or output of the graph");
        let mut value = ValueProto::default();
        for field in Fields::of(message) {
            match field.ok_or_else(malformed)? {
                (1, Field::Bytes(name)) => value.name = text(name),
                (2, Field::Bytes(of_type)) => {
                    for field in Fields::of(of_type) {
                        if let (1, Field::Bytes(tensor)) = field.ok_or_else(malformed)? {
                            self.tensor_type(tensor, &mut value)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(value)
    }

    fn tensor_type(&mut self, message: &[u8], value: &mut ValueProto) -> Result<(), ReadError> {
        let malformed = || ReadError::malformed(format!("the shape of `{}`", value.name));
        let mut shape = None;
        for field in Fields::of(message) {
            match field.ok_or_else(malformed)? {
                (1, Field::Number(number)) => value.element = number as i64,
                (2, Field::Bytes(sides)) => {
                    let sides_of = shape.insert(Vec::new());
                    for field in Fields::of(sides) {
                        if let (1, Field::Bytes(side)) = field.ok_or_else(malformed)? {
                            self.budget.message()?;
                            sides_of.push(dimension(side).ok_or_else(malformed)?);
                        }
                    }
                }
                _ => {}
            }
        }
        value.shape = shape;
        Ok(())
    }
}

/// One side: a length, a name, or nothing.
fn dimension(message: &[u8]) -> Option<Side> {
    let mut side = Side::Named(String::new());
    for field in Fields::of(message) {
        match field? {
            // Writers put zero and less where they do not know.
            (1, Field::Number(length)) if length as i64 > 0 => {
                side = Side::Fixed(usize::try_from(length).ok()?);
            }
            (2, Field::Bytes(name)) => side = Side::Named(text(name)),
            _ => {}
        }
    }
    Some(side)
}

fn operator_set(message: &[u8]) -> Result<(String, i64), ReadError> {
    let malformed = || ReadError::malformed("an operator set of the model");
    let mut set = (String::new(), 0);
    for field in Fields::of(message) {
        match field.ok_or_else(malformed)? {
            (1, Field::Bytes(domain)) => set.0 = text(domain),
            (2, Field::Number(version)) => set.1 = version as i64,
            _ => {}
        }
    }
    if set.0 == "ai.onnx" {
        set.0.clear();
    }
    Ok(set)
}

/// Key and value, `StringStringEntryProto`.
fn pair(message: &[u8], what: &str) -> Result<(String, String), ReadError> {
    let mut entry = (String::new(), String::new());
    for field in Fields::of(message) {
        match field.ok_or_else(|| ReadError::malformed(what))? {
            (1, Field::Bytes(key)) => entry.0 = text(key),
            (2, Field::Bytes(value)) => entry.1 = text(value),
            _ => {}
        }
    }
    Ok(entry)
}

/// Text as it is meant, with marks where it is no UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
