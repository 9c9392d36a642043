//! `keepbest show RUN`: one run.

use keepbest_core::EvaluationRecord;
use keepbest_core::text::wrapped;
use keepbest_formats::model_file::ModelFile;
use keepbest_keeper::RunView;
use keepbest_model::words::{count, value};
use keepbest_model::{RunSummary, TunedThresholds, open_run};
use keepbest_store::CheckpointName;
use keepbest_train::{Overfitting, Selection};
use serde_json::{Value, json};

use crate::cli::args::RunArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::front;
use crate::cli::measured::metric_words;
use crate::cli::output;
use crate::cli::runs::{Facts, ago, warn_of_files, warn_of_forgotten};
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::thresholds;
use crate::cli::words::{bytes, shorten};

pub(super) fn run(args: &RunArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let path = args.directory()?;
    let view = open_run(&path)?;
    warn_of_forgotten(&view, terminal);
    warn_of_files(&view, terminal);
    let facts = Facts::of(&view);
    let selection = Selection::of(&view);
    if args.json {
        output::json(&json(&view, &facts, selection.as_ref()))?;
        return Ok(Exit::Done);
    }
    let mut lines = vec![format!("{}  ({})", view.path().display(), facts.status)];
    for (name, text) in facts_of_run(&view, &facts)
        .into_iter()
        .chain(facts_of_best(&view, &facts))
        .chain(facts_of_outcome(&view, &facts, selection.as_ref()))
    {
        let told = wrapped(&text, 69).into_iter().enumerate();
        lines.extend(told.map(|(i, line)| {
            let name = if i == 0 { name } else { "" };
            format!("{name:<9} {line}")
        }));
    }
    output::lines(&lines)?;
    output::line("")?;
    output::lines(&history(&view, &facts.monitor, selection.as_ref()))?;
    output::line("")?;
    output::lines(&checkpoints(&view))?;
    output::lines(&front::lines(&view))?;
    if let Some(torn) = view.torn_tail() {
        let warn = terminal.error_style().warn;
        say!(
            "{warn}note:{warn:#} the journal's line {} is incomplete: {}",
            torn.line,
            torn.problem
        );
    }
    Ok(Exit::Done)
}

fn json(view: &RunView, facts: &Facts, selection: Option<&Selection>) -> Value {
    let mut object = facts.json(view);
    object["thresholds"] = json!(decides_by(view));
    object["settings"] = json!(view.config().unwrap_or_default());
    let begun = view.state().started.as_ref();
    object["objective"] = json!(begun.map(|begun| &begun.objective));
    object["other_objectives"] = json!(begun.map(|begun| &begun.others));
    object["selection"] = json!(selection);
    object["overfitting"] = json!(Overfitting::of(view.history()).map(|found| found.words()));
    object["fronts"] = front::json(view);
    object["history"] = json!(view.history());
    object["checkpoints"] = view
        .checkpoints()
        .map(|checkpoint| {
            json!({
                "path": checkpoint.saved.checkpoint.path(view.path()),
                "step": checkpoint.saved.step,
                "epoch": checkpoint.saved.epoch,
                "kind": checkpoint.saved.kind,
                "bytes": checkpoint.saved.bytes,
                "digest": checkpoint.saved.weights,
                "ref": refs(view, &checkpoint.saved.checkpoint),
                "pinned": view.state().pinned.contains(&checkpoint.saved.checkpoint),
            })
        })
        .collect();
    object
}

/// A word and what it stands before.
type Fact = (&'static str, String);

fn facts_of_run(view: &RunView, facts: &Facts) -> Vec<Fact> {
    let mut told = match &facts.kept_by {
        Some(by) => vec![(
            "kept by",
            format!("{by}: network and images are that program's"),
        )],
        None => vec![
            ("network", facts.network.clone()),
            ("data", facts.data.clone()),
        ],
    };
    for (at, (_, objective)) in view.state().objectives().into_iter().enumerate() {
        let name = if at == 0 { "best is" } else { "and" };
        told.push((name, objective.to_string()));
    }
    told.push(("begun", ago(facts.times.0)));
    let checkpoints = count(view.checkpoints().count() as u64, "checkpoint");
    let on_disk = format!("{} in {checkpoints}", bytes(facts.bytes));
    told.push(("on disk", on_disk));
    told
}

fn facts_of_best(view: &RunView, facts: &Facts) -> Vec<Fact> {
    let mut told = Vec::new();
    if let Some(best) = view.best() {
        let monitor = match facts.monitor.is_empty() {
            // The journal may have lost how the run began.
            true => "score",
            false => &facts.monitor,
        };
        let (path, number) = (best.path.display(), value(best.score.value));
        let best_is = format!("{path}  ({monitor} {number}, epoch {})", best.epoch);
        told.push(("best", best_is));
        told.push(("digest", best.weights.to_string()));
        let mut records = view.history().iter();
        let record = records.rfind(|record| record.step == best.step);
        let weights = record.and_then(|record| record.weights.as_deref());
        let weights = weights.map(|weights| match weights {
            "ema" => "the moving average (ema), better than the weights themselves",
            "swa" => "the average of evaluations (swa), better than the weights themselves",
            _ => "as trained (raw), better than their average or as good",
        });
        told.extend(weights.map(|words| ("weights", words.to_owned())));
    }
    if let Some(own) = decides_by(view) {
        told.push(("decides", format!("by {}", own.words())));
    }
    for other in view.others() {
        let monitor = other.reference.monitor().unwrap_or_default();
        let (path, number) = (other.path.display(), value(other.score.value));
        let other_is = format!("{path}  ({monitor} {number}, epoch {})", other.epoch);
        told.push(("and", other_is));
    }
    told
}

fn facts_of_outcome(view: &RunView, facts: &Facts, selection: Option<&Selection>) -> Vec<Fact> {
    let mut told = Vec::new();
    if let Some(test) = &facts.test {
        for (name, head) in [("accuracy", "test"), ("log_loss", "")] {
            let full = format!("test/{name}");
            let interval = facts.test_intervals.get(&full);
            if let Some(number) = test[&full].as_f64() {
                told.push((head, metric_words(name, number, interval)));
            }
        }
        let mut seen = facts.seen_before.iter();
        if let Some(found) = seen.find(|found| found.split == "test") {
            let images = count(found.images, "image");
            told.push(("", format!("on {images}, {}", found.not_unseen())));
        }
    }
    if let Some(selection) = selection {
        let test = facts
            .test
            .as_ref()
            .and_then(|test| test[format!("test/{}", selection.scored)].as_f64());
        told.extend(selection.words().map(|words| ("noise", words)));
        told.extend(selection.warning(test).map(|warning| ("", warning)));
    }
    let overfitting = Overfitting::of(view.history());
    told.extend(overfitting.map(|found| ("overfit", found.words())));
    let reason = RunSummary::of(view).and_then(|summary| summary.reason);
    told.extend(reason.map(|reason| ("ended", reason)));
    told
}

/// By what the best decides, where that is not the likeliest class.
fn decides_by(view: &RunView) -> Option<TunedThresholds> {
    let metadata = ModelFile::open_unverified(&view.best()?.path)
        .ok()?
        .metadata?;
    thresholds::of(&metadata)
}

/// Evaluations, the improvements marked.
fn history(view: &RunView, monitor: &str, selection: Option<&Selection>) -> Vec<String> {
    let mut names = vec!["train/loss", "train/accuracy", "val/loss", "val/accuracy"];
    if !names.contains(&monitor)
        && view
            .history()
            .iter()
            .any(|record| record.metrics.contains(monitor))
    {
        names.push(monitor);
    }
    let mut heads = vec!["epoch".to_owned(), "step".to_owned()];
    heads.extend(names.iter().map(|name| shorten(name, 18)));
    let mut table = Table::of(heads, 0);
    let best = view.best().map(|best| best.step);
    for record in view.history() {
        let mut cells = vec![record.epoch.to_string(), record.step.to_string()];
        let metric = |name: &&str| record.metrics.get(name).map(value).unwrap_or_default();
        cells.extend(names.iter().map(metric));
        let alike = selection
            .into_iter()
            .flat_map(Selection::alike)
            .any(|compared| compared.step == record.step);
        cells.push(mark(record, best, alike));
        table.cells(cells);
    }
    table.lines()
}

/// `~` is what cannot be told from the best.
fn mark(record: &EvaluationRecord, best: Option<u64>, alike: bool) -> String {
    let word = match &record.verdict {
        verdict if verdict.is_rejected() => "rejected",
        verdict if verdict.is_improved() && best == Some(record.step) => "best",
        verdict if verdict.is_improved() => "better",
        _ => "",
    };
    let sign = if alike { "~ " } else { "" };
    let which = record.weights.as_deref().unwrap_or_default();
    format!("{sign}{word} {which}").trim().to_owned()
}

fn checkpoints(view: &RunView) -> Vec<String> {
    let mut table = Table::new(["checkpoint", ">epoch", ">size", "is"]);
    for checkpoint in view.checkpoints() {
        let saved = &checkpoint.saved;
        let mut is = refs(view, &saved.checkpoint);
        if view.state().pinned.contains(&saved.checkpoint) {
            is.push("pinned".into());
        }
        table.row([
            saved.checkpoint.to_string(),
            saved.epoch.to_string(),
            bytes(saved.bytes),
            is.join(", "),
        ]);
    }
    table.lines_within(80)
}

/// Which refs point at a checkpoint.
fn refs(view: &RunView, checkpoint: &CheckpointName) -> Vec<String> {
    let names = view.state().referenced_by(checkpoint);
    names.iter().map(ToString::to_string).collect()
}
