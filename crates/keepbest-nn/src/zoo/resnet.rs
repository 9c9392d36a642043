//! ResNets (He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385), with torchvision's parameter names
//! and starting distributions.

use super::ZooOptions;
use super::build::{
    batch_norm, block, conv_no_bias, flatten, global_avg_pool, linear, max_pool, relu,
};
use crate::spec::{Layer, Repeat, Residual};

/// Images up to this many pixels a side get the CIFAR stem: the ImageNet stem divides them by four at once.
const CIFAR_STEM_UP_TO: usize = 64;

/// The beginning of the network.
#[derive(Clone, Copy)]
enum Stem {
    /// One 3x3 convolution.
    Cifar,
    /// A 7x7 convolution of stride 2 and a max pooling.
    Imagenet,
    /// What suits the image's size.
    BySize,
}

/// What a network is made of.
struct Kind {
    blocks: [usize; 4],
    bottleneck: bool,
}

const RESNET18: Kind = Kind {
    blocks: [2, 2, 2, 2],
    bottleneck: false,
};
const RESNET34: Kind = Kind {
    blocks: [3, 4, 6, 3],
    bottleneck: false,
};
const RESNET50: Kind = Kind {
    blocks: [3, 4, 6, 3],
    bottleneck: true,
};

pub(super) fn resnet18(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET18, Stem::BySize, options)
}

pub(super) fn resnet18_cifar(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET18, Stem::Cifar, options)
}

pub(super) fn resnet18_imagenet(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET18, Stem::Imagenet, options)
}

pub(super) fn resnet34(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET34, Stem::BySize, options)
}

pub(super) fn resnet34_cifar(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET34, Stem::Cifar, options)
}

pub(super) fn resnet34_imagenet(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET34, Stem::Imagenet, options)
}

pub(super) fn resnet50(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET50, Stem::BySize, options)
}

pub(super) fn resnet50_cifar(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET50, Stem::Cifar, options)
}

pub(super) fn resnet50_imagenet(options: &ZooOptions) -> Vec<Layer> {
    layers(&RESNET50, Stem::Imagenet, options)
}

fn layers(kind: &Kind, stem: Stem, options: &ZooOptions) -> Vec<Layer> {
    let small = match stem {
        Stem::Cifar => true,
        Stem::Imagenet => false,
        Stem::BySize => options.height.max(options.width) <= CIFAR_STEM_UP_TO,
    };
    let (kernel, stride) = if small { (3, 1) } else { (7, 2) };
    let mut layers = vec![
        conv_no_bias("conv1", 64, kernel, stride, kernel / 2),
        batch_norm("bn1"),
        relu(),
    ];
    if !small {
        layers.push(max_pool(3, 2, 1));
    }
    let mut in_channels = 64;
    for (stage, count) in kind.blocks.into_iter().enumerate() {
        let width = 64 << stage;
        let out = if kind.bottleneck { 4 * width } else { width };
        let stride = if stage > 0 { 2 } else { 1 };
        let name = format!("layer{}", stage + 1);
        // A first block like the others is one of them.
        let alike = stride == 1 && in_channels == out;
        let mut stage = vec![];
        if !alike {
            let body = body(kind, width, out, stride);
            let shortcut = vec![block(
                "downsample",
                vec![conv_no_bias("0", out, 1, stride, 0), batch_norm("1")],
            )];
            // The block's parameters are `layerN.B.*`; the ReLU after the sum has none, so it sits beside it.
            stage.push(with_sum("0", body, shortcut));
            stage.push(relu());
        }
        let first = usize::from(!alike);
        stage.push(Layer::Repeat(Repeat {
            name: None,
            times: count - first,
            first,
            layers: vec![with_sum("", body(kind, width, out, 1), vec![]), relu()],
        }));
        layers.push(block(&name, stage));
        in_channels = out;
    }
    layers.extend([global_avg_pool(), flatten(), linear("fc", options.classes)]);
    layers
}

fn with_sum(name: &str, body: Vec<Layer>, shortcut: Vec<Layer>) -> Layer {
    Layer::Residual(Residual {
        name: Some(name.to_owned()),
        body,
        shortcut,
    })
}

fn body(kind: &Kind, width: usize, out: usize, stride: usize) -> Vec<Layer> {
    if kind.bottleneck {
        // The stride is in the 3x3 convolution, as torchvision has it.
        vec![
            conv_no_bias("conv1", width, 1, 1, 0),
            batch_norm("bn1"),
            relu(),
            conv_no_bias("conv2", width, 3, stride, 1),
            batch_norm("bn2"),
            relu(),
            conv_no_bias("conv3", out, 1, 1, 0),
            batch_norm("bn3"),
        ]
    } else {
        vec![
            conv_no_bias("conv1", out, 3, stride, 1),
            batch_norm("bn1"),
            relu(),
            conv_no_bias("conv2", out, 3, 1, 1),
            batch_norm("bn2"),
        ]
    }
}
