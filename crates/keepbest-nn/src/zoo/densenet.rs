//! DenseNet-121 (Huang et al., "Densely Connected Convolutional Networks", arXiv 1608.06993), with torchvision's parameter
//! names and starting distributions.

use super::ZooOptions;
use super::build::{
    batch_norm, block, conv, flatten, global_avg_pool, linear_from, max_pool, relu,
};
use crate::spec::{AvgPool2d, Branch, Conv2d, Init, Layer, Repeat};

/// Channels each layer adds.
const GROWTH: usize = 32;

pub(super) fn densenet121(options: &ZooOptions) -> Vec<Layer> {
    let mut features = vec![
        convolution("conv0", 64, 7, 2, 3),
        batch_norm("norm0"),
        relu(),
        max_pool(3, 2, 1),
    ];
    let mut channels = 64;
    let counts = [6, 12, 24, 16];
    for (stage, count) in counts.into_iter().enumerate() {
        let number = stage + 1;
        let layer = vec![
            batch_norm("norm1"),
            relu(),
            convolution("conv1", 4 * GROWTH, 1, 1, 0),
            batch_norm("norm2"),
            relu(),
            convolution("conv2", GROWTH, 3, 1, 1),
        ];
        let dense = Layer::Repeat(Repeat {
            name: Some("denselayer{}".to_owned()),
            times: count,
            first: 1,
            layers: vec![Layer::Branch(Branch {
                name: Some(String::new()),
                branches: vec![vec![], layer],
            })],
        });
        features.push(block(&format!("denseblock{number}"), vec![dense]));
        channels += count * GROWTH;
        if number < counts.len() {
            channels /= 2;
            let transition = vec![
                batch_norm("norm"),
                relu(),
                convolution("conv", channels, 1, 1, 0),
                Layer::AvgPool2d(AvgPool2d {
                    name: None,
                    kernel: 2.into(),
                    stride: None,
                    padding: 0.into(),
                    dilation: 1.into(),
                    ceil_mode: false,
                    count_include_pad: true,
                }),
            ];
            features.push(block(&format!("transition{number}"), transition));
        }
    }
    features.extend([batch_norm("norm5"), relu()]);
    let head = linear_from("classifier", options.classes, Init::Default, true);
    vec![
        block("features", features),
        global_avg_pool(),
        flatten(),
        Layer::Linear(head),
    ]
}

fn convolution(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::Conv2d(Conv2d {
        bias: false,
        init: Init::KaimingNormalFanIn,
        ..conv(name, out, kernel, stride, padding)
    })
}
