//! `keepbest pin RUN@step:N` and `keepbest unpin`: a checkpoint kept by hand.

use keepbest_model::{ModelPlace, find_model};
use serde_json::json;

use crate::cli::args::PinArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

pub(super) fn run(args: &PinArgs, pin: bool) -> Result<Exit, Failure> {
    let wrong = |message: String| {
        Failure::new(Exit::Usage, message)
            .with_hint("name a run's checkpoint: run@step:1200, run@epoch:7".to_owned())
    };
    if !args.checkpoint.contains('@') {
        return Err(wrong(format!("{:?} names no checkpoint", args.checkpoint)));
    }
    let (run, which) = match find_model(&args.checkpoint, &args.runs.runs_dir)? {
        ModelPlace::Run { run, which } => (run, which),
        ModelPlace::File(path) => return Err(wrong(format!("{} is a file", path.display()))),
    };
    let (checkpoint, changed) = if pin {
        keepbest_keeper::pin(&run, &which)?
    } else {
        keepbest_keeper::unpin(&run, &which)?
    };
    if args.json {
        output::json(&json!({
            "run": run,
            "checkpoint": checkpoint,
            "step": checkpoint.step(),
            "pinned": pin,
            "changed": changed,
        }))?;
        return Ok(Exit::Done);
    }
    let what = match (pin, changed) {
        (true, true) => "pinned: it stays whatever the rules say",
        (true, false) => "was pinned already",
        (false, true) => "unpinned: the rules decide again",
        (false, false) => "was not pinned",
    };
    output::line(format!("{checkpoint} {what}"))?;
    Ok(Exit::Done)
}
