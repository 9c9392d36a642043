//! `keepbest attest RUN`: the run in one line.

use keepbest_core::text::shell_word;
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::{audit_file, audit_journal};
use keepbest_store::{Attestation, RefName, RunReader};
use serde_json::json;

use crate::cli::args::RunArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::runs::whole_view;

pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let path = args.directory()?;
    let view = whole_view(&path)?;
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::of(Exit::Failed, error);
    if view
        .active_writer()
        .map_err(|error| failed(&error))?
        .is_some()
    {
        let message = format!("{} is in training: it changes meanwhile", path.display());
        return Err(Failure::new(Exit::Failed, message));
    }
    // What does not hold now is not to be held to later.
    let mut wrong: Vec<String> = audit_journal(&view)
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut best = None;
    if let (Some(record), Some(target)) = (view.best(), view.state().refs.get(&RefName::BEST)) {
        let file = ModelFile::open(&record.path).map_err(|error| failed(&error))?;
        if let Some(known) = view.state().checkpoints.get(&target.checkpoint) {
            let found = audit_file(&view, &known.saved, &file);
            wrong.extend(found.iter().map(ToString::to_string));
        }
        best = file.seal.map(|seal| seal.file_digest);
    }
    if !wrong.is_empty() {
        let message = format!("{} contradicts itself", path.display());
        return Err(Failure {
            causes: wrong,
            ..Failure::new(Exit::CheckFailed, message)
        }
        .with_hint(format!("keepbest verify {} tells more", shell_word(&path))));
    }
    let reader = RunReader::open(&path).map_err(|error| failed(&error))?;
    let line = Attestation::of(&reader, best).map_err(|error| failed(&error))?;
    if args.json {
        output::json(&json!({"run": path, "attestation": line.to_string()}))?;
    } else {
        output::line(line.to_string())?;
        say!("keep this line where the run cannot be changed; it is checked by");
        say!("  keepbest verify {} --against LINE", shell_word(&path));
    }
    Ok(Exit::Done)
}
