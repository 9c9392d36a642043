//! Two small networks of our own, for images of any size: what the recipes train (docs/benchmarks.md has what they reach on
//! Fashion-MNIST, and beside what they were picked).

use super::ZooOptions;
use super::build::{batch_norm, block, conv_no_bias, flatten, linear, max_pool, relu};
use crate::spec::{AdaptiveAvgPool2d, Layer, Pair};

/// Larger images are halved until they are not twice this many pixels a side.
const SIDE: usize = 28;
/// Pixels a side before the hidden layer, at most: images of other sizes fit the same weights.
const LEFT: usize = 7;

pub(super) fn fast(options: &ZooOptions) -> Vec<Layer> {
    layers([(24, 1), (48, 1), (64, 1)], options)
}

pub(super) fn default(options: &ZooOptions) -> Vec<Layer> {
    layers([(32, 2), (64, 2), (128, 1)], options)
}

/// Three stages, each at half the size of the one before, of so many convolutions to so many channels; then a hidden linear layer
/// over what is left of the image, which keeps where things are, as the mean of each channel would not.
fn layers(stages: [(usize, usize); 3], options: &ZooOptions) -> Vec<Layer> {
    let mut layers = stem(options, stages[0].0);
    for (at, (channels, convolutions)) in stages.into_iter().enumerate() {
        if at > 0 {
            layers.push(max_pool(2, 2, 0));
        }
        let stage = (0..convolutions).map(|at| convolution(&at.to_string(), channels, 1));
        layers.push(block(&format!("layer{}", at + 1), stage.collect()));
    }
    // Images smaller than the usual come to less, and stay as they are.
    let left = |pixels: usize| (0..halvings(options)).fold(pixels, |n, _| n.div_ceil(2)) / 4;
    let (height, width) = (left(options.height), left(options.width));
    if height > LEFT || width > LEFT {
        layers.push(Layer::AdaptiveAvgPool2d(AdaptiveAvgPool2d {
            name: None,
            size: Pair([height.min(LEFT), width.min(LEFT)]),
        }));
    }
    layers.extend([
        flatten(),
        linear("hidden", 128),
        relu(),
        linear("fc", options.classes),
    ]);
    layers
}

fn halvings(options: &ZooOptions) -> u32 {
    (options.height.min(options.width) / SIDE).max(1).ilog2()
}

/// What brings a larger image to the size of a small one.
fn stem(options: &ZooOptions, channels: usize) -> Vec<Layer> {
    let stem = (0..halvings(options)).map(|at| convolution(&at.to_string(), channels, 2));
    let stem: Vec<Layer> = stem.collect();
    match stem.is_empty() {
        true => Vec::new(),
        false => vec![block("stem", stem)],
    }
}

/// A 3x3 convolution with batch norm and ReLU.
fn convolution(name: &str, channels: usize, stride: usize) -> Layer {
    block(
        name,
        vec![
            conv_no_bias("conv", channels, 3, stride, 1),
            batch_norm("bn"),
            relu(),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::network::Network;
    use crate::zoo::{ZooOptions, spec};

    #[test]
    fn images_of_any_size_come_to_a_few_pixels() {
        for (height, width, multiplications, pixels) in [
            (4, 4, 0.12e6, 1),
            (8, 8, 0.37e6, 4),
            (28, 28, 4.3e6, 49),
            (32, 32, 5.5e6, 49),
            (55, 55, 15e6, 49),
            (28, 120, 17e6, 49),
            (224, 224, 36e6, 49),
        ] {
            let options = ZooOptions::new(3, height, width, 5);
            let network = Network::new(&spec("fast", &options).unwrap()).unwrap();
            let flops: u64 = network.summary().iter().map(|l| l.flops).sum();
            let found = flops as f64 / 2.0;
            assert!(
                (0.5..1.5).contains(&(found / multiplications)),
                "{height}x{width}: {found}"
            );
            let mut tensors = network.layout().tensors().iter();
            let hidden = tensors
                .find(|tensor| tensor.name == "hidden.weight")
                .unwrap();
            assert_eq!(hidden.shape, [128, 64 * pixels], "{height}x{width}");
        }
    }
}
