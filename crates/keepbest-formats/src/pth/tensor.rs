//! Tensors: from the arguments of `_rebuild_tensor_v2` and its like to bytes.

use std::collections::HashMap;

use bytes::Bytes;

use super::PthError;
use super::dtypes::{self, StorageClass as Class};
use super::numpy::Array;
use super::pickle::{Graph, Id, Node};
use crate::{Dtype, Tensor};

/// PyTorch's own limit on the sides of a tensor.
pub(super) const MOST_SIDES: usize = 64;

/// Longer names of storages are nobody's.
const LONGEST_KEY: usize = 256;

/// A storage as the pickle names it: a run of elements outside of the pickle.
#[derive(Debug, Clone, Copy)]
pub struct StorageRef<'a> {
    /// Its name in the file.
    pub key: &'a str,
    /// The device it was on, such as `cpu` or `cuda:0`. Of no consequence here.
    pub location: &'a str,
    pub(super) class: Class,
    /// Elements (bytes if untyped).
    pub(super) elements: i64,
    /// A part of another storage (form before 1.6): its first element there.
    pub(super) view: Option<StorageView<'a>>,
}

/// A storage that is part of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageView<'a> {
    /// Name of the part.
    pub key: &'a str,
    /// First element in the whole.
    pub offset: i64,
    pub elements: i64,
}

impl<'a> StorageRef<'a> {
    /// The storage that a persistent id names:
    /// `("storage", class, key, location, elements[, view])`.
    pub(super) fn of(graph: &'a Graph, id: Id) -> Option<Self> {
        let parts = graph.as_tuple(id)?;
        let [kind, class, key, location, elements, rest @ ..] = parts else {
            return None;
        };
        if graph.as_str(*kind) != Some("storage") {
            return None;
        }
        let view = match rest {
            [view] => match graph.node(*view) {
                Node::None => None,
                Node::Tuple(parts) => {
                    let [key, offset, elements] = parts.as_slice() else {
                        return None;
                    };
                    Some(StorageView {
                        key: graph.as_str(*key)?,
                        offset: graph.as_int(*offset)?,
                        elements: graph.as_int(*elements)?,
                    })
                }
                _ => return None,
            },
            [] => None,
            _ => return None,
        };
        Some(Self {
            key: graph.as_str(*key).filter(|key| key.len() <= LONGEST_KEY)?,
            location: graph.as_str(*location).unwrap_or_default(),
            class: dtypes::storage(graph.as_global(*class)?)?,
            elements: graph.as_int(*elements)?,
            view,
        })
    }
}

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    graph: &'a Graph,
    /// The call of one of the `_rebuild_tensor` functions, or of one that makes an array of NumPy.
    call: Id,
    /// Whether it was wrapped as a parameter.
    pub is_parameter: bool,
}

/// What a tensor is, apart from its bytes.
#[derive(Debug, Clone)]
pub struct TensorInfo<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Sides, slowest first.
    pub shape: Vec<usize>,
    /// Elements between neighbours along each side.
    pub strides: Vec<usize>,
    /// First element in the storage.
    pub offset: usize,
    /// The storage of the elements; `None` for an array of NumPy, which has them in the pickle.
    pub storage: Option<StorageRef<'a>>,
    /// Whether it takes part in training.
    pub requires_grad: bool,
}

impl<'a> TensorRef<'a> {
    /// The tensor that a call makes, if it is one of the functions that make tensors.
    pub(super) fn of(graph: &'a Graph, mut id: Id) -> Option<Self> {
        let mut is_parameter = false;
        // A parameter is wrapped around a tensor, and that in a subclass: a few levels at most.
        for _ in 0..8 {
            let Node::Object(object) = graph.node(id) else {
                return None;
            };
            let global = graph.as_global(object.callable)?;
            let args = graph.as_tuple(object.args)?;
            match (global.module.as_str(), global.name.as_str()) {
                (
                    "torch._utils",
                    "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
                ) => {
                    return Some(Self {
                        graph,
                        call: id,
                        is_parameter,
                    });
                }
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
                | ("torch.nn.parameter", "Parameter" | "Buffer")
                // What tensors that need gradients were before PyTorch 0.4.
                | ("torch.autograd.variable", "Variable") => {
                    is_parameter |= !matches!(global.name.as_str(), "Buffer" | "Variable");
                    id = *args.first()?;
                }
                // func, type, args, state
                ("torch._tensor", "_rebuild_from_type_v2") => {
                    let [function, _, inner, ..] = args else {
                        return None;
                    };
                    return Self::of_type(graph, *function, *inner, is_parameter, id);
                }
                _ => return None,
            }
        }
        None
    }

    /// A tensor subclass is a call of a function on arguments that stand beside it.
    fn of_type(
        graph: &'a Graph,
        function: Id,
        args: Id,
        is_parameter: bool,
        call: Id,
    ) -> Option<Self> {
        let function = graph.as_global(function)?;
        let args = graph.as_tuple(args)?;
        match function.name.as_str() {
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3"
                if function.module == "torch._utils" =>
            {
                Some(Self {
                    graph,
                    call,
                    is_parameter,
                })
            }
            "_rebuild_parameter" if function.module == "torch._utils" => {
                let inner = *args.first()?;
                // Not through `of` again: a subclass in a subclass is nothing that PyTorch writes.
                let Node::Object(object) = graph.node(inner) else {
                    return None;
                };
                let global = graph.as_global(object.callable)?;
                (global.module == "torch._utils" && global.name.starts_with("_rebuild_tensor"))
                    .then_some(Self {
                        graph,
                        call: inner,
                        is_parameter: true,
                    })
            }
            _ => None,
        }
    }

    /// The array of NumPy that a call makes, if it is one of numbers.
    pub(super) fn of_array(graph: &'a Graph, call: Id) -> Option<Self> {
        let is_parameter = false;
        Array::of(graph, call).map(|_| Self {
            graph,
            call,
            is_parameter,
        })
    }

    fn array(&self) -> Option<Array<'a>> {
        Array::of(self.graph, self.call)
    }

    /// The call that makes it.
    pub(super) fn call(&self) -> Id {
        self.call
    }

    /// Name of the function and its arguments.
    fn function(&self) -> Option<(&'a str, &'a [Id])> {
        let Node::Object(object) = self.graph.node(self.call) else {
            return None;
        };
        let global = self.graph.as_global(object.callable)?;
        let args = self.graph.as_tuple(object.args)?;
        if global.name == "_rebuild_from_type_v2" {
            let function = self.graph.as_global(*args.first()?)?;
            return Some((&function.name, self.graph.as_tuple(*args.get(2)?)?));
        }
        Some((&global.name, args))
    }

    /// Element type, shape and place, checked for sense but not yet against the storage.
    ///
    /// # Errors
    /// When the arguments are not what the function takes, or sides or strides are negative.
    pub fn info(&self) -> Result<TensorInfo<'a>, PthError> {
        if let Some(array) = self.array() {
            return Ok(array.info());
        }
        let malformed = |what| PthError::MalformedTensor { what };
        let graph = self.graph;
        let (name, args) = self.function().ok_or(malformed("no call"))?;
        let [storage, offset, size, stride, rest @ ..] = args else {
            return Err(malformed("too few arguments"));
        };
        let key = match graph.node(*storage) {
            Node::Persistent(key) => key,
            Node::Object(call)
                if graph
                    .as_global(call.callable)
                    .is_some_and(|global| global.is("torch.storage", "_load_from_bytes")) =>
            {
                return Err(malformed(
                    "a storage that is a file of its own, as pickle.dump writes it; torch.save writes one that can be read",
                ));
            }
            _ => return Err(malformed("no storage")),
        };
        let storage = StorageRef::of(graph, *key).ok_or(malformed("no storage"))?;
        let numbers = |id: Id| -> Option<Vec<usize>> {
            let ids: &[Id] = match graph.node(id) {
                Node::Tuple(ids) | Node::List(ids) => ids,
                // torch.Size((...))
                Node::Object(object) => match graph.as_tuple(object.args)? {
                    [inner] => graph.as_tuple(*inner)?,
                    _ => return None,
                },
                _ => return None,
            };
            if ids.len() > MOST_SIDES {
                return None;
            }
            ids.iter()
                .map(|&id| usize::try_from(graph.as_int(id)?).ok())
                .collect()
        };
        let shape = numbers(*size).ok_or(malformed("a shape that is none"))?;
        let strides = numbers(*stride).ok_or(malformed("strides that are none"))?;
        if shape.len() != strides.len() {
            return Err(malformed("as many strides as sides are needed"));
        }
        let offset = graph
            .as_int(*offset)
            .and_then(|offset| usize::try_from(offset).ok())
            .ok_or(malformed("an offset that is none"))?;
        let dtype = match (name, storage.class) {
            // requires_grad, backward_hooks, dtype
            ("_rebuild_tensor_v3", _) => rest
                .get(2)
                .and_then(|&id| graph.as_global(id))
                .and_then(dtypes::dtype)
                .ok_or(malformed("an element type that is not known"))?,
            (_, Class::Typed(dtype)) => dtype,
            (_, Class::Untyped) => Dtype::U8,
        };
        let requires_grad = rest
            .first()
            .is_some_and(|&id| matches!(graph.node(id), Node::Bool(true)));
        Ok(TensorInfo {
            dtype,
            shape,
            strides,
            offset,
            storage: Some(storage),
            requires_grad,
        })
    }
}

impl TensorInfo<'_> {
    /// Whether the elements lie in the storage in order, without gaps.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        for (&side, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if side != 1 {
                if stride != expected {
                    return false;
                }
                expected = expected.saturating_mul(side);
            }
        }
        true
    }
}

/// The source of the bytes of storages.
pub(super) trait Storages {
    /// All bytes of a storage as they are in the file. Copies take from `budget`.
    fn bytes(&self, key: &str, budget: &mut u64) -> Result<Bytes, PthError>;
    /// Whether elements are big-endian.
    fn big_endian(&self) -> bool;
}

/// Loads tensors, each storage once.
pub(super) struct TensorLoader<'a> {
    storages: &'a dyn Storages,
    budget: u64,
    cache: HashMap<String, Bytes>,
}

impl<'a> TensorLoader<'a> {
    pub(super) fn new(storages: &'a dyn Storages, budget: u64) -> Self {
        Self {
            storages,
            budget,
            cache: HashMap::new(),
        }
    }

    /// The tensor with its bytes: a view of the file where possible, else a copy.
    pub(super) fn load(&mut self, tensor: TensorRef<'_>) -> Result<Tensor, PthError> {
        let info = tensor.info()?;
        let (storage, swap) = match (&info.storage, tensor.array()) {
            (Some(storage), _) => (self.storage(storage)?, self.storages.big_endian()),
            (None, Some(array)) => {
                let elements = array.elements(|bytes| self.take(bytes))?;
                (elements, array.big_endian)
            }
            (None, None) => return Err(PthError::MalformedTensor { what: "no storage" }),
        };
        let size = info.dtype.size();
        let length = info
            .dtype
            .byte_len(&info.shape)
            .ok_or(PthError::MalformedTensor {
                what: "a shape that overflows",
            })?;
        let key = info.storage.map_or("of the array", |storage| storage.key);
        let outside = || PthError::OutsideStorage {
            storage: key.to_owned(),
            elements: storage.len() / size,
        };
        if length == 0 {
            return Tensor::new(info.dtype, info.shape.clone(), Bytes::new()).map_err(Into::into);
        }
        // The last element that is touched must be in the storage.
        let last = info
            .shape
            .iter()
            .zip(&info.strides)
            .try_fold(info.offset, |last, (&side, &stride)| {
                last.checked_add(stride.checked_mul(side - 1)?)
            })
            .ok_or_else(outside)?;
        let end = last.checked_add(1).and_then(|end| end.checked_mul(size));
        if end.is_none_or(|end| end > storage.len()) {
            return Err(outside());
        }
        let bytes = if info.is_contiguous() {
            let begin = info.offset * size;
            let slice = storage.slice(begin..begin + length);
            if swap && unit(info.dtype) > 1 {
                self.take(length as u64)?;
                swapped(&slice, unit(info.dtype))
            } else {
                slice
            }
        } else {
            self.take(length as u64)?;
            let gathered = gather(&storage, &info, size, length);
            if swap {
                swapped(&gathered, unit(info.dtype))
            } else {
                gathered.into()
            }
        };
        Tensor::new(info.dtype, info.shape, bytes).map_err(Into::into)
    }

    fn take(&mut self, bytes: u64) -> Result<(), PthError> {
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or(PthError::TooManyCopies {
                bytes,
                left: self.budget,
            })?;
        Ok(())
    }

    /// The bytes of a tensor's storage, as many as the pickle says.
    fn storage(&mut self, storage: &StorageRef<'_>) -> Result<Bytes, PthError> {
        let whole = match self.cache.get(storage.key) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = self.storages.bytes(storage.key, &mut self.budget)?;
                self.cache.insert(storage.key.to_owned(), bytes.clone());
                bytes
            }
        };
        let size = match storage.class {
            Class::Typed(dtype) => dtype.size(),
            Class::Untyped => 1,
        };
        let length = |elements: i64| usize::try_from(elements).ok()?.checked_mul(size);
        let mismatch = || PthError::StorageSize {
            storage: storage.key.to_owned(),
            expected: storage.elements,
            found: whole.len() / size,
        };
        if length(storage.elements) != Some(whole.len()) {
            return Err(mismatch());
        }
        match &storage.view {
            None => Ok(whole),
            Some(view) => {
                let begin = length(view.offset).ok_or_else(mismatch)?;
                let end = length(view.elements)
                    .and_then(|length| begin.checked_add(length))
                    .filter(|&end| end <= whole.len())
                    .ok_or_else(|| PthError::OutsideStorage {
                        storage: view.key.to_owned(),
                        elements: whole.len() / size,
                    })?;
                Ok(whole.slice(begin..end))
            }
        }
    }
}

/// Bytes of what is swapped as one: a complex number is two.
fn unit(dtype: Dtype) -> usize {
    match dtype {
        Dtype::C32 => 2,
        Dtype::C64 => 4,
        Dtype::C128 => 8,
        other => other.size(),
    }
}

fn swapped(bytes: &[u8], unit: usize) -> Bytes {
    let mut swapped = bytes.to_vec();
    for element in swapped.chunks_exact_mut(unit) {
        element.reverse();
    }
    swapped.into()
}

/// Copies the elements in row-major order. Bounds are checked by the caller.
fn gather(storage: &[u8], info: &TensorInfo<'_>, size: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut index = vec![0usize; info.shape.len()];
    let mut at = info.offset;
    while bytes.len() < length {
        bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
        // Count up, last side first.
        for side in (0..index.len()).rev() {
            // Wrapping: a side of one may have any stride, which is added and taken off again.
            index[side] += 1;
            at = at.wrapping_add(info.strides[side]);
            if index[side] < info.shape[side] {
                break;
            }
            at = at.wrapping_sub(info.strides[side].wrapping_mul(info.shape[side]));
            index[side] = 0;
        }
    }
    bytes
}
