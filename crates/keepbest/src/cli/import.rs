//! `keepbest import`: a full model of a file from elsewhere.

use keepbest_formats::names::{Comparison, Misshaped};
use keepbest_model::words::count;
use keepbest_model::{Checked, ImportOptions, import, write};

use crate::cli::args::ImportArgs;
use crate::cli::class_names::class_names;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, shorten};

pub(super) fn run(args: &ImportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    if args.to.extension().and_then(|ending| ending.to_str()) != Some("safetensors") {
        let message = format!("{} should end with .safetensors", args.to.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    let named = args.classes.as_deref().map(class_names).transpose()?;
    let options = ImportOptions {
        network: args.network.clone(),
        classes: named,
        preprocess: args.preprocess.clone(),
        map: args.map.clone(),
        drop: args.drop.clone(),
        ignore_calls: args.ignore_calls,
        partial: args.partial,
        key: args.key.clone(),
        input_size: args.input_size,
        output: args.output.clone(),
        check: args.check.clone(),
    };
    let made = import(&args.file, &args.to, &options)?;
    write::write_model(&args.to, args.force, &made.image)?;

    if args.json {
        output::json(&made)?;
        return Ok(Exit::Done);
    }
    let warn = terminal.error_style().warn;
    for note in &made.notes {
        say!("{warn}note:{warn:#} {note}");
    }
    if !made.tensors.is_exact() {
        output::lines(&told_in_part(&made.tensors))?;
    }
    output::line(format!(
        "{}: full model of {}, {}, {}",
        args.to.display(),
        made.network,
        count(made.tensors.matched.len() as u64, "tensor"),
        bytes(made.bytes)
    ))?;
    output::line(format!(
        "weights {}; a forward pass gives finite scores from {:.4} to {:.4}",
        made.digest.short(),
        made.forward.least,
        made.forward.most
    ))?;
    if let Some(checked) = &made.checked {
        output::line(format!("checked: {}", agreement(checked)))?;
    }
    Ok(Exit::Done)
}

/// How far a model agrees with a reference, in words.
pub(super) fn agreement(checked: &Checked) -> String {
    format!(
        "{} of {}, greatest difference {:.1e} with outputs up to {:.3}",
        count(checked.images as u64, "image"),
        checked.reference,
        checked.greatest_difference,
        checked.greatest_output
    )
}

/// The table of a file that fits in part.
fn told_in_part(comparison: &Comparison) -> Vec<String> {
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
