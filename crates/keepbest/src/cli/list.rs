//! `keepbest list`: the runs.

use std::io::ErrorKind;

use keepbest_core::Pareto;
use keepbest_core::text::shell_word;
use keepbest_keeper::RunView;
use keepbest_model::words::value;
use keepbest_store::OpenError;
use serde_json::json;

use crate::cli::args::ListArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::filter::{check_key, compare, look_up};
use crate::cli::front::{self, Standings};
use crate::cli::output;
use crate::cli::runs::{Facts, ago, warn_of_files, warn_of_forgotten};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::{bytes, shorten, tail};

pub(super) fn run(args: &ListArgs, terminal: &Terminal) -> Result<Exit, Failure> {
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
    let pareto = args.pareto.as_deref().map(str::parse::<Pareto>).transpose();
    let pareto = pareto.map_err(|error| {
        // What no run has needs no direction.
        let views = runs.iter().filter_map(|(_, view)| view.as_ref().ok());
        let unknown = args.pareto.as_deref();
        let unknown = unknown.and_then(|text| front::unmeasured(text, views));
        unknown.unwrap_or_else(|| {
            let hint = error.hint();
            Failure::of(Exit::Usage, &error).with_hint(hint)
        })
    })?;
    let runs = chosen(args, runs)?;
    let views = runs.iter().filter_map(|(_, view)| view.as_ref().ok());
    let standings = pareto.as_ref();
    let standings = standings
        .map(|pareto| Standings::of(pareto, views))
        .transpose()?;
    if args.json {
        let objects: Vec<_> = runs
            .iter()
            .map(|(name, view)| match view {
                Ok(view) => {
                    let mut object = Facts::of(view).json(view);
                    if let Some(standings) = &standings {
                        object["pareto"] = standings.json(name);
                    }
                    object
                }
                Err(error) => json!({"name": name, "error": error.to_string()}),
            })
            .collect();
        output::json(&objects)?;
        return Ok(Exit::Done);
    }
    let hint = terminal.error_style().hint;
    if runs.is_empty() && !args.conditions.is_empty() {
        say!("no run in {} is like that", runs_dir.display());
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        say!("no runs in {}", runs_dir.display());
        say!("{hint}hint:{hint:#} `keepbest train` makes one");
        return Ok(Exit::Done);
    }
    match &standings {
        Some(standings) => output::lines(&standings.lines())?,
        None => output::lines(&table(&runs))?,
    }
    for view in runs.iter().filter_map(|(_, view)| view.as_ref().ok()) {
        warn_of_forgotten(view, terminal);
        warn_of_files(view, terminal);
    }
    for (name, error) in runs
        .iter()
        .filter_map(|(name, view)| Some((name, view.as_ref().err()?)))
    {
        Failure::of(Exit::Failed, error)
            .with_hint(Some(format!(
                "keepbest fsck {}",
                shell_word(runs_dir.join(name))
            )))
            .print(terminal);
    }
    Ok(Exit::Done)
}

/// The latest epoch of those planned, where that is known.
fn epochs(facts: &Facts) -> String {
    match (facts.epochs, &facts.kept_by) {
        ((epoch, 0), Some(_)) => epoch.to_string(),
        ((epoch, planned), _) => format!("{epoch}/{planned}"),
    }
}

/// A line for each run.
fn table(runs: &[Run]) -> Vec<String> {
    let mut table = Table::new(["run", "status", "epoch", "best", ">size", "when"]);
    for (name, view) in runs {
        match view {
            Ok(view) => {
                let facts = Facts::of(view);
                let best = facts.best.map(|(best, ..)| value(best)).unwrap_or_default();
                // How many more bests it keeps.
                let more = match view.others().len() {
                    0 => String::new(),
                    more => format!(" +{more}"),
                };
                table.row([
                    tail(name, 24),
                    facts.status.clone(),
                    epochs(&facts),
                    format!("{} {best}{more}", shorten(&facts.monitor, 16))
                        .trim_end()
                        .to_owned(),
                    bytes(facts.bytes),
                    ago(facts.times.1),
                ]);
            }
            Err(_) => table.cells(vec![tail(name, 24), "unreadable".into()]),
        }
    }
    table.lines()
}

type Run = (String, Result<RunView, OpenError>);

/// The runs of which all conditions hold, in the order asked for. Those that cannot be read come last, and only when nothing is
/// asked of them.
fn chosen(args: &ListArgs, runs: Vec<Run>) -> Result<Vec<Run>, Failure> {
    let mut kept: Vec<(Option<String>, Run)> = Vec::new();
    let (key, down) = match args.sort.as_deref() {
        Some(key) => match key.strip_prefix('-') {
            Some(key) => (Some(key), true),
            None => (Some(key), false),
        },
        None => (None, false),
    };
    if key.is_some() || !args.conditions.is_empty() {
        let opened = runs.iter().filter_map(|(_, view)| view.as_ref().ok());
        let opened: Vec<_> = opened.map(|view| (view, Facts::of(view))).collect();
        if let Some(key) = key {
            check_key(key, &opened)?;
        }
        for condition in &args.conditions {
            condition.check(&opened)?;
        }
    }
    for (name, view) in runs {
        let Ok(opened) = &view else {
            if args.conditions.is_empty() {
                kept.push((None, (name, view)));
            }
            continue;
        };
        let facts = Facts::of(opened);
        let mut conditions = args.conditions.iter();
        if conditions.all(|condition| condition.holds(opened, &facts)) {
            let place = key.and_then(|key| look_up(key, opened, &facts));
            kept.push((place, (name, view)));
        }
    }
    if key.is_some() {
        // What a run does not have puts it last either way; equals stay in order of their names.
        kept.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if down => compare(b, a),
            (Some(a), Some(b)) => compare(a, b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
    }
    Ok(kept.into_iter().map(|(_, run)| run).collect())
}
