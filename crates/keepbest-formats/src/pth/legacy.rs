//! The form before PyTorch 1.6: five pickles, then the storages one after another.
//!
//! Magic number, protocol version 1001, what system wrote it, the object, the keys of the storages;
//! then for each key its number of elements (i64) and the elements. All little-endian, whatever
//! the system. Reference: `_legacy_save` in `torch/serialization.py`.

use std::collections::HashMap;

use bytes::Bytes;

use super::dtypes::StorageClass;
use super::pickle::{Graph, Id, Node, Parsed, parse};
use super::tensor::{StorageRef, Storages};
use super::{Limits, PthError};

/// Storages by key.
pub(super) struct Legacy {
    pub(super) storages: HashMap<String, Bytes>,
}

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

impl Legacy {
    /// Reads the whole file: the object's pickle and the places of all storages.
    pub(super) fn open(file: &Bytes, limits: &Limits) -> Result<(Self, Parsed), PthError> {
        let mut rest = file.clone();
        let next = |rest: &mut Bytes| -> Result<Parsed, PthError> {
            let most = usize::try_from(limits.pickle_bytes).unwrap_or(usize::MAX);
            let head = rest.slice(..rest.len().min(most));
            let parsed = parse(&head, limits.values)?;
            *rest = rest.slice(parsed.length..);
            Ok(parsed)
        };
        let magic = next(&mut rest)?;
        if !matches!(magic.graph.node(magic.root), Node::BigInt(bytes) if bytes.as_ref() == MAGIC) {
            return Err(PthError::Malformed {
                what: "magic number",
            });
        }
        let protocol = next(&mut rest)?;
        if protocol.graph.as_int(protocol.root) != Some(PROTOCOL) {
            return Err(PthError::Malformed {
                what: "protocol version",
            });
        }
        let _system = next(&mut rest)?;
        let object = next(&mut rest)?;
        let keys = next(&mut rest)?;
        let sizes = element_sizes(&object.graph);
        let keys = key_list(&keys.graph, keys.root).ok_or(PthError::Malformed {
            what: "list of storages",
        })?;
        let mut storages = HashMap::new();
        for key in keys {
            let size = sizes.get(key).ok_or(PthError::Malformed {
                what: "list of storages",
            })?;
            let truncated = || PthError::Truncated {
                what: format!("storage `{key}`"),
            };
            let elements = rest.first_chunk::<8>().ok_or_else(truncated)?;
            let length = usize::try_from(i64::from_le_bytes(*elements))
                .ok()
                .and_then(|elements| elements.checked_mul(*size))
                .filter(|&length| length <= rest.len() - 8)
                .ok_or_else(truncated)?;
            let bytes = rest.slice(8..8 + length);
            rest = rest.slice(8 + length..);
            if storages.insert(key.to_owned(), bytes).is_some() {
                return Err(PthError::Malformed {
                    what: "list of storages",
                });
            }
        }
        Ok((Self { storages }, object))
    }
}

/// Bytes of an element of each storage that the object's pickle names.
fn element_sizes(graph: &Graph) -> HashMap<&str, usize> {
    graph
        .persistent()
        .filter_map(|(_, key)| StorageRef::of(graph, key))
        .map(|storage| {
            let size = match storage.class {
                StorageClass::Typed(dtype) => dtype.size(),
                StorageClass::Untyped => 1,
            };
            (storage.key, size)
        })
        .collect()
}

fn key_list(graph: &Graph, root: Id) -> Option<Vec<&str>> {
    match graph.node(root) {
        Node::List(keys) => keys.iter().map(|&key| graph.as_str(key)).collect(),
        _ => None,
    }
}

impl Storages for Legacy {
    fn bytes(&self, key: &str, _budget: &mut u64) -> Result<Bytes, PthError> {
        self.storages
            .get(key)
            .cloned()
            .ok_or_else(|| PthError::NoStorage {
                storage: key.into(),
            })
    }

    fn big_endian(&self) -> bool {
        false
    }
}
