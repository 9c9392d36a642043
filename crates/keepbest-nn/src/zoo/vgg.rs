//! VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks", arXiv 1409.1556) with batch norm, with torchvision's
//! parameter names and starting distributions.

use super::ZooOptions;
use super::build::{batch_norm, block, conv, dropout, flatten, head, max_pool, relu};
use crate::spec::{AdaptiveAvgPool2d, Conv2d, Init, Layer};

pub(super) fn vgg11_bn(options: &ZooOptions) -> Vec<Layer> {
    layers([1, 1, 2, 2, 2], options)
}

pub(super) fn vgg16_bn(options: &ZooOptions) -> Vec<Layer> {
    layers([2, 2, 3, 3, 3], options)
}

/// `convolutions` says how many there are before each pooling.
fn layers(convolutions: [usize; 5], options: &ZooOptions) -> Vec<Layer> {
    let mut features = vec![];
    for (stage, count) in convolutions.into_iter().enumerate() {
        for _ in 0..count {
            // Layers are called by their places.
            let at = features.len();
            features.push(Layer::Conv2d(Conv2d {
                init: Init::KaimingNormalFanOut,
                zero_bias: true,
                ..conv(&at.to_string(), (64 << stage).min(512), 3, 1, 1)
            }));
            features.push(batch_norm(&(at + 1).to_string()));
            features.push(relu());
        }
        features.push(max_pool(2, 2, 0));
    }
    let classifier = vec![
        head("0", 4096),
        relu(),
        dropout(0.5),
        head("3", 4096),
        relu(),
        dropout(0.5),
        head("6", options.classes),
    ];
    vec![
        block("features", features),
        Layer::AdaptiveAvgPool2d(AdaptiveAvgPool2d {
            name: None,
            size: 7.into(),
        }),
        flatten(),
        block("classifier", classifier),
    ]
}
