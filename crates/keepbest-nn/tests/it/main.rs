//! Tests of the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test panics where it fails, and measures by the standard library; some print figures"
)]

mod allocations;
mod average;
mod bits;
mod contract;
mod engine;
mod gradients;
mod graph;
mod onnx;
mod onnx_import;
mod precision;
mod profile;
mod schedules;
mod specs;
mod training;
mod tuning;
mod zoo;
