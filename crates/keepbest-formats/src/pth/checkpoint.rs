//! A checkpoint from which training goes on, here or in PyTorch.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{
    FoundWeights, JsonError, OptimizerError, OptimizerState, PthError, PthFile, PthImage, Tree,
    Value, WriteError, encode,
};
use crate::StateDict;

/// All that a `best.pt` holds, and the keys it is under:
///
/// | key | in PyTorch | |
/// |---|---|---|
/// | `state_dict` | `OrderedDict` of tensors | for `model.load_state_dict` |
/// | `optimizer` | dict | for `optimizer.load_state_dict` |
/// | `epoch`, `step` | int | |
/// | `metrics` | dict of floats | |
/// | `classes` | list of str | |
/// | `preprocessing` | dict | |
/// | `keepbest` | dict | what only keepbest needs, such as the model's spec and the trainer's state |
///
/// What is absent has no key. In Python:
///
/// ```python
/// best = torch.load("best.pt", weights_only=True, mmap=True)
/// model.load_state_dict(best["state_dict"])
/// optimizer.load_state_dict(best["optimizer"])
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// The state dict.
    pub weights: StateDict,
    /// The optimizer's state.
    pub optimizer: Option<OptimizerState>,
    /// Epochs behind these weights.
    pub epoch: Option<u64>,
    /// Optimizer steps behind these weights.
    pub step: Option<u64>,
    /// The evaluation of these weights.
    pub metrics: BTreeMap<String, f64>,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The preprocessing of images.
    pub preprocessing: Option<Json>,
    /// What only keepbest needs.
    pub keepbest: Option<Json>,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file or its weights cannot be read.
    #[error("the checkpoint's weights cannot be read")]
    Weights(#[from] PthError),
    /// The optimizer's state cannot be used.
    #[error("the checkpoint's optimizer state cannot be used")]
    Optimizer(#[from] OptimizerError),
    /// The values cannot be written.
    #[error("the checkpoint cannot be written")]
    Write(#[from] WriteError),
    /// Something is there but not of the form that keepbest writes.
    #[error("the checkpoint's `{key}` should be {expected}, is {found}")]
    Form {
        /// Its key.
        key: &'static str,
        /// The form that it should have.
        expected: &'static str,
        /// The value that it is.
        found: String,
    },
    /// Something is there that is not plain data.
    #[error("the checkpoint's `{key}` cannot be used")]
    NotPlain {
        /// Its key.
        key: &'static str,
        /// Why.
        source: JsonError,
    },
}

impl Checkpoint {
    /// The image of the file. Tensors share their bytes.
    ///
    /// # Errors
    /// When the optimizer's tensors do not belong to its parameters, or the values cannot be written.
    pub fn encode(&self) -> Result<PthImage, CheckpointError> {
        Ok(encode(&self.to_tree()?)?)
    }

    fn to_tree(&self) -> Result<Tree, OptimizerError> {
        let number = |number: u64| Tree::Int(number.into());
        let mut entries = vec![("state_dict", Tree::from(&self.weights))];
        if let Some(optimizer) = &self.optimizer {
            entries.push(("optimizer", optimizer.to_tree()?));
        }
        entries.extend(self.epoch.map(|epoch| ("epoch", number(epoch))));
        entries.extend(self.step.map(|step| ("step", number(step))));
        if !self.metrics.is_empty() {
            let metrics = self.metrics.iter();
            let metrics = metrics.map(|(name, &value)| (name.as_str(), Tree::Float(value)));
            entries.push(("metrics", Tree::dict(metrics)));
        }
        if !self.classes.is_empty() {
            let classes = self.classes.iter().map(Tree::text);
            entries.push(("classes", Tree::List(classes.collect())));
        }
        let json = [
            ("preprocessing", &self.preprocessing),
            ("keepbest", &self.keepbest),
        ];
        entries.extend(
            json.into_iter()
                .filter_map(|(key, json)| Some((key, Tree::from(json.as_ref()?)))),
        );
        Ok(Tree::dict(entries))
    }
}

impl PthFile {
    /// The file as a checkpoint: one that keepbest wrote comes back whole; of others, what is under the same
    /// keys in the same form. `found` are its weights ([`weights`](Self::weights)); `parameters` names
    /// the trained ones in the order of the model, for optimizers that do not ([`optimizer`](Self::optimizer)).
    ///
    /// # Errors
    /// When what is under one of the keys has another form, or the optimizer's state cannot be used.
    pub fn checkpoint(
        &self,
        found: FoundWeights,
        parameters: &[String],
    ) -> Result<Checkpoint, CheckpointError> {
        let mut checkpoint = Checkpoint {
            weights: found.weights,
            ..Checkpoint::default()
        };
        let Value::Dict(root) = self.root() else {
            return Ok(checkpoint);
        };
        // In a file that is a state dict itself, all keys are names of tensors.
        if found.key.is_none() {
            return Ok(checkpoint);
        }
        let get = |key| match root.get(key) {
            Some(Value::None) | None => None,
            some => some,
        };
        let count = |key| match get(key) {
            None => Ok(None),
            Some(Value::Int(count)) if count >= 0 => Ok(Some(count as u64)),
            Some(other) => Err(form(key, "a count", other)),
        };
        let json = |key| match get(key) {
            None => Ok(None),
            Some(value) => value
                .to_json(&self.limits)
                .map(Some)
                .map_err(|source| CheckpointError::NotPlain { key, source }),
        };
        checkpoint.epoch = count("epoch")?;
        checkpoint.step = count("step")?;
        if let Some(metrics) = get("metrics") {
            let Value::Dict(entries) = metrics else {
                return Err(form("metrics", "a dict of numbers", metrics));
            };
            for (name, value) in entries.named() {
                let value = match value {
                    Value::Float(value) => value,
                    Value::Int(value) => value as f64,
                    other => return Err(form("metrics", "a dict of numbers", other)),
                };
                checkpoint.metrics.insert(name.to_owned(), value);
            }
        }
        if let Some(classes) = get("classes") {
            let Value::List(names) = classes else {
                return Err(form("classes", "a list of names", classes));
            };
            for name in names.iter() {
                match name {
                    Value::Str(name) => checkpoint.classes.push(name.to_owned()),
                    other => return Err(form("classes", "a list of names", other)),
                }
            }
        }
        checkpoint.preprocessing = json("preprocessing")?;
        checkpoint.keepbest = json("keepbest")?;
        checkpoint.optimizer = self.optimizer(parameters)?;
        if let Some(optimizer) = &mut checkpoint.optimizer {
            optimizer.steps = optimizer.steps.or(checkpoint.step);
        }
        Ok(checkpoint)
    }
}

fn form(key: &'static str, expected: &'static str, found: Value<'_>) -> CheckpointError {
    CheckpointError::Form {
        key,
        expected,
        found: format!("{} ({found})", found.kind()),
    }
}
