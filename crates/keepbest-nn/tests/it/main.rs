//! Tests of the public interface.

mod allocations;
mod average;
mod bits;
mod contract;
mod engine;
mod gradients;
mod onnx;
mod precision;
mod profile;
mod schedules;
mod specs;
mod training;
mod tuning;
mod zoo;
