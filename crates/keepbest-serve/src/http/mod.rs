//! Everything that is asked over HTTP, gRPC included.

mod document;
mod gate;
mod predict;
pub(crate) mod v2_rest;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use keepbest_core::text::visible;

use crate::error::Refusal;
use crate::state::State;
use crate::{dashboard, grpc};

pub(crate) use gate::{Context, Peer};

/// The header of replies that says whose answer it is.
pub(crate) const MODEL_HEADER: &str = "keepbest-model";
/// The header of replies that says which weights answered.
pub(crate) const DIGEST_HEADER: &str = "keepbest-digest";

/// All routes.
pub(crate) fn router(state: &Arc<State>) -> Router {
    let model = "/v2/models/{model}";
    let version = "/v2/models/{model}/versions/{version}";
    let at = |base: &str, end: &str| format!("{base}{end}");
    let routes = Router::new()
        .route("/predict", post(predict::predict))
        .route("/predict/{model}", post(predict::predict_with))
        .route("/v2", get(v2_rest::server))
        .route("/v2/health/live", get(v2_rest::live))
        .route("/v2/health/ready", get(v2_rest::ready))
        .route("/v2/models", get(v2_rest::models))
        .route(model, get(v2_rest::metadata))
        .route(version, get(v2_rest::metadata))
        .route(&at(model, "/ready"), get(v2_rest::model_ready))
        .route(&at(version, "/ready"), get(v2_rest::model_ready))
        .route(&at(model, "/config"), get(v2_rest::config))
        .route(&at(version, "/config"), get(v2_rest::config))
        .route(&at(model, "/stats"), get(v2_rest::statistics))
        .route(&at(version, "/stats"), get(v2_rest::statistics))
        .route(&at(model, "/infer"), post(v2_rest::infer))
        .route(&at(version, "/infer"), post(v2_rest::infer))
        .route("/v2/repository/index", post(v2_rest::index))
        .route("/v2/repository/models/{model}/load", post(v2_rest::load))
        .route(
            "/v2/repository/models/{model}/unload",
            post(v2_rest::unload),
        )
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(document::openapi))
        .merge(dashboard::routes())
        .method_not_allowed_fallback(method)
        .fallback(nothing)
        .with_state(Arc::clone(state));
    routes
        .merge(grpc::routes(state))
        .layer(from_fn_with_state(Arc::clone(state), gate::gate))
}

async fn nothing(uri: Uri) -> Refusal {
    let path = visible(uri.path()).into_owned();
    Refusal::missing(format!(
        "nothing is at {path}; /openapi.json says what there is"
    ))
}

async fn method(uri: Uri) -> Refusal {
    let path = visible(uri.path()).into_owned();
    let message = format!("{path} is not asked so; /openapi.json says how");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

async fn metrics(
    axum::extract::State(state): axum::extract::State<Arc<State>>,
) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], state.metrics.text())
}
