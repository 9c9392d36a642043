//! Kernels against plain `f64` loops, and bit for bit across instruction sets and thread counts.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test panics where it fails, and measures by the standard library; some print figures"
)]

mod arithmetic;
mod conv;
mod elementwise;
mod losses;
mod modern;
mod normalisation;
mod optimizers;
mod pooling;
mod support;
