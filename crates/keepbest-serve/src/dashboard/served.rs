//! What the page shows of the server and its models.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use serde_json::{Value, json};

use crate::catalogue::Entry;
use crate::metrics::resident_bytes;
use crate::state::State;

pub(super) async fn server(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let options = &state.options;
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": state.is_ready(),
        "requests": state.under_way(),
        "connections": state.metrics.connections.get(),
        "resident_bytes": resident_bytes(),
        "memory": options.memory,
        "batch_size": options.batching.batch_size,
        "max_delay_ms": options.batching.max_delay.as_secs_f64() * 1e3,
        "queue": options.batching.queue,
        "keys": options.keys.is_some(),
        "actions": options.allow_actions,
    }))
}

pub(super) async fn models(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let all = state.catalogue.all();
    let models: Vec<Value> = all.values().map(|entry| model(entry)).collect();
    Json(json!({"models": models}))
}

fn model(entry: &Entry) -> Value {
    let metrics = &entry.metrics;
    let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
    let loaded = entry.loaded().map(|loaded| {
        let (epoch, step) = loaded.point().unzip();
        let model = loaded.model();
        json!({
            "digest": loaded.digest,
            "epoch": epoch,
            "step": step,
            "bytes": loaded.bytes,
            "network": model.spec.name,
            "classes": model.classes,
            "input": model.preprocessing.input,
            "thresholds": model.thresholds.is_some(),
            "notes": model.notes,
        })
    });
    json!({
        "name": entry.name,
        "follows": entry.followed().and_then(|(run, _)| {
            Some(run.file_name()?.to_string_lossy().into_owned())
        }),
        "loaded": loaded,
        "unloaded": entry.is_unloaded(),
        "refused": entry.refusal(),
        "images": metrics.images.get(),
        "failed": metrics.failed.get(),
        "abandoned": metrics.abandoned.get(),
        "swaps": metrics.swaps.get(),
        "refusals": metrics.refused.get(),
        "queued": metrics.queued.get(),
        "batch": mean(metrics.batch.sum(), metrics.batch.count()),
        "queue_ms": mean(metrics.queue.sum() * 1e3, metrics.queue.count()),
        "compute_ms": mean(metrics.compute.sum() * 1e3, metrics.compute.count()),
    })
}
