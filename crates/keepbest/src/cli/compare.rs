//! `keepbest compare`: models on the same images, in pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keepbest_core::Direction;
use keepbest_core::text::visible;
use keepbest_model::words::{count, value};
use keepbest_model::{
    CompareReport, Contender, EvaluateOptions, ModelPlace, Pair, Side, find_model, open_run, write,
};
use keepbest_train::{Overlaid, check_device, overlay_page};
use serde::Serialize;

use crate::cli::args::CompareArgs;
use crate::cli::failure::{Exit, Failure};
use crate::cli::gauge::watched;
use crate::cli::table::Table;
use crate::cli::terminal::Terminal;
use crate::cli::words::tail;
use crate::cli::{model, output};

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

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a CompareReport,
    html: &'a Option<PathBuf>,
}

pub(super) fn run(args: &CompareArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    // Before anything is measured, which may take a while.
    if let Some(file) = &args.html {
        write::refuse_existing(file, args.force)?;
        write::refuse_no_page(file)?;
    }
    let curves = args.html.as_ref().map(|_| curves(args)).transpose()?;
    check_device(&args.compute.on.device)?;
    let open = |name: &String| -> Result<Contender, Failure> {
        let network = args.compute.network.as_deref();
        let contender = Contender::open(name, &args.runs.runs_dir, network)?;
        let notes = contender.model.notes.iter();
        notes.for_each(|note| terminal.note(note));
        Ok(contender)
    };
    let models = args.models.iter().map(open);
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let options = EvaluateOptions {
        images: args.images.choice(args.split, &args.unlike),
        ..model::measuring(&args.compute)
    };
    let found = watched(terminal, |watch| {
        keepbest_model::compare(&models, &options, watch)
    })?;
    let mut told = metrics_table(&found.models, found.split);
    for pair in &found.pairs {
        told.push(String::new());
        told.extend(words(pair, found.split));
    }
    if !found.settings.is_empty() {
        told.push(String::new());
        told.extend(settings_table(args, &found.settings));
    }
    if let (Some(file), Some((runs, metrics))) = (&args.html, &curves) {
        let lines: Vec<_> = told.iter().map(|line| visible(line)).collect();
        let page = overlay_page(runs, metrics, &lines.join("\n"));
        write::write_bytes(file, args.force, page.as_bytes())?;
        say!("wrote {}", file.display());
    }
    if args.json {
        output::json(&Printed {
            report: &found,
            html: &args.html,
        })?;
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
        let view = open_run(&run)?;
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
fn words(found: &Pair, split: &str) -> Vec<String> {
    let (first, second) = (&*found.first, &*found.second);
    let alone =
        |name: &str, images: u64| format!("{name} alone is right on {}", count(images, "image"));
    let mut lines = vec![
        format!("{first} against {second}"),
        format!(
            "  {}, {}",
            alone(first, found.only_first_right),
            alone(second, found.only_second_right)
        ),
    ];
    for metric in SHOWN {
        let Some(paired) = found.differences.get(&format!("{split}/{metric}")) else {
            continue;
        };
        let (p, test) = match metric {
            "accuracy" => (found.mcnemar_p, "McNemar exact"),
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
