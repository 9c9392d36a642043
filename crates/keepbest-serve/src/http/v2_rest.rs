//! KServe's protocol over REST: `/v2`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use keepbest_core::text::visible;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::predict::name_answerer;
use crate::body::whole;
use crate::catalogue::Entry;
use crate::error::Refusal;
use crate::generation::Generation;
use crate::infer::Asked;
use crate::state::State;
use crate::v2::{INPUT, OUTPUTS, answer, inputs, read_request, write_response};

/// The length of the JSON before the bytes of tensors.
const JSON_LENGTH: &str = "inference-header-content-length";

/// A body of this many bytes is read where it keeps nobody else waiting.
const LARGE: usize = 64 << 10;

#[derive(Deserialize)]
pub(super) struct Named {
    model: String,
    version: Option<String>,
}

/// What the protocol calls the server's extensions.
pub(crate) const EXTENSIONS: [&str; 3] =
    ["binary_tensor_data", "classification", "model_repository"];

type Server = Shared<Arc<State>>;

pub(super) async fn server() -> Json<Value> {
    Json(json!({
        "name": "keepbest",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(Shared(state): Server) -> Result<Json<Value>, Refusal> {
    match state.is_ready() {
        true => Ok(Json(json!({"ready": true}))),
        false => Err(Refusal::unavailable("the server is not ready")),
    }
}

pub(super) async fn models(Shared(state): Server) -> Json<Value> {
    let all = state.catalogue.all();
    Json(json!({"models": all.keys().collect::<Vec<_>>()}))
}

/// The model, if it is one of the version that is asked for: its digest, or the first digits of it.
async fn loaded(
    state: &Arc<State>,
    named: &Named,
    deadline: Instant,
) -> Result<(Arc<Entry>, Arc<Generation>), Refusal> {
    let entry = state.catalogue.find(Some(&named.model))?;
    let generation = state.catalogue.ready(&entry, deadline).await?;
    if let Some(version) = named
        .version
        .as_deref()
        .filter(|version| !version.is_empty())
    {
        check_version(&generation, version)?;
    }
    Ok((entry, generation))
}

/// Refuses another version than the one that answers.
pub(crate) fn check_version(generation: &Generation, version: &str) -> Result<(), Refusal> {
    let is_it = version.len() >= 8 && generation.digest.starts_with(version);
    match is_it {
        true => Ok(()),
        false => Err(Refusal::missing(format!(
            "version {:?} does not answer now; {} does",
            visible(version),
            generation.weights.short()
        ))),
    }
}

/// A model's metadata, as the protocol has it.
pub(crate) fn metadata_of(name: &str, generation: &Generation) -> Value {
    let model = generation.model();
    let input = model.preprocessing.input;
    let outputs = OUTPUTS.iter().map(|(name, datatype, is_of_classes)| {
        let shape = match is_of_classes {
            true => vec![-1, model.classes.len() as i64],
            false => vec![-1],
        };
        json!({"name": name, "datatype": datatype, "shape": shape})
    });
    json!({
        "name": name,
        "versions": [generation.weights.short()],
        "platform": "keepbest",
        "inputs": [{
            "name": INPUT,
            "datatype": "FP32",
            "shape": [-1, input.channels as i64, input.height as i64, input.width as i64],
        }],
        "outputs": outputs.collect::<Vec<_>>(),
        "parameters": {
            "digest": generation.digest,
            "classes": model.classes,
            "preprocessing": model.preprocessing,
        },
    })
}

pub(super) async fn metadata(
    Shared(state): Server,
    Extension(context): Extension<Context>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let (entry, generation) = loaded(&state, &named, context.deadline).await?;
    Ok(Json(metadata_of(&entry.name, &generation)))
}

pub(super) async fn model_ready(
    Shared(state): Server,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let entry = state.catalogue.find(Some(&named.model))?;
    let generation = entry.loaded();
    let generation = generation.ok_or_else(|| Refusal::unavailable("the model is not loaded"))?;
    if let Some(version) = &named.version {
        check_version(&generation, version)?;
    }
    Ok(Json(json!({"name": entry.name, "ready": true})))
}

/// A model's configuration in Triton's form, which its tools ask for.
pub(super) async fn config(
    Shared(state): Server,
    Extension(context): Extension<Context>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let (entry, generation) = loaded(&state, &named, context.deadline).await?;
    let model = generation.model();
    let input = model.preprocessing.input;
    let outputs = OUTPUTS.iter().map(|(name, datatype, is_of_classes)| {
        let dims = match is_of_classes {
            true => vec![model.classes.len()],
            false => vec![1],
        };
        let datatype = match *datatype {
            "BYTES" => "STRING",
            other => other,
        };
        json!({"name": name, "data_type": format!("TYPE_{datatype}"), "dims": dims})
    });
    Ok(Json(json!({
        "name": entry.name,
        "platform": "keepbest",
        "backend": "keepbest",
        "max_batch_size": state.options.limits.images,
        "input": [{
            "name": INPUT,
            "data_type": "TYPE_FP32",
            "format": "FORMAT_NCHW",
            "dims": [input.channels, input.height, input.width],
        }],
        "output": outputs.collect::<Vec<_>>(),
        "dynamic_batching": {
            "preferred_batch_size": [state.options.batching.batch_size],
            "max_queue_delay_microseconds": state.options.batching.max_delay.as_micros() as u64,
        },
    })))
}

/// What was counted of a model, in Triton's form.
pub(super) async fn statistics(
    Shared(state): Server,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let entry = state.catalogue.find(Some(&named.model))?;
    let version = entry.loaded().map(|loaded| loaded.weights.short());
    let metrics = &entry.metrics;
    let time = |count: u64, seconds: f64| json!({"count": count, "ns": (seconds * 1e9) as u64});
    let images = metrics.images.get();
    let batches = metrics.compute.count();
    Ok(Json(json!({
        "model_stats": [{
            "name": entry.name,
            "version": version.unwrap_or_default(),
            "inference_count": images,
            "execution_count": batches,
            "inference_stats": {
                "success": time(metrics.queue.count(), metrics.queue.sum() + metrics.compute.sum()),
                "fail": time(metrics.failed.get(), 0.0),
                "queue": time(metrics.queue.count(), metrics.queue.sum()),
                "compute_input": time(batches, 0.0),
                "compute_infer": time(batches, metrics.compute.sum()),
                "compute_output": time(batches, 0.0),
            },
            "batch_stats": [],
        }],
    })))
}

pub(super) async fn infer(
    Shared(state): Server,
    Extension(context): Extension<Context>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let _pass = state.enter()?;
    let json_len = match headers.get(JSON_LENGTH) {
        None => None,
        Some(length) => {
            let length = length.to_str().ok().and_then(|length| length.parse().ok());
            let expected = "Inference-Header-Content-Length is no number of bytes";
            Some(length.ok_or_else(|| Refusal::bad(expected))?)
        }
    };
    let body = whole(body).await?;
    let read = match json_len.unwrap_or(body.len()) {
        length if length < LARGE => read_request(&body, json_len),
        _ => tokio::task::spawn_blocking(move || read_request(&body, json_len))
            .await
            .map_err(|_| {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Refusal::new(status, "reading the request was broken off")
            })?,
    };
    let request = read.map_err(|error| Refusal::bad_for(&error))?;
    let mut deadline = context.deadline;
    if let Some(timeout) = request.timeout.filter(|timeout| *timeout > 0) {
        deadline = deadline.min(Instant::now() + Duration::from_micros(timeout.min(1 << 40)));
    }
    let (entry, generation) = loaded(&state, &named, deadline).await?;
    let coming = generation.queue.coming();
    let asked = Asked {
        state,
        generation: Arc::clone(&generation),
        hold: context.hold,
        deadline,
    };
    let images = inputs(&asked, request.inputs).await?;
    let scores = asked.scores(images.values, coming).await?;
    let outputs = answer(&generation, &scores, &request.outputs, request.binary)?;
    let written = write_response(&entry.name, &generation, request.id.as_deref(), &outputs);
    let (body, json_len) = written.map_err(|_| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reply cannot be written",
        )
    })?;
    let kind = match json_len {
        None => "application/json",
        Some(_) => "application/octet-stream",
    };
    let mut response = ([(CONTENT_TYPE, kind)], body).into_response();
    if let Some(length) = json_len {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(JSON_LENGTH, length);
    }
    name_answerer(response.headers_mut(), &entry.name, &generation);
    Ok(response)
}

pub(super) async fn index(Shared(state): Server) -> Json<Value> {
    let all = state.catalogue.all();
    let models = all.values().map(|entry| {
        let loaded = entry.loaded();
        json!({
            "name": entry.name,
            "version": loaded.as_ref().map(|loaded| loaded.weights.short()).unwrap_or_default(),
            "state": if loaded.is_some() { "READY" } else { "UNAVAILABLE" },
            "reason": match &loaded {
                Some(_) => String::new(),
                None => entry.refusal().unwrap_or_else(|| "not loaded".into()),
            },
        })
    });
    Json(Value::Array(models.collect()))
}

/// Refuses to change what is loaded, where clients may not.
pub(crate) fn check_may_load(state: &State) -> Result<(), Refusal> {
    match state.options.allow_load {
        true => Ok(()),
        false => {
            let message = "clients may not load and unload models here (--allow-load)";
            Err(Refusal::new(StatusCode::FORBIDDEN, message))
        }
    }
}

pub(super) async fn load(
    Shared(state): Server,
    Path(model): Path<String>,
) -> Result<Json<Value>, Refusal> {
    check_may_load(&state)?;
    let entry = state.catalogue.find(Some(&model))?;
    load_entry(&state, &entry).await?;
    Ok(Json(json!({"name": entry.name, "load": true})))
}

/// Loads a model by request.
pub(crate) async fn load_entry(state: &Arc<State>, entry: &Arc<Entry>) -> Result<(), Refusal> {
    let loaded = state.catalogue.load(entry, true).await;
    loaded.map(|_| ()).map_err(|_| {
        let why = entry.refusal().unwrap_or_default();
        Refusal::unavailable(format!("the model cannot be loaded: {why}"))
    })
}

pub(super) async fn unload(
    Shared(state): Server,
    Path(model): Path<String>,
) -> Result<Json<Value>, Refusal> {
    check_may_load(&state)?;
    let entry = state.catalogue.find(Some(&model))?;
    state.catalogue.unload(&entry).await;
    Ok(Json(json!({"name": entry.name, "unload": true})))
}
