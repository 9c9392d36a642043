//! The table of metrics: the name of each, whether more or less of it is better, and how it is computed from what.
//!
//! Parsing, directions, the metrics of a report, those that thresholds can be tuned for and the names that are suggested all
//! follow from [`METRICS`].

use std::fmt;

use super::averages::{Average, ClassCounts, Products};
use super::calibration::Calibration;
use super::example::Example;
use super::ranking::Ranking;
use crate::metrics::Direction;

/// A metric, or a family of metrics that differ in a number or in the average over classes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Definition {
    /// The name, without a split. `{k}` and `{beta}` stand for the number of a family, `{average}` for `macro`, `micro` or
    /// `weighted`.
    pub name: &'static str,
    /// Whether more or less of it is better.
    pub direction: Direction,
    /// The definition, or scikit-learn's function (1.9) with what it does at the edges.
    pub meaning: &'static str,
    pub(super) compute: Compute,
}

/// The function that computes a metric. Where the name has a number, it is the second argument.
#[derive(Debug)]
pub(super) enum Compute {
    /// Sums over all decisions.
    Decisions(fn(&Products) -> f64),
    /// The counts of one class against the rest; the values of all classes are averaged.
    Classes(&'static [Average], fn(ClassCounts, f64) -> f64),
    /// One example; the mean over all of them.
    Examples(fn(&Example, f64) -> f64),
    /// The order of the scores of one class; the mean over classes.
    Ranking(fn(&Ranking) -> f64),
    /// The bins of confidence.
    Calibration(fn(&Calibration) -> f64),
    /// The criterion of the training, measured by who trains.
    Criterion,
    /// A property of the model, measured by who has it.
    Cost,
}

/// The input of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Needs {
    /// The class that is decided for, of every example: thresholds change it, and can be tuned for it.
    Decisions,
    /// The probabilities of one example at a time.
    Probabilities,
    /// All probabilities of a class at once, which takes memory for every one of them.
    Ranking,
    /// The criterion of the training.
    Criterion,
    /// The model alone, no examples: the name has no split.
    Model,
}

use Compute::{Classes, Cost, Criterion, Decisions, Examples};
use Direction::{Maximise, Minimise};

/// All metrics that are known.
pub const METRICS: &[Definition] = &[
    Definition {
        name: "accuracy",
        direction: Maximise,
        meaning: "`accuracy_score`; the prediction is the first of the highest probabilities, unless there are thresholds",
        compute: Decisions(Products::accuracy),
    },
    Definition {
        name: "balanced_accuracy",
        direction: Maximise,
        meaning: "`balanced_accuracy_score`: over the classes that occur as labels",
        compute: Classes(&[Average::Labelled], |class, _| class.recall()),
    },
    Definition {
        name: "precision_{average}",
        direction: Maximise,
        meaning: "`precision_score(zero_division=0)`; over the classes that occur as labels or predictions",
        compute: Classes(&Average::NAMED, |class, _| class.precision()),
    },
    Definition {
        name: "recall_{average}",
        direction: Maximise,
        meaning: "`recall_score(zero_division=0)`; over the classes that occur as labels or predictions",
        compute: Classes(&Average::NAMED, |class, _| class.recall()),
    },
    Definition {
        name: "f1_{average}",
        direction: Maximise,
        meaning: "`f1_score(zero_division=0)`; over the classes that occur as labels or predictions",
        compute: Classes(&Average::NAMED, |class, _| class.f_beta(1.0)),
    },
    Definition {
        name: "fbeta{beta}_{average}",
        direction: Maximise,
        meaning: "`fbeta_score(zero_division=0)`; over the classes that occur as labels or predictions",
        compute: Classes(&Average::NAMED, ClassCounts::f_beta),
    },
    Definition {
        name: "matthews",
        direction: Maximise,
        meaning: "`matthews_corrcoef`; 0 where it is undefined",
        compute: Decisions(Products::matthews),
    },
    Definition {
        name: "cohen_kappa",
        direction: Maximise,
        meaning: "`cohen_kappa_score`; NaN where it is undefined",
        compute: Decisions(Products::cohen_kappa),
    },
    Definition {
        name: "loss",
        direction: Minimise,
        meaning: "the criterion of the training: cross entropy with its label smoothing and class weights",
        compute: Criterion,
    },
    Definition {
        name: "log_loss",
        direction: Minimise,
        meaning: "`log_loss` of float64: natural logarithm, clipped to [2^-52, 1 - 2^-52]",
        compute: Examples(|example, _| example.log_loss),
    },
    Definition {
        name: "ece",
        direction: Minimise,
        meaning: "expected calibration error with equal-width bins, Guo et al. 2017 (arXiv 1706.04599)",
        compute: Compute::Calibration(Calibration::error),
    },
    Definition {
        name: "roc_auc_ovr",
        direction: Maximise,
        meaning: "`roc_auc_score(average=\"macro\")` of one-hot labels; NaN when a class has no positive or no negative example",
        compute: Compute::Ranking(|class| class.roc_auc),
    },
    Definition {
        name: "average_precision",
        direction: Maximise,
        meaning: "`average_precision_score(average=\"macro\")` of one-hot labels; 0 for a class without examples",
        compute: Compute::Ranking(|class| class.average_precision),
    },
    Definition {
        name: "top{k}_accuracy",
        direction: Maximise,
        meaning: "`top_k_accuracy_score(k=k)`: among equal probabilities the higher class counts first",
        compute: Examples(|example, k| f64::from(u8::from((example.ahead as f64) < k))),
    },
    Definition {
        name: "latency_ms",
        direction: Minimise,
        meaning: "median time to predict one image, in milliseconds",
        compute: Cost,
    },
    Definition {
        name: "model_bytes",
        direction: Minimise,
        meaning: "bytes of the weights as saved",
        compute: Cost,
    },
    Definition {
        name: "parameters",
        direction: Minimise,
        meaning: "parameters that are trained",
        compute: Cost,
    },
];

/// The number in the names of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// A count of classes.
    K,
    /// A positive, finite number.
    Beta,
}

impl Parameter {
    fn placeholder(self) -> &'static str {
        match self {
            Self::K => "{k}",
            Self::Beta => "{beta}",
        }
    }

    fn read(self, text: &str) -> Option<f64> {
        match self {
            Self::K if !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
            Self::K => text.parse().ok(),
            Self::Beta => text
                .parse()
                .ok()
                .filter(|beta: &f64| beta.is_finite() && *beta > 0.0),
        }
    }
}

const AVERAGE: &str = "_{average}";

impl Definition {
    /// The input that it is computed from.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self.compute {
            Decisions(_) | Classes(..) => Needs::Decisions,
            Examples(_) | Compute::Calibration(_) => Needs::Probabilities,
            Compute::Ranking(_) => Needs::Ranking,
            Criterion => Needs::Criterion,
            Cost => Needs::Model,
        }
    }

    /// The number that the names of the family have in them.
    pub(super) fn parameter(&self) -> Option<Parameter> {
        [Parameter::K, Parameter::Beta]
            .into_iter()
            .find(|parameter| self.name.contains(parameter.placeholder()))
    }

    /// The members of the family with one of these numbers, which are ignored where the name has none.
    pub(super) fn members(&'static self, numbers: &[f64]) -> Vec<Metric> {
        let numbers = match self.parameter() {
            None => &[1.0],
            Some(_) => numbers,
        };
        let averages = self.averages();
        let member = |number: f64, average: Average| Metric {
            definition: self,
            number,
            average,
        };
        numbers
            .iter()
            .flat_map(|number| {
                averages
                    .iter()
                    .map(move |average| member(*number, *average))
            })
            .collect()
    }

    /// The averages over classes; of a metric that is not averaged, one that means nothing.
    fn averages(&self) -> &'static [Average] {
        match self.compute {
            Classes(averages, _) => averages,
            _ => &[Average::Labelled],
        }
    }

    /// The member of this name, without a split.
    fn member(&'static self, name: &str) -> Option<Metric> {
        let (pattern, name, average) = match self.name.strip_suffix(AVERAGE) {
            Some(pattern) => {
                let (name, word) = name.rsplit_once('_')?;
                (pattern, name, Average::named(word)?)
            }
            None => (self.name, name, *self.averages().first()?),
        };
        let number = match self.parameter() {
            None => (name == pattern).then_some(1.0)?,
            Some(parameter) => {
                let (before, after) = pattern.split_once(parameter.placeholder())?;
                parameter.read(name.strip_prefix(before)?.strip_suffix(after)?)?
            }
        };
        Some(Metric {
            definition: self,
            number,
            average,
        })
    }
}

/// A metric of [`METRICS`]: of a family, one member.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    definition: &'static Definition,
    number: f64,
    average: Average,
}

impl Metric {
    /// The metric of this name. The part behind the last `/` counts, so it is the same on every split.
    ///
    /// ```
    /// use keepbest_core::classification::{Metric, Needs};
    ///
    /// let metric = Metric::named("val/fbeta0.5_macro").unwrap();
    /// assert_eq!(metric.definition().needs(), Needs::Decisions);
    /// assert_eq!(metric.to_string(), "fbeta0.5_macro");
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name);
        METRICS
            .iter()
            .find_map(|definition| definition.member(name))
    }

    /// The metrics without a number in their names.
    pub fn all() -> impl Iterator<Item = Self> {
        METRICS
            .iter()
            .flat_map(|definition| definition.members(&[]))
    }

    /// Its row of the table.
    #[must_use]
    pub fn definition(&self) -> &'static Definition {
        self.definition
    }

    /// The number in its name; 1 where there is none.
    pub(super) fn number(&self) -> f64 {
        self.number
    }

    /// The average over classes, for a metric that is averaged.
    pub(super) fn average(&self) -> Average {
        self.average
    }

    pub(super) fn compute(&self) -> &'static Compute {
        &self.definition.compute
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
            && self.number == other.number
            && self.average == other.average
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.definition.name;
        let (pattern, average) = match name.strip_suffix(AVERAGE) {
            Some(pattern) => (pattern, Some(self.average)),
            None => (name, None),
        };
        match self.definition.parameter() {
            None => f.write_str(pattern)?,
            Some(parameter) => {
                let number = self.number.to_string();
                f.write_str(&pattern.replace(parameter.placeholder(), &number))?;
            }
        }
        match average {
            None => Ok(()),
            Some(average) => write!(f, "_{}", average.word()),
        }
    }
}

impl Direction {
    /// The direction of a metric by its name, `None` where it is not in [`METRICS`].
    ///
    /// The part behind the last `/` counts, so the direction is the same on every split.
    ///
    /// ```
    /// use keepbest_core::Direction;
    ///
    /// assert_eq!(Direction::of_metric("val/accuracy"), Some(Direction::Maximise));
    /// assert_eq!(Direction::of_metric("log_loss"), Some(Direction::Minimise));
    /// assert_eq!(Direction::of_metric("val/my_own"), None);
    /// ```
    #[must_use]
    pub fn of_metric(name: &str) -> Option<Self> {
        Metric::named(name).map(|metric| metric.definition().direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_of_names() {
        for name in [
            "accuracy",
            "val/accuracy",
            "train/top5_accuracy",
            "test/top10_accuracy",
            "balanced_accuracy",
            "precision_macro",
            "val/recall_micro",
            "f1_weighted",
            "val/fbeta2_macro",
            "fbeta0.5_weighted",
            "matthews",
            "cohen_kappa",
            "roc_auc_ovr",
            "average_precision",
        ] {
            assert_eq!(
                Direction::of_metric(name),
                Some(Direction::Maximise),
                "{name}"
            );
        }
        for name in [
            "loss",
            "val/loss",
            "train/log_loss",
            "test/ece",
            "latency_ms",
            "model_bytes",
            "parameters",
        ] {
            assert_eq!(
                Direction::of_metric(name),
                Some(Direction::Minimise),
                "{name}"
            );
        }
        for name in [
            "",
            "/",
            "top_accuracy",
            "topx_accuracy",
            "f2_macro",
            "fbeta_macro",
            "fbeta-1_macro",
            "precision",
            "latency",
        ] {
            assert_eq!(Direction::of_metric(name), None, "{name}");
        }
    }

    #[test]
    fn every_name_leads_to_its_metric() {
        let numbered = METRICS
            .iter()
            .flat_map(|definition| definition.members(&[2.0, 10.0]));
        for metric in Metric::all().chain(numbered) {
            let name = metric.to_string();
            assert!(!name.contains(['{', '}']), "{name}");
            assert_eq!(Metric::named(&name), Some(metric), "{name}");
        }
    }
}
