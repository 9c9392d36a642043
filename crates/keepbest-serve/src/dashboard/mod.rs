//! The page at `/`: the runs and how they go, the models and what they are asked.

mod actions;
mod events;
mod runs;
mod served;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};

use crate::state::State;

/// Everything the page loads is from here, and it is in no other page. Styles may stand in it: a run's report brings its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page, and of what it asks.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(page))
        .route("/assets/app.js", get(script))
        .route("/assets/plot.js", get(plot))
        .route("/assets/style.css", get(style))
        .route("/api/server", get(served::server))
        .route("/api/models", get(served::models))
        .route("/api/runs", get(runs::all))
        .route("/api/runs/{run}", get(runs::one))
        .route("/api/runs/{run}/card", get(runs::card))
        .route("/api/runs/{run}/report", get(runs::report))
        .route("/api/runs/{run}/events", get(events::events))
        .route("/api/runs/{run}/pin", post(actions::pin))
        .route("/api/runs/{run}/unpin", post(actions::unpin))
        .route("/api/runs/{run}/stop", post(actions::stop))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    // The program may be another one tomorrow.
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

async fn page() -> Response {
    asset(
        "text/html; charset=utf-8",
        include_str!("../../assets/index.html"),
    )
}

async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("../../assets/app.js"),
    )
}

async fn plot() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("../../assets/plot.js"),
    )
}

async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("../../assets/style.css"),
    )
}
