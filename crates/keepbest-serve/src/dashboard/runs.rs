//! What the page shows of runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as InPath, State as Shared};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use keepbest_core::text::visible;
use keepbest_keeper::{RunView, Selector, explain};
use keepbest_model::{Model, ModelPlace, OtherLoop, RunSummary, status_of};
use keepbest_store::{Links, OpenError, read_regular};
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::state::State;

/// The file that `keepbest train` keeps in a run.
const REPORT: &str = "report.html";

/// The runs by name: those of the folder, and those that are served from elsewhere.
fn paths(state: &State) -> BTreeMap<String, PathBuf> {
    let folder = &state.options.runs_dir;
    let names = keepbest_store::names_in(folder).unwrap_or_default();
    let inside = names.into_iter().map(|name| folder.join(name));
    let served = state.catalogue.all();
    let served = served.values().filter_map(|entry| match &entry.place {
        ModelPlace::Run { run, .. } => Some(run.clone()),
        ModelPlace::File(_) => None,
    });
    let named = served.chain(inside).filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, path))
    });
    named.collect()
}

/// The run of a name, which is one of [`paths`] and so never a path itself.
pub(super) fn find(state: &State, name: &str) -> Result<PathBuf, Refusal> {
    paths(state)
        .remove(name)
        .ok_or_else(|| Refusal::missing(format!("there is no run {:?}", visible(name))))
}

/// Why a run is not shown, without its path.
fn words(error: &OpenError) -> &'static str {
    match error {
        OpenError::NotFound { .. } | OpenError::NotARun { .. } => "it is no run",
        OpenError::NoJournal { .. } => "its journal is gone; keepbest fsck tells more",
        OpenError::Journal(_) => "its journal is damaged; keepbest fsck tells more",
        _ => "it cannot be read",
    }
}

pub(super) fn open(path: &Path) -> Result<RunView, Refusal> {
    RunView::open(path).map_err(|error| match error {
        OpenError::NotFound { .. } | OpenError::NotARun { .. } => Refusal::missing(words(&error)),
        error => Refusal::unavailable(words(&error)),
    })
}

/// Reads runs where that keeps nobody else waiting, a few at a time.
pub(super) async fn reading<T: Send + 'static>(
    state: &Arc<State>,
    read: impl FnOnce(&State) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let _slot = state.readers.acquire().await;
    let state = Arc::clone(state);
    let read = tokio::task::spawn_blocking(move || read(&state));
    read.await.map_err(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Refusal::new(status, "reading the run was broken off")
    })
}

/// A run in a few facts, as the list has it.
fn summary(name: &str, view: &RunView) -> Value {
    let config = view
        .config()
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok());
    let setting = |key: &str| {
        let value = config.as_ref()?.get(key)?;
        serde_json::to_value(value).ok()
    };
    let over = RunSummary::of(view).unwrap_or_default();
    let state = view.state();
    let objective = state.started.as_ref().map(|begun| &begun.objective);
    json!({
        "name": name,
        "status": status_of(view),
        "loop": OtherLoop::of_run(view).map(|of| of.name().to_owned()),
        "model": setting("model"),
        "data": setting("data"),
        "epoch": view.history().last().map_or(0, |record| record.epoch),
        "epochs": over.epochs.map(Value::from).or_else(|| setting("epochs")),
        "monitor": objective.map(|objective| objective.monitor().to_string()),
        "best": view.best().map(|best| json!({
            "value": best.score.value, "epoch": best.epoch, "step": best.step, "digest": best.weights,
        })),
        "warning": view.forgotten().map(|_| "the journal knows less than the files; keepbest fsck tells more"),
        "started_ms": state.started_ms,
        "updated_ms": state.updated_ms,
    })
}

pub(super) async fn all(Shared(state): Shared<Arc<State>>) -> Result<Json<Value>, Refusal> {
    let runs = reading(&state, |state| {
        let runs = paths(state)
            .into_iter()
            .filter_map(|(name, path)| match RunView::open(&path) {
                Ok(view) => Some(summary(&name, &view)),
                Err(OpenError::NotFound { .. } | OpenError::NotARun { .. }) => None,
                Err(error) => Some(json!({"name": name, "error": words(&error)})),
            });
        runs.collect::<Vec<_>>()
    });
    Ok(Json(json!({"runs": runs.await?})))
}

pub(super) async fn one(
    Shared(state): Shared<Arc<State>>,
    InPath(run): InPath<String>,
) -> Result<Json<Value>, Refusal> {
    let read = reading(&state, move |state| {
        let path = find(state, &run)?;
        let view = open(&path)?;
        let mut whole = summary(&run, &view);
        let objective = view.state().started.as_ref().map(|begun| &begun.objective);
        let better = objective.and_then(|of| serde_json::to_value(of).ok());
        whole["objective"] = json!(better);
        whole["history"] = json!(view.history().records());
        whole["explanation"] = json!(explain(&view).ok());
        whole["pinned"] = json!(view.state().pinned);
        whole["config"] = json!(view.config().ok());
        whole["report"] = json!(path.join(REPORT).is_file());
        whole["actions"] = json!(state.options.allow_actions);
        whole["last_seq"] = json!(view.entries().last().map_or(0, |entry| entry.seq));
        Ok(whole)
    });
    read.await?.map(Json)
}

pub(super) async fn report(
    Shared(state): Shared<Arc<State>>,
    InPath(run): InPath<String>,
) -> Result<Response, Refusal> {
    let read = reading(&state, move |state| {
        let path = find(state, &run)?.join(REPORT);
        read_regular(&path, Links::Refuse)
            .map_err(|_| Refusal::missing("the run has no report; keepbest report writes one"))
    });
    let page = read.await??;
    // It runs no script, whoever wrote it.
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            http::header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
    ];
    Ok((headers, page).into_response())
}

pub(super) async fn card(
    Shared(state): Shared<Arc<State>>,
    InPath(run): InPath<String>,
) -> Result<Response, Refusal> {
    let read = reading(&state, move |state| {
        let place = ModelPlace::Run {
            run: find(state, &run)?,
            which: Selector::BEST,
        };
        let model = Model::open_place(&place, None)
            .map_err(|_| Refusal::unavailable("the run's best cannot be opened"))?;
        keepbest_model::card(&place, &model)
            .map_err(|_| Refusal::unavailable("the run cannot be read for its card"))
    });
    let headers = [(CONTENT_TYPE, "text/markdown; charset=utf-8")];
    Ok((headers, read.await??).into_response())
}
