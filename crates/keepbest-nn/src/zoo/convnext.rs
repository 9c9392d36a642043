//! ConvNeXt-T (Liu et al., "A ConvNet for the 2020s", arXiv 2201.03545), with torchvision's parameter names and starting
//! distributions.

use super::ZooOptions;
use super::build::{
    block, conv, flatten, global_avg_pool, layer_norm, linear_from, residual, stochastic_depth,
};
use crate::spec::{Conv2d, Gelu, Init, Layer, LayerScale, Linear};

/// Rate of stochastic depth at the last block; it grows from 0 with the blocks before.
const DEPTH_RATE: f64 = 0.1;

/// torchvision cuts this normal distribution at 100 deviations, which cuts nothing.
const INIT: Init = Init::Normal(0.02);

pub(super) fn tiny(options: &ZooOptions) -> Vec<Layer> {
    let stages = [(96, 3), (192, 3), (384, 9), (768, 3)];
    let blocks: usize = stages.iter().map(|(_, count)| count).sum();
    let mut number = 0;
    let mut features = vec![block("0", vec![convolution("0", 96, 4), layer_norm("1")])];
    for (stage, (channels, count)) in stages.into_iter().enumerate() {
        if stage > 0 {
            let downsample = vec![layer_norm("0"), convolution("1", channels, 2)];
            features.push(block(&features.len().to_string(), downsample));
        }
        let mut layers = vec![];
        for position in 0..count {
            let rate = DEPTH_RATE * number as f64 / (blocks as f64 - 1.0);
            layers.push(cn_block(position, channels, rate));
            number += 1;
        }
        features.push(block(&features.len().to_string(), layers));
    }
    let head = Layer::Linear(linear_from("2", options.classes, INIT, true));
    vec![
        block("features", features),
        global_avg_pool(),
        block("classifier", vec![layer_norm("0"), flatten(), head]),
    ]
}

/// A convolution that divides the map into patches.
fn convolution(name: &str, out: usize, patch: usize) -> Layer {
    Layer::Conv2d(Conv2d {
        init: INIT,
        zero_bias: true,
        ..conv(name, out, patch, patch, 0)
    })
}

fn cn_block(position: usize, channels: usize, rate: f64) -> Layer {
    let per_pixel = |name, out| {
        Layer::Linear(Linear {
            per_pixel: true,
            ..linear_from(name, out, INIT, true)
        })
    };
    let depthwise = Layer::Conv2d(Conv2d {
        groups: channels,
        init: INIT,
        zero_bias: true,
        ..conv("0", channels, 7, 1, 3)
    });
    // Numbers 1 and 6 are torchvision's changes of layout.
    let layers = vec![
        depthwise,
        layer_norm("2"),
        per_pixel("3", 4 * channels),
        Layer::Gelu(Gelu::default()),
        per_pixel("5", channels),
    ];
    let scale = Layer::LayerScale(LayerScale {
        name: Some("layer_scale".to_owned()),
        init: 1e-6,
        flat: false,
        scalar: false,
    });
    residual(
        &position.to_string(),
        vec![block("block", layers), scale, stochastic_depth(rate)],
    )
}
