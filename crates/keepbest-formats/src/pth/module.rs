//! Whole modules that were pickled: their state dict and their tree, from the attributes of objects
//! whose classes are never looked up.

use super::find::Skipped;
use super::pickle::Id;
use super::tensor::TensorLoader;
use super::value::LONGEST_NAME;
use super::{Entries, Limits, PthError, Record, TensorRef, Value};
use crate::StateDict;

/// More buffers that are not saved than any one module has.
const NAMES_PASSING: usize = 1000;

/// A module in a pickled model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleTree {
    /// Name in its parent; empty for the root.
    pub name: String,
    /// Class, such as `torch.nn.modules.conv.Conv2d`.
    pub class: String,
    /// Plain attributes (numbers, texts, tuples of those), as Python shows them.
    pub attributes: Vec<(String, String)>,
    /// Names of its own parameters and buffers.
    pub tensors: Vec<String>,
    /// Modules in it.
    pub children: Vec<ModuleTree>,
}

/// Whether an object is a module: of PyTorch by its attributes, of TorchScript by its class.
pub(super) fn is_module(record: Record<'_>) -> bool {
    is_script(record)
        || record.attributes().is_some_and(|attributes| {
            ["_parameters", "_modules"]
                .iter()
                .all(|key| matches!(attributes.get(key), Some(Value::Dict(_))))
        })
}

fn is_script(record: Record<'_>) -> bool {
    record.class().is_some_and(|class| {
        let module = class.module.as_str();
        (module == "__torch__" || module.starts_with("__torch__.")) && record.attributes().is_some()
    })
}

/// A walk over modules that gathers their tensors.
pub(super) struct Walk<'w, 'l> {
    loader: &'w mut TensorLoader<'l>,
    limits: &'w Limits,
    /// Entries looked at.
    places: usize,
    path: Vec<Id>,
    pub(super) weights: StateDict,
    pub(super) skipped: Vec<Skipped>,
}

impl<'w, 'l> Walk<'w, 'l> {
    pub(super) fn new(loader: &'w mut TensorLoader<'l>, limits: &'w Limits) -> Self {
        Self {
            loader,
            limits,
            places: 0,
            path: Vec::new(),
            weights: StateDict::new(),
            skipped: Vec::new(),
        }
    }

    /// Walks over a module and all in it; names are those of `Module.state_dict()`.
    pub(super) fn module(&mut self, record: Record<'_>) -> Result<ModuleTree, PthError> {
        self.visit(record, "", "")
    }

    fn visit(
        &mut self,
        record: Record<'_>,
        name: &str,
        prefix: &str,
    ) -> Result<ModuleTree, PthError> {
        // A module that is in two places is in the state dict twice; one that is in itself never
        // ends, and shared ones in shared ones grow without bound.
        if self.path.len() >= self.limits.depth || self.path.contains(&record.identity()) {
            return Err(PthError::TooDeep {
                limit: self.limits.depth,
            });
        }
        self.look_at(1)?;
        let mut tree = ModuleTree {
            name: name.into(),
            class: record
                .class()
                .map_or_else(|| "?".into(), ToString::to_string),
            attributes: Vec::new(),
            tensors: Vec::new(),
            children: Vec::new(),
        };
        let Some(attributes) = record.attributes() else {
            return Ok(tree);
        };
        self.look_at(attributes.len())?;
        self.path.push(record.identity());
        if is_script(record) {
            self.script(attributes, prefix, &mut tree)?;
        } else {
            self.eager(attributes, prefix, &mut tree)?;
        }
        self.path.pop();
        Ok(tree)
    }

    /// Bounds the work: a value can be in many places, which grow faster than the file.
    fn look_at(&mut self, places: usize) -> Result<(), PthError> {
        self.places = self.places.saturating_add(places);
        if self.places > self.limits.values {
            return Err(PthError::TooManyPlaces {
                limit: self.limits.values,
            });
        }
        Ok(())
    }

    /// A module of `torch.nn`: tensors and children in dicts of their own.
    fn eager(
        &mut self,
        attributes: Entries<'_>,
        prefix: &str,
        tree: &mut ModuleTree,
    ) -> Result<(), PthError> {
        let passing: Vec<&str> = match attributes.get("_non_persistent_buffers_set") {
            Some(Value::Set(names)) => names
                .iter()
                .take(NAMES_PASSING)
                .filter_map(|name| match name {
                    Value::Str(name) => Some(name),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        for (group, passing) in [("_parameters", &[][..]), ("_buffers", &passing[..])] {
            let Some(Value::Dict(entries)) = attributes.get(group) else {
                continue;
            };
            self.look_at(entries.len())?;
            for (name, value) in entries.named() {
                match value {
                    Value::None => {}
                    Value::Tensor(_) if passing.contains(&name) => {}
                    Value::Tensor(tensor) => self.tensor(tensor, name, prefix, tree)?,
                    other => self.skip(name, prefix, other),
                }
            }
        }
        if let Some(Value::Dict(entries)) = attributes.get("_modules") {
            self.look_at(entries.len())?;
            for (name, value) in entries.named() {
                match value {
                    Value::None => {}
                    Value::Object(child) => self.child(child, name, prefix, tree)?,
                    other => self.skip(name, prefix, other),
                }
            }
        }
        for (name, value) in attributes.named() {
            if !name.starts_with('_') && is_plain(value, 2) {
                tree.attributes.push((name.into(), value.to_string()));
            }
        }
        Ok(())
    }

    /// A module of TorchScript: all in one.
    fn script(
        &mut self,
        attributes: Entries<'_>,
        prefix: &str,
        tree: &mut ModuleTree,
    ) -> Result<(), PthError> {
        // Own tensors before children, as in state_dict().
        let named = attributes.named();
        for &(name, value) in &named {
            match value {
                Value::Tensor(tensor) => self.tensor(tensor, name, prefix, tree)?,
                value if !name.starts_with('_') && is_plain(value, 2) => {
                    tree.attributes.push((name.into(), value.to_string()));
                }
                _ => {}
            }
        }
        for (name, value) in named {
            if let Value::Object(child) = value
                && is_script(child)
            {
                self.child(child, name, prefix, tree)?;
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        child: Record<'_>,
        name: &str,
        prefix: &str,
        tree: &mut ModuleTree,
    ) -> Result<(), PthError> {
        let prefix = format!("{prefix}{name}.");
        if prefix.len() > LONGEST_NAME {
            return Err(PthError::NameTooLong {
                bytes: prefix.len(),
                limit: LONGEST_NAME,
            });
        }
        tree.children.push(self.visit(child, name, &prefix)?);
        Ok(())
    }

    fn tensor(
        &mut self,
        tensor: TensorRef<'_>,
        name: &str,
        prefix: &str,
        tree: &mut ModuleTree,
    ) -> Result<(), PthError> {
        let full = format!("{prefix}{name}");
        if full.len() > LONGEST_NAME {
            return Err(PthError::NameTooLong {
                bytes: full.len(),
                limit: LONGEST_NAME,
            });
        }
        if self.weights.len() >= self.limits.tensors {
            return Err(PthError::TooManyTensors {
                limit: self.limits.tensors,
            });
        }
        let loaded = self
            .loader
            .load(tensor)
            .map_err(|source| PthError::InTensor {
                tensor: full.clone(),
                source: Box::new(source),
            })?;
        self.weights.insert(full, loaded)?;
        tree.tensors.push(name.into());
        Ok(())
    }

    fn skip(&mut self, name: &str, prefix: &str, value: Value<'_>) {
        self.skipped.push(Skipped {
            name: format!("{prefix}{name}"),
            what: value.kind().into(),
        });
    }
}

/// Numbers, texts, and tuples and lists of those.
fn is_plain(value: Value<'_>, depth: usize) -> bool {
    match value {
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Str(_)
        | Value::Dtype(_) => true,
        Value::Tuple(elements) | Value::List(elements) => {
            depth > 0
                && elements.len() <= 16
                && elements.iter().all(|element| is_plain(element, depth - 1))
        }
        _ => false,
    }
}
