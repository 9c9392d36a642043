//! Whether a file's weights are a network's.

use std::path::Path;

use keepbest_formats::StateDict;
use keepbest_formats::names::{Comparison, Misshaped, Wanted, compare};
use keepbest_nn::{CpuEngine, Engine as _, EngineConfig, ModelSpec, Network, Role};
use keepbest_train::guess_network;

use crate::cli::args::ImportArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::table::Table;
use crate::cli::words::shorten;

/// The weights of the network: those of the file, all of them unless a part is enough.
pub fn fit(
    args: &ImportArgs,
    spec: &ModelSpec,
    found: &StateDict,
) -> Result<(StateDict, Comparison), Failure> {
    let network = Network::new(spec).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let tensors = network.layout().tensors();
    let wanted: Vec<Wanted<'_>> = tensors
        .iter()
        .map(|tensor| Wanted {
            optional: tensor.role == Role::Counter,
            ..Wanted::new(&tensor.name, tensor.dtype(), &tensor.shape)
        })
        .collect();
    let comparison = compare(found, &wanted);
    if !comparison.is_exact() && !args.partial {
        let mut failure = Failure::new(
            Exit::Failed,
            format!("{} does not fit {}", args.file.display(), spec.name),
        );
        failure.causes = differences(&comparison);
        return Err(failure.with_hint(hint(args, found, &comparison)));
    }
    // Counters and running statistics are no match: without anything that was trained the model is as good as new.
    let trained = |name: &String| {
        let mut tensors = tensors.iter();
        tensors.any(|tensor| tensor.name == *name && tensor.role == Role::Trained)
    };
    if !comparison.matched.iter().any(trained) {
        let mut failure = Failure::new(
            Exit::Failed,
            format!(
                "nothing that was trained in {} fits {}",
                args.file.display(),
                spec.name
            ),
        );
        failure.causes = differences(&comparison);
        return Err(failure.with_hint(hint(args, found, &comparison)));
    }
    // In the order of the network; what the file lacks is as a new network has it.
    let fresh = CpuEngine::new(spec, EngineConfig::default())
        .map_err(|error| Failure::of(Exit::Failed, &error))?
        .snapshot()
        .state_dict();
    let matched = comparison.matched_of(found);
    let mut weights = StateDict::new();
    for (name, tensor) in fresh.iter() {
        let tensor = matched.get(name).unwrap_or(tensor).clone();
        weights
            .insert(name, tensor)
            .expect("names of a network are unique");
    }
    Ok((weights, comparison))
}

/// What may help where file and network differ.
fn hint(args: &ImportArgs, found: &StateDict, comparison: &Comparison) -> String {
    let theirs = guess_network(found).filter(|it| args.network.as_deref() != Some(it));
    if let Some(network) = theirs {
        return format!("its tensors are those of {network}: --model {network}");
    }
    let narrow = |tensor: &Misshaped| tensor.found.starts_with("F8");
    if comparison
        .mistyped
        .iter()
        .chain(&comparison.misshaped)
        .any(narrow)
    {
        return "floats of 8 bits mostly go with scales beside them: convert to F16 or F32 where they were made".into();
    }
    if is_shard(&args.file) {
        return "this is one file of several: name the .index.json beside it".into();
    }
    let only_more = comparison.missing.is_empty()
        && comparison.misshaped.is_empty()
        && comparison.mistyped.is_empty();
    if only_more {
        return format!(
            "{} leaves out what the network does not have",
            drop(comparison)
        );
    }
    if args.partial {
        return "--map renames tensors".into();
    }
    "--map renames tensors; --partial takes what fits and starts the rest anew".into()
}

/// The flags that leave out what the network does not have: a pattern for each first part of a name that nothing of the network has,
/// few of them.
fn drop(comparison: &Comparison) -> String {
    let of_network = |first: &str| {
        let mut names = comparison.matched.iter();
        names.any(|name| name.split('.').next() == Some(first))
    };
    let mut patterns: Vec<String> = Vec::new();
    for name in &comparison.unexpected {
        let pattern = match name.split_once('.') {
            Some((first, _)) if !of_network(first) => format!("{}\\..*", escaped(first)),
            _ => escaped(name),
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let flags = patterns
        .iter()
        .take(3)
        .map(|pattern| format!("--drop '{pattern}'"));
    flags.collect::<Vec<_>>().join(" ")
}

/// A text as a pattern for itself.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        c if "\\.+*?()|[]{}^$".contains(c) => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Whether a file is called like one of several: `model-00001-of-00003.safetensors`.
fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| stem.rsplit_once("-of-"))
        .is_some_and(|(before, count)| {
            let digits =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits(count)
                && before
                    .rsplit_once('-')
                    .is_some_and(|(_, number)| digits(number))
        })
}

/// The first few of some names, and how many more there are.
pub fn few(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names.iter().take(SHOWN);
    let shown = shown.map(|name| shorten(name, 200)).collect::<Vec<_>>();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// What differs, in a few lines.
fn differences(comparison: &Comparison) -> Vec<String> {
    let some = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what}: {}", few(names)))
    };
    let differ = |tensors: &[Misshaped]| -> Vec<String> {
        let differ = tensors.iter().map(|tensor| {
            format!(
                "{} is {}, should be {}",
                tensor.name, tensor.found, tensor.expected
            )
        });
        differ.collect()
    };
    [
        some("missing in the file", &comparison.missing),
        some("not in the network", &comparison.unexpected),
        some("of another shape", &differ(&comparison.misshaped)),
        some("of another element type", &differ(&comparison.mistyped)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The table of a file that fits in part.
pub fn told(comparison: &Comparison) -> Vec<String> {
    let mut table = Table::new(["", ">tensors", "such as"]);
    let differ = |tensors: &[Misshaped]| -> Vec<String> {
        let differ = tensors.iter();
        differ
            .map(|tensor| format!("{} ({} for {})", tensor.name, tensor.found, tensor.expected))
            .collect()
    };
    let (misshaped, mistyped) = (differ(&comparison.misshaped), differ(&comparison.mistyped));
    for (what, names) in [
        ("taken", &comparison.matched),
        ("missing, started anew", &comparison.missing),
        ("of another shape, started anew", &misshaped),
        ("of another element type, started anew", &mistyped),
        ("not in the network, left out", &comparison.unexpected),
    ] {
        if names.is_empty() && what.starts_with("of another element type") {
            continue;
        }
        let first: Vec<String> = names
            .iter()
            .take(3)
            .map(|name| shorten(name, 200))
            .collect();
        let more = if names.len() > first.len() {
            ", .."
        } else {
            ""
        };
        let shown = format!("{}{more}", first.join(", "));
        table.row([what.into(), names.len().to_string(), shown]);
    }
    table.lines_within(80)
}
