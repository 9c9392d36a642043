//! ResNet-18 (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385), with
//! torchvision's parameter names and starting distributions.

use super::{ZooOptions, batch_norm, conv, flatten, linear, max_pool, relu};
use crate::spec::{Init, Layer, Residual, Sequential, Unnamed};

/// Images up to this many pixels a side get the CIFAR stem: the ImageNet stem divides them by four at once.
const CIFAR_STEM_UP_TO: usize = 64;

pub(super) fn resnet18(options: &ZooOptions) -> Vec<Layer> {
    if options.height.max(options.width) <= CIFAR_STEM_UP_TO {
        resnet18_cifar(options)
    } else {
        resnet18_imagenet(options)
    }
}

pub(super) fn resnet18_cifar(options: &ZooOptions) -> Vec<Layer> {
    let stem = vec![
        conv_no_bias("conv1", 64, 3, 1, 1),
        batch_norm("bn1"),
        relu(),
    ];
    basic_resnet(stem, [2, 2, 2, 2], options.classes)
}

pub(super) fn resnet18_imagenet(options: &ZooOptions) -> Vec<Layer> {
    let stem = vec![
        conv_no_bias("conv1", 64, 7, 2, 3),
        batch_norm("bn1"),
        relu(),
        max_pool(3, 2, 1),
    ];
    basic_resnet(stem, [2, 2, 2, 2], options.classes)
}

fn basic_resnet(stem: Vec<Layer>, blocks: [usize; 4], classes: usize) -> Vec<Layer> {
    let mut layers = stem;
    let mut in_channels = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let channels = 64 << stage;
        let mut stage_layers = Vec::new();
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            // The block's parameters are `layerN.B.*`; the ReLU after the sum has none, so it sits beside it.
            stage_layers.push(basic_block(block, channels, stride, in_channels));
            stage_layers.push(relu());
            in_channels = channels;
        }
        layers.push(Layer::Sequential(Sequential {
            name: Some(format!("layer{}", stage + 1)),
            layers: stage_layers,
        }));
    }
    layers.extend([
        Layer::GlobalAvgPool2d(Unnamed::default()),
        flatten(),
        linear("fc", classes),
    ]);
    layers
}

fn basic_block(block: usize, channels: usize, stride: usize, in_channels: usize) -> Layer {
    let shortcut = if stride != 1 || in_channels != channels {
        vec![Layer::Sequential(Sequential {
            name: Some("downsample".to_owned()),
            layers: vec![conv_no_bias("0", channels, 1, stride, 0), batch_norm("1")],
        })]
    } else {
        vec![]
    };
    Layer::Residual(Residual {
        name: Some(block.to_string()),
        body: vec![
            conv_no_bias("conv1", channels, 3, stride, 1),
            batch_norm("bn1"),
            relu(),
            conv_no_bias("conv2", channels, 3, 1, 1),
            batch_norm("bn2"),
        ],
        shortcut,
    })
}

fn conv_no_bias(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> Layer {
    let mut layer = conv(name, out, kernel, stride, padding);
    layer.bias = false;
    layer.init = Init::KaimingNormalFanOut;
    Layer::Conv2d(layer)
}
