//! Tests of the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and measures by the standard library"
)]

mod early_stopping;
mod histories;
mod sklearn;
mod statistics;
mod thresholds;
mod total_order;
