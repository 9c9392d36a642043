//! What is attached to the weights in a model file, one row each.
//!
//! A row of the table at the end is all that a new attachment takes here: its field, its key in the file, its schema, and whether a
//! params-only file holds it follow from it.

use std::collections::BTreeMap;
use std::fmt;

use keepbest_core::{FileDigest, WeightsDigest};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Seal;
use super::metadata::{Kind, ModelMetadata};
use crate::{StateDict, TensorDigest};

/// Which files hold an attachment.
enum Files {
    All,
    /// Full models alone; what it is called in an error.
    Full(&'static str),
}

/// What an attachment may be.
trait Attached: Default {
    fn is_absent(&self) -> bool;
}

impl Attached for Option<Value> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Attached for Vec<String> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// A row of the table, for a file.
struct Row {
    /// The oldest schema that has it.
    schema: u32,
    files: Files,
    present: bool,
}

macro_rules! attachments {
    ($($(#[$doc:meta])+ $key:ident: $type:ty, schema $schema:literal, $files:expr;)+) => {
        /// What is attached to the weights in a model file. JSON values belong to the crates that make them (architecture:
        /// `keepbest-nn`; preprocessing: `keepbest-data`; ...) and carry their own versions.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Attachments {
            $($(#[$doc])+ pub $key: $type,)+
        }

        impl Attachments {
            /// The same with everything that `over` has in place of its own.
            #[must_use]
            pub fn overlaid(self, over: Self) -> Self {
                Self {
                    $($key: if over.$key.is_absent() { self.$key } else { over.$key },)+
                }
            }

            /// The same for a params-only file.
            pub(super) fn into_params(mut self) -> Self {
                // What was measured by thresholds says nothing without them.
                self.evaluation = self.evaluation.filter(|_| self.thresholds.is_none());
                $(if matches!($files, Files::Full(_)) {
                    self.$key = Default::default();
                })+
                self
            }

            fn rows(&self) -> impl Iterator<Item = Row> {
                [$(Row { schema: $schema, files: $files, present: !self.$key.is_absent() }),+].into_iter()
            }
        }

        /// The JSON of a file, in this order of keys.
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Written {
            schema: u32,
            producer: String,
            kind: Kind,
            weights_digest: WeightsDigest,
            step: u64,
            epoch: u64,
            $(#[serde(default, skip_serializing_if = "Attached::is_absent")] $key: $type,)+
            #[serde(deserialize_with = "unique")]
            tensors: BTreeMap<String, TensorDigest>,
        }

        /// Keys of attachments with the oldest schema that has them.
        const ATTACHED: &[(&str, u32)] = &[$((stringify!($key), $schema)),+];

        impl Written {
            /// Metadata and seal as they stand in a file.
            pub(super) fn of(metadata: &ModelMetadata, seal: &Seal) -> Self {
                let (attachments, seal) = (metadata.attachments.clone(), seal.clone());
                Self {
                    schema: seal.schema,
                    producer: seal.producer,
                    kind: metadata.kind,
                    weights_digest: seal.weights_digest,
                    step: metadata.step,
                    epoch: metadata.epoch,
                    $($key: attachments.$key,)+
                    tensors: seal.tensors,
                }
            }

            /// Metadata and seal of the JSON of a file.
            pub(super) fn read(
                json: &str,
                file_digest: FileDigest,
            ) -> Result<(ModelMetadata, Seal), serde_json::Error> {
                let written: Self = serde_json::from_str(json)?;
                let metadata = ModelMetadata {
                    kind: written.kind,
                    step: written.step,
                    epoch: written.epoch,
                    attachments: Attachments { $($key: written.$key,)+ },
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
        }
    };
}

/// The keys that are no attachments.
const OWN_KEYS: [&str; 7] = [
    "schema",
    "producer",
    "kind",
    "weights_digest",
    "step",
    "epoch",
    "tensors",
];

/// Keys that a file can have.
pub(super) const KEY_COUNT: usize = OWN_KEYS.len() + ATTACHED.len();

/// Whether a schema has a key.
pub(super) fn has_key(schema: u64, key: &str) -> bool {
    let attached = |(name, since): &(&str, u32)| *name == key && u64::from(*since) <= schema;
    OWN_KEYS.contains(&key) || ATTACHED.iter().any(attached)
}

impl Attachments {
    /// The oldest schema that can say this: readers that know no newer one can read it.
    pub(super) fn schema(&self) -> u32 {
        let present = self.rows().filter(|row| row.present);
        present.map(|row| row.schema).max().unwrap_or(1)
    }

    /// What of this and of `training` (tensors) a params-only file cannot hold.
    pub(super) fn beyond_params(&self, training: &StateDict) -> Option<&'static str> {
        let mut rows = self.rows().filter(|row| row.present);
        let beyond = rows.find_map(|row| match row.files {
            Files::All => None,
            Files::Full(what) => Some(what),
        });
        beyond.or_else(|| (!training.is_empty()).then_some(TRAINING_STATE))
    }
}

const TRAINING_STATE: &str = "training state";

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

attachments! {
    /// The model spec: the architecture as data.
    model: Option<Value>, schema 1, Files::Full("a model spec");
    /// Class names by label.
    classes: Vec<String>, schema 1, Files::All;
    /// Preprocessing: how images become input.
    preprocessing: Option<Value>, schema 1, Files::All;
    /// Which class is decided for, where it is not the likeliest.
    thresholds: Option<Value>, schema 2, Files::Full("thresholds");
    /// Trainer state beside the optimizer's tensors.
    training: Option<Value>, schema 1, Files::Full(TRAINING_STATE);
    /// The evaluation of these weights.
    evaluation: Option<Value>, schema 1, Files::All;
    /// The evaluations before it.
    history: Option<Value>, schema 1, Files::All;
    /// The model's origin: data, seed, host, versions.
    provenance: Option<Value>, schema 1, Files::All;
}
