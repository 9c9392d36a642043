//! Asking a model what images show, a batch at a time.

use std::path::Path;
use std::sync::Arc;

use keepbest_data::{
    DataError, Image, ImageShape, Normaliser, Preprocessing, PreprocessingError, Unrecorded,
    load_image,
};
use keepbest_nn::{CPU, ScoreError, Scorer};
use serde::Serialize;

use crate::error::ModelError;
use crate::model::Model;
use crate::predict::{Guess, decide, probabilities, top_k};

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

/// What the model says of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Answer {
    /// The class that is decided for, by the model's thresholds where it has some.
    pub decision: Guess,
    /// The likeliest classes, which thresholds leave in their order.
    pub top: Vec<Guess>,
    /// The image's shape.
    #[serde(skip)]
    pub shape: ImageShape,
    /// In what the image is unlike all that the model has seen: it was converted without a recorded rule.
    #[serde(skip)]
    pub unseen: Unrecorded,
}

/// What the model says of an image, of all classes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rating {
    /// Index of the class that is decided for, by the model's thresholds where it has some.
    pub class: usize,
    /// Softmax probability of every class, by label.
    pub probabilities: Vec<f64>,
    /// In what the image is unlike all that the model has seen: it was converted without a recorded rule.
    pub unseen: Unrecorded,
}

/// What is known of an image that was made the network's input: its shape, and in what it is unlike all that the model has seen.
type Prepared = (ImageShape, Unrecorded);

/// Why there is no answer for an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] DataError),
    /// It cannot be made the model's input.
    #[error("{image} does not fit the model")]
    Unfit {
        /// The image.
        image: String,
        /// Why not.
        source: PreprocessingError,
    },
    /// A score is no number.
    #[error("{image}: the network's score for {class} is {score}, which is no answer")]
    Score {
        /// The image.
        image: String,
        /// The first class with such a score.
        class: String,
        /// The score.
        score: f32,
    },
}

impl AnswerError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            _ => None,
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
    model: Arc<Model>,
    options: ClassifyOptions,
    scorer: Box<dyn Scorer>,
    preprocessing: Preprocessing,
    normaliser: Normaliser,
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
        let recorded = model.preprocessing.clone();
        let preprocessing = match options.strict {
            true => recorded,
            false => recorded.converting(),
        };
        Ok(Self {
            normaliser: Normaliser::new(&preprocessing)?,
            preprocessing,
            scorer,
            model,
            options,
            pixels: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What is done to images that differ so from all that the model has seen, in words; none when nothing differs.
    #[must_use]
    pub fn conversion_words(&self, unseen: Unrecorded) -> Option<String> {
        self.preprocessing.conversion_words(unseen)
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
        self.ask(images, Self::answer)
    }

    /// As [`classify`](Self::classify), with the probabilities of all classes.
    ///
    /// # Errors
    /// [`ClassifyError::Score`].
    pub fn rate(
        &mut self,
        images: impl IntoIterator<Item = (String, Result<Image, DataError>)>,
    ) -> Result<Vec<Result<Rating, AnswerError>>, ClassifyError> {
        self.ask(images, Self::rating)
    }

    fn ask<T>(
        &mut self,
        images: impl IntoIterator<Item = (String, Result<Image, DataError>)>,
        answer: impl Fn(&Self, String, &[f32], Prepared) -> Result<T, AnswerError>,
    ) -> Result<Vec<Result<T, AnswerError>>, ClassifyError> {
        let mut images = images.into_iter();
        let mut answers = Vec::new();
        loop {
            let batch: Vec<_> = self.prepare(images.by_ref());
            if batch.is_empty() {
                return Ok(answers);
            }
            self.scorer.logits(&self.pixels, &mut self.logits)?;
            let mut rows = self.logits.chunks_exact(self.model.classes.len());
            for (name, prepared) in batch {
                answers.push(prepared.and_then(|image| {
                    let row = rows.next().unwrap_or_default();
                    answer(self, name, row, image)
                }));
            }
        }
    }

    /// Makes a batch of images the network's input, one after the other in `pixels`.
    fn prepare(
        &mut self,
        images: impl Iterator<Item = (String, Result<Image, DataError>)>,
    ) -> Vec<(String, Result<Prepared, AnswerError>)> {
        let size = self.model.preprocessing.input.size();
        self.pixels.clear();
        let pixels = &mut self.pixels;
        let (normaliser, recorded) = (&self.normaliser, &self.model.preprocessing);
        images
            .take(self.options.batch_size)
            .map(|(name, image)| {
                let start = pixels.len();
                let prepared = image.map_err(AnswerError::from).and_then(|image| {
                    pixels.resize(start + size, 0.0);
                    let fits = normaliser.apply(&image, &mut pixels[start..]);
                    fits.map_err(|source| AnswerError::Unfit {
                        image: name.clone(),
                        source,
                    })?;
                    Ok((image.shape(), recorded.unrecorded(image.shape())))
                });
                if prepared.is_err() {
                    pixels.truncate(start);
                }
                (name, prepared)
            })
            .collect()
    }

    fn answer(
        &self,
        image: String,
        row: &[f32],
        (shape, unseen): Prepared,
    ) -> Result<Answer, AnswerError> {
        let classes = &self.model.classes;
        Ok(Answer {
            decision: self.decision(image, row)?,
            top: top_k(row, classes, self.options.top_k.min(classes.len())),
            shape,
            unseen,
        })
    }

    fn rating(
        &self,
        image: String,
        row: &[f32],
        (_, unseen): Prepared,
    ) -> Result<Rating, AnswerError> {
        Ok(Rating {
            class: self.decision(image, row)?.class,
            probabilities: probabilities(row),
            unseen,
        })
    }

    fn decision(&self, image: String, row: &[f32]) -> Result<Guess, AnswerError> {
        let classes = &self.model.classes;
        let wrong = |class: usize| AnswerError::Score {
            image,
            class: classes.get(class).cloned().unwrap_or_default(),
            score: row.get(class).copied().unwrap_or(f32::NAN),
        };
        // Scores that are no numbers are no answer.
        if let Some(class) = row.iter().position(|score| !score.is_finite()) {
            return Err(wrong(class));
        }
        decide(row, classes, self.model.decision()).ok_or_else(|| wrong(0))
    }
}
