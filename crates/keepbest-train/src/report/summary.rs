//! The findings on a run, in sentences.

use keepbest_core::statistics::wilson;
use keepbest_core::{EvaluationRecord, format_value};

use super::{Closeup, KeptFront, OtherBest, Report};
use crate::overfitting::Overfitting;

/// All there is to say of a run, one sentence an item.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let mut told = vec![about_status(report)];
    let Some(best) = record_at(report, report.best) else {
        told.push("It has no best yet: no evaluation could be one.".into());
        return told;
    };
    told.extend(about_best(report, best));
    let others = report.others.iter().enumerate();
    told.extend(others.map(|(place, other)| about_other_best(report, place + 1, other)));
    told.extend(report.fronts.iter().map(about_front));
    told.extend(
        report
            .closeups
            .iter()
            .filter_map(|closeup| about_split(report, closeup)),
    );
    told.extend(about_thresholds(report));
    told.extend(about_selection(report));
    if let Some(found) = Overfitting::of(&report.history) {
        told.push(format!("Signs of overfitting: {}.", found.words()));
    }
    let from = report.provenance.iter();
    told.extend(from.flat_map(|from| &from.seen_before).map(|found| {
        sentence(&format!(
            "a model that it comes from was {found}: the score on them flatters it"
        ))
    }));
    told.extend(report.notes.iter().cloned());
    told
}

fn about_status(report: &Report) -> String {
    match (report.status.as_str(), &report.stopped) {
        (status, Some(reason)) => format!("The run {}: {reason}.", ended(status)),
        ("training", None) => format!(
            "The run is in training: {} of {} epochs are measured.",
            report.history.last().map_or(0, |record| record.epoch),
            report.planned
        ),
        (status, None) => format!("The run {}.", ended(status)),
    }
}

/// The evaluation at a step.
fn record_at(report: &Report, step: Option<u64>) -> Option<&EvaluationRecord> {
    let mut records = report.history.iter();
    records.find(|record| Some(record.step) == step)
}

fn about_best(report: &Report, best: &EvaluationRecord) -> Option<String> {
    let objective = report.objective.as_ref()?;
    Some(format!(
        "The best of {} evaluations is that of epoch {} (step {}): {} {}. Best means {objective}.",
        report.history.len(),
        best.epoch,
        best.step,
        objective.monitor(),
        format_value(best.value)
    ))
}

/// The best by a further objective, which has this place among all.
fn about_other_best(report: &Report, place: usize, other: &OtherBest) -> String {
    let record = record_at(report, other.step);
    match record.and_then(|record| Some((record, record.judgement(place)?))) {
        Some((record, judged)) => format!(
            "A best by {} is kept as well: that of epoch {} (step {}), {}. It means {}.",
            other.objective.monitor(),
            record.epoch,
            record.step,
            format_value(judged.value),
            other.objective
        ),
        None => format!("There is no best by {} yet.", other.objective.monitor()),
    }
}

fn about_front(front: &KeptFront) -> String {
    let steps: Vec<String> = front.steps.iter().map(ToString::to_string).collect();
    match steps.as_slice() {
        [] => format!("Nothing is on the Pareto front of {}.", front.pareto),
        steps => format!(
            "Kept on the Pareto front of {}: what was saved at step {}.",
            front.pareto,
            steps.join(", ")
        ),
    }
}

/// The share of right answers on a split, and what the split was to the model.
fn about_split(report: &Report, closeup: &Closeup) -> Option<String> {
    let matrix = closeup.report.confusion();
    let interval = wilson(matrix.correct(), matrix.total(), 0.95).ok()?;
    let mut seen = report.provenance.iter().flat_map(|from| &from.seen_before);
    let kind = match closeup.split.as_str() {
        "test" if seen.any(|found| found.split == "test") => {
            "images of which some were seen in training before"
        }
        "test" => "images that nothing was chosen by",
        "val" => "images that the best was chosen by, which flatters it",
        _ => "images it was trained on",
    };
    Some(format!(
        "On {} of the {} split, {kind}, it is right in {:.1} % (95 % interval {:.1} to {:.1} %).",
        count(matrix.total(), "image"),
        closeup.split,
        100.0 * matrix.correct() as f64 / matrix.total() as f64,
        100.0 * interval.low,
        100.0 * interval.high
    ))
}

fn about_thresholds(report: &Report) -> Option<String> {
    let thresholds = report.thresholds.as_ref()?;
    let closeup = report.closeups.first();
    let classes = closeup.map_or(&[][..], |closeup| &closeup.classes);
    Some(format!(
        "It decides by {} ({}).",
        thresholds.words(),
        thresholds.by_class(classes).join(", ")
    ))
}

fn about_selection(report: &Report) -> impl Iterator<Item = String> {
    let words = report.selection.iter().flat_map(|selection| {
        let test = report
            .closeups
            .iter()
            .find(|closeup| closeup.split == "test")
            .and_then(|closeup| closeup.report.metric(&selection.scored));
        [selection.words(), selection.warning(test)]
    });
    words.flatten().map(|words| sentence(&words))
}

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn ended(status: &str) -> String {
    match status {
        "completed" => "is complete".into(),
        "killed" => "was killed and can be resumed".into(),
        "interrupted" => "was interrupted and can be resumed".into(),
        status => status.into(),
    }
}

/// `1 image`, `2 images`, `3 stretches`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{number} {noun}{plural}")
}
