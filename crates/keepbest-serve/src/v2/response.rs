//! A reply to a request to infer: JSON, and behind it the outputs that go as bytes.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use super::outputs::{Output, Values};
use crate::generation::Generation;

#[derive(Serialize)]
struct Reply<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: Value,
    outputs: Vec<Written<'a>>,
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Value::is_null")]
    parameters: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Fp32(&'a [f32]),
    Int64(&'a [i64]),
    Bytes(&'a [String]),
}

/// The body, and the length of its JSON where bytes follow it.
pub(crate) fn write_response(
    model: &str,
    generation: &Generation,
    id: Option<&str>,
    outputs: &[Output],
) -> Result<(Bytes, Option<usize>), serde_json::Error> {
    let mut tail: Vec<Bytes> = Vec::new();
    let written = outputs.iter().map(|output| {
        let mut parameters = Value::Null;
        let data = if output.binary {
            let bytes = output.bytes();
            parameters = json!({"binary_data_size": bytes.len()});
            tail.push(bytes);
            None
        } else {
            Some(match &output.values {
                Values::Fp32(values) => Data::Fp32(values),
                Values::Int64(values) => Data::Int64(values),
                Values::Bytes(values) => Data::Bytes(values),
            })
        };
        Written {
            name: &output.name,
            datatype: output.datatype(),
            shape: &output.shape,
            parameters,
            data,
        }
    });
    let outputs = written.collect();
    let json = serde_json::to_vec(&Reply {
        model_name: model,
        model_version: &generation.weights.short(),
        id,
        parameters: json!({"digest": generation.digest}),
        outputs,
    })?;
    if tail.is_empty() {
        return Ok((json.into(), None));
    }
    let length = json.len();
    let mut body = BytesMut::from(&json[..]);
    for bytes in tail {
        body.extend_from_slice(&bytes);
    }
    Ok((body.freeze(), Some(length)))
}
