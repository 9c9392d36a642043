//! A request to infer, as REST has it: JSON, and the bytes of tensors behind it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::flat::Flat;
use super::tensor::{Data, Datatype, InputTensor, TensorError, from_bytes, sides};

/// A request to infer.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct InferRequest {
    /// The client's name for it, which the reply repeats.
    pub id: Option<String>,
    /// The tensors.
    pub inputs: Vec<InputTensor>,
    /// What is to be answered; everything where nothing is named.
    pub outputs: Vec<RequestedOutput>,
    /// Whether outputs that do not say otherwise go as bytes.
    pub binary: bool,
    /// Microseconds that the answer is worth waiting for.
    pub timeout: Option<u64>,
}

/// A tensor that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Whether it is to go as bytes.
    pub binary: Option<bool>,
    /// The number of likeliest classes to answer instead of all values, as `value:index:name` (Triton's classification extension).
    pub classification: Option<usize>,
}

impl RequestedOutput {
    /// An output by its name.
    pub(crate) fn new(name: String, classification: Option<u64>) -> Self {
        Self {
            name,
            binary: None,
            classification: classification.map(|k| usize::try_from(k).unwrap_or(usize::MAX)),
        }
    }
}

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The header says more than there is.
    #[error("Inference-Header-Content-Length says {found} bytes, the body has {body}")]
    HeaderLength {
        /// Bytes of JSON by the header.
        found: usize,
        /// Bytes of the body.
        body: usize,
    },
    /// The JSON is none, or says something else.
    #[error("the request is not as the protocol has it")]
    Json(#[from] serde_json::Error),
    /// A tensor is none.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A tensor has no elements, or has them twice.
    #[error("input {name:?} has `data`, or says `binary_data_size`: one of the two")]
    Elements {
        /// The tensor.
        name: String,
    },
    /// More bytes are announced than came.
    #[error("input {name:?} says {announced} bytes, {left} are left of the body")]
    Short {
        /// The tensor.
        name: String,
        /// Bytes by `binary_data_size`.
        announced: u64,
        /// Bytes behind the tensors before.
        left: usize,
    },
    /// Bytes that belong to no tensor.
    #[error("{left} bytes behind the last tensor belong to none")]
    Rest {
        /// Their number.
        left: usize,
    },
}

#[derive(Deserialize)]
struct Written {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<WrittenInput>,
    #[serde(default)]
    outputs: Vec<WrittenOutput>,
}

#[derive(Deserialize)]
struct WrittenInput {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Flat>,
}

#[derive(Deserialize)]
struct WrittenOutput {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Reads a request. `json_len` is what the header `Inference-Header-Content-Length` says; without it, all is JSON.
///
/// # Errors
/// [`RequestError`], which says what was found and what the protocol has.
pub fn read_request(body: &Bytes, json_len: Option<usize>) -> Result<InferRequest, RequestError> {
    let json_len = json_len.unwrap_or(body.len());
    let json = body.get(..json_len).ok_or(RequestError::HeaderLength {
        found: json_len,
        body: body.len(),
    })?;
    let written: Written = serde_json::from_slice(json)?;
    let mut rest = body.slice(json_len..);
    let mut inputs = Vec::with_capacity(written.inputs.len());
    for input in written.inputs {
        inputs.push(read_input(input, &mut rest)?);
    }
    if !rest.is_empty() {
        return Err(RequestError::Rest { left: rest.len() });
    }
    let outputs = written.outputs.into_iter().map(|output| {
        let parameter = |key: &str| output.parameters.get(key);
        let classification = parameter("classification").and_then(Value::as_u64);
        let binary = parameter("binary_data").and_then(Value::as_bool);
        RequestedOutput {
            binary,
            ..RequestedOutput::new(output.name, classification)
        }
    });
    let flag = |key: &str| written.parameters.get(key).and_then(Value::as_bool);
    Ok(InferRequest {
        inputs,
        outputs: outputs.collect(),
        binary: flag("binary_data_output").unwrap_or(false),
        timeout: written.parameters.get("timeout").and_then(Value::as_u64),
        id: written.id,
    })
}

fn read_input(input: WrittenInput, rest: &mut Bytes) -> Result<InputTensor, RequestError> {
    let name = &input.name;
    let datatype = Datatype::parse(&input.datatype).ok_or_else(|| TensorError::Datatype {
        name: name.clone(),
        found: input.datatype.clone(),
    })?;
    let announced = match input.parameters.get("binary_data_size") {
        None => None,
        Some(size) => Some(
            size.as_u64()
                .ok_or_else(|| RequestError::Elements { name: name.clone() })?,
        ),
    };
    match (input.data, announced) {
        (None, Some(announced)) => {
            let size = usize::try_from(announced).ok();
            let size = size.filter(|size| *size <= rest.len());
            let size = size.ok_or_else(|| RequestError::Short {
                name: name.clone(),
                announced,
                left: rest.len(),
            })?;
            let bytes = rest.split_to(size);
            Ok(from_bytes(name, datatype, &input.shape, &bytes)?)
        }
        (Some(flat), None) => Ok(from_json(name, datatype, &input.shape, flat)?),
        _ => Err(RequestError::Elements { name: name.clone() }),
    }
}

fn from_json(
    name: &str,
    datatype: Datatype,
    shape: &[i64],
    flat: Flat,
) -> Result<InputTensor, TensorError> {
    let (sides, expected) = sides(name, shape)?;
    let data = match datatype {
        Datatype::Fp32 => Data::Fp32(flat.numbers),
        Datatype::Uint8 => {
            let bytes = flat.numbers.iter().enumerate().map(|(index, &found)| {
                let byte = found as u8;
                let name = name.to_owned();
                match f32::from(byte) == found {
                    true => Ok(byte),
                    false => Err(TensorError::NotAByte { name, index, found }),
                }
            });
            Data::Uint8(bytes.collect::<Result<Vec<u8>, _>>()?.into())
        }
        Datatype::Bytes => {
            let decoded = flat.strings.iter().enumerate().map(|(index, text)| {
                let name = name.to_owned();
                let bytes = BASE64_STANDARD.decode(text.trim());
                bytes
                    .map(Bytes::from)
                    .map_err(|_| TensorError::Base64 { name, index })
            });
            Data::Bytes(decoded.collect::<Result<_, _>>()?)
        }
    };
    InputTensor::new(name, sides, expected, data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

    use serde_json::json;

    use super::*;

    fn read(json: &Value, binary: &[u8]) -> Result<InferRequest, RequestError> {
        let json = serde_json::to_vec(json).unwrap();
        let body = Bytes::from([&json[..], binary].concat());
        read_request(&body, Some(json.len()))
    }

    #[test]
    fn tensors_in_json_and_in_bytes_are_the_same() {
        let tensor = |datatype: &str, shape: Value, data: Value| json!({"inputs": [{"name": "input", "datatype": datatype, "shape": shape, "data": data}]});
        let binary = |datatype: &str, shape: Value, size: usize| {
            json!({"inputs": [{"name": "input", "datatype": datatype, "shape": shape,
                "parameters": {"binary_data_size": size}}]})
        };
        let floats = [1.0_f32, -2.5].map(f32::to_le_bytes).concat();
        for (a, b, bytes) in [
            (
                tensor("FP32", json!([1, 2]), json!([[1.0, -2.5]])),
                binary("FP32", json!([1, 2]), 8),
                floats,
            ),
            (
                tensor("UINT8", json!([2]), json!([7, 255])),
                binary("UINT8", json!([2]), 2),
                vec![7, 255],
            ),
            (
                tensor("BYTES", json!([2]), json!(["YWI=", ""])),
                binary("BYTES", json!([2]), 10),
                b"\x02\0\0\0ab\0\0\0\0".to_vec(),
            ),
        ] {
            assert_eq!(read(&a, &[]).unwrap(), read(&b, &bytes).unwrap());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let input = |fields: Value| {
            let mut input = json!({"name": "x", "datatype": "UINT8", "shape": [2], "data": [1, 2]});
            for (key, value) in fields.as_object().unwrap() {
                input[key] = value.clone();
            }
            json!({ "inputs": [input] })
        };
        let of = |fields: Value, binary: &[u8]| {
            let error = read(&input(fields), binary).unwrap_err();
            keepbest_core::text::with_causes(&error)
        };
        let binary = |size: u64| json!({"data": null, "parameters": {"binary_data_size": size}});
        assert!(of(json!({"datatype": "FP16"}), &[]).contains("is FP16; images are FP32"));
        assert!(of(json!({"shape": [-1]}), &[]).contains("[-1], which no tensor has"));
        assert!(of(json!({"shape": [i64::MAX, 3]}), &[]).contains("which no tensor has"));
        assert!(of(json!({"shape": [3]}), &[]).contains("has 2 elements, its shape [3] says 3"));
        assert!(of(json!({"data": [1, 256]}), &[]).contains("element 1 of input \"x\" is 256"));
        assert!(of(json!({"data": [1, 0.5]}), &[]).contains("is 0.5, not a whole number"));
        assert!(of(json!({"data": null}), &[]).contains("one of the two"));
        assert!(
            of(json!({"parameters": {"binary_data_size": 2}}), &[1, 2]).contains("one of the two")
        );
        assert!(of(binary(9), &[1, 2]).contains("says 9 bytes, 2 are left"));
        assert!(of(binary(u64::MAX), &[1, 2]).contains("2 are left"));
        assert!(of(binary(1), &[1, 2]).contains("which are not 2 elements of UINT8"));
        assert!(of(json!({}), &[1, 2]).contains("2 bytes behind the last tensor"));
        let bytes = json!({"datatype": "BYTES", "shape": [1], "data": ["?"]});
        assert!(of(bytes, &[]).contains("is not base64"));
        let mut torn = binary(6);
        torn["datatype"] = "BYTES".into();
        assert!(of(torn, b"\x09\0\0\0ab").contains("longer than what is left"));
        let body = Bytes::from_static(b"{}");
        assert!(matches!(
            read_request(&body, Some(3)),
            Err(RequestError::HeaderLength { found: 3, body: 2 })
        ));
        assert!(matches!(
            read_request(&body, None),
            Err(RequestError::Json(_))
        ));
    }
}
