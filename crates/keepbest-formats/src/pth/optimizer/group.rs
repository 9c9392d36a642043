//! The settings of a group of parameters in PyTorch's `optimizer.state_dict()`.

use super::error::{OptimizerError, malformed};
use crate::pth::{Entries, Value};

/// A group of parameters with their settings.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a>(pub(super) Entries<'a>);

impl<'a> Group<'a> {
    /// Whether it has all of these settings.
    pub(crate) fn has(self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.0.get(key).is_some())
    }

    /// The names of its settings.
    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        let names = self.0.named().into_iter().map(|(name, _)| name);
        names.filter(|name| *name != "params")
    }

    /// A setting that is a number, or a scalar tensor, as learning rates can be.
    pub(crate) fn number(self, key: &'static str) -> Result<f64, OptimizerError> {
        match self.0.get(key) {
            Some(Value::Float(value)) => Ok(value),
            Some(Value::Int(value)) => Ok(value as f64),
            Some(other) => Err(OptimizerError::Setting {
                setting: key,
                value: other.to_string(),
            }),
            None => Err(malformed("group of parameters")),
        }
    }

    /// A setting that is two numbers.
    pub(crate) fn pair(self, key: &'static str) -> Result<(f64, f64), OptimizerError> {
        let pair = match self.0.get(key) {
            Some(Value::Tuple(pair) | Value::List(pair)) => pair.iter().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        match pair[..] {
            [Value::Float(first), Value::Float(second)] => Ok((first, second)),
            _ => Err(malformed(key)),
        }
    }

    /// A switch; older versions of PyTorch do not have all of them.
    pub(crate) fn flag(self, key: &'static str) -> Result<bool, OptimizerError> {
        match self.0.get(key) {
            Some(Value::Bool(value)) => Ok(value),
            None | Some(Value::None) => Ok(false),
            Some(other) => Err(OptimizerError::Setting {
                setting: key,
                value: other.to_string(),
            }),
        }
    }

    /// A switch that is on or off; `None` where it is neither.
    pub(crate) fn switch(self, key: &str) -> Option<bool> {
        match self.0.get(key) {
            Some(Value::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// Refuses a switch that is on.
    pub(crate) fn refuse(self, setting: &'static str) -> Result<(), OptimizerError> {
        match self.flag(setting)? {
            true => Err(OptimizerError::Setting {
                setting,
                value: "True".into(),
            }),
            false => Ok(()),
        }
    }
}
