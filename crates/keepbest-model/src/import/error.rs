//! Why a file from elsewhere is no model, and what may help.

use std::path::{Path, PathBuf};

use keepbest_formats::model_file::EncodeError;
use keepbest_formats::names::{Comparison, Misshaped, NameMapError};
use keepbest_formats::sharded::is_index;
use keepbest_store::names_in;

use super::onnx::{Checked, ReferenceError};
use super::preprocess::PreprocessError;
use crate::error::{ModelError, is_shard};
use crate::words::{count, few};

/// Why no model could be made of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A rule for names makes no sense.
    #[error(transparent)]
    Rules(NameMapError),
    /// Tensors cannot be renamed so.
    #[error(transparent)]
    Rename(NameMapError),
    /// The file cannot be opened, or its network is not known.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The preprocessing makes no sense.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The file's own preprocessing cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The file's own network cannot be read.
    #[error(transparent)]
    Spec(#[from] keepbest_nn::SpecError),
    /// The network does not fit together.
    #[error(transparent)]
    Layer(#[from] keepbest_nn::LayerError),
    /// The network cannot be made.
    #[error(transparent)]
    Engine(#[from] keepbest_nn::EngineError),
    /// The weights are not the network's.
    #[error("{}", unfit(file, network, *nothing_trained))]
    Unfit {
        /// The file.
        file: PathBuf,
        /// The network.
        network: String,
        /// The tensors that match and those that do not.
        comparison: Box<Comparison>,
        /// Whether a part would be enough, but nothing that was trained fits.
        nothing_trained: bool,
        /// Whether a part was asked for.
        partial: bool,
        /// The other network that has exactly these tensors, where there is one.
        theirs: Option<&'static str>,
    },
    /// The names are not as many as the classes.
    #[error("{} named, the weights have {found}", count(*named as u64, "class"))]
    Classes {
        /// The number of names that were given.
        named: usize,
        /// The number of classes that the weights have.
        found: usize,
    },
    /// The network cannot be run.
    #[error(transparent)]
    Score(#[from] keepbest_nn::ScoreError),
    /// A forward pass gives no number.
    #[error("a forward pass gives {score}: the weights are no usable model")]
    NotFinite {
        /// The score that it gives.
        score: f32,
    },
    /// A flag that an ONNX model has no use for.
    #[error("{flag} is not for an ONNX model, which brings its network")]
    NotForOnnx {
        /// The flag.
        flag: &'static str,
    },
    /// The ONNX file cannot be read.
    #[error("{} cannot be read as ONNX", file.display())]
    OnnxFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: keepbest_formats::onnx::ReadError,
    },
    /// No network can be made of the ONNX model.
    #[error("no network can be made of {}", file.display())]
    Onnx {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: keepbest_nn::onnx::ImportError,
    },
    /// What the graph does to its bytes is no preprocessing.
    #[error("the graph of {} takes bytes, and does not make them numbers by a mean and a standard deviation of each channel", file.display())]
    Normalisation {
        /// The file.
        file: PathBuf,
    },
    /// Reference outputs are for ONNX models.
    #[error("--check is for ONNX models")]
    CheckNeedsOnnx,
    /// The reference cannot be compared.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Our outputs are not those of the reference.
    #[error(
        "the outputs differ from those of {} by up to {:.3e}, with outputs up to {:.3e}: more than {:.0e} of that",
        checked.reference, checked.greatest_difference, checked.greatest_output, checked.tolerance
    )]
    Disagrees {
        /// In what they were compared.
        checked: Checked,
    },
    /// The model cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

fn unfit(file: &Path, network: &str, nothing_trained: bool) -> String {
    let file = file.display();
    match nothing_trained {
        true => format!("nothing that was trained in {file} fits {network}"),
        false => format!("{file} does not fit {network}"),
    }
}

impl ImportError {
    /// What to try instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.hint(),
            Self::Preprocess(error) => error.hint(),
            Self::Unfit {
                theirs: Some(network),
                ..
            } => Some(format!(
                "its tensors are those of {network}: --model {network}"
            )),
            Self::Unfit {
                file,
                comparison,
                partial,
                ..
            } => Some(hint(file, *partial, comparison)),
            Self::Classes { .. } => {
                Some("--classes takes names parted by commas, or a file with one a line".into())
            }
            Self::Onnx {
                source: keepbest_nn::onnx::ImportError::Size { .. },
                ..
            } => Some("--input-size 224 or --input-size 224x320 says it".into()),
            Self::Onnx {
                source: keepbest_nn::onnx::ImportError::Form(why),
                ..
            } if why.contains("outputs") => Some("--output NAME takes one of them".into()),
            Self::NotFinite { .. } => {
                Some("`keepbest inspect` shows which tensors hold NaN".into())
            }
            _ => None,
        }
    }

    /// In what file and network differ, or what of an ONNX model has no layer, a line each.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        match self {
            Self::Unfit { comparison, .. } => differences(comparison),
            Self::Onnx {
                source: keepbest_nn::onnx::ImportError::Unsupported { nodes },
                ..
            } => nodes
                .iter()
                .map(|node| format!("{} `{}`: {}", node.op, node.node, node.why))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// What may help where file and network differ.
fn hint(file: &Path, partial: bool, comparison: &Comparison) -> String {
    let narrow = |tensor: &Misshaped| tensor.found.starts_with("F8");
    if comparison
        .mistyped
        .iter()
        .chain(&comparison.misshaped)
        .any(narrow)
    {
        return "floats of 8 bits mostly go with scales beside them: convert to F16 or F32 where they were made".into();
    }
    if is_shard(file) {
        return match has_index(file) {
            true => "this is one file of several: name the .index.json beside it".into(),
            false => {
                "this is one file of several, and the .index.json that goes with them is missing"
                    .into()
            }
        };
    }
    let only_more = comparison.missing.is_empty()
        && comparison.misshaped.is_empty()
        && comparison.mistyped.is_empty();
    if only_more {
        return format!(
            "{} leaves out what the network does not have",
            drop(comparison)
        );
    }
    if partial {
        return "--map renames tensors".into();
    }
    "--map renames tensors; --partial takes what fits and starts the rest anew".into()
}

/// The flags that leave out what the network does not have: a pattern for each first part of a name that nothing of the network has,
/// few of them.
fn drop(comparison: &Comparison) -> String {
    let of_network = |first: &str| {
        let mut names = comparison.matched.iter();
        names.any(|name| name.split('.').next() == Some(first))
    };
    let mut patterns: Vec<String> = Vec::new();
    for name in &comparison.unexpected {
        let pattern = match name.split_once('.') {
            Some((first, _)) if !of_network(first) => format!("{}\\..*", escaped(first)),
            _ => escaped(name),
        };
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let flags = patterns
        .iter()
        .take(3)
        .map(|pattern| format!("--drop '{pattern}'"));
    flags.collect::<Vec<_>>().join(" ")
}

/// A text as a pattern for itself.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        c if "\\.+*?()|[]{}^$".contains(c) => format!("\\{c}"),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Whether the index of several files lies beside one of them.
fn has_index(shard: &Path) -> bool {
    let folder = shard.parent().unwrap_or(Path::new(""));
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let names = names_in(folder).unwrap_or_default();
    names.iter().any(|name| is_index(Path::new(name)))
}

/// What differs, in a few lines.
fn differences(comparison: &Comparison) -> Vec<String> {
    let some = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("{what}: {}", few(names)))
    };
    let differ = |tensors: &[Misshaped]| -> Vec<String> {
        let differ = tensors.iter().map(|tensor| {
            format!(
                "{} is {}, should be {}",
                tensor.name, tensor.found, tensor.expected
            )
        });
        differ.collect()
    };
    [
        some("missing in the file", &comparison.missing),
        some("not in the network", &comparison.unexpected),
        some("of another shape", &differ(&comparison.misshaped)),
        some("of another element type", &differ(&comparison.mistyped)),
    ]
    .into_iter()
    .flatten()
    .collect()
}
