//! What a model answers to a request to infer.

use bytes::{BufMut, Bytes, BytesMut};
use keepbest_core::text::visible;
use keepbest_model::{probabilities, top_k};

use super::request::RequestedOutput;
use crate::batch::Scores;
use crate::error::Refusal;
use crate::generation::Generation;

/// A model's outputs: name, type, and whether there is a value for each class.
pub(crate) const OUTPUTS: [(&str, &str, bool); 4] = [
    ("logits", "FP32", true),
    ("probabilities", "FP32", true),
    ("class", "INT64", false),
    ("label", "BYTES", false),
];

/// The values of an output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Fp32(Vec<f32>),
    Int64(Vec<i64>),
    Bytes(Vec<String>),
}

/// An output of a reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Values,
    /// Whether it was asked for as bytes.
    pub binary: bool,
}

impl Output {
    /// The name of the type of its elements.
    pub(crate) fn datatype(&self) -> &'static str {
        match self.values {
            Values::Fp32(_) => "FP32",
            Values::Int64(_) => "INT64",
            Values::Bytes(_) => "BYTES",
        }
    }

    /// The elements as they go over the wire.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.values {
            Values::Fp32(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Values::Int64(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Values::Bytes(values) => {
                let mut bytes = BytesMut::new();
                for value in values {
                    bytes.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
                    bytes.put_slice(value.as_bytes());
                }
                bytes.freeze()
            }
        }
    }
}

/// The outputs that are asked for, of every image; all of them where none is named.
pub(crate) fn answer(
    generation: &Generation,
    scores: &Scores,
    wanted: &[RequestedOutput],
    binary: bool,
) -> Result<Vec<Output>, Refusal> {
    let all: Vec<RequestedOutput>;
    let wanted = if wanted.is_empty() {
        let names = OUTPUTS.iter().map(|(name, ..)| RequestedOutput {
            name: (*name).to_owned(),
            ..RequestedOutput::default()
        });
        all = names.collect();
        &all
    } else {
        wanted
    };
    let rows = Rows::of(generation, scores)?;
    wanted
        .iter()
        .map(|output| rows.output(output, binary))
        .collect()
}

/// The scores of every image, and what is decided by them.
struct Rows<'a> {
    scores: &'a [f32],
    names: &'a [String],
    decided: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn of(generation: &'a Generation, scores: &'a Scores) -> Result<Self, Refusal> {
        let names = &generation.model().classes[..];
        let rows = scores.scores.chunks_exact(names.len());
        let decided = rows.enumerate().map(|(index, row)| {
            let decision = generation
                .interpreter
                .decision(&format!("image {index}"), row);
            decision
                .map(|decision| decision.class)
                .map_err(|error| Refusal::unfit_for(&error))
        });
        Ok(Self {
            decided: decided.collect::<Result<_, _>>()?,
            scores: &scores.scores,
            names,
        })
    }

    fn output(&self, wanted: &RequestedOutput, binary: bool) -> Result<Output, Refusal> {
        let (images, classes) = (self.decided.len(), self.names.len());
        let known = OUTPUTS.iter().find(|(name, ..)| *name == wanted.name);
        let Some(&(name, _, is_of_classes)) = known else {
            let names = OUTPUTS.map(|(name, ..)| name).join(", ");
            let found = visible(&wanted.name);
            return Err(Refusal::bad(format!(
                "no output is called {found:?}; there are {names}"
            )));
        };
        let mut shape = vec![images];
        if is_of_classes {
            shape.push(classes);
        }
        let values = match (name, wanted.classification) {
            ("logits" | "probabilities", Some(k)) => {
                let k = k.clamp(1, classes);
                shape = vec![images, k];
                Values::Bytes(self.classification(k, name == "logits"))
            }
            (_, Some(_)) => {
                return Err(Refusal::bad(format!(
                    "output {name:?} has no value for each class"
                )));
            }
            ("logits", None) => Values::Fp32(self.scores.to_vec()),
            ("probabilities", None) => {
                let rows = self.scores.chunks_exact(classes);
                let all = rows.flat_map(probabilities);
                Values::Fp32(all.map(|probability| probability as f32).collect())
            }
            ("class", None) => {
                Values::Int64(self.decided.iter().map(|class| *class as i64).collect())
            }
            _ => {
                let labels = self.decided.iter().map(|class| self.names[*class].clone());
                Values::Bytes(labels.collect())
            }
        };
        Ok(Output {
            name: name.to_owned(),
            shape,
            values,
            binary: wanted.binary.unwrap_or(binary),
        })
    }

    /// The likeliest classes of every image, as `value:index:name`.
    fn classification(&self, k: usize, is_logits: bool) -> Vec<String> {
        let rows = self.scores.chunks_exact(self.names.len());
        let guesses = rows.flat_map(|row| {
            top_k(row, self.names, k).into_iter().map(move |guess| {
                let value = match is_logits {
                    true => f64::from(row[guess.class]),
                    false => guess.probability,
                };
                format!("{value}:{}:{}", guess.class, guess.label)
            })
        });
        guesses.collect()
    }
}
