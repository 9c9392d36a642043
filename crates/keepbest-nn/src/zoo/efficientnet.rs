//! EfficientNet-B0 (Tan and Le, arXiv 1905.11946), with torchvision's parameter names and starting distributions.

use super::ZooOptions;
use super::build::{
    ConvNorm, block, dropout, flatten, global_avg_pool, linear_from, residual, squeeze_excite,
    stochastic_depth,
};
use crate::spec::{Init, Layer, Unnamed};

/// Rate of stochastic depth at the last block; it grows from 0 with the blocks before.
const DEPTH_RATE: f64 = 0.2;

fn silu() -> Layer {
    Layer::Silu(Unnamed::default())
}

pub(super) fn b0(options: &ZooOptions) -> Vec<Layer> {
    let conv = |out, kernel, stride, groups, function| ConvNorm {
        out,
        kernel,
        stride,
        groups,
        norm: (1e-5, 0.1),
        function,
    };
    let mut features = vec![conv(32, 3, 2, 1, Some(silu())).named("0")];
    let (mut channels, mut number) = (32, 0);
    // Expansion, kernel, stride of the first, output channels, blocks.
    let stages = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ];
    let blocks: usize = stages.iter().map(|stage| stage.4).sum();
    for (expansion, kernel, first_stride, out, count) in stages {
        let mut stage = vec![];
        for position in 0..count {
            let stride = if position == 0 { first_stride } else { 1 };
            let hidden = channels * expansion;
            let mut layers = vec![];
            let mut push = |layer: &dyn Fn(&str) -> Layer| {
                let name = layers.len().to_string();
                layers.push(layer(&name));
            };
            if expansion != 1 {
                push(&|name| conv(hidden, 1, 1, 1, Some(silu())).named(name));
            }
            push(&|name| conv(hidden, kernel, stride, hidden, Some(silu())).named(name));
            let squeezed = (channels / 4).max(1);
            let scale = || Layer::Sigmoid(Unnamed::default());
            push(&|name| squeeze_excite(name, hidden, squeezed, silu(), scale()));
            push(&|name| conv(out, 1, 1, 1, None).named(name));
            let inner = block("block", layers);
            let name = position.to_string();
            stage.push(if stride == 1 && channels == out {
                let rate = DEPTH_RATE * number as f64 / blocks as f64;
                residual(&name, vec![inner, stochastic_depth(rate)])
            } else {
                block(&name, vec![inner])
            });
            channels = out;
            number += 1;
        }
        features.push(block(&features.len().to_string(), stage));
    }
    features.push(conv(1280, 1, 1, 1, Some(silu())).named("8"));
    let bound = 1.0 / libm::sqrt(options.classes as f64);
    let classifier = Layer::Linear(linear_from(
        "1",
        options.classes,
        Init::Uniform(bound),
        true,
    ));
    vec![
        block("features", features),
        global_avg_pool(),
        flatten(),
        block("classifier", vec![dropout(0.2), classifier]),
    ]
}
