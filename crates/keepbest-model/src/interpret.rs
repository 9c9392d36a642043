//! The way into a network and out of it: images to its input, scores to answers.

use std::sync::Arc;

use keepbest_data::{
    DataError, Image, ImageShape, Normaliser, Preprocessing, PreprocessingError, Unrecorded,
};
use serde::Serialize;

use crate::model::Model;
use crate::predict::{Guess, decide, probabilities, top_k};

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

/// What is known of an image that was made the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fitted {
    /// The image's shape.
    pub shape: ImageShape,
    /// In what it is unlike all that the model has seen.
    pub unseen: Unrecorded,
}

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

/// What a model does to images before its network computes, and to scores after. Any number of threads share one.
///
/// ```
/// # fn ask(model: keepbest_model::Model, photo: keepbest_data::Image) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use keepbest_model::Interpreter;
///
/// let mut network = model.predictor(1, None)?;
/// let interpreter = Interpreter::new(Arc::new(model), false)?;
/// let (mut input, mut scores) = (vec![0.0; interpreter.input_len()], Vec::new());
/// let fitted = interpreter.fit("photo", &photo, &mut input)?;
/// network.logits(&input, &mut scores)?;
/// println!("{}", interpreter.answer("photo", &scores, fitted, 1)?.decision.label);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Interpreter {
    model: Arc<Model>,
    preprocessing: Preprocessing,
    normaliser: Normaliser,
}

impl Interpreter {
    /// For a model. With `strict`, images of a size or kind that the model has not seen are refused instead of converted.
    ///
    /// # Errors
    /// When the model's preprocessing makes no sense.
    pub fn new(model: Arc<Model>, strict: bool) -> Result<Self, PreprocessingError> {
        let recorded = model.preprocessing.clone();
        let preprocessing = match strict {
            true => recorded,
            false => recorded.converting(),
        };
        Ok(Self {
            normaliser: Normaliser::new(&preprocessing)?,
            preprocessing,
            model,
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Values of one image as the network takes it.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.preprocessing.input.size()
    }

    /// What is done to images that differ so from all that the model has seen, in words; none when nothing differs.
    #[must_use]
    pub fn conversion_words(&self, unseen: Unrecorded) -> Option<String> {
        self.preprocessing.conversion_words(unseen)
    }

    /// Makes an image the network's input, [`input_len`](Self::input_len) values; `name` is for what goes wrong with it.
    ///
    /// # Errors
    /// [`AnswerError::Unfit`].
    pub fn fit(&self, name: &str, image: &Image, out: &mut [f32]) -> Result<Fitted, AnswerError> {
        let fits = self.normaliser.apply(image, out);
        fits.map_err(|source| AnswerError::Unfit {
            image: name.to_owned(),
            source,
        })?;
        Ok(self.fitted(image.shape()))
    }

    /// What is known of an image of this shape.
    #[must_use]
    pub fn fitted(&self, shape: ImageShape) -> Fitted {
        let unseen = self.model.preprocessing.unrecorded(shape);
        Fitted { shape, unseen }
    }

    /// The answer that the scores of an image are, with its `top_k` likeliest classes.
    ///
    /// # Errors
    /// [`AnswerError::Score`].
    pub fn answer(
        &self,
        name: &str,
        scores: &[f32],
        Fitted { shape, unseen }: Fitted,
        top_k: usize,
    ) -> Result<Answer, AnswerError> {
        let classes = &self.model.classes;
        Ok(Answer {
            decision: self.decision(name, scores)?,
            top: self::top_k(scores, classes, top_k.min(classes.len())),
            shape,
            unseen,
        })
    }

    /// As [`answer`](Self::answer), with the probabilities of all classes.
    ///
    /// # Errors
    /// [`AnswerError::Score`].
    pub fn rating(
        &self,
        name: &str,
        scores: &[f32],
        Fitted { unseen, .. }: Fitted,
    ) -> Result<Rating, AnswerError> {
        Ok(Rating {
            class: self.decision(name, scores)?.class,
            probabilities: probabilities(scores),
            unseen,
        })
    }

    /// The class that scores decide for, by the model's thresholds where it has some.
    ///
    /// # Errors
    /// [`AnswerError::Score`].
    pub fn decision(&self, name: &str, scores: &[f32]) -> Result<Guess, AnswerError> {
        let classes = &self.model.classes;
        let wrong = |class: usize| AnswerError::Score {
            image: name.to_owned(),
            class: classes.get(class).cloned().unwrap_or_default(),
            score: scores.get(class).copied().unwrap_or(f32::NAN),
        };
        // Scores that are no numbers are no answer.
        if let Some(class) = scores.iter().position(|score| !score.is_finite()) {
            return Err(wrong(class));
        }
        decide(scores, classes, self.model.decision()).ok_or_else(|| wrong(0))
    }
}
