//! Models by name.

mod lenet5;
mod resnet;
mod simple_cnn;

use crate::spec::{
    BatchNorm2d, Conv2d, InputSize, Layer, Linear, ModelSpec, Pair, Pool2d, SPEC_VERSION, Unnamed,
};

/// A model of the zoo.
#[derive(Clone, Copy, Debug)]
pub struct ZooEntry {
    /// The name `--model` takes.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    build: fn(&ZooOptions) -> Vec<Layer>,
}

/// What a zoo model is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZooOptions {
    /// Input channels.
    pub channels: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Number of classes.
    pub classes: usize,
}

impl ZooOptions {
    /// Options for images of `channels` x `height` x `width` and `classes` classes.
    pub fn new(channels: usize, height: usize, width: usize, classes: usize) -> Self {
        ZooOptions {
            channels,
            height,
            width,
            classes,
        }
    }
}

/// No model has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown model `{name}`; this build has {}", known.join(", "))]
#[non_exhaustive]
pub struct UnknownModel {
    /// The name asked for.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

const ENTRIES: &[ZooEntry] = &[
    ZooEntry {
        name: "simple-cnn",
        summary: "two 3x3 convolutions with batch norm and pooling, two linear layers; small images",
        build: simple_cnn::layers,
    },
    ZooEntry {
        name: "lenet5",
        summary: "LeNet-5 (LeCun et al. 1998) with ReLU and max pooling; small images",
        build: lenet5::layers,
    },
    ZooEntry {
        name: "resnet18",
        summary: "ResNet-18 (He et al. 2015), torchvision's names; CIFAR stem up to 64 pixels",
        build: resnet::resnet18,
    },
    ZooEntry {
        name: "resnet18-cifar",
        summary: "ResNet-18 with the CIFAR stem (3x3, no pooling) at any size",
        build: resnet::resnet18_cifar,
    },
    ZooEntry {
        name: "resnet18-imagenet",
        summary: "ResNet-18 with the ImageNet stem (7x7 stride 2, max pooling) at any size",
        build: resnet::resnet18_imagenet,
    },
];

/// All models, in the order they are listed.
pub fn list() -> &'static [ZooEntry] {
    ENTRIES
}

/// The spec of the model called `name`, for the given input and classes.
///
/// # Errors
/// [`UnknownModel`] with the names there are.
pub fn spec(name: &str, options: &ZooOptions) -> Result<ModelSpec, UnknownModel> {
    let entry = ENTRIES
        .iter()
        .find(|e| e.name == name)
        .ok_or_else(|| UnknownModel {
            name: name.to_owned(),
            known: ENTRIES.iter().map(|e| e.name).collect(),
        })?;
    Ok(ModelSpec {
        version: SPEC_VERSION,
        name: name.to_owned(),
        input: InputSize {
            channels: options.channels,
            height: options.height,
            width: options.width,
        },
        classes: options.classes,
        layers: (entry.build)(options),
    })
}

fn conv(name: &str, out: usize, kernel: usize, stride: usize, padding: usize) -> Conv2d {
    Conv2d {
        name: Some(name.to_owned()),
        out,
        kernel: kernel.into(),
        stride: stride.into(),
        padding: padding.into(),
        dilation: 1.into(),
        groups: 1,
        bias: true,
        init: Default::default(),
        zero_bias: false,
    }
}

fn batch_norm(name: &str) -> Layer {
    Layer::BatchNorm2d(BatchNorm2d {
        name: Some(name.to_owned()),
        eps: 1e-5,
        momentum: 0.1,
    })
}

fn relu() -> Layer {
    Layer::Relu(Unnamed::default())
}

fn max_pool(kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::MaxPool2d(Pool2d {
        name: None,
        kernel: kernel.into(),
        stride: (stride != kernel).then_some(Pair::from(stride)),
        padding: padding.into(),
    })
}

fn flatten() -> Layer {
    Layer::Flatten(Unnamed::default())
}

fn linear(name: &str, out: usize) -> Layer {
    Layer::Linear(Linear {
        name: Some(name.to_owned()),
        out,
        bias: true,
        per_pixel: false,
        init: Default::default(),
        zero_bias: false,
    })
}
