//! Finding the state dict in a checkpoint.

use super::module::{ModuleTree, Walk, is_module};
use super::tensor::TensorLoader;
use super::value::LONGEST_NAME;
use super::{PthError, PthFile, Value};
use crate::StateDict;
use crate::names::{LIGHTNING_PREFIXES, unwrap_names};

/// Keys under which checkpoints keep what is used for inference, best first: averaged weights
/// before the plain ones, as timm, Ultralytics and BasicSR do when they load their own.
const KNOWN_KEYS: &[&str] = &[
    "state_dict_ema",
    "model_ema",
    "ema",
    "ema_state_dict",
    "params_ema",
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

/// The key that Lightning puts its version under.
const LIGHTNING_VERSION: &str = "pytorch-lightning_version";

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
    /// The value that it is.
    pub what: String,
}

impl PthFile {
    /// Finds and loads the model's weights.
    ///
    /// Without `key`: the file itself if it is a state dict or a module, else what is under the first
    /// of the keys that PyTorch, Lightning, timm, Ultralytics and BasicSR use (averaged weights first), else the
    /// only state dict there is. `key` says which to take instead; dots lead into dicts and lists in one another, where elements
    /// of a list have their positions for keys. A list of pairs of name and tensor is a state dict too, and arrays of NumPy are
    /// tensors where there are no others.
    ///
    /// # Errors
    /// When there is none or no telling which, when tensors cannot be read (the error names the
    /// tensor), or when the file calls dangerous functions, in which case nothing of it is used.
    pub fn weights(&self, key: Option<&str>) -> Result<FoundWeights, PthError> {
        self.refuse_dangerous()?;
        self.weights_beside_calls(key)
    }

    /// The same of a file that calls dangerous functions, as long as none of these calls makes the weights or gets them as
    /// an argument. Nothing is run in any case.
    ///
    /// # Errors
    /// As [`weights`](Self::weights), and [`PthError::Touched`].
    pub fn weights_beside_calls(&self, key: Option<&str>) -> Result<FoundWeights, PthError> {
        let mut found = self.find(key)?;
        let names = std::mem::take(&mut found.weights);
        let mut unwrapped = unwrap_names(names, self.prefixes());
        found.weights = std::mem::take(&mut unwrapped.weights);
        found.stripped = unwrapped.stripped;
        found
            .skipped
            .extend(unwrapped.left_out.into_iter().map(|name| Skipped {
                name,
                what: "counter of an averaged model".into(),
            }));
        Ok(found)
    }

    /// The model's weights under the names that they have in the file, prefixes of wrappers with them.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn weights_as_named(&self, key: Option<&str>) -> Result<FoundWeights, PthError> {
        self.refuse_dangerous()?;
        self.find(key)
    }

    fn refuse_dangerous(&self) -> Result<(), PthError> {
        match self.dangerous() {
            [] => Ok(()),
            calls => Err(PthError::Dangerous {
                calls: calls.to_vec(),
            }),
        }
    }

    /// What Lightning's modules call the network that they train, as prefixes; none in files that Lightning did not write, where a
    /// layer may have such a name.
    fn prefixes(&self) -> &'static [&'static str] {
        match self.root() {
            Value::Dict(entries) if entries.get(LIGHTNING_VERSION).is_some() => LIGHTNING_PREFIXES,
            _ => &[],
        }
    }

    fn find(&self, key: Option<&str>) -> Result<FoundWeights, PthError> {
        let root = self.root();
        let (key, value, all) = choose(root, key)?;
        if let Value::Object(module) = value
            && self.calls.touch_within(&self.graph, module.identity())
        {
            return Err(self.touched());
        }
        let others = all
            .iter()
            .map(|(name, _)| name.clone())
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
            Value::Dict(entries) => {
                self.load_named(entries.named(), &mut loader, &mut found)?;
            }
            Value::List(pairs) | Value::Tuple(pairs) => {
                let named = pairs.iter().filter_map(named_pair).collect();
                self.load_named(named, &mut loader, &mut found)?;
                let others = pairs.iter().enumerate();
                let others = others.filter(|(_, value)| named_pair(*value).is_none());
                found.skipped.extend(others.map(|(at, value)| Skipped {
                    name: at.to_string(),
                    what: value.kind().into(),
                }));
            }
            _ => {}
        }
        Ok(found)
    }

    fn touched(&self) -> PthError {
        PthError::Touched {
            calls: self.dangerous().to_vec(),
        }
    }

    fn load_named(
        &self,
        named: Vec<(&str, Value<'_>)>,
        loader: &mut TensorLoader<'_>,
        found: &mut FoundWeights,
    ) -> Result<(), PthError> {
        for (name, value) in named {
            // What a dangerous call would make is no tensor here, and left out as any other object.
            let (Value::Tensor(tensor) | Value::Array(tensor)) = value else {
                found.skipped.push(Skipped {
                    name: name.into(),
                    what: value.kind().into(),
                });
                continue;
            };
            if self.calls.touch(tensor.call()) {
                return Err(self.touched());
            }
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

/// What counts as a tensor.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// PyTorch's.
    Tensors,
    /// Arrays of NumPy too.
    Arrays,
}

/// Whether a value holds weights: a dict with a tensor directly in it, a list of pairs of name and tensor, or a module.
fn holds_weights(value: Value<'_>, kind: Kind) -> bool {
    let is_tensor = |value: Value<'_>| match value {
        Value::Tensor(_) => true,
        Value::Array(_) => kind == Kind::Arrays,
        _ => false,
    };
    match value {
        Value::Dict(entries) => entries
            .iter()
            .take(LOOKED_AT.1)
            .any(|(key, value)| matches!(key, Value::Str(_)) && is_tensor(value)),
        Value::List(pairs) | Value::Tuple(pairs) => {
            let first = pairs.iter().next().and_then(named_pair);
            first.is_some_and(|(_, value)| is_tensor(value))
        }
        Value::Object(record) => is_module(record),
        _ => false,
    }
}

/// A pair of name and value.
fn named_pair(value: Value<'_>) -> Option<(&str, Value<'_>)> {
    let (Value::Tuple(pair) | Value::List(pair)) = value else {
        return None;
    };
    let mut parts = pair.iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Value::Str(name)), Some(value), None) if name.len() <= LONGEST_NAME => {
            Some((name, value))
        }
        _ => None,
    }
}

/// A value and the key that it is under.
type Keyed<'a> = (String, Value<'a>);

/// What is in a value under keys: of a dict its texts, of a list the positions.
fn children(value: Value<'_>) -> Vec<Keyed<'_>> {
    match value {
        Value::Dict(entries) => {
            let named = entries.named().into_iter().take(LOOKED_AT.0);
            named.map(|(name, value)| (name.into(), value)).collect()
        }
        Value::List(elements) | Value::Tuple(elements) => {
            let elements = elements.iter().take(LOOKED_AT.0).enumerate();
            elements
                .map(|(at, value)| (at.to_string(), value))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// What is in a dict under whole numbers, as folds of a cross-validation are. Not looked for further in, where the states of
/// optimizers have such keys.
fn numbered(value: Value<'_>) -> Vec<Keyed<'_>> {
    let Value::Dict(entries) = value else {
        return Vec::new();
    };
    let numbered = entries.iter().take(LOOKED_AT.0);
    let numbered = numbered.filter_map(|(key, value)| match key {
        Value::Int(number) => Some((number.to_string(), value)),
        _ => None,
    });
    numbered.collect()
}

/// What to take, under which key, and all that could be taken, by the rules of [`PthFile::weights`].
fn choose<'a>(
    root: Value<'a>,
    key: Option<&str>,
) -> Result<(Option<String>, Value<'a>, Vec<Keyed<'a>>), PthError> {
    let candidates = |kind| -> Vec<Keyed<'a>> {
        let children = children(root).into_iter().chain(numbered(root));
        children
            .filter(|&(_, value)| holds_weights(value, kind))
            .collect()
    };
    let mut kind = Kind::Tensors;
    let mut all = candidates(kind);
    if all.is_empty() && !holds_weights(root, kind) {
        kind = Kind::Arrays;
        all = candidates(kind);
    }
    let names = |all: &[Keyed<'a>]| all.iter().map(|(name, _)| name.clone()).collect();
    if let Some(key) = key {
        let direct = all
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| *value);
        let value = direct
            .or_else(|| nested(root, key).filter(|&value| holds_weights(value, Kind::Arrays)));
        return match value {
            Some(value) => Ok((Some(key.into()), value, all)),
            None => {
                let mut found: Vec<String> = names(&all);
                found.extend(further_in(root));
                let key = key.into();
                Err(PthError::NoSuchKey { key, found })
            }
        };
    }
    let known = KNOWN_KEYS
        .iter()
        .find_map(|known| all.iter().find(|(name, _)| name == known));
    if let Some((name, value)) = known {
        return Ok((Some(name.clone()), *value, all));
    }
    if holds_weights(root, kind) {
        return Ok((None, root, all));
    }
    match &all[..] {
        [(name, value)] => Ok((Some(name.clone()), *value, all)),
        [] => Err(PthError::NoWeights {
            holds: describe(root),
            nested: further_in(root),
        }),
        _ => Err(PthError::Ambiguous { found: names(&all) }),
    }
}

/// What is under `key`, where dots lead into dicts and lists in one another: `callbacks.ema.state_dict`, `0.model`.
fn nested<'a>(root: Value<'a>, key: &str) -> Option<Value<'a>> {
    key.split('.').try_fold(root, |value, part| match value {
        Value::Dict(entries) => entries.get(part).or_else(|| {
            let number: i64 = part.parse().ok()?;
            let mut entries = entries.iter();
            let is_it = |key: &Value<'_>| matches!(key, Value::Int(it) if *it == number);
            entries.find_map(|(key, value)| is_it(&key).then_some(value))
        }),
        Value::List(elements) | Value::Tuple(elements) => elements.iter().nth(part.parse().ok()?),
        Value::Object(record) => record.attributes()?.get(part),
        _ => None,
    })
}

/// Keys that lead to weights further in than the first level: a few, of the first levels.
fn further_in(root: Value<'_>) -> Vec<String> {
    const LEVELS: usize = 4;
    const TOLD: usize = 8;
    let mut found = Vec::new();
    let mut looked_at = 0;
    let mut level: Vec<Keyed<'_>> = children(root);
    for _ in 1..LEVELS {
        let mut next = Vec::new();
        for (key, value) in level {
            looked_at += match value {
                Value::Dict(entries) => entries.len(),
                Value::List(elements) | Value::Tuple(elements) => elements.len(),
                _ => 1,
            };
            if looked_at > LOOKED_AT.0 {
                return found;
            }
            for (name, value) in children(value) {
                if found.len() == TOLD {
                    return found;
                }
                // A dot in a key is where `--key` would part it.
                if name.contains('.') || key.len() + name.len() > LONGEST_NAME {
                    continue;
                }
                let key = format!("{key}.{name}");
                match holds_weights(value, Kind::Arrays) {
                    true => found.push(key),
                    false => next.push((key, value)),
                }
            }
        }
        level = next;
    }
    found
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
        Value::Tensor(_) | Value::Array(_) => "one tensor without a name".into(),
        Value::List(elements) | Value::Tuple(elements)
            if !elements.is_empty()
                && elements
                    .iter()
                    .take(LOOKED_AT.1)
                    .all(|value| matches!(value, Value::Tensor(_) | Value::Array(_))) =>
        {
            let tensors = elements.len();
            format!("a {} of {tensors} tensors without names", root.kind())
        }
        other => format!("{} ({other})", other.kind()),
    }
}
