//! Arrays of NumPy: their elements are in the pickle itself.
//!
//! Reference: `array_reduce` and `array_setstate` in `numpy/_core/src/multiarray/methods.c`, `_frombuffer` in
//! `numpy/_core/numeric.py`.

use std::borrow::Cow;

use bytes::Bytes;

use super::PthError;
use super::pickle::{Graph, Id, Node};
use super::tensor::{MOST_SIDES, TensorInfo};
use crate::Dtype;

/// Whether a call of this function makes an array.
pub(super) fn makes_array(module: &str, name: &str) -> bool {
    matches!(
        (module, name),
        (
            "numpy.core.multiarray" | "numpy._core.multiarray",
            "_reconstruct"
        ) | ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer")
    )
}

/// An array as the pickle describes it.
pub(super) struct Array<'a> {
    dtype: Dtype,
    pub(super) big_endian: bool,
    shape: Vec<usize>,
    /// Whether the first side is the fastest.
    fortran: bool,
    raw: Raw<'a>,
}

/// The source of the elements.
enum Raw<'a> {
    Bytes(&'a Bytes),
    /// Text of one character a byte: how protocols without bytes hold them.
    Latin1(&'a str),
    /// What Python 2 wrote as text and happens to be UTF-8.
    Text(&'a str),
}

impl<'a> Array<'a> {
    /// The array that a call makes, if it is one of numbers.
    pub(super) fn of(graph: &'a Graph, call: Id) -> Option<Self> {
        let Node::Object(object) = graph.node(call) else {
            return None;
        };
        let args = graph.as_tuple(object.args)?;
        if graph.as_global(object.callable)?.name == "_frombuffer" {
            let [raw, dtype, shape, order] = args else {
                return None;
            };
            let (dtype, big_endian) = dtype_of(graph, *dtype)?;
            return Some(Self {
                dtype,
                big_endian,
                shape: sides(graph, *shape)?,
                fortran: graph.as_str(*order)? == "F",
                raw: raw_of(graph, *raw)?,
            });
        }
        // Version (which the first ones lack), shape, element type, order, elements.
        let state = graph.as_tuple(*object.states.last()?)?;
        let ([_, shape, dtype, fortran, raw] | [shape, dtype, fortran, raw]) = state else {
            return None;
        };
        let (dtype, big_endian) = dtype_of(graph, *dtype)?;
        Some(Self {
            dtype,
            big_endian,
            shape: sides(graph, *shape)?,
            fortran: match graph.node(*fortran) {
                Node::Bool(fortran) => *fortran,
                node => !matches!(node, Node::Int(0)),
            },
            raw: raw_of(graph, *raw)?,
        })
    }

    /// Element type, shape and strides.
    pub(super) fn info(&self) -> TensorInfo<'a> {
        let mut strides = vec![0; self.shape.len()];
        let mut stride = 1usize;
        let mut step = |side: usize| {
            strides[side] = stride;
            stride = stride.saturating_mul(self.shape[side].max(1));
        };
        match self.fortran {
            true => (0..self.shape.len()).for_each(&mut step),
            false => (0..self.shape.len()).rev().for_each(&mut step),
        }
        TensorInfo {
            dtype: self.dtype,
            shape: self.shape.clone(),
            strides,
            offset: 0,
            storage: None,
            requires_grad: false,
        }
    }

    /// The elements as they are in the pickle; `take` is told how many bytes are copied.
    ///
    /// # Errors
    /// The errors of `take`, and text that is no bytes.
    pub(super) fn elements(
        &self,
        take: impl FnOnce(u64) -> Result<(), PthError>,
    ) -> Result<Bytes, PthError> {
        let text: Cow<'_, [u8]> = match self.raw {
            Raw::Bytes(bytes) => return Ok(bytes.clone()),
            Raw::Text(text) => {
                take(text.len() as u64)?;
                text.as_bytes().into()
            }
            Raw::Latin1(text) => {
                take(text.len() as u64)?;
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                let what = "elements that are no bytes";
                bytes.ok_or(PthError::MalformedTensor { what })?.into()
            }
        };
        Ok(Bytes::from(text.into_owned()))
    }
}

fn sides(graph: &Graph, shape: Id) -> Option<Vec<usize>> {
    let sides = graph.as_tuple(shape)?;
    if sides.len() > MOST_SIDES {
        return None;
    }
    let side = |&side| usize::try_from(graph.as_int(side)?).ok();
    sides.iter().map(side).collect()
}

fn raw_of(graph: &Graph, raw: Id) -> Option<Raw<'_>> {
    match graph.node(raw) {
        Node::Bytes(bytes) => Some(Raw::Bytes(bytes)),
        Node::Str(text) => Some(Raw::Text(text)),
        Node::Object(call) if graph.as_global(call.callable)?.is("_codecs", "encode") => {
            let [text, ..] = graph.as_tuple(call.args)? else {
                return None;
            };
            Some(Raw::Latin1(graph.as_str(*text)?))
        }
        _ => None,
    }
}

/// Element type, and whether it is big-endian; `None` for objects, texts and records.
fn dtype_of(graph: &Graph, id: Id) -> Option<(Dtype, bool)> {
    let Node::Object(object) = graph.node(id) else {
        return None;
    };
    if !graph.as_global(object.callable)?.is("numpy", "dtype") {
        return None;
    }
    let kind = graph.as_str(*graph.as_tuple(object.args)?.first()?)?;
    let dtype = match kind {
        "f8" => Dtype::F64,
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "i8" => Dtype::I64,
        "i4" => Dtype::I32,
        "i2" => Dtype::I16,
        "i1" => Dtype::I8,
        "u8" => Dtype::U64,
        "u4" => Dtype::U32,
        "u2" => Dtype::U16,
        "u1" => Dtype::U8,
        "b1" => Dtype::Bool,
        "c8" => Dtype::C64,
        "c16" => Dtype::C128,
        _ => return None,
    };
    // The state's second part is the byte order.
    let order = object.states.last().and_then(|&state| {
        let order = graph.as_tuple(state)?.get(1)?;
        graph.as_str(*order)
    });
    Some((dtype, order == Some(">")))
}
