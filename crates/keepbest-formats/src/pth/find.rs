//! Finding the state dict in a checkpoint.

use super::module::{ModuleTree, Walk, is_module};
use super::tensor::TensorLoader;
use super::{Entries, PthError, PthFile, Value};
use crate::StateDict;

/// Keys under which checkpoints keep what is used for inference, best first: averaged weights
/// before the plain ones, as timm and Ultralytics do when they load their own.
const KNOWN_KEYS: &[&str] = &[
    "state_dict_ema",
    "model_ema",
    "ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
];

/// Prefixes that wrappers (data parallel, `torch.compile`) put before all names.
const WRAPPER_PREFIXES: &[&str] = &["module.", "_orig_mod."];

/// What Lightning's modules call the network that they train, as prefixes. Only in files that Lightning wrote: elsewhere a layer
/// may have such a name.
const LIGHTNING_PREFIXES: &[&str] = &["model.", "net.", "network."];

/// The key that Lightning puts its version under.
const LIGHTNING_VERSION: &str = "pytorch-lightning_version";

/// The counter that `AveragedModel` keeps beside its `module.`.
const AVERAGED_COUNTER: &str = "n_averaged";

/// Weights found in a checkpoint, and how.
#[derive(Debug, Clone)]
pub struct FoundWeights {
    /// The state dict.
    pub weights: StateDict,
    /// Key that it was under; `None` if the file is the state dict (or module) itself.
    pub key: Option<String>,
    /// Other keys under which weights are.
    pub others: Vec<String>,
    /// What was taken off all names, such as `module.`; empty if nothing was.
    pub stripped: String,
    /// Entries that are no weights.
    pub skipped: Vec<Skipped>,
    /// The module tree, if whole modules were pickled.
    pub module: Option<ModuleTree>,
}

/// An entry of a state dict that is not a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: String,
}

impl PthFile {
    /// Finds and loads the model's weights.
    ///
    /// Without `key`: the file itself if it is a state dict or a module, else what is under the first
    /// of the keys that PyTorch, Lightning, timm and Ultralytics use (averaged weights first), else the
    /// only state dict there is. `key` says which to take instead; dots lead into dicts in one another.
    ///
    /// # Errors
    /// When there is none or no telling which, when tensors cannot be read (the error names the
    /// tensor), or when the file names dangerous functions, in which case nothing of it is used.
    pub fn weights(&self, key: Option<&str>) -> Result<FoundWeights, PthError> {
        let dangerous = self.dangerous();
        if !dangerous.is_empty() {
            return Err(PthError::Dangerous { globals: dangerous });
        }
        let root = self.root();
        let all = candidates(root);
        let (key, value) = choose(root, &all, key)?;
        let others = all
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .filter(|name| Some(name) != key.as_ref())
            .collect();
        let mut loader = self.loader();
        let mut found = FoundWeights {
            weights: StateDict::new(),
            key,
            others,
            stripped: String::new(),
            skipped: Vec::new(),
            module: None,
        };
        match value {
            Value::Object(record) => {
                let mut walk = Walk::new(&mut loader, &self.limits);
                found.module = Some(walk.module(record)?);
                found.weights = walk.weights;
                found.skipped = walk.skipped;
            }
            Value::Dict(entries) => self.load_dict(entries, &mut loader, &mut found)?,
            _ => {}
        }
        if matches!(root, Value::Dict(entries) if entries.get(LIGHTNING_VERSION).is_some()) {
            strip(&mut found, LIGHTNING_PREFIXES)?;
        }
        while strip(&mut found, WRAPPER_PREFIXES)? {}
        Ok(found)
    }

    fn load_dict(
        &self,
        entries: Entries<'_>,
        loader: &mut TensorLoader<'_>,
        found: &mut FoundWeights,
    ) -> Result<(), PthError> {
        for (name, value) in entries.named() {
            let Value::Tensor(tensor) = value else {
                found.skipped.push(Skipped {
                    name: name.into(),
                    what: value.kind().into(),
                });
                continue;
            };
            if found.weights.len() >= self.limits.tensors {
                return Err(PthError::TooManyTensors {
                    limit: self.limits.tensors,
                });
            }
            let tensor = loader.load(tensor).map_err(|source| PthError::InTensor {
                tensor: name.into(),
                source: Box::new(source),
            })?;
            found.weights.insert(name, tensor)?;
        }
        Ok(())
    }
}

/// Entries of a checkpoint that are looked at, and entries of each: a bound on the work where one
/// value is in many places. Checkpoints have some ten keys, and state dicts begin with tensors.
const LOOKED_AT: (usize, usize) = (10_000, 1000);

/// Whether a value holds weights: a dict with a tensor directly in it, or a module.
fn holds_weights(value: Value<'_>) -> bool {
    match value {
        Value::Dict(entries) => entries
            .iter()
            .take(LOOKED_AT.1)
            .any(|(key, value)| matches!((key, value), (Value::Str(_), Value::Tensor(_)))),
        Value::Object(record) => is_module(record),
        _ => false,
    }
}

/// The entries of a checkpoint that hold weights.
fn candidates<'a>(root: Value<'a>) -> Vec<(&'a str, Value<'a>)> {
    match root {
        Value::Dict(entries) => entries
            .named()
            .into_iter()
            .take(LOOKED_AT.0)
            .filter(|&(_, value)| holds_weights(value))
            .collect(),
        _ => Vec::new(),
    }
}

/// What to take, by the rules of [`PthFile::weights`].
fn choose<'a>(
    root: Value<'a>,
    candidates: &[(&'a str, Value<'a>)],
    key: Option<&str>,
) -> Result<(Option<String>, Value<'a>), PthError> {
    let names = || {
        candidates
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect()
    };
    if let Some(key) = key {
        return match candidates.iter().find(|(name, _)| *name == key) {
            Some(&(_, value)) => Ok((Some(key.into()), value)),
            None => match nested(root, key).filter(|&value| holds_weights(value)) {
                Some(value) => Ok((Some(key.into()), value)),
                None => Err(PthError::NoSuchKey {
                    key: key.into(),
                    found: names(),
                }),
            },
        };
    }
    let known = KNOWN_KEYS
        .iter()
        .find_map(|known| candidates.iter().find(|(name, _)| name == known));
    if let Some(&(name, value)) = known {
        return Ok((Some(name.into()), value));
    }
    if holds_weights(root) {
        return Ok((None, root));
    }
    match candidates {
        [(name, value)] => Ok((Some((*name).into()), *value)),
        [] => Err(PthError::NoWeights {
            holds: describe(root),
        }),
        _ => Err(PthError::Ambiguous { found: names() }),
    }
}

/// What is under `key`, where dots lead into dicts in one another: `callbacks.ema.state_dict`.
fn nested<'a>(root: Value<'a>, key: &str) -> Option<Value<'a>> {
    key.split('.').try_fold(root, |value, part| match value {
        Value::Dict(entries) => entries.get(part),
        Value::Object(record) => record.attributes()?.get(part),
        _ => None,
    })
}

/// What a file without weights holds, in words.
fn describe(root: Value<'_>) -> String {
    match root {
        Value::Dict(entries) if entries.is_empty() => "an empty dict".into(),
        Value::Dict(entries)
            if entries.get("state").is_some() && entries.get("param_groups").is_some() =>
        {
            "only the state of an optimizer".into()
        }
        Value::Dict(entries) => {
            const SHOWN: usize = 8;
            let keys: Vec<String> = entries
                .iter()
                .take(SHOWN)
                .map(|(key, value)| format!("{key}: {}", value.kind()))
                .collect();
            let more = entries.len().saturating_sub(SHOWN);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("a dict of {}{more}", keys.join(", "))
        }
        Value::Tensor(_) => "one tensor without a name".into(),
        other => format!("{} ({other})", other.kind()),
    }
}

/// Takes the first of these prefixes off that all names have. Whether there was one.
fn strip(found: &mut FoundWeights, prefixes: &[&str]) -> Result<bool, PthError> {
    let Some(prefix) = prefixes.iter().find(|prefix| {
        let mut names = found
            .weights
            .names()
            .filter(|name| *name != AVERAGED_COUNTER)
            .peekable();
        names.peek().is_some()
            && names.all(|name| name.len() > prefix.len() && name.starts_with(**prefix))
    }) else {
        return Ok(false);
    };
    let mut stripped = StateDict::new();
    for (name, tensor) in found.weights.iter() {
        match name.strip_prefix(prefix) {
            Some(rest) => stripped.insert(rest, tensor.clone())?,
            None => found.skipped.push(Skipped {
                name: name.into(),
                what: "counter of an averaged model".into(),
            }),
        }
    }
    found.weights = stripped;
    found.stripped.push_str(prefix);
    Ok(true)
}
