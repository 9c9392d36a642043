//! Metrics that follow from the confusion matrix.

use super::{
    confusion::ConfusionMatrix,
    sum::{Sum, mean},
};

/// Counts of one class against the rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClassCounts {
    /// Examples with this label.
    pub(super) support: u64,
    /// Examples given this prediction.
    pub(super) predicted: u64,
    /// Both.
    pub(super) hits: u64,
}

/// scikit-learn's `zero_division=0`.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 {
        0.0
    } else {
        numerator / denominator
    }
}

impl ClassCounts {
    pub(super) fn of(matrix: &ConfusionMatrix) -> Vec<Self> {
        let labels = matrix.label_counts();
        let predictions = matrix.prediction_counts();
        let classes = labels.into_iter().zip(predictions).zip(0..);
        classes
            .map(|((support, predicted), class)| Self {
                support,
                predicted,
                hits: matrix.count(class, class),
            })
            .collect()
    }

    /// Whether the class occurs at all. scikit-learn averages over those that do.
    pub(super) fn occurs(self) -> bool {
        self.support > 0 || self.predicted > 0
    }

    pub(super) fn precision(self) -> f64 {
        ratio(self.hits as f64, self.predicted as f64)
    }

    pub(super) fn recall(self) -> f64 {
        ratio(self.hits as f64, self.support as f64)
    }

    pub(super) fn f_beta(self, beta: f64) -> f64 {
        let weight = beta * beta;
        // A weight beyond the doubles is the limit: recall alone.
        if weight.is_infinite() {
            return self.recall();
        }
        ratio(
            (1.0 + weight) * self.hits as f64,
            weight * self.support as f64 + self.predicted as f64,
        )
    }
}

/// The average of a per-class metric over classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Average {
    /// The mean over the classes that occur.
    Macro,
    /// The metric of the summed counts.
    Micro,
    /// The mean over the classes that occur, weighted by their examples.
    Weighted,
    /// The mean over the classes that occur as labels.
    Labelled,
}

impl Average {
    /// The averages that names of metrics end with.
    pub(super) const NAMED: [Self; 3] = [Self::Macro, Self::Micro, Self::Weighted];

    /// The word in the names of metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Macro => "macro",
            Self::Micro => "micro",
            Self::Weighted => "weighted",
            Self::Labelled => "labelled",
        }
    }

    pub(super) fn named(word: &str) -> Option<Self> {
        Self::NAMED
            .into_iter()
            .find(|average| average.word() == word)
    }

    pub(super) fn over(self, classes: &[ClassCounts], metric: impl Fn(ClassCounts) -> f64) -> f64 {
        let counts = |class: &ClassCounts| match self {
            Self::Labelled => class.support > 0,
            _ => class.occurs(),
        };
        let classes: Vec<ClassCounts> = classes.iter().copied().filter(counts).collect();
        let support = || classes.iter().map(|class| class.support).sum();
        match self {
            Self::Macro | Self::Labelled => mean(classes.iter().map(|class| metric(*class))),
            Self::Micro => metric(ClassCounts {
                support: support(),
                predicted: classes.iter().map(|class| class.predicted).sum(),
                hits: classes.iter().map(|class| class.hits).sum(),
            }),
            Self::Weighted => {
                let weighted: Sum = classes
                    .iter()
                    .map(|class| metric(*class) * class.support as f64)
                    .collect();
                weighted.value() / support() as f64
            }
        }
    }
}

/// Sums of products of counts, exact: what Matthews and kappa are made of.
#[derive(Debug, Clone)]
pub(super) struct Products {
    pub(super) total: u128,
    pub(super) correct: u128,
    /// Sum over classes of support times predicted.
    pub(super) mixed: u128,
    labels_squared: u128,
    pub(super) predictions_squared: u128,
}

impl Products {
    pub(super) fn of(classes: &[ClassCounts]) -> Self {
        let sum = |term: &dyn Fn(&ClassCounts) -> u128| classes.iter().map(term).sum::<u128>();
        Self {
            total: sum(&|class| class.support.into()),
            correct: sum(&|class| class.hits.into()),
            mixed: sum(&|class| u128::from(class.support) * u128::from(class.predicted)),
            labels_squared: sum(&|class| u128::from(class.support).pow(2)),
            predictions_squared: sum(&|class| u128::from(class.predicted).pow(2)),
        }
    }

    /// The counts of all classes together: every example has one label and one prediction.
    pub(super) fn summed(&self) -> ClassCounts {
        ClassCounts {
            support: self.total as u64,
            predicted: self.total as u64,
            hits: self.correct as u64,
        }
    }

    pub(super) fn accuracy(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    /// Matthews' correlation for any number of classes: Gorodkin, "Comparing two K-category assignments by a K-category
    /// correlation coefficient", 2004. 0 where labels or predictions do not vary.
    pub(super) fn matthews(&self) -> f64 {
        let covariance = difference(self.correct * self.total, self.mixed);
        let labels = difference(self.total * self.total, self.labels_squared);
        let predictions = difference(self.total * self.total, self.predictions_squared);
        let product = labels * predictions;
        if product == 0.0 {
            0.0
        } else {
            covariance / product.sqrt()
        }
    }

    /// Cohen, "A coefficient of agreement for nominal scales", 1960. NaN where chance alone agrees always.
    pub(super) fn cohen_kappa(&self) -> f64 {
        let expected_disagreement = difference(self.total * self.total, self.mixed);
        if expected_disagreement == 0.0 {
            return f64::NAN;
        }
        1.0 - ((self.total - self.correct) * self.total) as f64 / expected_disagreement
    }
}

/// a - b as a double.
fn difference(a: u128, b: u128) -> f64 {
    if a >= b {
        (a - b) as f64
    } else {
        -((b - a) as f64)
    }
}
