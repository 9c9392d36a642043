//! The operations that networks are made of, one file each: the layer's settings, its shape and parameters, its place in the
//! plan, forward and backward passes, inference, ONNX and summary. A new one gets its file here and a row in
//! [`Layer`](crate::Layer).

pub(crate) mod activations;
pub(crate) mod adaptive_avg_pool;
pub(crate) mod add;
mod arithmetic;
pub(crate) mod avg_pool;
pub(crate) mod batch_norm;
pub(crate) mod blocks;
pub(crate) mod blur_pool;
pub(crate) mod channel_conv1d;
pub(crate) mod channel_pool;
pub(crate) mod concat;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
mod copy;
pub(crate) mod dropout;
pub(crate) mod flatten;
pub(crate) mod gate;
pub(crate) mod gather;
pub(crate) mod global_avg_pool;
pub(crate) mod global_max_pool;
pub(crate) mod global_response_norm;
pub(crate) mod group_norm;
pub(crate) mod layer_norm;
pub(crate) mod layer_scale;
pub(crate) mod local_response_norm;
pub(crate) mod lowering;
pub(crate) mod max_pool;
pub(crate) mod norm_affine;
pub(crate) mod onnx;
pub(crate) mod operation;
pub(crate) mod pointwise;
mod pooling;
pub(crate) mod prelu;
pub(crate) mod relu;
pub(crate) mod rms_norm;
mod scale;
pub(crate) mod scale2d;
pub(crate) mod softmax;
pub(crate) mod standardize;
pub(crate) mod unflatten;
pub(crate) mod upsample;
