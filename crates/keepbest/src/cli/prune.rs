//! `keepbest prune RUN`: retention now.

use keepbest_keeper::{prunable, prune_run};
use keepbest_model::open_whole_run;
use keepbest_model::words::count;
use serde_json::json;

use crate::cli::args::PruneArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::bytes;

pub(super) fn run(args: &PruneArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let path = args.of.directory()?;
    let removals = if args.dry_run {
        prunable(open_whole_run(&path)?.state())?
    } else {
        prune_run(&path)?
    };
    let gone = removals.iter().filter(|removal| removal.error.is_none());
    let freed: u64 = gone.clone().map(|removal| removal.bytes).sum();
    let failed = gone.clone().count() < removals.len();
    let exit = if failed { Exit::Failed } else { Exit::Done };
    if args.of.json {
        let objects: Vec<_> = removals
            .iter()
            .map(|removal| {
                json!({
                    "checkpoint": removal.checkpoint,
                    "step": removal.checkpoint.step(),
                    "bytes": removal.bytes,
                    "reason": removal.reason,
                    "error": removal.error,
                })
            })
            .collect();
        output::json(&json!({
            "run": path,
            "dry_run": args.dry_run,
            "removed": objects,
            "bytes": freed,
        }))?;
        return Ok(exit);
    }
    let mut table = Table::new(["checkpoint", ">size", "why"]);
    for removal in &removals {
        table.row([
            removal.checkpoint.to_string(),
            bytes(removal.bytes),
            removal.reason.clone(),
        ]);
    }
    if !removals.is_empty() {
        output::lines(&table.lines_within(80))?;
    }
    let bad = terminal.error_style().bad;
    for removal in &removals {
        if let Some(error) = &removal.error {
            say!(
                "{bad}error:{bad:#} {} is still there: {error}",
                removal.checkpoint
            );
        }
    }
    let many = count(gone.count() as u64, "checkpoint");
    output::line(match (removals.is_empty(), args.dry_run) {
        (true, _) => "nothing to remove".to_owned(),
        (_, true) => format!("would remove {many}, {}", bytes(freed)),
        (_, false) => format!("removed {many}, {}", bytes(freed)),
    })?;
    Ok(exit)
}
