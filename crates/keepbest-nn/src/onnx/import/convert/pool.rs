//! Poolings.

use super::super::steps::{Step, padding, pair, step};
use super::super::view::{Order, Size, View};
use super::window::Window;
use super::{Call, Converter};

impl Converter<'_> {
    pub(super) fn max_pool(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (order, window, mut layer) = self.pool(call, "max_pool2d")?;
        if window.dilation != [1, 1] {
            layer = layer.set("dilation", pair(window.dilation));
        }
        Ok(self.sized(layer, order))
    }

    pub(super) fn average_pool(&mut self, call: &Call<'_>) -> Result<View, String> {
        let (order, window, mut layer) = self.pool(call, "avg_pool2d")?;
        if window.dilation != [1, 1] {
            return Err("a mean over a dilated window".to_owned());
        }
        let padded = window.padding != [0; 4];
        if padded && call.node.int("count_include_pad", 0)? == 0 {
            layer = layer.set("count_include_pad", false);
        }
        Ok(self.sized(layer, order))
    }

    fn pool(&mut self, call: &Call<'_>, op: &'static str) -> Result<(Order, Window, Step), String> {
        let (x, order) = self.map(call.view(0)?)?;
        let axes = if order == Order::Signal { 1 } else { 2 };
        if !call.node.has("kernel_shape") {
            return Err("its window is not said".to_owned());
        }
        let kernel = call.node.lengths("kernel_shape", axes, 1)?;
        let window = Window::of(&call.node, &kernel, x.size, order)?;
        let ceil = call.node.int("ceil_mode", 0)? != 0;
        let [rows, columns] = window.steps(x.size, ceil)?;
        let mut layer = step(op, vec![x.step], Size::new(x.size.channels, rows, columns))
            .set("kernel", pair(window.kernel))
            .set("stride", pair(window.stride))
            .set("padding", padding(window.padding));
        // Said only where it makes a difference.
        if ceil && window.steps(x.size, false)? != [rows, columns] {
            layer = layer.set("ceil_mode", true);
        }
        Ok((order, window, layer))
    }

    pub(super) fn global_pool(
        &mut self,
        call: &Call<'_>,
        op: &'static str,
    ) -> Result<View, String> {
        let (x, order) = self.map(call.view(0)?)?;
        let layer = step(op, vec![x.step], Size::new(x.size.channels, 1, 1));
        Ok(self.sized(layer, order))
    }
}
