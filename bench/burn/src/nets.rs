//! The networks of the benchmarks, layer by layer those of keepbest's zoo.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Images to scores of 10 classes.
pub trait Net: Module {
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;
}

fn conv(
    [from, to]: [usize; 2],
    kernel: usize,
    stride: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    let border = kernel / 2;
    Conv2dConfig::new([from, to], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(border, border, border, border))
        .with_bias(bias)
        .init(device)
}

#[derive(Module, Debug)]
pub struct SimpleCnn {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    pool: MaxPool2d,
    fc1: Linear,
    fc2: Linear,
}

impl SimpleCnn {
    pub fn new(device: &Device) -> Self {
        Self {
            conv1: conv([1, 32], 3, 1, true, device),
            bn1: BatchNormConfig::new(32).init(device),
            conv2: conv([32, 64], 3, 1, true, device),
            bn2: BatchNormConfig::new(64).init(device),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            fc1: LinearConfig::new(64 * 7 * 7, 128).init(device),
            fc2: LinearConfig::new(128, 10).init(device),
        }
    }
}

impl Net for SimpleCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.bn1.forward(self.conv1.forward(images));
        let x = self.pool.forward(relu(x));
        let x = self.bn2.forward(self.conv2.forward(x));
        let x: Tensor<2> = self.pool.forward(relu(x)).flatten(1, 3);
        self.fc2.forward(relu(self.fc1.forward(x)))
    }
}

#[derive(Module, Debug)]
pub struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    shortcut: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, device: &Device) -> Self {
        let shortcut = (from != to).then(|| {
            let matching = conv([from, to], 1, stride, false, device);
            (matching, BatchNormConfig::new(to).init(device))
        });
        Self {
            conv1: conv([from, to], 3, stride, false, device),
            bn1: BatchNormConfig::new(to).init(device),
            conv2: conv([to, to], 3, 1, false, device),
            bn2: BatchNormConfig::new(to).init(device),
            shortcut,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.bn1.forward(self.conv1.forward(x.clone())));
        let y = self.bn2.forward(self.conv2.forward(y));
        let x = match &self.shortcut {
            Some((matching, bn)) => bn.forward(matching.forward(x)),
            None => x,
        };
        relu(y + x)
    }
}

/// With the CIFAR stem.
#[derive(Module, Debug)]
pub struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    fc: Linear,
}

impl ResNet18 {
    pub fn new(device: &Device) -> Self {
        let mut blocks = Vec::new();
        let mut from = 64;
        for (to, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            blocks.push(Block::new(from, to, stride, device));
            blocks.push(Block::new(to, to, 1, device));
            from = to;
        }
        Self {
            conv1: conv([3, 64], 3, 1, false, device),
            bn1: BatchNormConfig::new(64).init(device),
            blocks,
            fc: LinearConfig::new(512, 10).init(device),
        }
    }
}

impl Net for ResNet18 {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn1.forward(self.conv1.forward(images)));
        for block in &self.blocks {
            x = block.forward(x);
        }
        // The mean over each channel's pixels.
        let x: Tensor<2> = x.mean_dims(&[2, 3]).flatten(1, 3);
        self.fc.forward(x)
    }
}
