//! What a model file says about its model.

use std::fmt;
use std::ops::{Deref, DerefMut};

use keepbest_core::FileDigest;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::attachments::{Attachments, KEY_COUNT, Written, has_key};
use super::{ModelFileError, SCHEMA, Seal};

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

/// What keepbest records beside the tensors: whose weights they are, and what is [attached](Attachments) to them, which is read and
/// written as if it were its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelMetadata {
    /// Full or params-only.
    pub kind: Kind,
    /// Optimizer steps behind these weights.
    pub step: u64,
    /// Epochs behind these weights.
    pub epoch: u64,
    /// Everything else.
    pub attachments: Attachments,
}

impl Deref for ModelMetadata {
    type Target = Attachments;

    fn deref(&self) -> &Attachments {
        &self.attachments
    }
}

impl DerefMut for ModelMetadata {
    fn deref_mut(&mut self) -> &mut Attachments {
        &mut self.attachments
    }
}

impl ModelMetadata {
    /// The same for a params-only file: without what only a full model holds.
    #[must_use]
    pub fn into_params(self) -> Self {
        Self {
            kind: Kind::Params,
            attachments: self.attachments.into_params(),
            ..self
        }
    }
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
    Written::read(json, file_digest).map_err(ModelFileError::Metadata)
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
                    if outline.keys.len() <= KEY_COUNT {
                        outline.keys.push(key);
                    }
                }
                Ok(outline)
            }
        }
        deserializer.deserialize_map(OutlineVisitor)
    }
}
