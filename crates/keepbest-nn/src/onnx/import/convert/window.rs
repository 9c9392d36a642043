//! Windows of convolutions and poolings.

use super::super::node::Node;
use super::super::view::{Order, Size};

/// A window over rows and columns; over a signal, of one row.
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, bottom, left, right.
    pub padding: [usize; 4],
}

/// Longest side of a window, stride or padding: what follows is computed without overflow.
const LONGEST: usize = 1 << 20;

impl Window {
    /// Reads a window of `kernel`, with its padding by the rule of `auto_pad` where there is one.
    pub(super) fn of(
        node: &Node<'_>,
        kernel: &[usize],
        size: Size,
        order: Order,
    ) -> Result<Self, String> {
        let axes = kernel.len();
        let expected = if order == Order::Signal { 1 } else { 2 };
        if axes != expected {
            return Err(format!("a window of {axes} axes over {expected}"));
        }
        let stride = node.lengths("strides", axes, 1)?;
        let dilation = node.lengths("dilations", axes, 1)?;
        let two = |values: &[usize]| match *values {
            [one] => [1, one],
            [a, b] => [a, b],
            _ => [1, 1],
        };
        let mut window = Window {
            kernel: two(kernel),
            stride: two(&stride),
            dilation: two(&dilation),
            padding: [0; 4],
        };
        let own = [window.kernel, window.stride, window.dilation];
        if own
            .iter()
            .flatten()
            .any(|&length| length == 0 || length > LONGEST)
        {
            return Err(format!(
                "a window of {kernel:?} with strides {stride:?} and dilations {dilation:?}"
            ));
        }
        let rule = node.text("auto_pad", "NOTSET")?;
        match rule {
            "NOTSET" => {
                let pads = node.lengths("pads", 2 * axes, 0)?;
                window.padding = match *pads {
                    [left, right] => [0, 0, left, right],
                    [top, left, bottom, right] => [top, bottom, left, right],
                    _ => [0; 4],
                };
            }
            "VALID" => {}
            "SAME_UPPER" | "SAME_LOWER" => {
                let sides = [size.rows, size.columns];
                for axis in 0..2 {
                    let out = sides[axis].div_ceil(window.stride[axis]);
                    let reach = (out - 1) * window.stride[axis] + window.reach(axis);
                    let total = reach.saturating_sub(sides[axis]);
                    let (less, more) = (total / 2, total - total / 2);
                    let both = if rule == "SAME_UPPER" {
                        [less, more]
                    } else {
                        [more, less]
                    };
                    window.padding[2 * axis..2 * axis + 2].copy_from_slice(&both);
                }
            }
            rule => return Err(format!("auto_pad {rule:?} is not known")),
        }
        match window.padding.iter().all(|&length| length <= LONGEST) {
            true => Ok(window),
            false => Err(format!("padding of {:?}", window.padding)),
        }
    }

    /// Rows or columns that the window reaches over.
    pub(super) fn reach(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Rows or columns of its steps over a map.
    pub(super) fn steps(&self, size: Size, ceil: bool) -> Result<[usize; 2], String> {
        let mut out = [0; 2];
        for (axis, side) in [size.rows, size.columns].into_iter().enumerate() {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            let padded = side + before + after;
            let Some(room) = padded.checked_sub(self.reach(axis)) else {
                return Err(format!(
                    "its window of {:?} is larger than the padded map",
                    self.kernel
                ));
            };
            let stride = self.stride[axis];
            out[axis] = match ceil {
                false => room / stride + 1,
                // A window that would begin in the padding at the end is left out.
                true => {
                    let most = room.div_ceil(stride) + 1;
                    if (most - 1) * stride >= side + before {
                        most - 1
                    } else {
                        most
                    }
                }
            };
        }
        Ok(out)
    }
}
