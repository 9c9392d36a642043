//! `TensorProto`: element type, shape, and data in one of several fields, or in a file beside the model.

use bytes::Bytes;

use super::error::ReadError;
use super::external::External;
use super::{Budget, text};
use crate::onnx::graph::data_type;
use crate::protobuf::{Field, Fields, each_double, each_float, each_number};
use crate::{Dtype, Tensor, TensorError};

/// Sides of a tensor at most.
const MOST_SIDES: usize = 16;

/// Elements of four bits, two in a byte: `TensorProto.DataType` and the type that they become.
const PACKED: [(i64, Dtype); 2] = [(21, Dtype::U8), (22, Dtype::I8)];

/// What a tensor says of itself before its data.
#[derive(Default)]
struct Head {
    name: String,
    number: i64,
    shape: Vec<usize>,
    external: bool,
    location: String,
    offset: u64,
    length: Option<u64>,
}

/// Name and content of a `TensorProto` that lies in `file`, whose bytes are shared.
pub(super) fn tensor(
    file: &Bytes,
    message: &[u8],
    budget: &mut Budget,
    external: &mut External,
) -> Result<(String, Tensor), ReadError> {
    let head = head(message, budget)?;
    let malformed = || ReadError::malformed(format!("tensor `{}`", head.name));
    let packed = PACKED.iter().find(|(number, _)| *number == head.number);
    let dtype = match packed {
        Some((_, dtype)) => *dtype,
        None => element_type(head.number).ok_or_else(|| ReadError::ElementType {
            tensor: head.name.clone(),
            number: head.number,
        })?,
    };
    let of_tensor = |source| ReadError::Tensor {
        tensor: head.name.clone(),
        source,
    };
    let Some(bytes) = dtype.byte_len(&head.shape) else {
        let shape = head.shape.clone();
        return Err(of_tensor(TensorError::ShapeOverflow { dtype, shape }));
    };
    // What is stored: halves of bytes in two.
    let stored = match packed {
        Some(_) => bytes.div_ceil(2),
        None => bytes,
    };
    let mut data = Bytes::new();
    if head.external {
        data = external
            .bytes(&head.location, head.offset, head.length)
            .map_err(|problem| ReadError::External {
                tensor: head.name.clone(),
                location: head.location.clone(),
                problem,
            })?;
    } else {
        let mut typed = Vec::new();
        for field in Fields::of(message) {
            match field.ok_or_else(malformed)? {
                (9, Field::Bytes(raw)) => data = file.slice_ref(raw),
                (number @ (4 | 5 | 7 | 10 | 11), field) => {
                    values(&head, dtype, packed.is_some(), number, field, &mut typed)?;
                }
                _ => {}
            }
            if typed.len() > stored {
                break;
            }
        }
        if !typed.is_empty() {
            data = typed.into();
        }
    }
    if packed.is_some() {
        if data.len() != stored {
            return Err(malformed());
        }
        data = unpacked(&data, bytes, dtype).into();
    }
    let tensor = Tensor::new(dtype, head.shape.clone(), data).map_err(of_tensor)?;
    Ok((head.name, tensor))
}

fn head(message: &[u8], budget: &mut Budget) -> Result<Head, ReadError> {
    let mut head = Head::default();
    let mut sides = Vec::new();
    for field in Fields::of(message) {
        let malformed = || ReadError::malformed(format!("tensor `{}`", head.name));
        match field.ok_or_else(malformed)? {
            (1, field) => {
                let each = |side| {
                    sides.push(side as i64);
                    (sides.len() <= MOST_SIDES).then_some(())
                };
                each_number(field, each).ok_or_else(malformed)?;
            }
            (2, Field::Number(number)) => head.number = number as i64,
            (3, _) => return Err(malformed()),
            (8, Field::Bytes(name)) => head.name = text(name),
            (13, Field::Bytes(entry)) => {
                budget.message()?;
                let (key, value) = super::pair(entry, "the place of a tensor's data")?;
                let number = || value.parse().map_err(|_| malformed());
                match key.as_str() {
                    "location" => head.location = value,
                    "offset" => head.offset = number()?,
                    "length" => head.length = Some(number()?),
                    _ => {}
                }
            }
            (14, Field::Number(place)) => head.external = place == 1,
            _ => {}
        }
    }
    for side in sides {
        head.shape
            .push(usize::try_from(side).map_err(|_| ReadError::Side {
                tensor: head.name.clone(),
                side,
            })?);
    }
    Ok(head)
}

/// Appends the values of a typed field, as many as fit the element type.
fn values(
    head: &Head,
    dtype: Dtype,
    packed: bool,
    number: u64,
    field: Field<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let size = dtype.size();
    let fits = match number {
        4 => matches!(dtype, Dtype::F32 | Dtype::C64),
        5 => size <= 4 && dtype != Dtype::F32 && dtype != Dtype::U32,
        7 => dtype == Dtype::I64,
        10 => matches!(dtype, Dtype::F64 | Dtype::C128),
        _ => matches!(dtype, Dtype::U32 | Dtype::U64),
    };
    let mut outside = None;
    let read = match number {
        _ if !fits => None,
        4 => each_float(field, |value| {
            out.extend(value);
            Some(())
        }),
        10 => each_double(field, |value| {
            out.extend(value);
            Some(())
        }),
        _ => each_number(field, |value| {
            // Narrow types are stored by their bits or by their value; either fits so many bits.
            let bits = if packed { 8 } else { 8 * size as u32 };
            let narrow = value as i64;
            if bits < 64 && !(-(1i64 << (bits - 1))..1i64 << bits).contains(&narrow) {
                outside = Some(narrow);
                return None;
            }
            out.extend(&value.to_le_bytes()[..size]);
            Some(())
        }),
    };
    match (read, outside) {
        (Some(()), _) => Ok(()),
        (None, Some(value)) => Err(ReadError::Range {
            tensor: head.name.clone(),
            dtype,
            value,
        }),
        (None, None) => Err(ReadError::malformed(format!("tensor `{}`", head.name))),
    }
}

/// Elements of four bits as bytes, the lower half of a byte first.
fn unpacked(data: &[u8], count: usize, dtype: Dtype) -> Vec<u8> {
    let halves = data.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let wide = halves.map(|half| match dtype {
        Dtype::I8 if half > 7 => half | 0xf0,
        _ => half,
    });
    wide.take(count).collect()
}

/// The element type of a `TensorProto.DataType`.
fn element_type(number: i64) -> Option<Dtype> {
    Some(match number {
        17 => Dtype::F8E4M3,
        18 => Dtype::F8E4M3Fnuz,
        19 => Dtype::F8E5M2,
        20 => Dtype::F8E5M2Fnuz,
        _ => {
            return Dtype::ALL
                .into_iter()
                .find(|&dtype| data_type(dtype) == Some(number));
        }
    })
}
