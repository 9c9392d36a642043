//! Metrics, class tables and confusion matrices as text.

use std::collections::BTreeMap;

use keepbest_core::statistics::Interval;
use keepbest_core::{ClassificationReport, ConfusionMatrix, Metrics};
use keepbest_model::ClassIntervals;
use keepbest_model::words::{thousands, value};

use crate::cli::table::Table;
use crate::cli::words::shorten;

/// The names that stand first, best known to users.
const FIRST: [&str; 4] = ["accuracy", "top5_accuracy", "balanced_accuracy", "loss"];

/// Every metric, one a line, with its interval where there is one.
pub(super) fn metrics(metrics: &Metrics, intervals: &BTreeMap<String, Interval>) -> Vec<String> {
    let rank = |name: &str| {
        let bare = name.rsplit('/').next().unwrap_or(name);
        FIRST
            .iter()
            .position(|first| *first == bare)
            .unwrap_or(FIRST.len())
    };
    let mut entries: Vec<(&str, f64)> = metrics.iter().collect();
    entries.sort_by_key(|(name, _)| rank(name));
    let width = entries
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    entries
        .into_iter()
        .map(|(name, number)| {
            let interval = intervals
                .get(name)
                .map(|interval| format!("  {}", interval_words(interval)))
                .unwrap_or_default();
            format!("{name:<width$}  {:>8}{interval}", value(number))
        })
        .collect()
}

/// `accuracy 0.9170, 0.8930 to 0.9310 (95 %)`.
pub(super) fn metric_words(name: &str, number: f64, interval: Option<&Interval>) -> String {
    let words = interval.map(|interval| format!(", {}", interval_words(interval)));
    format!("{name} {}{}", value(number), words.unwrap_or_default())
}

/// `0.8930 to 0.9310 (95 %)`.
fn interval_words(interval: &Interval) -> String {
    let Interval {
        low,
        high,
        confidence,
    } = interval;
    format!(
        "{} to {} ({} %)",
        value(*low),
        value(*high),
        confidence * 100.0
    )
}

/// Each class with its precision, recall, F1, their intervals, and number of images.
pub(super) fn classes(
    names: &[String],
    report: &ClassificationReport,
    intervals: &[ClassIntervals],
) -> Vec<String> {
    let mut table = Table::new(["class", "precision", "recall", "f1", ">images"]);
    for ((name, class), of) in names.iter().zip(report.classes()).zip(intervals) {
        let cell = |value: f64, interval: Option<Interval>| match interval {
            Some(Interval { low, high, .. }) => format!("{value:.3} [{low:.2}, {high:.2}]"),
            None => format!("{value:.3}"),
        };
        // A class without images has none of them, and one that is never predicted no precision.
        let known = |known: bool, text: String| if known { text } else { "-".to_owned() };
        let has_images = class.support > 0;
        table.row([
            shorten(name, 12),
            known(
                has_images || class.predicted > 0,
                cell(class.precision, of.precision),
            ),
            known(has_images, cell(class.recall, of.recall)),
            known(has_images, cell(class.f1, of.f1)),
            thousands(class.support),
        ]);
    }
    let mut lines = table.lines();
    lines.push("[in brackets: 95 % intervals]".into());
    lines
}

/// Classes up to which the whole matrix is shown; with more, what is confused most.
const WHOLE_UP_TO: usize = 12;

/// The confusion matrix: rows are labels, columns are predictions.
pub(super) fn confusion(names: &[String], matrix: &ConfusionMatrix) -> Vec<String> {
    if names.len() > WHOLE_UP_TO {
        return most_confused(names, matrix);
    }
    let rows = matrix.rows();
    let width = rows
        .iter()
        .flatten()
        .max()
        .map_or(1, |count| thousands(*count).len())
        .max(2);
    let label = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(16);
    let heads: Vec<String> = (0..names.len())
        .map(|class| format!("{class:>width$}"))
        .collect();
    let mut lines = vec![
        format!("confusion (rows: labels, columns: predictions)"),
        String::new(),
    ];
    lines[1] = format!("{:label$}      {}", "", heads.join(" "));
    for (class, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .map(|count| {
                if *count == 0 {
                    format!("{:>width$}", ".")
                } else {
                    format!("{:>width$}", thousands(*count))
                }
            })
            .collect();
        lines.push(format!(
            "{:label$}  {class:>2}  {}",
            shorten(&names[class], label),
            cells.join(" ")
        ));
    }
    lines
}

fn most_confused(names: &[String], matrix: &ConfusionMatrix) -> Vec<String> {
    let mut lines = vec!["most often confused".into()];
    let mut table = Table::new(["label", "taken for", ">images"]);
    for (label, prediction, count) in matrix.most_confused().into_iter().take(10) {
        let name = |class: u32| {
            names
                .get(class as usize)
                .map_or_else(|| class.to_string(), |name| shorten(name, 30))
        };
        table.row([name(label), name(prediction), thousands(count)]);
    }
    lines.extend(table.lines());
    lines
}
