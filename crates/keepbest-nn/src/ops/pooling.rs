//! What poolings over a window have in common.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{ints, pads};
use super::operation::{Operation, Work};
use crate::spec::values::Pair;
use keepbest_formats::onnx::Attribute;
use keepbest_kernels::{ActShape, PoolShape};

/// A window as it is written in a spec: size, step (the size when absent) and padding.
pub(super) type Window = (Pair, Option<Pair>, Pair);

/// Adds a pooling to the network; `op` makes it from its shape.
pub(super) fn lower<T: Operation>(
    lowering: &mut Lowering,
    place: &Place,
    (kernel, stride, padding): Window,
    x: Current,
    op: impl FnOnce(PoolShape) -> T,
) -> Result<Current, LayerError> {
    let shape = PoolShape {
        input: lowering.map(place, x)?,
        kernel: kernel.0,
        stride: stride.unwrap_or(kernel).0,
        padding: padding.0,
        dilation: [1, 1],
    };
    let out = shape.output().map_err(|e| place.error(e.to_string()))?;
    Ok(lowering.node(place, op(shape), x.value, out, false))
}

/// Name and work of a pooling.
pub(super) fn work(op: &str, pool: &PoolShape, output: ActShape) -> Work {
    let [kh, kw] = pool.kernel;
    let flops = (kh * kw) as u64 * output.values() as u64;
    Work::new(format!("{op} {kh}x{kw}"), flops)
}

/// ONNX's attributes of a pooling.
pub(super) fn attributes(pool: &PoolShape) -> Vec<(&'static str, Attribute)> {
    vec![
        ("kernel_shape", ints(&pool.kernel)),
        ("strides", ints(&pool.stride)),
        ("pads", pads(pool.padding)),
    ]
}
