//! MLflow's tracking server, by its REST API 2.0.

use std::path::Path;

use keepbest_store::{Links, read_regular, replace_unsynced};
use serde_json::{Value, json};

use super::http::Url;
use super::logger::{Logged, Logger, SessionEnd, SessionStart, cannot_write, now_ms};

/// The experiment that runs are filed under.
const EXPERIMENT: &str = "keepbest";
/// The file in which a run remembers its name on the server, to go on there when it is resumed.
const FILE: &str = "mlflow.json";
/// As many parameters as one request may carry.
const PARAMS_A_REQUEST: usize = 100;

/// A run on a server.
pub(super) struct MlFlow {
    url: Url,
    run_id: String,
    /// The place of its files, below the server's artifact root; `None` where the server takes none.
    artifacts: Option<String>,
}

impl MlFlow {
    pub(super) fn new(url: Url) -> Self {
        Self {
            url,
            run_id: String::new(),
            artifacts: None,
        }
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        let path = format!("/api/2.0/mlflow/{what}");
        self.url
            .send(
                "POST",
                &path,
                "application/json",
                body.to_string().as_bytes(),
            )?
            .json()
    }

    /// The experiment's id; it is made when it is not there.
    fn experiment(&self) -> Result<String, String> {
        let path = format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}");
        let answer = self.url.send("GET", &path, "application/json", b"")?;
        let id = if answer.status == 404 {
            self.post("experiments/create", &json!({ "name": EXPERIMENT }))?["experiment_id"]
                .clone()
        } else {
            answer.json()?["experiment"]["experiment_id"].clone()
        };
        text(&id)
    }

    fn create(&mut self, start: &SessionStart, file: &Path) -> Result<(), String> {
        let name = start.run.file_name().unwrap_or_default().to_string_lossy();
        let run = self.post(
            "runs/create",
            &json!({
                "experiment_id": self.experiment()?,
                "run_name": name,
                "start_time": now_ms(),
                "tags": [{"key": "mlflow.source.name", "value": "keepbest"}],
            }),
        )?;
        let info = &run["run"]["info"];
        self.run_id = text(&info["run_id"])?;
        self.artifacts = info["artifact_uri"]
            .as_str()
            .and_then(|uri| uri.strip_prefix("mlflow-artifacts:/"))
            .map(|path| path.trim_start_matches('/').to_owned());
        let note = json!({"run_id": self.run_id, "artifacts": self.artifacts});
        replace_unsynced(file, note.to_string().as_bytes())
            .map_err(|error| cannot_write(file, &error.source))?;
        let params: Vec<Value> = start
            .settings
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        for params in params.chunks(PARAMS_A_REQUEST) {
            self.post(
                "runs/log-batch",
                &json!({"run_id": self.run_id, "params": params}),
            )?;
        }
        Ok(())
    }

    fn update(&self, status: &str, time_ms: u64) -> Result<(), String> {
        let body = json!({"run_id": self.run_id, "status": status, "end_time": time_ms});
        self.post("runs/update", &body).map(drop)
    }
}

impl Logger for MlFlow {
    fn begin(&mut self, start: &SessionStart) -> Result<(), String> {
        let file = start.run.join(FILE);
        let known = read_regular(&file, Links::Refuse).ok();
        let known = known.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if let Some(run_id) = known.as_ref().and_then(|known| known["run_id"].as_str()) {
            self.run_id = run_id.into();
            self.artifacts = known
                .as_ref()
                .and_then(|known| known["artifacts"].as_str().map(Into::into));
            let body = json!({"run_id": self.run_id, "status": "RUNNING"});
            return self.post("runs/update", &body).map(drop);
        }
        self.create(start, &file)
    }

    fn evaluated(&mut self, logged: &Logged) -> Result<(), String> {
        let Some(record) = logged.record() else {
            return Ok(());
        };
        let best = record
            .verdict
            .is_improved()
            .then_some(("best", record.value));
        let metrics: Vec<Value> = logged
            .values()
            .chain(best)
            .map(|(key, value)| {
                json!({"key": key, "value": number(value), "timestamp": logged.time_ms, "step": record.step})
            })
            .collect();
        let body = json!({"run_id": self.run_id, "metrics": metrics});
        self.post("runs/log-batch", &body).map(drop)
    }

    fn end(&mut self, ended: &SessionEnd) -> Result<(), String> {
        if !ended.finished {
            return self.update("KILLED", ended.time_ms);
        }
        self.update("FINISHED", ended.time_ms)?;
        let Some(best) = &ended.best else {
            return Ok(());
        };
        let Some(folder) = &self.artifacts else {
            return Err("the server keeps no files, so the best model is not there".into());
        };
        let bytes = std::fs::read(best).map_err(|error| format!("{}: {error}", best.display()))?;
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{folder}/model/best.safetensors");
        self.url
            .send("PUT", &path, "application/octet-stream", &bytes)?
            .json()
            .map(drop)
    }
}

/// As protocol buffers have numbers in JSON.
fn number(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}

fn text(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(Into::into)
        .ok_or_else(|| "the server's answer lacks an id".into())
}
