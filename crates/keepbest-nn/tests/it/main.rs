//! Tests of the public interface.

mod engine;
mod gradients;
mod onnx;
mod schedules;
mod specs;
mod training;
