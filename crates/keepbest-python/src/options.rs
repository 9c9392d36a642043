//! What a keeper made in Python is told, as it stands in `run.toml`.

use keepbest_core::retention::Policy;
use keepbest_core::{Direction, EarlyStoppingConfig, MinDelta, Objective, ObjectiveError};
use keepbest_formats::model_file::Attachments;
use keepbest_keeper::{CopyFormat, KeeperConfig, SaveMode};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors;

/// The settings of a keeper. Names are those of the keyword arguments of `keepbest.Keeper`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// What best means: an expression over metrics, the first objective.
    monitor: String,
    /// `max` or `min`, where the metric does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Direction>,
    /// Further objectives, each with a best of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also_monitor: Vec<String>,
    #[serde(default)]
    min_delta: MinDelta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tie_break: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patience: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_at: Option<f64>,
    /// Retention policies: `best:3`, `epochs:10`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep: Vec<Policy>,
    #[serde(default)]
    save_weights_only: bool,
    save_last: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    also: Option<CopyFormat>,
    /// The model spec, for full models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provenance: Option<Value>,
    /// Settings of the training, for people and for `keepbest show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Value>,
}

impl Options {
    pub(crate) fn from_json(py: Python<'_>, json: &str) -> PyResult<Self> {
        serde_json::from_str(json)
            .map_err(|error| errors::raise_plain(py, "InvalidOption", &error.to_string()))
    }

    /// From the `run.toml` of a run that a Python loop began.
    pub(crate) fn from_run_toml(py: Python<'_>, text: &str) -> PyResult<Self> {
        #[derive(Deserialize)]
        struct RunToml {
            keeper: Option<Options>,
        }
        match toml::from_str(text) {
            Ok(RunToml {
                keeper: Some(options),
            }) => Ok(options),
            Ok(RunToml { keeper: None }) => Err(errors::raise_plain(
                py,
                "RunOfAnotherLoop",
                "run.toml has no [keeper]: the run was not begun by keepbest.Keeper",
            )),
            Err(error) => Err(errors::raise_plain(
                py,
                "RunDamaged",
                &format!("cannot read run.toml: {error}"),
            )),
        }
    }

    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// What `run.toml` holds.
    pub(crate) fn to_run_toml(&self, py: Python<'_>) -> PyResult<String> {
        #[derive(Serialize)]
        struct RunToml<'a> {
            #[serde(rename = "loop")]
            name: &'a str,
            keeper: &'a Options,
        }
        let text = toml::to_string(&RunToml {
            name: "python",
            keeper: self,
        });
        text.map_err(|error| errors::raise_plain(py, "InvalidOption", &error.to_string()))
    }

    pub(crate) fn keeper_config(
        &self,
        session: Option<Value>,
    ) -> Result<KeeperConfig, ObjectiveError> {
        let mut objective = self.objective(&self.monitor, self.mode)?;
        if let Some(tie_break) = &self.tie_break {
            objective = objective.with_tie_break(tie_break, None)?;
        }
        let others = self.also_monitor.iter();
        let others = others.map(|monitor| self.objective(monitor, None));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        Ok(KeeperConfig {
            others,
            early_stopping: EarlyStoppingConfig {
                patience: self.patience,
                target: self.stop_at,
                // Losses of steps are not seen here.
                divergence: false,
                ..EarlyStoppingConfig::default()
            },
            save: match self.save_weights_only {
                true => SaveMode::Params,
                false => SaveMode::Full,
            },
            also: self.also,
            retention: self.keep.clone(),
            constants: Attachments {
                model: self.spec.clone(),
                classes: self.classes.clone(),
                preprocessing: self.preprocessing.clone(),
                provenance: self.provenance.clone(),
                ..Attachments::default()
            },
            keep_last: self.save_last,
            session,
            ..KeeperConfig::new(objective)
        })
    }

    /// An objective with what holds for all of them.
    fn objective(
        &self,
        monitor: &str,
        mode: Option<Direction>,
    ) -> Result<Objective, ObjectiveError> {
        let mut objective = Objective::build(monitor, mode)?.with_min_delta(self.min_delta)?;
        for constraint in &self.constraints {
            objective = objective.with_constraint(constraint.parse()?);
        }
        Ok(objective)
    }
}
