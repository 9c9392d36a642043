//! Tests of the public interface.

mod allocations;
mod bits;
mod engine;
mod gradients;
mod onnx;
mod precision;
mod schedules;
mod specs;
mod training;
mod tuning;
mod zoo;
