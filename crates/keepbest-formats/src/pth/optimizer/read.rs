//! From PyTorch's form.

use std::collections::HashMap;

use super::error::malformed;
use super::group::Group;
use super::{OptimizerError, OptimizerState};
use crate::pth::tensor::TensorLoader;
use crate::pth::{PthError, PthFile, Value};
use crate::{OptimizerConfig, OptimizerKind, StateDict};

/// Keys under which checkpoints keep `optimizer.state_dict()`; Lightning keeps a list of them.
const KNOWN_KEYS: &[&str] = &[
    "optimizer",
    "optimizer_state_dict",
    "optimizer_state",
    "optim",
    "opt",
    "optimizer_states",
];

impl PthFile {
    /// The optimizer's state, if the file holds one under a key that is known: `optimizer`,
    /// `optimizer_state_dict`, Lightning's `optimizer_states`, ...
    ///
    /// PyTorch's form has positions for parameters. Their names are the recorded ones (`param_names`) or
    /// else `parameters`: the names of the trained parameters in the order of the model, which is the order of
    /// `model.parameters()`.
    ///
    /// # Errors
    /// When it is not an optimizer that keepbest has, has settings that it does not have, does not belong to
    /// `parameters`, or is malformed; and when the file names dangerous functions.
    pub fn optimizer(
        &self,
        parameters: &[String],
    ) -> Result<Option<OptimizerState>, OptimizerError> {
        let dangerous = self.dangerous();
        if !dangerous.is_empty() {
            let calls = dangerous.to_vec();
            return Err(PthError::Dangerous { calls }.into());
        }
        let Value::Dict(root) = self.root() else {
            return Ok(None);
        };
        let found = KNOWN_KEYS.iter().find_map(|key| match root.get(key)? {
            Value::List(all) if all.len() == 1 => all.iter().next(),
            Value::None => None,
            other => Some(other),
        });
        match found {
            Some(value) => read(value, parameters, self.limits.tensors, self.loader()).map(Some),
            None => Ok(None),
        }
    }
}

fn read(
    value: Value<'_>,
    parameters: &[String],
    limit: usize,
    mut loader: TensorLoader<'_>,
) -> Result<OptimizerState, OptimizerError> {
    let Value::Dict(entries) = value else {
        return Err(malformed("state"));
    };
    let (Some(Value::Dict(state)), Some(Value::List(groups))) =
        (entries.get("state"), entries.get("param_groups"))
    else {
        return Err(malformed("state"));
    };
    let group = Groups::read(groups.iter(), parameters, limit)?;
    let slots = group.settings.slots();
    // Slots of every parameter, found in any order, put in order afterwards.
    let mut found: Vec<Vec<Option<crate::Tensor>>> =
        vec![vec![None; slots.len()]; group.names.len()];
    let mut steps = None;
    for (index, slot_values) in state.iter() {
        let Value::Dict(slot_values) = slot_values else {
            return Err(malformed("state"));
        };
        let at = match index {
            Value::Int(index) => group.places.get(&index),
            _ => return Err(malformed("index of a parameter")),
        };
        let Some(&at) = at else {
            return Err(OptimizerError::Unexpected {
                tensor: format!("state {index}"),
            });
        };
        for (slot, value) in slot_values.named() {
            match (slots.iter().position(|known| *known == slot), value) {
                // SGD keeps a place for the buffer that it has not made yet.
                (_, Value::None) => {}
                (Some(place), Value::Tensor(tensor)) => {
                    let tensor = loader.load(tensor).map_err(|source| PthError::InTensor {
                        tensor: format!("{slot}.{}", group.names[at]),
                        source: Box::new(source),
                    })?;
                    found[at][place] = Some(tensor);
                }
                (None, value) if slot == "step" && !slots.is_empty() => {
                    let own = step(value, &mut loader)?;
                    match steps {
                        Some(one) if one != own => {
                            return Err(OptimizerError::Steps { one, other: own });
                        }
                        _ => steps = Some(own),
                    }
                }
                _ => {
                    return Err(OptimizerError::Unexpected {
                        tensor: format!("{slot}.{}", group.names[at]),
                    });
                }
            }
        }
    }
    let mut tensors = StateDict::new();
    let started = found.iter().flatten().any(Option::is_some);
    for (place, slot) in slots.iter().enumerate().filter(|_| started) {
        for (name, own) in group.names.iter().zip(&mut found) {
            let name = format!("{slot}.{name}");
            match own[place].take() {
                Some(tensor) => tensors.insert(name, tensor).map_err(PthError::from)?,
                None => return Err(OptimizerError::Missing { tensor: name }),
            }
        }
    }
    Ok(OptimizerState {
        settings: group.settings,
        learning_rate: group.learning_rate,
        steps,
        parameters: group.names,
        tensors,
    })
}

/// Steps as a number or, since PyTorch 1.11, as a scalar tensor.
fn step(value: Value<'_>, loader: &mut TensorLoader<'_>) -> Result<u64, OptimizerError> {
    let steps = match value {
        Value::Int(steps) => return u64::try_from(steps).map_err(|_| malformed("step")),
        Value::Float(steps) => steps,
        Value::Tensor(tensor) => {
            let tensor = loader.load(tensor)?;
            match tensor.as_f32().ok().as_deref() {
                Some([steps]) => f64::from(*steps),
                _ => return Err(malformed("step")),
            }
        }
        _ => return Err(malformed("step")),
    };
    if steps >= 0.0 && steps < u64::MAX as f64 && steps % 1.0 == 0.0 {
        Ok(steps as u64)
    } else {
        Err(malformed("step"))
    }
}

/// What the groups say together.
struct Groups {
    settings: OptimizerConfig,
    learning_rate: f64,
    names: Vec<String>,
    /// Position of the parameter for each index of the file.
    places: HashMap<i64, usize>,
}

impl Groups {
    fn read<'a>(
        groups: impl Iterator<Item = Value<'a>>,
        parameters: &[String],
        limit: usize,
    ) -> Result<Self, OptimizerError> {
        let mut of_all = None;
        let mut places = HashMap::new();
        let mut recorded = Vec::new();
        for group in groups {
            let Value::Dict(group) = group else {
                return Err(malformed("group of parameters"));
            };
            let own = (settings(Group(group))?, Group(group).number("lr")?);
            match &of_all {
                None => of_all = Some(own),
                Some(others) if *others != own => return Err(OptimizerError::Groups),
                Some(_) => {}
            }
            let Some(Value::List(indices)) = group.get("params") else {
                return Err(malformed("list of parameters"));
            };
            if places.len() + indices.len() > limit {
                return Err(PthError::TooManyTensors { limit }.into());
            }
            for index in indices.iter() {
                let Value::Int(index) = index else {
                    return Err(malformed("index of a parameter"));
                };
                if places.insert(index, places.len()).is_some() {
                    return Err(malformed("list of parameters"));
                }
            }
            if let Some(names) = group.get("param_names") {
                let Value::List(names) = names else {
                    return Err(malformed("names of parameters"));
                };
                for name in names.iter().take(limit) {
                    match name {
                        Value::Str(name) => recorded.push(name.to_owned()),
                        _ => return Err(malformed("names of parameters")),
                    }
                }
            }
        }
        let (settings, learning_rate) = of_all.ok_or(malformed("list of groups"))?;
        let names = if recorded.is_empty() {
            parameters.to_vec()
        } else {
            recorded
        };
        if names.len() != places.len() {
            return Err(OptimizerError::Count {
                expected: names.len(),
                found: places.len(),
            });
        }
        Ok(Self {
            settings,
            learning_rate,
            names,
            places,
        })
    }
}

/// The optimizer that has these settings.
fn settings(group: Group<'_>) -> Result<OptimizerConfig, OptimizerError> {
    let known = OptimizerConfig::from_group(group)?;
    known.ok_or_else(|| OptimizerError::Unknown {
        known: OptimizerKind::ALL.iter().map(|kind| kind.class()).collect(),
        settings: group.names().take(20).map(str::to_owned).collect(),
    })
}
