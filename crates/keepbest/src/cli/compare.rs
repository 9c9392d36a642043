//! `keepbest compare`: models on the same images, in pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keepbest_core::statistics::{Interval, PairedDifference};
use keepbest_core::text::visible;
use keepbest_core::{Direction, Metrics, WeightsDigest};
use keepbest_keeper::RunView;
use keepbest_train::{
    Comparison, ModelPlace, Outcomes, OutcomesError, Overlaid, Resampled, find_model, overlay_page,
};
use serde_json::{Value, json};

use crate::cli::args::CompareArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::images::{Chosen, leave_out_meaningless};
use crate::cli::measure::{How, resample};
use crate::cli::runs::opened;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::{count, tail, value};
use crate::cli::{export, model, output};

/// p-values below it are called a difference.
const SIGNIFICANT: f64 = 0.05;

/// The metrics of the table; `--json` has all.
const SHOWN: [&str; 6] = [
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "log_loss",
    "roc_auc_ovr",
    "ece",
];

/// A model, measured.
struct Side {
    name: String,
    path: PathBuf,
    digest: WeightsDigest,
    images: Value,
    metrics: Metrics,
    intervals: BTreeMap<String, Interval>,
    outcomes: Outcomes,
    resampled: Resampled,
}

/// The first model against another.
struct Pair {
    counts: Comparison,
    /// First minus second.
    differences: BTreeMap<String, PairedDifference>,
}

impl Side {
    fn measured(name: &str, chosen: &Chosen, args: &CompareArgs) -> Result<Self, Failure> {
        let split = chosen.split.name();
        let measured = chosen.measure(How::from(&args.compute))?;
        let mut metrics = measured.metrics(split);
        let Some(outcomes) = &measured.outcomes else {
            return Err(Failure::new(Exit::Failed, "no outcomes were kept"));
        };
        let resampled = resample(outcomes, split)?;
        let mut intervals = resampled.intervals().metrics;
        leave_out_meaningless(&measured, &mut metrics, &mut intervals);
        Ok(Self {
            name: name.to_owned(),
            path: chosen.model.path.clone(),
            digest: chosen.model.file.weights_digest(),
            images: chosen.json(),
            metrics,
            intervals,
            outcomes: outcomes.clone(),
            resampled,
        })
    }

    /// By how much each metric that both have is above that of another model.
    fn differences(
        &self,
        other: &Self,
    ) -> Result<BTreeMap<String, PairedDifference>, OutcomesError> {
        let mut differences = self.resampled.minus(&other.resampled)?;
        differences.retain(|name, _| self.metrics.contains(name) && other.metrics.contains(name));
        Ok(differences)
    }
}

pub fn run(args: &CompareArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    // Before anything is measured, which may take a while.
    if let Some(file) = &args.html {
        export::refuse_existing(file, args.force)?;
    }
    let curves = args.html.as_ref().map(|_| curves(args)).transpose()?;
    let mut sides = Vec::new();
    let mut first: Option<Chosen> = None;
    for name in &args.models {
        let model = model::open(name, &args.runs.runs_dir, &args.compute, terminal)?;
        // Each model has its own preprocessing; the images are those of the first.
        let chosen = match &first {
            None => Chosen::new(model, &args.images, &args.unlike, args.split, terminal)?,
            Some(first) => first.with(model, &args.unlike, terminal)?,
        };
        say!(
            "measuring {name} on {}",
            count(chosen.len() as u64, "image")
        );
        for note in chosen.notes() {
            terminal.note(&note);
        }
        sides.push(Side::measured(name, &chosen, args)?);
        first.get_or_insert(chosen);
    }
    let split = first.as_ref().map_or("all", |first| first.split.name());
    let (first, others) = sides
        .split_first()
        .ok_or_else(|| Failure::new(Exit::Usage, "there is nothing to compare"))?;
    let comparisons = others
        .iter()
        .map(|other| {
            Ok(Pair {
                counts: first.outcomes.compare(&other.outcomes)?,
                differences: first.differences(other)?,
            })
        })
        .collect::<Result<Vec<Pair>, OutcomesError>>()
        .map_err(|error| Failure::of(Exit::Failed, &error))?;
    let settings = different_settings(args)?;
    let mut told = metrics_table(&sides, split);
    for (other, found) in others.iter().zip(&comparisons) {
        told.push(String::new());
        told.extend(words(&first.name, &other.name, found, split));
    }
    if !settings.is_empty() {
        told.push(String::new());
        told.extend(settings_table(args, &settings));
    }
    if let (Some(file), Some((runs, metrics))) = (&args.html, &curves) {
        let lines: Vec<_> = told.iter().map(|line| visible(line)).collect();
        let page = overlay_page(runs, metrics, &lines.join("\n"));
        export::write_bytes(file, args.force, page.as_bytes())?;
        say!("wrote {}", file.display());
    }

    if args.json {
        let models = sides.iter().map(|side| {
            json!({
                "model": side.name,
                "path": side.path,
                "digest": side.digest,
                "metrics": side.metrics,
                "intervals": side.intervals,
                "images_of": side.images,
            })
        });
        let pairs = others.iter().zip(&comparisons).map(|(other, found)| {
            json!({
                "first": first.name,
                "second": other.name,
                "both_right": found.counts.both_right,
                "only_first_right": found.counts.only_first,
                "only_second_right": found.counts.only_second,
                "both_wrong": found.counts.both_wrong,
                "mcnemar_p": found.counts.mcnemar_p,
                "differences": found.differences,
            })
        });
        output::json(&json!({
            "split": split,
            "images": first.outcomes.len(),
            "models": models.collect::<Vec<_>>(),
            "pairs": pairs.collect::<Vec<_>>(),
            "settings": settings,
            "html": args.html,
        }))?;
        return Ok(Exit::Done);
    }
    output::lines(&told)?;
    Ok(Exit::Done)
}

/// The runs among the models with their histories, and the metrics to draw: loss, accuracy, and what each run monitors.
fn curves(args: &CompareArgs) -> Result<(Vec<Overlaid>, Vec<String>), Failure> {
    let mut runs = Vec::new();
    let mut metrics: Vec<String> = ["val/accuracy", "val/loss", "train/loss"]
        .map(Into::into)
        .into();
    for name in &args.models {
        let ModelPlace::Run { run, .. } = find_model(name, &args.runs.runs_dir)? else {
            continue;
        };
        let view = opened(&run)?;
        for (_, objective) in view.state().objectives() {
            let names = objective.monitor().metric_names().into_iter();
            metrics.extend(names.map(Into::into));
        }
        runs.push(Overlaid {
            name: name.clone(),
            best: view.best().map(|best| best.step),
            history: view.history().clone(),
        });
    }
    if runs.is_empty() {
        let message = "--html draws the curves of runs, and none of the models is a run";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut seen = std::collections::BTreeSet::new();
    metrics.retain(|name| seen.insert(name.clone()));
    Ok((runs, metrics))
}

fn metrics_table(sides: &[Side], split: &str) -> Vec<String> {
    let width = (60 / sides.len()).clamp(8, 26);
    let mut heads = vec![split.to_owned()];
    heads.extend(sides.iter().map(|side| tail(&side.name, width)));
    let mut table = Table::of(heads, 1);
    for bare in SHOWN {
        let name = format!("{split}/{bare}");
        let mut cells = vec![bare.to_owned()];
        cells.extend(sides.iter().map(|side| {
            let Some(number) = side.metrics.get(&name) else {
                return String::new();
            };
            match side.intervals.get(&name) {
                // Three models and more leave no room for intervals.
                Some(interval) if sides.len() < 3 => format!(
                    "{} [{:.4}, {:.4}]",
                    value(number),
                    interval.low,
                    interval.high
                ),
                _ => value(number),
            }
        }));
        table.cells(cells);
    }
    let mut lines = table.lines();
    if sides.len() < 3 {
        lines.push("[in brackets: 95 % intervals]".into());
    }
    lines
}

/// The pair in words.
fn words(first: &str, second: &str, found: &Pair, split: &str) -> Vec<String> {
    let alone =
        |name: &str, images: u64| format!("{name} alone is right on {}", count(images, "image"));
    let mut lines = vec![
        format!("{first} against {second}"),
        format!(
            "  {}, {}",
            alone(first, found.counts.only_first),
            alone(second, found.counts.only_second)
        ),
    ];
    for metric in SHOWN {
        let Some(paired) = found.differences.get(&format!("{split}/{metric}")) else {
            continue;
        };
        let (p, test) = match metric {
            "accuracy" => (found.counts.mcnemar_p, "McNemar exact"),
            _ => (paired.p_value, "paired bootstrap"),
        };
        let less_is_better = Direction::of_metric(metric) == Some(Direction::Minimise);
        let verdict = if p >= SIGNIFICANT {
            "no difference to tell".to_owned()
        } else if (paired.difference > 0.0) != less_is_better {
            format!("{first} is better")
        } else {
            format!("{second} is better")
        };
        let p = if p < 0.0001 {
            "p < 0.0001".to_owned()
        } else {
            format!("p = {p:.4}")
        };
        lines.push(format!("  {metric}: {verdict} ({p}, {test})"));
    }
    lines
}

/// The keys of `run.toml` in which the runs differ, with each run's value; empty unless all models are runs.
fn different_settings(args: &CompareArgs) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut all: Vec<BTreeMap<String, String>> = Vec::new();
    for name in &args.models {
        let ModelPlace::Run { run, .. } = find_model(name, &args.runs.runs_dir)? else {
            return Ok(BTreeMap::new());
        };
        let view = RunView::open(&run).map_err(|error| Failure::of(Exit::Failed, &error))?;
        let text = view
            .config()
            .map_err(|error| Failure::of(Exit::Failed, &error))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let message = format!(
                "{} is not TOML: {}",
                run.join("run.toml").display(),
                error.message().trim().replace('\n', ", ")
            );
            Failure::new(Exit::Failed, message)
        })?;
        let mut keys = BTreeMap::new();
        flatten("", &table, &mut keys);
        all.push(keys);
    }
    let names: std::collections::BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    Ok(names
        .into_iter()
        .map(|name| {
            let values: Vec<String> = all
                .iter()
                .map(|keys| keys.get(name).cloned().unwrap_or_else(|| "-".into()))
                .collect();
            (name.clone(), values)
        })
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect())
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, out),
            toml::Value::String(text) => drop(out.insert(format!("{prefix}{key}"), text.clone())),
            other => drop(out.insert(format!("{prefix}{key}"), other.to_string())),
        }
    }
}

fn settings_table(args: &CompareArgs, settings: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let width = (50 / args.models.len()).clamp(8, 24);
    let mut heads = vec!["setting".to_owned()];
    heads.extend(args.models.iter().map(|name| tail(name, width)));
    let mut table = Table::of(heads, 1);
    for (name, values) in settings {
        let mut cells = vec![tail(name, 20)];
        cells.extend(values.iter().map(|value| tail(value, width)));
        table.cells(cells);
    }
    table.lines()
}
