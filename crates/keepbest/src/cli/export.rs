//! `keepbest export`: a model for others.

use keepbest_model::{ExportForm, ExportOptions, Model, export};

use crate::cli::args::ExportArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::terminal::Terminal;
use crate::cli::words::bytes;

pub(super) fn run(args: &ExportArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let Some(form) = ExportForm::of(&args.to) else {
        let message = format!("{} does not say what to write", args.to.display());
        let hint = "it ends with .pth, .pt, .onnx or .safetensors".to_owned();
        return Err(Failure::new(Exit::Usage, message).with_hint(hint));
    };
    for (given, flag) in [
        (args.preprocess_in_graph, "--preprocess-in-graph"),
        (args.fold_batch_norm, "--fold-batch-norm"),
    ] {
        if given && form != ExportForm::Onnx {
            return Err(Failure::new(
                Exit::Usage,
                format!("{flag} is for .onnx, not for a {}", form.words()),
            ));
        }
    }
    let model = Model::open_reference(&args.model, &args.runs.runs_dir, args.network.as_deref())?;
    for note in &model.notes {
        terminal.note(note);
    }
    let options = ExportOptions {
        preprocess_in_graph: args.preprocess_in_graph,
        fold_batch_norm: args.fold_batch_norm,
    };
    let image = export(&model, form, options).map_err(|error| Failure::of(Exit::Failed, &error))?;
    let written = image.save(&args.to, args.force)?;
    if args.json {
        output::json(&written)?;
        return Ok(Exit::Done);
    }
    let warn = terminal.error_style().warn;
    for note in &written.notes {
        say!("{warn}note:{warn:#} {note}");
    }
    output::line(format!(
        "{}: {} of {}, {}",
        written.to.display(),
        written.kind,
        written.network,
        bytes(written.bytes)
    ))?;
    Ok(Exit::Done)
}
