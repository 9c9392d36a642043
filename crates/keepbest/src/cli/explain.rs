//! `keepbest explain RUN`: why this one is best, why each other is there or not.

use keepbest_keeper::{Explanation, Fate, explain};
use keepbest_model::open_run;
use keepbest_model::words::{count, value};

use crate::cli::args::RunArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::runs::warn_of_forgotten;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;

const WIDTH: usize = 80;

pub(super) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let path = args.directory()?;
    let view = open_run(&path)?;
    warn_of_forgotten(&view, &Terminal::detect());
    let told = explain(&view)?;
    if args.json {
        output::json(&told)?;
        return Ok(Exit::Done);
    }
    output::lines(&why_best(&told))?;
    output::line("")?;
    output::lines(&checkpoints(&told))?;
    if !told.unsaved.is_empty() {
        output::line("")?;
        output::lines(&unsaved(&told))?;
    }
    Ok(Exit::Done)
}

fn why_best(told: &Explanation) -> Vec<String> {
    let mut facts = Table::new(["best is", &told.objective]);
    let mut fact = |name: &str, text: String| facts.row([name.to_owned(), text]);
    match &told.best {
        None => fact("best", "there is none yet".into()),
        Some(best) => {
            let number = value(best.value);
            fact(
                "best",
                format!("{number} at step {}, epoch {}", best.step, best.epoch),
            );
            fact("because", best.reason.clone());
            if let Some(next) = &best.runner_up {
                let (number, step) = (value(next.value), next.step);
                fact("next", format!("{number} at step {step}: {}", next.reason));
            }
        }
    }
    for other in &told.others {
        let (number, step, epoch) = (value(other.value), other.step, other.epoch);
        let (name, is) = (&other.reference, &other.objective);
        let text = format!(
            "{name} ({is}) is {number} at step {step}, epoch {epoch}: {}",
            other.reason
        );
        fact("and", text);
    }
    fact(
        "measured",
        format!(
            "{}: {} better than all before, {} rejected",
            count(told.evaluations as u64, "time"),
            told.improvements,
            told.rejected
        ),
    );
    let rules: Vec<String> = told.policies.iter().map(ToString::to_string).collect();
    fact(
        "kept",
        match rules.as_slice() {
            [] => "best and last; no rule keeps others (--keep of `train`)".into(),
            rules => format!("best, last, and by rule: {}", rules.join(", ")),
        },
    );
    facts.lines_within(WIDTH)
}

fn checkpoints(told: &Explanation) -> Vec<String> {
    let mut table = Table::new([">step", ">epoch", "holds", ">value", "is", "why"]);
    for checkpoint in &told.checkpoints {
        table.row([
            checkpoint.step.to_string(),
            checkpoint.epoch.to_string(),
            match checkpoint.kind {
                keepbest_store::CheckpointKind::Full => "full".into(),
                keepbest_store::CheckpointKind::Params => "params".into(),
            },
            checkpoint.value.map(value).unwrap_or_default(),
            match checkpoint.fate {
                Fate::Prunable => "prunable",
                Fate::Archived => "archived",
                Fate::Removed => "removed",
                _ => "kept",
            }
            .into(),
            checkpoint.reasons.join("; "),
        ]);
    }
    table.lines_within(WIDTH)
}

fn unsaved(told: &Explanation) -> Vec<String> {
    let mut table = Table::new([">step", ">epoch", ">value", "not saved, because"]);
    for evaluation in &told.unsaved {
        table.row([
            evaluation.step.to_string(),
            evaluation.epoch.to_string(),
            value(evaluation.value),
            evaluation.reason.clone(),
        ]);
    }
    table.lines_within(WIDTH)
}
