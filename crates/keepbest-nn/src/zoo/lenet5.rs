//! LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998), with ReLU and
//! max pooling as it is commonly trained today.

use super::ZooOptions;
use super::build::{conv, flatten, linear, max_pool, relu};
use crate::spec::Layer;

pub(super) fn layers(options: &ZooOptions) -> Vec<Layer> {
    vec![
        Layer::Conv2d(conv("conv1", 6, 5, 1, 2)),
        relu(),
        max_pool(2, 2, 0),
        Layer::Conv2d(conv("conv2", 16, 5, 1, 0)),
        relu(),
        max_pool(2, 2, 0),
        flatten(),
        linear("fc1", 120),
        relu(),
        linear("fc2", 84),
        relu(),
        linear("fc3", options.classes),
    ]
}
