//! Networks as ONNX models, for onnxruntime and whatever else reads them, and ONNX models as networks.
//!
//! Parameters keep PyTorch's names, shapes and layouts. The batch dimension is dynamic (`N`); the output is
//! `logits`, `[N, classes]`. Dropout is not there: a trained network passes everything.

mod graph;
mod import;

use crate::network::Network;
use crate::params::WeightsError;
use keepbest_formats::StateDict;
use keepbest_formats::onnx::{Model, OnnxError};

pub use import::{
    Ending, GraphInput, ImportError, ImportOptions, Imported, OPSETS, Unsupported, import,
};

/// Key in the model's metadata of the class names, a JSON array in the order of the logits.
pub const CLASSES_KEY: &str = "classes";

/// What an exported model is like.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// The form of the input.
    pub input: OnnxInput,
    /// Whether each batch norm that follows a convolution becomes part of it. Fewer operations; the scores
    /// differ by rounding.
    pub fold_batch_norm: bool,
    /// Class names by label, for [`CLASSES_KEY`]; none are written when empty.
    pub classes: Vec<String>,
    /// More metadata: keys and values, in order.
    pub metadata: Vec<(String, String)>,
}

/// What an exported model takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OnnxInput {
    /// `input`: f32 `[N, channels, height, width]`, normalised as in training.
    #[default]
    Normalised,
    /// `images`: pixels as bytes. The model computes `(pixel / divide_by - mean) / std` of each channel itself.
    Pixels {
        /// The side on which the channels are.
        order: PixelOrder,
        /// What a pixel is divided by first: 255.
        divide_by: f32,
        /// Mean of each channel, after the division.
        mean: Vec<f32>,
        /// Standard deviation of each channel, after the division.
        std: Vec<f32>,
    },
}

/// The side of an image on which the channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelOrder {
    /// `[N, height, width, channels]`, as decoders give it.
    ChannelsLast,
    /// `[N, channels, height, width]`.
    ChannelsFirst,
}

/// Why a network cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The weights are not this network's.
    #[error("the weights do not belong to the network")]
    Weights(#[from] WeightsError),
    /// Another number of class names than of classes.
    #[error("{found} class names for {expected} classes")]
    Classes {
        /// Classes of the network.
        expected: usize,
        /// Names given.
        found: usize,
    },
    /// A normalisation that does not fit the input.
    #[error("{setting} must be {expected}, found {found}")]
    Normalisation {
        /// `divide_by`, `mean` or `std`.
        setting: &'static str,
        /// What it may be.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// The graph cannot be written.
    #[error("the network cannot be written as ONNX")]
    Graph(#[from] OnnxError),
}

/// Makes the ONNX model of a network with `weights`. Tensors are shared where they go in as they are.
///
/// ```
/// use keepbest_nn::{CpuEngine, Engine, EngineConfig, Network, onnx, zoo};
/// let spec = zoo::spec("lenet5", &zoo::ZooOptions::new(1, 28, 28, 10))?;
/// let weights = CpuEngine::new(&spec, EngineConfig::default())?.snapshot().weights();
/// let model = onnx::export(&Network::new(&spec)?, &weights, &onnx::OnnxOptions::default())?;
/// let mut file = Vec::new();
/// model.encode()?.write_to(&mut file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ExportError`] when weights, class names or normalisation do not belong to the network.
pub fn export(
    network: &Network,
    weights: &StateDict,
    options: &OnnxOptions,
) -> Result<Model, ExportError> {
    network.layout().check(weights)?;
    let (expected, found) = (network.classes(), options.classes.len());
    if found > 0 && found != expected {
        return Err(ExportError::Classes { expected, found });
    }
    check_input(&options.input, network.spec().input.channels)?;
    let mut model = Model::new(graph::build(network, weights, options)?);
    if found > 0 {
        let names = serde_json::Value::from(options.classes.clone()).to_string();
        model.metadata.push((CLASSES_KEY.to_owned(), names));
    }
    model.metadata.extend(options.metadata.iter().cloned());
    Ok(model)
}

fn check_input(input: &OnnxInput, channels: usize) -> Result<(), ExportError> {
    let OnnxInput::Pixels {
        divide_by,
        mean,
        std,
        ..
    } = input
    else {
        return Ok(());
    };
    let positive = |v: &f32| *v > 0.0 && v.is_finite();
    let wrong = |setting, expected: String, found: String| ExportError::Normalisation {
        setting,
        expected,
        found,
    };
    if !positive(divide_by) {
        let expected = "positive and finite".to_owned();
        return Err(wrong("divide_by", expected, divide_by.to_string()));
    }
    if mean.len() != channels || !mean.iter().all(|v| v.is_finite()) {
        let expected = format!("{channels} finite numbers, one a channel");
        return Err(wrong("mean", expected, format!("{mean:?}")));
    }
    if std.len() != channels || !std.iter().all(positive) {
        let expected = format!("{channels} positive numbers, one a channel");
        return Err(wrong("std", expected, format!("{std:?}")));
    }
    Ok(())
}
