//! `keepbest completions SHELL`.

use clap::CommandFactory;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

pub(super) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "keepbest", &mut script);
    output::bytes(&script)?;
    Ok(Exit::Done)
}
