//! `keepbest attest RUN`: the run in one line.

use keepbest_core::text::shell_word;
use serde_json::json;

use crate::cli::args::RunArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let path = args.directory()?;
    let line = keepbest_model::attest(&path)?;
    if args.json {
        output::json(&json!({"run": path, "attestation": line.to_string()}))?;
    } else {
        output::line(line.to_string())?;
        say!("keep this line where the run cannot be changed; it is checked by");
        say!("  keepbest verify {} --against LINE", shell_word(&path));
    }
    Ok(Exit::Done)
}
