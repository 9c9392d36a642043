//! Tests of the public interface.

mod allocations;
mod engine;
mod gradients;
mod onnx;
mod precision;
mod schedules;
mod specs;
mod training;
mod tuning;
mod zoo;
