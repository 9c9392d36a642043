//! Kernels against plain `f64` loops, and bit for bit across instruction sets and thread counts.

mod conv;
mod elementwise;
mod losses;
mod modern;
mod normalisation;
mod optimizers;
mod pooling;
mod support;
