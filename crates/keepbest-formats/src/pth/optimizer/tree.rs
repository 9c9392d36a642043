//! To PyTorch's form.

use super::{OptimizerError, OptimizerState};
use crate::Tensor;
use crate::pth::{Key, Tree};

impl OptimizerState {
    /// What `optimizer.state_dict()` would return: `state` by the position of the parameter, and one group
    /// in `param_groups` with the settings, PyTorch's defaults for those that keepbest does not have, and the
    /// parameters' names as `param_names`. Tensors share their bytes.
    ///
    /// # Errors
    /// When tensors are missing or of no parameter.
    pub fn to_tree(&self) -> Result<Tree, OptimizerError> {
        let slots = self.settings.slots();
        let started = !self.tensors.is_empty();
        let mut used = 0;
        let mut state = Vec::new();
        for (index, parameter) in self.parameters.iter().enumerate().filter(|_| started) {
            let mut entries = Vec::new();
            if self.settings.counts_steps() {
                // PyTorch counts in a float tensor.
                let steps = self
                    .steps
                    .ok_or(OptimizerError::Malformed { what: "step" })?;
                let tensor =
                    Tensor::from_f32(&[], &[steps as f32]).map_err(crate::pth::PthError::from)?;
                entries.push((Key::from("step"), Tree::Tensor(tensor)));
            }
            for slot in slots {
                let name = format!("{slot}.{parameter}");
                let Some(tensor) = self.tensors.get(&name) else {
                    return Err(OptimizerError::Missing { tensor: name });
                };
                used += 1;
                entries.push((Key::from(*slot), Tree::Tensor(tensor.clone())));
            }
            state.push((Key::Int(index as i64), Tree::Dict(entries)));
        }
        if used < self.tensors.len() {
            return Err(self.unexpected());
        }
        Ok(Tree::dict([
            ("state", Tree::Dict(state)),
            ("param_groups", Tree::List(vec![self.group()])),
        ]))
    }

    /// A tensor that is of no parameter.
    fn unexpected(&self) -> OptimizerError {
        let known = |name: &str| {
            self.settings.slots().iter().any(|slot| {
                let parameter = name
                    .strip_prefix(slot)
                    .and_then(|rest| rest.strip_prefix('.'));
                parameter.is_some_and(|parameter| self.parameters.iter().any(|p| p == parameter))
            })
        };
        let tensor = self.tensors.names().find(|name| !known(name));
        OptimizerError::Unexpected {
            tensor: tensor.unwrap_or_default().into(),
        }
    }

    fn group(&self) -> Tree {
        let names = self.parameters.iter().map(Tree::text).collect();
        let mut group = vec![
            ("param_names", Tree::List(names)),
            ("lr", Tree::Float(self.learning_rate)),
        ];
        group.extend(self.settings.to_group());
        let indices = (0..self.parameters.len()).map(|i| Tree::Int(i as i128));
        group.push(("params", Tree::List(indices.collect())));
        Tree::dict(group)
    }
}
