//! PyTorch files: what they hold and what they would call, without calling it.

use std::path::Path;

use keepbest_core::text::shell_word;
use keepbest_formats::pth::{FoundWeights, Limits, ModuleTree, PthError, PthFile, Trust, Value};
use keepbest_formats::weights_digest;
use keepbest_model::words::count;
use serde_json::json;

use super::{Facts, tensors};
use crate::cli::args::InspectArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::Terminal;
use crate::cli::words::shorten;

/// Entries shown of what is beside the weights, and lines of a module tree.
const SHOWN: (usize, usize) = (24, 200);

/// A file, and what was found in it.
struct Inspected {
    file: PthFile,
    weights: Result<FoundWeights, PthError>,
    /// Names and words of what is beside the weights, the first of them.
    beside: Vec<(String, String)>,
    /// How many more there are.
    more_beside: usize,
}

pub(super) fn run(
    path: &Path,
    size: u64,
    args: &InspectArgs,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let inspected = Inspected::open(path, args)?;
    let exit = inspected.exit();
    if args.json {
        output::json(&inspected.json(path, size))?;
        return Ok(exit);
    }
    let mut facts = Facts::new(path, size);
    inspected.container(&mut facts);
    inspected.globals(&mut facts, terminal);
    match &inspected.weights {
        Ok(found) => found_weights(found, &mut facts),
        Err(error) => no_weights(error, &mut facts),
    }
    for (name, text) in &inspected.beside {
        facts.fact(name, text);
    }
    if inspected.more_beside > 0 {
        facts.fact("..", format!("and {} more", inspected.more_beside));
    }
    output::lines(&facts.lines())?;
    if let Ok(found) = &inspected.weights {
        listings(found)?;
    }
    Ok(exit)
}

impl Inspected {
    fn open(path: &Path, args: &InspectArgs) -> Result<Self, Failure> {
        let unreadable = |error: &PthError| {
            let mut failure = Failure::of(Exit::Failed, error);
            failure.causes.insert(0, failure.message);
            failure.message = format!("cannot read {}", path.display());
            failure
        };
        let key = args.key.as_deref();
        let file = PthFile::open(path).map_err(|error| unreadable(&error))?;
        let weights = match args.ignore_calls {
            true => file.weights_beside_calls(key),
            false => file.weights(key),
        };
        if let Err(error @ PthError::NoSuchKey { .. }) = &weights {
            return Err(Failure {
                exit: Exit::Usage,
                ..unreadable(error)
            });
        }
        let (beside, more_beside) = beside(&file, weights.as_ref().ok());
        Ok(Self {
            beside,
            more_beside,
            weights,
            file,
        })
    }

    fn exit(&self) -> Exit {
        if !self.file.dangerous().is_empty() {
            Exit::CheckFailed
        } else if self.weights.is_err() {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    fn json(&self, path: &Path, size: u64) -> serde_json::Value {
        let dangerous = self.file.dangerous();
        let found = self.weights.as_ref().ok();
        json!({
            "path": path,
            "bytes": size,
            "kind": "pytorch",
            "container": self.file.container().to_string(),
            "format_version": self.file.version(),
            "pickle_protocol": self.file.protocol(),
            "big_endian": self.file.big_endian(),
            "dangerous": dangerous.iter().map(|call| call.global.to_string()).collect::<Vec<_>>(),
            "calls": dangerous.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "globals": self
                .file
                .globals()
                .map(|(used, trust)| json!({
                    "name": used.global.to_string(),
                    "calls": used.calls,
                    "trust": match trust {
                        Trust::Data => "data",
                        Trust::Refused => "refused",
                        Trust::Dangerous => "dangerous",
                    },
                }))
                .collect::<Vec<_>>(),
            "error": self.weights.as_ref().err().map(ToString::to_string),
            "digest": found.map(|found| weights_digest(&found.weights)),
            "key": found.map(|found| &found.key),
            "other_keys": found.map(|found| &found.others),
            "stripped": found.map(|found| &found.stripped),
            "skipped": found.map(|found| found
                .skipped
                .iter()
                .map(|skipped| json!({"name": skipped.name, "what": skipped.what}))
                .collect::<Vec<_>>()),
            "parameters": found.map(|found| tensors::counts(&found.weights).0),
            "buffers": found.map(|found| tensors::counts(&found.weights).1),
            "weights": found.map(|found| tensors::json(&found.weights)),
            "modules": found.and_then(|found| found.module.as_ref()).map(module_json),
            "beside": self
                .beside
                .iter()
                .map(|(name, text)| json!({"name": name, "what": text}))
                .collect::<Vec<_>>(),
        })
    }

    /// The layout of the file.
    fn container(&self, facts: &mut Facts) {
        let file = &self.file;
        let version = match file.version() {
            Some(version) => format!(", format version {version}"),
            None => String::new(),
        };
        facts.fact("kind", format!("{}{version}", file.container()));
        let order = if file.big_endian() {
            ", big-endian"
        } else {
            ""
        };
        facts.fact(
            "pickle",
            format!("protocol {}{order}, read as data", file.protocol()),
        );
    }

    /// The functions and classes that the pickle names, as far as they are no data.
    fn globals(&self, facts: &mut Facts, terminal: &Terminal) {
        let bad = terminal.style().bad;
        let dangerous = self.file.dangerous();
        if !dangerous.is_empty() {
            let names = dangerous.iter().map(ToString::to_string);
            let names = names.collect::<Vec<_>>().join(", ");
            facts.fact(
                "DANGEROUS",
                format!("{bad}its pickle would call {names}{bad:#}"),
            );
            facts.fact(
                "",
                "a pickle loader that opens this file runs it; nothing was run here",
            );
        }
        let trusted = |trust: Trust| {
            let globals = self.file.globals();
            globals.filter(move |(_, found)| *found == trust)
        };
        // Named, and neither called nor handed to anything.
        let named: Vec<String> = trusted(Trust::Dangerous)
            .filter(|(used, _)| dangerous.iter().all(|call| call.global != used.global))
            .map(|(used, _)| used.global.to_string())
            .collect();
        if !named.is_empty() {
            facts.fact("named", format!("and not called: {}", some(&named)));
        }
        let refused: Vec<String> = trusted(Trust::Refused)
            .map(|(used, _)| used.global.to_string())
            .collect();
        if !refused.is_empty() {
            facts.fact(
                "refused",
                format!("kept as names, never looked up: {}", some(&refused)),
            );
        }
    }
}

fn found_weights(found: &FoundWeights, facts: &mut Facts) {
    let under = match &found.key {
        Some(key) => format!("under {key:?}"),
        None => "the file itself".into(),
    };
    facts.fact("weights", under);
    if !found.others.is_empty() {
        facts.fact(
            "other weights",
            format!("{} (--key shows them)", found.others.join(", ")),
        );
    }
    if !found.stripped.is_empty() {
        facts.fact("names", format!("{:?} taken off each", found.stripped));
    }
    for skipped in found.skipped.iter().take(SHOWN.0) {
        facts.fact("left out", format!("{}: {}", skipped.name, skipped.what));
    }
    let more = found.skipped.len().saturating_sub(SHOWN.0);
    if more > 0 {
        facts.fact("", format!("and {more} more"));
    }
    facts.fact(
        "digest",
        format!("{} (computed)", weights_digest(&found.weights)),
    );
    facts.fact("parameters", tensors::parameters(&found.weights));
}

/// Why there are no weights, and where some may be.
fn no_weights(error: &PthError, facts: &mut Facts) {
    facts.fact("weights", "none read");
    if !matches!(error, PthError::Dangerous { .. }) {
        facts.fact("because", error.to_string());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            facts.fact("because", cause.to_string());
            source = cause.source();
        }
    }
    if let PthError::NoWeights { nested, .. } = error
        && !nested.is_empty()
    {
        let keys = nested
            .iter()
            .map(|key| format!("--key {}", shell_word(key)));
        facts.fact("further in", keys.collect::<Vec<_>>().join(", "));
    }
}

/// The tree of modules, where there is one, and the table of tensors.
fn listings(found: &FoundWeights) -> Result<(), Failure> {
    if let Some(module) = &found.module {
        output::line("")?;
        let mut lines = Vec::new();
        tree(module, 0, &mut lines);
        let more = lines.len().saturating_sub(SHOWN.1);
        lines.truncate(SHOWN.1);
        output::lines(&lines)?;
        if more > 0 {
            output::line(format!(".. and {}", count(more as u64, "module")))?;
        }
    }
    output::line("")?;
    output::lines(&tensors::table(&found.weights))?;
    Ok(())
}

/// The entries beside the weights, the first of them with a name and a few words each; and how many more there are.
fn beside(file: &PthFile, found: Option<&FoundWeights>) -> (Vec<(String, String)>, usize) {
    let mut named = match file.root() {
        Value::Dict(root) => root.named(),
        _ => Vec::new(),
    };
    match found.map(|found| found.key.as_deref()) {
        Some(Some(taken)) => named.retain(|(name, _)| *name != taken),
        // A file that is a state dict has nothing beside it.
        Some(None) => named.clear(),
        // One without weights is shown whole.
        None => {}
    }
    let more = named.len().saturating_sub(SHOWN.0);
    let shown = named.into_iter().take(SHOWN.0);
    let shown = shown.map(|(name, value)| {
        let name = match found {
            Some(_) => shorten(name, 40),
            None => name.into(),
        };
        (name, words(value))
    });
    (shown.collect(), more)
}

/// The first of some names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN.0)].join(", ");
    match names.len().saturating_sub(SHOWN.0) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A value in a few words.
fn words(value: Value<'_>) -> String {
    let small = Limits {
        values: 24,
        depth: 3,
        ..Limits::default()
    };
    match value {
        Value::Dict(entries) if entries.get("param_groups").is_some() => {
            "state of an optimizer".into()
        }
        Value::Tensor(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        value => match value.to_json(&small) {
            Ok(json) => shorten(&json.to_string(), 160),
            Err(_) => match value {
                Value::Dict(entries) => format!("dict of {}", entries.len()),
                Value::List(elements) | Value::Tuple(elements) => {
                    format!("{} of {}", value.kind(), elements.len())
                }
                value => value.kind().into(),
            },
        },
    }
}

fn tree(module: &ModuleTree, depth: usize, lines: &mut Vec<String>) {
    let name = if module.name.is_empty() {
        String::new()
    } else {
        format!("({}) ", module.name)
    };
    let attributes: Vec<String> = module
        .attributes
        .iter()
        .filter(|(name, _)| name != "training")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let line = format!(
        "{}{name}{}({})",
        "  ".repeat(depth.min(16)),
        module.class,
        attributes.join(", ")
    );
    lines.push(shorten(&line, 80));
    for child in &module.children {
        tree(child, depth + 1, lines);
    }
}

fn module_json(module: &ModuleTree) -> serde_json::Value {
    json!({
        "name": module.name,
        "class": module.class,
        "attributes": module.attributes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "tensors": module.tensors,
        "children": module.children.iter().map(module_json).collect::<Vec<_>>(),
    })
}
