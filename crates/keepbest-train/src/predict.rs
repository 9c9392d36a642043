//! From scores to answers.

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

/// The `k` likeliest classes of one image from its scores, likeliest first; of equals the lower class comes first.
/// A NaN counts as least likely.
///
/// ```
/// let names = ["cat", "dog", "bird"].map(String::from);
/// let guesses = keepbest_train::top_k(&[0.0, 2.0, 2.0], &names, 2);
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
        .map(|class| Guess {
            class,
            label: classes
                .get(class)
                .cloned()
                .unwrap_or_else(|| class.to_string()),
            probability: libm::exp(log_probabilities[class]),
        })
        .collect()
}
