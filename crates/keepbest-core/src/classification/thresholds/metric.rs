//! Metrics that follow from decisions alone, which is what thresholds can be tuned for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::classification::averages::{ClassCounts, Products, averages, balanced_accuracy};
use crate::metrics::nearest;

/// A metric of decisions, by the name that [reports](crate::ClassificationReport) give it: `f1_macro`, `balanced_accuracy`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DecisionMetric(pub(super) Kind);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Accuracy,
    BalancedAccuracy,
    Averaged(OfClass, Average),
    Matthews,
    CohenKappa,
}

/// A metric of one class against the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OfClass {
    Precision,
    Recall,
    F1,
    FBeta(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Average {
    Macro,
    Micro,
    Weighted,
}

/// A name is of no metric that thresholds can be tuned for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no metric of decisions")]
pub struct UnknownDecisionMetric {
    /// What was given.
    pub found: String,
    /// The name that may have been meant.
    pub nearest: Option<&'static str>,
}

impl DecisionMetric {
    /// Every name but those of F-beta, which are `fbeta2_macro` and so on for any beta.
    pub const NAMES: [&'static str; 13] = [
        "accuracy",
        "balanced_accuracy",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "matthews",
        "cohen_kappa",
    ];

    /// The value of decisions for examples of so many classes, each given by its label and the class decided for: what a
    /// [report](crate::ClassificationReport) of them has. NaN when there are none, or one is of no class.
    ///
    /// ```
    /// use keepbest_core::classification::DecisionMetric;
    ///
    /// let recall: DecisionMetric = "recall_macro".parse()?;
    /// assert_eq!(recall.measure(2, [(0, 0), (0, 1), (1, 1), (1, 1)]), 0.75);
    /// # Ok::<(), keepbest_core::classification::UnknownDecisionMetric>(())
    /// ```
    #[must_use]
    pub fn measure(self, classes: usize, examples: impl IntoIterator<Item = (u32, u32)>) -> f64 {
        let mut counts = vec![ClassCounts::default(); classes];
        let mut any = false;
        for (label, decision) in examples {
            let (label, decision) = (label as usize, decision as usize);
            if label >= classes || decision >= classes {
                return f64::NAN;
            }
            any = true;
            counts[label].support += 1;
            counts[decision].predicted += 1;
            counts[label].hits += u64::from(label == decision);
        }
        if any { self.of(&counts) } else { f64::NAN }
    }

    /// The value, as a report has it.
    pub(super) fn of(self, counts: &[ClassCounts]) -> f64 {
        match self.0 {
            Kind::Accuracy => Products::of(counts).accuracy(),
            Kind::BalancedAccuracy => balanced_accuracy(counts),
            Kind::Averaged(of, average) => {
                let [of_all, micro, weighted] = averages(counts, |class| of.value(class));
                match average {
                    Average::Macro => of_all.1,
                    Average::Micro => micro.1,
                    Average::Weighted => weighted.1,
                }
            }
            Kind::Matthews => Products::of(counts).matthews(),
            Kind::CohenKappa => Products::of(counts).cohen_kappa(),
        }
    }
}

impl OfClass {
    pub(super) fn value(self, class: ClassCounts) -> f64 {
        match self {
            Self::Precision => class.precision(),
            Self::Recall => class.recall(),
            Self::F1 => class.f_beta(1.0),
            Self::FBeta(beta) => class.f_beta(beta),
        }
    }
}

impl fmt::Display for DecisionMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Accuracy => f.write_str("accuracy"),
            Kind::BalancedAccuracy => f.write_str("balanced_accuracy"),
            Kind::Matthews => f.write_str("matthews"),
            Kind::CohenKappa => f.write_str("cohen_kappa"),
            Kind::Averaged(of, average) => {
                match of {
                    OfClass::Precision => f.write_str("precision")?,
                    OfClass::Recall => f.write_str("recall")?,
                    OfClass::F1 => f.write_str("f1")?,
                    OfClass::FBeta(beta) => write!(f, "fbeta{beta}")?,
                }
                f.write_str(match average {
                    Average::Macro => "_macro",
                    Average::Micro => "_micro",
                    Average::Weighted => "_weighted",
                })
            }
        }
    }
}

impl FromStr for DecisionMetric {
    type Err = UnknownDecisionMetric;

    fn from_str(name: &str) -> Result<Self, UnknownDecisionMetric> {
        let averaged = || {
            let (of, average) = name.rsplit_once('_')?;
            let average = match average {
                "macro" => Average::Macro,
                "micro" => Average::Micro,
                "weighted" => Average::Weighted,
                _ => return None,
            };
            let of = match of {
                "precision" => OfClass::Precision,
                "recall" => OfClass::Recall,
                "f1" => OfClass::F1,
                _ => {
                    let beta: f64 = of.strip_prefix("fbeta")?.parse().ok()?;
                    (beta.is_finite() && beta > 0.0).then_some(OfClass::FBeta(beta))?
                }
            };
            Some(Kind::Averaged(of, average))
        };
        let kind = match name {
            "accuracy" => Some(Kind::Accuracy),
            "balanced_accuracy" => Some(Kind::BalancedAccuracy),
            "matthews" => Some(Kind::Matthews),
            "cohen_kappa" => Some(Kind::CohenKappa),
            _ => averaged(),
        };
        kind.map(Self).ok_or_else(|| UnknownDecisionMetric {
            found: name.into(),
            nearest: nearest(name, Self::NAMES),
        })
    }
}

impl TryFrom<String> for DecisionMetric {
    type Error = UnknownDecisionMetric;

    fn try_from(name: String) -> Result<Self, UnknownDecisionMetric> {
        name.parse()
    }
}

impl From<DecisionMetric> for String {
    fn from(metric: DecisionMetric) -> Self {
        metric.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in DecisionMetric::NAMES
            .into_iter()
            .chain(["fbeta2_macro", "fbeta0.5_weighted"])
        {
            assert_eq!(
                name.parse::<DecisionMetric>().unwrap().to_string(),
                name,
                "{name}"
            );
        }
    }

    #[test]
    fn others_are_refused_and_the_nearest_named() {
        for (name, nearest) in [
            ("f1_marco", Some("f1_macro")),
            ("val/f1_macro", Some("f1_macro")),
            ("balanced", Some("balanced_accuracy")),
            ("log_loss", None),
            ("fbeta0_macro", None),
            ("fbeta_macro", None),
            ("roc_auc_ovr", None),
        ] {
            let error = name.parse::<DecisionMetric>().unwrap_err();
            assert_eq!(error.nearest, nearest, "{name}");
        }
    }
}
