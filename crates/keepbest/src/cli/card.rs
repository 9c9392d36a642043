//! `keepbest card MODEL`: a model card in Hugging Face's form.

use keepbest_model::{FileAtHand, find_model, write};

use crate::cli::args::CardArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

pub(super) fn run(args: &CardArgs) -> Result<Exit, Failure> {
    let place = find_model(&args.model, &args.runs.runs_dir)?;
    let file = FileAtHand::of(&place)?;
    let card = keepbest_model::card(&place, &file.open_trained()?)?;
    match &args.to {
        None => output::bytes(card.as_bytes())?,
        Some(file) => write::write_bytes(file, args.force, card.as_bytes())?,
    }
    Ok(Exit::Done)
}
