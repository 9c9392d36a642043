//! From images to a network's input, as `keepbest.torch.Transform` uses it.

use keepbest_core::text::with_causes;
use keepbest_data::{Normaliser, Unrecorded};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

use crate::errors;
use crate::predict::{Input, read};

/// A preprocessing, ready to be applied.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Preprocessing {
    recorded: keepbest_data::Preprocessing,
    normaliser: Normaliser,
}

#[pymethods]
impl Preprocessing {
    /// Of the JSON in a model file. Without `strict`, images of other sizes and kinds are converted where no rule is recorded.
    #[new]
    fn new(py: Python<'_>, json: &str, strict: bool) -> PyResult<Self> {
        let invalid = |message: &str| errors::raise_plain(py, "InvalidPreprocessing", message);
        let recorded: keepbest_data::Preprocessing =
            serde_json::from_str(json).map_err(|error| invalid(&error.to_string()))?;
        let applied = match strict {
            true => recorded.clone(),
            false => recorded.clone().converting(),
        };
        let normaliser =
            Normaliser::new(&applied).map_err(|error| invalid(&with_causes(&error)))?;
        Ok(Self {
            recorded,
            normaliser,
        })
    }

    /// The network's input `float32[images, height, width, channels]`, and what was done to images unlike all that the model has seen.
    fn apply<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Input<'py>>,
    ) -> PyResult<(Bound<'py, PyByteArray>, Option<String>)> {
        let images = images.into_iter().map(Input::detached);
        let images = images.collect::<PyResult<Vec<_>>>()?;
        let size = self.recorded.input.size();
        let mut bytes = Vec::new();
        let mut unseen = Unrecorded::default();
        for image in &images {
            let made = py.detach(|| {
                let (name, image) = read(image);
                let image = image.map_err(|error| {
                    (
                        "CannotRead",
                        name.clone(),
                        errors::with_hint(&error, error.hint()),
                    )
                })?;
                let mut input = vec![0.0; size];
                self.normaliser.apply(&image, &mut input).map_err(|error| {
                    (
                        "CannotPredict",
                        name.clone(),
                        format!("{name}: {}", with_causes(&error)),
                    )
                })?;
                bytes.extend(input.iter().flat_map(|value| value.to_ne_bytes()));
                Ok(self.recorded.unrecorded(image.shape()))
            });
            let of_image =
                made.map_err(|(class, name, message): (_, String, String)| match class {
                    "CannotPredict" => errors::raise(py, class, &message, [("image", name)]),
                    _ => errors::raise_plain(py, class, &message),
                })?;
            unseen.size |= of_image.size;
            unseen.channels |= of_image.channels;
        }
        let how = self.normaliser.preprocessing().conversion_words(unseen);
        let how = how.map(|how| format!("the model has seen {} alone: {how}", self.recorded.input));
        Ok((PyByteArray::new(py, &bytes), how))
    }
}
