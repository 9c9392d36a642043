//! What poolings over a window have in common.

use super::lowering::{Current, LayerError, Lowering, Place};
use super::onnx::{ints, pads};
use super::operation::{Operation, Work};
use crate::spec::values::{Padding, Pair};
use keepbest_formats::onnx::Attribute;
use keepbest_kernels::{ActShape, PoolShape};

/// A window as it is written in a spec.
pub(super) struct Window {
    pub kernel: Pair,
    /// The kernel when absent.
    pub stride: Option<Pair>,
    pub padding: Padding,
    pub dilation: Pair,
    pub ceil_mode: bool,
}

/// Adds a pooling to the network; `op` makes it from its shape.
pub(super) fn lower<T: Operation>(
    lowering: &mut Lowering,
    place: &Place,
    window: Window,
    x: Current,
    op: impl FnOnce(PoolShape) -> T,
) -> Result<Current, LayerError> {
    let input = lowering.map(place, x)?;
    let Window {
        kernel, dilation, ..
    } = window;
    let stride = window.stride.unwrap_or(kernel).0;
    let shape = PoolShape {
        input,
        kernel: kernel.0,
        stride,
        padding: window.padding.around(input, kernel.0, stride, dilation.0),
        dilation: dilation.0,
        ceil_mode: window.ceil_mode,
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
    let mut attributes = vec![
        ("kernel_shape", ints(&pool.kernel)),
        ("strides", ints(&pool.stride)),
        ("pads", pads(pool.padding)),
    ];
    if pool.dilation != [1, 1] {
        attributes.push(("dilations", ints(&pool.dilation)));
    }
    if pool.ceil_mode {
        attributes.push(("ceil_mode", Attribute::Int(1)));
    }
    attributes
}
