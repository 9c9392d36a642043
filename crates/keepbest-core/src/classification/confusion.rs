//! Which class is taken for which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de};

/// Counts of examples by label and prediction. Only the cells that are not zero are stored and serialised, so a model of
/// thousands of classes needs no memory for the square of them.
///
/// Serialised as `{"classes": 3, "cells": [[label, prediction, count], ...]}`, in the order of labels, then predictions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct ConfusionMatrix {
    classes: usize,
    cells: BTreeMap<(u32, u32), u64>,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    classes: usize,
    cells: Vec<(u32, u32, u64)>,
}

impl From<ConfusionMatrix> for Raw {
    fn from(matrix: ConfusionMatrix) -> Self {
        let cells = matrix.iter().collect();
        Self {
            classes: matrix.classes,
            cells,
        }
    }
}

impl TryFrom<Raw> for ConfusionMatrix {
    type Error = de::value::Error;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        let mut matrix = Self::new(raw.classes);
        let mut total: u64 = 0;
        for (label, prediction, count) in raw.cells {
            let outside = [label, prediction]
                .into_iter()
                .find(|class| *class as usize >= raw.classes);
            if let Some(class) = outside {
                return Err(de::Error::custom(format!(
                    "class {class} in a confusion matrix of {} classes",
                    raw.classes
                )));
            }
            // The sums of the matrix must not overflow.
            total = total
                .checked_add(count)
                .ok_or_else(|| de::Error::custom("counts beyond 64 bits"))?;
            if count > 0 && matrix.cells.insert((label, prediction), count).is_some() {
                return Err(de::Error::custom(format!(
                    "cell {label}, {prediction} twice"
                )));
            }
        }
        Ok(matrix)
    }
}

impl ConfusionMatrix {
    pub(super) fn new(classes: usize) -> Self {
        Self {
            classes,
            cells: BTreeMap::new(),
        }
    }

    /// So many examples; at least one.
    pub(super) fn record(&mut self, label: u32, prediction: u32, times: u64) {
        *self.cells.entry((label, prediction)).or_default() += times;
    }

    /// The number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The number of examples with this label and this prediction.
    #[must_use]
    pub fn count(&self, label: u32, prediction: u32) -> u64 {
        self.cells
            .get(&(label, prediction))
            .copied()
            .unwrap_or_default()
    }

    /// The cells that are not zero: label, prediction, count.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.cells
            .iter()
            .map(|((label, prediction), count)| (*label, *prediction, *count))
    }

    /// All cells: one row a label, one column a prediction. As large as the square of the classes.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<u64>> {
        let mut rows = vec![vec![0; self.classes]; self.classes];
        for (label, prediction, count) in self.iter() {
            rows[label as usize][prediction as usize] = count;
        }
        rows
    }

    /// The number of examples.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.values().sum()
    }

    /// The number of examples that are right.
    #[must_use]
    pub fn correct(&self) -> u64 {
        self.iter()
            .filter(|(label, prediction, _)| label == prediction)
            .map(|(_, _, count)| count)
            .sum()
    }

    /// The number of examples of each label.
    #[must_use]
    pub fn label_counts(&self) -> Vec<u64> {
        self.sums(|label, _| label)
    }

    /// The number of examples of each prediction.
    #[must_use]
    pub fn prediction_counts(&self) -> Vec<u64> {
        self.sums(|_, prediction| prediction)
    }

    fn sums(&self, class: impl Fn(u32, u32) -> u32) -> Vec<u64> {
        let mut sums = vec![0; self.classes];
        for (label, prediction, count) in self.iter() {
            sums[class(label, prediction) as usize] += count;
        }
        sums
    }

    /// The wrong cells, the most frequent first: label, prediction, count.
    #[must_use]
    pub fn most_confused(&self) -> Vec<(u32, u32, u64)> {
        let mut cells: Vec<_> = self
            .iter()
            .filter(|(label, prediction, _)| label != prediction)
            .collect();
        cells.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_json() {
        let mut matrix = ConfusionMatrix::new(3);
        for (label, prediction) in [(0, 0), (0, 1), (0, 1), (2, 2), (2, 0)] {
            matrix.record(label, prediction, 1);
        }
        assert_eq!(matrix.rows(), [[1, 2, 0], [0, 0, 0], [1, 0, 1]]);
        assert_eq!((matrix.total(), matrix.correct()), (5, 2));
        assert_eq!(matrix.label_counts(), [3, 0, 2]);
        assert_eq!(matrix.prediction_counts(), [2, 2, 1]);
        assert_eq!(matrix.most_confused(), [(0, 1, 2), (2, 0, 1)]);
        let json = serde_json::to_string(&matrix).unwrap();
        assert_eq!(
            json,
            r#"{"classes":3,"cells":[[0,0,1],[0,1,2],[2,0,1],[2,2,1]]}"#
        );
        assert_eq!(
            serde_json::from_str::<ConfusionMatrix>(&json).unwrap(),
            matrix
        );
    }

    #[test]
    fn hostile_json_is_refused() {
        for json in [
            r#"{"classes":2,"cells":[[0,2,1]]}"#,
            r#"{"classes":2,"cells":[[0,1,1],[0,1,1]]}"#,
            r#"{"classes":2,"cells":[[0,1,18446744073709551615],[0,0,1]]}"#,
        ] {
            assert!(
                serde_json::from_str::<ConfusionMatrix>(json).is_err(),
                "{json}"
            );
        }
    }
}
