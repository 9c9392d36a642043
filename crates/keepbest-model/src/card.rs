//! A model card in Hugging Face's form, from what is recorded and nothing else: what `keepbest card` writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use keepbest_core::EvaluationRecord;
use keepbest_core::statistics::Interval;
use keepbest_core::text::visible;
use keepbest_keeper::RunView;
use serde_json::Value;

use crate::model::Model;
use crate::model_ref::ModelPlace;
use crate::run_files::{OpenRunError, open_run};
use crate::run_summary::RunSummary;
use crate::seen::SeenBefore;
use crate::words::{count, value};

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The model's run cannot be read.
    #[error(transparent)]
    Run(#[from] OpenRunError),
    /// What is recorded cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl CardError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run(error) => Some(error.hint()),
            Self::Json(_) => None,
        }
    }
}

/// The metrics of a card: name here, Hugging Face's name for it.
const SHOWN: [(&str, &str); 5] = [
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced_accuracy"),
    ("f1_macro", "f1"),
    ("log_loss", "log_loss"),
    ("ece", "expected_calibration_error"),
];

/// What was measured on one split.
struct Results {
    split: &'static str,
    images: Option<u64>,
    metrics: Value,
    /// By metric, where they were recorded.
    intervals: BTreeMap<String, Interval>,
}

impl Results {
    fn metric(&self, name: &str) -> Option<f64> {
        self.metrics[format!("{}/{name}", self.split)].as_f64()
    }

    fn interval(&self, name: &str) -> Option<&Interval> {
        self.intervals.get(&format!("{}/{name}", self.split))
    }
}

/// The card of a model that was found at `place`, as Markdown.
///
/// # Errors
/// [`CardError`].
pub fn card(place: &ModelPlace, model: &Model) -> Result<String, CardError> {
    Ok(written(model, &results(place, model)?))
}

/// The test of a run's best, where that is the model, and the evaluation in its file.
fn results(place: &ModelPlace, model: &Model) -> Result<Vec<Results>, CardError> {
    let prints = model
        .provenance
        .as_ref()
        .map(|provenance| &provenance.data.fingerprints);
    let images = |split: &str| prints.and_then(|prints| Some(prints.get(split)?.count));
    let mut results = Vec::new();
    // A file in a run is told of as when the run was named.
    let run = match place {
        ModelPlace::Run { run, .. } => Some(open_run(run)?),
        ModelPlace::File(file) => std::path::absolute(file)
            .ok()
            .and_then(|file| RunView::open(file.parent()?).ok()),
    };
    if let Some(view) = run
        && view.best().map(|best| best.weights) == Some(model.file.weights_digest())
        && let Some(summary) = RunSummary::of(&view)
        && let Some(test) = &summary.test
    {
        results.push(Results {
            split: "test",
            images: images("test"),
            metrics: serde_json::to_value(test)?,
            intervals: summary.test_intervals.unwrap_or_default(),
        });
    }
    let metadata = model.file.metadata.as_ref();
    if let Some(evaluation) = metadata.and_then(|metadata| metadata.evaluation.clone()) {
        let record: EvaluationRecord = serde_json::from_value(evaluation)?;
        let metrics = serde_json::to_value(&record.metrics)?;
        results.push(Results {
            split: "val",
            images: images("val"),
            metrics,
            intervals: BTreeMap::new(),
        });
    }
    Ok(results)
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    visible(&Value::from(text).to_string()).into_owned()
}

/// One line of Markdown text.
fn plain(text: &str) -> String {
    let mut safe = String::new();
    for c in visible(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}

fn written(model: &Model, results: &[Results]) -> String {
    let mut out = String::new();
    let recorded = model.provenance.as_ref();
    let name = &model.spec.name;
    let data = recorded.map(|recorded| recorded.data.source.as_str());
    front_matter(&mut out, name, data, results);
    let input = model.preprocessing.input;
    let _ = writeln!(
        out,
        "\n# {}\n\nTells {} of {input} images (height x width x channels) apart. Trained and chosen by \
         [keepbest](https://github.com/keepbest/keepbest); every figure here is from the model's own records.\n",
        plain(name),
        count(model.classes.len() as u64, "class"),
    );
    let _ = writeln!(
        out,
        "## Use\n\n```\nkeepbest predict model.safetensors IMAGE...\nkeepbest verify model.safetensors\n```\n\n\
         The file is safetensors with PyTorch's names and layouts; training state, where there is any, is under `optimizer.`. Nothing \
         in it is code. Weights: `{}` (BLAKE3).\n",
        model.file.weights_digest()
    );
    let _ = writeln!(out, "## Classes\n");
    for (label, class) in model.classes.iter().enumerate() {
        let _ = writeln!(out, "- {label}: {}", plain(class));
    }
    let numbers = |numbers: &[f32]| {
        let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    let _ = writeln!(
        out,
        "\n## Input\n\n{input}, pixels divided by {}, less the mean {}, divided by {}, in the order of the channels.\n",
        model.preprocessing.divide_by,
        numbers(&model.preprocessing.mean),
        numbers(&model.preprocessing.std)
    );
    if let Some(own) = &model.thresholds {
        let _ = writeln!(
            out,
            "## Decision\n\nNot the likeliest class is decided for, but the one with the greatest probability / threshold: {}.\n",
            plain(&own.words())
        );
        for line in own.by_class(&model.classes) {
            let _ = writeln!(out, "- {}", plain(&line));
        }
        out.push('\n');
    }
    if let Some(recorded) = recorded {
        let _ = writeln!(out, "## Training\n");
        let _ = writeln!(out, "- data: {}", plain(&recorded.data.source));
        for (split, print) in &recorded.data.fingerprints {
            let _ = writeln!(
                out,
                "- {split}: {}, BLAKE3 `{}`",
                count(print.count, "image"),
                print.blake3
            );
        }
        let _ = writeln!(out, "- recipe: {}", plain(&recorded.recipe));
        let _ = writeln!(out, "- seed: {}", recorded.seed);
        if let Some(parent) = &recorded.parent {
            let _ = writeln!(out, "- starts from weights `{}`", parent.digest);
        }
        let _ = writeln!(out, "- keepbest {}", plain(&recorded.keepbest));
        if let Some(git) = recorded.environment.as_ref().and_then(|on| on.git.as_ref()) {
            let dirty = if git.dirty { ", with changes" } else { "" };
            let _ = writeln!(
                out,
                "- working directory at git commit `{}`{dirty}",
                git.commit
            );
        }
        out.push('\n');
    }
    let before = recorded.map_or(&[][..], |recorded| &recorded.seen_before);
    evaluation(&mut out, results, before);
    out
}

fn front_matter(out: &mut String, name: &str, data: Option<&str>, results: &[Results]) {
    let _ = writeln!(
        out,
        "---\nlibrary_name: keepbest\npipeline_tag: image-classification\ntags:\n- image-classification\n- keepbest\n- safetensors"
    );
    if results.is_empty() {
        let _ = writeln!(out, "---");
        return;
    }
    let _ = writeln!(out, "model-index:\n- name: {}\n  results:", quoted(name));
    for result in results {
        let data = quoted(data.unwrap_or("not recorded"));
        let _ = writeln!(
            out,
            "  - task:\n      type: image-classification\n    dataset:\n      name: {data}\n      type: {data}\n      split: {}\n    metrics:",
            result.split
        );
        for (ours, theirs) in SHOWN {
            if let Some(number) = result.metric(ours) {
                let _ = writeln!(out, "    - type: {theirs}\n      value: {number}");
            }
        }
    }
    let _ = writeln!(out, "---");
}

fn evaluation(out: &mut String, results: &[Results], before: &[SeenBefore]) {
    if results.is_empty() {
        return;
    }
    let _ = write!(out, "## Evaluation\n\n| metric |");
    for result in results {
        let images = result.images.map_or_else(String::new, |images| {
            format!(" ({})", count(images, "image"))
        });
        let _ = write!(out, " {}{images} |", result.split);
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(results.len()));
    for (name, _) in SHOWN {
        let _ = write!(out, "| {} |", plain(name));
        for result in results {
            let shown = result.metric(name).map(value).unwrap_or_default();
            let between = result.interval(name).map_or_else(String::new, |interval| {
                format!(" ({} to {})", value(interval.low), value(interval.high))
            });
            let _ = write!(out, " {shown}{between} |");
        }
        out.push('\n');
    }
    if results.iter().any(|result| !result.intervals.is_empty()) {
        out.push_str("\nIn brackets: 95 % intervals.\n");
    }
    let unseen = if results.iter().any(|result| result.split == "test")
        && !before.iter().any(|found| found.split == "test")
    {
        "; nothing was chosen by test"
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "\nThe model was chosen by its score on val, which flatters it{unseen}."
    );
    for found in before {
        let _ = writeln!(
            out,
            "\nA model that it comes from was {found}: the score on them flatters it."
        );
    }
}
