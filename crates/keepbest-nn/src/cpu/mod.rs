//! The engine of the CPU.

mod backward;
mod context;
mod engine;
mod forward;
mod memory;
mod scorer;
mod update;

#[cfg(test)]
mod optimizer_tests;

pub use engine::CpuEngine;
pub use scorer::CpuScorer;
