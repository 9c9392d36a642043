//! Plain values of a PyTorch file as JSON.

use serde_json::{Map, Number, Value as Json};

use super::{Limits, Value};

/// Why a value cannot be JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It holds something that is not plain data.
    #[error("{what} is no plain value")]
    NotPlain {
        /// What it holds: `tensor`, `object`, ...
        what: &'static str,
    },
    /// An integer that JSON has no number for here.
    #[error("an integer of {bytes} bytes does not fit into 64 bits")]
    TooBig {
        /// Bytes of the integer.
        bytes: usize,
    },
    /// It is nested too deeply, or in a circle.
    #[error("values are nested more than {limit} deep")]
    TooDeep {
        /// [`Limits::depth`].
        limit: usize,
    },
    /// It is too large: a file can hold one value in many places.
    #[error("there are more than {limit} values")]
    TooMany {
        /// [`Limits::values`].
        limit: usize,
    },
}

impl Value<'_> {
    /// The value as JSON: what Python's `json.dumps` makes of it, except that numbers that are not finite
    /// are the texts `NaN`, `inf` and `-inf`, and sets are arrays.
    ///
    /// # Errors
    /// When there is more in it than plain data, or it goes over the limits on depth and count of values.
    pub fn to_json(&self, limits: &Limits) -> Result<Json, JsonError> {
        let mut left = limits.values;
        convert(*self, limits, 0, &mut left)
    }
}

fn convert(
    value: Value<'_>,
    limits: &Limits,
    depth: usize,
    left: &mut usize,
) -> Result<Json, JsonError> {
    if depth > limits.depth {
        return Err(JsonError::TooDeep {
            limit: limits.depth,
        });
    }
    *left = left.checked_sub(1).ok_or(JsonError::TooMany {
        limit: limits.values,
    })?;
    Ok(match value {
        Value::None => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::BigInt(bytes) => match bytes {
            [low @ .., 0] if low.len() == 8 => {
                let mut number = [0; 8];
                number.copy_from_slice(low);
                u64::from_le_bytes(number).into()
            }
            _ => return Err(JsonError::TooBig { bytes: bytes.len() }),
        },
        Value::Float(value) => float(value),
        Value::Str(text) => text.into(),
        Value::List(elements) | Value::Tuple(elements) | Value::Set(elements) => elements
            .iter()
            .map(|element| convert(element, limits, depth + 1, left))
            .collect::<Result<_, _>>()?,
        Value::Dict(entries) => {
            let mut object = Map::new();
            for (key, value) in entries.iter() {
                let key = match key {
                    Value::Str(text) => text.to_owned(),
                    Value::Int(number) => number.to_string(),
                    other => return Err(JsonError::NotPlain { what: other.kind() }),
                };
                object.insert(key, convert(value, limits, depth + 1, left)?);
            }
            object.into()
        }
        other => return Err(JsonError::NotPlain { what: other.kind() }),
    })
}

fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => number.into(),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "inf".into(),
        None => "-inf".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pth::{PthFile, Tree, encode};

    fn written(tree: &Tree) -> PthFile {
        let mut bytes = Vec::new();
        encode(tree).unwrap().write_to(&mut bytes).unwrap();
        PthFile::from_bytes(bytes.into(), Limits::default()).unwrap()
    }

    #[test]
    fn json_comes_back_exactly() {
        let json = json!({
            "null": null, "yes": true, "no": false, "text": "été ☀ \u{0}", "empty": {}, "none": [],
            "ints": [0, -1, 255, 65535, 65536, i64::MIN, i64::MAX, u64::MAX],
            "floats": [0.1, -0.0, 1e300, 5e-324, 2.0],
            "nested": {"a": [{"b": [[]]}]},
        });
        let read = written(&Tree::from(&json));
        assert_eq!(read.root().to_json(&Limits::default()).unwrap(), json);
        let names: Vec<_> = read.globals().collect();
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn what_is_not_plain_is_named() {
        let tensor = crate::Tensor::from_f32(&[], &[1.0]).unwrap();
        let read = written(&Tree::List(vec![Tree::Tensor(tensor)]));
        let error = read.root().to_json(&Limits::default()).unwrap_err();
        assert_eq!(error, JsonError::NotPlain { what: "tensor" });
        let read = written(&Tree::Tuple(vec![
            Tree::Float(f64::NAN),
            Tree::Float(f64::NEG_INFINITY),
        ]));
        let json = read.root().to_json(&Limits::default()).unwrap();
        assert_eq!(json, json!(["NaN", "-inf"]));
        let read = written(&Tree::Int(i128::MAX));
        let error = read.root().to_json(&Limits::default()).unwrap_err();
        assert_eq!(error, JsonError::TooBig { bytes: 16 });
    }

    #[test]
    fn one_value_in_many_places_is_bounded() {
        // a = []; b = [a, a]; c = [b, b]; ...: 2^40 places from a pickle of 300 bytes.
        let mut pickle = b"\x80\x02]q\x00".to_vec();
        for level in 0..40u8 {
            pickle.extend([
                b'0',
                b']',
                b'q',
                level + 1,
                b'(',
                b'h',
                level,
                b'h',
                level,
                b'e',
            ]);
        }
        pickle.push(b'.');
        let entries = vec![("a/data.pkl".to_owned(), pickle.into())];
        let file = crate::zip::stored(entries, 64).concat();
        let read = PthFile::from_bytes(file.into(), Limits::default()).unwrap();
        let limit = Limits::default().values;
        let error = read.root().to_json(&Limits::default()).unwrap_err();
        assert_eq!(error, JsonError::TooMany { limit });
    }
}
