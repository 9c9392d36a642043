//! Tests of the public interface.

mod engine;
mod gradients;
mod schedules;
mod specs;
mod training;
