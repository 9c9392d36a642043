//! All evaluations as one table: CSV or JSON, written anew each time, whole or not at all.

use std::path::PathBuf;

use keepbest_core::History;
use keepbest_store::replace_unsynced;
use serde_json::json;

use super::logger::{Logged, Logger, SessionEnd, SessionStart, cannot_write};

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
    fn begin(&mut self, start: &SessionStart) -> Result<(), String> {
        self.run.clone_from(&start.run);
        Ok(())
    }

    fn evaluated(&mut self, logged: &Logged) -> Result<(), String> {
        let (name, bytes) = match self.kind {
            TableKind::Csv => ("metrics.csv", csv(&logged.history)?),
            TableKind::Json => ("metrics.json", json(&logged.history)?),
        };
        replace_unsynced(&self.run.join(name), &bytes)
            .map_err(|error| cannot_write(&error.path, &error.source))
    }

    fn end(&mut self, _: &SessionEnd) -> Result<(), String> {
        Ok(())
    }
}

/// One line an evaluation. A metric that it lacks is an empty field.
fn csv(history: &History) -> Result<Vec<u8>, String> {
    let names = history.metric_names();
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut line = |fields: Vec<String>| {
        let written = table.write_record(fields);
        written.map_err(|error| error.to_string())
    };
    let leading = ["step", "epoch", "verdict"].map(String::from);
    line(
        leading
            .into_iter()
            .chain(names.iter().map(ToString::to_string))
            .collect(),
    )?;
    for record in history {
        let verdict = match &record.verdict {
            verdict if verdict.is_improved() => "improved",
            verdict if verdict.is_rejected() => "rejected",
            _ => "not_improved",
        };
        let leading = [
            record.step.to_string(),
            record.epoch.to_string(),
            verdict.into(),
        ];
        let values = names.iter().map(|name| {
            let value = record.metrics.get(name);
            value.map_or_else(String::new, |value| value.to_string())
        });
        line(leading.into_iter().chain(values).collect())?;
    }
    table.into_inner().map_err(|error| error.to_string())
}

fn json(history: &History) -> Result<Vec<u8>, String> {
    serde_json::to_vec_pretty(&json!({ "evaluations": history })).map_err(|error| error.to_string())
}
