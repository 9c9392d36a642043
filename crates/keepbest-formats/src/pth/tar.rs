//! The form before PyTorch 0.1.10: a tar archive of `storages`, `tensors` and `pickle`.
//!
//! The pickle names tensors by numbers; what those are is in `tensors` (pickles and binary fields one
//! after another), their elements in `storages`. To those who look at the values, such a tensor is the
//! same call that later forms have. Reference: `_legacy_load` in `torch/serialization.py`.

use std::collections::HashMap;

use bytes::Bytes;

use super::dtypes::{self, StorageClass};
use super::legacy::Legacy;
use super::pickle::{Global, Graph, Id, Node, Object, Parsed, parse};
use super::tensor::MOST_SIDES;
use super::{Limits, PthError};
use crate::sniff::FileKind;

const MALFORMED_STORAGES: PthError = PthError::Malformed { what: "storages" };
const MALFORMED_TENSORS: PthError = PthError::Malformed { what: "tensors" };

/// Reads the whole file.
pub(super) fn open(file: &Bytes, limits: &Limits) -> Result<(Legacy, Parsed), PthError> {
    let members = members(file)?;
    let member = |name: &str| {
        members.get(name).cloned().ok_or(PthError::AnotherKind {
            holds: FileKind::Tar,
        })
    };
    let storages = read_storages(member("storages")?, limits)?;
    let tensors = read_tensors(member("tensors")?, limits)?;
    let mut parsed = Reader::new(member("pickle")?, limits).pickle()?;
    link(&mut parsed.graph, &tensors, &storages)?;
    let storages = storages
        .into_iter()
        .map(|(key, storage)| (key.to_string(), storage.bytes))
        .collect();
    Ok((Legacy { storages }, parsed))
}

/// The ordinary files of a tar archive by name.
fn members(file: &Bytes) -> Result<HashMap<String, Bytes>, PthError> {
    const BLOCK: usize = 512;
    let mut members = HashMap::new();
    let mut at = 0usize;
    while let Some(header) = file.get(at..at.saturating_add(BLOCK)) {
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        let name = header[..100].split(|&byte| byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let truncated = || PthError::Truncated {
            what: format!("tar entry `{name}`"),
        };
        let size =
            tar_number(&header[124..136]).ok_or(PthError::Malformed { what: "tar header" })?;
        let begin = at + BLOCK;
        let end = begin
            .checked_add(size)
            .filter(|&end| end <= file.len())
            .ok_or_else(truncated)?;
        if matches!(header[156], b'0' | 0) {
            members.insert(name, file.slice(begin..end));
        }
        at = end.next_multiple_of(BLOCK);
    }
    Ok(members)
}

/// Octal digits, or (if the first bit is set) a big-endian number.
fn tar_number(field: &[u8]) -> Option<usize> {
    if field[0] & 0x80 != 0 {
        let mut number = usize::from(field[0] & 0x7f);
        for &byte in &field[1..] {
            number = number.checked_mul(256)?.checked_add(byte.into())?;
        }
        return Some(number);
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c| c == ' ' || c == '\0');
    usize::from_str_radix(text, 8).ok()
}

/// Pickles and fields one after another.
struct Reader<'a> {
    rest: Bytes,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    fn new(rest: Bytes, limits: &'a Limits) -> Self {
        Self { rest, limits }
    }

    fn pickle(&mut self) -> Result<Parsed, PthError> {
        let most = usize::try_from(self.limits.pickle_bytes).unwrap_or(usize::MAX);
        let head = self.rest.slice(..self.rest.len().min(most));
        let parsed = parse(&head, self.limits.values)?;
        self.rest = self.rest.slice(parsed.length..);
        Ok(parsed)
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.rest.len()).then(|| self.rest.split_to(count))
    }

    fn i64(&mut self) -> Option<i64> {
        let bytes = self.take(8)?;
        Some(i64::from_le_bytes(bytes.as_ref().try_into().ok()?))
    }

    fn i64s(&mut self, count: usize) -> Option<Vec<i64>> {
        (0..count).map(|_| self.i64()).collect()
    }

    /// The count that comes next in the file.
    fn count(&mut self) -> Result<Option<i64>, PthError> {
        let count = self.pickle()?;
        Ok(count.graph.as_int(count.root))
    }
}

struct Storage {
    class: Global,
    bytes: Bytes,
    elements: i64,
    size: usize,
}

fn read_storages(member: Bytes, limits: &Limits) -> Result<HashMap<i64, Storage>, PthError> {
    let mut reader = Reader::new(member, limits);
    let count = reader.count()?.ok_or(MALFORMED_STORAGES)?;
    let mut storages = HashMap::new();
    for _ in 0..count {
        let head = reader.pickle()?;
        let (key, class) = head
            .graph
            .as_tuple(head.root)
            .and_then(|parts| match parts {
                [key, _location, class] => Some((
                    head.graph.as_int(*key)?,
                    head.graph.as_global(*class)?.clone(),
                )),
                _ => None,
            })
            .ok_or(MALFORMED_STORAGES)?;
        let Some(StorageClass::Typed(dtype)) = dtypes::storage(&class) else {
            return Err(MALFORMED_STORAGES);
        };
        let truncated = || PthError::Truncated {
            what: format!("storage `{key}`"),
        };
        let elements = reader.i64().ok_or_else(truncated)?;
        let bytes = usize::try_from(elements)
            .ok()
            .and_then(|elements| elements.checked_mul(dtype.size()))
            .and_then(|length| reader.take(length))
            .ok_or_else(truncated)?;
        let size = dtype.size();
        storages.insert(
            key,
            Storage {
                class,
                bytes,
                elements,
                size,
            },
        );
    }
    let views = reader.pickle()?;
    let Node::List(list) = views.graph.node(views.root) else {
        return Err(MALFORMED_STORAGES);
    };
    for &view in list {
        let (target, storage) = view_of(&views.graph, view, &storages).ok_or(MALFORMED_STORAGES)?;
        storages.insert(target, storage);
    }
    Ok(storages)
}

/// A storage that is part of another: `(target, root, offset, elements)`.
fn view_of(graph: &Graph, view: Id, storages: &HashMap<i64, Storage>) -> Option<(i64, Storage)> {
    let [target, root, offset, elements] = graph.as_tuple(view)? else {
        return None;
    };
    let root = storages.get(&graph.as_int(*root)?)?;
    let elements = graph.as_int(*elements)?;
    let bytes = |elements: i64| usize::try_from(elements).ok()?.checked_mul(root.size);
    let begin = bytes(graph.as_int(*offset)?)?;
    let end = begin.checked_add(bytes(elements)?)?;
    if end > root.bytes.len() {
        return None;
    }
    let storage = Storage {
        class: root.class.clone(),
        bytes: root.bytes.slice(begin..end),
        elements,
        size: root.size,
    };
    Some((graph.as_int(*target)?, storage))
}

struct TensorHead {
    storage: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
    offset: i64,
}

fn read_tensors(member: Bytes, limits: &Limits) -> Result<HashMap<i64, TensorHead>, PthError> {
    let mut reader = Reader::new(member, limits);
    let count = reader.count()?.ok_or(MALFORMED_TENSORS)?;
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let head = reader.pickle()?;
        let (key, storage) = head
            .graph
            .as_tuple(head.root)
            .and_then(|parts| match parts {
                [key, storage, _type] => {
                    Some((head.graph.as_int(*key)?, head.graph.as_int(*storage)?))
                }
                _ => None,
            })
            .ok_or(MALFORMED_TENSORS)?;
        let mut fields = || {
            // The number of sides took eight bytes once: four are of no consequence.
            let sides = reader.take(8)?;
            let sides = i32::from_le_bytes(*sides.first_chunk::<4>()?);
            let sides = usize::try_from(sides)
                .ok()
                .filter(|&sides| sides <= MOST_SIDES)?;
            Some(TensorHead {
                storage,
                shape: reader.i64s(sides)?,
                strides: reader.i64s(sides)?,
                offset: reader.i64()?,
            })
        };
        tensors.insert(key, fields().ok_or(MALFORMED_TENSORS)?);
    }
    Ok(tensors)
}

/// Puts calls that make tensors in the place of their numbers.
fn link(
    graph: &mut Graph,
    tensors: &HashMap<i64, TensorHead>,
    storages: &HashMap<i64, Storage>,
) -> Result<(), PthError> {
    let numbered: Vec<(Id, i64)> = graph
        .persistent()
        .filter_map(|(id, key)| {
            let key = graph
                .as_int(key)
                .or_else(|| graph.as_str(key)?.parse().ok())?;
            Some((id, key))
        })
        .collect();
    for (id, key) in numbered {
        let head = tensors.get(&key).ok_or(MALFORMED_TENSORS)?;
        let storage = storages.get(&head.storage).ok_or(MALFORMED_STORAGES)?;
        let class = graph.global(storage.class.clone());
        let key = Node::Str(head.storage.to_string().into());
        let parts = [
            Node::Str("storage".into()),
            class,
            key,
            Node::Str("cpu".into()),
            Node::Int(storage.elements),
        ]
        .map(|node| graph.add(node));
        let name = graph.add(Node::Tuple(parts.into()));
        let storage = graph.add(Node::Persistent(name));
        let offset = graph.add(Node::Int(head.offset));
        let mut numbers = |numbers: &[i64]| {
            let ids = numbers.iter().map(|&n| graph.add(Node::Int(n))).collect();
            graph.add(Node::Tuple(ids))
        };
        let (shape, strides) = (numbers(&head.shape), numbers(&head.strides));
        let args = graph.add(Node::Tuple(vec![storage, offset, shape, strides]));
        let callable = graph.global(Global {
            module: "torch._utils".into(),
            name: "_rebuild_tensor".into(),
        });
        let callable = graph.add(callable);
        graph.replace(
            id,
            Node::Object(Box::new(Object {
                callable,
                args,
                elements: Vec::new(),
                items: Vec::new(),
                states: Vec::new(),
            })),
        );
    }
    Ok(())
}
