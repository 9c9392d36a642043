//! All evaluations as one table: CSV or JSON, written anew each time, whole or not at all.

use std::fmt::Write as _;
use std::path::PathBuf;

use keepbest_core::History;
use keepbest_store::replace_unsynced;
use serde_json::json;

use super::logger::{About, Ended, Logged, Logger, about_file};

/// The format of a table.
#[derive(Debug, Clone, Copy)]
pub(super) enum TableKind {
    Csv,
    Json,
}

/// `metrics.csv` or `metrics.json` of a run.
pub(super) struct Table {
    kind: TableKind,
    run: PathBuf,
}

impl Table {
    pub(super) fn new(kind: TableKind) -> Self {
        Self {
            kind,
            run: PathBuf::new(),
        }
    }
}

impl Logger for Table {
    fn begin(&mut self, about: &About) -> Result<(), String> {
        self.run.clone_from(&about.run);
        Ok(())
    }

    fn evaluated(&mut self, logged: &Logged) -> Result<(), String> {
        let (name, text) = match self.kind {
            TableKind::Csv => ("metrics.csv", csv(&logged.history)),
            TableKind::Json => ("metrics.json", json(&logged.history)?),
        };
        replace_unsynced(&self.run.join(name), text.as_bytes())
            .map_err(|error| about_file(&error.path, &error.source))
    }

    fn end(&mut self, _: &Ended) -> Result<(), String> {
        Ok(())
    }
}

/// One line an evaluation. No field needs quotes: they are numbers, metric names and verdicts.
fn csv(history: &History) -> String {
    let names = history.metric_names();
    let mut text = format!("step,epoch,verdict,{}\n", names.join(","));
    for record in history {
        let verdict = match &record.verdict {
            verdict if verdict.is_improved() => "improved",
            verdict if verdict.is_rejected() => "rejected",
            _ => "not_improved",
        };
        let _ = write!(text, "{},{},{verdict}", record.step, record.epoch);
        for name in &names {
            text.push(',');
            if let Some(value) = record.metrics.get(name) {
                let _ = write!(text, "{value}");
            }
        }
        text.push('\n');
    }
    text
}

fn json(history: &History) -> Result<String, String> {
    serde_json::to_string_pretty(&json!({ "evaluations": history }))
        .map_err(|error| error.to_string())
}
