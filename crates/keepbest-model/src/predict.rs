//! From scores to answers.

use keepbest_core::classification::Thresholds;
use serde::Serialize;

use crate::criterion::log_softmax;

/// A class with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Guess {
    /// Index of the class.
    pub class: usize,
    /// Its name.
    pub label: String,
    /// Softmax probability.
    pub probability: f64,
}

/// The class that is decided for, from the scores of one image: the likeliest, or what the thresholds say of the probabilities.
/// `None` when there are no scores.
///
/// ```
/// use keepbest_core::classification::Thresholds;
/// use keepbest_model::decide;
///
/// let (scores, names) = ([1.0, 0.0], ["cat", "dog"].map(String::from));
/// assert_eq!(decide(&scores, &names, None).unwrap().label, "cat");
/// let thresholds = Thresholds::new(vec![0.8, 0.2])?;
/// let decision = decide(&scores, &names, Some(&thresholds)).unwrap();
/// assert_eq!(decision.label, "dog");
/// assert!(decision.probability < 0.5);
/// # Ok::<(), keepbest_core::classification::ThresholdsError>(())
/// ```
pub fn decide(
    logits: &[f32],
    classes: &[String],
    thresholds: Option<&Thresholds>,
) -> Option<Guess> {
    let Some(thresholds) = thresholds else {
        return top_k(logits, classes, 1).pop();
    };
    // The probabilities that thresholds are tuned on.
    let probabilities = probabilities(logits);
    let class = thresholds.decide(&probabilities) as usize;
    Some(guess(class, *probabilities.get(class)?, classes))
}

/// Softmax probabilities of the scores of one image.
#[must_use]
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let mut probabilities = vec![0.0; logits.len()];
    log_softmax(logits, &mut probabilities);
    for p in &mut probabilities {
        *p = libm::exp(*p);
    }
    probabilities
}

fn guess(class: usize, probability: f64, classes: &[String]) -> Guess {
    Guess {
        class,
        label: classes
            .get(class)
            .cloned()
            .unwrap_or_else(|| class.to_string()),
        probability,
    }
}

/// The `k` likeliest classes of one image from its scores, likeliest first; of equals the lower class comes first.
/// A NaN counts as least likely.
///
/// ```
/// let names = ["cat", "dog", "bird"].map(String::from);
/// let guesses = keepbest_model::top_k(&[0.0, 2.0, 2.0], &names, 2);
/// assert_eq!(guesses.iter().map(|guess| &guess.label[..]).collect::<Vec<_>>(), ["dog", "bird"]);
/// ```
pub fn top_k(logits: &[f32], classes: &[String], k: usize) -> Vec<Guess> {
    let mut log_probabilities = vec![0.0; logits.len()];
    log_softmax(logits, &mut log_probabilities);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let score = |class: usize| {
        if logits[class].is_nan() {
            f32::NEG_INFINITY
        } else {
            logits[class]
        }
    };
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    order
        .into_iter()
        .take(k)
        .map(|class| guess(class, libm::exp(log_probabilities[class]), classes))
        .collect()
}
