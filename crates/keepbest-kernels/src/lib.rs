//! SIMD compute kernels with run-time dispatch, and the thread pool they run on.
//!
//! Everything is `f32`, channels-last, and **bit-identical** for every thread count and every instruction set: each output
//! element adds its products with fused multiply-add in one order that depends on shapes alone, and reductions run over
//! chunks whose size depends on shapes alone. All `unsafe` compute code of the project lives in this crate, behind functions
//! that check the length of every slice they are given.
//!
//! # Layout
//!
//! Activations are `[n][h][w][c]` with images [`ActShape::image_stride`] floats apart; the few floats between the end of an
//! image and the start of the next hold nothing and may be overwritten. Weights are PyTorch's `[out][in/groups][kh][kw]`.
//!
//! # Panics
//!
//! A slice shorter than its shape requires is a mistake of the caller, and every kernel panics on it before it touches
//! memory. Shapes that come from outside are checked where they enter, by the constructors that return [`ShapeError`].

#![allow(
    unsafe_code,
    reason = "kernels for instruction sets that the processor has at run time, on memory that threads share out"
)]

#[macro_use]
mod isa;
#[macro_use]
mod simd;
mod buffer;
mod chunks;
mod context;
mod disjoint;
mod gemm;
mod peak;
mod per_image;
mod pool;
mod precision;
mod shape;
mod standardize;

pub mod activation;
pub mod add;
pub mod arithmetic;
pub mod avg_pool;
pub mod batch_norm;
mod bilinear;
pub mod blur_pool;
pub mod channel_conv;
pub mod channel_pool;
pub mod concat;
mod conv;
pub mod dropout;
pub mod flatten;
pub mod gate;
mod gather;
pub mod global_max_pool;
pub mod global_response_norm;
pub mod group_norm;
pub mod layer_norm;
pub mod local_response_norm;
pub mod loss;
pub mod max_pool;
pub mod optim;
pub mod pointwise;
pub mod prelu;
pub mod random;
pub mod reduce;
pub mod relu;
pub mod rms_norm;
pub mod softmax;

pub use arithmetic::Arithmetic;
pub use avg_pool::{adaptive as adaptive_avg_pool, global as global_avg_pool};
pub use bilinear::{Bilinear, Blend};
pub use blur_pool::{BlurPool, Border};
pub use buffer::Buffer;
pub use channel_pool::ChannelPool;
pub use context::Context;
pub use conv::{ConvPlan, ConvShape, Epilogue};
pub use gather::Gather;
pub use isa::{Isa, IsaError};
pub use local_response_norm::ResponseNorm;
pub use peak::Peak;
pub use pointwise::Pointwise;
pub use pool::Pool;
pub use precision::Precision;
pub use shape::{ActShape, Padding, PoolShape, ShapeError};
pub use standardize::Standardize;
