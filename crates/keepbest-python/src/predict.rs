//! A model that answers, as Python's `keepbest.Model` uses it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use keepbest_data::{DataError, Image, ImageShape, Unrecorded, decode_image, load_image};
use keepbest_model::{
    AnswerError, Classifier, ClassifyOptions, EvaluateOptions, Event, ImageChoice, ImageSource,
    Model, Part, Rating, Watch,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::arena::Arena;
use crate::{PATIENCE, errors};

/// An image, each but a file with a name for what goes wrong with it.
#[derive(FromPyObject)]
pub(crate) enum Input<'py> {
    /// In an arena, from this byte on: height, width and channels.
    Pixels(String, PyRef<'py, Arena>, usize, (usize, usize, usize)),
    /// The bytes of a file.
    Encoded(String, Bound<'py, PyBytes>),
    /// The path of one.
    File(PathBuf),
}

/// The same without a hold on Python's objects.
#[derive(Clone)]
pub(crate) enum Source {
    Pixels(Image),
    Encoded(Bytes),
    File(PathBuf),
}

impl Input<'_> {
    pub(crate) fn detached(self) -> PyResult<(String, Source)> {
        Ok(match self {
            Self::Pixels(name, arena, offset, (height, width, channels)) => {
                let shape = ImageShape::new(height, width, channels);
                let bytes = arena.bytes();
                let end = offset
                    .checked_add(shape.size())
                    .filter(|end| *end <= bytes.len());
                let image = end.and_then(|end| Image::new(shape, bytes.slice(offset..end)));
                let image = image.filter(|_| [1, 3].contains(&channels) && shape.size() > 0);
                let outside = || {
                    PyValueError::new_err(format!("{name} of {shape} does not lie in the arena"))
                };
                let image = image.ok_or_else(outside)?;
                (name, Source::Pixels(image))
            }
            Self::Encoded(name, bytes) => (
                name,
                Source::Encoded(Bytes::copy_from_slice(bytes.as_bytes())),
            ),
            Self::File(path) => (path.display().to_string(), Source::File(path)),
        })
    }
}

pub(crate) fn read((name, source): &(String, Source)) -> (String, Result<Image, DataError>) {
    let image = match source {
        Source::Pixels(image) => Ok(image.clone()),
        Source::Encoded(bytes) => decode_image(bytes, name.as_ref()),
        Source::File(path) => load_image(path),
    };
    (name.clone(), image)
}

/// A model that answers any number of threads at a time, each with a network of its own: the answers do not depend on how many.
#[pyclass(frozen, module = "keepbest._native")]
pub(crate) struct Predictor {
    model: Arc<Model>,
    options: ClassifyOptions,
    /// Those that answer for nobody now.
    idle: Mutex<Vec<Classifier>>,
    /// The process that their threads are in: not in a child that was forked.
    process: u32,
}

#[pymethods]
impl Predictor {
    /// Names of the classes, by label.
    fn classes(&self) -> Vec<String> {
        self.model.classes.clone()
    }

    /// What the user should know of the model.
    fn notes(&self) -> Vec<String> {
        self.model.notes.clone()
    }

    /// Probabilities of all classes, `float32[images, classes]`; the class that is decided for, of each; and what was done to images unlike
    /// all that the model has seen. The first image that has no answer is raised.
    #[allow(clippy::type_complexity)]
    fn rate<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Input<'py>>,
    ) -> PyResult<(Bound<'py, PyByteArray>, Vec<usize>, Option<String>)> {
        let images = images.into_iter().map(Input::detached);
        let images = images.collect::<PyResult<Vec<_>>>()?;
        let mut classifier = py
            .detach(|| self.classifier())
            .map_err(|error| errors::classify(py, &error))?;
        let (mut bytes, mut decided) = (Vec::new(), Vec::new());
        let mut unseen = Unrecorded::default();
        for batch in images.chunks(self.options.batch_size) {
            let rated = py.detach(|| classifier.rate(batch.iter().map(read)));
            for rating in rated.map_err(|error| errors::classify(py, &error))? {
                let Rating {
                    class,
                    probabilities,
                    unseen: of_image,
                    ..
                } = rating.map_err(|error| refused(py, &error))?;
                unseen.size |= of_image.size;
                unseen.channels |= of_image.channels;
                decided.push(class);
                bytes.extend(probabilities.iter().flat_map(|p| (*p as f32).to_ne_bytes()));
            }
            py.check_signals()?;
        }
        let converted = classifier.conversion_words(unseen);
        let converted = converted.map(|how| {
            format!(
                "the model has seen {} alone: {how}",
                self.model.preprocessing.input
            )
        });
        self.idle().push(classifier);
        Ok((PyByteArray::new(py, &bytes), decided, converted))
    }

    /// What `keepbest evaluate --json` prints, for `data` or the images of the training.
    fn evaluate(
        &self,
        py: Python<'_>,
        data: Option<String>,
        data_dir: Option<PathBuf>,
        split: Option<&str>,
    ) -> PyResult<String> {
        let parts = [Part::Train, Part::Val, Part::Test, Part::All];
        let split = split
            .map(|name| {
                let found = parts.into_iter().find(|part| part.name() == name);
                let message = format!("split is {name:?}: it is train, val, test or all");
                found.ok_or_else(|| errors::raise_plain(py, "InvalidOption", &message))
            })
            .transpose()?;
        let options = EvaluateOptions {
            images: ImageChoice {
                source: ImageSource {
                    data,
                    dir: data_dir,
                },
                split,
                strict: self.options.strict,
                ..ImageChoice::default()
            },
            batch_size: Some(self.options.batch_size),
            threads: self.options.threads,
            ..EvaluateOptions::default()
        };
        let (report, raised) = py.detach(|| {
            let raised = RefCell::new((None, Instant::now()));
            let goes_on = |_: Event<'_>| {
                let mut raised = raised.borrow_mut();
                if raised.1.elapsed() >= PATIENCE {
                    raised.0 = Python::attach(|py| py.check_signals().err());
                    raised.1 = Instant::now();
                }
                raised.0.is_none()
            };
            let report = keepbest_model::evaluate(&self.model, &options, Watch::new(&goes_on));
            (report, raised.into_inner().0)
        });
        match (report, raised) {
            (_, Some(raised)) => Err(raised),
            (Ok(report), None) => serde_json::to_string(&report)
                .map_err(|error| PyValueError::new_err(error.to_string())),
            (Err(error), None) => Err(errors::measure(py, &error)),
        }
    }
}

impl Predictor {
    pub(crate) fn of(model: Model, options: ClassifyOptions) -> Self {
        Self {
            model: Arc::new(model),
            options,
            idle: Mutex::default(),
            process: std::process::id(),
        }
    }

    /// One that answers for this call alone.
    fn classifier(&self) -> Result<Classifier, keepbest_model::ClassifyError> {
        let idle = self.idle().pop();
        match idle {
            Some(classifier) => Ok(classifier),
            None => Classifier::new(self.model.clone(), self.options.clone()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Classifier>> {
        // Held for a moment, and never while Python runs.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Predictor {
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        if self.process != std::process::id() {
            // The threads that each would wait for are not in this process.
            std::mem::forget(idle);
        }
    }
}

/// The image files in a folder and the folders below it.
#[pyfunction]
pub(crate) fn list_images(py: Python<'_>, folder: PathBuf) -> PyResult<Vec<PathBuf>> {
    let found = py.detach(|| keepbest_data::list_images(&folder));
    found.map_err(|error| {
        errors::raise_plain(py, "CannotRead", &errors::with_hint(&error, error.hint()))
    })
}

/// There is no answer for an image.
fn refused(py: Python<'_>, error: &AnswerError) -> PyErr {
    let message = errors::with_hint(error, error.hint());
    match error {
        AnswerError::Read(_) => errors::raise_plain(py, "CannotRead", &message),
        AnswerError::Unfit { image, .. } | AnswerError::Score { image, .. } => {
            errors::raise(py, "CannotPredict", &message, [("image", image.clone())])
        }
        _ => errors::raise_plain(py, "CannotPredict", &message),
    }
}
