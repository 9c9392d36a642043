//! Two small residual networks of our own, for images of any size: what the recipes train (docs/benchmarks.md has what they
//! reach on Fashion-MNIST).

use super::ZooOptions;
use super::build::{
    batch_norm, block, conv_no_bias, flatten, global_avg_pool, linear, max_pool, relu, residual,
};
use crate::spec::Layer;

/// Larger images are halved until they are not twice this many pixels a side.
const SIDE: usize = 28;

pub(super) fn fast(options: &ZooOptions) -> Vec<Layer> {
    layers([(16, 0), (32, 1), (64, 1)], options)
}

pub(super) fn default(options: &ZooOptions) -> Vec<Layer> {
    layers([(16, 1), (48, 2), (96, 2)], options)
}

/// Three stages, each at half the size of the one before: a convolution to so many channels, then so many residual blocks of
/// two.
fn layers(stages: [(usize, usize); 3], options: &ZooOptions) -> Vec<Layer> {
    let first = stages[0].0;
    let halvings = (options.height.min(options.width) / SIDE).max(1).ilog2();
    let stem = (0..halvings).flat_map(|at| convolution(&at.to_string(), first, 2));
    let mut layers = Vec::new();
    if halvings > 0 {
        layers.push(block("stem", stem.collect()));
    }
    for (at, (channels, blocks)) in stages.into_iter().enumerate() {
        if at > 0 {
            layers.push(max_pool(2, 2, 0));
        }
        let mut stage = convolution("0", channels, 1);
        stage.extend((1..=blocks).map(|at| {
            let mut body = convolution("0", channels, 1);
            body.extend(convolution("1", channels, 1));
            residual(&at.to_string(), body)
        }));
        layers.push(block(&format!("layer{}", at + 1), stage));
    }
    layers.extend([global_avg_pool(), flatten(), linear("fc", options.classes)]);
    layers
}

/// A 3x3 convolution with batch norm and ReLU.
fn convolution(name: &str, channels: usize, stride: usize) -> Vec<Layer> {
    vec![block(
        name,
        vec![
            conv_no_bias("conv", channels, 3, stride, 1),
            batch_norm("bn"),
            relu(),
        ],
    )]
}

#[cfg(test)]
mod tests {
    use crate::network::Network;
    use crate::zoo::{ZooOptions, spec};

    #[test]
    fn images_of_any_size_come_to_a_few_pixels() {
        for (side, multiplications) in [
            (8, 0.6e6),
            (28, 9.5e6),
            (32, 12.5e6),
            (55, 37e6),
            (224, 35e6),
        ] {
            let spec = spec("fast", &ZooOptions::new(3, side, side, 5)).unwrap();
            let flops: u64 = Network::new(&spec)
                .unwrap()
                .summary()
                .iter()
                .map(|l| l.flops)
                .sum();
            let found = flops as f64 / 2.0;
            assert!(
                (0.5..1.5).contains(&(found / multiplications)),
                "{side}: {found}"
            );
        }
    }
}
