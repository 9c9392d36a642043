//! `keepbest list`: the runs.

use std::io::ErrorKind;

use keepbest_keeper::RunView;
use serde_json::json;

use crate::cli::args::ListArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::runs::{Facts, ago};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, shorten, value};

pub fn run(args: &ListArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runs_dir = &args.runs.runs_dir;
    let runs = match RunView::all_in(runs_dir) {
        Ok(runs) => runs,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            return Err(Failure {
                causes: vec![error.to_string()],
                ..Failure::new(Exit::Failed, format!("cannot read {}", runs_dir.display()))
            });
        }
    };
    if args.json {
        let objects: Vec<_> = runs
            .iter()
            .map(|(name, view)| match view {
                Ok(view) => Facts::of(view).json(view),
                Err(error) => json!({"name": name, "error": error.to_string()}),
            })
            .collect();
        output::json(&objects)?;
        return Ok(Exit::Done);
    }
    let hint = terminal.error_style().hint;
    if runs.is_empty() {
        eprintln!("no runs in {}", runs_dir.display());
        eprintln!("{hint}hint:{hint:#} `keepbest train` makes one");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(["run", "status", "epoch", "best", ">size", "when"]);
    for (name, view) in &runs {
        match view {
            Ok(view) => {
                let facts = Facts::of(view);
                let best = facts.best.map(|(best, ..)| value(best)).unwrap_or_default();
                table.row([
                    shorten(name, 24),
                    facts.status.clone(),
                    format!("{}/{}", facts.epochs.0, facts.epochs.1),
                    format!("{} {best}", shorten(&facts.monitor, 16))
                        .trim_end()
                        .to_owned(),
                    bytes(facts.bytes),
                    ago(facts.times.1),
                ]);
            }
            Err(_) => table.cells(vec![shorten(name, 24), "unreadable".into()]),
        }
    }
    output::lines(&table.lines())?;
    for (name, error) in runs
        .iter()
        .filter_map(|(name, view)| Some((name, view.as_ref().err()?)))
    {
        Failure::of(Exit::Failed, error)
            .with_hint(Some(format!("keepbest fsck {name}")))
            .print(terminal);
    }
    Ok(Exit::Done)
}
