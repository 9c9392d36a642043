//! A small network for small images: the default of `keepbest train`.

use super::ZooOptions;
use super::build::{batch_norm, conv, flatten, linear, max_pool, relu};
use crate::spec::Layer;

pub(super) fn layers(options: &ZooOptions) -> Vec<Layer> {
    vec![
        Layer::Conv2d(conv("conv1", 32, 3, 1, 1)),
        batch_norm("bn1"),
        relu(),
        max_pool(2, 2, 0),
        Layer::Conv2d(conv("conv2", 64, 3, 1, 1)),
        batch_norm("bn2"),
        relu(),
        max_pool(2, 2, 0),
        flatten(),
        linear("fc1", 128),
        relu(),
        linear("fc2", options.classes),
    ]
}
