//! What others put before the names of a network: wrappers, and modules that have the network as a part.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Wanted;
use crate::StateDict;

/// Prefixes that wrappers (data parallel, `torch.compile`) put before all names.
const WRAPPER_PREFIXES: &[&str] = &["module.", "_orig_mod."];

/// What Lightning's modules call the network that they train, as prefixes.
pub(crate) const LIGHTNING_PREFIXES: &[&str] = &["model.", "net.", "network."];

/// Names of a network as a part of something, such as Lightning's modules or MoCo, where it is the one that is meant of several.
const USUAL_PARTS: &[&str] = &[
    "module",
    "_orig_mod",
    "model",
    "net",
    "network",
    "encoder_q",
];

/// The counter that `AveragedModel` keeps beside its `module.`.
const AVERAGED_COUNTER: &str = "n_averaged";

/// Longer names, and parts of names further in, are not looked at for prefixes: a bound on the work.
const LOOKED_AT: (usize, usize) = (1024, 12);

/// A state dict without what [`unwrap_names`] took off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unwrapped {
    /// The tensors.
    pub weights: StateDict,
    /// What was taken off all names, such as `module.`; empty if nothing was.
    pub stripped: String,
    /// Counters of wrappers that were left out.
    pub left_out: Vec<String>,
}

/// Takes the prefixes of wrappers (`module.`, `_orig_mod.`) off, and before them one of `first`, where all names have them.
#[must_use]
pub fn unwrap_names(weights: StateDict, first: &[&str]) -> Unwrapped {
    let mut unwrapped = Unwrapped {
        weights,
        ..Unwrapped::default()
    };
    strip(&mut unwrapped, first);
    while strip(&mut unwrapped, WRAPPER_PREFIXES) {}
    unwrapped
}

/// Takes the first of these prefixes off that all names have. Whether there was one.
fn strip(unwrapped: &mut Unwrapped, prefixes: &[&str]) -> bool {
    let weights = &unwrapped.weights;
    let Some(prefix) = prefixes.iter().find(|prefix| {
        let mut names = weights
            .names()
            .filter(|name| *name != AVERAGED_COUNTER)
            .peekable();
        names.peek().is_some()
            && names.all(|name| name.len() > prefix.len() && name.starts_with(**prefix))
    }) else {
        return false;
    };
    let (with, without) = std::mem::take(&mut unwrapped.weights).split_prefix(prefix);
    unwrapped.weights = with;
    unwrapped.stripped.push_str(prefix);
    unwrapped
        .left_out
        .extend(without.names().map(str::to_owned));
    true
}

/// What wrappers of modules within a network (`torch.compile`, activation checkpointing, FSDP) put into its names, at any depth.
const WRAPPERS_WITHIN: [&str; 3] = [
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
];

/// A state dict under the names that its tensors have without wrappers, and in PyTorch of today.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plain {
    /// The tensors.
    pub weights: StateDict,
    /// What was taken out of names, and of how many.
    pub unwrapped: Vec<(&'static str, usize)>,
    /// The number of names of an early torchvision's DenseNet (`denselayer1.norm.1.weight`) that are written as now (`norm1`).
    pub modern: usize,
}

/// Takes wrappers out of the middle of names, and writes names of an early torchvision's DenseNet, as its downloads have them, as they
/// are now. Nothing is changed when two tensors would get one name.
#[must_use]
pub fn plain_names(weights: StateDict) -> Plain {
    let mut plain = Plain::default();
    for (name, tensor) in weights.iter() {
        let new = plain_name(name, &mut plain);
        if plain.weights.insert(new, tensor.clone()).is_err() {
            plain = Plain::default();
            plain.weights = weights.clone();
            return plain;
        }
    }
    plain
}

fn plain_name(name: &str, plain: &mut Plain) -> String {
    let Some((within, last)) = name.rsplit_once('.') else {
        return name.to_owned();
    };
    if name.len() > LOOKED_AT.0 {
        return name.to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for part in within.split('.') {
        if let Some(wrapper) = WRAPPERS_WITHIN.iter().find(|wrapper| **wrapper == part) {
            match plain.unwrapped.iter_mut().find(|(it, _)| it == wrapper) {
                Some((_, count)) => *count += 1,
                None => plain.unwrapped.push((wrapper, 1)),
            }
            continue;
        }
        let layer = |part: &String| {
            let number = part.strip_prefix("denselayer");
            number.is_some_and(|number| number.parse::<u16>().is_ok())
        };
        let is_split = match &parts[..] {
            [.., before, kind] => {
                matches!(part, "1" | "2") && matches!(&kind[..], "norm" | "conv") && layer(before)
            }
            _ => false,
        };
        match parts.last_mut() {
            Some(kind) if is_split => {
                kind.push_str(part);
                plain.modern += 1;
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts.push(last.to_owned());
    parts.join(".")
}

/// The part of a state dict that is a network's.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What stands before its names, such as `model.`.
    pub prefix: String,
    /// The tensors under the prefix, without it.
    pub weights: StateDict,
    /// Names of the tensors that are not under it: a loss's weight, an averaged copy, a queue.
    pub left_out: Vec<String>,
}

/// Several parts of a state dict have a network's names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("several parts have the network's names: {}", .prefixes.join(", "))]
pub struct AmbiguousPart {
    /// Their prefixes.
    pub prefixes: Vec<String>,
}

/// Finds the part of a state dict that has the names of a network: under the prefix under which most of the network's names are.
/// `None` if that is no prefix at all, or none of the names is there. Optional tensors do not count.
///
/// # Errors
/// When several prefixes go equally well, and not exactly one of them is what networks are usually called as a part.
pub fn part_for(weights: &StateDict, wanted: &[Wanted<'_>]) -> Result<Option<Part>, AmbiguousPart> {
    let needed = wanted.iter().filter(|wanted| !wanted.optional);
    let needed: HashSet<&str> = needed.map(|wanted| wanted.name).collect();
    let mut found: HashMap<&str, usize> = HashMap::new();
    for name in weights.names().filter(|name| name.len() <= LOOKED_AT.0) {
        let dots = name.match_indices('.').map(|(at, _)| at + 1);
        for at in std::iter::once(0).chain(dots).take(LOOKED_AT.1) {
            if needed.contains(&name[at..]) {
                *found.entry(&name[..at]).or_default() += 1;
            }
        }
    }
    let most = found.values().copied().max().unwrap_or(0);
    if most == 0 || found.get("") == Some(&most) {
        return Ok(None);
    }
    // In an order of their own: that of the map is none.
    let best: BTreeMap<&str, usize> = found
        .into_iter()
        .filter(|(_, count)| *count == most)
        .collect();
    let usual = |prefix: &&str| {
        let mut parts = prefix.split_terminator('.');
        parts.all(|part| USUAL_PARTS.contains(&part))
    };
    let mut usual = best.keys().copied().filter(usual);
    let prefix = match (best.len(), usual.next(), usual.next()) {
        (1, ..) => best.keys().next().copied().unwrap_or_default(),
        (_, Some(only), None) => only,
        _ => {
            return Err(AmbiguousPart {
                prefixes: best.keys().map(|prefix| (*prefix).to_owned()).collect(),
            });
        }
    };
    let prefix = prefix.to_owned();
    let (part, rest) = weights.clone().split_prefix(&prefix);
    Ok(Some(Part {
        weights: part,
        left_out: rest.names().map(str::to_owned).collect(),
        prefix,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Tensor};

    fn weights(names: &[&str]) -> StateDict {
        let mut weights = StateDict::new();
        for name in names {
            weights
                .insert(*name, Tensor::from_f32(&[], &[0.0]).unwrap())
                .unwrap();
        }
        weights
    }

    fn part(names: &[&str]) -> Result<Option<(String, Vec<String>)>, Vec<String>> {
        let wanted = ["conv.weight", "fc.weight", "fc.bias"];
        let wanted = wanted.map(|name| Wanted::new(name, Dtype::F32, &[]));
        match part_for(&weights(names), &wanted) {
            Ok(Some(part)) => Ok(Some((part.prefix, part.left_out))),
            Ok(None) => Ok(None),
            Err(error) => Err(error.prefixes),
        }
    }

    #[test]
    fn one_tensor_more_does_not_matter() {
        for prefix in ["model.", "module.", "a.b._orig_mod.", "backbone."] {
            let names =
                ["conv.weight", "fc.weight", "fc.bias"].map(|name| format!("{prefix}{name}"));
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(part(&names), Ok(Some((prefix.into(), vec![]))));
            names.insert(1, "criterion.weight");
            let left_out = vec!["criterion.weight".to_owned()];
            assert_eq!(part(&names), Ok(Some((prefix.into(), left_out))));
        }
        assert_eq!(
            part(&["conv.weight", "fc.weight", "fc.bias", "loss"]),
            Ok(None)
        );
        assert_eq!(part(&["queue", "loss.weights"]), Ok(None));
    }

    #[test]
    fn names_without_wrappers_and_of_today() {
        let plain = plain_names(weights(&[
            "conv0.weight",
            "features.denseblock1.denselayer12.norm.1.running_mean",
            "features.denseblock1.denselayer12.conv.2.weight",
            "layer1._checkpoint_wrapped_module.0._orig_mod.conv1.weight",
            "layer2._orig_mod.bias",
            "norm.1.weight",
        ]));
        assert_eq!(
            plain.weights.names().collect::<Vec<_>>(),
            [
                "conv0.weight",
                "features.denseblock1.denselayer12.norm1.running_mean",
                "features.denseblock1.denselayer12.conv2.weight",
                "layer1.0.conv1.weight",
                "layer2.bias",
                "norm.1.weight",
            ]
        );
        assert_eq!(plain.modern, 2);
        assert_eq!(
            plain.unwrapped,
            [("_checkpoint_wrapped_module", 1), ("_orig_mod", 2)]
        );
        // Two tensors of one name are none.
        let both = weights(&["a._orig_mod.b", "a.b"]);
        let plain = plain_names(both.clone());
        assert_eq!((plain.weights, plain.unwrapped), (both, vec![]));
    }

    #[test]
    fn of_several_parts_the_usual_one() {
        let all = |prefixes: &[&str]| {
            let names: Vec<String> = prefixes
                .iter()
                .flat_map(|prefix| {
                    ["conv.weight", "fc.weight", "fc.bias"].map(|name| format!("{prefix}{name}"))
                })
                .collect();
            part(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let prefix =
            |found: Result<Option<(String, Vec<String>)>, _>| found.map(|part| part.unwrap().0);
        assert_eq!(
            prefix(all(&["encoder_k.", "encoder_q."])),
            Ok("encoder_q.".into())
        );
        assert_eq!(prefix(all(&["ema.module.", "model."])), Ok("model.".into()));
        assert_eq!(
            prefix(all(&["student.", "teacher."])),
            Err(vec!["student.".into(), "teacher.".into()])
        );
        // The network itself, beside a copy of it.
        assert_eq!(all(&["", "ema."]), Ok(None));
    }

    #[test]
    fn wrappers_come_off_where_all_names_have_them() {
        let names = ["module._orig_mod.a", "n_averaged", "module._orig_mod.b"];
        let unwrapped = unwrap_names(weights(&names), &[]);
        assert_eq!(unwrapped.weights.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(unwrapped.stripped, "module._orig_mod.");
        assert_eq!(unwrapped.left_out, ["n_averaged"]);
        let names = ["module.a", "b"];
        assert_eq!(unwrap_names(weights(&names), &[]).weights, weights(&names));
        // A prefix alone is a name.
        let names = ["module."];
        assert_eq!(unwrap_names(weights(&names), &[]).weights, weights(&names));
    }
}
