//! Asking a model what images show, a batch at a time.

use std::path::Path;
use std::sync::Arc;

use keepbest_data::{DataError, Image, PreprocessingError, Unrecorded, load_image};
use keepbest_nn::{CPU, ScoreError, Scorer};

use crate::error::ModelError;
use crate::interpret::{Answer, AnswerError, Fitted, Interpreter, Rating};
use crate::model::Model;

/// Options for classifying images.
#[derive(Debug, Clone)]
pub struct ClassifyOptions {
    /// Images computed at a time; answers do not depend on it.
    pub batch_size: usize,
    /// Threads, one a core by default; answers do not depend on it.
    pub threads: Option<usize>,
    /// What computes, the CPU by default.
    pub device: Option<String>,
    /// Likeliest classes to give for each image.
    pub top_k: usize,
    /// Whether images of a size or kind that the model has not seen are refused instead of converted.
    pub strict: bool,
}

impl Default for ClassifyOptions {
    fn default() -> Self {
        Self {
            batch_size: 64,
            threads: None,
            device: None,
            top_k: 1,
            strict: false,
        }
    }
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifyError {
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its preprocessing makes no sense.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// The network failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// A model that answers. One answers for one thread at a time and has memory for a batch; the model itself is shared.
///
/// ```
/// # fn ask(model: keepbest_model::Model, photo: keepbest_data::Image) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use keepbest_model::{Classifier, ClassifyOptions};
///
/// let mut classifier = Classifier::new(Arc::new(model), ClassifyOptions::default())?;
/// for answer in classifier.classify_images(&[photo])? {
///     println!("{}", answer?.decision.label);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Classifier {
    interpreter: Interpreter,
    options: ClassifyOptions,
    scorer: Box<dyn Scorer>,
    pixels: Vec<f32>,
    logits: Vec<f32>,
}

impl Classifier {
    /// Makes the model ready to answer.
    ///
    /// # Errors
    /// [`ClassifyError`].
    pub fn new(model: Arc<Model>, options: ClassifyOptions) -> Result<Self, ClassifyError> {
        let scorer = model.predictor_on(
            options.device.as_deref().unwrap_or(CPU),
            options.batch_size,
            options.threads,
        )?;
        Ok(Self {
            interpreter: Interpreter::new(model, options.strict)?,
            scorer,
            options,
            pixels: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        self.interpreter.model()
    }

    /// What is done to images that differ so from all that the model has seen, in words; none when nothing differs.
    #[must_use]
    pub fn conversion_words(&self, unseen: Unrecorded) -> Option<String> {
        self.interpreter.conversion_words(unseen)
    }

    /// Answers for images in memory, in their order.
    ///
    /// # Errors
    /// As [`classify`](Self::classify).
    pub fn classify_images(
        &mut self,
        images: &[Image],
    ) -> Result<Vec<Result<Answer, AnswerError>>, ClassifyError> {
        let named = images.iter().enumerate();
        self.classify(named.map(|(place, image)| (format!("image {place}"), Ok(image.clone()))))
    }

    /// Answers for the images in these files, in their order.
    ///
    /// # Errors
    /// As [`classify`](Self::classify).
    pub fn classify_files<P: AsRef<Path>>(
        &mut self,
        files: &[P],
    ) -> Result<Vec<Result<Answer, AnswerError>>, ClassifyError> {
        let read = |path: &P| {
            let path = path.as_ref();
            (path.display().to_string(), load_image(path))
        };
        self.classify(files.iter().map(read))
    }

    /// Answers for images, in their order; each has a name for what goes wrong with it. What cannot be read has its error in its
    /// place, and the others are still answered. Images are taken one after the other, as many as are computed at a time.
    ///
    /// # Errors
    /// [`ClassifyError::Score`].
    pub fn classify(
        &mut self,
        images: impl IntoIterator<Item = (String, Result<Image, DataError>)>,
    ) -> Result<Vec<Result<Answer, AnswerError>>, ClassifyError> {
        let top_k = self.options.top_k;
        self.ask(images, |interpreter, name, row, fitted| {
            interpreter.answer(name, row, fitted, top_k)
        })
    }

    /// As [`classify`](Self::classify), with the probabilities of all classes.
    ///
    /// # Errors
    /// [`ClassifyError::Score`].
    pub fn rate(
        &mut self,
        images: impl IntoIterator<Item = (String, Result<Image, DataError>)>,
    ) -> Result<Vec<Result<Rating, AnswerError>>, ClassifyError> {
        self.ask(images, Interpreter::rating)
    }

    fn ask<T>(
        &mut self,
        images: impl IntoIterator<Item = (String, Result<Image, DataError>)>,
        answer: impl Fn(&Interpreter, &str, &[f32], Fitted) -> Result<T, AnswerError>,
    ) -> Result<Vec<Result<T, AnswerError>>, ClassifyError> {
        let mut images = images.into_iter();
        let mut answers = Vec::new();
        loop {
            let batch: Vec<_> = self.prepare(images.by_ref());
            if batch.is_empty() {
                return Ok(answers);
            }
            self.scorer.logits(&self.pixels, &mut self.logits)?;
            let mut rows = self.logits.chunks_exact(self.model().classes.len());
            for (name, prepared) in batch {
                answers.push(prepared.and_then(|image| {
                    let row = rows.next().unwrap_or_default();
                    answer(&self.interpreter, &name, row, image)
                }));
            }
        }
    }

    /// Makes a batch of images the network's input, one after the other in `pixels`.
    fn prepare(
        &mut self,
        images: impl Iterator<Item = (String, Result<Image, DataError>)>,
    ) -> Vec<(String, Result<Fitted, AnswerError>)> {
        let size = self.interpreter.input_len();
        self.pixels.clear();
        let (pixels, interpreter) = (&mut self.pixels, &self.interpreter);
        images
            .take(self.options.batch_size)
            .map(|(name, image)| {
                let start = pixels.len();
                let fitted = image.map_err(AnswerError::from).and_then(|image| {
                    pixels.resize(start + size, 0.0);
                    interpreter.fit(&name, &image, &mut pixels[start..])
                });
                if fitted.is_err() {
                    pixels.truncate(start);
                }
                (name, fitted)
            })
            .collect()
    }
}
