//! Models by name.

mod build;
mod compact;
mod convnext;
mod densenet;
mod efficientnet;
mod lenet5;
mod mobilenet;
mod resnet;
mod simple_cnn;
mod vgg;

use crate::spec::{InputSize, Layer, ModelSpec};

/// A model of the zoo.
#[derive(Clone, Copy, Debug)]
pub struct ZooEntry {
    /// The name `--model` takes.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: &'static str,
    /// The input it is usually trained on: channels, rows and columns.
    pub usual_input: [usize; 3],
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

const GREY: [usize; 3] = [1, 28, 28];
const SMALL: [usize; 3] = [3, 32, 32];
const LARGE: [usize; 3] = [3, 224, 224];

const ENTRIES: &[ZooEntry] = &[
    ZooEntry {
        name: "simple-cnn",
        summary: "two 3x3 convolutions with batch norm and pooling, two linear layers; small images",
        usual_input: GREY,
        build: simple_cnn::layers,
    },
    ZooEntry {
        name: "fast",
        summary: "three convolutions and a hidden linear layer, any size; what `--recipe quick` trains",
        usual_input: GREY,
        build: compact::fast,
    },
    ZooEntry {
        name: "default",
        summary: "the same, wider and with five convolutions; what `--recipe strong` trains",
        usual_input: GREY,
        build: compact::default,
    },
    ZooEntry {
        name: "lenet5",
        summary: "LeNet-5 (LeCun et al. 1998) with ReLU and max pooling; small images",
        usual_input: GREY,
        build: lenet5::layers,
    },
    ZooEntry {
        name: "resnet18",
        summary: "ResNet-18 (He et al. 2015), torchvision's names; CIFAR stem up to 64 pixels",
        usual_input: SMALL,
        build: resnet::resnet18,
    },
    ZooEntry {
        name: "resnet18-cifar",
        summary: "ResNet-18 with the CIFAR stem (3x3, no pooling) at any size",
        usual_input: SMALL,
        build: resnet::resnet18_cifar,
    },
    ZooEntry {
        name: "resnet18-imagenet",
        summary: "ResNet-18 with the ImageNet stem (7x7 stride 2, max pooling) at any size",
        usual_input: LARGE,
        build: resnet::resnet18_imagenet,
    },
    ZooEntry {
        name: "resnet34",
        summary: "ResNet-34, torchvision's names; CIFAR stem up to 64 pixels",
        usual_input: SMALL,
        build: resnet::resnet34,
    },
    ZooEntry {
        name: "resnet34-cifar",
        summary: "ResNet-34 with the CIFAR stem at any size",
        usual_input: SMALL,
        build: resnet::resnet34_cifar,
    },
    ZooEntry {
        name: "resnet34-imagenet",
        summary: "ResNet-34 with the ImageNet stem at any size",
        usual_input: LARGE,
        build: resnet::resnet34_imagenet,
    },
    ZooEntry {
        name: "resnet50",
        summary: "ResNet-50, torchvision's names; CIFAR stem up to 64 pixels",
        usual_input: SMALL,
        build: resnet::resnet50,
    },
    ZooEntry {
        name: "resnet50-cifar",
        summary: "ResNet-50 with the CIFAR stem at any size",
        usual_input: SMALL,
        build: resnet::resnet50_cifar,
    },
    ZooEntry {
        name: "resnet50-imagenet",
        summary: "ResNet-50 with the ImageNet stem at any size",
        usual_input: LARGE,
        build: resnet::resnet50_imagenet,
    },
    ZooEntry {
        name: "vgg11_bn",
        summary: "VGG-11 with batch norm (Simonyan and Zisserman 2014); from 32 pixels on",
        usual_input: LARGE,
        build: vgg::vgg11_bn,
    },
    ZooEntry {
        name: "vgg16_bn",
        summary: "VGG-16 with batch norm; from 32 pixels on",
        usual_input: LARGE,
        build: vgg::vgg16_bn,
    },
    ZooEntry {
        name: "mobilenet_v2",
        summary: "MobileNetV2 (Sandler et al. 2018)",
        usual_input: LARGE,
        build: mobilenet::v2,
    },
    ZooEntry {
        name: "mobilenet_v3_small",
        summary: "MobileNetV3 small (Howard et al. 2019)",
        usual_input: LARGE,
        build: mobilenet::v3_small,
    },
    ZooEntry {
        name: "efficientnet_b0",
        summary: "EfficientNet-B0 (Tan and Le 2019)",
        usual_input: LARGE,
        build: efficientnet::b0,
    },
    ZooEntry {
        name: "densenet121",
        summary: "DenseNet-121 (Huang et al. 2016); from 29 pixels on",
        usual_input: LARGE,
        build: densenet::densenet121,
    },
    ZooEntry {
        name: "convnext_tiny",
        summary: "ConvNeXt-T (Liu et al. 2022); from 32 pixels on",
        usual_input: LARGE,
        build: convnext::tiny,
    },
];

/// All models, in the order they are listed.
pub fn list() -> &'static [ZooEntry] {
    ENTRIES
}

/// The model called `name`.
///
/// # Errors
/// [`UnknownModel`] with the names there are.
pub fn entry(name: &str) -> Result<&'static ZooEntry, UnknownModel> {
    ENTRIES
        .iter()
        .find(|e| e.name == name)
        .ok_or_else(|| UnknownModel {
            name: name.to_owned(),
            known: ENTRIES.iter().map(|e| e.name).collect(),
        })
}

/// The spec of the model called `name`, for the given input and classes.
///
/// # Errors
/// [`UnknownModel`] with the names there are.
pub fn spec(name: &str, options: &ZooOptions) -> Result<ModelSpec, UnknownModel> {
    let entry = entry(name)?;
    let input = InputSize {
        channels: options.channels,
        height: options.height,
        width: options.width,
    };
    let layers = (entry.build)(options);
    Ok(ModelSpec::new(
        name.to_owned(),
        input,
        options.classes,
        layers,
    ))
}
