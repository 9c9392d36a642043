//! A model file, opened for Python.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use keepbest_core::text::with_causes;
use keepbest_formats::model_file::{self, Attachments, Kind, ModelMetadata};
use keepbest_formats::{StateDict, Tensor};
use keepbest_keeper::RunView;
use keepbest_model::{ClassifyOptions, Model, ModelPlace, find_model};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arena::Arena;
use crate::errors;
use crate::keeper::{Entry, state_dict};
use crate::predict::Predictor;

/// `(name, dtype, shape, view)`.
pub(crate) type Viewed = (String, &'static str, Vec<usize>, View);

/// A model file: metadata, and tensors as they are mapped.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct ModelFile {
    file: model_file::ModelFile,
    path: PathBuf,
}

#[pymethods]
impl ModelFile {
    /// Opens a model file; with `verify`, every byte is read and compared with the digests in it.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, verify: bool) -> PyResult<Self> {
        let file = py.detach(|| match verify {
            true => model_file::ModelFile::open(&path),
            false => model_file::ModelFile::open_unverified(&path),
        });
        let file = file.map_err(|error| errors::open_model(py, &path, &error))?;
        Ok(Self { file, path })
    }

    /// The file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The metadata as JSON; `None` for a safetensors file of another program.
    fn metadata(&self) -> PyResult<Option<String>> {
        let metadata = self.file.metadata.as_ref();
        let json = metadata.map(|metadata| {
            json!({
                "kind": match metadata.kind {
                    Kind::Full => "full",
                    Kind::Params => "params",
                },
                "step": metadata.step,
                "epoch": metadata.epoch,
                "model": metadata.model,
                "classes": metadata.classes,
                "preprocessing": metadata.preprocessing,
                "evaluation": metadata.evaluation,
                "history": metadata.history,
                "provenance": metadata.provenance,
            })
            .to_string()
        });
        Ok(json)
    }

    /// The identity of the weights: BLAKE3 over names, element types, shapes and bytes.
    fn digest(&self, py: Python<'_>) -> String {
        match &self.file.seal {
            Some(seal) => seal.weights_digest.to_string(),
            None => py.detach(|| keepbest_formats::weights_digest(&self.file.weights).to_string()),
        }
    }

    /// Parameters and buffers.
    fn weights(&self) -> Vec<Viewed> {
        views(&self.file.weights)
    }

    /// The model, to ask; `network` names that of a file with weights alone.
    fn predictor(
        &self,
        py: Python<'_>,
        network: Option<&str>,
        strict: bool,
        batch_size: usize,
        threads: Option<usize>,
    ) -> PyResult<Predictor> {
        let opened = py.detach(|| {
            // The same file, whatever has its name by now; those of others are brought to our form.
            let model = match self.file.seal {
                Some(_) => Model::from_file(&self.path, self.file.clone(), network),
                None => Model::open(&self.path, network),
            }?;
            model.check_finite()?;
            Ok(model)
        });
        let model = opened.map_err(|error| errors::model(py, &error))?;
        let options = ClassifyOptions {
            batch_size: batch_size.max(1),
            threads,
            device: None,
            top_k: 1,
            strict,
        };
        Ok(Predictor::of(model, options))
    }

    /// What was saved beside them.
    fn training_state(&self) -> Vec<Viewed> {
        views(&self.file.training)
    }
}

/// What a file says of a model beside its tensors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    model: Option<Value>,
    #[serde(default)]
    classes: Vec<String>,
    preprocessing: Option<Value>,
}

/// Writes one model file as safely as a run does: staged, synced, read back, renamed. `(arena, weights, state)` is what an offer copies;
/// `about` is what the file says of the model, as JSON: its `model`, `classes` and `preprocessing`.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
pub(crate) fn save(
    py: Python<'_>,
    path: PathBuf,
    arena: &Arena,
    weights: Vec<Entry>,
    state: Vec<Entry>,
    step: u64,
    epoch: u64,
    about: &str,
) -> PyResult<()> {
    let About {
        model,
        classes,
        preprocessing,
    } = serde_json::from_str(about)
        .map_err(|error| errors::raise_plain(py, "InvalidOption", &error.to_string()))?;
    let bytes = arena.bytes();
    let (weights, state) = (state_dict(&bytes, weights)?, state_dict(&bytes, state)?);
    let metadata = ModelMetadata {
        kind: Kind::Full,
        step,
        epoch,
        attachments: Attachments {
            model,
            classes,
            preprocessing,
            ..Attachments::default()
        },
    };
    let saved = py.detach(|| -> Result<(), String> {
        let image =
            model_file::encode(&weights, &state, &metadata).map_err(|error| with_causes(&error))?;
        let write = |out: &mut dyn Write| image.write_to(out);
        let verify = |written: &Path| {
            image.compare(&mut File::open(written)?)?;
            Ok(())
        };
        keepbest_store::write_file(&path, true, image.total_len(), write, verify)
            .map_err(|error| with_causes(&error))
    });
    saved.map_err(|message| errors::raise_plain(py, "CannotWrite", &message))
}

/// The file of a reference: itself, a run's best, or `run@selector`.
#[pyfunction]
pub(crate) fn resolve(py: Python<'_>, reference: &str) -> PyResult<PathBuf> {
    let missing = |path: &Path, error: &(dyn Error + 'static)| {
        errors::raise(py, "ModelMissing", &with_causes(error), [("path", path)])
    };
    // A run is named by its path, as everywhere in Python.
    let place = find_model(reference, Path::new(""));
    match place.map_err(|error| missing(Path::new(reference), &error))? {
        ModelPlace::File(path) => Ok(path),
        ModelPlace::Run { run, which } => {
            let view = py.detach(|| RunView::open(&run));
            let view = view.map_err(|error| errors::open_run(py, &error))?;
            view.select(&which).map_err(|error| missing(&run, &error))
        }
    }
}

/// The bytes of a tensor, for numpy's `asarray`, which keeps this object alive.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct View(Tensor);

#[pymethods]
impl View {
    /// Bytes, read-only: `uint8` of one side.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let bytes = self.0.bytes();
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("typestr", "|u1")?;
        dict.set_item("shape", (bytes.len(),))?;
        dict.set_item("data", (bytes.as_ptr().addr(), true))?;
        Ok(dict)
    }
}

pub(crate) fn views(tensors: &StateDict) -> Vec<Viewed> {
    let view = |(name, tensor): (&str, &Tensor)| {
        (
            name.to_owned(),
            tensor.dtype().name(),
            tensor.shape().to_vec(),
            View(tensor.clone()),
        )
    };
    tensors.iter().map(view).collect()
}
