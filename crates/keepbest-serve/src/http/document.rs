//! The document that says what can be asked, and how.

use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

/// Kept by hand; a test holds it against the routes.
pub(crate) const OPENAPI: &str = include_str!("../../assets/openapi.json");

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}
