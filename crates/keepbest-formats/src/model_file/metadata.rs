//! What a model file says about its model: schemas 1 and 2.

use std::collections::BTreeMap;
use std::fmt;

use keepbest_core::{FileDigest, WeightsDigest};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ModelFileError, SCHEMA, Seal};
use crate::TensorDigest;

/// Whether a file can be used without being told its architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything: architecture, weights, training state.
    #[default]
    Full,
    /// The state dict alone; who loads it brings the architecture.
    Params,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Full => "full model",
            Kind::Params => "params-only model",
        })
    }
}

/// What keepbest records beside the tensors. JSON values belong to the crates that make them
/// (architecture: `keepbest-nn`; preprocessing: `keepbest-data`; ...) and carry their own versions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelMetadata {
    /// Full or params-only.
    pub kind: Kind,
    /// Optimizer steps behind these weights.
    pub step: u64,
    /// Epochs behind these weights.
    pub epoch: u64,
    /// The model spec: the architecture as data. Never in a params-only file.
    pub model: Option<Value>,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The preprocessing of images.
    pub preprocessing: Option<Value>,
    /// Which class is decided for, where it is not the likeliest. Never in a params-only file.
    pub thresholds: Option<Value>,
    /// Trainer state beside the optimizer's tensors. Never in a params-only file.
    pub training: Option<Value>,
    /// The evaluation of these weights.
    pub evaluation: Option<Value>,
    /// The evaluations before it.
    pub history: Option<Value>,
    /// Where the model comes from: data, seed, host, versions.
    pub provenance: Option<Value>,
}

impl ModelMetadata {
    /// The same for a params-only file: without model spec, training state and thresholds, nor what was measured by them.
    #[must_use]
    pub fn into_params(self) -> Self {
        Self {
            kind: Kind::Params,
            model: None,
            training: None,
            evaluation: self.evaluation.filter(|_| self.thresholds.is_none()),
            thresholds: None,
            ..self
        }
    }

    /// The oldest schema that can say this: readers that know no newer one can read it.
    pub(super) fn schema(&self) -> u32 {
        if self.thresholds.is_some() { 2 } else { 1 }
    }
}

/// Schema 2 as it stands in the file, in this order of keys; schema 1 is the same without thresholds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: u32,
    producer: String,
    kind: Kind,
    weights_digest: WeightsDigest,
    step: u64,
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thresholds: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evaluation: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provenance: Option<Value>,
    #[serde(deserialize_with = "unique")]
    tensors: BTreeMap<String, TensorDigest>,
}

/// A map whose keys must not stand twice.
fn unique<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, TensorDigest>, D::Error> {
    struct UniqueVisitor;
    impl<'de> Visitor<'de> for UniqueVisitor {
        type Value = BTreeMap<String, TensorDigest>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object of digests")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut unique = BTreeMap::new();
            while let Some((name, digest)) = map.next_entry::<String, TensorDigest>()? {
                if unique.contains_key(&name) {
                    return Err(serde::de::Error::custom(format_args!(
                        "tensor `{name}` has two digests"
                    )));
                }
                unique.insert(name, digest);
            }
            Ok(unique)
        }
    }
    deserializer.deserialize_map(UniqueVisitor)
}

/// The keys of [`Written`].
const KEYS: [&str; 15] = [
    "schema",
    "producer",
    "kind",
    "weights_digest",
    "step",
    "epoch",
    "model",
    "classes",
    "preprocessing",
    THRESHOLDS,
    "training",
    "evaluation",
    "history",
    "provenance",
    "tensors",
];

/// The key that schema 1 does not have.
const THRESHOLDS: &str = "thresholds";

fn has_key(schema: u64, key: &str) -> bool {
    KEYS.contains(&key) && (schema > 1 || key != THRESHOLDS)
}

/// Metadata and seal to the JSON of the file.
pub(super) fn to_json(metadata: &ModelMetadata, seal: &Seal) -> Result<String, serde_json::Error> {
    let metadata = metadata.clone();
    let seal = seal.clone();
    serde_json::to_string(&Written {
        schema: seal.schema,
        producer: seal.producer,
        kind: metadata.kind,
        weights_digest: seal.weights_digest,
        step: metadata.step,
        epoch: metadata.epoch,
        model: metadata.model,
        classes: metadata.classes,
        preprocessing: metadata.preprocessing,
        thresholds: metadata.thresholds,
        training: metadata.training,
        evaluation: metadata.evaluation,
        history: metadata.history,
        provenance: metadata.provenance,
        tensors: seal.tensors,
    })
}

/// Values in the metadata at most: what a value takes in memory is many times what it takes in the file.
const VALUES_LIMIT: usize = 4_000_000;

/// The JSON of a file to metadata and seal. The schema is looked at before anything else, so that a
/// newer file is called that and not malformed.
pub(super) fn from_json(
    json: &str,
    file_digest: FileDigest,
) -> Result<(ModelMetadata, Seal), ModelFileError> {
    // Each value has one of these before it; those within texts are counted too.
    let values = json.bytes().filter(|byte| b"[{,".contains(byte)).count();
    if values > VALUES_LIMIT {
        return Err(ModelFileError::TooManyValues {
            limit: VALUES_LIMIT,
        });
    }
    let Outline {
        keys,
        schema,
        producer,
    } = serde_json::from_str(json).map_err(ModelFileError::Metadata)?;
    let producer = producer.unwrap_or_else(|| "a newer keepbest".into());
    if let Some(schema) = schema
        && !(1..=u64::from(SCHEMA)).contains(&schema)
    {
        return Err(ModelFileError::UnknownSchema {
            schema,
            newest: SCHEMA,
            producer,
        });
    }
    let schema = schema.unwrap_or(SCHEMA.into());
    for (at, key) in keys.iter().enumerate() {
        if !has_key(schema, key) {
            return Err(ModelFileError::UnknownKey {
                key: key.clone(),
                schema,
                producer,
            });
        }
        if keys[..at].contains(key) {
            return Err(ModelFileError::DuplicateKey { key: key.clone() });
        }
    }
    let written: Written = serde_json::from_str(json).map_err(ModelFileError::Metadata)?;
    let metadata = ModelMetadata {
        kind: written.kind,
        step: written.step,
        epoch: written.epoch,
        model: written.model,
        classes: written.classes,
        preprocessing: written.preprocessing,
        thresholds: written.thresholds,
        training: written.training,
        evaluation: written.evaluation,
        history: written.history,
        provenance: written.provenance,
    };
    let seal = Seal {
        schema: written.schema,
        producer: written.producer,
        weights_digest: written.weights_digest,
        tensors: written.tensors,
        file_digest,
    };
    Ok((metadata, seal))
}

/// Top-level keys in order (at most a few more than the schema has), schema and producer, whatever
/// the schema.
#[derive(Default)]
struct Outline {
    keys: Vec<String>,
    schema: Option<u64>,
    producer: Option<String>,
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OutlineVisitor;
        impl<'de> Visitor<'de> for OutlineVisitor {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let mut outline = Outline::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "schema" => outline.schema = Some(map.next_value()?),
                        "producer" => outline.producer = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                    // One more than there are in the schema is enough to find what is wrong.
                    if outline.keys.len() <= KEYS.len() {
                        outline.keys.push(key);
                    }
                }
                Ok(outline)
            }
        }
        deserializer.deserialize_map(OutlineVisitor)
    }
}

impl ModelMetadata {
    /// What of this and of `training` (tensors) a params-only file cannot hold.
    pub(super) fn beyond_params(&self, training: &crate::StateDict) -> Option<&'static str> {
        if self.model.is_some() {
            Some("a model spec")
        } else if self.training.is_some() || !training.is_empty() {
            Some("training state")
        } else if self.thresholds.is_some() {
            Some("thresholds")
        } else {
            None
        }
    }
}
