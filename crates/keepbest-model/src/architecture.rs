//! What `--model` names: a network of the zoo, a TOML model file, or a full model, whose network it is.

use std::io::Write;
use std::path::{Path, PathBuf};

use keepbest_formats::model_file::{ModelFile, OpenError};
use keepbest_formats::read_text;
use keepbest_nn::zoo::{self, UnknownModel, ZooOptions};
use keepbest_nn::{InputSize, Layer, ModelSpec, SpecError};
use keepbest_store::{CommitError, Links, MODEL_FILE, read_regular, write_file};

use keepbest_core::suggest::nearest;

/// Why there is no such architecture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// No network has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The model file cannot be read.
    #[error("the model file {path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model file is not one.
    #[error("{path} is no model file", path = path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SpecError,
    },
    /// The full model cannot be opened.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The file has no network.
    #[error("{path} has no network in it", path = path.display())]
    NoNetwork {
        /// The file.
        path: PathBuf,
    },
    /// The model file is for another number of classes.
    #[error("{path} is for {found} classes, the images have {expected}", path = path.display())]
    Classes {
        /// The file.
        path: PathBuf,
        /// Classes of the images.
        expected: usize,
        /// Classes of the model file.
        found: usize,
    },
}

impl ArchitectureError {
    /// What may help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(error) => {
                let near = nearest(&error.name, error.known.iter().copied());
                Some(near.map_or("`keepbest models` lists them".into(), |near| {
                    format!("did you mean {near}?")
                }))
            }
            Self::Spec { source, .. } => spec_hint(source),
            Self::Classes { expected, .. } => Some(format!(
                "set `classes`, and `out` of the last layer, to {expected}"
            )),
            Self::NoNetwork { .. } => Some("`keepbest import` gives weights their network".into()),
            Self::Read { .. } | Self::Open(_) => None,
        }
    }
}

/// What may have been meant by a key or op that is none.
fn spec_hint(error: &SpecError) -> Option<String> {
    let (word, known) = error.unknown()?;
    let near = nearest(word, known.iter().copied())?;
    Some(format!("did you mean {near}?"))
}

/// Whether `model` is the path of a model file rather than a network's name.
#[must_use]
pub fn is_model_file(model: &str) -> bool {
    file(model).is_some()
}

/// The path of a model file, when `model` is one rather than a name.
fn file(model: &str) -> Option<&Path> {
    let path = Path::new(model);
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml") || is_full(path))
        .then_some(path)
}

/// Whether a path is that of a full model.
fn is_full(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// The copy that a run keeps of its model file, since what lay outside may change, or go: for the run itself or a model in it.
#[must_use]
pub fn own_model_file(run_or_model: &Path) -> Option<PathBuf> {
    let mut folders = run_or_model.ancestors().take(3);
    let run = folders.find(|folder| folder.join("run.toml").is_file())?;
    Some(run.join(MODEL_FILE)).filter(|copy| copy.is_file())
}

/// Keeps a copy of the model file, as it was resolved, in a new run; nothing for a network of the zoo.
///
/// # Errors
/// When it cannot be written.
pub fn keep_model(model: &str, spec: &ModelSpec, run: &Path) -> Result<(), CommitError> {
    if !is_model_file(model) {
        return Ok(());
    }
    let text = spec.to_toml();
    let put = |out: &mut dyn Write| out.write_all(text.as_bytes());
    let verify = |staged: &Path| match read_regular(staged, Links::Refuse)? == text.as_bytes() {
        true => Ok(()),
        false => Err("it does not read back as written".into()),
    };
    write_file(&run.join(MODEL_FILE), false, text.len() as u64, put, verify)
}

/// Longest model file read, in bytes. The largest network of the zoo takes a fiftieth of it.
const MODEL_FILE_LIMIT: u64 = 1 << 20;

/// The architecture in a model file as it is written, or `None` when `model` is a name.
///
/// # Errors
/// When the file cannot be read or is no model file.
pub fn read_model_file(model: &str) -> Result<Option<ModelSpec>, ArchitectureError> {
    let Some(path) = file(model) else {
        return Ok(None);
    };
    if is_full(path) {
        let own = ModelFile::open(path)
            .map_err(|error| ArchitectureError::Open(Box::new(error)))?
            .metadata
            .and_then(|own| own.attachments.model);
        let json = own.ok_or_else(|| ArchitectureError::NoNetwork { path: path.into() })?;
        let spec = ModelSpec::from_json(&json).map_err(|source| ArchitectureError::Spec {
            path: path.into(),
            source,
        })?;
        return Ok(Some(spec));
    }
    let text = read_text(path, MODEL_FILE_LIMIT).map_err(|source| ArchitectureError::Read {
        path: path.into(),
        source,
    })?;
    let spec = ModelSpec::from_toml(&text).map_err(|source| ArchitectureError::Spec {
        path: path.into(),
        source,
    })?;
    Ok(Some(spec))
}

/// The architecture that `model` names, for images of this size and number of classes.
///
/// # Errors
/// When there is no such network, or the model file cannot be read or has another number of classes.
pub fn architecture(model: &str, options: &ZooOptions) -> Result<ModelSpec, ArchitectureError> {
    let Some(mut spec) = read_model_file(model)? else {
        return Ok(zoo::spec(model, options)?);
    };
    // A full model's last layer is made for the classes at hand; what a user writes is taken at his word.
    if spec.classes != options.classes
        && is_full(Path::new(model))
        && let Some(Layer::Linear(last)) = spec.layers.last_mut()
    {
        last.out = options.classes;
        spec.classes = options.classes;
    }
    if spec.classes != options.classes {
        return Err(ArchitectureError::Classes {
            path: model.into(),
            expected: options.classes,
            found: spec.classes,
        });
    }
    spec.input = InputSize {
        channels: options.channels,
        height: options.height,
        width: options.width,
    };
    Ok(spec)
}

/// Checks that `model` names an architecture, before anything is known of the images.
///
/// # Errors
/// As [`architecture`], but for the number of classes.
pub fn check_architecture(model: &str) -> Result<(), ArchitectureError> {
    if read_model_file(model)?.is_none() {
        zoo::entry(model)?;
    }
    Ok(())
}
